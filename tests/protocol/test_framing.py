"""Messages in a byte stream (RFC 3261 §18.3) and keep-alives (RFC 5626 §4.4.1)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipcore.protocol.framing import FramingError, KeepAlive, StreamFramer

ONE = b"OPTIONS sip:a SIP/2.0\r\nContent-Length: 4\r\nX: 1\r\n\r\nbody"
TWO = b"SIP/2.0 200 OK\r\nl : 0 \r\n\r\n"
THREE = b"BYE sip:a SIP/2.0\r\nX-Content-Length: 9\r\ncontent-length:2\r\n\r\n\r\n"


def test_messages_are_cut_by_content_length() -> None:
    """§18.3: also when the body looks like the end of a message."""
    framer = StreamFramer()
    assert framer.feed(ONE + TWO + THREE) == [ONE, TWO, THREE]
    assert framer.pending == 0


@given(st.lists(st.integers(1, 30), max_size=20))
def test_it_does_not_matter_how_the_bytes_arrive(sizes: list[int]) -> None:
    """TCP has no message boundaries."""
    stream = ONE + b"\r\n\r\n" + TWO + THREE + ONE
    framer = StreamFramer()
    found: list[bytes | KeepAlive] = []
    for size in sizes:
        found += framer.feed(stream[:size])
        stream = stream[size:]
    found += framer.feed(stream)
    assert [item for item in found if isinstance(item, bytes)] == [ONE, TWO, THREE, ONE]
    assert KeepAlive.PING in found


def test_byte_by_byte() -> None:
    """Nothing comes out before its last byte is there."""
    framer = StreamFramer()
    for byte in ONE[:-1]:
        assert framer.feed(bytes([byte])) == []
    assert framer.pending == len(ONE) - 1
    assert framer.feed(ONE[-1:]) == [ONE]


def test_ping_and_pong() -> None:
    """RFC 5626 §4.4.1: two CRLFs ask, one answers."""
    framer = StreamFramer()
    assert framer.feed(b"\r\n\r\n") == [KeepAlive.PING]
    assert framer.feed(b"\r\n") == [KeepAlive.PONG]
    assert framer.feed(ONE) == [ONE]
    assert framer.feed(b"\r\n") == [KeepAlive.PONG]
    assert framer.feed(b"\r\n\r\n" + ONE + b"\r\n" + TWO) == [
        KeepAlive.PING,
        KeepAlive.PONG,
        ONE,
        KeepAlive.PONG,
        TWO,
    ]
    assert framer.pending == 0


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_ping_in_two_segments_is_answered(cut: int) -> None:
    """RFC 5626 §4.4.1: a peer closes a connection whose ping nobody answers."""
    framer = StreamFramer()
    ping = b"\r\n\r\n"
    assert KeepAlive.PING in framer.feed(ping[:cut]) + framer.feed(ping[cut:])
    assert framer.pending == 0


def test_a_pong_before_a_message_in_pieces_is_no_half_ping() -> None:
    """RFC 5626 §4.4.1: whatever comes between ends the pair."""
    framer = StreamFramer()
    assert framer.feed(b"\r\n") == [KeepAlive.PONG]
    assert framer.feed(ONE[:10]) == []
    assert framer.feed(ONE[10:] + b"\r\n") == [ONE, KeepAlive.PONG]


@pytest.mark.parametrize(
    "data",
    [
        b"OPTIONS sip:a SIP/2.0\r\nX: 1\r\n\r\n",
        b"OPTIONS sip:a SIP/2.0\r\nContent-Length: x\r\n\r\n",
        b"OPTIONS sip:a SIP/2.0\r\nContent-Length: -1\r\n\r\n",
        b"OPTIONS sip:a SIP/2.0\r\nContent-Length: 70000\r\n\r\n",
        b"OPTIONS sip:a SIP/2.0\r\nContent-Length: 9999999999999999\r\n\r\n",
        b"X" * 40_000,
        b"OPTIONS sip:a SIP/2.0\r\nX: " + b"y" * 40_000 + b"\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_a_stream_that_cannot_be_cut_is_given_up(data: bytes) -> None:
    """§18.3, §20.14: without a usable length, or beyond the limits, the rest of the stream means nothing."""
    with pytest.raises(FramingError):
        StreamFramer().feed(data)


def test_what_came_before_the_break_counts() -> None:
    """A message does not fall with the garbage that happens to arrive behind it."""
    framer = StreamFramer()
    with pytest.raises(FramingError) as caught:
        framer.feed(ONE + b"\r\n\r\n" + b"BYE sip:a SIP/2.0\r\nContent-Length: x\r\n\r\n")
    assert caught.value.complete == [ONE, KeepAlive.PING]
    assert caught.value.head == b"BYE sip:a SIP/2.0\r\nContent-Length: x\r\n\r\n"


@pytest.mark.parametrize(
    "lines", [b"l: 4\r\nContent-Length: 5\r\n", b"l: 4\r\nl:\r\n 40\r\n", b"l: 4, 4\r\n", b"l:\r\n"]
)
def test_lengths_that_differ_are_no_length(lines: bytes) -> None:
    """RFC 4475 §3.3.9."""
    with pytest.raises(FramingError) as caught:
        StreamFramer().feed(b"BYE sip:a SIP/2.0\r\n" + lines + b"\r\nbody")
    assert caught.value.head.endswith(lines + b"\r\n")


@pytest.mark.parametrize("lines", [b"l: 4\r\nContent-Length: 4\r\n", b"Content-Length\t:\r\n \t 4\r\n", b"L:04 \r\n"])
def test_one_length_however_it_is_written(lines: bytes) -> None:
    """RFC 3261 §7.3.1: folded, compact, repeated."""
    message = b"BYE sip:a SIP/2.0\r\n" + lines + b"X: Content-Length: 9\r\n\r\nbody"
    assert StreamFramer().feed(message + b"\r\n") == [message, KeepAlive.PONG]
