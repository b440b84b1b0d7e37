"""The half-band filter, frame by frame."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from rtp.resample import HISTORY, Downsampler, Upsampler, double_rows, halve_rows

FRAME = 160
DELAY = 31
"""Samples at 8,000 Hz that both filters together take."""


def sine(hertz: float, rate: int, *, amplitude: float = 8000, seconds: float = 1.0) -> NDArray[np.int16]:
    return np.rint(amplitude * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)).astype(np.int16)


def up(samples: NDArray[np.int16]) -> NDArray[np.int16]:
    convert = Upsampler()
    return np.concatenate([convert(samples[at : at + FRAME]) for at in range(0, len(samples), FRAME)])


def down(samples: NDArray[np.int16]) -> NDArray[np.int16]:
    convert = Downsampler()
    return np.concatenate([convert(samples[at : at + 2 * FRAME]) for at in range(0, len(samples), 2 * FRAME)])


def level(samples: NDArray[np.int16]) -> float:
    """Root of the mean square, without the filter's beginning."""
    return float(np.sqrt(np.mean(np.square(samples[400:].astype(np.float64)))))


@pytest.mark.parametrize("hertz", [300, 1000, 2000, 3000, 3400])
def test_speech_passes_and_has_no_mirror_image(hertz: float) -> None:
    heard = up(sine(hertz, 8000))
    assert len(heard) == 16000
    spectrum = np.abs(np.fft.rfft(heard[800:].astype(np.float64) * np.kaiser(15200, 14)))
    assert np.argmax(spectrum) == pytest.approx(hertz * 15200 / 16000, abs=1)
    assert level(heard) == pytest.approx(8000 / np.sqrt(2), rel=0.01)
    if hertz <= 3300:
        above = spectrum[int(4800 * 15200 / 16000) :]
        assert above.max() < spectrum.max() / 1000  # -60 dB


@pytest.mark.parametrize("hertz", [4700, 5500, 7000])
def test_what_8000_hertz_cannot_hold_does_not_fold_back(hertz: float) -> None:
    assert level(down(sine(hertz, 16000))) < 8000 / 1000


def test_there_and_back_is_the_same_again_but_for_a_delay() -> None:
    samples = sine(1000, 8000) + sine(330, 8000)
    back = down(up(samples))
    assert np.abs(back[200 + DELAY :].astype(int) - samples[200:-DELAY]).max() <= 1


def test_frames_join_without_a_seam() -> None:
    samples = sine(440, 8000)
    whole = Upsampler()(samples)
    assert np.array_equal(up(samples), whole)
    assert np.array_equal(down(whole), Downsampler()(whole))


def test_the_loudest_samples_saturate() -> None:
    loud = np.tile(np.repeat(np.array([32767, -32768], np.int16), 8), 100)
    heard = up(loud)
    assert (int(np.max(heard)), int(np.min(heard))) == (32767, -32768)
    for late, rate in ((heard[31:], 2), (down(heard)[DELAY:], 1)):  # nothing has wrapped around
        assert np.corrcoef(late, np.repeat(loud, rate)[: len(late)])[0, 1] > 0.9


def test_rows_are_resampled_as_each_would_be_by_itself() -> None:
    rng = np.random.default_rng(1)
    loud, rows = 32767, 300
    streams = rng.integers(-loud, loud, (rows, 4 * FRAME)).astype(np.int16)
    streams[::3] = np.where(streams[::3] > 0, loud, -loud)
    for convert, alone, width in ((double_rows, Upsampler, FRAME), (halve_rows, Downsampler, 2 * FRAME)):
        before, pieces = np.zeros((rows, HISTORY), np.int16), []
        for at in range(0, 4 * FRAME, width):
            frames = streams[:, at : at + width]
            pieces.append(convert(before, frames))
            before = frames[:, -HISTORY:]
        made = np.concatenate(pieces, axis=1)
        expected = np.stack([alone()(stream) for stream in streams])
        assert made.shape == expected.shape
        assert np.abs(made.astype(int) - expected).max() <= 1  # sums in another order
        assert np.mean(made != expected) < 0.001
