"""From datagrams to packets: whose they are, whether they are RTP, and what is in them; a whole round at a time.

A round holds at most one datagram of each stream, so everything below may index state by row without two packets
meeting in one row.

Whose packets are taken (symmetric RTP, RFC 4961): a stream expects the far end's SDP address. Until a packet came from
there, another port of the same host may take the stream over with a well-formed packet of an agreed payload type (a
NAT, or a far end that sends from another port than it receives on); packets are then sent there too. So it may when the
present source has been silent for `TAKEOVER_SILENCE`. The SDP address itself always has its stream back: what was heard
first may have been the last packets of a call that had this port before. All others are strangers: counted and dropped.
That is the rule ``auto``; with ``strict`` no other port is ever taken, with ``any-port`` any port of the host at any
time.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from rtp.bank import Column, Columns
from rtp.endpoint import SOURCE_WORDS, host_mask, source_mask
from rtp.packet import HEADER_LENGTH, flatten

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from rtp.datagrams import Datagrams
    from rtp.endpoint import Endpoint
    from rtp.statistics import Counters

__all__ = ["TAKEOVER_SILENCE", "Kind", "Packets", "Routes", "SymmetricRtp", "classify", "kinds_by_payload_type"]

TAKEOVER_SILENCE = 2.0
"""Seconds without a packet after which another port of the same host may take over."""


SymmetricRtp = Literal["auto", "strict", "any-port"]
"""Who may take a stream over, see above."""

FIRST_CONTROL, LAST_CONTROL = 192, 223
"""Second bytes that tell RTCP from RTP on one port (RFC 5761 §4)."""


PAYLOAD_TYPES = 128

PLAIN = 0x80
"""First byte of a packet of version 2 without padding, extension and contributing sources."""


class Kind(IntEnum):
    """What a payload type stands for on a stream."""

    UNKNOWN = 0
    PCMU = 1
    PCMA = 2
    G722 = 3
    EVENT = 8
    NOISE = 9
    """Comfort noise (RFC 3389)."""


@lru_cache(256)
def kinds_by_payload_type(kinds: tuple[tuple[int, Kind], ...]) -> NDArray[np.uint8]:
    """(128,): of each payload type. Remembered: nearly all calls agree on the same."""
    table = np.full(128, Kind.UNKNOWN, np.uint8)
    for number, kind in kinds:
        table[number] = kind
    table.flags.writeable = False
    return table


class Routes(Columns):
    """Whom a row listens to, and which payload types it understands."""

    rule: SymmetricRtp = "auto"
    """Who may take a stream over, of all rows."""

    signalled: NDArray[np.uint64]
    """(rows, 4): the address that SDP said."""
    source: NDArray[np.uint64]
    """(rows, 4): the one that packets come from."""
    source_mask: NDArray[np.uint64]
    """(rows, 4): the bits of them that count; all of them, so that nothing fits, before a stream is configured."""
    host_mask: NDArray[np.uint64]
    """(rows, 4): the same without the port."""
    settled: NDArray[np.bool_]
    """A packet came from ``source``."""
    last_heard: NDArray[np.float64]
    """When, seconds on the monotonic clock."""
    last_alive: NDArray[np.float64]
    """When ``source`` sent anything else: a payload type that was not agreed on, something on hold, or RTCP."""
    receiving: NDArray[np.bool_]
    kinds: NDArray[np.uint8]
    """(rows, 128): `Kind` by payload type."""

    LAYOUT: ClassVar[Mapping[str, Column]] = {
        "signalled": Column(np.uint64, (SOURCE_WORDS,)),
        "source": Column(np.uint64, (SOURCE_WORDS,)),
        "source_mask": Column(np.uint64, (SOURCE_WORDS,), 0xFFFFFFFFFFFFFFFF),
        "host_mask": Column(np.uint64, (SOURCE_WORDS,), 0xFFFFFFFFFFFFFFFF),
        "settled": Column(np.bool_),
        "last_heard": Column(np.float64),
        "last_alive": Column(np.float64),
        "receiving": Column(np.bool_),
        "kinds": Column(np.uint8, (PAYLOAD_TYPES,)),
    }

    def expect(self, row: int, endpoint: Endpoint) -> None:
        """The far end's SDP address is new: it is listened to, until another port of its host takes over."""
        self.signalled[row] = self.source[row] = endpoint.words
        self.source_mask[row] = source_mask(endpoint.family)
        self.host_mask[row] = host_mask(endpoint.family)
        self.settled[row] = False


