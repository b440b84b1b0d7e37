"""Loss concealment: what is missing goes on like what was heard last, pitch period by pitch period, and fades.

The idea is that of ITU-T G.711 Appendix I, over rows and without its delay: the last period before the gap is found by
correlation and repeated, its ends faded into each other; the seam at the beginning is bent away, and what comes after
the gap is faded in over the same wave. From 10 ms on it gets softer, and after 80 ms there is silence. Where the far
end has announced comfort noise (RFC 3389), nothing is missing: there noise is played at its level.

Samples are at 8,000 Hz, or at 16,000 for rows that are wide: then there are twice as many of everything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from rtp.bank import Column, Columns
from rtp.jitter import FRAME, MISSING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from rtp.comfort_noise import ComfortNoise
    from rtp.jitter import JitterRing
    from rtp.statistics import Counters

__all__ = ["FADED", "GAIN", "SEAM", "Concealment", "WideConcealment", "conceal"]

HISTORY = 3
"""Frames that are remembered."""

STEADY = 80
FADED = 4 * FRAME
"""Samples after which a gap is silent: 80 ms."""

SEAM = 40
"""Samples over which two waves are faded into each other: 5 ms."""

SHORTEST, LONGEST = 40, 160
"""Pitch periods looked for, samples: 200 to 50 Hz (shorter ones are met by their multiples)."""

MOST_PERIODS = 64
"""Rows whose pitch is looked for in one tick; where the network failed all at once, the others repeat 20 ms."""


def _gain(factor: int) -> NDArray[np.float32]:
    gain = np.zeros((FADED + FRAME) * factor + 1, np.float32)
    steady, faded = STEADY * factor, FADED * factor
    gain[:steady] = 1.0
    gain[steady:faded] = np.linspace(1.0, 0.0, faded - steady, endpoint=False, dtype=np.float32)
    return gain


GAIN = _gain(1)
"""By samples since the gap began."""


class Concealment(Columns):
    """What a row played last, and the wave that fills its present gap."""

    history: NDArray[np.int16]
    """(rows, `HISTORY`, frame): the latest frames as they were played, in turn."""
    period: NDArray[np.float32]
    """(rows, longest): one period."""
    length: NDArray[np.int64]
    """Samples of it."""
    bend: NDArray[np.float32]
    """By how much the wave's beginning misses the end of what was heard."""
    elapsed: NDArray[np.int64]
    """Samples since the gap began, up to ``faded``; 0 while nothing is missing."""

    factor: ClassVar[int] = 1
    """Samples in each of 8,000 Hz."""
    gain: ClassVar[NDArray[np.float32]] = GAIN

    LAYOUT: ClassVar[Mapping[str, Column]] = {
        "history": Column(np.int16, (HISTORY, FRAME)),
        "period": Column(np.float32, (LONGEST,)),
        "length": Column(np.int64, (), LONGEST),
        "bend": Column(np.float32),
        "elapsed": Column(np.int64),
    }

    def __init__(self, capacity: int) -> None:
        super().__init__(capacity)
        self.frame = FRAME * self.factor
        self.places = np.arange(self.frame)
        self.faded = FADED * self.factor
        self.seam = SEAM * self.factor
        self.rise = ((np.arange(self.seam, dtype=np.float32) + 1) / (self.seam + 1)).astype(np.float32)
        self.shortest, self.longest = SHORTEST * self.factor, LONGEST * self.factor
        self.turn = 0
        """Which place of ``history`` holds the oldest frame."""

    def remember(self, rows: NDArray[np.int64], frames: NDArray[np.int16]) -> None:
        """What was played at this tick."""
        self.history[rows, self.turn] = frames
        self.turn = (self.turn + 1) % HISTORY


class WideConcealment(Concealment):
    """The same at 16,000 Hz."""

    LAYOUT: ClassVar[Mapping[str, Column]] = {
        **Concealment.LAYOUT,
        "history": Column(np.int16, (HISTORY, 2 * FRAME)),
        "period": Column(np.float32, (2 * LONGEST,)),
        "length": Column(np.int64, (), 2 * LONGEST),
    }
    factor = 2
    gain = _gain(2)


