"""SipTransferCall in all its outcomes (CONTRACT §4)."""

from __future__ import annotations

import asyncio

import pytest

from service.status import Status, StatusType
from tests.kit.fake_agent import FakeCall
from tests.service.bench import Bench, settle
from tests.service.virtual import in_virtual_time


@in_virtual_time
async def test_without_outcome_the_leg_ends_at_once() -> None:
    bench = Bench()
    call = await bench.connected()
    status = await bench.transfer("carol", {"X-Why": "tired"}, outcome_ms=0)
    assert status.type is StatusType.TRANSFER_CALL_INITIATED
    assert (status.transfer_target, status.sip_code) == ("carol", 0)
    assert status.headers == {"X-Why": "tired"}
    assert call.did == ["refer carol"]
    await asyncio.sleep(0.5)
    assert call.did == ["refer carol", "hangup"]
    assert bench.types()[-2:] == ["TRANSFER_CALL_INITIATED", "OUTGOING_CALL_FINISHED"]
    assert bench.current.description == "Call transferred"
    assert bench.current.transfer_target == "carol"
    assert bench.current.headers == {}


@in_virtual_time
async def test_without_outcome_a_challenge_to_the_refer_gets_its_chance() -> None:
    bench = Bench()
    call = await bench.connected()
    await bench.transfer()
    call.transfers[0].accept()
    await settle()
    assert call.did == ["refer carol", "hangup"]  # as soon as the REFER was answered


async def _waiting(bench: Bench, outcome_ms: int = 5000, deadline: float | None = None) -> asyncio.Task[Status]:
    task = asyncio.create_task(bench.transfer(outcome_ms=outcome_ms, deadline=deadline))
    await settle()
    return task


@in_virtual_time
@pytest.mark.parametrize("final", [None, 200, 486, 603])
async def test_accepted(final: int | None) -> None:
    bench = Bench()
    call = await bench.connected()
    task = await _waiting(bench)
    call.transfers[0].accept()
    await settle()
    assert not task.done()  # the grace
    if final is not None:
        call.transfers[0].notify(final)
    status = await task
    assert (status.type, status.sip_code) == (StatusType.TRANSFER_CALL_INITIATED, 202)
    await asyncio.sleep(1)
    assert call.did == ["refer carol", "hangup"]
    assert bench.types()[-2:] == ["TRANSFER_CALL_INITIATED", "OUTGOING_CALL_FINISHED"]
    assert bench.current.description == "Call transferred"


@in_virtual_time
async def test_accepted_but_a_404_in_the_grace_is_refused() -> None:
    bench = Bench()
    call = await bench.connected()
    before = bench.types()
    task = await _waiting(bench)
    call.transfers[0].accept()
    await asyncio.sleep(0.1)
    call.transfers[0].notify(404)
    status = await task
    assert (status.type, status.sip_code) == (StatusType.TRANSFER_CALL_FAILED, 404)
    assert (status.description, status.exception) == ("reason=refer-rejected", "TransferRejected")
    await asyncio.sleep(60)
    assert call.is_connected
    assert bench.types() == before


@in_virtual_time
async def test_refused_keeps_the_call_and_the_shared_status() -> None:
    bench = Bench()
    call = await bench.connected()
    before = bench.current
    task = await _waiting(bench)
    call.transfers[0].refuse(603)
    status = await task
    assert (status.type, status.sip_code) == (StatusType.TRANSFER_CALL_FAILED, 603)
    assert (status.description, status.transfer_target) == ("reason=refer-rejected", "carol")
    assert bench.current == before
    # It can be tried again.
    task = await _waiting(bench)
    call.transfers[1].accept()
    assert (await task).type is StatusType.TRANSFER_CALL_INITIATED


@in_virtual_time
@pytest.mark.parametrize(("asked", "waited"), [(1500, 1.5), (10_000, 10.0), (60_000, 10.0)])
async def test_no_answer_in_time_and_a_late_acceptance(asked: int, waited: float) -> None:
    bench = Bench()
    call = await bench.connected()
    before = bench.types()
    started = asyncio.get_running_loop().time()
    status = await bench.transfer(outcome_ms=asked)
    assert asyncio.get_running_loop().time() - started == pytest.approx(waited, abs=0.01)
    assert (status.type, status.sip_code) == (StatusType.TRANSFER_CALL_FAILED, 0)
    assert (status.description, status.exception) == ("reason=refer-timeout", "TransferTimeout")
    assert bench.types() == before
    assert call.is_connected
    call.transfers[0].accept()
    await asyncio.sleep(2)
    assert not call.is_connected
    assert bench.types()[-2:] == ["TRANSFER_CALL_INITIATED", "OUTGOING_CALL_FINISHED"]
    assert bench.current.description == "Call transferred"


