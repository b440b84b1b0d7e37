"""Hearing a stream live: the far end alone, or both sides mixed, with a bound and at the rate the listener wants.

The clock only appends: a frame of the far end and, where this side sent audio at that tick, the frame sent. Mixing and
resampling happen when the listener asks for the frame. Streams that nobody listens to pay nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from rtp.resample import Upsampler, saturate

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from numpy.typing import NDArray

__all__ = ["LIVE_RATES", "PATIENCE_FRAMES", "Listener"]

LIVE_RATES = (8000, 16000)
"""Sampling rates of live audio."""
PATIENCE_FRAMES = 250
"""A listener that loses frames for 5 s, and never catches up meanwhile, is given up."""
SENT_FRAMES = 8
"""Most frames sent in one tick and not yet paired with the far end's; the clock sends five at most."""


class Listener:
    """An async iterator of int16 frames of 20 ms, until the stream closes, `close` is called, or it has stalled.

    A reader that is slow loses the oldest frames, counted; it slows nobody.
    """

    def __init__(
        self, *, rate: int = 8000, both: bool = True, max_frames: int = 50, patience: int = PATIENCE_FRAMES
    ) -> None:
        """Args:
            rate: one of `LIVE_RATES`.
            both: mix in what this side sends; else the far end alone.
            max_frames: frames kept for a slow reader.
            patience: frames; see `stalled`.

        Raises:
            ValueError: another rate.
        """
        if rate not in LIVE_RATES:
            raise ValueError(f"live audio has 8000 or 16000 samples a second, not {rate}")
        self.rate = rate
        self.both = both
        self.dropped = 0
        """Frames that were thrown away unread."""
        self.on_close: Callable[[], None] | None = None
        """Takes the listener off its stream; for the stream."""
        self._upsample = Upsampler() if rate != 8000 else None
        self._frames: deque[tuple[NDArray[np.int16], NDArray[np.int16] | None]] = deque()
        self._sent: deque[NDArray[np.int16]] = deque(maxlen=SENT_FRAMES)
        self._max = max_frames
        self._patience = patience
        self._behind = 0  # frames since the first one lost, 0 once all was read
        self._wakeup = asyncio.Event()
        self._over = asyncio.Event()

    # ---- for the stream, on its clock --------------------------------------------------------------------------------

    def sent(self, pcm: NDArray[np.int16]) -> None:
        """This side sends this frame at this tick; not copied. Ticks without a call are silence."""
        self._sent.append(pcm)

    def write(self, pcm: NDArray[np.int16]) -> None:
        """The far end's frame of this tick; copied."""
        sent = self._sent.popleft() if self._sent else None
        if self.closed:
            return
        if len(self._frames) >= self._max:
            self._frames.popleft()
            self.dropped += 1
            self._behind = max(self._behind, 1)
        if self._behind:
            self._behind += 1
            if self.stalled:
                self.dropped += len(self._frames) + 1
                self._frames.clear()
                self.close()
                return
        self._frames.append((pcm.copy(), sent))
        self._wakeup.set()

    def close(self) -> None:
        """No frame comes after those that are queued. May be called again."""
        if self.closed:
            return
        self._over.set()
        self._wakeup.set()
        if self.on_close is not None:
            self.on_close()

    # ---- for the listener --------------------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """It was closed, by either side, or has stalled."""
        return self._over.is_set()

    @property
    def stalled(self) -> bool:
        """The reader lost frames for longer than it was given to catch up."""
        return self._behind > self._patience

    async def wait_closed(self) -> None:
        """Waits until no new frame will come, however many are still queued."""
        await self._over.wait()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> NDArray[np.int16]:
        while not self._frames:
            if self.closed:
                raise StopAsyncIteration
            self._wakeup.clear()
            await self._wakeup.wait()
        frame, sent = self._frames.popleft()
        if not self._frames and not self.closed:
            self._behind = 0
        if sent is not None:
            frame = _mix(frame, sent)
        return frame if self._upsample is None else self._upsample(frame)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _mix(one: NDArray[np.int16], other: NDArray[np.int16]) -> NDArray[np.int16]:
    """The sum, saturating."""
    both = np.add(one, other, dtype=np.int32)
    saturate(both)
    return both.astype(np.int16)
