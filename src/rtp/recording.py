"""Recording a stream to a wav file: the far end alone, or both sides, the far end left and this side right.

The clock only queues; one thread for all recordings of the process writes blocks of half a second. A recording is as
long as the time it took: ticks that a stalled loop left out, and packets that never came, are silence in it. After each
block the header says how long the file is by now, so a process that is killed leaves a whole file behind, short of the
last half second.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import struct
import threading
from collections import deque
from concurrent import futures
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["BLOCK_FRAMES", "MAX_WAITING_BLOCKS", "Recording"]

logger = logging.getLogger(__name__)

FRAMES_A_SECOND = 50
BLOCK_FRAMES = 25
MAX_WAITING_BLOCKS = 120
"""A disk that is a minute behind ends the recording before it takes the memory."""
MAX_MISSING_FRAMES = 50 * 600
"""Most silence put in for one stall: ten minutes. A machine that slept longer does not fill the disk."""
HEADER_BYTES = 44
MAX_BYTES = 0xFFFFFFFF - HEADER_BYTES - 1
"""What the header can say: 37 hours of stereo."""


class _Writer:
    """Writes all recordings of the process, in the order in which they hand over.

    The interpreter does not end before it has caught up: a program that ends right after its call leaves whole files.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="wav-recorder")
        self._waiting: deque[Callable[[], None]] = deque()
        self._turn = threading.Lock()
        self._busy = False

    def submit(self, work: Callable[[], None]) -> Future[None]:
        """To be done behind all that was handed over."""
        done: Future[None] = Future()

        def last() -> None:
            try:
                work()
            finally:
                done.set_result(None)

        self.hand_over(last)
        return done

    def hand_over(self, work: Callable[[], None]) -> None:
        """The same for who does not wait for it. The thread is woken once for all that is handed over meanwhile."""
        self._waiting.append(work)
        with self._turn:
            if not self._busy:
                self._busy = True
                self._thread.submit(self._run)

    def _run(self) -> None:
        while True:
            while self._waiting:
                work = self._waiting.popleft()
                try:
                    work()
                except Exception:
                    logger.exception("a recording could not be written")
            with self._turn:
                if not self._waiting:
                    self._busy = False
                    return


_writer = _Writer()
_turns = itertools.count()
"""Recordings that begin together hand over their blocks at different ticks."""

Frames = list[tuple[int, "NDArray[np.int16] | None", "NDArray[np.int16] | None"]]
"""Silent ticks ahead, then a frame of each side; None is silence."""


