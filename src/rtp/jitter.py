"""The jitter ring: packets go in by RTP timestamp, one frame a tick comes out.

Each row has a ring of samples. ``play`` is the position the clock plays next; it advances by one frame a tick, unless
the delay is being changed. A packet's position follows from its timestamp, so loss, reordering and any packet length
come out right; packets are decoded on the way in, and `MISSING` marks what has not come. In rows whose codec remembers
what came before (`rtp.wideband`) the ring holds, in place of samples, which packet they are in: it is decoded on the
way out.

*Anchor*: the first packet of a source is put the delay (see `rtp.delay`) ahead of ``play``. A packet that comes after
its time makes the delay longer; where it may not be longer, and nothing is left to play, the packet is anchored anew:
the network stood still for a while, or timestamps did while the far end was on hold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from rtp.bank import Column, Columns
from rtp.g711 import DECODE
from rtp.packet import HEADER_LENGTH
from rtp.receive import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from rtp.delay import Delay
    from rtp.receive import Packets
    from rtp.statistics import Counters
    from rtp.wideband import Wideband

__all__ = ["FRAME", "MISSING", "RING", "JitterRing", "gather", "insert", "position_of", "take"]

FRAME = 160
"""Samples of a frame: 20 ms at 8,000 Hz."""

RING = 9600
"""Samples of a ring: 1.2 s, a multiple of every usual packet length, so that such packets never wrap."""

FRAMES = RING // FRAME

MISSING = -32768
"""A sample that has not come; G.711 decodes no code to it."""


KINDS = 16
"""More than there are."""


class JitterRing(Columns):
    """Positions are samples since the row was opened; int64, they do not wrap."""

    ring: NDArray[np.int16]
    """(rows, `RING`): the sample at a position is at that position modulo the length."""
    started: NDArray[np.bool_]
    """A packet of the present source was placed."""
    timestamp: NDArray[np.int64]
    """RTP timestamp of the newest packet."""
    position: NDArray[np.int64]
    """Where its first sample was placed."""
    end: NDArray[np.int64]
    """One behind the last sample placed."""
    play: NDArray[np.int64]
    """The sample to be played next; a multiple of `FRAME`."""
    floor: NDArray[np.int64]
    """What is placed before this position is older than what was played; an anchor may set it ahead of ``play``."""
    quiet_until: NDArray[np.int64]
    """Nothing is missing before this position: the far end has not begun to send, or sends an event."""
    void: NDArray[np.int64]
    """Consecutive frames of which nothing had come, up to the last one played."""

    LAYOUT: ClassVar[Mapping[str, Column]] = {
        "ring": Column(np.int16, (RING,), MISSING),
        "started": Column(np.bool_),
        "timestamp": Column(np.int64),
        "position": Column(np.int64),
        "end": Column(np.int64),
        "play": Column(np.int64),
        "floor": Column(np.int64),
        "quiet_until": Column(np.int64),
        "void": Column(np.int64),
    }

    def windows(self, length: int) -> NDArray[np.int16]:
        """Every run of ``length`` samples of the flat memory of all rings, writable: ``[row * RING + start]``."""
        return np.ndarray((self.ring.size - length + 1, length), np.int16, self.ring, strides=(2, 2))


def position_of(ring: JitterRing, row: int, timestamp: int) -> int:
    """Where a timestamp of the present source lies; ``play`` when none has been placed."""
    if not ring.started[row]:
        return int(ring.play[row])
    return int(ring.position[row]) + ((timestamp - int(ring.timestamp[row]) + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)


def insert(
    ring: JitterRing,
    delay: Delay,
    counters: Counters,
    packets: Packets,
    forward: NDArray[np.bool_],
    waited: NDArray[np.int64] | int = 0,
    wideband: Wideband | None = None,
) -> None:
    """Decodes and places a round of audio packets.

    Args:
        packets: at most one a row, of kinds PCMU and PCMA; of any kind in rows of ``wideband``, which has them.
        forward: bool (n,), the packet has the highest sequence number so far.
        waited: samples that each lay in its socket because the clock was held up.
        wideband: the rows that are decoded on the way out.
    """
    rows, lengths = packets.rows, packets.lengths
    play = ring.play[rows]
    position = ring.position[rows] + (packets.timestamp - ring.timestamp[rows]).astype(np.int32)
    started = ring.started[rows]
    beyond = position + lengths > play + (RING - FRAME)
    anchor = ~started | (forward & beyond)
    behind = started & (position < play)
    if np.count_nonzero(behind):
        empty = ring.end[rows] <= play
        behind[behind] = ~delay.make_room(ring, rows[behind], (position - play)[behind])
        anchor |= behind & empty & forward
        play = ring.play[rows]
    if np.count_nonzero(anchor):
        position = _anchor(ring, delay, rows, anchor, anchor & beyond & started, position)
        beyond &= ~anchor
    if np.count_nonzero(forward) == len(forward):
        ring.timestamp[rows] = packets.timestamp
        ring.position[rows] = position
    else:
        newest = forward | anchor
        ring.timestamp[rows[newest]] = packets.timestamp[newest]
        ring.position[rows[newest]] = position[newest]
    end = position + lengths
    floor = np.maximum(play, ring.floor[rows])
    late = end <= floor
    unplaced = late | beyond | (lengths <= 0)
    if np.count_nonzero(unplaced):
        counters.late[rows[late & (lengths > 0)]] += 1
        counters.discarded[rows[beyond]] += 1
        keep = ~unplaced
        packets, position, end, play, floor = packets.where(keep), position[keep], end[keep], play[keep], floor[keep]
        rows = packets.rows
        waited = waited if isinstance(waited, int) else waited[keep]
        if not len(rows):
            return
    ring.end[rows] = np.maximum(ring.end[rows], end)
    delay.measure(rows, position - play - waited)
    if wideband is not None:
        coded = wideband.coded[packets.rows]
        for index in np.flatnonzero(coded).tolist():
            _place_coded(ring, wideband, packets, index, int(position[index]), int(floor[index]))
        packets, position, floor = packets.where(~coded), position[~coded], floor[~coded]
        if not len(packets):
            return
    _place(ring, packets, position, floor)


def _anchor(
    ring: JitterRing,
    delay: Delay,
    rows: NDArray[np.int64],
    anchor: NDArray[np.bool_],
    flush: NDArray[np.bool_],
    position: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Gives the packets of ``anchor`` the position that the delay wants. Returns all positions."""
    for row in rows[flush]:
        ring.ring[row] = MISSING
        ring.end[row] = ring.play[row]
    moved, play = rows[anchor], ring.play[rows[anchor]]
    target = play + delay.anchored(moved)
    first = ~ring.started[moved]
    played_until = ring.end[moved] + target - position[anchor]
    ring.floor[moved] = np.where(first, play, np.minimum(played_until, target))
    ring.quiet_until[moved[first]] = target[first]
    ring.started[moved] = True
    position = position.copy()
    position[anchor] = target
    return position


