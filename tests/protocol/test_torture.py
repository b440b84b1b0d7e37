"""RFC 4475 and RFC 5118 against the stack: each message is answered as the RFC asks, and leaves nothing behind."""

from __future__ import annotations

import random
import re

import pytest

from sipcore.config import Account, UserAgentConfig
from sipcore.protocol.flows import Flow
from sipcore.protocol.ids import has_cookie
from sipcore.protocol.message import METHODS
from sipcore.protocol.sdp import parse_sdp
from sipcore.protocol.stack import FlowWanted, SessionIncoming, Stack
from sipcore.protocol.values import MalformedValue, NameAddr, Uri, Via
from sipcore.protocol.wire import MalformedMessage, Request, Response, parse_message, serialize
from tests.kit.torture import TORTURE, Torture

FLOW = Flow("udp", ("192.0.2.100", 5060), ("192.0.2.200", 5060), advertised=("192.0.2.100", 5060))

each = pytest.mark.parametrize("torture", TORTURE, ids=str)


class Answering:
    """A stack whose shell takes every call at once, and to which no name leads anywhere."""

    def __init__(self) -> None:
        self.stack = Stack(UserAgentConfig(), rng=random.Random(1), user_agent="test")
        self.now = 0.0
        for user in ("user", "UserB"):
            self.stack.add_line(Account(f"sip:{user}@example.com"))

    def receive(self, data: bytes) -> list[tuple[Flow, bytes]]:
        self.stack.receive(data, FLOW, self.now)
        return self._drain()

    def settle(self) -> None:
        """Lets every timer run out."""
        while (deadline := self.stack.next_deadline()) is not None:
            assert deadline < 600, "something goes on for ever"
            self.now = max(self.now, deadline)
            self.stack.handle_timer(self.now)
            self._drain()

    def _drain(self) -> list[tuple[Flow, bytes]]:
        sent = self.stack.transmits()
        while events := self.stack.events():
            for event in events:
                match event:
                    case FlowWanted():
                        self.stack.flow_failed(event.id, "no such name", self.now)
                    case SessionIncoming():
                        assert event.session.callee is not None
                        if event.session.callee.ring(40000, self.now):
                            event.session.callee.answer(self.now)
                    case _:
                        pass
            sent += self.stack.transmits()
        return sent


def named(name: str) -> Torture:
    return next(torture for torture in TORTURE if torture.name == name)


def parsed(name: str) -> Request:
    message = parse_message(named(name).data)
    assert isinstance(message, Request)
    return message


@each
def test_each_is_answered_as_the_rfc_asks(torture: Torture) -> None:
    """RFC 4475 §3, RFC 5118 §4: answered, refused or dropped, once; afterwards nothing of it is left."""
    agent = Answering()
    sent = [data for _, data in agent.receive(torture.data)]
    codes = [int(data[8:11]) for data in sent]
    assert all(data.startswith(b"SIP/2.0 ") for data in sent)
    finals = [code for code in codes if code >= 200]
    assert len(finals) == bool(torture.answers), finals
    assert not finals or finals[0] in torture.answers, torture.why
    for data in sent:
        answer = _understood(data)
        assert "Via" in answer.headers
    agent.settle()
    assert agent.stack.idle


def _understood(data: bytes) -> Response:
    """An answer repeats what was wrong with the question where it has to: Via, From, To, Call-ID and CSeq."""
    try:
        message = parse_message(data)
    except MalformedMessage:
        head = data.partition(b"\r\n\r\n")[0]
        repaired = re.sub(rb"(?m)^(From|To|Call-ID|CSeq): .*\r?$\n?", b"", head)
        repaired = re.sub(rb"SIP/7\.0", b"SIP/2.0", repaired.rstrip())
        repaired += b"\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>;tag=2\r\nCall-ID: 1\r\nCSeq: 1 X\r\n\r\n"
        message = parse_message(repaired)
    assert isinstance(message, Response)
    return message


@each
def test_a_retransmission_leads_to_nothing_new(torture: Torture) -> None:
    """RFC 3261 §17.2: the same final answer again, or silence; no second call."""
    agent = Answering()
    first = [data for _, data in agent.receive(torture.data)]
    again = [data for _, data in agent.receive(torture.data)]
    assert {data[:11] for data in again} <= {data[:11] for data in first}
    agent.settle()
    assert agent.stack.idle


