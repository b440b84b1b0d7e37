"""Sources made of sources: louder or softer, two at once, one behind the other.

Those that one is made of have one rate, which is its own.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from rtp.rates import rate_of
from rtp.sources import NARROW, close_source, foresight

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from rtp.sources import AudioSource

__all__ = ["Chain", "Ending", "Gain", "Mix"]

Ending: TypeAlias = Literal["foreground", "background", "both"]
"""Which source has to end for a mix to end."""

ATTACK = 480
"""Samples at 8,000 Hz in which the background makes room for what comes to the front: 60 ms, inside of a first
syllable."""
RELEASE = 3200
"""Samples at 8,000 Hz in which it comes back: 400 ms, so that it does not pump between words."""

NOTHING = np.zeros(0, np.int16)


class Gain:
    """A source, louder or softer."""

    def __init__(self, source: AudioSource, decibels: float) -> None:
        self._source = source
        self.sample_rate = rate_of(source)
        self._now = self._wanted = _factor(decibels)
        self.decibels = decibels
        """May be changed while it plays; takes a frame to come about, without a click."""

    @property
    def total_samples(self) -> int | None:
        """The source's."""
        return self._source.total_samples

    @property
    def exhausted(self) -> bool:
        """The source is."""
        return self._source.exhausted

    def read(self, samples: int) -> NDArray[np.int16]:
        """The next up to ``samples`` samples; what would be too loud is clipped."""
        read = self._source.read(samples)
        before, self._now = self._now, _factor(self.decibels)
        if before == self._now == 1.0:
            return read
        ramp: NDArray[np.float32] = np.linspace(before, self._now, len(read), dtype=np.float32)
        return _clipped(read.astype(np.float32) * ramp)

    def close(self) -> None:
        """Closes the source."""
        close_source(self._source)


class Mix:
    """Two sources at once: speech over music, for instance, which makes room while somebody speaks."""

    def __init__(
        self,
        background: AudioSource,
        foreground: AudioSource,
        *,
        ducking_db: float = 0.0,
        ends_with: Ending = "foreground",
    ) -> None:
        """
        Args:
            background: softer by ``ducking_db`` while the other one has samples.
            foreground: not changed. A live source ducks only while it has something to say.
            ducking_db: 0: not at all; -12: to a quarter.
            ends_with: what the end of the whole is.

        Raises:
            ValueError: the two have not the same rate.
        """
        self.sample_rate = rate_of(foreground)
        if rate_of(background) != self.sample_rate:
            raise ValueError("two sources of different rates cannot be mixed")
        self._background = background
        self._foreground = foreground
        self._ducked = _factor(ducking_db)
        self._level = 1.0
        self._ends_with = ends_with

    @property
    def total_samples(self) -> int | None:
        """Of that which it ends with."""
        front, back = self._foreground.total_samples, self._background.total_samples
        if self._ends_with == "foreground":
            return front
        if self._ends_with == "background":
            return back
        return None if front is None or back is None else max(front, back)

    @property
    def exhausted(self) -> bool:
        """That which it ends with is."""
        if self._ends_with == "foreground":
            return self._foreground.exhausted
        if self._ends_with == "background":
            return self._background.exhausted
        return self._foreground.exhausted and self._background.exhausted

    def read(self, samples: int) -> NDArray[np.int16]:
        """The next up to ``samples`` samples; what would be too loud is clipped."""
        front = NOTHING if self._foreground.exhausted else self._foreground.read(samples)
        back = NOTHING if self._background.exhausted else self._background.read(samples)
        mixed = np.zeros(samples, np.float32)
        mixed[: len(back)] = back
        mixed *= self._levels(samples, ducked=len(front) > 0)
        mixed[: len(front)] += front
        if self.exhausted:
            deciding = {"foreground": len(front), "background": len(back), "both": max(len(front), len(back))}
            mixed = mixed[: deciding[self._ends_with]]
        return _clipped(mixed)

    def close(self) -> None:
        """Closes both."""
        close_source(self._foreground)
        close_source(self._background)

    def _levels(self, samples: int, *, ducked: bool) -> NDArray[np.float32] | np.float32:
        wanted = self._ducked if ducked else 1.0
        if self._level == wanted:
            return np.float32(wanted)
        before = self._level
        lasts = (ATTACK if wanted < before else RELEASE) * self.sample_rate // NARROW
        step = abs(1.0 - self._ducked) * samples / lasts
        self._level = max(wanted, before - step) if wanted < before else min(wanted, before + step)
        return np.linspace(before, self._level, samples, dtype=np.float32)


class Chain:
    """Sources one behind the other, to the sample, as one."""

    def __init__(self, sources: Iterable[AudioSource]) -> None:
        self._sources = deque(sources)
        self.sample_rate = rate_of(self._sources[0]) if self._sources else NARROW
        totals = [source.total_samples for source in self._sources]
        self._total = None if None in totals else sum(total or 0 for total in totals)

    @property
    def total_samples(self) -> int | None:
        """Of all; None when one is of unknown length."""
        return self._total

    @property
    def exhausted(self) -> bool:
        """The last one is."""
        while self._sources and self._sources[0].exhausted:
            close_source(self._sources.popleft())
        return not self._sources

    def read(self, samples: int) -> NDArray[np.int16]:
        """The next up to ``samples`` samples."""
        taken: list[NDArray[np.int16]] = []
        wanted = samples
        while wanted and not self.exhausted:
            taken.append(self._sources[0].read(wanted))
            wanted -= len(taken[-1])
            if wanted and not self._sources[0].exhausted:
                break  # live, and dry at present
        return np.concatenate(taken) if taken else NOTHING

    def peek(self, samples: int) -> NDArray[np.int16]:
        """Those of the next ones that are of one source, where it can tell."""
        peek = None if self.exhausted else foresight(self._sources[0])
        return NOTHING if peek is None else peek(samples)

    def close(self) -> None:
        """Closes those that were not played to the end."""
        while self._sources:
            close_source(self._sources.popleft())


def _factor(decibels: float) -> float:
    return float(10 ** (decibels / 20))


def _clipped(samples: NDArray[np.float32]) -> NDArray[np.int16]:
    return np.clip(np.rint(samples), -32768, 32767).astype(np.int16)
