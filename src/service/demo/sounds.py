"""What the demo plays: the shipped speech, or a file, and a chime made on the spot."""

from __future__ import annotations

import importlib.resources
import io

import numpy as np
import soundfile
from numpy.typing import NDArray

from rtp.wav import load_wav

__all__ = ["RATE", "chime", "shipped_speech", "shortened", "wav_bytes"]

RATE = 8000
"""Hz: the rate of G.711, at which everything is compared."""

NOTES = (523.25, 659.26, 783.99)
"""Hz: C5, E5, G5."""


def shipped_speech() -> bytes:
    """The wav file that comes with the package: about eight seconds of speech at 16,000 Hz."""
    return importlib.resources.files("service.demo").joinpath("assets/welcome.wav").read_bytes()


def shortened(file: bytes, seconds: float | None) -> bytes:
    """An audio file, checked, and cut to at most ``seconds``; as it is where that is None or it is no longer.

    Raises:
        rtp.wav.AudioError: it is no audio file, or an empty one.
    """
    load_wav(file)
    if seconds is None:
        return file
    samples, rate = soundfile.read(io.BytesIO(file), dtype="int16", always_2d=True)
    if len(samples) <= seconds * rate:
        return file
    return wav_bytes(samples[: round(seconds * rate)], rate=rate)


def chime(*, rate: int = RATE) -> NDArray[np.int16]:
    """Three struck notes, one after the other: int16 (n,), 0.9 s."""
    time = np.arange(round(0.9 * rate)) / rate
    sound = np.zeros(len(time))
    for number, pitch in enumerate(NOTES):
        since = time - 0.15 * number
        ringing = since >= 0
        # The overtone dies sooner than the note, as on a bell.
        tone = np.sin(2 * np.pi * pitch * since) * np.exp(-6 * since)
        overtone = 0.3 * np.sin(4 * np.pi * pitch * since) * np.exp(-12 * since)
        attack = np.minimum(1.0, since / 0.004)
        sound += np.where(ringing, (tone + overtone) * attack, 0.0)
    sound *= np.minimum(1.0, (time[-1] - time) / 0.05)
    return np.asarray(np.round(sound / np.abs(sound).max() * 0.4 * 32767), dtype=np.int16)


def wav_bytes(samples: NDArray[np.int16], *, rate: int = RATE) -> bytes:
    """A 16-bit wav file of ``samples``: (n,), or (n, channels)."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype="PCM_16")
    return file.getvalue()
