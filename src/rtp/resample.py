"""8,000 Hz to 16,000 Hz and back, frame by frame, for audio that is live.

A half-band filter (Crochiere and Rabiner, Multirate Digital Signal Processing, §4.2): of its two phases one is a plain
delay, the other has 32 taps. Flat to 3.4 kHz, 75 dB down from 4.7 kHz on, 2 ms of delay. soxr's stream converter is as
good, but hands its samples out in blocks of 60 to 120 ms, which a conversation cannot wait for.

`double_rows` and `halve_rows` do the same for the frames of many streams at once: the filter is a product of matrices
then, and a frame costs a fifth.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "DOWN_DELAY",
    "HISTORY",
    "UP_DELAY",
    "Downsampler",
    "Upsampler",
    "double_rows",
    "doubled_after",
    "halve_rows",
    "halved_after",
    "saturate",
]

TAPS = 32
BEFORE = TAPS // 2 - 1
"""Input samples that lie before the two between which the filter interpolates."""
UP_DELAY = TAPS - 1 - BEFORE
"""Samples at 8,000 Hz by which what an `Upsampler` gives is late,"""
DOWN_DELAY = BEFORE
"""and by which what a `Downsampler` gives is."""


def _half_band() -> NDArray[np.float32]:
    """The phase that is not a delay: a windowed sinc at odd multiples of half a sample, its sum 1."""
    odd = np.arange(-TAPS + 1, TAPS, 2)
    taps = np.sinc(odd / 2) * np.kaiser(2 * TAPS - 1, 7.86)[::2]
    return np.asarray(taps / taps.sum(), np.float32)


FILTER = _half_band()

HISTORY = 2 * (TAPS - 1)
"""Samples ahead of a frame that a filter of either direction needs."""
BLOCK = TAPS
"""Results of one row of the matrix product: short, so that little of the matrix is zeroes."""
BLOCKS_AT_ONCE = 128
"""Rows of one product. OpenBLAS divides longer ones among threads, which wait for each other busily."""


def _banded() -> NDArray[np.float32]:
    """The filter as a matrix: what it makes of `BLOCK` samples and the `TAPS` - 1 ahead of them."""
    matrix = np.zeros((TAPS - 1 + BLOCK, BLOCK), np.float32)
    for result in range(BLOCK):
        matrix[result : result + TAPS, result] = FILTER
    return matrix


BANDED = _banded()


LOWEST, HIGHEST = np.array(-32768, np.float32), np.array(32767, np.float32)
HALF = np.array(0.5, np.float32)
"""Arrays, since numpy takes as long to find a type for a number of Python's as to compare a frame with it."""


def saturate(samples: NDArray[np.float32] | NDArray[np.int32]) -> None:
    """Cuts, in place, what int16 cannot hold."""
    np.minimum(samples, 32767, out=samples)
    np.maximum(samples, -32768, out=samples)


def _rounded(samples: NDArray[np.float32]) -> None:
    """To whole numbers that int16 can hold, in place."""
    np.rint(samples, out=samples)
    np.minimum(samples, HIGHEST, out=samples)
    np.maximum(samples, LOWEST, out=samples)


class Upsampler:
    """Doubles the rate."""

    def __init__(self) -> None:
        self._line = np.zeros(TAPS - 1, np.float32)  # what the filter still needs, then the new samples

    def __call__(self, samples: NDArray[np.int16]) -> NDArray[np.int16]:
        """int16 (n,) at 8,000 Hz to int16 (2 n,) at 16,000 Hz."""
        count = len(samples)
        line = self._line = _shifted(self._line, count)
        line[TAPS - 1 :] = samples
        between = np.correlate(line, FILTER)
        _rounded(between)
        doubled = np.empty(2 * count, np.int16)
        doubled[::2] = line[BEFORE : BEFORE + count]
        doubled[1::2] = between
        return doubled


