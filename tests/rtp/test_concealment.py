"""Loss concealment repeats and fades."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rtp.concealment import FADE, conceal
from rtp.jitter import FRAME, MISSING
from tests.rtp.kit import Rows, tone

LOUD = tone(FRAME)


def play(rows: Rows, *frames: NDArray[np.int16]) -> list[NDArray[np.int16]]:
    """Frames of row 0 in turn, filled in."""
    out = []
    for frame in frames:
        rows.ring.play[0] += FRAME
        block = frame.copy()[None, :]
        conceal(rows.ring, rows.counters, np.array([0]), block)
        out.append(block[0])
    return out


def nothing() -> NDArray[np.int16]:
    return np.full(FRAME, MISSING, np.int16)


def started(rows: Rows) -> Rows:
    rows.ring.started[0] = True
    return rows


def test_a_whole_frame_is_left_alone() -> None:
    rows = started(Rows())
    assert np.array_equal(play(rows, LOUD)[0], LOUD)
    assert rows.counters.concealed[0] == 0


def test_missing_frames_repeat_the_last_one_and_fade_to_silence() -> None:
    rows = started(Rows())
    heard = play(rows, LOUD, *[nothing()] * 6)
    for number in range(1, 5):
        assert np.array_equal(heard[number], (LOUD * FADE[number]).astype(np.int16))
    assert not heard[5].any()
    assert not heard[6].any()
    assert rows.counters.concealed[0] == 4


def test_after_a_gap_the_next_one_is_loud_again() -> None:
    rows = started(Rows())
    quiet = tone(FRAME, amplitude=100)
    heard = play(rows, LOUD, nothing(), nothing(), quiet, nothing())
    assert np.array_equal(heard[4], quiet)


def test_only_what_is_missing_of_a_frame_is_filled_in() -> None:
    rows = started(Rows())
    half = LOUD[::-1].copy()
    half[: FRAME // 2] = MISSING
    filled = play(rows, LOUD, half)[1]
    assert np.array_equal(filled[: FRAME // 2], LOUD[: FRAME // 2])
    assert np.array_equal(filled[FRAME // 2 :], half[FRAME // 2 :])


def test_before_the_far_end_has_begun_there_is_silence_and_nothing_to_conceal() -> None:
    rows = Rows()
    assert not play(rows, nothing())[0].any()
    assert rows.counters.concealed[0] == 0


def test_where_nothing_is_expected_there_is_silence() -> None:
    """During the prefetch, and while the far end sends an event instead of audio."""
    rows = started(Rows())
    rows.ring.quiet_until[0] = 3 * FRAME
    heard = play(rows, LOUD, nothing(), nothing(), nothing())
    assert not heard[1].any()
    assert not heard[2].any()
    assert rows.counters.concealed[0] == 1


def test_rows_are_filled_in_by_themselves() -> None:
    rows = Rows(2)
    rows.ring.started[:] = True
    rows.ring.play[:] = FRAME
    block = np.stack([LOUD, LOUD])
    conceal(rows.ring, rows.counters, np.array([0, 1]), block)
    rows.ring.play[:] = 2 * FRAME
    block = np.stack([nothing(), LOUD // 2])
    conceal(rows.ring, rows.counters, np.array([0, 1]), block)
    assert np.array_equal(block[0], LOUD)
    assert np.array_equal(block[1], LOUD // 2)
    assert rows.ring.gap[:2].tolist() == [1, 0]
