"""Outgoing packets (RFC 3550 §5.1, RFC 3551 §4.1)."""

from __future__ import annotations

import random
import struct

import numpy as np
import pytest

from rtp.g711 import SILENCE, Law, encode
from rtp.jitter import FRAME
from rtp.packetizer import PACKET_BYTES, Sending, begin, encode_frames, event_packet, set_codec, silence, write_headers
from tests.rtp.kit import tone

Header = tuple[int, int, int, int, int]


def sending(count: int = 2, *, seed: int = 7) -> Sending:
    columns = Sending(count)
    rng = random.Random(seed)
    for row in range(count):
        begin(columns, row, rng)
        set_codec(columns, row, Law.PCMU, 0)
    return columns


def header(columns: Sending, row: int) -> Header:
    """First byte, second byte, sequence, timestamp, SSRC."""
    unpacked: Header = struct.unpack("!BBHII", columns.packet[row, :12].tobytes())
    return unpacked


def test_numbers_begin_at_random() -> None:
    """§5.1: sequence number and timestamp SHOULD be random; §8.1: so must be the SSRC."""
    columns = sending(64)
    for numbers in (columns.sequence, columns.timestamp, columns.ssrc):
        assert len(set(numbers.tolist())) > 60


def test_a_header() -> None:
    columns = sending()
    start, base, ssrc = int(columns.sequence[0]), int(columns.timestamp[0]), int(columns.ssrc[0])
    write_headers(columns, np.array([0]), 1)
    assert header(columns, 0) == (0x80, 0x80, (start + 1) & 0xFFFF, (base + FRAME) & 0xFFFFFFFF, ssrc)
    write_headers(columns, np.array([0]), 2)
    assert header(columns, 0) == (0x80, 0x00, (start + 2) & 0xFFFF, (base + 2 * FRAME) & 0xFFFFFFFF, ssrc)


def test_only_the_first_packet_of_a_talkspurt_has_the_marker() -> None:
    """RFC 3551 §4.1."""
    columns = sending()
    markers = []
    for tick in range(1, 6):
        if tick == 4:
            columns.marker[0] = True  # nothing was sent at tick 3
        write_headers(columns, np.array([0]), tick)
        markers.append(header(columns, 0)[1] >> 7)
    assert markers == [1, 0, 0, 1, 0]


def test_sequence_and_timestamp_wrap() -> None:
    columns = sending()
    columns.sequence[0], columns.timestamp[0] = 0xFFFF, 0xFFFFFFFF
    write_headers(columns, np.array([0]), 1)
    assert header(columns, 0)[2:4] == (0, FRAME - 1)


@pytest.mark.parametrize("tick", [2**25, 2**40])
def test_the_clock_may_run_for_years(tick: int) -> None:
    columns = sending()
    base = int(columns.timestamp[0])
    write_headers(columns, np.array([0]), tick)
    assert header(columns, 0)[3] == (base + tick * FRAME) % 2**32


def test_frames_are_encoded_each_by_its_rows_law() -> None:
    columns = sending(3)
    set_codec(columns, 1, Law.PCMA, 8)
    frames = np.stack([tone(FRAME), tone(FRAME), tone(FRAME, hertz=700.0)])
    encode_frames(columns, np.array([0, 1, 2]), frames)
    for row, law in enumerate((Law.PCMU, Law.PCMA, Law.PCMU)):
        assert np.array_equal(columns.packet[row, 12:PACKET_BYTES], encode(frames[row], law))
    write_headers(columns, np.array([0, 1, 2]), 1)
    assert [header(columns, row)[1] & 0x7F for row in range(3)] == [0, 8, 0]


@pytest.mark.parametrize("law", Law)
def test_silence_is_the_laws_own(law: Law) -> None:
    columns = sending()
    set_codec(columns, 0, law, law)
    encode_frames(columns, np.array([0]), tone(FRAME)[None, :])
    silence(columns, np.array([0]))
    assert (columns.packet[0, 12:PACKET_BYTES] == SILENCE[law]).all()


def test_a_muted_row_sends_silence() -> None:
    columns = sending()
    columns.muted[1] = True
    frames = np.stack([tone(FRAME), tone(FRAME)])
    encode_frames(columns, np.array([0, 1]), frames)
    assert np.array_equal(columns.packet[0, 12:PACKET_BYTES], encode(frames[0], Law.PCMU))
    assert (columns.packet[1, 12:PACKET_BYTES] == 0xFF).all()


def test_another_codec_goes_on_with_the_numbers() -> None:
    """RFC 3550 §5.1: a source may change its payload type during a session."""
    columns = sending()
    write_headers(columns, np.array([0]), 1)
    before = header(columns, 0)
    set_codec(columns, 0, Law.PCMA, 8)
    write_headers(columns, np.array([0]), 2)
    after = header(columns, 0)
    assert after[2] == (before[2] + 1) & 0xFFFF
    assert after[3] == (before[3] + FRAME) & 0xFFFFFFFF
    assert after[4] == before[4]


def test_an_event_packet_takes_the_next_number_and_its_events_timestamp() -> None:
    columns = sending()
    write_headers(columns, np.array([0]), 1)
    before = header(columns, 0)
    packet = event_packet(columns, 0, 2, 101, b"abcd", marker=True)
    first, second, sequence, timestamp, ssrc = struct.unpack_from("!BBHII", packet)
    assert (first, second, packet[12:]) == (0x80, 0x80 | 101, b"abcd")
    assert sequence == (before[2] + 1) & 0xFFFF
    assert timestamp == (before[3] + FRAME) & 0xFFFFFFFF
    assert ssrc == before[4]
    write_headers(columns, np.array([0]), 3)
    assert header(columns, 0)[2] == (before[2] + 2) & 0xFFFF
