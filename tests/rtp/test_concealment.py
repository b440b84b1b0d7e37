"""Loss concealment goes on with the pitch, fades, and leaves no click."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from rtp.concealment import FADED, MOST_PERIODS, SEAM
from rtp.jitter import FRAME, MISSING
from tests.rtp.kit import Rows, tone

VOICE = (
    tone(40 * FRAME, hertz=123.0, amplitude=6000)
    + tone(40 * FRAME, hertz=246.0, amplitude=3000)
    + tone(40 * FRAME, hertz=861.0, amplitude=1000)
)
STEEPEST = int(np.abs(np.diff(VOICE.astype(int))).max())
"""The largest step between two samples of the voice itself."""


def play(rows: Rows, *frames: NDArray[np.int16]) -> list[NDArray[np.int16]]:
    """Frames of row 0 in turn, filled in."""
    out = []
    for frame in frames:
        rows.ring.play[0] += FRAME
        block = frame.copy()[None, :]
        rows.conceal(block, 0)
        out.append(block[0])
    return out


def nothing() -> NDArray[np.int16]:
    return np.full(FRAME, MISSING, np.int16)


def voice(first: int, count: int, *, without: range = range(0)) -> list[NDArray[np.int16]]:
    """Frames of the voice; the samples ``without`` are missing."""
    samples = VOICE[: (first + count) * FRAME].copy()
    samples[without.start : without.stop] = MISSING
    return [samples[number * FRAME : (number + 1) * FRAME] for number in range(first, first + count)]


def started(rows: Rows) -> Rows:
    rows.ring.started[0] = True
    return rows


def test_whole_frames_are_left_alone() -> None:
    rows = started(Rows())
    assert np.array_equal(np.concatenate(play(rows, *voice(0, 10))), VOICE[: 10 * FRAME])
    assert rows.counters.concealed[0] == rows.counters.underruns[0] == 0


def test_a_gap_goes_on_like_the_voice_before_it() -> None:
    """One packet of 20 ms: what is filled in resembles what was lost."""
    rows = started(Rows())
    heard = play(rows, *voice(0, 5), nothing())
    lost = VOICE[5 * FRAME : 6 * FRAME].astype(float)
    likeness = np.corrcoef(heard[5], lost)[0, 1]
    assert likeness > 0.9


@pytest.mark.parametrize("gap", [(5, 6), (5, 7), (5, 12)], ids=["20 ms", "40 ms", "140 ms"])
def test_no_click_at_either_seam(gap: tuple[int, int]) -> None:
    rows = started(Rows())
    heard = np.concatenate(play(rows, *voice(0, 20, without=range(gap[0] * FRAME, gap[1] * FRAME)))).astype(int)
    assert np.abs(np.diff(heard)).max() <= 1.5 * STEEPEST


@pytest.mark.parametrize("begin", [5 * FRAME + 80, 5 * FRAME + 33, 6 * FRAME - 1])
@pytest.mark.parametrize("length", [80, 160, 240, 400])
def test_gaps_that_begin_and_end_within_a_frame(begin: int, length: int) -> None:
    """Packets of 10, 30 or 40 ms: what came is played, what did not is filled in, without a click."""
    rows = started(Rows())
    heard = np.concatenate(play(rows, *voice(0, 20, without=range(begin, begin + length)))).astype(int)
    assert np.array_equal(heard[:begin], VOICE[:begin])
    back = begin + length + SEAM
    assert np.array_equal(heard[back:], VOICE[back : 20 * FRAME])
    assert np.abs(heard[begin : begin + min(length, 80)]).mean() > 1000
    assert np.abs(np.diff(heard)).max() <= 1.6 * STEEPEST


def test_it_fades_and_is_silent_after_80_ms() -> None:
    rows = started(Rows())
    heard = play(rows, *voice(0, 5), *[nothing()] * 6)[5:]
    levels = [float(np.abs(frame.astype(int)).mean()) for frame in heard]
    assert levels[0] > levels[1] > levels[2] > levels[3] > 0
    assert levels[4] == levels[5] == 0
    assert rows.counters.concealed[0] == FADED // FRAME
    assert rows.counters.underruns[0] == 1


def test_after_a_gap_audio_rises_within_5_ms() -> None:
    rows = started(Rows())
    heard = play(rows, *voice(0, 5), *[nothing()] * 8, *voice(13, 1))[-1]
    assert np.array_equal(heard[SEAM:], voice(13, 1)[0][SEAM:])
    assert abs(int(heard[0])) < 1000


def test_noise_stays_noise() -> None:
    """What has no pitch is not made to sing: the wave has the level of what was before."""
    rng = np.random.default_rng(1)
    noise = (1000 * rng.standard_normal(5 * FRAME)).astype(np.int16)
    rows = started(Rows())
    heard = play(rows, *noise.reshape(5, FRAME), nothing())[-1]
    assert 500 < np.sqrt((heard.astype(float) ** 2).mean()) < 1500


def test_before_the_far_end_has_begun_there_is_silence_and_nothing_to_conceal() -> None:
    rows = Rows()
    assert not play(rows, nothing())[0].any()
    assert rows.counters.concealed[0] == rows.counters.underruns[0] == 0


def test_where_nothing_is_expected_there_is_silence() -> None:
    """During the first delay, and while the far end sends an event instead of audio."""
    rows = started(Rows())
    rows.ring.quiet_until[0] = 3 * FRAME
    heard = play(rows, VOICE[:FRAME], nothing(), nothing(), nothing())
    assert not heard[1].any()
    assert not heard[2].any()
    assert rows.counters.concealed[0] == 1


def test_a_gap_with_audio_behind_it_is_no_underrun() -> None:
    rows = started(Rows())
    rows.ring.end[0] = 100 * FRAME
    play(rows, *voice(0, 3), nothing(), *voice(4, 1))
    assert rows.counters.concealed[0] == 1
    assert rows.counters.underruns[0] == 0


def test_rows_are_filled_in_by_themselves() -> None:
    """Also more of them at once than pitches are looked for."""
    count = MOST_PERIODS + 10
    rows = Rows(count)
    rows.ring.started[:] = True
    everyone = range(count)
    for number in range(4):
        rows.ring.play[:] += FRAME
        block = np.stack([VOICE[(number + row) * 7 :][:FRAME] for row in everyone])
        rows.conceal(block, *everyone)
    rows.ring.play[:] += FRAME
    block = np.stack([VOICE[:FRAME] if row == 3 else nothing() for row in everyone])
    rows.conceal(block, *everyone)
    assert np.array_equal(block[3], VOICE[:FRAME])
    assert all(np.abs(block[row].astype(int)).mean() > 1000 for row in everyone)
    assert [int(rows.counters.concealed[row]) for row in everyone] == [int(row != 3) for row in everyone]
