"""Frames that sources hand out before their time, by row.

Reading a source is a few calls of Python for each row and tick. A source that can be peeked into (see
`rtp.sources.foresight`) is asked once for several frames instead: they lie here, and at each tick the clock takes one
of every row at once. They are lent: what has not gone out when anything else happens to the queue goes back, and the
source and its `Playback` are then where they would be, had every frame been read in its turn.

A source that cannot be peeked into puts the frame of this tick here, and nothing more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from rtp.bank import Column, Columns
from rtp.jitter import FRAME

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["MOST_FRAMES", "Ahead", "Shelf", "take", "turn"]

MOST_FRAMES = 16
"""Most frames that are lent at once: 320 ms, 5 kB a row."""

NOTHING = -1
"""Nothing is queued."""

_FRAME = np.dtype(f"V{2 * FRAME}")


class Ahead(Columns):
    """What lies ready for a row; frames."""

    samples: NDArray[np.int16]
    """(rows, 2560)"""
    taken: NDArray[np.int64]
    """Of those that lay ready, how many have gone out."""
    ready: NDArray[np.int64]
    """How many lay ready; as many as have gone out: the queue is to be asked; `NOTHING`: there is no need to."""

    LAYOUT: ClassVar[Mapping[str, Column]] = {
        "samples": Column(np.int16, (MOST_FRAMES * FRAME,)),
        "taken": Column(np.int64),
        "ready": Column(np.int64),
    }


class Shelf:
    """The part of `Ahead` that belongs to one row, for its queue."""

    __slots__ = ("_ahead", "_row")

    def __init__(self, ahead: Ahead, row: int) -> None:
        self._ahead = ahead
        self._row = row

    def put(self, samples: NDArray[np.int16]) -> None:
        """Whole frames, at least one and at most `MOST_FRAMES`, in place of what lay here; copied."""
        ahead, row = self._ahead, self._row
        ahead.samples[row, : len(samples)] = samples
        ahead.taken[row] = 0
        ahead.ready[row] = len(samples) // FRAME

    def taken_samples(self) -> int:
        """How much of it has gone out."""
        return int(self._ahead.taken[self._row]) * FRAME

    def clear(self) -> None:
        """Nothing more of it goes out."""
        self._ahead.taken[self._row] = self._ahead.ready[self._row] = 0

    def rest(self) -> None:
        """Nothing is queued, and all that lay here has gone out: the clock does not ask before `wake`."""
        self._ahead.taken[self._row], self._ahead.ready[self._row] = 0, NOTHING

    def wake(self) -> None:
        """Something is queued."""
        if self._ahead.ready[self._row] == NOTHING:
            self._ahead.ready[self._row] = 0


def turn(row: int, tick: int) -> int:
    """Most frames that the row shall be lent at this tick. Each row's turn to be lent `MOST_FRAMES` comes at another
    tick, so that one tick has as much to do as the next."""
    return MOST_FRAMES - (tick + row) % MOST_FRAMES


def take(ahead: Ahead, rows: NDArray[np.int64]) -> NDArray[np.int16]:
    """The next frame of each of the rows, which all have one; int16 (n, `FRAME`)."""
    taken = ahead.taken[rows]
    frames = ahead.samples.view(_FRAME)[rows, taken]
    ahead.taken[rows] = taken + 1
    return frames.view(np.int16).reshape(len(rows), FRAME)