@each
def test_what_is_understood_is_written_as_it_was(torture: Torture) -> None:
    """RFC 3261 §7: tolerant in, strict out: the text of a message that was read is stable, and reads the same."""
    try:
        message = parse_message(torture.data)
    except MalformedMessage:
        assert not torture.answers or torture.answers[0] in (400, 501, 505)
        return
    text = serialize(message)
    again = parse_message(text)
    assert serialize(again) == text
    assert again.headers.items()[:-1] == [item for item in message.headers.items() if item[0] != "Content-Length"]
    assert again.body == message.body


def test_501_lists_the_methods_that_are_taken() -> None:
    """RFC 4475 §3.1.1.2, §3.1.2.18: with Allow."""
    for name in ("intmeth", "mismatch02"):
        (sent,) = (data for _, data in Answering().receive(named(name).data))
        assert re.search(rb"\r\nAllow: INVITE, .*BYE", sent), sent


def test_420_lists_what_is_not_supported() -> None:
    """RFC 4475 §3.3.5: what Require names; Proxy-Require is for proxies."""
    (sent,) = (data for _, data in Answering().receive(named("bext01").data))
    assert b"\r\nUnsupported: nothingSupportsThis, nothingSupportsThisEither\r\n" in sent


def test_415_and_406_say_what_would_do() -> None:
    """RFC 4475 §3.3.6, §3.3.15."""
    (refused,) = (data for _, data in Answering().receive(named("invut").data) if not data.startswith(b"SIP/2.0 1"))
    assert b"\r\nAccept: application/sdp" in refused
    (refused,) = (data for _, data in Answering().receive(named("sdp01").data) if not data.startswith(b"SIP/2.0 1"))
    assert b"\r\nWarning: 399 192.0.2.100 " in refused


def test_a_short_tortuous_invite() -> None:
    """RFC 4475 §3.1.1.1: white space, folding, case and compact names wherever the grammar lets them be."""
    message = parsed("wsinv")
    assert str(message.uri) == "sip:vivekg@chair-dnrc.example.com;unknownparam"
    assert (message.to_tag, message.from_tag) == ("1918181833n", "98asjd8")
    assert message.from_.display_name == 'J Rosenberg \\"'
    assert message.max_forwards == 68
    assert str(message.cseq) == "9 INVITE"
    assert [(via.transport, via.host, via.branch) for via in message.vias] == [
        ("UDP", "192.0.2.2", "390skdjuw"),
        ("TCP", "spindle.example.com", "z9hG4bK9ikj8"),
        ("UDP", "192.168.255.111", "z9hG4bK30239"),
    ]
    assert message.headers.get("Subject") == ""
    assert message.headers.get("NewFangledHeader") == "newfangled value continued newfangled value"
    assert message.headers.get("UnknownHeaderWithUnusualValue") == ";;,,;;,;"
    assert message.contact is not None
    assert message.contact.display_name == 'Quoted string ""'
    assert dict(message.contact.params) == {"newparam": "newvalue", "secondparam": None, "q": "0.33"}
    assert message.routes[0].uri.parameters["unknown-no-value"] is None
    assert parse_sdp(message.body).media[0].port == 49217


def test_a_wide_range_of_characters() -> None:
    """RFC 4475 §3.1.1.2: in a method, a URI, a quoted string with NUL, a display name, a parameter, a Call-ID."""
    message = parsed("intmeth")
    assert message.method == "!interesting-Method0123456789_*+`.%indeed'~"
    assert message.uri.user == "1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*"
    assert message.uri.password == "&it+has=1,weird!*pas$wo~d_too.(doesn't-it)"
    assert message.uri.host == "example.com"
    assert message.via.branch == "z9hG4bK-.!%66*_+`'~"
    assert message.to.display_name == "BEL:\a NUL:\0 DEL:\x7f"
    assert message.from_.display_name == "token1~` token2'+_ token3*%!.-"
    assert message.from_.params["fromParam''~+*_!.-%"] == "работающий"
    assert message.from_tag == "_token~1'+`*%!-."
    assert message.call_id == "intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{"
    assert message.headers.get("extensionHeader-!.%*+_`'~") == "\ufeff大停電"


def test_a_nul_outside_of_a_quoted_pair_is_refused() -> None:
    """RFC 3261 §25.1."""
    data = named("intmeth").data.replace(b"\\\0", b"\0")
    with pytest.raises(MalformedMessage):
        parse_message(data)
    message = parsed("intmeth")
    message.headers.set("Subject", "a\0b")
    with pytest.raises(ValueError, match="NUL"):
        serialize(message)


