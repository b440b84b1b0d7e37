"""Where a stream's audio comes from: anything that hands out int16 samples when the clock asks.

A source has 8,000 samples a second, or what its attribute ``sample_rate`` says, which may be 16,000; `rtp.rates`
converts it where the stream has another.

One that knows what it will say may have a method ``peek``, see `PeekableSource`, and costs the clock less then. What is
live must not have it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["NARROW", "ArraySource", "AudioSource", "LoopedSource", "PeekableSource", "close_source", "foresight"]

logger = logging.getLogger(__name__)

NARROW = 8000
"""Samples a second of a source that does not say."""


class AudioSource(Protocol):
    """Audio that is read on the clock: `read` must return at once."""

    @property
    def total_samples(self) -> int | None:
        """How many samples there are in all, or None when nobody knows."""

    @property
    def exhausted(self) -> bool:
        """True when no further sample will ever come."""

    def read(self, samples: int) -> NDArray[np.int16]:
        """Up to ``samples`` samples, int16 (n,). Fewer than asked for are padded with silence, or with what plays next
        when the source is exhausted."""


class PeekableSource(AudioSource, Protocol):
    """A source that can tell what comes next."""

    def peek(self, samples: int) -> NDArray[np.int16]:
        """Up to ``samples`` of the samples that the next reads give, int16 (n,), none of them taken.

        Fewer, or none, where only reading tells. `read` takes them later, many frames at once, when they have gone out
        or something else happens to what plays.
        """


def foresight(source: AudioSource) -> Callable[[int], NDArray[np.int16]] | None:
    """The ``peek`` of a source that has one; None where a class has another ``read`` than the one that ``peek`` tells
    of."""
    for kind in type(source).__mro__:
        if "peek" in vars(kind):
            peek: Callable[[int], NDArray[np.int16]] = source.peek  # type: ignore[attr-defined]  # just looked up
            return peek
        if "read" in vars(kind):
            break
    return None


def close_source(source: AudioSource) -> None:
    """It is not played any more: one that has a ``close`` method gives back what it holds."""
    close = getattr(source, "close", None)
    if close is not None:
        try:
            close()
        except Exception:
            logger.exception("an audio source failed to close")


class ArraySource:
    """Samples that are all there already."""

    def __init__(self, samples: NDArray[np.int16], sample_rate: int = NARROW) -> None:
        """int16 (n,); not copied.

        Raises:
            ValueError: another type or shape.
        """
        if samples.dtype != np.int16 or samples.ndim != 1:
            raise ValueError(f"samples are {samples.dtype} {samples.shape}, not int16 (n,)")
        self._samples = samples
        self._position = 0
        self.sample_rate = sample_rate

    @property
    def total_samples(self) -> int:
        """The array's length."""
        return len(self._samples)

    @property
    def exhausted(self) -> bool:
        """True when the last sample was read."""
        return self._position >= len(self._samples)

    def read(self, samples: int) -> NDArray[np.int16]:
        """The next up to ``samples`` samples, a view."""
        position = self._position
        self._position = position + samples
        return self._samples[position : position + samples]

    def peek(self, samples: int) -> NDArray[np.int16]:
        """The same, and they stay the next ones."""
        return self._samples[self._position : self._position + samples]


class LoopedSource:
    """Samples again and again."""

    def __init__(self, samples: NDArray[np.int16], total_samples: int | None = None, sample_rate: int = NARROW) -> None:
        """
        Args:
            samples: int16 (n,), n >= 1; not copied.
            total_samples: when to stop; None: never.
            sample_rate: 8,000 or 16,000.

        Raises:
            ValueError: another type or shape.
        """
        if samples.dtype != np.int16 or samples.ndim != 1 or not len(samples):
            raise ValueError(f"samples are {samples.dtype} {samples.shape}, not int16 (n,) with n >= 1")
        self._samples = samples
        self._total = total_samples
        self._position = 0
        self.sample_rate = sample_rate

    @property
    def total_samples(self) -> int | None:
        """When it stops, or None."""
        return self._total

    @property
    def exhausted(self) -> bool:
        """It has stopped."""
        return self._total is not None and self._position >= self._total

    def read(self, samples: int) -> NDArray[np.int16]:
        """The next up to ``samples`` samples, a view where they are not both its end and its beginning."""
        following = self.peek(samples)
        self._position += len(following)
        return following

    def peek(self, samples: int) -> NDArray[np.int16]:
        """The same, and they stay the next ones."""
        count = samples if self._total is None else max(0, min(samples, self._total - self._position))
        length = len(self._samples)
        start = self._position % length
        if start + count <= length:
            return self._samples[start : start + count]
        return self._samples[np.arange(start, start + count) % length]
