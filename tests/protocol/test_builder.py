"""Header blocks (RFC 3261 §8.1.1, §8.2.6, §9.1, §17.1.1.3) and what callers may add to them."""

from __future__ import annotations

import pytest

from sipcore.errors import InvalidHeader
from sipcore.protocol.builder import (
    MAX_EXTENSION_BYTES,
    MAX_EXTENSION_HEADERS,
    OWNED_HEADERS,
    check_extension_headers,
    extension_headers,
    make_cancel,
    make_failure_ack,
    make_request,
    make_response,
    reason_phrase,
)
from sipcore.protocol.values import Uri
from sipcore.protocol.wire import Request


def invite() -> Request:
    request = make_request(
        "INVITE",
        Uri.parse("sip:bob@example.com"),
        from_="<sip:alice@example.org>;tag=a1",
        to="<sip:bob@example.com>",
        call_id="call-1",
        cseq=17,
        routes=("<sip:p1;lr>", "<sip:p2;lr>"),
        contact="<sip:alice@192.0.2.1>",
        headers=(("X-One", "1"),),
        body=b"v=0",
        content_type="application/sdp",
        user_agent="test/1",
    )
    request.headers.prepend("Via", "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKx;rport")
    return request


def test_a_request_has_what_every_request_has() -> None:
    """§8.1.1: the six mandatory headers (Via comes with the transaction), then what was asked for."""
    assert invite().headers.items() == [
        ("Via", "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKx;rport"),
        ("Route", "<sip:p1;lr>"),
        ("Route", "<sip:p2;lr>"),
        ("Max-Forwards", "70"),
        ("From", "<sip:alice@example.org>;tag=a1"),
        ("To", "<sip:bob@example.com>"),
        ("Call-ID", "call-1"),
        ("CSeq", "17 INVITE"),
        ("Contact", "<sip:alice@192.0.2.1>"),
        ("User-Agent", "test/1"),
        ("X-One", "1"),
        ("Content-Type", "application/sdp"),
    ]


def test_a_response_copies_and_tags() -> None:
    """§8.2.6.2, §12.1.1: Record-Route goes into 101-299."""
    request = invite()
    request.headers.add("Record-Route", "<sip:r2;lr>")
    request.headers.add("Record-Route", "<sip:r1;lr>")
    request.headers.add("Timestamp", "54")
    ringing = make_response(
        request,
        180,
        to_tag="b1",
        contact="<sip:bob@192.0.2.2>",
        server="test/2",
        headers=(("X-Two", "2"),),
        body=b"v=0",
        content_type="application/sdp",
    )
    assert ringing.headers.items() == [
        ("Via", "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKx;rport"),
        ("From", "<sip:alice@example.org>;tag=a1"),
        ("To", "<sip:bob@example.com>;tag=b1"),
        ("Call-ID", "call-1"),
        ("CSeq", "17 INVITE"),
        ("Record-Route", "<sip:r2;lr>"),
        ("Record-Route", "<sip:r1;lr>"),
        ("Contact", "<sip:bob@192.0.2.2>"),
        ("Server", "test/2"),
        ("X-Two", "2"),
        ("Content-Type", "application/sdp"),
    ]
    assert (ringing.status, ringing.reason) == (180, "Ringing")
    trying = make_response(request, 100, to_tag="b1")
    assert trying.to_tag == ""
    assert trying.headers.get("Timestamp") == "54"
    assert "Record-Route" not in trying.headers
    busy = make_response(request, 486, "Not now", to_tag="b1")
    assert "Record-Route" not in busy.headers
    assert busy.reason == "Not now"


def test_a_tag_that_is_there_stays() -> None:
    """§8.2.6.2: inside a dialog To is copied as it is."""
    request = invite()
    request.headers.set("To", "<sip:bob@example.com>;tag=old")
    assert make_response(request, 200, to_tag="new").to_tag == "old"


