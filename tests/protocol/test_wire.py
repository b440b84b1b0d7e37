"""Bytes to messages and back (RFC 3261 §7, §18.3, §25); tolerant in, strict out."""

from __future__ import annotations

import logging
import time

import pytest
import sipmessage
from hypothesis import example, given
from hypothesis import strategies as st

from sipcore.protocol.builder import make_request, make_response
from sipcore.protocol.values import CSeq, Params, Uri
from sipcore.protocol.wire import (
    MAX_HEADERS,
    MAX_MESSAGE,
    Headers,
    MalformedMessage,
    Request,
    Response,
    parse_message,
    redact,
    serialize,
)

HEAD = (
    "Via: SIP/2.0/UDP pbx1:5060;branch=z9hG4bK1\r\n"
    "From: <sip:a@x>;tag=1\r\n"
    "To: <sip:b@y>\r\n"
    "Call-ID: c1\r\n"
    "CSeq: 1 OPTIONS\r\n"
)


def parse_request(*lines: str, body: str = "", first: str = "OPTIONS sip:b@y SIP/2.0") -> Request:
    text = f"{first}\r\n{HEAD}" + "".join(f"{line}\r\n" for line in lines) + f"\r\n{body}"
    message = parse_message(text.encode())
    assert isinstance(message, Request)
    return message


# -- what is read -------------------------------------------------------------------------------------------------


def test_a_request_and_its_typed_values() -> None:
    """§7.1, §20."""
    message = parse_request(
        "Via: SIP/2.0/TCP [2001:db8::1], SIP/2.0/UDP third",
        'Contact: "A" <sip:a@h;transport=tcp>;expires=60, <sip:b@h>',
        "Route: <sip:p1;lr>, <sip:p2;lr>",
        "Record-Route: <sip:r1;lr>",
        "Record-Route: <sip:r2;lr>",
        "Supported: replaces, timer",
        "Supported: 100rel",
        "Expires: 300",
        "Max-Forwards: 69",
        "Content-Type: Application/SDP ; charset=utf-8",
        body="v=0",
    )
    assert (message.method, str(message.uri)) == ("OPTIONS", "sip:b@y")
    assert [via.host for via in message.vias] == ["pbx1", "2001:db8::1", "third"]
    assert (message.via.branch, message.via_count) == ("z9hG4bK1", 3)
    assert (message.from_tag, message.to_tag, message.call_id) == ("1", "", "c1")
    assert message.cseq == CSeq(1, "OPTIONS")
    assert [str(contact.uri) for contact in message.contacts] == ["sip:a@h;transport=tcp", "sip:b@h"]
    assert message.contact is not None
    assert message.contact.params == Params({"expires": "60"})
    assert [str(route) for route in message.routes] == ["<sip:p1;lr>", "<sip:p2;lr>"]
    assert [str(route) for route in message.record_routes] == ["<sip:r1;lr>", "<sip:r2;lr>"]
    assert message.list_of("supported") == ("replaces", "timer", "100rel")
    assert (message.expires, message.max_forwards) == (300, 69)
    assert message.content_type == "application/sdp"
    assert message.body == b"v=0"


def test_a_response() -> None:
    """§7.2: the reason may hold anything, or be missing (RFC 4475 §3.1.1.13)."""
    for line, reason in (("SIP/2.0 180 Ringing now!", "Ringing now!"), ("SIP/2.0 100 ", ""), ("SIP/2.0 100", "")):
        message = parse_message(f"{line}\r\n{HEAD}\r\n".encode())
        assert isinstance(message, Response)
        assert (message.status, message.reason) == (int(line[8:11]), reason)


def test_compact_names_are_the_long_ones() -> None:
    """§7.3.3."""
    text = (
        "OPTIONS sip:b@y SIP/2.0\r\nv: SIP/2.0/UDP h;branch=z9hG4bK1\r\nf: <sip:a@x>;tag=1\r\nt: <sip:b@y>\r\n"
        "i: c1\r\nCSeq: 1 OPTIONS\r\nm: <sip:a@h>\r\nk: timer\r\nc: text/plain\r\nS: hello\r\nl: 2\r\n\r\nhi"
    )
    message = parse_message(text.encode())
    assert message.via.host == "h"
    assert message.contact is not None
    assert message.list_of("Supported") == message.list_of("k") == ("timer",)
    assert message.content_type == "text/plain"
    assert message.headers.get("subject") == "hello"
    assert b"Call-ID: c1\r\n" in serialize(message)


