"""Who a call says it is from (RFC 3261 §8.1.1.3, RFC 3323, RFC 3325, RFC 5806), and whom it is for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sipcore.config import Account
from sipcore.errors import InvalidRequest
from sipcore.protocol.builder import extension_headers
from sipcore.protocol.dialling import DialPlan
from sipcore.protocol.identity import ACCOUNT_ITSELF, Caller
from sipcore.protocol.stack import SessionIncoming
from sipcore.protocol.wire import Request
from tests.kit.desk import PROVIDER, Desk, Pairs
from tests.kit.raw_peer import SDP_OFFER

ACCOUNT = Account(f"2345678e0@{PROVIDER[0]}")


def invite(account: Account, headers: Pairs = (), caller: Caller = ACCOUNT_ITSELF, to: str = "4930123") -> Request:
    """The INVITE that a call of this account begins with."""
    return Desk(account).invite(to, headers, caller)


def of(**changes: Any) -> Account:
    """The account with something else about it."""
    return replace(ACCOUNT, **changes)


# -- From and Contact ----------------------------------------------------------------------------------------------


def test_from_is_the_address_of_record_unless_told_otherwise() -> None:
    sent = invite(of(display_name="Desk"))
    assert str(sent.from_.uri) == "sip:2345678e0@192.0.2.53"
    assert sent.from_.display_name == "Desk"


def test_from_user_and_domain_of_the_account() -> None:
    """FIELD #9: 403 because From is wrong for the provider."""
    sent = invite(of(from_user="+4930555", from_domain="sip.example.net"))
    assert str(sent.from_.uri) == "sip:+4930555@sip.example.net"


def test_register_names_the_address_of_record_whatever_calls_say() -> None:
    """§10.2."""
    sent = Desk(of(from_user="+4930555", from_domain="sip.example.net", anonymous=True)).register()
    assert str(sent.from_.uri) == str(sent.to.uri) == "sip:2345678e0@192.0.2.53"


def test_contact_user() -> None:
    for sent in (invite(of(contact_user="+49 30")), Desk(of(contact_user="+49 30")).register()):
        assert sent.contacts[0].uri.user == "+49%2030"


def test_a_call_may_say_otherwise() -> None:
    caller = Caller(from_user="+4930777", display_name="Hotline", privacy=("header", "critical"))
    sent = invite(of(from_user="+4930555", privacy=("id",)), caller=caller)
    assert (str(sent.from_.uri), sent.from_.display_name) == ("sip:+4930777@192.0.2.53", "Hotline")
    assert sent.headers.get("Privacy") == "header;critical"


# -- the headers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("+49 30 555", "<sip:+4930555@192.0.2.53>"),
        ("desk@example.org", "<sip:desk@example.org>"),
        ("tel:+49-30-555", "<sip:+4930555@192.0.2.53;user=phone>"),
        ('"Desk" <tel:+4930555>', '"Desk" <tel:+4930555>'),
    ],
)
@pytest.mark.parametrize(
    ("field", "header"),
    [("preferred_identity", "P-Preferred-Identity"), ("asserted_identity", "P-Asserted-Identity")],
)
def test_preferred_and_asserted_identity(field: str, header: str, written: str, sent: str) -> None:
    """RFC 3325 §9.1-2."""
    assert invite(of(**{field: written})).headers.get_all(header) == [sent]


def test_diversion() -> None:
    """RFC 5806 §5."""
    sent = invite(of(diversion="+4930555"))
    assert sent.headers.get("Diversion") == "<sip:+4930555@192.0.2.53>;reason=unconditional"
    written = "<sip:+4930555@example.net>;reason=no-answer;counter=2"
    assert invite(of(diversion=written)).headers.get("Diversion") == written


def test_privacy() -> None:
    """RFC 3323 §4.2: tokens separated by semicolons."""
    assert invite(of(privacy=("id", "header"))).headers.get("Privacy") == "id;header"


def test_an_anonymous_call() -> None:
    """RFC 3323 §4.1.1.3: nothing that the far end sees says who it is; the trusted proxy is still told."""
    account = of(display_name="Desk", from_user="4930555", preferred_identity="+4930555")
    sent = invite(account, caller=Caller(anonymous=True))
    assert sent.headers.get("Privacy") == "id"
    assert str(sent.from_.uri) == "sip:anonymous@anonymous.invalid"
    assert sent.from_.display_name == "Anonymous"
    assert sent.contacts[0].uri.user == "anonymous"
    assert sent.contacts[0].uri.parameters.get("line")
    assert sent.headers.get("P-Preferred-Identity") == "<sip:+4930555@192.0.2.53>"
    shown = "".join(f"{name}{value}" for name, value in sent.headers.items() if name != "P-Preferred-Identity")
    assert "4930555" not in shown
    assert "2345678e0" not in shown
    assert str(invite(replace(account, anonymous=True)).from_.uri) == "sip:anonymous@anonymous.invalid"
    named = invite(replace(account, anonymous=True), caller=Caller(anonymous=False))
    assert named.from_.uri.user == "4930555"