def conceal(
    state: Concealment,
    ring: JitterRing,
    noise: ComfortNoise,
    counters: Counters,
    rows: NDArray[np.int64],
    frames: NDArray[np.int16],
) -> None:
    """Fills what is `MISSING` in frames just gathered, in place.

    Args:
        rows: int64 (n,).
        frames: int16 (n, `FRAME`), or twice as wide as the state is.
    """
    torn = (state.elapsed[rows] > 0) | (ring.void[rows] > 0)
    if np.count_nonzero(torn) or (len(frames) and frames.min() == MISSING):
        missing = frames == MISSING
        torn |= missing.any(axis=1)
        _fill(state, ring, noise, counters, rows, frames, missing, np.flatnonzero(torn))
    state.remember(rows, frames)


def _fill(
    state: Concealment,
    ring: JitterRing,
    noise: ComfortNoise,
    counters: Counters,
    all_rows: NDArray[np.int64],
    frames: NDArray[np.int16],
    missing: NDArray[np.bool_],
    torn: NDArray[np.intp],
) -> None:
    rows, gone = all_rows[torn], missing[torn]
    whole = ~gone.any(axis=1)
    ring.void[rows] = np.where(gone.all(axis=1), ring.void[rows] + 1, 0)
    frames[torn] = np.where(gone, 0, frames[torn])
    played = ring.play[rows] - FRAME
    expected = ring.started[rows] & (played >= ring.quiet_until[rows])
    if noise.active:
        expected &= ~noise.render(rows, played, frames, torn, gone)
    ongoing = state.elapsed[rows]
    counters.underruns[rows[expected & ~whole & (ongoing == 0) & (ring.end[rows] <= played + FRAME)]] += 1
    resumed = (ongoing > 0) & ~gone[:, 0]
    if resumed.any():
        _resume(state, rows[resumed], frames, torn[resumed])
        ongoing = np.where(resumed, 0, ongoing)
    state.elapsed[rows] = np.where(whole | ~expected, 0, ongoing)
    open_gap = expected & ~whole & (ongoing < state.faded)
    if not open_gap.any():
        return
    rows, torn, gone, ongoing = rows[open_gap], torn[open_gap], gone[open_gap], ongoing[open_gap]
    counters.concealed[rows] += 1
    first = gone.argmax(axis=1)
    new = ongoing == 0
    if new.any():
        _find_period(state, rows[new], frames[torn[new]], first[new])
    elapsed = ongoing[:, None] + state.places - first[:, None]
    wave = _wave(state, rows, elapsed)
    filled = np.where(gone, wave, frames[torn])
    back = gone[:, :-1] & ~gone[:, 1:]
    if back.any():  # the gap ends within the frame
        since = state.places - np.where(back.any(axis=1), back.argmax(axis=1) + 1, state.frame)[:, None]
        rise = np.clip((since + 1) / np.float32(state.seam + 1), 0, 1)
        mixed = frames[torn] * rise + wave * (1 - rise)
        filled = np.where((since >= 0) & (since < state.seam) & ~gone, mixed, filled)
    frames[torn] = np.clip(filled, MISSING + 1, -MISSING - 1).astype(np.int16)
    state.elapsed[rows] = np.where(gone[:, -1], np.minimum(elapsed[:, -1] + 1, state.faded), 0)


def _wave(state: Concealment, rows: NDArray[np.int64], elapsed: NDArray[np.int64]) -> NDArray[np.float32]:
    """float32 like ``elapsed`` (n, any): the wave that fills the rows' gaps."""
    phase = np.maximum(elapsed, 0) % state.length[rows][:, None]
    gain = state.gain[np.clip(elapsed, 0, state.faded)]
    bend = state.bend[rows][:, None] * np.clip(1 - (elapsed + 1).astype(np.float32) / np.float32(state.seam + 1), 0, 1)
    wave: NDArray[np.float32] = np.take_along_axis(state.period[rows], phase, axis=1) * gain + bend
    return wave


