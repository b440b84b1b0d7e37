"""One call by its id: answer, reject, hang up, hold, keys, statistics; over the wire, beside the old service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.empty_pb2 import Empty

from service.generated.ondewo.sip import sip_pb2 as sip
from service.generated.sipcore.v1 import events_pb2, resources_pb2
from service.generated.sipcore.v1 import telephony_pb2 as pb
from sipcore.errors import HoldRejected
from sipcore.events import Reason
from tests.service.bench import ALICE, BOB, Bench
from tests.service.v1.wire import Wire, open_wire, refused, until

Code = grpc.StatusCode
Call = resources_pb2.Call


@pytest_asyncio.fixture
async def wire() -> AsyncIterator[Wire]:
    async with open_wire(Bench()) as opened:
        yield opened


async def test_a_call_of_the_old_service_is_seen(wire: Wire) -> None:
    fake = await wire.connected()
    call = await wire.stub.GetCall(pb.GetCallRequest(call_id="one"))
    assert (call.call_id, call.account, call.remote, call.codec) == ("one", ALICE, BOB, "PCMU")
    assert (call.direction, call.state, call.sip_call_id) == (Call.OUTGOING, Call.CONNECTED, fake.call_id)
    assert call.answer_time.ToMicroseconds() >= call.start_time.ToMicroseconds() > 0
    assert call.headers["X-ondewo-vtsi-caller-call-id"] == "one"
    assert list((await wire.stub.ListCalls(pb.ListCallsRequest())).calls) == [call]
    assert list((await wire.stub.ListCalls(pb.ListCallsRequest(account=f"sip:{ALICE}"))).calls) == [call]
    await wire.sip.SipMute(Empty())
    assert (await wire.stub.GetCall(pb.GetCallRequest(call_id="one"))).mute.microphone


async def test_statistics(wire: Wire) -> None:
    await wire.connected()
    counted = await wire.stub.GetCallStatistics(pb.GetCallStatisticsRequest(call_id="one"))
    assert (counted.codec, counted.packets_sent, counted.packets_received, counted.packets_lost) == ("PCMU", 3, 9, 1)
    assert (counted.loss, counted.jitter_ms, counted.round_trip_ms, counted.mos) == (0.1, 1.5, 20.0, 4.1)


async def test_answer(wire: Wire) -> None:
    fake, call_id = await wire.ringing()
    assert (await wire.stub.GetCall(pb.GetCallRequest(call_id=call_id))).state == Call.RINGING
    call = await wire.stub.AnswerCall(pb.AnswerCallRequest(call_id=call_id))
    assert (call.direction, call.state, call.headers["X-Customer"]) == (Call.INCOMING, Call.CONNECTED, "9")
    assert fake.did == ["answer"]
    status = await wire.sip.SipGetSipStatus(Empty())
    assert (status.status_type, status.call_id) == (sip.SipStatus.INCOMING_CALL_CONNECTED, call_id)
    again = await refused(wire.stub.AnswerCall(pb.AnswerCallRequest(call_id=call_id)))
    assert (again.code, again.reason, again.info.metadata["call_id"]) == (
        Code.FAILED_PRECONDITION,
        "CALL_NOT_RINGING",
        call_id,
    )


@pytest.mark.parametrize(("given", "sent"), [(486, 486), (0, 603)])
async def test_reject(wire: Wire, given: int, sent: int) -> None:
    fake, call_id = await wire.ringing()
    ended = await wire.stub.RejectCall(pb.RejectCallRequest(call_id=call_id, sip_code=given, reason_phrase="At Lunch"))
    assert fake.did == [f"reject {sent} At Lunch"]
    assert (ended.cause, ended.by, ended.sip_code) == (events_pb2.CallEnded.REJECTED, events_pb2.LOCAL, sent)
    assert not ended.answered
    status = await wire.sip.SipGetSipStatus(Empty())
    assert (status.status_type, status.sip_response_code) == (sip.SipStatus.INCOMING_CALL_FAILED, sent)


async def test_a_rejection_that_comes_too_late(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that was answered and waits for the ACK still looks as if it rang."""
    fake, call_id = await wire.ringing()
    monkeypatch.setattr(fake, "reject", lambda code, phrase: None)
    answer = await refused(wire.stub.RejectCall(pb.RejectCallRequest(call_id=call_id)))
    assert (answer.code, answer.reason) == (Code.FAILED_PRECONDITION, "CALL_NOT_RINGING")
    assert fake.ended is None