@dataclass(slots=True)
class Packets:
    """RTP packets of one round as arrays of one length n; at most one a row."""

    rows: NDArray[np.int64]
    slots: NDArray[np.int64]
    """Where the datagram lies in ``data``."""
    sequence: NDArray[np.int64]
    """0..65,535."""
    timestamp: NDArray[np.int64]
    """0..2**32 - 1."""
    ssrc: NDArray[np.int64]
    kind: NDArray[np.uint8]
    marker: NDArray[np.bool_]
    lengths: NDArray[np.int64]
    """Bytes of payload."""
    arrivals: NDArray[np.float64]
    """Seconds on any clock."""
    data: NDArray[np.uint8]
    """(slots, bytes): payloads begin at byte 12."""

    def __len__(self) -> int:
        return len(self.rows)

    def where(self, keep: NDArray[np.bool_]) -> Packets:
        """The packets for which ``keep``, bool (n,), is true."""
        kept = np.flatnonzero(keep)
        if len(kept) == len(keep):
            return self
        return Packets(
            self.rows.take(kept),
            self.slots.take(kept),
            self.sequence.take(kept),
            self.timestamp.take(kept),
            self.ssrc.take(kept),
            self.kind.take(kept),
            self.marker.take(kept),
            self.lengths.take(kept),
            self.arrivals.take(kept),
            self.data,
        )

    def payload(self, index: int) -> bytes:
        """The payload of packet ``index``."""
        start = HEADER_LENGTH
        return self.data[self.slots[index], start : start + self.lengths[index]].tobytes()


def classify(
    datagrams: Datagrams,
    routes: Routes,
    counters: Counters,
    now: float,
    muxed: NDArray[np.bool_] | None = None,
    reports: list[int] | None = None,
) -> tuple[Packets, list[tuple[int, int]]]:
    """Sorts a round; whatever is no audio or event of the far end is counted and gone.

    Args:
        now: seconds on the monotonic clock.
        muxed: bool (rows,), whether RTCP comes on the same port (RFC 5761).
        reports: gets the slots that hold such RTCP.

    Returns:
        The packets, and ``(row, slot)`` of each that made a stream latch on to its source.
    """
    rows, lengths = datagrams.rows, datagrams.lengths
    difference = (datagrams.sources ^ routes.source.take(rows, axis=0)) & routes.source_mask.take(rows, axis=0)
    keep = lengths >= 0
    exact: NDArray[np.bool_] = np.ones(len(rows), np.bool_)
    if np.count_nonzero(difference):
        exact = np.asarray(~difference.any(axis=1))
        elsewhere = (difference & routes.host_mask[rows]).any(axis=1)
        closed = routes.settled[rows] & (now - routes.last_heard[rows] < TAKEOVER_SILENCE)
        if routes.rule != "auto":
            closed[:] = routes.rule == "strict"
        closed &= ((datagrams.sources ^ routes.signalled[rows]) & routes.source_mask[rows]).any(axis=1)
        unwelcome = keep & ~exact & (elsewhere | closed)
        counters.strangers[rows[unwelcome]] += 1
        keep &= ~unwelcome
    second = datagrams.data[:, 1]
    kind = routes.kinds.reshape(-1).take(rows * PAYLOAD_TYPES + (second & 0x7F))
    if muxed is not None and reports is not None:
        control = keep & exact & (kind == Kind.UNKNOWN) & (second >= FIRST_CONTROL) & (second <= LAST_CONTROL)
        if control.any():
            control &= muxed[rows]
            reports += np.flatnonzero(control).tolist()
            keep &= ~control
    odd = keep & ((datagrams.data[:, 0] != PLAIN) | (lengths < HEADER_LENGTH))
    for slot in np.flatnonzero(odd).tolist():
        if not _flatten_slot(datagrams, slot):
            counters.malformed[rows[slot]] += 1
            keep[slot] = False
    unusable = keep & ((kind == Kind.UNKNOWN) | ~routes.receiving[rows])
    if np.count_nonzero(unusable):
        counters.discarded[rows[unusable]] += 1
        routes.last_alive[rows[unusable & exact]] = now
        keep &= ~unusable
    latched = [(int(rows[slot]), slot) for slot in np.flatnonzero(keep & ~exact).tolist()]
    for row, slot in latched:
        routes.source[row] = datagrams.sources[slot]
    words = datagrams.data.view(">u2")
    longs = datagrams.data.view(">u4")
    packets = Packets(
        rows,
        np.arange(len(rows)),
        words[:, 1].astype(np.int64),
        longs[:, 1].astype(np.int64),
        longs[:, 2].astype(np.int64),
        kind,
        second >= 0x80,
        lengths - HEADER_LENGTH,
        datagrams.arrivals,
        datagrams.data,
    ).where(keep)
    routes.settled[packets.rows] = True
    routes.last_heard[packets.rows] = now
    return packets, latched


def _flatten_slot(datagrams: Datagrams, slot: int) -> bool:
    """Rewrites a packet with padding, CSRC or extension in place as one without; False when it is no RTP packet."""
    packet = flatten(datagrams.data[slot, : datagrams.lengths[slot]].tobytes())
    if packet is None:
        return False
    datagrams.data[slot, : len(packet)] = np.frombuffer(packet, np.uint8)
    datagrams.lengths[slot] = len(packet)
    return True
