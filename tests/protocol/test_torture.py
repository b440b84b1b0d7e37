"""Messages of RFC 4475 (torture tests) and RFC 5118 (IPv6): what must be understood, and what must be refused.

The messages are shortened to what each of them is about; the section is named.
"""

from __future__ import annotations

import pytest

from sipcore.protocol.builder import make_response
from sipcore.protocol.wire import MalformedMessage, Request, Response, parse_message, serialize

SHORT_TORTUOUS_INVITE = (
    b"INVITE sip:vivekg@chair-dnrc.example.com;unknownparam SIP/2.0\r\n"
    b"TO :\r\n sip:vivekg@chair-dnrc.example.com ;   tag    = 1918181833n\r\n"
    b'from   : "J Rosenberg \\\\\\""       <sip:jdrosen@example.com>\r\n  ;\r\n  tag = 98asjd8\r\n'
    b"MaX-fOrWaRdS: 0068\r\n"
    b"Call-ID: wsinv.ndaksdj@192.0.2.1\r\n"
    b"Content-Length   : 150\r\n"
    b"cseq: 0009\r\n  INVITE\r\n"
    b"Via  : SIP  /   2.0\r\n /UDP\r\n    192.0.2.2;branch=390skdjuw\r\n"
    b"s :\r\n"
    b"NewFangledHeader:   newfangled value\r\n continued newfangled value\r\n"
    b"UnknownHeaderWithUnusualValue: ;;,,;;,;\r\n"
    b"Content-Type: application/sdp\r\n"
    b"Route:\r\n <sip:services.example.com;lr;unknownwith=value;unknown-no-value>\r\n"
    b"v:  SIP  / 2.0  / TCP     spindle.example.com   ;\r\n  branch  =   z9hG4bK9ikj8  ,\r\n"
    b" SIP  /    2.0   / UDP  192.168.255.111   ; branch=\r\n z9hG4bK30239\r\n"
    b'm:"Quoted string \\"\\"" <sip:jdrosen@example.com> ; newparam =\r\n      newvalue ;\r\n'
    b"  secondparam ; q = 0.33\r\n"
    b"\r\n" + b"v" * 150
)


def test_a_short_tortuous_invite() -> None:
    """§3.1.1.1: white space, folding, case and compact names wherever the grammar lets them be."""
    message = parse_message(SHORT_TORTUOUS_INVITE)
    assert isinstance(message, Request)
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
    assert message.contact is not None
    assert message.contact.display_name == 'Quoted string ""'
    assert dict(message.contact.params) == {"newparam": "newvalue", "secondparam": None, "q": "0.33"}
    assert message.routes[0].uri.parameters["unknown-no-value"] is None
    again = parse_message(serialize(message))
    assert again.headers.items()[:-1] == [item for item in message.headers.items() if item[0] != "Content-Length"]