class Downsampler:
    """Halves the rate; what is above 4 kHz does not fold back."""

    def __init__(self) -> None:
        self._even = np.zeros(BEFORE, np.float32)
        self._odd = np.zeros(TAPS - 1, np.float32)

    def __call__(self, samples: NDArray[np.int16]) -> NDArray[np.int16]:
        """int16 (2 n,) at 16,000 Hz to int16 (n,) at 8,000 Hz."""
        count = len(samples) // 2
        even = self._even = _shifted(self._even, count, BEFORE)
        odd = self._odd = _shifted(self._odd, count)
        even[BEFORE:] = samples[::2]
        odd[TAPS - 1 :] = samples[1::2]
        halved = np.correlate(odd, FILTER)
        halved += even[:count]
        halved *= HALF
        _rounded(halved)
        return halved.astype(np.int16)


def doubled_after(before: NDArray[np.int16], samples: NDArray[np.int16]) -> NDArray[np.int16]:
    """What an `Upsampler` makes of samples, any number of them, behind the `HISTORY` ahead of them."""
    return Upsampler()(np.concatenate((before, samples)))[2 * HISTORY :]


def halved_after(before: NDArray[np.int16], samples: NDArray[np.int16]) -> NDArray[np.int16]:
    """What a `Downsampler` makes of samples, an even number of them, behind the `HISTORY` ahead of them."""
    return Downsampler()(np.concatenate((before, samples)))[HISTORY // 2 :]


def double_rows(before: NDArray[np.int16], frames: NDArray[np.int16]) -> NDArray[np.int16]:
    """What `Upsampler` makes of frames, a row for each stream.

    Args:
        before: int16 (rows, `HISTORY`), the samples ahead of the frames.
        frames: int16 (rows, n) at 8,000 Hz, n a multiple of `BLOCK`.

    Returns:
        int16 (rows, 2 n) at 16,000 Hz.
    """
    rows, count = frames.shape
    between = _filtered(before[:, -(TAPS - 1) :], frames)
    _rounded(between)
    doubled = np.empty((rows, 2 * count), np.int16)
    late = TAPS - 1 - BEFORE
    doubled[:, : 2 * late : 2] = before[:, -late:]
    doubled[:, 2 * late :: 2] = frames[:, : count - late]
    doubled[:, 1::2] = between
    return doubled


def halve_rows(before: NDArray[np.int16], frames: NDArray[np.int16]) -> NDArray[np.int16]:
    """What `Downsampler` makes of frames, a row for each stream.

    Args:
        before: int16 (rows, `HISTORY`), the samples ahead of the frames.
        frames: int16 (rows, 2 n) at 16,000 Hz, n a multiple of `BLOCK`.

    Returns:
        int16 (rows, n) at 8,000 Hz.
    """
    count = frames.shape[1] // 2
    halved = _filtered(before[:, 1::2], frames[:, 1::2])
    halved[:, BEFORE:] += frames[:, : 2 * (count - BEFORE) : 2]
    halved[:, :BEFORE] += before[:, -2 * BEFORE :: 2]
    halved *= HALF
    _rounded(halved)
    return halved.astype(np.int16)


def _filtered(before: NDArray[np.int16], samples: NDArray[np.int16]) -> NDArray[np.float32]:
    """float32 (rows, n) of int16 (rows, n) and the `TAPS` - 1 ahead of each row."""
    rows, count = samples.shape
    new = samples.reshape(rows, count // BLOCK, BLOCK)
    blocks = np.empty((rows, count // BLOCK, TAPS - 1 + BLOCK), np.float32)
    blocks[:, 0, : TAPS - 1] = before
    blocks[:, 1:, : TAPS - 1] = new[:, :-1, BLOCK - TAPS + 1 :]
    blocks[:, :, TAPS - 1 :] = new
    flat = blocks.reshape(-1, TAPS - 1 + BLOCK)
    made = np.empty((len(flat), BLOCK), np.float32)
    for start in range(0, len(flat), BLOCKS_AT_ONCE):
        end = start + BLOCKS_AT_ONCE
        np.matmul(flat[start:end], BANDED, out=made[start:end])
    return made.reshape(rows, count)


def _shifted(line: NDArray[np.float32], count: int, kept: int = TAPS - 1) -> NDArray[np.float32]:
    """The last ``kept`` samples in front, and room for ``count`` behind them; the same memory where it fits."""
    if len(line) != kept + count:
        longer = np.empty(kept + count, np.float32)
        longer[:kept] = line[len(line) - kept :]
        return longer
    line[:kept] = line[count:]
    return line