@pytest.mark.parametrize(
    "text",
    [
        "Subject: one two",
        "Subject:one two",
        "Subject : one two",
        "Subject\t:  one two  ",
        "SUBJECT:\tone two",
        "Subject: one\r\n two",
        "Subject:\r\n\tone two",
        "Subject: one \r\n  two",
    ],
)
def test_white_space_and_folding(text: str) -> None:
    """§7.3.1, §25.1: LWS is one space."""
    assert " ".join((parse_request(text).headers.get("subject") or "").split()) == "one two"


def test_lf_alone_ends_a_line() -> None:
    """Tolerated: hand-written peers do it."""
    message = parse_message(f"OPTIONS sip:b@y SIP/2.0\r\n{HEAD}\r\nbody".replace("\r\n", "\n").encode())
    assert message.call_id == "c1"
    assert message.body == b"body"


def test_empty_lines_before_the_start_line() -> None:
    """§7.5: CRLFs before a message are ignored."""
    assert parse_message(f"\r\n\r\n\r\nOPTIONS sip:b@y SIP/2.0\r\n{HEAD}\r\n".encode()).call_id == "c1"


def test_a_missing_empty_line() -> None:
    """Tolerated over UDP: the datagram ends the header."""
    assert parse_message(f"OPTIONS sip:b@y SIP/2.0\r\n{HEAD}".encode()).body == b""


@pytest.mark.parametrize(
    "first", ["OPTIONS  sip:b@y  SIP/2.0", "OPTIONS <sip:b@y> SIP/2.0", "OPTIONS sip:b@y sip/2.0  "]
)
def test_tolerated_request_lines(first: str) -> None:
    """RFC 4475 §3.1.2.7, §3.1.2.9, §3.1.2.10."""
    assert str(parse_request(first=first).uri) == "sip:b@y"


def test_contact_star() -> None:
    """§10.2.2: it is no address, but it must be told from no Contact at all."""
    message = parse_request("Contact: *")
    assert message.contacts == ()
    assert message.headers.get("Contact") == "*"


def test_a_contact_that_makes_no_sense_is_left_out() -> None:
    """§20.10: the others count."""
    message = parse_request("Contact: <nonsense>, <sip:a@h>", "Record-Route: <>, <sip:r;lr>")
    assert [str(contact.uri) for contact in message.contacts] == ["sip:a@h"]
    assert len(message.record_routes) == 1


def test_numbers_that_are_none() -> None:
    """§20.19, §20.22: as if they were missing."""
    message = parse_request("Expires: never", "Max-Forwards: -1")
    assert (message.expires, message.max_forwards) == (None, None)
    assert parse_request("Expires: ²").expires is None
    assert parse_request("Expires: 99999999999999999999").expires is None


def test_odd_media_types() -> None:
    """§20.15: type/subtype in any case; what is none is given as it is."""
    assert parse_request().content_type == ""
    assert parse_request('c: multipart/mixed;boundary="a;b"').content_type == "multipart/mixed"
    assert parse_request("c: Odd ; x=1").content_type == "odd"


def test_content_length_of_a_datagram() -> None:
    """§18.3: shorter ends the body, missing means all, longer is an error."""
    assert parse_request("Content-Length: 2", body="four").body == b"fo"
    assert parse_request(body="four").body == b"four"
    with pytest.raises(MalformedMessage) as caught:
        parse_request("Content-Length: 9", body="four")
    assert caught.value.status == 400
    assert caught.value.request is not None


def test_bytes_that_are_no_utf_8_come_out_as_they_went_in() -> None:
    """§7.3.1, §25.1: TEXT-UTF8 is what it should be, but an echo must be exact."""
    data = b"OPTIONS sip:b@y SIP/2.0\r\n" + HEAD.encode() + b'Subject: \xff\xfe "\xe4"\r\nContent-Length: 0\r\n\r\n'
    assert serialize(parse_message(data)) == data


