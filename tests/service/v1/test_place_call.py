"""PlaceCall over the wire, beside the old service: the account's one call, whoever placed it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.empty_pb2 import Empty

from service.generated.ondewo.sip import sip_pb2 as sip
from service.generated.sipcore.v1 import resources_pb2
from service.generated.sipcore.v1 import telephony_pb2 as pb
from sipcore.errors import AtCapacity, CallError, CallRejected
from sipcore.protocol.identity import ACCOUNT_ITSELF, Caller
from tests.service.bench import ALICE, BOB, Bench
from tests.service.v1.wire import Wire, open_wire, refused, until

Code = grpc.StatusCode
Call = resources_pb2.Call


@pytest_asyncio.fixture
async def wire() -> AsyncIterator[Wire]:
    async with open_wire(Bench()) as opened:
        await opened.session()
        yield opened


def request(**more: Any) -> pb.PlaceCallRequest:
    return pb.PlaceCallRequest(**{"account": ALICE, "callee": BOB, **more})


async def test_a_call_is_returned_at_once_and_watched_to_its_end(wire: Wire) -> None:
    watching = wire.watch(ALICE)
    await watching.started()
    headers = {"X-ondewo-vtsi-caller-call-id": "mine", "X-Customer": "9"}
    call = await wire.stub.PlaceCall(request(headers=headers))
    assert (call.call_id, call.account, call.remote, dict(call.headers)) == ("mine", ALICE, BOB, headers)
    assert (call.direction, call.state) == (Call.OUTGOING, Call.RINGING)  # the fake far end rings at once
    assert wire.bench.call.settings == {"timeout": None, "caller": ACCOUNT_ITSELF}
    wire.bench.call.answer_by_far_end()
    await until(lambda: wire.bench.current.type.name == "OUTGOING_CALL_CONNECTED")
    assert (await wire.stub.GetCall(pb.GetCallRequest(call_id="mine"))).state == Call.CONNECTED
    # The old service has the same call, and may end it.
    assert (await wire.sip.SipGetSipStatus(Empty())).call_id == "mine"
    ended = await wire.sip.SipEndCall(sip.SipEndCallRequest())
    assert ended.status_type == sip.SipStatus.OUTGOING_CALL_FINISHED
    kinds = await watching.kinds("call_ended")
    assert kinds[:2] == ["OUTGOING_CALL_INITIATED", "call_started"]
    assert "OUTGOING_CALL_CONNECTED" in kinds
    watching.cancel()


async def test_hanging_up_gives_up_a_call_that_rings(wire: Wire) -> None:
    call = await wire.stub.PlaceCall(request())
    ended = await wire.stub.HangUpCall(pb.HangUpCallRequest(call_id=call.call_id))
    assert (ended.answered, ended.error) == (False, "CallCancelled")
    assert wire.bench.call.did == ["hangup"]
    assert wire.bench.types()[-1] == "OUTGOING_CALL_FINISHED"
    answer = await refused(wire.stub.GetCall(pb.GetCallRequest(call_id=call.call_id)))
    assert answer.reason == "CALL_NOT_FOUND"


async def test_a_far_end_that_refuses_is_told_by_watch_and_by_the_status(wire: Wire) -> None:
    watching = wire.watch(ALICE)
    await watching.started()
    await wire.stub.PlaceCall(request())
    wire.bench.call.refuse_by_far_end(CallRejected("486 Busy Here", code=486), "486 Busy Here")
    ended = (await watching.event("call_ended")).call_ended
    assert (ended.sip_code, ended.error) == (486, "CallRejected")
    status = await wire.sip.SipGetSipStatus(Empty())
    assert (status.status_type, status.sip_response_code) == (sip.SipStatus.OUTGOING_CALL_FAILED, 486)
    watching.cancel()


async def test_what_the_call_says_otherwise_than_the_account(wire: Wire) -> None:
    await wire.stub.PlaceCall(
        request(ring_timeout_ms=2500, display_name="", from_user="+431", privacy=["id"], anonymous=False)
    )
    caller = Caller(from_user="+431", display_name="", privacy=("id",), anonymous=False)
    assert wire.bench.call.settings == {"timeout": 2.5, "caller": caller}


async def test_an_account_has_one_call_whoever_places_it(wire: Wire) -> None:
    await wire.stub.PlaceCall(request())
    before = wire.bench.types()
    again = await refused(wire.stub.PlaceCall(request(callee="carol")))
    assert (again.code, again.reason) == (Code.FAILED_PRECONDITION, "CALL_IN_PROGRESS")
    assert again.info.metadata["account"] == ALICE
    old = await wire.sip.SipStartCall(sip.SipStartCallRequest(callee_id="carol"))
    assert old.exception_name == "CallInProgress"
    assert wire.bench.types() == before
    assert len(wire.bench.registration.calls) == 1


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"callee": ""}, "callee"),
        ({"callee": "a b"}, "callee"),
        ({"headers": {"Via": "x"}}, "headers"),
        ({"account": ""}, "account"),
        ({"ring_timeout_ms": 3_600_001}, "ring_timeout_ms"),
        ({"display_name": "a\r\nb"}, "display_name"),
        ({"privacy": ["everything"]}, "privacy"),
    ],
)
async def test_what_is_malformed_sends_nothing(wire: Wire, wrong: dict[str, Any], field: str) -> None:
    answer = await refused(wire.stub.PlaceCall(request(**wrong)))
    assert (answer.code, list(answer.violations)) == (Code.INVALID_ARGUMENT, [field])
    assert wire.bench.registration.calls == []


@pytest.mark.parametrize(
    ("error", "reason", "retry"),
    [(AtCapacity("full", code=503), "AT_CAPACITY", 10), (CallError("broken"), "CALL_ERROR", None)],
)
async def test_a_call_that_cannot_begin_is_refused_and_not_recorded(
    wire: Wire, error: CallError, reason: str, retry: int | None
) -> None:
    wire.bench.registration.place_error = error
    before = wire.bench.types()
    answer = await refused(wire.stub.PlaceCall(request()))
    assert (answer.reason, answer.retry_in) == (reason, retry)
    assert wire.bench.types() == before


async def test_nobody_calls_without_a_session_or_while_the_server_stops(wire: Wire) -> None:
    answer = await refused(wire.stub.PlaceCall(request(account="carol@example.com")))
    assert (answer.code, answer.reason) == (Code.NOT_FOUND, "ACCOUNT_NOT_FOUND")
    await wire.sip.SipEndSession(Empty())
    answer = await refused(wire.stub.PlaceCall(request()))
    assert (answer.code, answer.reason) == (Code.FAILED_PRECONDITION, "NO_SESSION")
    wire.bench.accounts.stop_taking_calls()
    answer = await refused(wire.stub.PlaceCall(request()))
    assert (answer.code, answer.reason) == (Code.UNAVAILABLE, "SERVER_STOPPING")
