"""SipReportAnsweringMachineDetected, and what it does to the end of the call (CONTRACT §4)."""

from __future__ import annotations

import pytest

from service.accounts import Scope
from service.ongoing import EndReason
from service.status import AmdAction, AmdResult, AmdVerdict, StatusType
from sipcore.events import CallEnded, EndCause, Party
from tests.service.bench import Bench, settle
from tests.service.virtual import in_virtual_time

MACHINE = AmdResult(verdict=2, cause=3, confidence=0.9, decision_ms=1800, rule_id="beep", matched_cue_ids=("a", "b"))
LEFT = AmdResult(verdict=2, action_taken=AmdAction.LEFT_VOICE_MESSAGE)
HUMAN = AmdResult(verdict=AmdVerdict.HUMAN)
MACHINE_HUNG_UP = "Answering machine detected, call ended by the answering machine"


@in_virtual_time
async def test_a_report_is_a_transition_and_the_call_stays_up() -> None:
    bench = Bench()
    call = await bench.connected({"X-Campaign": "7"})
    status = bench.report(MACHINE)
    assert status.type is StatusType.OUTGOING_CALL_ANSWERING_MACHINE_DETECTED
    assert status.amd == MACHINE
    assert (status.exception, status.call_id) == ("", bench.statuses()[-2].call_id)
    assert bench.current == status
    assert call.is_connected
    assert call.did == []
    finished = await bench.hang_up()
    assert (finished.type, finished.amd) == (StatusType.OUTGOING_CALL_FINISHED, MACHINE)
    assert finished.description == "Hung up by this side"


@in_virtual_time
@pytest.mark.parametrize(
    ("amd", "description"),
    [
        (MACHINE, MACHINE_HUNG_UP),
        (LEFT, f"{MACHINE_HUNG_UP} after leaving a voice message"),
        (HUMAN, "Hung up by sip:bob@example.com"),
    ],
)
async def test_the_far_end_hangs_up_after_a_report(amd: AmdResult, description: str) -> None:
    bench = Bench()
    call = await bench.connected()
    bench.report(amd)
    call.hang_up_by_far_end()
    await settle()
    finished = bench.current
    assert finished.type is StatusType.OUTGOING_CALL_FINISHED
    assert (finished.description, finished.amd) == (description, amd)


@in_virtual_time
async def test_the_newest_report_counts() -> None:
    bench = Bench()
    call = await bench.connected()
    bench.report(HUMAN)
    bench.report(LEFT)
    call.hang_up_by_far_end()
    await settle()
    assert bench.current.description == f"{MACHINE_HUNG_UP} after leaving a voice message"
    assert bench.types()[-3:-1] == ["OUTGOING_CALL_ANSWERING_MACHINE_DETECTED"] * 2


@in_virtual_time
async def test_a_call_that_the_network_ends_says_so_also_after_a_report() -> None:
    bench = Bench()
    call = await bench.connected()
    bench.report(MACHINE)
    call.finish(CallEnded(EndCause.SILENCE, Party.NETWORK, 0, "No RTP for 30 s"))
    await settle()
    assert (bench.current.description, bench.current.amd) == ("No RTP for 30 s", MACHINE)


@in_virtual_time
@pytest.mark.parametrize(
    ("reason", "description"),
    [
        (EndReason.ANSWERING_MACHINE, "Answering machine detected with hang up"),
        (
            EndReason.ANSWERING_MACHINE_VOICE_MESSAGE_LEFT,
            "Answering machine detected with left voice message and hang up",
        ),
    ],
)
async def test_the_reason_of_sip_end_call_counts_more_than_the_report(reason: EndReason, description: str) -> None:
    bench = Bench()
    await bench.connected()
    bench.report(MACHINE)
    finished = await bench.hang_up(reason=reason, amd=LEFT)
    assert (finished.description, finished.amd) == (description, LEFT)


@in_virtual_time
async def test_the_next_call_knows_nothing_of_the_report() -> None:
    bench = Bench()
    await bench.connected()
    bench.report(MACHINE)
    await bench.hang_up()
    call = await bench.connected()
    call.hang_up_by_far_end()
    await settle()
    assert (bench.current.description, bench.current.amd) == ("Hung up by sip:bob@example.com", None)


@in_virtual_time
@pytest.mark.parametrize("state", ["nothing", "registered", "session", "ringing", "incoming"])
async def test_a_report_without_a_connected_outgoing_call_is_refused_and_not_recorded(state: str) -> None:
    bench = Bench()
    if state == "registered":
        await bench.register()
    elif state != "nothing":
        await bench.session()
    if state == "ringing":
        await bench.dial(deadline=1.0)
    if state == "incoming":
        bench.registration.invite("sip:bob@example.com")
        await settle()
        assert bench.current.type is StatusType.INCOMING_CALL_CONNECTED
    before = bench.types()
    status = bench.report(MACHINE)
    assert (status.type, status.exception) == (StatusType.NO_ONGOING_CALL, "NoOngoingCall")
    assert status.description
    assert bench.types() == before


@in_virtual_time
async def test_a_report_meant_for_another_call_is_refused() -> None:
    bench = Bench()
    await bench.connected()
    before = bench.types()
    status = bench.accounts.report_machine(Scope(call_id="another"), MACHINE)
    assert status.exception == "CallScopeMismatch"
    assert bench.types() == before
    assert bench.report(MACHINE, call_id=bench.current.call_id).exception == ""