def test_more_header_fields_of_the_account() -> None:
    account = of(invite_headers=(("X-Telnyx-Token", "s3cret"),), register_headers=(("X-Site", "vienna"),))
    assert invite(account).headers.get("X-Telnyx-Token") == "s3cret"
    register = Desk(account).register()
    assert register.headers.get("X-Site") == "vienna"
    assert register.headers.get("X-Telnyx-Token") is None
    assert "s3cret" not in repr(account)


def test_what_a_call_gives_wins_over_the_account() -> None:
    account = of(preferred_identity="+4930555", diversion="+4930555", privacy=("id",), invite_headers=(("X-A", "1"),))
    given = (("p-preferred-identity", "<sip:+4930777@x.example>"), ("Privacy", "none"), ("x-a", "2"))
    sent = invite(account, given)
    assert sent.headers.get_all("P-Preferred-Identity") == ["<sip:+4930777@x.example>"]
    assert sent.headers.get_all("Privacy") == ["none"]
    assert sent.headers.get_all("X-A") == ["2"]
    assert sent.headers.get("Diversion") is not None


def test_codecs_of_the_account() -> None:
    """Providers that want PCMA first."""
    assert b"m=audio 40000 RTP/AVP 8 0 " in invite(of(codecs=("PCMA", "PCMU"))).body


def test_transport_of_the_account() -> None:
    desk = Desk(of(transport="tcp"))
    desk.invite()
    assert {packet.flow.transport for packet in desk.network.packets} == {"tcp"}


# -- what is wrong -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"from_user": "a\r\nb"}, "from_user: holds a line break"),
        ({"display_name": "a\nVia: x"}, "display_name: holds a line break"),
        ({"realm": "\0"}, "realm: holds a line break"),
        ({"from_domain": "not a host"}, "from_domain: "),
        ({"preferred_identity": "not an address"}, "preferred_identity: "),
        ({"asserted_identity": "<http://x>"}, "asserted_identity: "),
        ({"diversion": "<sip:x"}, "diversion: "),
        ({"privacy": ("secret",)}, "privacy: 'secret' is not one of none, id"),
        ({"privacy": "id"}, "privacy: must be a list of tokens"),
        ({"invite_headers": (("Via", "x"),)}, "invite_headers: Via is written by the SIP stack"),
        ({"register_headers": (("X-A", "a\r\nb"),)}, "register_headers: the value of X-A holds CR, LF or NUL"),
        ({"invite_headers": ("X-A",)}, "invite_headers: must be pairs"),
        ({"codecs": ("OPUS-9",)}, "codecs: must name"),
        ({"transport": "sctp"}, "transport: 'sctp' is not one of"),
        ({"country_code": "+49"}, "country_code: must be digits"),
    ],
)
def test_an_account_is_checked_when_it_is_made(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        of(**changes)
    assert str(raised.value).startswith(said)
    assert raised.value.field == next(iter(changes))
    assert "\n" not in str(raised.value)


def test_a_caller_is_checked_when_it_is_made() -> None:
    with pytest.raises(InvalidRequest, match="from_user"):
        Caller(from_user="a\r\nb")
    with pytest.raises(InvalidRequest, match="privacy"):
        Caller(privacy=("x",))


# -- numbers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plan", "dialled", "sent"),
    [
        (DialPlan("49"), "030 123-456", "+4930123456"),
        (DialPlan("49"), "0043 1 5046220", "+4315046220"),
        (DialPlan("49"), "+43 (1) 504", "+431504"),
        (DialPlan("49"), "110", "110"),
        (DialPlan("49"), "00", "00"),
        (DialPlan("49"), "alice", "alice"),
        (DialPlan("49"), "*21#", "*21#"),
        (DialPlan("39", national_prefix=""), "06 698", "06 698"),
        (DialPlan("39", national_prefix=""), "0039 06698", "+3906698"),
        (DialPlan("1", "1", "011"), "(202) 555-0123", "+12025550123"),
        (DialPlan("1", "1", "011"), "1 202 555 0123", "+12025550123"),
        (DialPlan("1", "1", "011"), "011 43 1 504", "+431504"),
        (DialPlan("1", "1", "011"), "911", "911"),
        (DialPlan(), "030 123", "030 123"),
    ],
)
def test_numbers_as_e164(plan: DialPlan, dialled: str, sent: str) -> None:
    """FIELD must-pass (5): an E.164 normaliser."""
    assert plan.expanded(dialled) == sent