def _place(ring: JitterRing, packets: Packets, position: NDArray[np.int64], play: NDArray[np.int64]) -> None:
    start = position % RING
    whole = (position >= play) & (start + packets.lengths <= RING)
    keys = packets.lengths * KINDS + packets.kind
    if np.count_nonzero(whole & (keys == keys[0])) == len(keys):
        groups: list[tuple[int, slice | NDArray[np.intp]]] = [(int(keys[0]), slice(None))]
    else:
        for index in np.flatnonzero(~whole):
            _place_one(ring, packets, int(index), int(position[index]), int(play[index]))
        groups = [(int(key), np.flatnonzero(whole & (keys == key))) for key in np.unique(keys[whole])]
    for key, members in groups:
        length, law = key // KINDS, key % KINDS - Kind.PCMU
        codes = packets.data[packets.slots[members], HEADER_LENGTH : HEADER_LENGTH + length]
        ring.windows(length)[packets.rows[members] * RING + start[members]] = DECODE[law].take(codes)


def _place_one(ring: JitterRing, packets: Packets, index: int, position: int, play: int) -> None:
    """A packet that wraps, or whose beginning is late already."""
    codes = np.frombuffer(packets.payload(index), np.uint8)
    samples = DECODE[packets.kind[index] - Kind.PCMU][codes][max(0, play - position) :]
    places = (max(position, play) + np.arange(len(samples))) % RING
    ring.ring[packets.rows[index], places] = samples


def _place_coded(ring: JitterRing, wideband: Wideband, packets: Packets, index: int, position: int, play: int) -> None:
    row, start, end = int(packets.rows[index]), max(position, play), position + int(packets.lengths[index])
    token = wideband.keep(row, position)
    if start % RING + end - start <= RING:
        ring.ring[row, start % RING : start % RING + end - start] = token
    else:
        ring.ring[row, np.arange(start, end) % RING] = token


def gather(ring: JitterRing, rows: NDArray[np.int64]) -> NDArray[np.int16]:
    """Takes the frame that is due out of each row, int16 (n, `FRAME`), with `MISSING` where nothing came."""
    play = ring.play[rows]
    places = rows * FRAMES + play // FRAME % FRAMES
    frames = ring.ring.reshape(-1, FRAME)
    due: NDArray[np.int16] = frames.take(places, axis=0)
    frames[places] = MISSING
    ring.play[rows] = play + FRAME
    return due


def take(ring: JitterRing, rows: NDArray[np.int64], length: int = FRAME) -> NDArray[np.int16]:
    """A copy of the first ``length`` samples of the frame that is due next in each row."""
    beginnings: NDArray[np.int16] = ring.windows(length)[rows * RING + ring.play[rows] % RING]
    return beginnings
