"""The jitter buffer's delay: as long as the network needs, and no longer; state by row.

What is measured of each packet is how far *ahead* of its playing time it was read. Over a window of 8 to 10 s the
earliest packet tells how long the buffer delays (`high`), the latest how much of that was needed (``high - low``, the
spread of the transit times); between the bounds that is the target.

*It grows at once*: a packet whose time has passed already makes play-out go back over frames that were missing anyway,
so that nothing is lost, and beyond those stand still for as many frames as it lacks. Packets slower than the upper
bound allows are late, and count for nothing. *It shrinks at leisure*: when no packet of a whole window needed a frame
of the delay, frames in which nothing is said are left out, one a tick. Only of a delay far too long frames with speech
are left out too, each faded into its successor. A delay that some packet did need is kept for two windows, and for
longer each time that giving it up was a mistake: the slowest packets of a network may be rare.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from rtp.bank import Column, Columns
from rtp.jitter import FRAME, MISSING, gather, take

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from rtp.jitter import JitterRing
    from rtp.statistics import Counters

__all__ = ["BUCKETS", "REVIEW_TICKS", "START", "Delay", "is_quiet"]

START = 3 * FRAME
"""Delay of a source of which nothing is known yet, within the bounds: 60 ms."""

REVIEW_TICKS = 100
"""The window's step, 2 s."""

BUCKETS = 4
"""Steps of the window that are over; the present one comes on top."""

PROVEN_STEPS = 10
"""For how many steps nothing must need a delay that was needed before, until it is given up: 20 s;"""
MOST_STEPS = 40
"""twice as many after each time that this was too early, up to 80 s."""

QUIET = 200
"""Mean magnitude of a frame in which nothing is said: -44 dB of full scale."""

BEGINNING = 32
"""Samples of a frame, a cache line, that mostly tell that something is said in it."""

FAR_TOO_LONG = 3
"""Frames of surplus beyond which speech is shortened too,"""
SPEECH_TICKS = 5
"""by one frame in so many."""

FAR = 1 << 30
FADE_IN = ((np.arange(FRAME, dtype=np.float32) + 0.5) / FRAME).astype(np.float32)


def is_quiet(frames: NDArray[np.int16]) -> NDArray[np.bool_]:
    """bool (n,): nothing is said in them."""
    return np.asarray(np.abs(frames, dtype=np.int32).mean(axis=1) <= QUIET)


def begins_loud(beginnings: NDArray[np.int16]) -> NDArray[np.bool_]:
    """bool (n,): frames that begin like this are not quiet, whatever comes behind."""
    magnitudes = np.abs(beginnings.T, order="C")  # sums of columns are quicker; a `MISSING` sample counts as soft
    return np.asarray(magnitudes.sum(axis=0, dtype=np.int32) > QUIET * FRAME)