@pytest.mark.parametrize(
    ("code", "phrase", "field"), [(200, "", "sip_code"), (700, "", "sip_code"), (486, "a\r\nb", "reason_phrase")]
)
async def test_a_rejection_that_cannot_be_sent(wire: Wire, code: int, phrase: str, field: str) -> None:
    fake, call_id = await wire.ringing()
    request = pb.RejectCallRequest(call_id=call_id, sip_code=code, reason_phrase=phrase)
    answer = await refused(wire.stub.RejectCall(request))
    assert answer.code is Code.INVALID_ARGUMENT
    assert list(answer.violations) == [field]
    assert fake.did == []


async def test_hang_up(wire: Wire) -> None:
    fake = await wire.connected()
    reason = events_pb2.Reason(protocol="Q.850", cause=17, text="busy")
    ended = await wire.stub.HangUpCall(pb.HangUpCallRequest(call_id="one", reason=reason))
    assert (ended.cause, ended.by, ended.answered) == (events_pb2.CallEnded.HANGUP, events_pb2.LOCAL, True)
    assert list(ended.reasons) == [reason]
    assert ended.statistics.packets_received == 9
    assert fake.ended is not None
    assert fake.ended.reason == (Reason("Q.850", 17, "busy"),)
    assert wire.bench.types()[-2:] == ["SOFT_HANGUP_INITIATED", "OUTGOING_CALL_FINISHED"]
    gone = await refused(wire.stub.GetCall(pb.GetCallRequest(call_id="one")))
    assert (gone.code, gone.reason) == (Code.NOT_FOUND, "CALL_NOT_FOUND")


async def test_a_reason_that_cannot_be_written_ends_no_call(wire: Wire) -> None:
    fake = await wire.connected()
    request = pb.HangUpCallRequest(call_id="one", reason=events_pb2.Reason(protocol="a b"))
    answer = await refused(wire.stub.HangUpCall(request))
    assert (answer.code, list(answer.violations)) == (Code.INVALID_ARGUMENT, ["reason"])
    assert fake.did == []


async def test_hold_and_resume(wire: Wire) -> None:
    fake = await wire.connected()
    for _ in range(2):  # the second one changes nothing
        assert (await wire.stub.HoldCall(pb.HoldCallRequest(call_id="one"))).held
    assert not (await wire.stub.ResumeCall(pb.ResumeCallRequest(call_id="one"))).held
    assert fake.did == ["hold", "resume"]


async def test_a_far_end_that_takes_no_hold(wire: Wire) -> None:
    fake = await wire.connected()
    fake.hold_error = HoldRejected("Refused: 491", code=491)
    answer = await refused(wire.stub.HoldCall(pb.HoldCallRequest(call_id="one")))
    assert (answer.code, answer.reason, answer.text) == (Code.ABORTED, "HOLD_REJECTED", "Refused: 491")
    assert dict(answer.info.metadata) == {"call_id": "one", "sip_code": "491"}
    assert answer.retry_in == 2
    assert not (await wire.stub.GetCall(pb.GetCallRequest(call_id="one"))).held
    assert fake.is_connected


async def test_a_hold_goes_on_when_nobody_waits_for_it(wire: Wire) -> None:
    fake = await wire.connected()
    holding = wire.stub.HoldCall(pb.HoldCallRequest(call_id="one"))
    await until(lambda: fake.did)
    holding.cancel()
    await until(lambda: wire.bench.accounts.lines[0].calls[0].held)