def test_escapes_are_characters_in_uris_only() -> None:
    """RFC 4475 §3.1.1.3-5: ``%6C%72`` in a URI is ``lr``, and ``%25%34%31`` is ``%41``, not ``A``."""
    message = parsed("esc01")
    assert message.uri.user_unescaped == "sips:user@example.com"
    assert message.to.uri.user_unescaped == "user"
    assert message.from_.uri.user_unescaped == "I have spaces"
    assert message.contact is not None
    assert dict(message.contact.uri.parameters) == {"lr": None, "name": "value%41"}
    assert message.contact.uri.equivalent(Uri.parse("sip:caller@host5.example.net;lr;name=value%2541"))
    assert str(message.contact) == "<sip:cal%6Cer@host5.example.net;%6C%72;n%61me=v%61lue%25%34%31>"
    nulls = parsed("escnull")
    assert nulls.to.uri.user_unescaped == "null-\0-null"
    assert [contact.uri.user_unescaped for contact in nulls.contacts] == ["\0", "\0\0"]
    other = parsed("esc02")
    assert other.method not in METHODS
    assert (other.to.display_name, other.from_.display_name) == ("%Z%45", "%Z%45")
    assert [contact.uri.user for contact in other.contacts] == ["alias1", "alias3"]
    assert other.headers.get("C%6Fntact") == "<sip:alias2@host2.example.com>"


def test_an_escaped_parameter_can_be_taken_off() -> None:
    """RFC 3261 §19.1.1, table 1: ``method`` may not stand in a request URI, however it is written."""
    uri = Uri.parse("sip:a@b;m%65thod=BYE;%6C%72;x=%3B")
    assert str(uri.without_headers()) == "sip:a@b;%6C%72;x=%3B"
    assert str(uri.parameters.with_(lr="on", y="1")) == ";m%65thod=BYE;x=%3B;lr=on;y=1"
    assert dict(uri.parameters) == {"method": "BYE", "lr": None, "x": ";"}


def test_long_values() -> None:
    """RFC 4475 §3.1.1.7."""
    message = parsed("longreq")
    assert len(message.from_tag) == 2 + 50 * 3 + 3
    assert message.via_count == 34
    assert message.vias[-1].branch == "very" + "long" * 50 + "branchvalue"
    assert message.headers.get("Unknown-" + "Long" * 20 + "-Name") is not None


def test_octets_after_the_body_are_noise() -> None:
    """RFC 4475 §3.1.1.8."""
    message = parsed("dblreq")
    assert (message.method, message.body) == ("REGISTER", b"")


def test_parameters_in_the_user_part() -> None:
    """RFC 4475 §3.1.1.9."""
    message = parsed("semiuri")
    assert message.uri.user_unescaped == "user;par=u@example.net"
    assert message.list_of("Accept")[-1] == "message/sipfrag"


def test_binary_bodies_are_kept_whole() -> None:
    """RFC 4475 §3.1.1.11."""
    message = parsed("mpart01")
    assert message.content_type == "multipart/mixed"
    assert len(message.body) == 553
    assert message.body.count(b"\0") == 2


def test_reason_phrases_are_any_text() -> None:
    """RFC 4475 §3.1.1.12-13: in UTF-8, or none."""
    message = parse_message(named("unreason").data)
    assert isinstance(message, Response)
    assert message.reason == "= 2**3 * 5**2 но сто девяносто девять - простое"
    message = parse_message(named("noreason").data)
    assert isinstance(message, Response)
    assert (message.status, message.reason) == (100, "")


def test_contact_parameters_are_not_the_uri_s() -> None:
    """RFC 4475 §3.3.12-14: but where brackets hold them they are."""
    contact = parsed("cparam01").contact
    assert contact is not None
    assert ("unknownparam" in contact.params, "unknownparam" in contact.uri.parameters) == (True, False)
    contact = parsed("cparam02").contact
    assert contact is not None
    assert ("unknownparam" in contact.params, "unknownparam" in contact.uri.parameters) == (False, True)
    contact = parsed("regescrt").contact
    assert contact is not None
    assert contact.uri.headers == (("Route", "%3Csip:sip.example.com%3E"),)