# -- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Via", "From", "To", "Call-ID", "CSeq"])
def test_every_mandatory_header_is_needed(name: str) -> None:
    """§8.1.1: without Via or CSeq a request cannot even be answered; without the others it is (RFC 4475 §3.3.1)."""
    lines = [line for line in HEAD.splitlines() if not line.startswith(name)]
    with pytest.raises(MalformedMessage) as caught:
        parse_message("\r\n".join(["OPTIONS sip:b@y SIP/2.0", *lines, "", ""]).encode())
    assert (caught.value.request is None) == (name in ("Via", "CSeq"))
    assert name in str(caught.value)
    if caught.value.request is not None:
        assert name not in make_response(caught.value.request, 400, to_tag="t").headers


@pytest.mark.parametrize(
    ("was", "now", "status"),
    [
        ("OPTIONS sip:b@y SIP/2.0", "OPTIONS sip:b@y SIP/7.0", 505),
        ("OPTIONS sip:b@y SIP/2.0", "OPTIONS sip:b@y; lr SIP/2.0", 400),
        ("OPTIONS sip:b@y SIP/2.0", "OPTIONS sip:b@-y SIP/2.0", 400),
        ("CSeq: 1 OPTIONS", "CSeq: 1 INVITE", 400),
        ("CSeq: 1 OPTIONS", "CSeq: 36893488147419103232 OPTIONS", 400),
        ("To: <sip:b@y>", 'To: "Mr. J. User <sip:j.user@example.com>', 400),
        ("From: <sip:a@x>;tag=1", "From: <>", 400),
        ("Call-ID: c1", "Call-ID: c1\r\nCall-ID: c2", 400),
        ("From: <sip:a@x>;tag=1", "From: <sip:a@x>;tag=1\r\nFrom: <sip:a@x>;tag=2", 400),
        ("Call-ID: c1", "Call-ID: c1\r\nContent-Length: 0\r\nContent-Length: 1", 400),
        ("Call-ID: c1", "Call-ID: c1\r\nContent-Length: -999", 400),
        ("Call-ID: c1", "Call-ID: c1\r\nthis is no header", 400),
        ("Call-ID: c1", "Call-ID: c1\r\n: no name", 400),
        ("Call-ID: c1", "Call-ID: c1\r\nna me: x", 400),
    ],
)
def test_a_request_that_can_be_answered_is_refused(was: str, now: str, status: int) -> None:
    """§8.2, §21.4.1, RFC 4475 §3.1.2: the answer copies what it must from the malformed request."""
    text = f"OPTIONS sip:b@y SIP/2.0\r\n{HEAD}\r\n"
    assert was in text
    with pytest.raises(MalformedMessage) as caught:
        parse_message(text.replace(was, now).encode())
    assert caught.value.status == status
    assert caught.value.request is not None
    response = make_response(caught.value.request, status, to_tag="t")
    for name in ("Via", "Call-ID", "CSeq", "From"):
        assert response.headers.get(name)
    assert (response.headers.get("To") or "").endswith(";tag=t")
    assert serialize(response).startswith(b"SIP/2.0 %d " % status)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r\n\r\n",
        b"\0" * 20,
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"SIP/2.0 4294967301 better not break the receiver\r\n" + HEAD.encode() + b"\r\n",
        b"SIP/2.0 099 No\r\n" + HEAD.encode() + b"\r\n",
        b"SIP/2.0 700 No\r\n" + HEAD.encode() + b"\r\n",
        b"SIP/2.0 2xx No\r\n" + HEAD.encode() + b"\r\n",
        b"SIP/2.0\r\n" + HEAD.encode() + b"\r\n",
        b"OPTIONS SIP/2.0\r\n" + HEAD.encode() + b"\r\n",
        b"OPT\xc3\x84 sip:b@y SIP/2.0\r\n" + HEAD.encode() + b"\r\n",
        b"OPTIONS sip:b@y SIP/2.0\r\n" + HEAD.encode().replace(b"pbx1", b"pb\rx1") + b"\r\n",
        b"OPTIONS sip:b@y SIP/2.0\r\n" + HEAD.encode().replace(b"1 OPTIONS", b"1 \0OPTIONS") + b"\r\n",
        b"OPTIONS sip:b@y SIP/2.0\r\nVia: SIP/2.0/UDP h:" + b"9" * 5000 + b"\r\n" + HEAD.encode()[44:] + b"\r\n",
        b"OPTIONS sip:b@y SIP/2.0\r\nVia: ,\r\n" + HEAD.encode().partition(b"\r\n")[2] + b"\r\n",
    ],
)
def test_what_cannot_be_answered_is_dropped(data: bytes) -> None:
    """§8.2.6, §18.1.2: responses, other protocols, and what has no usable Via."""
    with pytest.raises(MalformedMessage) as caught:
        parse_message(data)
    assert caught.value.request is None


