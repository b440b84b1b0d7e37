"""A recording that a program takes piece by piece, instead of a file: the same samples, in the same time.

The clock only appends to a queue and wakes the reader. Nothing is left out: ticks that a stalled loop missed, and
packets that never came, are silence. A reader that falls too far behind ends the recording, as a slow disk does; what
it has not read yet is still there for it, and whole.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from rtp.recording import FRAMES_A_SECOND, MAX_MISSING_FRAMES

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from numpy.typing import NDArray

__all__ = ["LONGEST_CHUNK_MS", "RecordingStream"]

TICK_MS = 20
LONGEST_CHUNK_MS = 1000


class RecordingStream:
    """An async iterator of int16 (n, channels), until either side closes it, or the reader is too slow.

    All pieces but the last are equally long.
    """

    def __init__(
        self, *, stereo: bool = True, chunk_ms: int = 200, max_seconds: float = 10.0, sample_rate: int = 8000
    ) -> None:
        """Args:
            stereo: both sides, the far end left; else the far end alone.
            chunk_ms: length of the pieces, a multiple of 20 up to 1000.
            max_seconds: most that waits to be read.
            sample_rate: of the recording, to its end.

        Raises:
            ValueError: another length.
        """
        if chunk_ms % TICK_MS or not TICK_MS <= chunk_ms <= LONGEST_CHUNK_MS:
            raise ValueError(f"a piece lasts a multiple of {TICK_MS} up to {LONGEST_CHUNK_MS} ms, not {chunk_ms}")
        self.rate = sample_rate
        self._frame = sample_rate // FRAMES_A_SECOND
        self.stereo = stereo
        self.samples = 0
        """Length so far, in samples of each channel."""
        self.error: OSError | None = None
        """Why it stopped early: the reader is too slow."""
        self.on_close: Callable[[], None] | None = None
        """Takes the recording off its stream; for the stream."""
        self.paused = False
        """Silence is recorded, so that it stays in step with the call."""
        self._per_chunk = chunk_ms // TICK_MS
        self._most = max(self._per_chunk + 1, round(max_seconds * 1000 / TICK_MS))
        self._frames: deque[tuple[int, NDArray[np.int16] | None, NDArray[np.int16] | None]] = deque()
        self._ticks = 0  # in _frames, silent ones included
        self._waiter: asyncio.Future[None] | None = None
        self._over = asyncio.Event()

    @property
    def seconds(self) -> float:
        """Length so far, read or not."""
        return self.samples / self.rate

    @property
    def closed(self) -> bool:
        """Nothing is recorded any more; what was may still wait to be read."""
        return self._over.is_set()

    def pause(self) -> None:
        """Silence is recorded from now on. Idempotent."""
        self.paused = True

    def resume(self) -> None:
        """Undoes `pause`. Idempotent."""
        self.paused = False

    def close(self) -> None:
        """Ends the recording. Idempotent."""
        if not self.closed:
            self._over.set()
            self._wake()
            if self.on_close is not None:
                self.on_close()

    async def wait_closed(self) -> None:
        """Waits until nothing is recorded any more."""
        await self._over.wait()

    # ---- on the clock ------------------------------------------------------------------------------------------------

    def take(self, missing: int, far: NDArray[np.int16], sent: NDArray[np.int16] | None) -> None:
        """A frame of each side, kept as they are, behind ``missing`` ticks of silence."""
        if self.closed:
            return
        if len(self._frames) >= self._most:
            self.error = OSError("the reader is too slow")
            self.close()
            return
        missing = min(missing, MAX_MISSING_FRAMES)
        self._frames.append((missing, None, None) if self.paused else (missing, far, sent if self.stereo else None))
        self._ticks += missing + 1
        self.samples += (missing + 1) * self._frame
        if self._ticks >= self._per_chunk:
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # ---- for the reader ----------------------------------------------------------------------------------------------

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> NDArray[np.int16]:
        while self._ticks < self._per_chunk and not self.closed:
            if self._waiter is not None:
                raise RuntimeError("two tasks read one recording")
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if not self._ticks:
            raise StopAsyncIteration
        return self._piece(min(self._per_chunk, self._ticks))

    def _piece(self, ticks: int) -> NDArray[np.int16]:
        samples = np.zeros((ticks, self._frame, 2 if self.stereo else 1), np.int16)
        frames, at = self._frames, 0
        while at < ticks:
            missing, far, sent = frames[0]
            silent = min(missing, ticks - at)
            at += silent
            if at == ticks:
                frames[0] = (missing - silent, far, sent)
                break
            frames.popleft()
            if far is not None:
                samples[at, :, 0] = far
            if sent is not None:
                samples[at, :, 1] = sent
            at += 1
        self._ticks -= ticks
        return samples.reshape(ticks * self._frame, -1)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
