"""Sequence numbers, sources and arrival times (RFC 3550 §6.4.1, §8, §A)."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from rtp.receive import Kind
from rtp.sequence import MAX_DROPOUT, OLD_SOURCE_SECONDS, follow, is_audio, lost, measure_arrivals
from tests.rtp.kit import Rows

SILENCE = np.zeros(160, np.int16)


def feed(rows: Rows, numbers: Iterable[int], *, ssrc: int = 1, arrival: float = 100.0) -> list[tuple[int, bool]]:
    """Packets one by one; returns (sequence, forward) of those that came through."""
    through = []
    for number in numbers:
        packets = rows.packets(0, number, number * 160, SILENCE, ssrc=ssrc, arrival=arrival)
        packets, forward = follow(rows.reception, rows.ring, rows.counters, packets)
        through += list(zip(packets.sequence.tolist(), forward.tolist(), strict=True))
    return through


def test_an_orderly_stream_loses_nothing_across_the_wrap() -> None:
    rows = Rows()
    assert len(feed(rows, range(65530, 65550))) == 20
    assert lost(rows.reception, 0) == 0
    assert rows.counters.packets_received[0] == 20
    assert rows.counters.reordered[0] == rows.counters.duplicates[0] == 0


def test_a_gap_is_lost_until_it_is_filled() -> None:
    """§A.3; a late arrival is no longer lost."""
    rows = Rows()
    feed(rows, [10, 11, 14])
    assert lost(rows.reception, 0) == 2
    assert feed(rows, [12]) == [(12, False)]
    assert lost(rows.reception, 0) == 1
    assert rows.counters.reordered[0] == 1


def test_the_first_packet_may_be_overtaken() -> None:
    rows = Rows()
    assert feed(rows, [5, 4, 6]) == [(5, True), (4, False), (6, True)]
    assert lost(rows.reception, 0) == 0


@pytest.mark.parametrize("order", [[1, 1], [1, 2, 3, 2], [65535, 0, 65535]])
def test_a_duplicate_is_dropped_and_counted(order: list[int]) -> None:
    rows = Rows()
    assert len(feed(rows, order)) == len(order) - 1
    assert rows.counters.duplicates[0] == 1
    assert lost(rows.reception, 0) == 0


def test_a_jump_in_the_numbers_begins_anew() -> None:
    """§A.1: more than MAX_DROPOUT ahead is a restart, and no loss; what was lost before stays lost."""
    rows = Rows()
    feed(rows, [1, 3])
    assert feed(rows, [3 + MAX_DROPOUT + 1, 3 + MAX_DROPOUT + 2])[0][1]
    assert lost(rows.reception, 0) == 1
    assert feed(rows, [2]) == [(2, True)]
    assert lost(rows.reception, 0) == 1


def test_a_new_source_begins_anew_and_stragglers_of_the_old_are_dropped() -> None:
    """§8: another SSRC from the same address is the far end's new source (a transfer, an announcement before)."""
    rows = Rows()
    rows.ring.started[0] = True
    feed(rows, [1, 2, 4], ssrc=1)
    assert feed(rows, [900], ssrc=2) == [(900, True)]
    assert not rows.ring.started[0]
    assert feed(rows, [5], ssrc=1, arrival=100.0 + OLD_SOURCE_SECONDS - 0.1) == []
    assert rows.counters.late[0] == 1
    assert feed(rows, [901], ssrc=2) == [(901, True)]
    assert lost(rows.reception, 0) == 1


def test_the_old_source_may_come_back() -> None:
    rows = Rows()
    feed(rows, [1], ssrc=1)
    feed(rows, [900], ssrc=2)
    assert feed(rows, [50], ssrc=1, arrival=100.0 + OLD_SOURCE_SECONDS) == [(50, True)]


def test_before_the_first_packet_nothing_is_lost() -> None:
    assert lost(Rows().reception, 0) == 0


def arrive(rows: Rows, times: Iterable[tuple[float, int]]) -> None:
    for arrival, timestamp in times:
        measure_arrivals(rows.reception, rows.packets(0, 0, timestamp, SILENCE, arrival=arrival), 8000)


def test_an_even_stream_has_no_jitter() -> None:
    rows = Rows()
    arrive(rows, [(100 + number * 0.02, number * 160) for number in range(50)])
    assert rows.reception.jitter[0] == pytest.approx(0.0, abs=1e-9)
    assert rows.reception.histogram[0].sum() == 49


def test_jitter_is_the_rfcs_running_mean() -> None:
    """§A.8: J += (|D| - J) / 16, whichever clock the arrivals are on."""
    rows = Rows()
    arrivals = [100.0, 100.025, 100.040, 100.065, 100.080]
    expected, before = 0.0, 100.0
    for arrival in arrivals[1:]:
        expected += (abs(arrival - before - 0.02) - expected) / 16
        before = arrival
    arrive(rows, [(arrival, number * 160) for number, arrival in enumerate(arrivals)])
    assert rows.reception.jitter[0] == pytest.approx(expected)
    assert rows.reception.histogram[0, [25, 15, 24]].sum() >= 2


def test_jitter_survives_the_wrap_of_the_timestamp() -> None:
    rows = Rows()
    arrive(rows, [(100 + number * 0.02, (2**32 - 320 + number * 160) % 2**32) for number in range(6)])
    assert rows.reception.jitter[0] == pytest.approx(0.0, abs=1e-9)


def test_a_jump_of_timestamps_is_no_jitter() -> None:
    rows = Rows()
    arrive(rows, [(100.0, 0), (100.02, 160), (100.04, 2**31 - 1), (100.06, 2**31 + 159)])
    assert rows.reception.jitter[0] == pytest.approx(0.0, abs=1e-9)


def test_a_pause_counts_in_the_last_bin() -> None:
    rows = Rows()
    arrive(rows, [(100.0, 0), (101.0, 8000)])
    assert rows.reception.histogram[0, 100] == 1


def test_events_are_no_audio() -> None:
    rows = Rows()
    assert not is_audio(rows.packets(0, 0, 0, SILENCE, kind=Kind.EVENT)).any()
    assert is_audio(rows.packets(0, 0, 0, SILENCE)).all()