async def test_keys(wire: Wire) -> None:
    fake = await wire.connected()
    await wire.stub.SendDtmf(pb.SendDtmfRequest(call_id="one", digits="12#"))
    await wire.stub.SendDtmf(pb.SendDtmfRequest(call_id="one", digits="*", method=events_pb2.INFO, duration_ms=90))
    assert fake.did == ["dtmf 12# auto 160", "dtmf * info 90"]
    for request, field in (
        (pb.SendDtmfRequest(call_id="one", digits="1" * 65), "digits"),
        (pb.SendDtmfRequest(call_id="one", digits="1", method=events_pb2.INBAND), "method"),
    ):
        answer = await refused(wire.stub.SendDtmf(request))
        assert (answer.code, list(answer.violations)) == (Code.INVALID_ARGUMENT, [field])


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("HoldCall", pb.HoldCallRequest(call_id="one")),
        ("ResumeCall", pb.ResumeCallRequest(call_id="one")),
        ("SendDtmf", pb.SendDtmfRequest(call_id="one", digits="1")),
        ("StartConsultation", pb.StartConsultationRequest(call_id="one", callee="carol")),
    ],
)
async def test_what_needs_a_connected_call(wire: Wire, method: str, request_: Any) -> None:
    await wire.session()
    headers = {"X-ondewo-vtsi-caller-call-id": "one"}
    calling = asyncio.ensure_future(wire.sip.SipStartCall(sip.SipStartCallRequest(callee_id=BOB, headers=headers)))
    await until(lambda: wire.bench.registration.calls)
    answer = await refused(getattr(wire.stub, method)(request_))
    assert (answer.code, answer.reason) == (Code.FAILED_PRECONDITION, "NO_ONGOING_CALL")
    ended = await wire.stub.HangUpCall(pb.HangUpCallRequest(call_id="one"))
    assert not ended.answered
    assert (await calling).status_type == sip.SipStatus.OUTGOING_CALL_FAILED


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("GetCall", pb.GetCallRequest),
        ("GetCallStatistics", pb.GetCallStatisticsRequest),
        ("AnswerCall", pb.AnswerCallRequest),
        ("RejectCall", pb.RejectCallRequest),
        ("HangUpCall", pb.HangUpCallRequest),
        ("HoldCall", pb.HoldCallRequest),
        ("ResumeCall", pb.ResumeCallRequest),
        ("SendDtmf", pb.SendDtmfRequest),
        ("StartConsultation", pb.StartConsultationRequest),
        ("TransferToConsultation", pb.TransferToConsultationRequest),
    ],
)
async def test_a_call_that_is_not_there(wire: Wire, method: str, request_: Any) -> None:
    answer = await refused(getattr(wire.stub, method)(request_(call_id="none")))
    assert (answer.code, answer.reason) == (Code.NOT_FOUND, "CALL_NOT_FOUND")
    assert answer.info.metadata["call_id"] == "none"
    answer = await refused(getattr(wire.stub, method)(request_()))
    assert (answer.code, answer.reason) == (Code.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert answer.violations == {"call_id": "it is empty"}


async def test_two_calls_with_one_id_are_told_apart_by_account(wire: Wire) -> None:
    await wire.connected()
    await wire.session("dave@example.com")
    headers = {"X-ondewo-vtsi-caller-call-id": "one"}
    calling = wire.sip.SipStartCall(sip.SipStartCallRequest(callee_id=BOB, headers=headers))
    await until(lambda: len(wire.bench.registration.calls))
    answer = await refused(wire.stub.GetCall(pb.GetCallRequest(call_id="one")))
    assert (answer.code, answer.reason) == (Code.FAILED_PRECONDITION, "AMBIGUOUS_CALL")
    metadata = (("x-sip-account", "dave@example.com"),)
    call = await wire.stub.GetCall(pb.GetCallRequest(call_id="one"), metadata=metadata)
    assert (call.account, call.state) == ("dave@example.com", Call.RINGING)
    calling.cancel()


async def test_a_bug_is_internal_and_tells_nothing_of_its_cause(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fake = await wire.connected()
    monkeypatch.setattr(fake, "statistics", lambda: 1 / 0)
    answer = await refused(wire.stub.GetCallStatistics(pb.GetCallStatisticsRequest(call_id="one")))
    assert (answer.code, answer.reason) == (Code.INTERNAL, "INTERNAL")
    assert "division" not in answer.text
    assert "ZeroDivisionError" in caplog.text