def test_cancel_and_failure_ack() -> None:
    """§9.1, §17.1.1.3: same R-URI, top Via only, Route, From, Call-ID and CSeq number; no body, no Contact."""
    request = invite()
    request.headers.add("Via", "SIP/2.0/UDP lower")
    cancel = make_cancel(request, (("Reason", "SIP;cause=200"),))
    response = make_response(request, 404, to_tag="b1")
    ack = make_failure_ack(request, response)
    for derived, method in ((cancel, "CANCEL"), (ack, "ACK")):
        assert derived.method == method
        assert derived.uri == request.uri
        assert derived.headers.get_all("Via") == ["SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKx;rport"]
        assert derived.headers.get_all("Route") == ["<sip:p1;lr>", "<sip:p2;lr>"]
        assert str(derived.cseq) == f"17 {method}"
        assert derived.body == b""
        assert "Contact" not in derived.headers
    assert (cancel.to_tag, ack.to_tag) == ("", "b1")
    assert cancel.headers.get("Reason") == "SIP;cause=200"


def test_reason_phrases() -> None:
    """§21."""
    assert reason_phrase(486) == "Busy Here"
    assert reason_phrase(418) == "I'm a Teapot"
    assert reason_phrase(699) == ""


def test_a_user_agent_of_the_callers_takes_the_place_of_ours() -> None:
    """§7.3.1: there is one."""
    request = make_request(
        "INVITE",
        Uri.parse("sip:bob@example.com"),
        from_="<sip:alice@example.org>;tag=a1",
        to="<sip:bob@example.com>",
        call_id="call-1",
        cseq=1,
        headers=(("user-agent", "theirs"),),
        user_agent="ours",
    )
    assert request.headers.get_all("User-Agent") == ["theirs"]


@pytest.mark.parametrize(
    "name", [*sorted(OWNED_HEADERS), "x", "e", "v", "f", "t", "i", "m", "l", "c", "VIA", "Call-Id"]
)
def test_headers_of_the_stack_cannot_be_set(name: str) -> None:
    """In any case, and under their compact names (§7.3.3)."""
    with pytest.raises(InvalidHeader, match="written by the SIP stack"):
        check_extension_headers({name: "x"})


@pytest.mark.parametrize(
    ("headers", "match"),
    [
        ({"": "x"}, "not a header name"),
        ({"a b": "x"}, "not a header name"),
        ({"a:": "x"}, "not a header name"),
        ({"ä": "x"}, "not a header name"),
        ({"X-A": "a\r\nb"}, "CR, LF or NUL"),
        ({"X-A": "a\0"}, "CR, LF or NUL"),
        ({f"X-{n}": "" for n in range(MAX_EXTENSION_HEADERS + 1)}, "at most 64"),
        ({"X": "y" * MAX_EXTENSION_BYTES}, "at most 8192"),
        ({"X": "ä" * (MAX_EXTENSION_BYTES // 2)}, "at most 8192"),
    ],
)
def test_headers_that_may_not_be_sent(headers: dict[str, str], match: str) -> None:
    """§7.3.1, §25.1: names are tokens, values stay on their line, and there is an end to it."""
    with pytest.raises(InvalidHeader, match=match) as caught:
        check_extension_headers(headers, field="headers")
    assert caught.value.field == "headers"


def test_headers_that_may_be_sent() -> None:
    """Refer-To is the stack's on REFER only."""
    check_extension_headers({"X-A": "ü", "Diversion": "<sip:a@b>", "Refer-To": "<sip:c@d>"})
    with pytest.raises(InvalidHeader):
        check_extension_headers({"Refer-To": "<sip:c@d>"}, refer=True)
    with pytest.raises(InvalidHeader):
        check_extension_headers({"r": "<sip:c@d>"}, refer=True)


def test_the_far_ends_extension_headers() -> None:
    """What an application may care for; never credentials; lines of one name joined (§7.3.1)."""
    request = invite()
    request.headers.add("X-One", "2")
    request.headers.add("Authorization", "Digest secret")
    request.headers.add("P-Called-Party-ID", "<sip:b@\udcff>")
    assert extension_headers(request) == {"X-One": "1, 2", "P-Called-Party-ID": "<sip:b@\ufffd>"}
    assert extension_headers([("Diversion", "<sip:d@e>"), ("To", "x")]) == {"Diversion": "<sip:d@e>"}
