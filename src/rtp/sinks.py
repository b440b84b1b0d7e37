"""Where the far end's audio goes: one frame of 8 kHz int16 samples each tick of the clock, silence where none came."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["AudioSink", "CallbackSink", "Gate"]


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
