"""The transition table of CONTRACT §3 and the history."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.generated.ondewo.sip import sip_pb2
from service.status import TRANSITIONS, History, IllegalTransition, Phase, Status, StatusType

CALL_PHASES = (Phase.CALLING, Phase.RINGING, Phase.OUTGOING, Phase.INCOMING)


def test_the_numbers_are_those_of_the_wire() -> None:
    assert {type_.name: type_.value for type_ in StatusType} == dict(sip_pb2.SipStatus.StatusType.items())


@pytest.mark.parametrize(("phase", "type_"), list(itertools.product(Phase, StatusType)))
def test_every_cell_is_an_arrow_or_refused(phase: Phase, type_: StatusType) -> None:
    history = History(10)
    history.phase = phase
    target = TRANSITIONS.get((phase, type_))
    if target is None:
        with pytest.raises(IllegalTransition):
            history.record(Status(type_))
        assert history.all() == ()
        assert history.phase is phase
    else:
        assert history.record(Status(type_)) == history.current
        assert history.phase is target


def test_every_type_can_be_recorded_somewhere() -> None:
    assert {type_ for _, type_ in TRANSITIONS} == set(StatusType)


def test_only_initiated_begins_a_call_and_only_failed_or_finished_ends_one() -> None:
    for (phase, type_), target in TRANSITIONS.items():
        if phase not in CALL_PHASES and target in CALL_PHASES:
            assert type_.name.endswith("_CALL_INITIATED")
        if phase in CALL_PHASES and target not in CALL_PHASES:
            assert type_.name.endswith(("_CALL_FAILED", "_CALL_FINISHED"))
            assert target is Phase.OPEN


def test_the_oldest_is_dropped_first() -> None:
    history = History(3)
    for _ in range(5):
        history.record(Status(StatusType.REGISTERED))
    kept = history.all()
    assert len(kept) == 3
    assert history.current == kept[-1]


@given(st.lists(st.integers(-(10**6), 10**15), min_size=1, max_size=50))
def test_timestamps_rise_strictly_whatever_the_clock_does(clock: list[int]) -> None:
    readings = iter(clock)
    history = History(100, clock=lambda: next(readings))
    stamps = [history.record(Status(StatusType.REGISTERED)).timestamp_us for _ in clock]
    assert all(before < after for before, after in itertools.pairwise(stamps))


def test_what_is_only_returned_is_stamped_and_not_recorded() -> None:
    history = History(3, clock=lambda: 5_000_000)
    recorded = history.record(Status(StatusType.REGISTERED))
    refused = history.stamp(Status(StatusType.NO_SESSION))
    assert refused.timestamp_us >= recorded.timestamp_us
    assert history.all() == (recorded,)
