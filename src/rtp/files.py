"""Audio files of any length, decoded a little ahead of the clock by threads of their own.

A few seconds of what plays are in memory, however long the file is. The clock takes blocks that are there and never
waits: where a disk falls behind, silence goes out, and is counted. Files in a row, and a file again from its beginning,
follow each other to the sample.
"""

from __future__ import annotations

import logging
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import soxr

from rtp.sources import ArraySource, LoopedSource
from rtp.wav import AudioError, NoSamples, block_frames, is_exact, load_wav, open_audio, to_int16

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from concurrent.futures import Executor
    from pathlib import Path

    from numpy.typing import NDArray

    from rtp.sources import AudioSource

__all__ = ["STREAM_FROM_SECONDS", "FileSource", "Part", "open_source"]

logger = logging.getLogger(__name__)

Part: TypeAlias = "str | Path | bytes | NDArray[np.int16]"
"""A path, the bytes of a file that libsndfile reads, or int16 samples (n,) at the rate that is played."""

STREAM_FROM_SECONDS = 10
"""What is longer is streamed; what is not is decoded at once, and then costs the disk nothing any more."""

BLOCK_SECONDS = 1
AHEAD_SECONDS = 4
"""Decoded ahead of the clock: 64 kB a source. A disk may stand still for nearly as long."""

_decoders = ThreadPoolExecutor(4, thread_name_prefix="audio-decoder")
"""Decode for all sources of the process; libsndfile and soxr let the interpreter go meanwhile."""


def open_source(parts: Sequence[Part], *, loop: bool = False, rate: int = 8000) -> AudioSource:
    """The parts one behind the other, without a gap, as a source. Blocks: for a thread, unless all parts are arrays.

    Args:
        parts: at least one.
        loop: again and again, until the playback is cancelled.
        rate: samples a second that are wanted.

    Raises:
        AudioError: a part is no audio that can be played.
        ValueError: an array that is not int16 (n,).
    """
    seconds = sum(_length(part, rate) for part in parts if not isinstance(part, np.ndarray)) / rate
    if seconds > STREAM_FROM_SECONDS:
        return FileSource(parts, loop=loop, rate=rate)
    arrays = [part if isinstance(part, np.ndarray) else load_wav(part, rate) for part in parts]
    samples = arrays[0] if len(arrays) == 1 else np.concatenate(arrays) if arrays else np.zeros(0, np.int16)
    if loop and not len(samples):
        raise NoSamples("there is no sample to play again and again")
    return LoopedSource(samples, sample_rate=rate) if loop else ArraySource(samples, rate)


