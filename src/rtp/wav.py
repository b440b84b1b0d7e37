"""Audio files as 8 kHz mono samples: whatever libsndfile reads, resampled with soxr, mixed to one channel."""

from __future__ import annotations

import asyncio
import io
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile
import soxr

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["AudioError", "NoSamples", "NotAudio", "load_wav", "load_wav_in_thread", "open_audio", "to_int16"]

INLINE_BYTES = 65_536
"""A file up to this size is decoded in about a millisecond: less than a thread would take to answer."""

MAX_SECONDS = 4 * 3600
"""Longer audio is refused: it would have to be held in memory (16 kB a second)."""


class AudioError(ValueError):
    """The input cannot be played; the message says why."""


class NotAudio(AudioError):
    """Not an audio file libsndfile can read, or a damaged one."""


class NoSamples(AudioError):
    """An audio file that holds no sample."""


def load_wav(data: bytes | bytearray | memoryview | str | Path, rate: int = 8000) -> NDArray[np.int16]:
    """Decodes a whole file: the bytes of one, or a path.

    Channels are averaged; another sampling rate is converted with soxr's HQ setting. A file that is 16 bit, mono, and
    at ``rate`` already comes back bit for bit.

    Returns:
        int16 (n,), n >= 1, at ``rate`` samples a second, read-only.

    Raises:
        NotAudio: not a readable audio file (or no such file).
        NoSamples: audio without a sample.
    """
    name = _name(data)
    with open_audio(data) as file:
        if file.frames > MAX_SECONDS * file.samplerate:
            raise AudioError(f"{name}: longer than {MAX_SECONDS // 3600} hours")
        samples = _decode(file, rate)
    if not len(samples):
        raise NoSamples(f"{name} has no samples")
    samples.flags.writeable = False
    return samples


@contextmanager
def open_audio(data: bytes | bytearray | memoryview | str | Path) -> Iterator[soundfile.SoundFile]:
    """A file, or the bytes of one, opened to be read.

    Raises:
        NotAudio: not a readable audio file (or no such file), or damaged where it is being read.
    """
    try:
        with soundfile.SoundFile(str(data) if isinstance(data, str | Path) else io.BytesIO(data)) as file:
            yield file
    except (soundfile.SoundFileError, OSError, TypeError) as error:
        reason = _reason(data, error)
        raise NotAudio(f"{_name(data)} is not a readable audio file: {reason.strip().rstrip('.')}") from error


def _reason(data: bytes | bytearray | memoryview | str | Path, error: Exception) -> str:
    """libsndfile's word for a file that is not there, or may not be read, is "System error"."""
    if isinstance(data, str | Path):
        try:
            os.close(os.open(data, os.O_RDONLY | os.O_NONBLOCK))
        except OSError as cause:
            return os.strerror(cause.errno or 0).lower()
        if os.path.isdir(data):
            return "a directory"
    return getattr(error, "error_string", "") or str(error)


def to_int16(samples: NDArray[np.float32]) -> NDArray[np.int16]:
    """From -1..1, rounded and clipped."""
    scaled = np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=-1.0) * 32768.0
    return np.asarray(np.clip(np.rint(scaled), -32768, 32767), np.int16)


def _name(data: bytes | bytearray | memoryview | str | Path) -> str:
    return str(data) if isinstance(data, str | Path) else "the data"


async def load_wav_in_thread(data: bytes | bytearray | memoryview | str | Path, rate: int = 8000) -> NDArray[np.int16]:
    """`load_wav` that never holds the event loop up: everything but small in-memory files is decoded in a thread."""
    if not isinstance(data, str | Path) and len(data) <= INLINE_BYTES:
        return load_wav(data, rate)
    return await asyncio.to_thread(load_wav, data, rate)


def _decode(file: soundfile.SoundFile, rate: int) -> NDArray[np.int16]:
    if file.channels == 1 and file.samplerate == rate and file.subtype in ("PCM_16", "ULAW", "ALAW"):
        exact: NDArray[np.int16] = file.read(dtype="int16")
        return exact
    mono: NDArray[np.float32] = file.read(dtype="float32", always_2d=True).mean(axis=1, dtype=np.float32)
    if file.samplerate != rate and len(mono):
        mono = soxr.resample(mono, file.samplerate, rate, quality="HQ")
    return to_int16(mono)
