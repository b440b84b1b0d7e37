"""The queue of what a stream plays: sources one behind the other without a gap, each with a handle to wait on.

The clock has the queue `lend` it what comes next, several frames at once where the source allows it (see `rtp.ahead`).
Whatever else happens to the queue settles that first: frames that have gone out are read from the source then, and all
others were never lent.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from rtp.jitter import FRAME
from rtp.rates import AtRate, at_rate
from rtp.sources import close_source, foresight

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from numpy.typing import NDArray

    from rtp.ahead import Shelf
    from rtp.sources import AudioSource

__all__ = ["Playback", "PlaybackQueue", "PlaybackResult"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PlaybackResult:
    """How a playback ended."""

    played_seconds: float
    completed: bool
    """False when it was cancelled, the stream was closed, or the source failed."""


class Playback:
    """Something that plays on a stream's clock; ``await`` it for the end."""

    def __init__(self, total_samples: int | None, rate: int) -> None:
        self._rate = rate
        self._total = total_samples
        self._done = asyncio.Event()
        self._ended = False
        self._completed = False
        self._cancelled = False
        self.release: Callable[[], None] | None = None
        """Called once at the end: what was played gives back its files. For the queue."""
        self.lent: Callable[[], int] | None = None
        """Samples that were lent to the clock and have gone out. For the queue."""
        self._played = 0

    @property
    def played_samples(self) -> int:
        """Samples handed to the network so far, silence of a live source that ran dry not counted."""
        return self._played if self.lent is None else self._played + self.lent()

    def advance(self, samples: int) -> None:
        """So many more were handed to the network; for who plays it."""
        self._played += samples

    def rerate(self, rate: int) -> None:
        """Counts samples at another rate from now on; for the queue."""
        self._played = self._played * rate // self._rate
        if self._total is not None:
            self._total = self._total * rate // self._rate
        self._rate = rate

    @property
    def played_seconds(self) -> float:
        """How much has been played."""
        return self.played_samples / self._rate

    @property
    def total_seconds(self) -> float | None:
        """How long it is, or None when nobody knows."""
        return None if self._total is None else self._total / self._rate

    @property
    def done(self) -> bool:
        """It ended, one way or the other."""
        return self._ended

    @property
    def cancelled(self) -> bool:
        """`cancel` was called before the end."""
        return self._cancelled

    def cancel(self) -> None:
        """Nothing more of it is played, from the next frame on. Does nothing after the end."""
        if not self.done:
            self._cancelled = True
            self.finish(completed=False)

    def finish(self, *, completed: bool) -> None:
        """Wakes who waits; for the queue."""
        if not self.done:
            self._completed = completed
            self._ended = True
            self._done.set()
            if self.release is not None:
                self.release()

    async def wait(self) -> PlaybackResult:
        """Waits for the end. A cancelled wait does not stop the playback."""
        await self._done.wait()
        return PlaybackResult(self.played_seconds, self._completed)

    def __await__(self) -> Generator[object, None, PlaybackResult]:
        return self.wait().__await__()


@dataclass(slots=True)
class _Queued:
    """A source in the queue."""

    playback: Playback
    source: AudioSource
    peek: Callable[[int], NDArray[np.int16]] | None


