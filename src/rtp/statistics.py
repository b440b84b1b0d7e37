"""What is counted, by row while it runs and as values for whoever asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from rtp.bank import Column, Columns

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["HISTOGRAM_BINS", "Counters", "EngineStatistics", "Series", "StreamStatistics"]

HISTOGRAM_BINS = 101
"""Inter-arrival times in bins of 1 ms; the last one holds all of 100 ms and more."""


class Counters(Columns):
    """One int64 a row for everything that is merely counted."""

    packets_sent: NDArray[np.int64]
    send_errors: NDArray[np.int64]
    events_sent: NDArray[np.int64]
    octets_beyond: NDArray[np.int64]
    """Octets of payload by which the audio packets sent were longer, or shorter, than a frame each."""
    packets_received: NDArray[np.int64]
    duplicates: NDArray[np.int64]
    late: NDArray[np.int64]
    reordered: NDArray[np.int64]
    concealed: NDArray[np.int64]
    underruns: NDArray[np.int64]
    skipped: NDArray[np.int64]
    strangers: NDArray[np.int64]
    malformed: NDArray[np.int64]
    discarded: NDArray[np.int64]
    unauthenticated: NDArray[np.int64]
    replayed: NDArray[np.int64]

    LAYOUT: ClassVar[Mapping[str, Column]] = dict.fromkeys(
        (
            "packets_sent",
            "send_errors",
            "events_sent",
            "octets_beyond",
            "packets_received",
            "duplicates",
            "late",
            "reordered",
            "concealed",
            "underruns",
            "skipped",
            "strangers",
            "malformed",
            "discarded",
            "unauthenticated",
            "replayed",
        ),
        Column(np.int64),
    )


@dataclass(frozen=True, slots=True)
class StreamStatistics:
    """A snapshot of one stream. Packets unless another unit is named."""

    codec: str = ""
    """What is sent; empty before that is agreed on."""
    packets_sent: int = 0
    send_errors: int = 0
    """The system refused to send: no route, a full buffer, a firewall."""
    packets_received: int = 0
    """RTP packets of the far end with a payload type that was agreed on, duplicates and late ones included."""
    lost: int = 0
    """Expected by sequence number and never seen (RFC 3550 §A.3)."""
    late: int = 0
    """Came after their playing time."""
    duplicates: int = 0
    reordered: int = 0
    """Came after one with a higher sequence number."""
    jitter_ms: float = 0.0
    """Inter-arrival jitter, RFC 3550 §6.4.1, by the kernel's receive times where it stamps them."""
    concealed: int = 0
    """Frames of the clock that were filled in for missing audio."""
    underruns: int = 0
    """Times that nothing at all was left to play: packets were lost or too slow, or the far end fell silent."""
    skipped: int = 0
    """Frames left out to take back delay that the network no longer needs."""
    delay_ms: float = 0.0
    """For how long the jitter buffer holds the earliest packets at present."""
    target_delay_ms: float = 0.0
    """For how long it wants to, by what the network did in the latest ten seconds."""
    strangers: int = 0
    """From another address than the far end's."""
    malformed: int = 0
    """Not RTP version 2, or broken."""
    discarded: int = 0
    """Of the far end, with an unknown payload type, or while nothing was to be received."""
    srtp: str = ""
    """The SRTP suite in use; empty: RTP in the clear."""
    unauthenticated: int = 0
    """SRTP or SRTCP from the far end's host that does not fit its key: changed on the way, forged, or in the clear."""
    replayed: int = 0
    """SRTP or SRTCP that came before."""
    reports_sent: int = 0
    """RTCP (RFC 3550 §6)."""
    reports_received: int = 0
    round_trip_ms: float | None = None
    """By the far end's latest report; None before one tells."""
    remote_lost: int = 0
    """Packets of ours that the far end misses, by its latest report."""
    remote_loss: float = 0.0
    """Share of them between its latest two reports, 0..1."""
    remote_jitter_ms: float = 0.0
    """As the far end measures it."""
    mos: float = 0.0
    """How the far end sounds here, estimated by ITU-T G.107 from loss and delay: 1 bad to 4.4; 0 before it is heard."""
    interarrival_ms: tuple[int, ...] = ()
    """Count of times between consecutive audio packets, 101 bins of 1 ms, the last for 100 ms and more."""

    @property
    def loss(self) -> float:
        """Share of the expected packets that was lost, 0..1."""
        expected = self.packets_received - self.duplicates + self.lost
        return self.lost / expected if expected else 0.0


@dataclass(frozen=True, slots=True)
class EngineStatistics:
    """A snapshot of the clock. Percentiles are over the latest ticks (about 80 s)."""

    streams: int = 0
    ticks: int = 0
    missed_ticks: int = 0
    """Ticks that ran after the next one's deadline."""
    lateness_ms_p50: float = 0.0
    """How long after its deadline a tick began."""
    lateness_ms_p90: float = 0.0
    lateness_ms_p99: float = 0.0
    lateness_ms_max: float = 0.0
    tick_ms_p50: float = 0.0
    """How long the work of a tick took."""
    tick_ms_p99: float = 0.0
    tick_ms_max: float = 0.0
    cpu_seconds: float = 0.0
    """CPU time of all ticks, sinks and sources included."""
    load: float = 0.0
    """Share of a core that ticks took, in the latest five seconds; the loop has other work besides."""
    missed_lately: int = 0
    """Ticks missed in the latest five seconds."""


class Series:
    """The latest values of a quantity."""

    def __init__(self, length: int = 4096) -> None:
        self._values = np.zeros(length, np.float32)
        self._count = 0

    def add(self, value: float) -> None:
        """Takes one value; the oldest is forgotten when full."""
        self._values[self._count % len(self._values)] = value
        self._count += 1

    def percentiles(self, *shares: float) -> tuple[float, ...]:
        """The values below which the given shares (0..100) lie; zeroes when empty."""
        known = self._values[: min(self._count, len(self._values))]
        if not len(known):
            return (0.0,) * len(shares)
        # Not np.percentile: its first call costs 10 to 20 ms, in which no packet goes out.
        places = np.array(shares) * ((len(known) - 1) / 100)
        return tuple(np.interp(places, np.arange(len(known)), np.sort(known)).tolist())
