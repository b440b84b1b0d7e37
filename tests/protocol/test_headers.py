"""Header fields by name: what is found is what the lines say, whatever was done to them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sipcore.protocol.headers import Headers
from sipcore.protocol.values import MalformedValue, Via
from sipcore.protocol.wire import Request, parse_message

LINES = ["Via: one", "v: two", "Subject: x", "Via: three"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda headers: None, ["one", "two", "three"]),
        (lambda headers: headers.add("Via", "four"), ["one", "two", "three", "four"]),
        (lambda headers: headers.prepend("v", "zero"), ["zero", "one", "two", "three"]),
        (lambda headers: headers.set("VIA", "only"), ["only"]),
        (lambda headers: headers.replace_first("Via", "first"), ["first", "two", "three"]),
        (lambda headers: headers.remove("v"), []),
    ],
)
def test_the_first_value_is_that_of_the_first_line(change: Callable[[Headers], None], expected: list[str]) -> None:
    headers = Headers()
    assert headers.fill(LINES) == ""
    untouched = headers.copy()
    change(headers)
    assert headers.get_all("Via") == expected
    assert headers.get("via") == (expected[0] if expected else None)
    assert ("Via" in headers) == bool(expected)
    assert headers.get("Subject") == "x"
    assert untouched.get("Via") == "one", "a copy is independent"


def test_a_removed_header_can_come_again() -> None:
    headers = Headers()
    headers.add("Contact", "<sip:a@b>")
    headers.remove("m")
    headers.add("Contact", "<sip:c@d>")
    assert headers.get("m") == "<sip:c@d>"


@pytest.mark.parametrize(
    "text",
    [
        "SIP/2.0/UDP 192.0.2.7;branch=z9hG4bKa",
        "SIP/2.0/TLS PBX.example.com:65535;rport;branch=z9hG4bKa",
        'SIP/2.0/WS [2001:db8::1]:5060;x="a;b"',
        "SIP / 2.0 / TCP  host : 5060 ; Branch = z9hG4bKa",
    ],
)
def test_plain_and_odd_via_values_read_alike(text: str) -> None:
    """White space behind the slashes takes the long way (RFC 4475 §3.1.1.1), and says the same."""
    assert Via.parse(text) == Via.parse(text.replace("/", " / "))


@pytest.mark.parametrize("port", ["0", "65536", "99999", "123456"])
def test_no_via_has_such_a_port(port: str) -> None:
    with pytest.raises(MalformedValue):
        Via.parse(f"SIP/2.0/UDP host:{port};branch=z9hG4bKa")


@pytest.mark.parametrize(
    ("via", "stamped"),
    [
        ("SIP/2.0/UDP h;rport;branch=z9hG4bKa", "SIP/2.0/UDP h;branch=z9hG4bKa;received=192.0.2.1;rport=9"),
        ("SIP/2.0/UDP h:5;branch=z9hG4bKa;rport", "SIP/2.0/UDP h:5;branch=z9hG4bKa;received=192.0.2.1;rport=9"),
        ("SIP/2.0/UDP h;rport", "SIP/2.0/UDP h;received=192.0.2.1;rport=9"),
        ("SIP/2.0/UDP h;rport=1;branch=z9hG4bKa", "SIP/2.0/UDP h;branch=z9hG4bKa;received=192.0.2.1;rport=9"),
        ("SIP/2.0/UDP h;rport;x=y", "SIP/2.0/UDP h;x=y;received=192.0.2.1;rport=9"),
        ("SIP/2.0/UDP h;rport-x;rport", "SIP/2.0/UDP h;rport-x;received=192.0.2.1;rport=9"),
        ("SIP/2.0/UDP h;rport, SIP/2.0/UDP i", "SIP/2.0/UDP h;received=192.0.2.1;rport=9, SIP/2.0/UDP i"),
    ],
)
def test_where_a_request_came_from_is_written_into_its_via(via: str, stamped: str) -> None:
    """RFC 3581 §4, whichever way the Via is spelled."""
    request = parse_message(
        f"OPTIONS sip:a@b SIP/2.0\r\nVia: {via}\r\nFrom: <sip:c@d>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: x\r\n"
        "CSeq: 1 OPTIONS\r\n\r\n".encode()
    )
    assert isinstance(request, Request)
    request.stamp_via(received="192.0.2.1", rport=9)
    assert request.headers.get("Via") == stamped
    assert (request.via.received, request.via.rport) == ("192.0.2.1", 9)