def make(first: str, **changes: str) -> bytes:
    method = first.partition(" ")[0] if not first.startswith("SIP/") else "OPTIONS"
    headers = {
        "Via": "SIP/2.0/UDP host1.example.com;branch=z9hG4bK-x",
        "From": "sip:caller@example.net;tag=f",
        "To": "sip:user@example.com",
        "Call-ID": "x.1@example.com",
        "CSeq": f"8 {method}",
        "Max-Forwards": "70",
    } | {name.replace("_", "-"): value for name, value in changes.items()}
    return "\r\n".join([first, *(f"{name}: {value}" for name, value in headers.items() if value), "", ""]).encode()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(
            make(
                "!interesting-Method0123456789_*+`.%indeed'~ sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*"
                ":&it+has=1,weird!*pas$wo~d_too.(doesn't-it)@example.com SIP/2.0"
            ),
            id="3.1.1.2 the wide range of valid characters",
        ),
        pytest.param(make("INVITE sip:sips%3Auser%40example.com@example.net SIP/2.0"), id="3.1.1.3 escaping"),
        pytest.param(
            make("REGISTER sip:example.com SIP/2.0", Contact="<sip:%00@host5.example.com>"),
            id="3.1.1.4 escaped nulls",
        ),
        pytest.param(make("RE%47IST%45R sip:registrar.example.com SIP/2.0"), id="3.1.1.5 % that is no escape"),
        pytest.param(
            make("OPTIONS sip:user@example.com SIP/2.0", From="caller<sip:caller@example.com>;tag=323"),
            id="3.1.1.6 no LWS before <",
        ),
        pytest.param(
            make("OPTIONS sip:user;par=u%40example.net@example.com SIP/2.0"), id="3.1.1.9 semicolon in the user part"
        ),
        pytest.param(
            make("OPTIONS sip:user@example.com SIP/2.0", Via="SIP/2.0/UNKNOWN t5.example.com;branch=z9hG4bKkd"),
            id="3.1.1.10 unknown transports",
        ),
        pytest.param(make("SIP/2.0 200 = 2**3 * 5**2 но сто девяносто девять - простое"), id="3.1.1.12 unusual reason"),
        pytest.param(make("SIP/2.0 100 "), id="3.1.1.13 empty reason"),
        pytest.param(
            make("INVITE sip:user@example.com SIP/2.0", From="Bell, Alexander <sip:a.g.bell@example.com>;tag=43"),
            id="3.1.2.15 non-token characters in a display name",
        ),
        pytest.param(make("OPTIONS sip:user@example.com SIP/2.0", Max_Forwards="0"), id="3.3.8 Max-Forwards of zero"),
        pytest.param(
            make("OPTIONS nobodyKnowsThisScheme:totallyopaquecontent SIP/2.0"), id="3.3.3 unknown request URI scheme"
        ),
        pytest.param(
            make("INVITE sip:UserB@example.com SIP/2.0", Via="SIP/2.0/UDP iftgw.example.com", Max_Forwards=""),
            id="3.4.1 INVITE of RFC 2543",
        ),
        pytest.param(
            make("REGISTER sip:[2001:db8::10] SIP/2.0", Via="SIP/2.0/UDP [2001:db8::9:1];branch=z9hG4bKas3-111"),
            id="RFC 5118 4.1 IPv6 reference",
        ),
        pytest.param(
            make(
                "BYE sip:user@[2001:db8::10] SIP/2.0",
                Via="SIP/2.0/UDP [2001:db8::9:1];received=[2001:db8::9:255];branch=z9hG4bKas3-111",
            ),
            id="RFC 5118 4.5 received with brackets",
        ),
        pytest.param(
            make(
                "OPTIONS sip:user@[2001:db8::10] SIP/2.0",
                Via="SIP/2.0/UDP [2001:db8::9:1];received=2001:db8::9:255;branch=z9hG4bKas3",
            ),
            id="RFC 5118 4.5 received without brackets",
        ),
        pytest.param(make("OPTIONS sip:user@[::ffff:192.0.2.10] SIP/2.0"), id="RFC 5118 4.10 IPv4-mapped address"),
    ],
)
def test_what_must_be_understood(data: bytes) -> None:
    """RFC 4475 §3.1.1, §3.3, §3.4; RFC 5118 §4."""
    message = parse_message(data)
    if isinstance(message, Request):
        response = make_response(message, 200, to_tag="t")
        assert isinstance(parse_message(serialize(response)), Response)
    assert message.call_id == "x.1@example.com"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        pytest.param(
            make("INVITE sip:user@example.com SIP/2.0", Contact="<sip:a@b>", Content_Length="9999"),
            400,
            id="3.1.2.2 content length too long",
        ),
        pytest.param(
            make("INVITE sip:user@example.com SIP/2.0", Content_Length="-999"), 400, id="3.1.2.3 negative length"
        ),
        pytest.param(
            make("REGISTER sip:example.com SIP/2.0", CSeq="36893488147419103232 REGISTER"),
            400,
            id="3.1.2.4 request scalars out of range",
        ),
        pytest.param(
            make("INVITE sip:user@example.com SIP/2.0", To='"Mr. J. User <sip:j.user@example.com>'),
            400,
            id="3.1.2.6 unterminated quoted string",
        ),
        pytest.param(make("INVITE sip:user@example.com; lr SIP/2.0"), 400, id="3.1.2.8 LWS in the request URI"),
        pytest.param(
            make("OPTIONS sip:user@example.org SIP/2.0", To='sip:"Watson, Thomas" < t.watson@example.org >'),
            400,
            id="3.1.2.14 spaces within addr-spec",
        ),
        pytest.param(make("OPTIONS sip:t.watson@example.org SIP/7.0"), 505, id="3.1.2.16 unknown version"),
        pytest.param(
            make("OPTIONS sip:user@example.com SIP/2.0", CSeq="8 INVITE"), 400, id="3.1.2.17 methods that differ"
        ),
        pytest.param(
            make("NEWMETHOD sip:user@example.com SIP/2.0", CSeq="8 INVITE"), 400, id="3.1.2.18 unknown method, too"
        ),
    ],
)
def test_what_must_be_refused(data: bytes, status: int) -> None:
    """RFC 4475 §3.1.2: with an answer that finds its way."""
    with pytest.raises(MalformedMessage) as caught:
        parse_message(data)
    assert caught.value.status == status
    assert caught.value.request is not None
    answer = serialize(make_response(caught.value.request, status, to_tag="t"))
    assert b"\r\nVia: SIP/2.0/UDP host1.example.com;branch=z9hG4bK-x\r\n" in answer


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(make("SIP/2.0 4294967301 better not break the receiver"), id="3.1.2.19 overlarge response code"),
        pytest.param(make("SIP/2.0 200 OK", CSeq="9292394834772304023312 OPTIONS"), id="3.1.2.5 response scalars"),
        pytest.param(make("INVITE sip:user@example.com SIP/2.0", From=""), id="3.3.1 missing required headers"),
    ],
)
def test_what_must_be_dropped(data: bytes) -> None:
    """RFC 4475 §3.1.2.5, §3.1.2.19, §3.3.1."""
    with pytest.raises(MalformedMessage) as caught:
        parse_message(data)
    assert caught.value.request is None
