"""Keys as tones in the audio (ITU-T Q.23, Q.24), heard in all rows that ask for it at once.

Every 10 ms a window of 20 ms is compared with the eight frequencies: the sums of Goertzel's algorithm, for all rows one
product of matrices. A window speaks for a key when one low and one high frequency hold nearly all of its energy, are
loud enough, and about as loud as each other. How far each is from its nominal frequency shows in how its phase moves
from window to window. Three such windows in a row begin a key, three others end it: that takes tones of 40 ms and
pauses of 40 ms as Q.24 wants, and neither a tone of 25 ms nor a gap of 10.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from rtp.bank import Column, Columns
from rtp.tones import HIGH_HERTZ, LOW_HERTZ, amplitude

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

__all__ = ["InbandKeys", "finish_key", "hear_keys"]

RATE = 8000
WINDOW = 160
HOP = 80
HOP_MS = 10

TOLERANCE = 0.025
"""Share of the nominal frequency: 1.5 % has to be taken, 3.5 % must not be (Q.24)."""
FORWARD_TWIST = 5.0
"""dB by which the high frequency may be louder: 4 (Q.24), and one for what the network adds."""
REVERSE_TWIST = 9.0
"""dB by which the low one may be: 8 (Q.24), and one."""
PURITY = 0.8
"""Share of the window's energy that the two have to hold: what tells keys from speech and music."""
WEAKEST = amplitude(-35.0)
"""Of each frequency."""
BEGINS = 3
"""Windows in a row that begin a key."""
ENDS = 3
"""Windows without it that end it."""

KEYS = "123A456B789C*0#D"
HERTZ = np.array(LOW_HERTZ + HIGH_HERTZ, np.float64)

SHAPE = np.hanning(WINDOW + 1)[:-1].astype(np.float32)
_ANGLES = 2 * np.pi * HERTZ / RATE
_TURNS = np.exp(-1j * np.arange(WINDOW)[:, None] * _ANGLES)
REFERENCE = (SHAPE[:, None] * np.concatenate([_TURNS.real, _TURNS.imag], axis=1)).astype(np.float32)
"""(160, 16): a window times this is what it holds of each frequency, real parts first."""
ROWS_AT_ONCE = 64
"""A larger product would wake the threads of the mathematics library, which cost more than they bring."""
ADVANCE = np.exp(-1j * HOP * _ANGLES).astype(np.complex64)
"""What a nominal frequency turns by from window to window, taken back."""
_OFFSETS = np.arange(51.0)
_RESPONSE = np.abs(np.exp(-2j * np.pi * _OFFSETS[:, None] * np.arange(WINDOW) / RATE) @ SHAPE) / SHAPE.sum()
"""How much of a frequency that is so many Hz off its nominal is seen."""


class InbandKeys(Columns):
    """What was heard of each row."""

    enabled: NDArray[np.bool_]
    tail: NDArray[np.float32]
    before: NDArray[np.complex64]
    candidate: NDArray[np.int64]
    hits: NDArray[np.int64]
    key: NDArray[np.int64]
    misses: NDArray[np.int64]
    lasted: NDArray[np.int64]

    LAYOUT: ClassVar[Mapping[str, Column]] = {
        "enabled": Column(np.bool_),
        "tail": Column(np.float32, (HOP,)),
        "before": Column(np.complex64, (8,)),
        "candidate": Column(np.int64, fill=-1),
        "hits": Column(np.int64),
        "key": Column(np.int64, fill=-1),
        "misses": Column(np.int64),
        "lasted": Column(np.int64),
    }


def hear_keys(heard: InbandKeys, rows: NDArray[np.int64], frames: NDArray[np.int16]) -> Iterable[tuple[int, str, int]]:
    """One frame of each row, int16 (n, 160). Returns keys that are over: row, key, length in ms."""
    samples = np.concatenate([heard.tail[rows], frames.astype(np.float32)], axis=1)
    heard.tail[rows] = samples[:, -HOP:]
    over: list[tuple[int, str, int]] = []
    for start in (0, HOP):
        over += _follow(heard, rows, _candidates(heard, rows, samples[:, start : start + WINDOW]))
    return over


def finish_key(heard: InbandKeys, row: int) -> tuple[str, int] | None:
    """Nothing more comes of the row: the key that is pressed, if any, and how long it was."""
    key = int(heard.key[row])
    heard.key[row] = -1
    return None if key < 0 else (KEYS[key], int(heard.lasted[row] - heard.misses[row]) * HOP_MS)


def _candidates(heard: InbandKeys, rows: NDArray[np.int64], windows: NDArray[np.float32]) -> NDArray[np.int64]:
    """The key that each window speaks for; -1 where it speaks for none."""
    found = _compared(windows)
    strength = np.abs(found)
    low, high = strength[:, :4].argmax(axis=1), strength[:, 4:].argmax(axis=1) + 4
    each, pair = np.arange(len(rows))[:, None], np.stack([low, high], axis=1)
    turned = found[each, pair] * np.conj(heard.before[rows[:, None], pair]) * ADVANCE[pair]
    heard.before[rows] = found
    offsets = np.abs(np.angle(turned)) * (RATE / HOP / (2 * np.pi))
    loud = strength[each, pair] * 2 / SHAPE.sum() / np.interp(offsets, _OFFSETS, _RESPONSE)
    total = np.square(windows * SHAPE).sum(axis=1)
    both = np.square(loud).sum(axis=1) / 2 * np.square(SHAPE).sum()
    twist = 20 * np.log10(np.maximum(loud[:, 1], 1e-3) / np.maximum(loud[:, 0], 1e-3))
    speaks = (
        (offsets <= TOLERANCE * HERTZ[pair]).all(axis=1)
        & (loud.min(axis=1) >= WEAKEST)
        & (twist <= FORWARD_TWIST)
        & (twist >= -REVERSE_TWIST)
        & (both >= PURITY * total)
    )
    return np.where(speaks, low * 4 + high - 4, -1)


def _compared(windows: NDArray[np.float32]) -> NDArray[np.complex64]:
    parts = [windows[start : start + ROWS_AT_ONCE] @ REFERENCE for start in range(0, len(windows), ROWS_AT_ONCE)]
    sums = np.concatenate(parts)
    return (sums[:, :8] + 1j * sums[:, 8:]).astype(np.complex64)


def _follow(
    heard: InbandKeys, rows: NDArray[np.int64], candidates: NDArray[np.int64]
) -> Iterable[tuple[int, str, int]]:
    """Begins and ends keys; those that ended."""
    same = (candidates == heard.candidate[rows]) & (candidates >= 0)
    hits = np.where(same, heard.hits[rows] + 1, (candidates >= 0).astype(np.int64))
    heard.candidate[rows], heard.hits[rows] = candidates, hits
    pressed = heard.key[rows]
    held = (pressed >= 0) & (candidates == pressed)
    heard.misses[rows] = np.where(held, 0, heard.misses[rows] + 1)
    heard.lasted[rows] += 1
    begun = (hits >= BEGINS) & (candidates != pressed)
    ended = (pressed >= 0) & (begun | (heard.misses[rows] >= ENDS))
    over = [(int(row), *found) for row in rows[ended].tolist() if (found := finish_key(heard, row)) is not None]
    started = rows[begun]
    heard.key[started], heard.misses[started], heard.lasted[started] = candidates[begun], 0, BEGINS
    return over
