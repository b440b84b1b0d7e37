"""Where the far end's audio goes: one frame of 8 kHz int16 samples each tick of the clock, silence where none came."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from concurrent import futures
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

import numpy as np
import soundfile

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["AudioSink", "CallbackSink", "Gate", "QueueSink", "WavSink"]

logger = logging.getLogger(__name__)


class AudioSink(Protocol):
    """Takes audio on the clock: `write` must return at once."""

    def write(self, pcm: NDArray[np.int16]) -> None:
        """One frame, int16 (160,), read-only; it shares memory with all frames of its tick, so copy what is kept."""

    def close(self) -> None:
        """The stream is closed or the sink was removed; no frame comes after this. May be called again."""


class CallbackSink:
    """Calls a function with each frame."""

    def __init__(self, callback: Callable[[NDArray[np.int16]], None]) -> None:
        self._callback = callback

    def write(self, pcm: NDArray[np.int16]) -> None:
        """Hands the frame over."""
        self._callback(pcm)

    def close(self) -> None:
        """Nothing to give back."""


class Gate:
    """Shared by sinks that are to hear silence for a while."""

    def __init__(self) -> None:
        self.shut = False
        """Silence instead of what comes."""


class QueueSink:
    """An async iterator of frames with a bound: a slow reader loses the oldest, counted, and never slows the call."""

    def __init__(self, max_frames: int = 100, gate: Gate | None = None) -> None:
        self._gate = gate
        self._frames: deque[NDArray[np.int16]] = deque()
        self._max = max_frames
        self._wakeup = asyncio.Event()
        self._closed = False
        self.dropped = 0
        """Frames that were thrown away unread."""

    def write(self, pcm: NDArray[np.int16]) -> None:
        """Queues a copy."""
        if self._closed:
            return
        if len(self._frames) >= self._max:
            self._frames.popleft()
            self.dropped += 1
        silent = self._gate is not None and self._gate.shut
        self._frames.append(np.zeros_like(pcm) if silent else pcm.copy())
        self._wakeup.set()

    def close(self) -> None:
        """The iteration ends after the frames that are queued."""
        self._closed = True
        self._wakeup.set()

    def __aiter__(self) -> QueueSink:
        return self

    async def __anext__(self) -> NDArray[np.int16]:
        while not self._frames:
            if self._closed:
                raise StopAsyncIteration
            self._wakeup.clear()
            await self._wakeup.wait()
        return self._frames.popleft()


_writer = ThreadPoolExecutor(1, thread_name_prefix="wav-recorder")
"""Writes all recordings of the process, block after block. The interpreter does not end before it has caught up, so a
program that ends right after its call leaves whole files."""


class WavSink:
    """Records to a 16-bit mono wav. The clock only queues; one thread for all recordings writes half-second blocks."""

    BLOCK_FRAMES = 25
    MAX_WAITING_BLOCKS = 120
    """A disk that is a minute behind ends the recording before it takes the memory."""

    def __init__(self, path: str | Path, rate: int = 8000) -> None:
        """Creates the file.

        Raises:
            OSError: it cannot be created.
        """
        self.path = path
        self._rate = rate
        self._block: list[NDArray[np.int16]] = []
        self._handed_over = 0  # counted by the clock's thread,
        self._taken = 0  # and by the writer's
        self._complete: Future[None] | None = None
        self.samples = 0
        """Samples recorded so far."""
        self.error: Exception | None = None
        """Why recording stopped early: a full disk, for instance."""
        try:
            self._file = soundfile.SoundFile(
                str(path), "w", samplerate=rate, channels=1, format="WAV", subtype="PCM_16"
            )
        except soundfile.SoundFileError as error:
            raise OSError(f"cannot record to {path}: {getattr(error, 'error_string', error)}") from error

    @property
    def seconds(self) -> float:
        """Length of the recording so far."""
        return self.samples / self._rate

    def write(self, pcm: NDArray[np.int16]) -> None:
        """Queues a copy for the thread."""
        if self._complete is not None or self.error is not None:
            return
        self._block.append(pcm.copy())
        self.samples += len(pcm)
        if len(self._block) >= self.BLOCK_FRAMES:
            if self._handed_over - self._taken >= self.MAX_WAITING_BLOCKS:
                self._give_up(OSError("the disk is too slow"))
            else:
                self._hand_over()

    def close(self) -> None:
        """Ends the recording; the thread writes what is queued and closes the file. Does not wait for it."""
        if self._complete is None:
            if self._block:
                self._hand_over()
            self._complete = _writer.submit(self._finish)

    async def wait_closed(self) -> None:
        """Waits until the file is complete on disk, off the loop's thread."""
        self.close()
        if self._complete is not None:
            await asyncio.wait({asyncio.wrap_future(self._complete)})

    def join(self) -> None:
        """`wait_closed` for callers without an event loop."""
        self.close()
        if self._complete is not None:
            futures.wait({self._complete})

    def _hand_over(self) -> None:
        block, self._block = self._block, []
        self._handed_over += 1
        _writer.submit(self._write_block, block)

    def _write_block(self, block: list[NDArray[np.int16]]) -> None:
        self._taken += 1
        if self.error is None:
            try:
                self._file.write(np.concatenate(block))
            except (soundfile.SoundFileError, OSError) as error:
                self._give_up(error)

    def _finish(self) -> None:
        try:
            self._file.close()
        except (soundfile.SoundFileError, OSError) as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self.error = error
        logger.error("recording to %s stopped: %s", self.path, error)
