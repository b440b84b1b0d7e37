"""Hearing a stream live: the far end alone, or both sides mixed, with a bound and at the rate the listener wants.

The clock only appends to a queue and wakes the reader; frames are made once for all listeners of a stream
(:mod:`rtp.ears`). Streams that nobody listens to pay nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from numpy.typing import NDArray

    from rtp.sinks import Gate

__all__ = ["LIVE_RATES", "PATIENCE_FRAMES", "Listener"]

LIVE_RATES = (8000, 16000)
"""Sampling rates of live audio."""
PATIENCE_FRAMES = 250
"""A listener that loses frames for 5 s, and never catches up meanwhile, is given up."""
TICK_MS = 20
LONGEST_FRAME_MS = 500
SHARED_FRAMES = 4
"""Frames in a row that a reader may be behind, and still be given those that all streams share; then it gets memory of
its own, so that one that is slow does not keep what was heard on all the others."""


class Listener:
    """An async iterator of int16 frames, until the stream closes, `close` is called, or it has stalled.

    A reader that is slow loses the oldest frames, counted; it slows nobody.
    """

    def __init__(
        self,
        *,
        rate: int = 8000,
        both: bool = True,
        frame_ms: int = TICK_MS,
        max_frames: int = 50,
        patience: int | None = PATIENCE_FRAMES,
        gate: Gate | None = None,
    ) -> None:
        """Args:
            rate: one of `LIVE_RATES`.
            both: mix in what this side sends; else the far end alone.
            frame_ms: length of the frames, a multiple of 20 up to 500. Longer ones cost less; the last may be shorter.
            max_frames: ticks of 20 ms kept for a slow reader.
            patience: ticks; see `stalled`. None: the reader may be as slow as it likes.
            gate: silence is heard while it is shut.

        Raises:
            ValueError: another rate, or another length.
        """
        if rate not in LIVE_RATES:
            raise ValueError(f"live audio has 8000 or 16000 samples a second, not {rate}")
        if frame_ms % TICK_MS or not TICK_MS <= frame_ms <= LONGEST_FRAME_MS:
            raise ValueError(f"a frame lasts a multiple of {TICK_MS} up to {LONGEST_FRAME_MS} ms, not {frame_ms}")
        self.rate = rate
        self.both = both
        self.dropped = 0
        """Ticks of 20 ms that were thrown away unread."""
        self.on_close: Callable[[], None] | None = None
        """Takes the listener off its stream; for the stream."""
        self._per_frame = frame_ms // TICK_MS
        self._frames: deque[NDArray[np.int16]] = deque()
        self._max = max(max_frames, self._per_frame)
        self._patience = patience
        self._gate = gate
        self._behind = 0  # frames since the first one lost, 0 once all was read
        self._waiter: asyncio.Future[None] | None = None
        self._over = asyncio.Event()
        self.closed = False
        """It was closed, by either side, or has stalled."""

    # ---- for the stream, on its clock --------------------------------------------------------------------------------

    def hear(self, frame: NDArray[np.int16]) -> None:
        """What is heard at this tick; copied for readers that are behind."""
        if self.closed:
            return
        frames = self._frames
        if len(frames) >= self._max:
            frames.popleft()
            self.dropped += 1
            self._behind = max(self._behind, 1)
        if self._behind:
            self._behind += 1
            if self.stalled:
                self.dropped += len(frames) + 1
                frames.clear()
                self.close()
                return
        if self._gate is not None and self._gate.shut:
            frame = np.zeros_like(frame)
        frames.append(frame if len(frames) < SHARED_FRAMES + self._per_frame else frame.copy())
        if self._waiter is not None and len(frames) >= self._per_frame:
            self._wake()

    def close(self) -> None:
        """No frame comes after those that are queued. May be called again."""
        if self.closed:
            return
        self.closed = True
        self._over.set()
        self._wake()
        if self.on_close is not None:
            self.on_close()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # ---- for the listener --------------------------------------------------------------------------------------------

    @property
    def stalled(self) -> bool:
        """The reader lost frames for longer than it was given to catch up."""
        return self._patience is not None and self._behind > self._patience

    async def wait_closed(self) -> None:
        """Waits until no new frame will come, however many are still queued."""
        await self._over.wait()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> NDArray[np.int16]:
        frame = await self.read()
        if frame is None:
            raise StopAsyncIteration
        return frame.copy() if self._per_frame == 1 else frame

    async def read(self) -> NDArray[np.int16] | None:
        """The next frame, as iterating yields it, for readers that only look: other listeners have the same memory, so
        nothing may be written to it. None: none comes any more."""
        frames = self._frames
        while len(frames) < self._per_frame and not self.closed:
            if self._waiter is not None:
                raise RuntimeError("two tasks read one listener; each needs its own")
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if not frames:
            return None
        if self._per_frame == 1:
            frame = frames.popleft()
        else:
            frame = np.concatenate([frames.popleft() for _ in range(min(self._per_frame, len(frames)))])
        if len(frames) < self._per_frame and not self.closed:
            self._behind = 0
        return frame

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