def test_limits() -> None:
    """A message is bounded in bytes and in header lines."""
    with pytest.raises(MalformedMessage) as caught:
        parse_message(b"x" * (MAX_MESSAGE + 1))
    assert caught.value.status == 413


@pytest.mark.parametrize(
    ("extra", "said"),
    [("X: 1\r\n" * MAX_HEADERS, "header lines"), ("X: a\0b\r\n", "NUL"), ("X: a\rb\r\n", "CR"), ("\0: a\r\n", "NUL")],
)
def test_what_nobody_should_send_is_read_as_far_as_its_answer_needs(extra: str, said: str) -> None:
    """§21.4.1: 400 for too many lines, NUL and lone CR, too; a response with them has nobody to tell."""
    with pytest.raises(MalformedMessage, match=said) as caught:
        parse_message(f"OPTIONS sip:b@y SIP/2.0\r\n{HEAD}{extra}\r\n".encode())
    assert caught.value.status == 400
    assert caught.value.request is not None
    assert len(caught.value.request.headers.lines) <= MAX_HEADERS
    with pytest.raises(MalformedMessage) as caught:
        parse_message(f"SIP/2.0 200 OK\r\n{HEAD}{extra}\r\n".encode())
    assert caught.value.request is None


def test_lines_that_an_answer_copies_have_to_be_among_the_first() -> None:
    many = "X: 1\r\n" * MAX_HEADERS
    with pytest.raises(MalformedMessage) as caught:
        parse_message(f"OPTIONS sip:b@y SIP/2.0\r\n{many}{HEAD}\r\n".encode())
    assert caught.value.request is None


@pytest.mark.parametrize(
    "evil",
    [
        "From: a" + " " * 60_000 + "b;x",
        'From: "' + "\\" * 60_000,
        "Contact: " + "<sip:a@b>," * 6_000,
        "To: <sip:" + "a" * 60_000 + ">",
        "To: <sip:" + "%41" * 20_000 + "@" + "a." * 10_000 + ">",
        "Via: SIP/2.0/UDP " + "a-" * 30_000,
        "X-" + "token" * 12_000,
        "X: " + "sip:a:" * 10_000,
        "X: " + ";" * 60_000,
        "\r\n " * 20_000,
    ],
    ids=range(10),
)
def test_no_input_takes_long(evil: str) -> None:
    """No regular expression here backtracks more than linearly."""
    data = f"OPTIONS sip:b@y SIP/2.0\r\n{evil}\r\n{HEAD}\r\n".encode()[:MAX_MESSAGE]
    started = time.process_time()
    try:
        message = parse_message(data)
        _ = (message.contacts, message.vias)
    except MalformedMessage:
        pass
    redact(data)
    assert time.process_time() - started < 1.0


# -- what is written ----------------------------------------------------------------------------------------------


def test_serialize_is_strict() -> None:
    """§7, §20.14: CRLF, canonical names, and the Content-Length of the body, whatever a header said."""
    message = parse_request("l: 3", "subject : hi", body="four")
    message.body = b"12345"
    assert serialize(message) == (
        f"OPTIONS sip:b@y SIP/2.0\r\n{HEAD}Subject: hi\r\nContent-Length: 5\r\n\r\n12345".encode()
    )


@pytest.mark.parametrize("value", ["a\r\nX: b", "a\nb", "a\rb", "a\0b"])
@pytest.mark.parametrize("where", ["value", "name", "reason", "uri"])
def test_a_line_cannot_be_smuggled_in(value: str, where: str) -> None:
    """§7.3.1."""
    message: Request | Response = parse_request()
    match where:
        case "value":
            message.headers.add("X", value)
        case "name":
            message.headers.add(value, "x")
        case "reason":
            message = make_response(parse_request(), 200, value)
        case _:
            message = Request("OPTIONS", Uri("sip", value, "h"), message.headers)
    with pytest.raises(ValueError, match="CR, LF or NUL"):
        serialize(message)