class FileSource:
    """Parts one behind the other, read while they play."""

    def __init__(
        self, parts: Sequence[Part], *, loop: bool = False, rate: int = 8000, decoders: Executor = _decoders
    ) -> None:
        """Looks at every part and decodes the beginning; blocks, so it is for a thread.

        Args:
            parts: see `open_source`.
            loop: see `open_source`.
            rate: see `open_source`.
            decoders: where the rest is decoded.

        Raises:
            AudioError: a part is no audio that can be played.
            ValueError: an array that is not int16 (n,).
        """
        self._rate = self.sample_rate = rate
        total = sum(_length(part, rate) for part in parts)
        if not total:
            raise NoSamples("there is no sample to play")
        self._total = None if loop else total
        self._decoders = decoders
        self._reel = _reel(parts, loop=loop, rate=rate)
        self._lock = Lock()  # of the reel, between decoding and closing
        self._blocks: deque[NDArray[np.int16]] = deque()  # filled by a decoder, emptied by the clock
        self._offset = 0
        self._written = 0  # samples, counted by the decoder
        self._read = 0  # and by the clock
        self._filling = False
        self._ended = False
        self._closed = False
        self._error: AudioError | None = None
        self.underruns = 0
        """Frames that lacked samples because the next block was not decoded yet."""
        self._fill(BLOCK_SECONDS * rate)

    @property
    def total_samples(self) -> int | None:
        """How many samples there are in all (to a few, where the rate is converted); None when they are repeated."""
        return self._total

    @property
    def buffered_samples(self) -> int:
        """Samples decoded and not played yet."""
        return self._written - self._read

    @property
    def exhausted(self) -> bool:
        """Everything was read."""
        return self._ended and not self._blocks

    def read(self, samples: int) -> NDArray[np.int16]:
        """The next up to ``samples`` samples.

        Raises:
            AudioError: the file turned out to be damaged here.
        """
        taken: list[NDArray[np.int16]] = []
        wanted = samples
        while wanted and self._blocks:
            block = self._blocks[0]
            piece = block[self._offset : self._offset + wanted]
            taken.append(piece)
            wanted -= len(piece)
            self._offset += len(piece)
            if self._offset >= len(block):
                self._blocks.popleft()
                self._offset = 0
        self._read += samples - wanted
        if wanted and not self._ended:
            if self._error is not None and wanted == samples:
                raise self._error
            self.underruns += 1
        self._keep_ahead()
        return taken[0] if len(taken) == 1 else np.concatenate(taken) if taken else np.zeros(0, np.int16)

    def peek(self, samples: int) -> NDArray[np.int16]:
        """Those of the next ones that are of one block, a view."""
        return self._blocks[0][self._offset : self._offset + samples] if self._blocks else np.zeros(0, np.int16)

    def close(self) -> None:
        """Nothing more is read; a decoder closes the file. May be called again."""
        if not self._closed:
            self._closed = True
            self._decoders.submit(self._shut)

    def _keep_ahead(self) -> None:
        if self._filling or self._ended or self._closed or self._error is not None:
            return
        if self.buffered_samples <= (AHEAD_SECONDS - BLOCK_SECONDS) * self._rate:
            self._filling = True
            self._decoders.submit(self._fill, AHEAD_SECONDS * self._rate)

    def _fill(self, samples: int) -> None:
        """Decodes until so many samples wait."""
        try:
            with self._lock:
                while self.buffered_samples < samples and not self._closed:
                    block = next(self._reel, None)
                    if block is None:
                        self._ended = True
                        return
                    self._blocks.append(block)
                    self._written += len(block)
        except AudioError as error:
            if not self._written:
                raise
            self._error = error
        except Exception as error:
            logger.exception("decoding an audio file failed")
            self._error = AudioError(str(error))
        finally:
            self._filling = False

    def _shut(self) -> None:
        with self._lock:
            self._reel.close()
            self._blocks.clear()


def _length(part: Part, rate: int) -> int:
    """In samples at ``rate``, by what the header says."""
    if isinstance(part, np.ndarray):
        return len(part)
    with open_audio(part) as file:
        if not file.frames:
            raise NoSamples("a file to play has no samples")
        frames: int = file.frames
        samplerate: int = file.samplerate
        return round(frames * rate / samplerate)


def _reel(parts: Sequence[Part], *, loop: bool, rate: int) -> Generator[NDArray[np.int16], None, None]:
    """All blocks of all parts at ``rate``, none of them empty."""
    converter = _Converter(rate)
    while True:
        found = False
        for part in parts:
            for block in _blocks(part, rate, converter):
                if len(block):
                    found = True
                    yield block
        if not loop:
            rest = converter.finish()
            if len(rest):
                yield rest
            return
        if not found:
            raise NoSamples("there is no sample to play again and again")


def _blocks(part: Part, rate: int, converter: _Converter) -> Iterator[NDArray[np.int16]]:
    if isinstance(part, np.ndarray):
        yield converter.finish()
        step = BLOCK_SECONDS * rate
        yield from (part[start : start + step] for start in range(0, len(part), step))
        return
    with open_audio(part) as file:
        step = block_frames(file)
        if file.samplerate == rate:
            yield converter.finish()
        if is_exact(file, rate):
            while len(exact := file.read(step, dtype="int16")):
                yield exact
            return
        while len(mixed := file.read(step, dtype="float32", always_2d=True)):
            mono = mixed.mean(axis=1, dtype=np.float32)
            if file.samplerate == rate:
                yield to_int16(mono)
            else:
                yield from converter.convert(mono, file.samplerate)


class _Converter:
    """To one rate from any. Files of one rate go through one filter, so that their seams cannot be heard."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._from = 0
        self._stream: soxr.ResampleStream | None = None

    def convert(self, mono: NDArray[np.float32], samplerate: int) -> Iterator[NDArray[np.int16]]:
        """What comes out for what goes in, float32 (n,)."""
        if samplerate != self._from or self._stream is None:
            yield self.finish()
            self._from = samplerate
            self._stream = soxr.ResampleStream(samplerate, self._rate, 1, dtype="float32", quality="HQ")
        yield to_int16(self._stream.resample_chunk(mono))

    def finish(self) -> NDArray[np.int16]:
        """What the filter still holds."""
        stream, self._stream = self._stream, None
        if stream is None:
            return np.zeros(0, np.int16)
        return to_int16(stream.resample_chunk(np.zeros(0, np.float32), last=True))