class PlaybackQueue:
    """Sources in the order they were queued."""

    def __init__(self, rate: int, shelf: Shelf | None = None) -> None:
        """``shelf``: where what is lent lies; None where nothing is ever lent."""
        self._rate = rate
        self._shelf = shelf
        self._queue: deque[_Queued] = deque()
        self._lent: _Queued | None = None
        """Of which frames lie on the shelf, or have gone out, that have not been read,"""
        self._lent_samples = 0
        """so many."""

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, source: AudioSource) -> Playback:
        """Queues a source behind what is queued; one of another rate is converted.

        Raises:
            ValueError: its rate is none that can be.
        """
        source = at_rate(source, self._rate)
        playback = Playback(source.total_samples, self._rate)
        playback.release = partial(self._release, source)
        self._queue.append(_Queued(playback, source, foresight(source)))
        if self._shelf is not None:
            self._shelf.wake()
        return playback

    def _release(self, source: AudioSource) -> None:
        self.settle()
        close_source(source)

    def rerate(self, rate: int) -> None:
        """The stream has another rate from now on. What plays goes on, but for the 2 ms a converter holds."""
        if rate == self._rate:
            return
        self.settle()
        self._rate = rate
        for queued in self._queue:
            source = queued.source
            queued.source = at_rate(source.source if isinstance(source, AtRate) else source, rate)
            queued.peek = foresight(queued.source)
            queued.playback.rerate(rate)

    def clear(self) -> None:
        """Cancels everything."""
        self.settle()
        for queued in self._queue:
            queued.playback.cancel()
        self._queue.clear()

    def _drop(self, playback: Playback) -> None:
        """Takes out the one that played, unless its source has cleared the queue meanwhile (by ending the call)."""
        if self._queue and self._queue[0].playback is playback:
            self._queue.popleft()

    def lend(self, most: int) -> None:
        """For the clock, when all that lies on the shelf has gone out: puts there what comes next, one frame, or up to
        ``most`` where the source can be peeked into. Where nothing is queued, the clock asks no more before something
        is.

        The last samples of a source are never lent: they are read in their turn, when its end is to be told.
        """
        if self._lent is not None:
            self._settle(self._lent_samples)
        if self._shelf is None:
            return
        if not self._queue:
            self._shelf.rest()
            return
        ahead = self._peek(most) if most > 1 else None
        if ahead is not None:
            self._lent = queued = self._queue[0]
            self._lent_samples = len(ahead)
            queued.playback.lent = self._shelf.taken_samples
            self._shelf.put(ahead)
            return
        samples = self.read(FRAME)
        if samples is None:
            self._shelf.rest()
        else:
            self._shelf.put(samples)

    def _peek(self, frames: int) -> NDArray[np.int16] | None:
        """Up to so many whole frames of what plays that come next and not last; None where it has to be read."""
        queued = self._queue[0]
        if queued.peek is None or queued.playback.done:
            return None
        most = frames * FRAME + 1
        try:
            samples = queued.peek(most)
            count = len(samples)
            if count > most or samples.ndim != 1:
                raise ValueError(f"{samples.shape} samples instead of {most}")
        except Exception:
            logger.exception("an audio source cannot tell what comes next")
            queued.peek = None
            return None
        if count <= FRAME or queued.playback.done:
            return None
        return samples[: (count - 1) // FRAME * FRAME]

    def settle(self) -> None:
        """What was lent and has gone out is read; the rest was never lent."""
        if self._lent is not None and self._shelf is not None:
            played = self._shelf.taken_samples()
            self._shelf.clear()
            self._settle(played)

    def _settle(self, played: int) -> None:
        queued, self._lent = self._lent, None
        if queued is None:
            return
        queued.playback.lent = None
        if played:
            queued.playback.advance(played)
            try:
                queued.source.read(played)
            except Exception:
                logger.exception("an audio source failed and was dropped")
                queued.playback.finish(completed=False)

    def read(self, wanted: int) -> NDArray[np.int16] | None:
        """The next ``wanted`` samples, silence behind the last one; None when nothing is queued.

        They may be the source's own memory, to be looked at before anything else is read. Where a source ends within
        them the next one begins at that sample. A source that raises is dropped.
        """
        if self._lent is not None:
            self.settle()
        if not self._queue:
            return None
        parts: list[NDArray[np.int16]] = []
        missing = wanted
        while missing and self._queue:
            playback, source = self._queue[0].playback, self._queue[0].source
            if playback.done:
                self._queue.popleft()
                continue
            try:
                samples = source.read(missing)
                count = len(samples)
                exhausted = source.exhausted
                if count > missing or samples.ndim != 1:
                    raise ValueError(f"{samples.shape} samples instead of {missing}")
            except Exception:
                logger.exception("an audio source failed and was dropped")
                self._drop(playback)
                playback.finish(completed=False)
                continue
            playback.advance(count)
            if exhausted:
                self._drop(playback)
                playback.finish(completed=True)
            elif count == wanted:
                return samples
            parts.append(samples)
            missing -= count
            if missing and not exhausted:
                break
        return np.concatenate([*parts, np.zeros(missing, np.int16)])

    def fill(self, frame: NDArray[np.int16]) -> bool:
        """`read` into ``frame``; False, frame untouched, when nothing is queued."""
        samples = self.read(len(frame))
        if samples is None:
            return False
        frame[:] = samples
        return True
