"""A program in a conversation: hears the far end live, and speaks live, with barge-in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rtp.listener import TICK_MS, Listener
from rtp.speech import PREFETCH_MS, Mark, Speech

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rtp.sinks import Gate

__all__ = ["AudioStream"]


class AudioStream(Listener):
    """Iterate it for what is heard; `write` what is to be said.

    What is written queues behind what plays, in one order with files; it is in nobody's way when it has run out. A
    person who talks into the stream (`rtp.talker`) is heard in its place.
    """

    def __init__(
        self,
        *,
        rate: int = 8000,
        line: int = 8000,
        both: bool = False,
        frame_ms: int = TICK_MS,
        max_frames: int = 250,
        patience: int | None = None,
        max_seconds: float = 30.0,
        prefetch_ms: int = PREFETCH_MS,
        gate: Gate | None = None,
    ) -> None:
        """Args:
            rate: of both directions, one of `rtp.listener.LIVE_RATES`.
            line: of the stream, likewise.
            both, frame_ms, max_frames, patience, gate: of what is heard, see `Listener`.
            max_seconds, prefetch_ms: of what is said, see `Speech`.

        Raises:
            ValueError: another rate, or another length of frames.
        """
        super().__init__(rate=rate, both=both, frame_ms=frame_ms, max_frames=max_frames, patience=patience, gate=gate)
        self.speech = Speech(rate=rate, line=line, max_seconds=max_seconds, prefetch_ms=prefetch_ms)

    async def write(self, samples: NDArray[np.int16] | bytes) -> bool:
        """Says samples, int16 (n,) of any length; waits while more than ``max_seconds`` are queued.

        Returns:
            False when `clear` or the end of the call came first: the rest was thrown away.

        Raises:
            ValueError: something else than int16 samples, or their bytes, little-endian.
        """
        return await self.speech.write(samples)

    def write_nowait(self, samples: NDArray[np.int16] | bytes) -> int:
        """Says what there is room for, and returns how many samples that is; none while a `write` waits.

        Raises:
            ValueError: as `write`.
        """
        return self.speech.write_nowait(samples)

    def clear(self) -> float:
        """Barge-in: what was written and not yet sent is gone, the far end hears silence within 40 ms.

        Marks in it are told as cleared, and a `write` that waits returns False.

        Returns:
            Seconds that were thrown away.
        """
        return self.speech.clear()

    def mark(self, name: str = "") -> Mark:
        """A mark behind what was written: ``await`` it, or set ``speech.on_mark``, to hear when that has gone out.

        Raises:
            ValueError: too many marks wait.
        """
        return self.speech.mark(name)

    async def drain(self) -> bool:
        """Waits until all that was written has gone out; False when it was cleared."""
        return await self.mark()

    @property
    def queued_seconds(self) -> float:
        """How much was written and not yet sent."""
        return self.speech.queued_seconds

    @property
    def position(self) -> int:
        """Samples of what was written, at its rate, that have gone out."""
        return self.speech.position

    @property
    def underruns(self) -> int:
        """Times that the far end heard a gap since the next piece was written too late."""
        return self.speech.underruns

    def close(self) -> None:
        """Hears and says nothing any more; what is queued is cleared. May be called again."""
        super().close()
        self.speech.finish()
