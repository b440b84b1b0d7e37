"""Loss concealment: a missing frame repeats the last whole one, fading to silence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rtp.jitter import FRAME, MISSING

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rtp.jitter import JitterRing
    from rtp.statistics import Counters

__all__ = ["FADE", "conceal"]

FADE = np.array([0.0, 1.0, 0.75, 0.5, 0.25, 0.0], np.float32)
"""Gain of the repetition by consecutive frames with something missing; silence from the fifth on."""


def conceal(ring: JitterRing, counters: Counters, rows: NDArray[np.int64], frames: NDArray[np.int16]) -> None:
    """Fills what is `MISSING` in frames just gathered, in place.

    Args:
        rows: int64 (n,).
        frames: int16 (n, `FRAME`).
    """
    missing = frames == MISSING
    holes = missing.any(axis=1)
    if not holes.any():
        ring.last[rows] = frames
        ring.gap[rows] = 0
        return
    whole = ~holes
    ring.last[rows[whole]] = frames[whole]
    ring.gap[rows[whole]] = 0
    torn = rows[holes]
    gap = np.minimum(ring.gap[torn] + 1, len(FADE) - 1)
    ring.gap[torn] = gap
    expected = ring.started[torn] & (ring.play[torn] - FRAME >= ring.quiet_until[torn])
    gain = np.where(expected, FADE[gap], np.float32(0))
    heard = gain > 0
    counters.concealed[torn[heard]] += 1
    frames[missing] = 0
    if heard.any():
        filled = np.flatnonzero(holes)[heard]
        repeated = (ring.last[torn[heard]] * gain[heard, None]).astype(np.int16)
        frames[filled] = np.where(missing[filled], repeated, frames[filled])
