"""Packets that hold more than the clock's 20 ms, or less: 10, 30, 40, 50 or 60 ms.

The clock makes a frame of 20 ms of every stream, whatever its packets hold: sources, people live, recordings and marks
know nothing of packets. Here the encoded frames of such a row collect until a packet is full. The unit is half a frame,
10 ms, since all packets are whole numbers of it:

- a packet of 40 or 60 ms is full at every second or third tick;
- one of 10, 30 or 50 ms at a tick or in the middle between two. At a tick the second half of the newest frame does not
  count yet, so that packets leave as far apart as they are long. Who sends in the middle is `MediaEngine.half_tick`.

Rows begin with some silence in their first packet, each row with another amount, so that as many packets go out at one
tick as at the next. What has collected while a stream is on hold, sends an event, or while a stalled loop leaves ticks
out, waits: a packet's timestamp follows from the tick at which it is full.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from rtp.bank import Column, Columns
from rtp.jitter import FRAME
from rtp.packet import HEADER_LENGTH
from rtp.packetizer import PACKET_BYTES, stamp_headers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from rtp.packetizer import Sending

__all__ = ["PLAIN", "PTIMES", "Packing", "collect", "full", "set_ptime", "take"]

PTIMES = range(10, 61, 10)
"""Milliseconds that a packet may hold."""

PLAIN = 2
"""Halves of a packet that is one frame: it goes out as it is, without any of this."""

HALF = FRAME // 2
_HALF = np.dtype(f"V{HALF}")
HALVES = 8
"""Those of the longest packet, and of another frame."""

ROW_BYTES = 576
"""60 ms, its header, and SRTP's tag; an odd number of cache lines, or rows would push each other out of the cache."""


class Packing(Columns):
    """What a row's packet under way holds; halves of a frame unless noted."""

    size: NDArray[np.int64]
    """Of each packet."""
    filled: NDArray[np.int64]
    """Collected."""
    payload: NDArray[np.uint8]
    """(rows, 640): what is collected."""
    packet: NDArray[np.uint8]
    """(rows, 576): a packet as it goes out, of rows whose packets are of another length or encrypted."""

    LAYOUT: ClassVar[Mapping[str, Column]] = {
        "size": Column(np.int64, (), PLAIN),
        "filled": Column(np.int64),
        "payload": Column(np.uint8, (HALVES * HALF,)),
        "packet": Column(np.uint8, (ROW_BYTES,)),
    }


def set_ptime(packing: Packing, sending: Sending, row: int, milliseconds: int, *, anew: bool) -> None:
    """How much a packet of the row holds, of `PTIMES`. What has collected is dropped where that is new, or where
    ``anew`` says that it was encoded otherwise."""
    size = milliseconds * 2 // 20
    if size == packing.size[row] and not anew:
        return
    packing.size[row] = size
    # Ticks in which a row fills packets in turn: those of an odd size take as many as they have halves.
    turn = row % size if size % 2 else 2 * (row % (size // 2))
    packing.filled[row] = turn if size != PLAIN else 0
    packing.payload.view(_HALF)[row] = sending.packet[row, HEADER_LENGTH:PACKET_BYTES].view(_HALF)[0]


def collect(packing: Packing, sending: Sending, rows: NDArray[np.int64]) -> None:
    """Takes the frame that each of the rows has at this tick."""
    frames = sending.packet[:, HEADER_LENGTH:PACKET_BYTES].view(_HALF)[rows]
    store, filled = packing.payload.view(_HALF), packing.filled[rows]
    store[rows, filled] = frames[:, 0]
    store[rows, filled + 1] = frames[:, 1]
    packing.filled[rows] = filled + 2


def full(packing: Packing, rows: NDArray[np.int64], *, middle: bool) -> NDArray[np.int64]:
    """Which of the rows have a packet to send: at a tick, or in the ``middle`` behind it."""
    size = packing.size[rows]
    ready = packing.filled[rows] if middle else packing.filled[rows] - size % 2
    return rows[ready >= size]


def take(packing: Packing, sending: Sending, rows: NDArray[np.int64], tick: int) -> NDArray[np.int64]:
    """Makes the packet of each of the rows, which are `full`, where ``tick`` is the newest one collected. Returns their
    lengths in bytes."""
    size, filled = packing.size[rows], packing.filled[rows]
    stamp_headers(sending, rows, (tick + 1) * FRAME - filled * HALF)
    packing.packet[rows, :HEADER_LENGTH] = sending.packet[rows, :HEADER_LENGTH]
    packing.filled[rows] = left = filled - size
    for halves in np.unique(size).tolist():
        members, octets = size == halves, halves * HALF
        packing.packet[rows[members], HEADER_LENGTH : HEADER_LENGTH + octets] = packing.payload[rows[members], :octets]
        more = rows[members & (left > 0)]
        packing.payload[more, :-octets] = packing.payload[more, octets:]
    return HEADER_LENGTH + size * HALF
