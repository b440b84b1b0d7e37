"""Sources at another rate than the stream's: 8,000 Hz in a wideband call, and the other way round."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rtp.resample import DOWN_DELAY, UP_DELAY, Downsampler, Upsampler
from rtp.sources import NARROW, close_source

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rtp.sources import AudioSource

__all__ = ["NARROW", "WIDE", "AtRate", "at_rate", "doubled", "rate_of"]

WIDE = 16000
"""Samples a second of a wideband stream."""


def rate_of(source: AudioSource) -> int:
    """The rate of a source: its ``sample_rate``; 8,000 where it has none.

    Raises:
        ValueError: it is neither 8,000 nor 16,000.
    """
    rate: int = getattr(source, "sample_rate", NARROW)
    if rate not in (NARROW, WIDE):
        raise ValueError(f"a source has {NARROW} or {WIDE} samples a second, not {rate}")
    return rate


def at_rate(source: AudioSource, rate: int) -> AudioSource:
    """The source itself where it has that rate, else one that converts it.

    Raises:
        ValueError: as `rate_of`.
    """
    return source if rate_of(source) == rate else AtRate(source, rate)


def doubled(samples: NDArray[np.int16]) -> NDArray[np.int16]:
    """int16 (n,) at 8,000 Hz to int16 (2 n,) at 16,000 Hz, in step with it."""
    padded = np.concatenate((samples, np.zeros(UP_DELAY, np.int16)))
    return Upsampler()(padded)[2 * UP_DELAY :]


class AtRate:
    """A source, converted while it is read.

    What has an end comes out in step with the original and twice, or half, as long to the sample. What is live comes
    out at once, and 2 ms late.
    """

    def __init__(self, source: AudioSource, rate: int) -> None:
        """``rate`` is not that of the source."""
        self.source = source
        self.sample_rate = rate
        self._convert = Upsampler() if rate == WIDE else Downsampler()
        self._delay = 2 * UP_DELAY if rate == WIDE else DOWN_DELAY
        self._skip = self._delay if source.total_samples is not None else 0
        self._odd = np.zeros(0, np.int16)
        self._ready = np.zeros(0, np.int16)
        self._flushed = False

    @property
    def total_samples(self) -> int | None:
        """The source's, at this rate."""
        total = self.source.total_samples
        return None if total is None else total * 2 if self.sample_rate == WIDE else total // 2

    @property
    def exhausted(self) -> bool:
        """The source is, and what the filter held has been read."""
        return self.source.exhausted and self._flushed and not len(self._ready)

    def read(self, samples: int) -> NDArray[np.int16]:
        """The next up to ``samples`` samples."""
        missing = samples - len(self._ready) + self._skip
        if missing > 0 and not self.source.exhausted:
            wanted = -(-missing // 2) if self.sample_rate == WIDE else 2 * missing
            self._take(self.source.read(wanted))
        if len(self._ready) < samples and self.source.exhausted and not self._flushed:
            self._flushed = True
            rest = self._delay // 2 if self.sample_rate == WIDE else 2 * self._delay
            self._take(np.zeros(rest - len(self._odd), np.int16))
        taken, self._ready = self._ready[:samples], self._ready[samples:]
        return taken

    def close(self) -> None:
        """Closes the source."""
        close_source(self.source)

    def _take(self, samples: NDArray[np.int16]) -> None:
        if self.sample_rate != WIDE:
            if len(self._odd):
                samples = np.concatenate((self._odd, samples))
            even = len(samples) & ~1
            samples, self._odd = samples[:even], samples[even:].copy()
        if not len(samples):
            return
        made = self._convert(samples)
        skipped = min(self._skip, len(made))
        self._skip -= skipped
        made = made[skipped:]
        self._ready = np.concatenate((self._ready, made)) if len(self._ready) else made
