"""Test signals that correlate with themselves at one lag only, and wav files of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

__all__ = ["RATE", "read_wav", "speech_like", "wav_bytes", "write_wav"]

RATE = 8000
"""Hz: the rate of G.711."""

Pcm = npt.NDArray[np.int16]


def speech_like(seconds: float, *, seed: int, rate: int = RATE, highest: float = 3300) -> Pcm:
    """Noise in the telephone band with the loudness contour of syllables, never silent.

    Args:
        seconds: length.
        seed: another seed is another signal, not correlated with the first.
        rate: samples per second.
        highest: Hz, where its band ends.

    Returns:
        int16 samples, mono, peak at 60 % of full scale.
    """
    random = np.random.default_rng(seed)
    count = round(seconds * rate)
    spectrum = np.fft.rfft(random.standard_normal(count))
    frequency = np.fft.rfftfreq(count, 1 / rate)
    spectrum[(frequency < 300) | (frequency > highest)] = 0
    noise = np.fft.irfft(spectrum, count)
    time = np.arange(count) / rate
    contour = 0.3 + 0.7 * np.abs(np.sin(2 * np.pi * 1.7 * time) * np.sin(2 * np.pi * 0.6 * time + seed))
    signal = noise * contour
    return np.asarray(np.round(signal / np.abs(signal).max() * 0.6 * 32767), dtype=np.int16)


def write_wav(path: Path, samples: npt.NDArray[np.int16], *, rate: int = RATE) -> Path:
    """Write 16-bit PCM.

    Returns:
        ``path``.
    """
    soundfile.write(path, samples, rate, subtype="PCM_16")
    return path


def wav_bytes(samples: npt.NDArray[np.int16], folder: Path, *, rate: int = RATE) -> bytes:
    """The content of a wav file with ``samples``, as a request to play it carries it."""
    path = write_wav(folder / "request.wav", samples, rate=rate)
    return path.read_bytes()


def read_wav(path: Path, expected: int = RATE) -> Pcm:
    """A mono recording at that rate.

    Raises:
        ValueError: it has another rate or more channels.
    """
    samples, rate = soundfile.read(path, dtype="int16")
    if rate != expected or samples.ndim != 1:
        raise ValueError(f"{path}: {rate} Hz, shape {samples.shape}")
    return np.asarray(samples, dtype=np.int16)