def test_sipmessage_reads_what_is_written() -> None:
    """An independent parser, and a strict one, sees the same values."""
    request = make_request(
        "INVITE",
        Uri.parse("sip:bob@example.com"),
        from_='"Alice" <sip:alice@example.org>;tag=a1',
        to="<sip:bob@example.com>",
        call_id="call-1",
        cseq=17,
        routes=("<sip:proxy.example.com;lr>", "<sip:edge.example.com;lr>"),
        contact="<sip:alice@192.0.2.1:5060>",
        headers=(("Supported", "replaces, timer"), ("Expires", "60")),
        body=b"v=0\r\n",
        content_type="application/sdp",
        user_agent="test/1",
    )
    request.headers.prepend("Via", "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKx;rport")
    for ours in (request, make_response(request, 183, to_tag="b2", contact="<sip:bob@192.0.2.2>")):
        theirs = sipmessage.Message.parse(serialize(ours))
        assert theirs.via[0].host == ours.via.host
        assert theirs.from_address.parameters["tag"] == ours.from_tag
        assert theirs.from_address.name == ours.from_.display_name
        assert str(theirs.to_address.uri) == str(ours.to.uri)
        assert theirs.call_id == ours.call_id
        assert (theirs.cseq.sequence, theirs.cseq.method) == (17, "INVITE")
        assert [str(contact.uri) for contact in theirs.contact] == [str(item.uri) for item in ours.contacts]
        assert theirs.content_length == len(ours.body)
        assert theirs.body == ours.body
    parsed = sipmessage.Message.parse(serialize(request))
    assert [str(route.uri) for route in parsed.route] == [str(route.uri) for route in request.routes]
    assert parsed.supported == list(request.list_of("Supported"))
    assert parsed.expires == request.expires
    assert str(parsed.content_type) == request.content_type


# -- Headers ------------------------------------------------------------------------------------------------------


def test_headers_are_an_ordered_multi_map() -> None:
    """§7.3.1: order within a name counts, case does not."""
    headers = Headers()
    headers.add("X-A", "1")
    headers.add("v", "second")
    headers.add("x-a", "2")
    headers.prepend("Via", "first")
    assert headers.items() == [("Via", "first"), ("X-A", "1"), ("Via", "second"), ("x-a", "2")]
    assert headers.get("VIA") == "first"
    assert headers.get("nothing") is None
    assert headers.get("nothing", "x") == "x"
    assert headers.get_all("X-a") == ["1", "2"]
    assert "v" in headers
    assert 5 not in headers
    headers.set("X-A", "3")
    headers.set("Route", "r")
    assert headers.items() == [("Via", "first"), ("X-A", "3"), ("Via", "second"), ("Route", "r")]
    headers.remove("via")
    assert len(headers) == 2


def test_a_copy_is_independent() -> None:
    """Retransmissions with credentials must not change the request that was sent."""
    message = parse_request("Contact: <sip:a@h>")
    clone = message.copy()
    clone.headers.set("CSeq", "2 OPTIONS")
    clone.headers.remove("Contact")
    assert (message.cseq.number, clone.cseq.number) == (1, 2)
    assert message.contact is not None
    assert clone.contact is None
    response = make_response(message, 200)
    twin = response.copy()
    twin.headers.add("X", "1")
    assert "X" not in response.headers


def test_typed_values_follow_their_header() -> None:
    """A cached value is dropped when its header changes."""
    message = parse_request("Contact: <sip:a@h>")
    assert (message.via.host, message.to_tag, len(message.contacts)) == ("pbx1", "", 1)
    message.headers.prepend("Via", "SIP/2.0/UDP top")
    message.headers.set("To", "<sip:b@y>;tag=9")
    message.headers.add("Contact", "<sip:b@h>")
    message.headers.remove("From")
    assert (message.via.host, message.to_tag, len(message.contacts)) == ("top", "9", 2)
    with pytest.raises(ValueError, match="From is missing"):
        _ = message.from_
    message.stamp_via(received="192.0.2.7", rport=None)
    assert message.via.received == "192.0.2.7"
    message.stamp_via(received=None, rport=None)
    assert message.via_count == 2


# -- secrets ------------------------------------------------------------------------------------------------------