@pytest.mark.parametrize("written", ["sip:030123@host.example", "030123@host.example", "tel:030123"])
def test_what_names_a_host_or_a_scheme_is_left_alone(written: str) -> None:
    assert DialPlan("49").expanded(written) == written


def test_an_account_dials_by_its_plan() -> None:
    sent = invite(of(country_code="49", user_phone=True), to="030 123 456")
    assert str(sent.uri) == "sip:+4930123456@192.0.2.53;user=phone"
    assert str(invite(of(user_phone=True), to="desk").uri) == "sip:desk@192.0.2.53"
    assert str(invite(ACCOUNT, to="*21#").uri) == "sip:*21%23@192.0.2.53"
    assert str(invite(ACCOUNT, to="tel:+49-30-1").uri) == "sip:+49301@192.0.2.53;user=phone"


# -- inbound -------------------------------------------------------------------------------------------------------


def incoming(desk: Desk, uri: str, extra: str = "") -> list[SessionIncoming]:
    """What a call from the provider led to."""
    desk.provider.request("INVITE", uri, extra=extra, body=SDP_OFFER)
    return [event for event in desk.node.events if isinstance(event, SessionIncoming)]


def test_the_callers_identity_is_shown_to_the_application() -> None:
    """FIELD must-pass (6): P-Called-Party-ID, Diversion, History-Info and the rest are exposed inbound."""
    headers = {
        "P-Asserted-Identity": "<sip:+4930555@example.net>",
        "P-Called-Party-ID": "<sip:2345678e0@example.net>",
        "Diversion": "<sip:+4930777@example.net>;reason=no-answer",
        "History-Info": "<sip:a@b>;index=1",
        "Privacy": "id",
        "Remote-Party-ID": "<sip:+4930555@example.net>;party=calling",
        "X-Any": "thing",
    }
    desk = Desk(of(accept_from=("any",)))
    extra = "".join(f"{name}: {value}\n" for name, value in headers.items())
    (event,) = incoming(desk, "sip:2345678e0@192.0.2.1", extra)
    assert event.session.callee is not None
    assert headers.items() <= extension_headers(event.session.callee.request).items()


def test_an_anonymous_caller_gets_through() -> None:
    desk = Desk(ACCOUNT)
    desk.provider.send(
        "INVITE sip:2345678e0@192.0.2.1 SIP/2.0\nVia: SIP/2.0/UDP 192.0.2.53:5060;branch=z9hG4bKa;rport\n"
        'From: "Anonymous" <sip:anonymous@anonymous.invalid>;tag=1\nTo: <sip:2345678e0@192.0.2.1>\n'
        "Call-ID: a\nCSeq: 1 INVITE\nContact: <sip:192.0.2.53>\nPrivacy: id\nContent-Length: 0\n\n"
    )
    (event,) = [event for event in desk.node.events if isinstance(event, SessionIncoming)]
    assert event.session.peer == "sip:anonymous@anonymous.invalid"


@pytest.mark.parametrize(
    ("account", "uri", "taken"),
    [
        (of(numbers=("+4930555",)), "sip:+4930555@192.0.2.1;user=phone", True),
        (of(numbers=("+4930555",), country_code="49"), "sip:030555@192.0.2.1", True),
        (of(numbers=("030555",), country_code="49"), "sip:+4930555@192.0.2.1", True),
        (of(numbers=("+4930555",)), "sip:+4930556@192.0.2.1", False),
        (of(numbers=("*",)), "sip:+4930556@192.0.2.1", True),
        (of(contact_user="desk"), "sip:desk@192.0.2.1", True),
    ],
)
def test_numbers_of_an_account(account: Account, uri: str, taken: bool) -> None:
    """Trunks deliver calls for many numbers to one registration."""
    assert bool(incoming(Desk(account), uri)) is taken


def test_a_number_of_its_own_comes_before_any_number() -> None:
    desk = Desk(of(numbers=("*",)))
    other = desk.stack.add_line(Account("other@192.0.2.1", numbers=("+4930555",)))
    (event,) = incoming(desk, "sip:+4930555@192.0.2.1")
    assert event.line is other