def test_an_invite_of_rfc_2543_makes_a_call() -> None:
    """RFC 4475 §3.4.1: no branch, no From tag, no Contact, no Content-Length; our BYE goes to its From."""
    message = parsed("inv2543")
    assert not has_cookie(message.via.branch)
    assert (message.from_tag, message.contact, message.max_forwards) == ("", None, None)
    agent = Answering()
    sent = agent.receive(named("inv2543").data)
    assert [data[:11] for _, data in sent] == [b"SIP/2.0 180", b"SIP/2.0 200"]
    (dialog_id,) = agent.stack._dialogs
    dialog = agent.stack._dialogs[dialog_id].dialog
    assert dialog is not None
    assert str(dialog.remote_target) == "sip:+13035551111@ift.client.example.net;user=phone"


def test_an_invite_of_today_needs_a_contact() -> None:
    """RFC 3261 §8.1.1.8."""
    data = re.sub(rb"Contact: .*\r\n", b"", named("baddate").data)
    assert [sent[:11] for _, sent in Answering().receive(data)] == [b"SIP/2.0 400"]


def test_answers_go_where_via_says() -> None:
    """RFC 3261 §18.2.2: refusals of what cannot be understood, too."""
    ((flow, data),) = Answering().receive(named("quotbal").data)
    assert flow.remote == ("192.0.2.200", 5050)
    assert b"Via: SIP/2.0/UDP 192.0.2.59:5050;branch=z9hG4bKkdjuw39234;received=192.0.2.200\r\n" in data


def test_ports_and_ipv6_references() -> None:
    """RFC 5118 §4.1-4.5, §4.7, §4.10: what stands within the brackets is the address."""
    assert (parsed("ipv6-good").uri.host, parsed("ipv6-good").uri.port) == ("2001:db8::10", None)
    assert (parsed("port-ambiguous").uri.host, parsed("port-ambiguous").uri.port) == ("2001:db8::10:5070", None)
    assert (parsed("port-unambiguous").uri.host, parsed("port-unambiguous").uri.port) == ("2001:db8::10", 5070)
    assert parsed("via-received-param-with-delim").via.received == "[2001:db8::9:255]"
    assert parsed("via-received-param-no-delim").via.received == "2001:db8::9:255"
    assert [(via.host, via.port) for via in parsed("mult-ip-in-header").vias] == [
        ("2001:db8::9:1", 6050),
        ("192.0.2.1", None),
        ("2001:db8::9:255", None),
    ]
    assert parsed("ipv6-bug-abnf-3-colons").uri.host == "2001:db8:::192.0.2.1"
    assert parsed("ipv6-correct-abnf-2-colons").uri.host == "2001:db8::192.0.2.1"
    with pytest.raises(MalformedValue):
        NameAddr.parse("<sip:a@[2001:db8::10>")


def test_ipv6_in_session_descriptions() -> None:
    """RFC 5118 §4.6, §4.8-4.9."""
    session = parse_sdp(parsed("ipv6-in-sdp").body)
    assert (session.family, session.connection) == ("IP6", "2001:db8::20")
    media = parse_sdp(parsed("mult-ip-in-sdp").body).media
    assert [(each.family, each.connection) for each in media] == [("IP4", "192.0.2.1"), ("IP6", "2001:db8::1")]
    assert parse_sdp(parsed("ipv4-mapped-ipv6").body).connection == "::ffff:192.0.2.2"


@pytest.mark.parametrize("tail", [b"<<<", b'"', b'";x="', b"<;received=1;x=>", b'"<', b"\\"])
def test_a_branch_that_swallows_what_is_put_behind_it(tail: bytes) -> None:
    """RFC 3261 §17.2.3, §18.2.1: a transaction is found by what came, not by what the stamp makes of it."""
    agent = Answering()
    data = named("dblreq").data.replace(b"z9hG4bKkdjuw23492", b"z9hG4bKkdjuw23492" + tail)
    assert [sent[:11] for _, sent in agent.receive(data)] == [b"SIP/2.0 405"]
    assert [sent[:11] for _, sent in agent.receive(data)] == [b"SIP/2.0 405"]
    agent.settle()
    assert agent.stack.idle


def test_parameters_hold_no_addresses() -> None:
    """RFC 3261 §25.1: an angle in them opens nothing."""
    assert dict(Via.parse("SIP/2.0/UDP a;branch=z9hG4bK<x;received=b").params) == {
        "branch": "z9hG4bK<x",
        "received": "b",
    }
