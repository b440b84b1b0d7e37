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
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

__all__ = [
    "AudioError",
    "NoSamples",
    "NotAudio",
    "TooLong",
    "block_frames",
    "decodes_quickly",
    "is_exact",
    "load_wav",
    "load_wav_in_thread",
    "open_audio",
    "to_int16",
]

INLINE_BYTES = 65_536
"""A file up to this size, unless it is packed very small, is decoded in about a millisecond: less than a thread would
take to answer."""

MAX_SECONDS = 4 * 3600
"""Longer audio is refused: it would have to be held in memory (16 kB a second)."""

BLOCK_SAMPLES = 2**19
"""Decoded at once at most, all channels together: 2 MiB as float32."""


class AudioError(ValueError):
    """The input cannot be played; the message says why."""


class NotAudio(AudioError):
    """Not an audio file libsndfile can read, or a damaged one."""


class NoSamples(AudioError):
    """An audio file that holds no sample."""


class TooLong(AudioError):
    """More audio than may be held in memory."""


def load_wav(
    data: bytes | bytearray | memoryview | str | Path,
    rate: int = 8000,
    *,
    max_seconds: float = MAX_SECONDS,
    abandoned: Callable[[], bool] = lambda: False,
) -> NDArray[np.int16]:
    """Decodes a whole file: the bytes of one, or a path.

    Channels are averaged; another sampling rate is converted with soxr's HQ setting. A file that is 16 bit, mono, and
    at ``rate`` already comes back bit for bit. What the header says is not believed where it costs memory: a file of
    a few kilobytes can hold hours of silence, at any rate and with any number of channels.

    Args:
        data: the file.
        rate: samples a second that are wanted.
        max_seconds: what is longer is refused.
        abandoned: asked between blocks of some ten milliseconds of work; True: nobody wants the result any more.

    Returns:
        int16 (n,), n >= 1, at ``rate`` samples a second, read-only.

    Raises:
        NotAudio: not a readable audio file (or no such file).
        NoSamples: audio without a sample.
        TooLong: longer than ``max_seconds``.
        AudioError: it was abandoned.
    """
    name = _name(data)
    with open_audio(data) as file:
        if file.frames > max_seconds * file.samplerate:
            raise TooLong(f"{name}: longer than {_duration(max_seconds)}")
        small = file.frames * max(file.channels, rate / file.samplerate) <= BLOCK_SAMPLES
        samples = _decode(file, rate) if small else _decode_blocks(file, rate, abandoned)
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


def decodes_quickly(data: bytes | bytearray | memoryview) -> bool:
    """Whether these bytes may be decoded on the event loop."""
    if len(data) > INLINE_BYTES:
        return False
    try:
        with open_audio(data) as file:
            samples = file.frames * max(file.channels, 8000 / file.samplerate)
            return bool(samples <= 2 * INLINE_BYTES)
    except AudioError:
        return True  # and refused at once


async def load_wav_in_thread(data: bytes | bytearray | memoryview | str | Path, rate: int = 8000) -> NDArray[np.int16]:
    """`load_wav` that never holds the event loop up: everything but small in-memory files is decoded in a thread."""
    if not isinstance(data, str | Path) and decodes_quickly(data):
        return load_wav(data, rate)
    return await asyncio.to_thread(load_wav, data, rate)


def block_frames(file: soundfile.SoundFile) -> int:
    """How many frames to read at once: a second, or fewer where channels or rate would make that too much memory."""
    return max(1, min(int(file.samplerate), BLOCK_SAMPLES // int(file.channels)))


def is_exact(file: soundfile.SoundFile, rate: int) -> bool:
    """Whether the file holds the very samples that are wanted, mono and at ``rate``."""
    return file.channels == 1 and file.samplerate == rate and file.subtype in ("PCM_16", "ULAW", "ALAW")


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:g} hours" if seconds >= 3600 else f"{seconds:g} seconds"


def _decode_blocks(file: soundfile.SoundFile, rate: int, abandoned: Callable[[], bool]) -> NDArray[np.int16]:
    """As :func:`_decode`, in memory for the result and a block."""
    samples = np.empty(
        -(-file.frames * rate // file.samplerate) + rate, np.int16
    )  # pages that nothing fills cost nothing
    exact = is_exact(file, rate)
    filter_ = (
        None
        if file.samplerate == rate
        else soxr.ResampleStream(file.samplerate, rate, 1, dtype="float32", quality="HQ")
    )
    count, more = 0, True
    while more:
        if abandoned():
            raise AudioError("abandoned")
        block = file.read(block_frames(file), dtype="int16" if exact else "float32", always_2d=not exact)
        more = len(block) > 0
        if not exact:
            mono = block.mean(axis=1, dtype=np.float32)
            block = to_int16(mono if filter_ is None else filter_.resample_chunk(mono, last=not more))
        block = block[: len(samples) - count]
        samples[count : count + len(block)] = block
        count += len(block)
    return samples[:count].copy() if count < len(samples) // 2 else samples[:count]


def _decode(file: soundfile.SoundFile, rate: int) -> NDArray[np.int16]:
    if is_exact(file, rate):
        exact: NDArray[np.int16] = file.read(dtype="int16")
        return exact
    mono: NDArray[np.float32] = file.read(dtype="float32", always_2d=True).mean(axis=1, dtype=np.float32)
    if file.samplerate != rate and len(mono):
        mono = soxr.resample(mono, file.samplerate, rate, quality="HQ")
    return to_int16(mono)