class Recording:
    """One wav file that grows: 16 bit, 8,000 or 16,000 Hz."""

    def __init__(
        self, path: str | Path, *, stereo: bool = False, replace: bool = True, sample_rate: int = 8000
    ) -> None:
        """Creates the file.

        Args:
            path: the file.
            stereo: both sides; else the far end alone.
            replace: a file that is there already is emptied; else it is refused, and so are links.
            sample_rate: of the file, to its end.

        Raises:
            OSError: it cannot be created.
        """
        self.path = path
        self.rate = sample_rate
        self.stereo = stereo
        self.samples = 0
        """Length so far, in samples of each channel."""
        self.error: OSError | None = None
        """Why it stopped early: a full disk, for instance."""
        self.on_close: Callable[[], None] | None = None
        """Takes the recording off its stream; for the stream."""
        self.on_failed: Callable[[OSError], None] | None = None
        """Called on the loop, once, when it stops early."""
        self.paused = False
        """Silence is recorded, so that the file stays in step with the call."""
        self._block: Frames = []
        self._until_block = 1 + next(_turns) % BLOCK_FRAMES
        self._handed_over = 0  # counted by the clock's thread,
        self._taken = 0  # and by the writer's
        self._written = 0  # bytes of samples
        self._complete: Future[None] | None = None
        try:
            self._loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            self._loop = None
        self._file = open(path, "wb" if replace else "xb", buffering=0)  # noqa: SIM115 - closed by the writer
        try:
            self._file.write(self._header())
        except OSError:
            self._file.close()
            raise

    @property
    def seconds(self) -> float:
        """Length so far."""
        return self.samples / self.rate

    @property
    def closed(self) -> bool:
        """Nothing is recorded any more."""
        return self._complete is not None

    def pause(self) -> None:
        """Silence is recorded from now on. Idempotent."""
        self.paused = True

    def resume(self) -> None:
        """Undoes `pause`. Idempotent."""
        self.paused = False

    def close(self) -> None:
        """Ends the recording; the thread writes what is queued and closes the file. Does not wait for it."""
        if self._complete is None:
            if self._block:
                self._hand_over()
            self._complete = _writer.submit(self._finish)
            if self.on_close is not None:
                self.on_close()

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

    # ---- on the clock ------------------------------------------------------------------------------------------------

    def take(self, missing: int, far: NDArray[np.int16], sent: NDArray[np.int16] | None) -> None:
        """A frame of each side, kept as they are, behind ``missing`` ticks of silence."""
        if self._complete is not None or self.error is not None:
            return
        missing = min(missing, MAX_MISSING_FRAMES)
        self._block.append((missing, None, None) if self.paused else (missing, far, sent if self.stereo else None))
        self.samples += (missing + 1) * self.rate // FRAMES_A_SECOND
        self._until_block -= 1
        if self._until_block <= 0:
            self._until_block = BLOCK_FRAMES
            if self._handed_over - self._taken >= MAX_WAITING_BLOCKS:
                self._block = []
                self._give_up(OSError("the disk is too slow"))
            else:
                self._hand_over()

    def _hand_over(self) -> None:
        block, self._block = self._block, []
        self._handed_over += 1
        _writer.hand_over(partial(self._write_block, block))

    # ---- on the writer's thread --------------------------------------------------------------------------------------

    def _write_block(self, block: Frames) -> None:
        self._taken += 1
        if self.error is not None:
            return
        try:
            self._write(_samples(block, self.rate // FRAMES_A_SECOND, stereo=self.stereo))
        except OSError as error:
            self._give_up(error)

    def _write(self, samples: NDArray[np.int16]) -> None:
        content = samples.astype("<i2", copy=False).tobytes()
        if self._written + len(content) > MAX_BYTES:
            raise OSError("a wav file cannot be longer")
        view = memoryview(content)
        while view:
            view = view[self._file.write(view) :]
        self._written += len(content)
        os.pwrite(self._file.fileno(), self._header(), 0)

    def _header(self) -> bytes:
        """RIFF, one chunk that tells PCM apart, one of samples."""
        channels = 2 if self.stereo else 1
        size = self._written
        form = struct.pack(
            "<4sIHHIIHH", b"fmt ", 16, 1, channels, self.rate, self.rate * channels * 2, channels * 2, 16
        )
        data = struct.pack("<4sI", b"data", size)
        return struct.pack("<4sI4s", b"RIFF", HEADER_BYTES - 8 + size, b"WAVE") + form + data

    def _finish(self) -> None:
        try:
            self._file.truncate(HEADER_BYTES + self._written)  # half a block that a full disk took
            self._file.close()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        if self.error is not None:
            return
        self.error = error
        logger.error("recording to %s stopped: %s", self.path, error)
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._tell, error)

    def _tell(self, error: OSError) -> None:
        self.close()
        if self.on_failed is not None:
            self.on_failed(error)


def _samples(block: Frames, length: int, *, stereo: bool) -> NDArray[np.int16]:
    """What to write: int16 (n,), or interleaved."""
    far = _joined(((missing, frame) for missing, frame, _ in block), length)
    if not stereo:
        return far
    samples = np.empty((len(far), 2), np.int16)
    samples[:, 0] = far
    samples[:, 1] = _joined(((missing, frame) for missing, _, frame in block), length)
    return samples.reshape(-1)


def _joined(frames: Iterable[tuple[int, NDArray[np.int16] | None]], length: int) -> NDArray[np.int16]:
    """One side, with silence where nothing is known."""
    parts: list[NDArray[np.int16]] = []
    for missing, frame in frames:
        silent = missing if frame is not None else missing + 1
        if silent:
            parts.append(np.zeros(silent * length, np.int16))
        if frame is not None:
            parts.append(frame)
    return np.concatenate(parts)