class Delay(Columns):
    """Samples at 8,000 Hz."""

    low: NDArray[np.int64]
    """How far ahead the latest packet of the present step was."""
    high: NDArray[np.int64]
    """The same of the earliest."""
    lows: NDArray[np.int64]
    """(rows, `BUCKETS`): of the steps before."""
    highs: NDArray[np.int64]
    reviews: NDArray[np.int64]
    """Steps since a packet needed all of the delay, or more; it shrinks after ``patience`` of them."""
    patience: NDArray[np.int64]
    shrunk: NDArray[np.int64]
    """Steps since the delay was made shorter; if a packet lacks it soon after, that was a mistake."""
    target: NDArray[np.int64]
    """What the network needs; 0 before that is known."""
    adjust: NDArray[np.int64]
    """Frames to be left out (above zero), or to stand still for (below)."""

    LAYOUT: ClassVar[Mapping[str, Column]] = {
        "low": Column(np.int64, (), FAR),
        "high": Column(np.int64, (), -FAR),
        "lows": Column(np.int64, (BUCKETS,), FAR),
        "highs": Column(np.int64, (BUCKETS,), -FAR),
        "reviews": Column(np.int64),
        "patience": Column(np.int64, (), BUCKETS),
        "shrunk": Column(np.int64, (), FAR),
        "target": Column(np.int64),
        "adjust": Column(np.int64),
    }

    def __init__(self, capacity: int, *, minimum: int, maximum: int) -> None:
        """The bounds in samples, multiples of `FRAME`; where they are equal the delay is fixed."""
        super().__init__(capacity)
        self.minimum = minimum
        self.maximum = maximum
        self.start = min(max(START, minimum), maximum)
        self._ticks = 0
        self._holding = False

    # ---- told by the ring --------------------------------------------------------------------------------------------

    def anchored(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Sources that begin, or begin anew. Returns how far ahead of ``play`` their packets are to be put."""
        self._forget(rows)
        self.adjust[rows] = 0
        return np.maximum(self.target[rows], self.start)

    def measure(self, rows: NDArray[np.int64], ahead: NDArray[np.int64]) -> None:
        """Packets, at most one a row, were read so far ahead of their time."""
        if self._holding:
            ahead = ahead - np.minimum(self.adjust[rows], 0) * FRAME
        self.low[rows] = np.minimum(self.low[rows], ahead)
        self.high[rows] = np.maximum(self.high[rows], ahead)

    def make_room(self, ring: JitterRing, rows: NDArray[np.int64], ahead: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Packets of these rows came after their time, by ``-ahead``. Returns for which the delay is long enough now.

        For the others it would be longer than it may be.
        """
        holding = np.maximum(-self.adjust[rows], 0)
        lacking = np.maximum(-(ahead // FRAME) - holding, 0)
        longest = np.maximum(self.high[rows], self.highs[rows].max(axis=1))
        possible = (longest > -FAR // 2) & (longest + lacking * FRAME <= self.maximum)
        grown = possible & (lacking > 0)
        if grown.any():
            rows, lacking, holding = rows[grown], lacking[grown], holding[grown]
            play = ring.play[rows]
            back = np.minimum(np.minimum(lacking, ring.void[rows]), np.maximum(play - ring.floor[rows], 0) // FRAME)
            ring.play[rows] = play - back * FRAME
            ring.void[rows] -= back
            self._hold(rows, holding + lacking - back)
            self._shift(rows, lacking * FRAME)
            self._prove(rows)
            mistaken = rows[self.shrunk[rows] < MOST_STEPS]
            self.patience[mistaken] = np.minimum(2 * self.patience[mistaken], MOST_STEPS)
            self.shrunk[mistaken] = FAR
        return np.asarray(possible, np.bool_)

    def _hold(self, rows: NDArray[np.int64], frames: NDArray[np.int64]) -> None:
        self.adjust[rows] = -frames
        self._holding = True

    def _prove(self, rows: NDArray[np.int64]) -> None:
        """These rows needed all of their delay."""
        self.reviews[rows] = 0
        self.patience[rows] = np.maximum(self.patience[rows], PROVEN_STEPS)

    def _forget(self, rows: NDArray[np.int64]) -> None:
        self.low[rows], self.lows[rows] = FAR, FAR
        self.high[rows], self.highs[rows] = -FAR, -FAR
        self.reviews[rows] = 0
        self.patience[rows] = BUCKETS

    def _shift(self, rows: NDArray[np.int64], by: NDArray[np.int64] | int) -> None:
        """``play`` has moved against all packets."""
        self.low[rows] += by
        self.high[rows] += by
        self.lows[rows] += np.reshape(by, (-1, 1))
        self.highs[rows] += np.reshape(by, (-1, 1))

    # ---- told by the clock -------------------------------------------------------------------------------------------

    def play(self, ring: JitterRing, counters: Counters, rows: NDArray[np.int64]) -> NDArray[np.int16]:
        """`rtp.jitter.gather`, with the delay made longer or shorter on the way."""
        self._ticks += 1
        if self._ticks % REVIEW_TICKS == 0:
            self.review(rows)
        adjust = self.adjust[rows]
        if not np.count_nonzero(adjust):
            self._holding = False
            return gather(ring, rows)
        frames, merging, coming = self._adjusted(ring, counters, rows, adjust)
        if len(merging):
            frames[merging] = (frames[merging] * (1 - FADE_IN) + coming * FADE_IN).astype(np.int16)
        return frames

    def play_coded(
        self, ring: JitterRing, counters: Counters, rows: NDArray[np.int64], quiet: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int16], NDArray[np.bool_], NDArray[np.int16]]:
        """The same, behind `play`, for rows whose ring holds what is yet to be decoded.

        Args:
            quiet: bool (n,), nothing was said in the frame that was played last.

        Returns:
            What to play, bool (n,): together with the frame behind it, and those frames.
        """
        if self._ticks % REVIEW_TICKS == 0:
            self.review(rows)
        adjust, together = self.adjust[rows], np.zeros(len(rows), np.bool_)
        if not np.count_nonzero(adjust):
            return gather(ring, rows), together, np.zeros((0, FRAME), np.int16)
        self._holding = True
        frames, merging, coming = self._adjusted(ring, counters, rows, adjust, quiet)
        together[merging] = True
        return frames, together, coming

    def _adjusted(
        self,
        ring: JitterRing,
        counters: Counters,
        rows: NDArray[np.int64],
        adjust: NDArray[np.int64],
        quiet: NDArray[np.bool_] | None = None,
    ) -> tuple[NDArray[np.int16], NDArray[np.intp], NDArray[np.int16]]:
        """The frames due, which of them are played together with the next one, and those."""
        still = adjust < 0
        if np.count_nonzero(still):
            frames = np.full((len(rows), FRAME), MISSING, np.int16)
            frames[~still] = gather(ring, rows[~still])
            ring.void[rows[still]] -= 1  # the frame that is made up now is none of the ring's
            self.adjust[rows[still]] += 1
        else:
            frames = gather(ring, rows)
        long = np.flatnonzero(adjust > 0)
        self._leave_out(ring, counters, rows, frames, long)
        merging = long[self._may_merge(ring, rows[long], frames, long, quiet)]
        if not len(merging):
            return frames, merging, frames[:0]
        coming = gather(ring, rows[merging])
        self._left_out(counters, rows[merging])
        return frames, merging, coming

    def review(self, rows: NDArray[np.int64]) -> None:
        """A step of the window is over."""
        low = np.minimum(self.low[rows], self.lows[rows].min(axis=1))
        high = np.maximum(self.high[rows], self.highs[rows].max(axis=1))
        known = high >= low
        target = np.clip(high - low, self.minimum, self.maximum)
        self.target[rows] = np.where(known, target, self.target[rows])
        self.reviews[rows] += 1
        self.shrunk[rows] += 1
        self._prove(rows[self.low[rows] < FRAME])
        idle = self.adjust[rows] >= 0
        due = known & idle & ((self.reviews[rows] >= self.patience[rows]) | (high > self.maximum))
        # A fixed delay is left alone but for clocks that drift: when even the latest packet of a step came too early.
        surplus = (self.low[rows] if self.minimum == self.maximum else high) - target
        self.adjust[rows[idle]] = np.where(due, np.maximum(surplus, 0) // FRAME, 0)[idle]
        short = known & idle & (target - high >= FRAME)  # the far end's clock is slow
        if short.any():
            frames = ((target - high) // FRAME)[short]
            self._hold(rows[short], frames)
            self._shift(rows[short], frames * FRAME)
        self.lows[rows] = np.roll(self.lows[rows], 1, axis=1)
        self.highs[rows] = np.roll(self.highs[rows], 1, axis=1)
        self.lows[rows, 0], self.highs[rows, 0] = self.low[rows], self.high[rows]
        self.low[rows], self.high[rows] = FAR, -FAR

    def _leave_out(
        self,
        ring: JitterRing,
        counters: Counters,
        rows: NDArray[np.int64],
        frames: NDArray[np.int16],
        long: NDArray[np.intp],
    ) -> None:
        """Frames of which nothing came need not be made up: the next one takes their place."""
        torn = long[frames[long, 0] == MISSING]
        if not len(torn):
            return
        void = torn[(frames[torn] == MISSING).all(axis=1)]
        ring.void[rows[void]] += 1
        self._left_out(counters, rows[void])
        frames[void] = gather(ring, rows[void])

    def _may_merge(
        self,
        ring: JitterRing,
        rows: NDArray[np.int64],
        frames: NDArray[np.int16],
        places: NDArray[np.intp],
        quiet: NDArray[np.bool_] | None,
    ) -> NDArray[np.bool_]:
        """Whether ``frames[places]`` and the frames behind them have come, and nobody will miss one of them."""
        wanted = self.adjust[rows]
        merges = (wanted >= FAR_TOO_LONG) if self._ticks % SPEECH_TICKS == 0 else np.zeros(len(rows), np.bool_)
        if quiet is not None:
            merges |= quiet[places]
        else:  # what begins loud is not quiet, and need not be looked at as a whole
            merges |= ~(begins_loud(frames[places, :BEGINNING]) & begins_loud(take(ring, rows, BEGINNING)))
        merges &= wanted > 0
        candidates = np.flatnonzero(merges)
        if len(candidates):
            present, coming = frames[places[candidates]], take(ring, rows[candidates])
            may = (present != MISSING).all(axis=1) & (coming != MISSING).all(axis=1)
            if quiet is None:
                loud = ~(is_quiet(present) | is_quiet(coming))
                if self._ticks % SPEECH_TICKS == 0:
                    loud &= wanted[candidates] < FAR_TOO_LONG
                may &= ~loud
            merges[candidates] = may
        return merges

    def _left_out(self, counters: Counters, rows: NDArray[np.int64]) -> None:
        self.adjust[rows] -= 1
        self.shrunk[rows] = 0
        self._shift(rows, -FRAME)
        counters.skipped[rows] += 1

    # ---- told to whoever asks ----------------------------------------------------------------------------------------

    def present(self, row: int) -> int:
        """How long the buffer delays the earliest packets, samples; 0 when none came."""
        high = max(self.high.item(row), *self.highs[row].tolist())
        return max(high, 0) if high > -FAR // 2 else 0

    def wanted(self, row: int) -> int:
        """The target, samples."""
        return int(self.target[row]) or self.start
