"""What is told about a stream and about the clock."""

from __future__ import annotations

import pytest

from rtp.statistics import Series, StreamStatistics


def test_the_share_of_lost_packets() -> None:
    assert StreamStatistics().loss == 0.0
    assert StreamStatistics(packets_received=92, duplicates=2, lost=10).loss == pytest.approx(0.1)


def test_a_series_remembers_the_latest_values() -> None:
    series = Series(4)
    assert series.percentiles(50, 100) == (0.0, 0.0)
    for value in (100.0, 1.0, 2.0, 3.0, 4.0):
        series.add(value)
    assert series.percentiles(0, 100) == (1.0, 4.0)
    assert series.percentiles(50) == (2.5,)
