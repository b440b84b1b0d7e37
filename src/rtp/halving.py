"""What is said live at 16,000 Hz in streams of 8,000, for all that speak at once.

Each keeps what it was given as it came, and can halve it by itself, whatever is read of it. What it will be asked for
at the next tick is nearly always a whole frame that is there already: those of all are made here in one go, ahead of
it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from rtp.rates import WIDE
from rtp.resample import HISTORY, halve_rows

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

__all__ = ["Speaker", "make_ahead"]

FRAME = WIDE // 50


class Speaker(Protocol):
    """Is read from a frame at a time."""

    before: NDArray[np.int16]
    """int16 (`HISTORY`,): what was read last, as it was said."""
    made: NDArray[np.int16] | None
    """The next frame at 8,000 Hz, int16 (160,)."""

    def ahead(self) -> NDArray[np.int16] | None:
        """The next frame as it was said, int16 (320,), where that is not made yet and can be."""


def make_ahead(speakers: Iterable[Speaker]) -> None:
    """Makes the next frames of those that can tell theirs."""
    speaking: list[Speaker] = []
    pieces: list[NDArray[np.int16]] = []
    for speaker in speakers:
        frame = speaker.ahead()
        if frame is not None:
            speaking.append(speaker)
            pieces += (speaker.before, frame)
    if not speaking:
        return
    samples = np.concatenate(pieces).reshape(len(speaking), HISTORY + FRAME)
    for speaker, made in zip(speaking, halve_rows(samples[:, :HISTORY], samples[:, HISTORY:]), strict=True):
        speaker.made = made.copy()  # it may wait, and shall not keep those of all
