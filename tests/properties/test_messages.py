"""Bytes and messages: RFC 3261 §7, §8.2.6, §18.3, RFC 5626 §4.4.1."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipcore.protocol.builder import make_response
from sipcore.protocol.framing import MAX_HEAD, FramingError, KeepAlive, StreamFramer
from sipcore.protocol.values import MalformedValue, NameAddr, Params, Uri, Via
from sipcore.protocol.wire import MAX_MESSAGE, MalformedMessage, Request, parse_message, serialize
from tests.properties.strategies import broken_messages, messages, uris

pytestmark = pytest.mark.long


def _kept(message_headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [item for item in message_headers if item[0] != "Content-Length"]


@given(messages())
def test_what_is_well_formed_is_read_and_written_the_same(data: bytes) -> None:
    """§7: reading, writing and reading again changes nothing; nor does writing once more."""
    message = parse_message(data)
    text = serialize(message)
    again = parse_message(text)
    assert type(again) is type(message)
    assert _kept(again.headers.items()) == _kept(message.headers.items())
    assert (again.body, again.cseq, again.call_id) == (message.body, message.cseq, message.call_id)
    assert (again.from_, again.to, again.vias) == (message.from_, message.to, message.vias)
    assert serialize(again) == text


@given(messages(), st.integers(100, 699), st.sampled_from(["", "tag"]))
def test_a_response_fits_its_request(data: bytes, status: int, tag: str) -> None:
    """§8.2.6.2: the same Via, From, Call-ID and CSeq; To with a tag, unless it is a 100."""
    request = parse_message(data)
    if not isinstance(request, Request):
        return
    response = parse_message(serialize(make_response(request, status, to_tag=tag)))
    for name in ("Via", "From", "Call-ID", "CSeq"):
        assert response.headers.get_all(name) == request.headers.get_all(name)
    assert response.to_tag == (request.to_tag or (tag if status > 100 else ""))


@given(broken_messages() | st.binary(max_size=300))
def test_bytes_are_a_message_or_refused(data: bytes) -> None:
    """Nothing but MalformedMessage escapes; what was read can be looked at and written; what was refused, answered."""
    try:
        message = parse_message(data)
    except MalformedMessage as error:
        refused, status = error.request, error.status
        if refused is not None:
            refused.stamp_via(received="192.0.2.1", rport=5060)
            answer = serialize(make_response(refused, status, to_tag="t"))
            assert answer.startswith((b"SIP/2.0 400 ", b"SIP/2.0 413 ", b"SIP/2.0 501 ", b"SIP/2.0 505 "))
        return
    _ = (message.vias, message.contacts, message.routes, message.record_routes, message.expires, message.max_forwards)
    _ = (message.content_type, message.list_of("Require"), message.from_tag, message.to_tag, repr(message))
    text = serialize(message)
    assert serialize(parse_message(text)) == text


@given(uris())
def test_uris_are_kept_as_written(text: str) -> None:
    """§19.1: exact, and the same as itself."""
    uri = Uri.parse(text)
    assert str(uri) == text
    assert uri.equivalent(Uri.parse(text))
    built = Uri.parse(str(uri.without_headers()))
    assert (built.host, built.port, built.user) == (uri.host, uri.port, uri.user)
    assert dict(built.parameters) == {name: value for name, value in uri.parameters.items() if name != "method"}


@given(st.text(max_size=60))
def test_values_are_understood_or_malformed(text: str) -> None:
    """Nothing but MalformedValue escapes; what was understood is printed as it came."""
    for kind in (Uri, NameAddr, Via):
        try:
            value = kind.parse(text)
        except MalformedValue:
            continue
        if kind is not Via:
            assert str(value) == text.strip()
    parameters = Params.parse(";" + text)
    assert str(parameters.with_(received="x")).endswith(";received=x")
    assert "received" not in Params.parse(str(parameters.with_(received="x"))).without("received")


_PIECES = st.lists(messages() | st.sampled_from([b"\r\n", b"\r\n\r\n"]), max_size=6)


@given(_PIECES, st.lists(st.integers(1, 200), max_size=30))
def test_it_does_not_matter_how_a_stream_arrives(pieces: list[bytes], sizes: list[int]) -> None:
    """RFC 3261 §18.3: whatever the segments, the messages are the same, keep-alives between them or not."""
    stream = b"".join(pieces)
    framer = StreamFramer()
    found: list[bytes | KeepAlive] = []
    start = 0
    for size in sizes:
        found += framer.feed(stream[start : start + size])
        start += size
    found += framer.feed(stream[start:])
    assert [item for item in found if isinstance(item, bytes)] == [one for one in pieces if one.strip(b"\r\n")]
    assert framer.pending == 0
    pings = sum(item is KeepAlive.PING for item in found)
    assert pings >= pieces.count(b"\r\n\r\n") - pieces.count(b"\r\n")


@given(st.lists(broken_messages() | st.binary(max_size=2000), max_size=8))
def test_a_framer_gives_up_or_holds_little(chunks: list[bytes]) -> None:
    """Nothing but FramingError escapes, and no more is held than one message may be long."""
    framer = StreamFramer()
    for chunk in chunks:
        try:
            framer.feed(chunk)
        except FramingError as error:
            head = error.head
            assert len(head) <= MAX_HEAD + 4
            return
        assert framer.pending <= max(MAX_MESSAGE, MAX_HEAD + len(chunk))