def _resume(state: Concealment, rows: NDArray[np.int64], frames: NDArray[np.int16], places: NDArray[np.intp]) -> None:
    """Audio is there again from the beginning of these frames: it rises while the wave of the gap falls."""
    elapsed = state.elapsed[rows][:, None] + np.arange(state.seam)
    wave = _wave(state, rows, np.minimum(elapsed, state.faded))
    begun = frames[places, : state.seam]
    frames[places, : state.seam] = (begun * state.rise + wave * (1 - state.rise)).astype(np.int16)


def _find_period(
    state: Concealment, rows: NDArray[np.int64], frames: NDArray[np.int16], first: NDArray[np.intp]
) -> None:
    """Takes the last pitch period ahead of sample ``first`` of each frame, ready to be repeated."""
    order = [(state.turn + index) % HISTORY for index in range(HISTORY)]
    past = np.concatenate([state.history[rows][:, order].reshape(len(rows), -1), frames], axis=1)
    places = first[:, None] + np.arange(HISTORY * state.frame)
    heard = np.take_along_axis(past, places, axis=1).astype(np.float32)
    length = np.full(len(rows), state.longest, np.int64)
    length[:MOST_PERIODS] = _pitch(state, heard[:MOST_PERIODS])
    # (n, longest): one period from its beginning on; what lies behind its end is never looked at.
    end = heard.shape[1]
    index = np.arange(state.longest)
    period = np.take_along_axis(heard, np.minimum(end - length[:, None] + index, end - 1), axis=1)
    # The period's end flows into its beginning: there the samples ahead of the period are faded in.
    seam = np.minimum(length // 4, state.seam)[:, None]
    into = index - (length[:, None] - seam)
    rise = np.clip((into + 1) / (seam + 1).astype(np.float32), 0, 1)
    before = np.take_along_axis(heard, np.clip(end - 2 * length[:, None] + index, 0, end - 1), axis=1)
    looped = np.where(into >= 0, period * (1 - rise) + before * rise, period)
    ahead = np.take_along_axis(heard, end - 1 - length[:, None], axis=1)[:, 0]
    state.bend[rows] = heard[:, -1] - ahead
    state.period[rows] = looped
    state.length[rows] = length


def _pitch(state: Concealment, heard: NDArray[np.float32]) -> NDArray[np.int64]:
    """int64 (n,): the lag, shortest to longest, at which the last 20 ms resemble what was heard before most."""
    half = heard[:, ::2]
    count, width = half.shape[1], state.frame // 2
    recent = half[:, count - width :]
    lags = np.arange(state.longest // 2, state.shortest // 2 - 1, -1)
    before = half[:, count - width - lags[0] : count - lags[-1]]
    windows = np.lib.stride_tricks.sliding_window_view(before, width, axis=1)
    likeness = np.matmul(windows, recent[:, :, None])[:, :, 0]
    power = np.einsum("nlw,nlw->nl", windows, windows)
    best: NDArray[np.int64] = 2 * lags[np.argmax(likeness / np.sqrt(power + 1.0), axis=1)]
    # Of the whole-rate lags around it the likest.
    end = heard.shape[1]
    last = heard[:, end - state.frame :]
    around = np.clip(best[:, None] + np.array([0, -1, 1]), state.shortest, state.longest)
    scores = []
    for column in around.T:
        places = end - state.frame - column[:, None] + state.places
        earlier = np.take_along_axis(heard, places, axis=1)
        scores.append((earlier * last).sum(axis=1) / np.sqrt((earlier * earlier).sum(axis=1) + 1.0))
    return np.take_along_axis(around, np.argmax(np.stack(scores, axis=1), axis=1)[:, None], axis=1)[:, 0]
