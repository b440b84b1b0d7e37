"""What was heard, compared with what was played: where it stands in a recording, how alike it is, what is damaged.

All arrays are one-dimensional, int16 or float, at one common rate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Heard", "Match", "compare", "damage", "find", "level"]

Samples: TypeAlias = "NDArray[np.int16] | NDArray[np.float64]"

FULL_SCALE = 32768.0
FRAME = 160
"""Samples judged at once: one packet of 20 ms at 8,000 Hz."""
GOOD_FRAME = 0.8
"""Least normalised correlation of an undamaged frame; G.711 alone leaves a frame of speech above it."""
AUDIBLE = -45.0
"""dB below which a frame of what was played is not judged: there companding noise would decide."""


@dataclass(frozen=True, slots=True)
class Match:
    """The best place of a played signal in a recording."""

    offset: int
    """Sample of the recording at which the signal begins; negative where its beginning is missing."""
    similarity: float
    """Normalised cross-correlation there, -1 to 1: 1 is the same wave, whatever its loudness."""


@dataclass(frozen=True, slots=True)
class Heard:
    """A comparison."""

    match: Match
    damaged: float
    """Seconds of the played signal that the recording does not hold as they were."""


def find(recording: Samples, played: Samples) -> Match:
    """Finds ``played`` (n,) in ``recording`` (m,) by normalised cross-correlation over every lag.

    Where a lag leaves a part of ``played`` outside the recording, that part is compared with silence.
    """
    heard = np.asarray(recording, dtype=np.float64)
    wanted = np.asarray(played, dtype=np.float64)
    energy = float(np.dot(wanted, wanted))
    if not len(heard) or energy == 0.0:
        return Match(0, 0.0)
    size = 1 << (len(heard) + len(wanted) - 1).bit_length()
    products = np.fft.irfft(np.fft.rfft(heard, size) * np.conj(np.fft.rfft(wanted, size)), size)
    lags = np.arange(1 - len(wanted), len(heard))
    running = np.concatenate(([0.0], np.cumsum(heard**2)))
    last = np.clip(lags + len(wanted), 0, len(heard))
    under = running[last] - running[np.clip(lags, 0, len(heard))]
    # A lag at which next to nothing of the recording lies under the signal would divide by next to nothing.
    similarity = products[lags % size] / np.sqrt(np.maximum(under, 0.01 * energy) * energy)
    best = int(np.argmax(similarity))
    return Match(int(lags[best]), float(similarity[best]))


def damage(recording: Samples, played: Samples, offset: int, *, rate: int) -> float:
    """Seconds of ``played`` that do not stand in ``recording`` at ``offset``, judged frame by frame.

    Frames are compared at this one lag, so a lost or an inserted stretch damages all that follows it.
    """
    heard = np.zeros(len(played))
    begin, end = max(0, offset), max(0, min(len(recording), offset + len(played)))
    if end > begin:
        heard[begin - offset : end - offset] = recording[begin:end]
    count = len(played) // FRAME
    wanted = np.asarray(played[: count * FRAME], dtype=np.float64).reshape(count, FRAME)
    got = heard[: count * FRAME].reshape(count, FRAME)
    audible = np.sqrt((wanted**2).mean(axis=1)) > FULL_SCALE * 10 ** (AUDIBLE / 20)
    scale = np.sqrt((wanted**2).sum(axis=1) * (got**2).sum(axis=1))
    alike = (wanted * got).sum(axis=1) / np.maximum(scale, 1.0)
    return float(np.count_nonzero(audible & (alike < GOOD_FRAME)) * FRAME / rate)


def compare(recording: Samples, played: Samples, *, rate: int) -> Heard:
    """Both at once: where ``played`` is in ``recording``, and how much of it is damaged there."""
    match = find(recording, played)
    return Heard(match, damage(recording, played, match.offset, rate=rate))


def level(samples: Samples) -> float:
    """Loudness in dB of full scale (RMS); -96 for silence and for no samples."""
    if not len(samples):
        return -96.0
    rms = float(np.sqrt(np.mean(np.asarray(samples, dtype=np.float64) ** 2)))
    return max(-96.0, 20 * float(np.log10(max(rms, 1e-3) / FULL_SCALE)))
