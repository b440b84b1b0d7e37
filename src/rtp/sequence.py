"""What sequence numbers and arrival times tell (RFC 3550 §6.4.1, §A.1, §A.3, §A.8); state by row."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from rtp.bank import Column, Columns
from rtp.receive import Kind
from rtp.statistics import HISTOGRAM_BINS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from rtp.jitter import JitterRing
    from rtp.receive import Packets
    from rtp.statistics import Counters

__all__ = ["Reception", "follow", "lost", "measure_arrivals"]

MAX_DROPOUT = 3000
MAX_MISORDER = 100
SEEN = 128
"""How many sequence numbers back a duplicate is known as one; more than `MAX_MISORDER`."""

OLD_SOURCE_SECONDS = 1.0
"""How long after a change of SSRC packets of the old one are dropped, rather than taken for another change."""

OUTLIER_SECONDS = 3.0
"""A transit time that changed by more than this is a jump of a clock or of timestamps, and no jitter."""

CYCLE = 1 << 16


class Reception(Columns):
    """What is known of a row's source."""

    ssrc: NDArray[np.int64]
    """-1 before the first packet."""
    old_ssrc: NDArray[np.int64]
    changed: NDArray[np.float64]
    """Arrival time of the first packet of ``ssrc``."""
    sequence: NDArray[np.int64]
    """The highest, with its cycles."""
    base: NDArray[np.int64]
    """The first."""
    expected_before: NDArray[np.int64]
    """Packets expected of earlier sources and before restarts."""
    distinct: NDArray[np.int64]
    """Packets received, duplicates left out."""
    seen: NDArray[np.int64]
    """(rows, `SEEN`): the last extended sequence number with this remainder."""
    arrival: NDArray[np.float64]
    """Of the last audio packet; 0 before."""
    arrival_timestamp: NDArray[np.int64]
    jitter: NDArray[np.float64]
    """Seconds."""
    histogram: NDArray[np.uint32]
    """(rows, 101): inter-arrival times in ms."""

    LAYOUT: ClassVar[Mapping[str, Column]] = {
        "ssrc": Column(np.int64, (), -1),
        "old_ssrc": Column(np.int64, (), -1),
        "changed": Column(np.float64),
        "sequence": Column(np.int64),
        "base": Column(np.int64),
        "expected_before": Column(np.int64),
        "distinct": Column(np.int64),
        "seen": Column(np.int64, (SEEN,), -1),
        "arrival": Column(np.float64),
        "arrival_timestamp": Column(np.int64),
        "jitter": Column(np.float64),
        "histogram": Column(np.uint32, (HISTOGRAM_BINS,)),
    }


def follow(
    reception: Reception, ring: JitterRing, counters: Counters, packets: Packets
) -> tuple[Packets, NDArray[np.bool_]]:
    """Places a round of packets (at most one a row) in their sequences.

    Returns:
        The packets that are no duplicates nor an old source's, and bool (n,): has the highest number so far.
    """
    counters.packets_received[packets.rows] += 1
    changed = reception.ssrc[packets.rows] != packets.ssrc
    if np.count_nonzero(changed):
        keep = np.ones(len(packets), np.bool_)
        for index in np.flatnonzero(changed).tolist():
            keep[index] = _change_source(reception, ring, counters, packets, index)
        packets = packets.where(keep)
    rows = packets.rows
    highest = reception.sequence[rows]
    step = (packets.sequence - highest).astype(np.int16)  # the shorter way round
    wild = (step > MAX_DROPOUT) | (step < -MAX_MISORDER)
    if np.count_nonzero(wild):
        for index in np.flatnonzero(wild).tolist():
            _restart(reception, int(rows[index]), int(packets.sequence[index]))
        highest = reception.sequence[rows]
        step[wild] = 1
    extended = highest + step
    seen, places = reception.seen.reshape(-1), rows * SEEN + extended % SEEN
    duplicate = seen.take(places) == extended
    if np.count_nonzero(duplicate):
        counters.duplicates[rows[duplicate]] += 1
        fresh = ~duplicate
        packets, highest, step = packets.where(fresh), highest[fresh], step[fresh]
        rows, extended, places = packets.rows, extended[fresh], places[fresh]
    seen[places] = extended
    reception.distinct[rows] += 1
    forward = step > 0
    if np.count_nonzero(forward) < len(forward):
        counters.reordered[rows[~forward]] += 1
    reception.sequence[rows] = np.maximum(highest, extended)
    return packets, forward


def _change_source(reception: Reception, ring: JitterRing, counters: Counters, packets: Packets, index: int) -> bool:
    """Takes a new SSRC over (RFC 3550 §8); False for a straggler of the one before."""
    row, ssrc, arrival = int(packets.rows[index]), int(packets.ssrc[index]), float(packets.arrivals[index])
    if ssrc == reception.old_ssrc[row] and arrival - reception.changed[row] < OLD_SOURCE_SECONDS:
        counters.late[row] += 1
        return False
    reception.old_ssrc[row] = reception.ssrc[row]
    first = reception.ssrc[row] < 0
    reception.ssrc[row] = ssrc
    reception.changed[row] = arrival
    reception.arrival[row] = 0.0
    if not first:
        reception.expected_before[row] += reception.sequence[row] - reception.base[row] + 1
    _begin(reception, row, int(packets.sequence[index]))
    ring.started[row] = False
    return True


def _restart(reception: Reception, row: int, sequence: int) -> None:
    """The far end jumped in its numbering: counting begins anew, what was lost before stays lost."""
    reception.expected_before[row] += reception.sequence[row] - reception.base[row] + 1
    _begin(reception, row, sequence)


def _begin(reception: Reception, row: int, sequence: int) -> None:
    reception.seen[row] = -1
    reception.base[row] = CYCLE + sequence
    reception.sequence[row] = CYCLE + sequence - 1


def measure_arrivals(reception: Reception, packets: Packets, rate: int) -> None:
    """Jitter (§A.8) and inter-arrival times of a round of audio packets."""
    rows = packets.rows
    before = reception.arrival[rows]
    elapsed = packets.arrivals - before
    step = (packets.timestamp - reception.arrival_timestamp[rows]).astype(np.int32)
    deviation = np.abs(elapsed - step / rate)
    known = before > 0
    usual = known & (deviation < OUTLIER_SECONDS)
    jitter = reception.jitter[rows]
    reception.jitter[rows] = jitter + (deviation - jitter) * usual / 16
    bins = np.minimum(np.maximum(elapsed * 1000, 0).astype(np.int64), HISTOGRAM_BINS - 1)
    reception.histogram.reshape(-1)[rows * HISTOGRAM_BINS + bins] += known
    reception.arrival[rows] = packets.arrivals
    reception.arrival_timestamp[rows] = packets.timestamp


def lost(reception: Reception, row: int) -> int:
    """Packets expected and never received, >= 0 (§A.3)."""
    if reception.ssrc[row] < 0:
        return 0
    expected = reception.expected_before[row] + reception.sequence[row] - reception.base[row] + 1
    return max(0, int(expected - reception.distinct[row]))


def is_audio(packets: Packets) -> NDArray[np.bool_]:
    """bool (n,): the packet carries audio, and no event or description of noise."""
    return np.asarray(packets.kind < Kind.EVENT)
