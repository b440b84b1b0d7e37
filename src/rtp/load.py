"""How busy the media clock is, and what it missed: whether there is room for another call.

A tick may use its 20 ms, and the loop, which serves everything else too, has to be back for the next one. What counts
is the latest five seconds: the share of a core that ticks took, and of the deadlines that were missed although ticks
had much to do. It is processor time, not time gone by: a tick that waits because other programs have the core is not
ours to make shorter. Ticks missed for other reasons (a flood of requests, a machine busy with something else) are told
of, but one call fewer would not help then, and whoever floods must not be able to close the door to others. One stall
does not make a process overloaded; three bad seconds of five do. Pure: it is told of ticks and counts time in them.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

__all__ = ["BAD_SECONDS", "MISSED_SHARE", "REPORT_SECONDS", "WINDOW_SECONDS", "Load", "MissedTicks"]

WINDOW_SECONDS = 5
BAD_SECONDS = 3
"""So many of them have to be bad."""
MISSED_SHARE = 0.2
"""A second is bad in which more of its deadlines were missed and ticks took half of what they may, or more."""
REPORT_SECONDS = 10.0
"""Missed ticks are told of at once, and then no more often than this."""


@dataclass(frozen=True, slots=True)
class MissedTicks:
    """The loop was held up, and came to the clock after the next tick's deadline."""

    count: int
    """Ticks that ran late, since the last report."""
    longest_ms: float
    """Of the stalls that caused it."""
    stalls: int
    """How many there were."""
    skipped_frames: int
    """Frames of each stream that were not sent in time and play later; up to the catch-up limit all are sent."""


@dataclass(frozen=True, slots=True)
class _Second:
    busy: float
    missed: int
    missed_share: float

    def bad(self, limit: float) -> bool:
        return self.busy > limit or (self.missed_share > MISSED_SHARE and self.busy >= limit / 2)


class Load:
    """The latest seconds of one clock."""

    def __init__(self, period: float, catch_up: int) -> None:
        """
        Args:
            period: seconds between two ticks.
            catch_up: most frames of a stream that one tick sends.
        """
        self._period = period
        self._catch_up = catch_up
        self._per_second = round(1 / period)
        self._seconds: deque[_Second] = deque(maxlen=WINDOW_SECONDS)
        self._ticks = 0  # of the second that is under way
        self._missed = 0
        self._worked = 0.0
        self._now = 0.0
        self._reportable = 0.0
        self._count = 0
        self._stalls = 0
        self._longest = 0
        self._skipped = 0

    @property
    def busy(self) -> float:
        """Share of a core that ticks took in the latest seconds, 0..1."""
        return sum(second.busy for second in self._seconds) / len(self._seconds) if self._seconds else 0.0

    @property
    def missed(self) -> int:
        """Ticks missed in the latest seconds."""
        return sum(second.missed for second in self._seconds) + self._missed

    def overloaded(self, limit: float) -> bool:
        """Whether too many of the latest seconds were bad.

        Args:
            limit: the share of a core that ticks may take; 0: nobody asks.
        """
        if limit <= 0:
            return False
        return sum(second.bad(limit) for second in self._seconds) >= BAD_SECONDS

    def add(self, count: int, worked: float) -> MissedTicks | None:
        """A tick of ``count`` deadlines took ``worked`` seconds of processor time. Returns missed ones to tell of."""
        self._now += count * self._period
        self._ticks += count
        self._worked += worked
        if count > 1:
            self._missed += count - 1
            self._count += count - 1
            self._stalls += 1
            self._longest = max(self._longest, count)
            self._skipped += max(0, count - self._catch_up)
        if self._ticks >= self._per_second:
            self._end_second()
        return self._report() if self._count and self._now >= self._reportable else None

    def _end_second(self) -> None:
        busy = self._worked / (self._ticks * self._period)
        self._seconds.append(_Second(busy, self._missed, self._missed / self._ticks))
        self._ticks, self._missed, self._worked = 0, 0, 0.0

    def _report(self) -> MissedTicks:
        longest = self._longest * self._period * 1000
        told = MissedTicks(self._count, longest, self._stalls, self._skipped)
        self._count = self._stalls = self._longest = self._skipped = 0
        self._reportable = self._now + REPORT_SECONDS
        return told