SECRET = (
    b"INVITE sip:bob:hunter2@example.com SIP/2.0\r\n"
    b'Authorization: Digest username="alice", realm="r",\r\n response="hunter2", cnonce="hunter2"\r\n'
    b'proxy-authorization : Digest response="hunter2"\r\n'
    b"X-Telnyx-Token: hunter2\r\nX-API-Key:hunter2\r\n"
    b"Contact: <sip:alice:hunter2@192.0.2.1;x=y>\r\n\r\n"
    b"v=0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:hunter2|2^20\r\na=sendrecv\r\n"
)


def test_redact_hides_secrets_and_nothing_else() -> None:
    """A trace may be shown to anybody."""
    text = redact(SECRET)
    assert "hunter2" not in text
    assert text.splitlines()[1] == "Authorization: Digest ***"
    assert "Contact: <sip:alice:***@192.0.2.1;x=y>" in text
    assert text.endswith("\n\nv=0\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:***\na=sendrecv\n")
    assert "hunter2" not in redact(SECRET.replace(b"\r\n", b"\n"))
    assert redact(b"\xff") == "\ufffd"


@pytest.mark.parametrize(
    "sdp",
    [
        b"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:hunter2|2^20|1:4;inline:hunter2|2^20|2:4 KDR=1",
        b"a=crypto:1 AES_CM_128_HMAC_SHA1_80\r\n inline:hunter2",
        b"s=-\r\n a = crypto : 1 AES_CM_128_HMAC_SHA1_80 inline:hunter2",
        b"v=0\ra=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:hunter2",
        b"A=CRYPTO:1 NEW_SUITE hunter2",
        b"a=crypto:hunter2",
        b"k=base64:hunter2",
        b"a=key-mgmt:mikey hunter2",
    ],
)
def test_redact_hides_keys_however_they_are_written(sdp: bytes) -> None:
    """RFC 4568, RFC 4567, RFC 4566 §5.12: the trace shows what a tolerant far end would take for a key, too."""
    assert "hunter2" not in redact(b"SIP/2.0 200 OK\r\n\r\n" + sdp + b"\r\na=sendrecv\r\n")


def test_repr_shows_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    """Messages end up in logs and tracebacks."""
    message = parse_request('Authorization: Digest response="hunter2"', first="OPTIONS sip:b:hunter2@y SIP/2.0")
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("test").debug("%r %s", message, message)
    assert "hunter2" not in caplog.text
    assert repr(message) == "<Request OPTIONS sip:b:***@y c1>"
    assert repr(make_response(message, 200)) == "<Response 200 OK c1>"


# -- properties ---------------------------------------------------------------------------------------------------


@given(st.binary(max_size=400))
@example(b"\xff\n")
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    """:func:`parse_message` raises MalformedMessage or nothing; so do the typed values afterwards."""
    start = b"OPTIONS sip:b@y SIP/2.0\r\n" + HEAD.encode()
    for candidate in (data, start + data, start.replace(b"c1", data), start.replace(b"pbx1", data)):
        try:
            message = parse_message(candidate)
        except MalformedMessage as error:
            if error.request is not None:
                serialize(make_response(error.request, error.status, to_tag="t"))
            continue
        _ = (message.vias, message.contacts, message.expires, message.content_type, message.to_tag, repr(message))
        assert parse_message(serialize(message)).headers.items()
        redact(candidate)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["X-One", "x-two", "Subject", "s", "Contact", "Route"]),
            st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), max_size=30),
        ),
        max_size=8,
    ),
    st.binary(max_size=50),
)
def test_what_was_written_is_read_again(lines: list[tuple[str, str]], body: bytes) -> None:
    """serialize and parse_message are inverse to each other on header values and body."""
    message = parse_request()
    for name, value in lines:
        message.headers.add(name, value.strip())
    message.body = body
    again = parse_message(serialize(message))
    assert [item for item in again.headers.items() if item[0] != "Content-Length"] == message.headers.items()
    assert again.body == body


def test_a_header_of_thousands_of_values_is_not_read_to_its_end() -> None:
    """RFC 3261 §7.3.1 sets no limit; what is beyond a thousand values is of nobody who calls."""
    message = parse_request("Contact: " + "<sip:a@b>," * 6000 + "<sip:c@d>", "Route: " + "<sip:p;lr>," * 3)
    assert len(message.contacts) == 1024
    assert len(message.routes) == 3
