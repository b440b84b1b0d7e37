"""The queue of what a stream plays: sources one behind the other without a gap, each with a handle to wait on."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from rtp.rates import AtRate, at_rate
from rtp.sources import close_source

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from numpy.typing import NDArray

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
        self.played_samples = 0
        """Samples handed to the network so far, silence of a live source that ran dry not counted."""

    def rerate(self, rate: int) -> None:
        """Counts samples at another rate from now on; for the queue."""
        self.played_samples = self.played_samples * rate // self._rate
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


class PlaybackQueue:
    """Sources in the order they were queued."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._queue: deque[tuple[Playback, AudioSource]] = deque()

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, source: AudioSource) -> Playback:
        """Queues a source behind what is queued; one of another rate is converted.

        Raises:
            ValueError: its rate is none that can be.
        """
        source = at_rate(source, self._rate)
        playback = Playback(source.total_samples, self._rate)
        playback.release = partial(close_source, source)
        self._queue.append((playback, source))
        return playback

    def rerate(self, rate: int) -> None:
        """The stream has another rate from now on. What plays goes on, but for the 2 ms a converter holds."""
        if rate == self._rate:
            return
        self._rate = rate
        self._queue = deque(
            (playback, at_rate(source.source if isinstance(source, AtRate) else source, rate))
            for playback, source in self._queue
        )
        for playback, _ in self._queue:
            playback.rerate(rate)

    def clear(self) -> None:
        """Cancels everything."""
        for playback, _ in self._queue:
            playback.cancel()
        self._queue.clear()

    def _drop(self, playback: Playback) -> None:
        """Takes out the one that played, unless its source has cleared the queue meanwhile (by ending the call)."""
        if self._queue and self._queue[0][0] is playback:
            self._queue.popleft()

    def read(self, wanted: int) -> NDArray[np.int16] | None:
        """The next ``wanted`` samples, silence behind the last one; None when nothing is queued.

        They may be the source's own memory, to be looked at before anything else is read. Where a source ends within
        them the next one begins at that sample. A source that raises is dropped.
        """
        if not self._queue:
            return None
        parts: list[NDArray[np.int16]] = []
        missing = wanted
        while missing and self._queue:
            playback, source = self._queue[0]
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
            playback.played_samples += count
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
