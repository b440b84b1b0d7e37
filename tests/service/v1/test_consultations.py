"""A consultation beside a call, and the transfer to it; the old service sees the first call alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest_asyncio
from google.protobuf.empty_pb2 import Empty

from service.generated.ondewo.sip import sip_pb2 as sip
from service.generated.sipcore.v1 import resources_pb2
from service.generated.sipcore.v1 import telephony_pb2 as pb
from sipcore.errors import CallRejected, HoldRejected
from tests.kit.fake_agent import FakeCall
from tests.service.bench import Bench
from tests.service.v1.wire import Wire, open_wire, refused, until

Code = grpc.StatusCode


@pytest_asyncio.fixture
async def wire() -> AsyncIterator[Wire]:
    async with open_wire(Bench()) as opened:
        yield opened


async def consulting(wire: Wire, *, without_hold: bool = False) -> tuple[FakeCall, FakeCall, resources_pb2.Call]:
    """The first call, the one that asks carol, who has answered, and what the client was told of it."""
    first = await wire.connected()
    request = pb.StartConsultationRequest(
        call_id="one", callee="carol", headers={"X-Why": "billing"}, without_hold=without_hold
    )
    asking = asyncio.ensure_future(wire.stub.StartConsultation(request))
    await until(lambda: len(wire.bench.registration.calls) == 2)
    wire.bench.call.answer_by_far_end()
    return first, wire.bench.call, await asking


async def test_the_caller_is_on_hold_while_somebody_else_is_asked(wire: Wire) -> None:
    first, second, call = await consulting(wire)
    assert first.did == ["hold"]
    assert (second.remote, second.headers) == ("carol", {"X-Why": "billing"})
    assert (call.consultation_for, call.state, call.remote) == ("one", resources_pb2.Call.CONNECTED, "carol")
    listed = (await wire.stub.ListCalls(pb.ListCallsRequest())).calls
    assert [one.call_id for one in listed] == ["one", call.call_id]
    assert [one.held for one in listed] == [True, False]
    # The old service knows one call.
    assert wire.bench.types()[-1] == "OUTGOING_CALL_CONNECTED"
    assert (await wire.sip.SipGetSipStatus(Empty())).call_id == "one"
    assert wire.bench.registration.invite("sip:eve@example.com") == 486
    answer = await refused(wire.stub.StartConsultation(pb.StartConsultationRequest(call_id="one", callee="dave")))
    assert (answer.code, answer.reason) == (Code.FAILED_PRECONDITION, "CONSULTATION_IN_PROGRESS")


async def test_the_far_ends_are_connected_with_each_other(wire: Wire) -> None:
    first, second, call = await consulting(wire)
    watching = wire.watch()
    await watching.started()
    request = pb.TransferToConsultationRequest(call_id="one", headers={"X-A": "b"}, timeout_ms=3000)
    transferring = asyncio.ensure_future(wire.stub.TransferToConsultation(request))
    await until(lambda: first.transfers)
    assert first.did == ["hold", "transfer to carol {'X-A': 'b'} 3"]
    again = await refused(wire.stub.TransferToConsultation(request))
    assert again.reason == "TRANSFER_IN_PROGRESS"
    old = await wire.sip.SipTransferCall(sip.SipTransferCallRequest(transfer_id="dave"))
    assert old.exception_name == "TransferInProgress"
    first.transfers[0].accept()
    await transferring
    assert (first.did[-1], second.did) == ("hangup", ["hangup"])
    types = wire.bench.types()
    assert types[-2:] == ["TRANSFER_CALL_INITIATED", "OUTGOING_CALL_FINISHED"]
    status = await wire.sip.SipGetSipStatus(Empty())
    assert (status.description, status.transfer_call_id) == ("Call transferred", "carol")
    ended = {(await watching.event("call_ended")).call_id for _ in range(2)}
    assert ended == {"one", call.call_id}
    assert not (await wire.stub.ListCalls(pb.ListCallsRequest())).calls
    watching.cancel()


async def test_a_transfer_that_is_refused_leaves_both_calls(wire: Wire) -> None:
    first, second, _ = await consulting(wire, without_hold=True)
    transferring = asyncio.ensure_future(
        wire.stub.TransferToConsultation(pb.TransferToConsultationRequest(call_id="one"))
    )
    await until(lambda: first.transfers)
    first.transfers[0].refuse(603)
    answer = await refused(transferring)
    assert (answer.code, answer.reason) == (Code.ABORTED, "TRANSFER_REJECTED")
    assert answer.info.metadata["sip_code"] == "603"
    assert first.is_connected
    assert second.is_connected
    assert "hold" not in first.did
    first.hang_up_by_far_end()
    await until(lambda: wire.bench.types()[-1] == "OUTGOING_CALL_FINISHED")
    assert "TRANSFER_CALL_INITIATED" not in wire.bench.types()


async def test_the_consultation_ends_with_the_first_call(wire: Wire) -> None:
    first, second, _ = await consulting(wire)
    first.hang_up_by_far_end()
    await until(lambda: second.ended)
    assert second.did == ["hangup_now"]


async def test_the_consultation_can_end_alone(wire: Wire) -> None:
    first, _, call = await consulting(wire)
    await wire.stub.HangUpCall(pb.HangUpCallRequest(call_id=call.call_id))
    assert first.is_connected
    assert wire.bench.types()[-1] == "OUTGOING_CALL_CONNECTED"
    answer = await refused(wire.stub.TransferToConsultation(pb.TransferToConsultationRequest(call_id="one")))
    assert (answer.code, answer.reason) == (Code.FAILED_PRECONDITION, "NO_CONSULTATION")
    await wire.stub.ResumeCall(pb.ResumeCallRequest(call_id="one"))
    assert first.did == ["hold", "resume"]


async def test_somebody_who_does_not_answer(wire: Wire) -> None:
    first = await wire.connected()
    request = pb.StartConsultationRequest(call_id="one", callee="carol", without_hold=True)
    asking = asyncio.ensure_future(wire.stub.StartConsultation(request))
    await until(lambda: len(wire.bench.registration.calls) == 2)
    wire.bench.call.refuse_by_far_end(CallRejected("486 Busy Here", code=486), "486 Busy Here")
    answer = await refused(asking)
    assert (answer.code, answer.reason, answer.info.metadata["sip_code"]) == (Code.ABORTED, "CALL_REJECTED", "486")
    assert first.is_connected


async def test_a_request_that_is_cancelled_gives_up_the_ringing_call(wire: Wire) -> None:
    await wire.connected()
    asking = wire.stub.StartConsultation(pb.StartConsultationRequest(call_id="one", callee="carol"))
    await until(lambda: len(wire.bench.registration.calls) == 2)
    asking.cancel()
    await until(lambda: wire.bench.call.ended)
    assert wire.bench.call.did == ["hangup_now"]


async def test_nobody_is_called_where_the_far_end_takes_no_hold(wire: Wire) -> None:
    first = await wire.connected()
    first.hold_error = HoldRejected("refused", code=488)
    request = pb.StartConsultationRequest(call_id="one", callee="carol")
    answer = await refused(wire.stub.StartConsultation(request))
    assert (answer.code, answer.reason) == (Code.ABORTED, "HOLD_REJECTED")
    assert len(wire.bench.registration.calls) == 1


async def test_what_is_malformed(wire: Wire) -> None:
    await wire.connected()
    for request, field in (
        (pb.StartConsultationRequest(call_id="one"), "callee"),
        (pb.StartConsultationRequest(call_id="one", callee="carol", headers={"Via": "x"}), "headers"),
    ):
        answer = await refused(wire.stub.StartConsultation(request))
        assert (answer.code, list(answer.violations)) == (Code.INVALID_ARGUMENT, [field])
    transfer = pb.TransferToConsultationRequest(call_id="one", timeout_ms=60_001)
    answer = await refused(wire.stub.TransferToConsultation(transfer))
    assert (answer.code, list(answer.violations)) == (Code.INVALID_ARGUMENT, ["timeout_ms"])
