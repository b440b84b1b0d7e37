"""Outgoing packets by row: headers as columns, payloads by table (RFC 3550 §5.1, RFC 3551 §4.1).

Sequence number, timestamp and SSRC begin at random. The sequence number counts packets; the timestamp follows the
clock, whether a packet was sent or not. The marker is set on the first packet and on the first after ticks in which
nothing was sent.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from rtp.bank import Column, Columns
from rtp.g711 import ENCODE, SILENCE, Law
from rtp.jitter import FRAME
from rtp.packet import HEADER_LENGTH

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = [
    "PACKET_BYTES",
    "Sending",
    "begin",
    "encode_frames",
    "event_packet",
    "set_codec",
    "silence",
    "stamp_headers",
    "write_headers",
]

PACKET_BYTES = HEADER_LENGTH + FRAME
"""Bytes of an audio packet."""

ROW_BYTES = 192
VERSION = 0x80


class Sending(Columns):
    """What a row sends with."""

    packet: NDArray[np.uint8]
    """(rows, 192): the packet as it goes out."""
    law: NDArray[np.int64]
    """`Law`."""
    payload_type: NDArray[np.uint8]
    sequence: NDArray[np.uint16]
    """Of the packet sent last."""
    timestamp: NDArray[np.uint32]
    """At tick 0 of the clock."""
    ssrc: NDArray[np.uint32]
    marker: NDArray[np.bool_]
    """The next packet begins a talkspurt."""
    muted: NDArray[np.bool_]
    silent: NDArray[np.bool_]
    """The payload holds silence."""

    LAYOUT: ClassVar[Mapping[str, Column]] = {
        "packet": Column(np.uint8, (ROW_BYTES,)),
        "law": Column(np.int64),
        "payload_type": Column(np.uint8),
        "sequence": Column(np.uint16),
        "timestamp": Column(np.uint32),
        "ssrc": Column(np.uint32),
        "marker": Column(np.bool_),
        "muted": Column(np.bool_),
        "silent": Column(np.bool_),
    }


def begin(sending: Sending, row: int, rng: random.Random) -> None:
    """A new stream: random first sequence number, timestamp and SSRC (RFC 3550 §5.1, §8.1)."""
    sending.sequence[row] = rng.getrandbits(16)
    sending.timestamp[row] = rng.getrandbits(32)
    sending.ssrc[row] = rng.getrandbits(32)
    sending.marker[row] = True
    sending.packet[row, 0] = VERSION
    sending.packet.view(">u4")[row, 2] = sending.ssrc[row]


def set_codec(sending: Sending, row: int, law: Law, payload_type: int) -> None:
    """What the row's next packet is encoded with; numbering goes on."""
    sending.law[row] = law
    sending.payload_type[row] = payload_type
    sending.packet[row, HEADER_LENGTH:PACKET_BYTES] = SILENCE[law]
    sending.silent[row] = True


def silence(sending: Sending, rows: NDArray[np.int64]) -> None:
    """The payload of these rows becomes the law's silence."""
    loud = rows[~sending.silent[rows]]
    if len(loud):
        codes = np.asarray(SILENCE, np.uint8)[sending.law[loud]]
        sending.packet[loud, HEADER_LENGTH:PACKET_BYTES] = codes[:, None]
        sending.silent[loud] = True


def encode_frames(sending: Sending, rows: NDArray[np.int64], frames: NDArray[np.int16]) -> None:
    """Encodes int16 (n, `FRAME`) into the payloads of the rows; a muted row's becomes silence."""
    muted = sending.muted[rows]
    if np.count_nonzero(muted):
        silence(sending, rows[muted])
        rows, frames = rows[~muted], frames[~muted]
    sending.silent[rows] = False
    samples = frames.view(np.uint16)
    laws = sending.law[rows]
    for law in Law:
        members = laws == law
        count = np.count_nonzero(members)
        if count == len(rows):
            sending.packet[rows, HEADER_LENGTH:PACKET_BYTES] = ENCODE[law].take(samples)
            break
        if count:
            sending.packet[rows[members], HEADER_LENGTH:PACKET_BYTES] = ENCODE[law].take(samples[members])


def write_headers(sending: Sending, rows: NDArray[np.int64], tick: int) -> None:
    """The headers of the packets that go out at this tick of the clock."""
    _write_headers(sending, rows, np.uint32(tick * FRAME & 0xFFFFFFFF))


def stamp_headers(sending: Sending, rows: NDArray[np.int64], samples: NDArray[np.int64]) -> None:
    """The same, where packets do not begin with the tick: ``samples`` counts from tick 0 to where each begins."""
    _write_headers(sending, rows, samples.astype(np.uint32))


def _write_headers(sending: Sending, rows: NDArray[np.int64], since: NDArray[np.uint32] | np.uint32) -> None:
    sequence = sending.sequence[rows] + np.uint16(1)
    sending.sequence[rows] = sequence
    sending.packet.view(">u2")[rows, 1] = sequence
    sending.packet.view(">u4")[rows, 1] = sending.timestamp[rows] + since
    sending.packet[rows, 1] = sending.payload_type[rows] | (sending.marker[rows] * np.uint8(0x80))
    sending.marker[rows] = False


def event_packet(sending: Sending, row: int, tick: int, payload_type: int, payload: bytes, *, marker: bool) -> bytes:
    """A whole packet that is no audio, with the row's next sequence number and the timestamp of tick ``tick``."""
    sequence = (int(sending.sequence[row]) + 1) & 0xFFFF
    sending.sequence[row] = sequence
    timestamp = (int(sending.timestamp[row]) + tick * FRAME) & 0xFFFFFFFF
    second = payload_type | (0x80 if marker else 0)
    return struct.pack("!BBHII", VERSION, second, sequence, timestamp, int(sending.ssrc[row])) + payload
