"""So many a second."""

from __future__ import annotations

import pytest

from sipcore.protocol.pace import Pace


def test_a_burst_and_then_one_after_the_other() -> None:
    pace = Pace(10.0, 3)
    assert [round(pace.turn(5.0), 3) for _ in range(6)] == [5.0, 5.0, 5.0, 5.1, 5.2, 5.3]


def test_a_pause_gives_the_burst_back_and_no_more() -> None:
    pace = Pace(10.0, 2)
    assert [pace.turn(0.0) for _ in range(2)] == [0.0, 0.0]
    assert [round(pace.turn(100.0), 3) for _ in range(3)] == [100.0, 100.0, 100.1]


def test_turns_that_were_given_are_kept() -> None:
    """Who asks later comes later, whatever the clock says meanwhile."""
    pace = Pace(1.0, 1)
    assert [pace.turn(0.0), pace.turn(0.0), pace.turn(1.5)] == [0.0, 1.0, 2.0]


@pytest.mark.parametrize(("rate", "burst"), [(0.0, 1), (-1.0, 1), (1.0, 0)])
def test_nothing_is_no_pace(rate: float, burst: int) -> None:
    with pytest.raises(ValueError, match="a pace of"):
        Pace(rate, burst)
