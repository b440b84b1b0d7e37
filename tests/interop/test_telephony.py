"""``sipcore.v1.Telephony`` with a server of its own process, Kamailio, and far ends scripted for SIPp."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import grpc
import pytest

from service.generated.sipcore.v1 import events_pb2
from service.generated.sipcore.v1 import telephony_pb2 as pb
from service.generated.sipcore.v1.telephony_pb2_grpc import TelephonyStub
from tests.interop import scenarios, scenarios_transfers
from tests.interop.kit.line import Line, open_line
from tests.interop.kit.peers import Peers
from tests.interop.kit.scenario import Scenario, answer, receive, reply, request, sdp
from tests.interop.kit.voicebot import kind
from tests.service.v1.wire import Watching

if TYPE_CHECKING:
    from service.generated.sipcore.v1.telephony_pb2_grpc import TelephonyAsyncStub

pytestmark = pytest.mark.interop

HELD_ASKED_FOR_A_KEY_AND_GONE = Scenario(
    "held-asked-for-a-key-and-gone",
    (
        *answer(),
        receive("INVITE", check=("a=sendonly",)),
        reply(body=sdp("recvonly", version=2)),
        receive("ACK"),
        receive("INVITE", check=("a=sendrecv",)),
        reply(body=sdp(version=3)),
        receive("ACK"),
        receive("INFO", check=("Content-Type: *application/dtmf-relay", "Signal=5", "Duration=90")),
        reply(),
        request("INFO", 201, headers=("Content-Type: application/dtmf-relay",), body="Signal=#\nDuration=250"),
        receive("200"),
        request("BYE", 202, headers=('Reason: Q.850;cause=41;text="Temporary failure"',)),
        receive("200"),
    ),
)
"""Is put on hold and taken off, takes a key by INFO and sends one, hangs up and says why."""


@asynccontextmanager
async def watched(line: Line) -> AsyncIterator[tuple[TelephonyAsyncStub, Watching]]:
    """The second service of the line's server, and what it has told since its start."""
    async with grpc.aio.insecure_channel(line.bot.address) as channel:
        stub: TelephonyAsyncStub = TelephonyStub(channel)
        watching = Watching(stub.Watch(pb.WatchRequest(after_sequence=0)))
        await watching.started()
        yield stub, watching


async def test_a_call_by_its_id(peers: Peers) -> None:
    line = await open_line(peers)
    far_end = await peers.sipp(HELD_ASKED_FOR_A_KEY_AND_GONE)
    async with watched(line) as (stub, watching):
        status = await line.bot.call(far_end.uri())
        assert kind(status) == "OUTGOING_CALL_CONNECTED"
        call_id = status.call_id
        assert (await stub.HoldCall(pb.HoldCallRequest(call_id=call_id))).held
        assert not (await stub.ResumeCall(pb.ResumeCallRequest(call_id=call_id))).held
        keys = pb.SendDtmfRequest(call_id=call_id, digits="5", method=events_pb2.INFO, duration_ms=90)
        await stub.SendDtmf(keys)
        await far_end.finished()
        assert await watching.kinds("call_ended") == [
            "account_added",
            "REGISTERED",
            "registration_changed",
            "SESSION_STARTED",
            "READY",
            "OUTGOING_CALL_INITIATED",
            "call_started",
            "call_ringing",
            "call_answered",
            "OUTGOING_CALL_CONNECTED",
            "hold_changed",
            "hold_changed",
            "dtmf_received",
            "OUTGOING_CALL_FINISHED",
            "call_ended",
        ]
        again = Watching(stub.Watch(pb.WatchRequest(after_sequence=watching.sequence - 3)))
        await again.started()
        key = (await again.event("dtmf_received")).dtmf_received
        assert key == events_pb2.DtmfReceived(digit="#", duration_ms=250, method=events_pb2.INFO)
        ended = (await again.event("call_ended")).call_ended
        assert (ended.by, ended.cause) == (events_pb2.REMOTE, events_pb2.CallEnded.HANGUP)
        assert list(ended.reasons) == [events_pb2.Reason(protocol="Q.850", cause=41, text="Temporary failure")]


async def test_an_attended_transfer(peers: Peers) -> None:
    """RFC 5589 §7, driven from another process: hold, ask somebody else, connect the two."""
    line = await open_line(peers)
    far_end = await peers.sipp(scenarios_transfers.IS_TRANSFERRED_ATTENDED)
    target = await peers.sipp(scenarios.answers())
    async with watched(line) as (stub, watching):
        status = await line.bot.call(far_end.uri())
        request = pb.StartConsultationRequest(call_id=status.call_id, callee=target.uri("carol"), without_hold=True)
        consultation = await stub.StartConsultation(request)
        assert consultation.consultation_for == status.call_id
        await stub.TransferToConsultation(pb.TransferToConsultationRequest(call_id=status.call_id))
        await far_end.finished()
        await target.finished()
        told = [(await watching.event("transfer_progress")).transfer_progress.sip_code for _ in range(4)]
        assert told == [202, 100, 180, 200]
        for _ in range(2):
            assert (await watching.event("call_ended")).call_ended.cause == events_pb2.CallEnded.TRANSFERRED
    assert (await line.bot.kinds())[-2:] == ["TRANSFER_CALL_INITIATED", "OUTGOING_CALL_FINISHED"]


async def test_remove_an_account(peers: Peers) -> None:
    line = await open_line(peers)
    assert len(await line.kamailio.contacts("alice")) == 1
    async with watched(line) as (stub, watching):
        await stub.RemoveAccount(pb.RemoveAccountRequest(account=line.account))
        assert await line.kamailio.contacts("alice") == []
        await watching.event("account_removed")
        assert not (await stub.ListAccounts(pb.ListAccountsRequest())).accounts