@in_virtual_time
async def test_acceptance_just_before_the_timeout_still_has_its_grace() -> None:
    bench = Bench()
    call = await bench.connected()
    task = await _waiting(bench, outcome_ms=1000)
    await asyncio.sleep(0.9)
    call.transfers[0].accept()
    await asyncio.sleep(0.3)
    assert not task.done()
    assert (await task).type is StatusType.TRANSFER_CALL_INITIATED


@in_virtual_time
async def test_the_refer_itself_times_out() -> None:
    bench = Bench()
    call = await bench.connected()
    task = await _waiting(bench)
    call.transfers[0].time_out()
    status = await task
    assert (status.type, status.description) == (StatusType.TRANSFER_CALL_FAILED, "reason=refer-timeout")


@in_virtual_time
async def test_the_call_ends_meanwhile() -> None:
    bench = Bench()
    call = await bench.connected()
    task = await _waiting(bench)
    call.hang_up_by_far_end()
    status = await task
    assert (status.type, status.exception) == (StatusType.NO_ONGOING_CALL, "NoOngoingCall")
    assert bench.types()[-1] == "OUTGOING_CALL_FINISHED"  # the refusal is returned only
    assert bench.current.description != "Call transferred"


@in_virtual_time
async def test_a_far_end_that_accepts_and_hangs_up_by_itself_was_transferred() -> None:
    bench = Bench()
    call = await bench.connected()
    task = await _waiting(bench)
    call.transfers[0].accept()
    await settle()
    call.hang_up_by_far_end()
    status = await task
    assert (status.type, status.sip_code) == (StatusType.TRANSFER_CALL_INITIATED, 202)
    await asyncio.sleep(1)
    assert bench.types()[-2:] == ["TRANSFER_CALL_INITIATED", "OUTGOING_CALL_FINISHED"]
    assert bench.current.description == "Call transferred"


@in_virtual_time
async def test_one_transfer_at_a_time() -> None:
    bench = Bench()
    call = await bench.connected()
    task = await _waiting(bench)
    second = await bench.transfer("dave")
    assert (second.type, second.exception) == (StatusType.TRANSFER_CALL_FAILED, "TransferInProgress")
    call.transfers[0].accept()
    assert (await task).transfer_target == "carol"
    assert call.did[0] == "refer carol"


@in_virtual_time
async def test_a_cancelled_request_leaves_the_call_and_the_history_says_so() -> None:
    bench = Bench()
    call = await bench.connected()
    task = await _waiting(bench)
    task.cancel()
    await settle()
    assert call.is_connected
    assert (bench.current.type, bench.current.exception) == (
        StatusType.TRANSFER_CALL_FAILED,
        "TransferCancelled",
    )
    call.transfers[0].accept()  # a REFER cannot be taken back
    await asyncio.sleep(2)
    assert not call.is_connected


@in_virtual_time
async def test_a_deadline_before_the_outcome_returns_and_the_transfer_goes_on() -> None:
    bench = Bench()
    call = await bench.connected()
    task = await _waiting(bench, outcome_ms=9000, deadline=2.0)
    status = await task
    assert status.type is StatusType.OUTGOING_CALL_CONNECTED
    call.transfers[0].accept()
    await asyncio.sleep(1)
    assert bench.types()[-2:] == ["TRANSFER_CALL_INITIATED", "OUTGOING_CALL_FINISHED"]


@in_virtual_time
async def test_a_transfer_needs_a_connected_call() -> None:
    bench = Bench()
    await bench.session()
    before = bench.types()
    assert (await bench.transfer()).type is StatusType.NO_ONGOING_CALL
    assert bench.types() == before  # returned only
    dialling = asyncio.create_task(bench.dial())
    await settle()
    status = await bench.transfer(outcome_ms=100)
    assert (status.type, bool(status.call_id)) == (StatusType.NO_ONGOING_CALL, True)
    bench.call.answer_by_far_end()
    await dialling


@in_virtual_time
@pytest.mark.parametrize("interval", [0, -1])
async def test_the_far_end_hands_us_over_to_another(interval: int) -> None:
    """RFC 3891: the call that takes the ongoing one's place is connected, and the end of the other comes first."""
    bench = Bench()
    await bench.session(auto_answer=interval)
    first = await bench.connected()
    assert bench.registration.invite("sip:dave@example.com") == 486
    stranger = FakeCall("incoming", "sip:dave@example.com", {})
    assert bench.registration.invite("sip:dave@example.com", replaces=stranger) == 486
    taken = bench.registration.invite("sip:carol@example.com", replaces=first)
    assert isinstance(taken, FakeCall)
    await settle()
    assert bench.types()[-3:] == ["OUTGOING_CALL_FINISHED", "INCOMING_CALL_INITIATED", "INCOMING_CALL_CONNECTED"]
    finished, initiated, _ = bench.statuses()[-3:]
    assert finished.description == "Replaced by a call from sip:carol@example.com"
    assert initiated.callee == "sip:carol@example.com"
    assert initiated.call_id != finished.call_id
    assert (await bench.hang_up()).type is StatusType.INCOMING_CALL_FINISHED
    assert "hangup" in taken.did
