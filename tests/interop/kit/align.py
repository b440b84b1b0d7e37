"""Where a played signal stands in a recording, how alike the two are, and where something is missing.

Everything here works on int16 or float arrays of one dimension at one common rate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Alignment", "Fault", "align", "faults", "is_heard"]

Samples = npt.NDArray[np.int16] | npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Alignment:
    """The best place of the played signal inside the recording."""

    offset: int
    """Sample of the recording where the played signal begins; negative when its beginning is missing."""
    correlation: float
    """Normalised cross-correlation there, -1 … 1, over the whole played signal."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A stretch of the recording that is not what was played."""

    start: float
    """Seconds from the beginning of the played signal."""
    duration: float
    """Seconds."""


def align(recording: Samples, played: Samples) -> Alignment:
    """Find ``played`` in ``recording`` by normalised cross-correlation over every lag.

    A lag at which part of ``played`` lies outside the recording compares that part with silence: a recording
    that was cut off correlates less.
    """
    heard = np.asarray(recording, dtype=np.float64)
    wanted = np.asarray(played, dtype=np.float64)
    if not len(heard) or not len(wanted):
        return Alignment(0, 0.0)
    size = 1 << (len(heard) + len(wanted) - 1).bit_length()
    product = np.fft.irfft(np.fft.rfft(heard, size) * np.conj(np.fft.rfft(wanted, size)), size)
    lags = np.arange(-len(wanted) + 1, len(heard))
    products = product[lags % size]
    energy = np.concatenate(([0.0], np.cumsum(heard**2)))
    first = np.clip(lags, 0, len(heard))
    last = np.clip(lags + len(wanted), 0, len(heard))
    under = energy[last] - energy[first]
    # A lag that overlaps next to nothing would divide by next to nothing.
    floor = 0.01 * float(np.sum(wanted**2))
    normalised = products / np.sqrt(np.maximum(under, floor) * max(float(np.sum(wanted**2)), 1.0))
    best = int(np.argmax(normalised))
    return Alignment(int(lags[best]), float(normalised[best]))


def faults(
    recording: Samples,
    played: Samples,
    offset: int,
    *,
    rate: int = 8000,
    frame: int = 160,
    threshold: float = 0.9,
    quiet: float = 100.0,
) -> list[Fault]:
    """Compare frame by frame at one fixed lag, so that a lost, repeated or inserted stretch shows.

    After an insertion or a loss everything that follows is shifted and is a fault too: a recording without
    fault has the played signal once, whole and in one piece.

    Args:
        recording: what was heard.
        played: what was sent.
        offset: from :func:`align`.
        rate: samples per second, for the times in the result.
        frame: samples compared at once.
        threshold: least normalised correlation of a good frame.
        quiet: frames of ``played`` with a lower RMS are not judged: companding noise would dominate.

    Returns:
        neighbouring bad frames joined, in order.
    """
    found: list[Fault] = []
    for start in range(0, len(played) - frame + 1, frame):
        wanted = np.asarray(played[start : start + frame], dtype=np.float64)
        if np.sqrt(np.mean(wanted**2)) < quiet:
            continue
        position = offset + start
        heard = np.zeros(frame)
        inside = np.asarray(recording[max(position, 0) : max(position + frame, 0)], dtype=np.float64)
        heard[max(-position, 0) : max(-position, 0) + len(inside)] = inside[:frame]
        scale = np.sqrt(np.sum(wanted**2) * np.sum(heard**2))
        if scale and float(np.dot(wanted, heard)) / scale >= threshold:
            continue
        begin, length = start / rate, frame / rate
        if found and abs(found[-1].start + found[-1].duration - begin) < 1e-9:
            found[-1] = Fault(found[-1].start, found[-1].duration + length)
        else:
            found.append(Fault(begin, length))
    return found


def is_heard(recording: Samples, played: Samples, *, rate: int = 8000) -> bool:
    """Whether most tenths of a second of ``played`` stand in the recording: a loaded machine may lose a frame."""
    pieces = [played[start : start + rate // 10] for start in range(0, len(played) - rate // 10, rate // 10)]
    found = [align(recording, piece).correlation > 0.9 for piece in pieces]
    return sum(found) > len(found) / 2
