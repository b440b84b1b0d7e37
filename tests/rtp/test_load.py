"""How busy the clock is: whether there is room, and what is told of missed ticks."""

from __future__ import annotations

import pytest

from rtp.load import BAD_SECONDS, REPORT_SECONDS, WINDOW_SECONDS, Load, MissedTicks

PERIOD = 0.02
SECOND = 50
LIMIT = 0.8


def second(load: Load, *, share: float = 0.1, missed: int = 0) -> list[MissedTicks]:
    """A second of ticks; every missed one is a stall of its own. What was told."""
    told = [load.add(2, 2 * PERIOD * share) for _ in range(missed)]
    told += [load.add(1, PERIOD * share) for _ in range(SECOND - 2 * missed)]
    return [each for each in told if each is not None]


def test_a_process_that_keeps_up_has_room() -> None:
    load = Load(PERIOD, 5)
    for _ in range(20):
        assert second(load, share=0.79, missed=9) is not None
        assert not load.overloaded(LIMIT)
    assert load.busy == pytest.approx(0.79)
    assert load.missed == 9 * WINDOW_SECONDS


@pytest.mark.parametrize("bad", [{"share": 0.81}, {"missed": 11, "share": 0.41}], ids=["busy", "late"])
def test_three_bad_seconds_of_five_are_too_many_and_room_comes_back(bad: dict[str, float]) -> None:
    load = Load(PERIOD, 5)
    for number in range(1, BAD_SECONDS + 1):
        assert not load.overloaded(LIMIT)
        second(load, **bad)  # type: ignore[arg-type]
        assert load.overloaded(LIMIT) == (number >= BAD_SECONDS)
    for number in range(1, WINDOW_SECONDS + 1):
        second(load)
        assert load.overloaded(LIMIT) == (number <= WINDOW_SECONDS - BAD_SECONDS)


def test_one_stall_however_long_is_no_overload() -> None:
    load = Load(PERIOD, 5)
    second(load)
    load.add(1000, 0.001)
    second(load)
    assert not load.overloaded(LIMIT)


def test_ticks_missed_while_they_had_little_to_do_are_no_overload() -> None:
    """A flood of requests, or another program: whoever causes that must not be able to shut others out."""
    load = Load(PERIOD, 5)
    for _ in range(10):
        second(load, share=0.39, missed=25)
        assert not load.overloaded(LIMIT)


def test_without_a_limit_nobody_is_overloaded() -> None:
    load = Load(PERIOD, 5)
    for _ in range(10):
        second(load, share=2.0, missed=20)
    assert load.overloaded(LIMIT)
    assert not load.overloaded(0)


def test_missed_ticks_are_told_of_at_once_and_then_every_ten_seconds() -> None:
    load = Load(PERIOD, 5)
    assert load.add(13, 0.0) == MissedTicks(count=12, longest_ms=260.0, stalls=1, skipped_frames=8)
    told = [report for _ in range(11) for report in second(load, missed=3)]
    assert told[0].stalls == 3 * int(REPORT_SECONDS) + 1
    assert told[0] == MissedTicks(count=31, longest_ms=40.0, stalls=31, skipped_frames=0)
    assert len(told) == 1


def test_what_was_missed_last_is_told_of_though_all_is_well_since() -> None:
    load = Load(PERIOD, 5)
    load.add(2, 0.0)
    load.add(3, 0.0)
    told = [report for _ in range(30) for report in second(load)]
    assert told == [MissedTicks(count=2, longest_ms=60.0, stalls=1, skipped_frames=0)]
