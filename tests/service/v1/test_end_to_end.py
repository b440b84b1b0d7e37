"""The whole path, every layer real: both services of a server process, SIP and RTP over the loopback, telephones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import grpc
import pytest
import pytest_asyncio

from service.generated.ondewo.sip import sip_pb2 as sip
from service.generated.ondewo.sip.sip_pb2_grpc import SipStub
from service.generated.sipcore.v1 import events_pb2, resources_pb2
from service.generated.sipcore.v1 import telephony_pb2 as pb
from service.generated.sipcore.v1.telephony_pb2_grpc import TelephonyStub
from sipcore.call import Call
from sipcore.config import Account
from sipcore.events import CallHeld, CallResumed, DtmfReceived, Reason
from sipcore.registration import Registration
from sipcore.transfer import ReferRequest
from tests.service.far_side import PASSWORD, FarSide
from tests.service.program import run_server
from tests.service.v1.wire import Watching

if TYPE_CHECKING:
    from service.generated.ondewo.sip.sip_pb2_grpc import SipAsyncStub
    from service.generated.sipcore.v1.telephony_pb2_grpc import TelephonyAsyncStub

pytestmark = pytest.mark.process


class Scene:
    """A server with alice's session, watched from its beginning."""

    def __init__(self, far: FarSide, channel: grpc.aio.Channel) -> None:
        self.far = far
        self.account = far.address("alice")
        self.sip: SipAsyncStub = SipStub(channel)
        self.stub: TelephonyAsyncStub = TelephonyStub(channel)
        self.watching = Watching(self.stub.Watch(pb.WatchRequest(accounts=[self.account], after_sequence=0)))

    async def session(self, auto_answer: int = 0) -> None:
        await self.watching.started()
        account = sip.SipRegisterAccountRequest(account_name=self.account, password=PASSWORD)
        assert (await self.sip.SipRegisterAccount(account)).status_type == sip.SipStatus.REGISTERED
        request = sip.SipStartSessionRequest(account_name=self.account, auto_answer_interval=auto_answer)
        assert (await self.sip.SipStartSession(request)).status_type == sip.SipStatus.READY

    async def connected(self) -> tuple[Call, str]:
        """bob's end of a call from alice that he answered, and its call_id."""
        await self.session()
        request = sip.SipStartCallRequest(callee_id=self.far.address("bob"))
        calling = asyncio.ensure_future(self.sip.SipStartCall(request))
        call = await self.far.incoming()
        await call.answer()
        return call, (await calling).call_id

    def telephone(self, user: str) -> Registration:
        """Another one beside bob's."""
        return self.far.agent.open_line(Account(self.far.address(user)))


@pytest_asyncio.fixture
async def scene() -> AsyncIterator[Scene]:
    async with (
        FarSide() as far,
        run_server("--quality-interval", "0.2") as server,
        grpc.aio.insecure_channel(server.bound["grpc"]) as channel,
    ):
        yield Scene(far, channel)


async def answered(line: Registration) -> Call:
    """The next call that rings there, answered."""
    async with asyncio.timeout(60):
        async for call in line.incoming():
            await call.answer()
            return call
    raise AssertionError("the line was closed")


async def test_an_incoming_call_is_answered_held_and_hung_up(scene: Scene) -> None:
    await scene.session(auto_answer=-1)
    bob = scene.far.bob.place(scene.far.contacts("alice")[0], headers={"X-Customer": "9"})
    began = (await scene.watching.event("call_started")).call_started.call
    assert (began.direction, began.headers["X-Customer"]) == (resources_pb2.Call.INCOMING, "9")
    call_id = began.call_id
    call = await scene.stub.AnswerCall(pb.AnswerCallRequest(call_id=call_id))
    assert (call.state, call.codec) == (resources_pb2.Call.CONNECTED, "PCMU")
    assert call.sip_call_id == bob.call_id
    await bob.connected()

    events = bob.events()
    assert (await scene.stub.HoldCall(pb.HoldCallRequest(call_id=call_id))).held
    assert not (await scene.stub.ResumeCall(pb.ResumeCallRequest(call_id=call_id))).held
    await scene.stub.SendDtmf(pb.SendDtmfRequest(call_id=call_id, digits="4"))
    await scene.stub.SendDtmf(pb.SendDtmfRequest(call_id=call_id, digits="#", method=events_pb2.INFO))
    heard: list[object] = []
    async for event in events:
        if isinstance(event, (CallHeld, CallResumed)):
            heard.append(type(event))
        elif isinstance(event, DtmfReceived):
            heard.append((event.digit, event.method))
            if event.digit == "#":
                break
    assert heard == [CallHeld, CallResumed, ("4", "rfc4733"), ("#", "info")]

    # The other way round.
    for held in (True, False):
        assert (await scene.watching.event("hold_changed")).hold_changed == events_pb2.HoldChanged(
            by=events_pb2.LOCAL, held=held
        )
    await bob.hold()
    assert (await scene.watching.event("hold_changed")).hold_changed.by == events_pb2.REMOTE
    assert (await scene.stub.GetCall(pb.GetCallRequest(call_id=call_id))).held_by_remote
    await bob.resume()
    await bob.send_dtmf("7")
    key = (await scene.watching.event("dtmf_received")).dtmf_received
    assert (key.digit, key.method) == ("7", events_pb2.RFC4733)
    counted = await scene.stub.GetCallStatistics(pb.GetCallStatisticsRequest(call_id=call_id))
    assert counted.codec == "PCMU"
    assert counted.packets_sent > 0
    assert counted.packets_received > 0

    heard_so_far = 0
    while not heard_so_far:
        quality = (await scene.watching.event("media_quality")).media_quality
        heard_so_far = quality.packets_received
    assert quality.mos > 1

    reason = events_pb2.Reason(protocol="Q.850", cause=17, text="busy")
    ended = await scene.stub.HangUpCall(pb.HangUpCallRequest(call_id=call_id, reason=reason))
    assert (ended.cause, ended.by) == (events_pb2.CallEnded.HANGUP, events_pb2.LOCAL)
    assert ended.statistics.packets_received >= counted.packets_received
    assert (await bob.wait_ended()).reason == (Reason("Q.850", 17, "busy"),)
    assert (await scene.watching.event("call_ended")).call_ended == ended


async def test_calls_that_are_never_answered(scene: Scene) -> None:
    await scene.session(auto_answer=-1)
    bob = scene.far.bob.place(scene.far.contacts("alice")[0])
    call_id = (await scene.watching.event("call_started")).call_id
    told = await scene.stub.RejectCall(pb.RejectCallRequest(call_id=call_id, sip_code=488, reason_phrase="No Way"))
    ended = await bob.wait_ended()
    assert (ended.code, told.sip_code) == (488, 488)
    assert "No Way" in ended.description
    assert told.by == events_pb2.LOCAL
    assert (await scene.watching.event("call_ended")).call_ended == told

    request = sip.SipStartCallRequest(callee_id=scene.far.address("bob"))
    calling = asyncio.ensure_future(scene.sip.SipStartCall(request))
    (await scene.far.incoming()).reject(486)
    await calling
    ringing = (await scene.watching.event("call_ringing")).call_ringing
    assert (ringing.sip_code, ringing.early_media) == (180, False)
    busy = (await scene.watching.event("call_ended")).call_ended
    assert (busy.sip_code, busy.by, busy.cause) == (486, events_pb2.REMOTE, events_pb2.CallEnded.REJECTED)
    assert (busy.answered, busy.error) == (False, "CallRejected")


async def test_a_call_is_placed_and_the_telephone_sees_who_calls(scene: Scene) -> None:
    await scene.session()
    request = pb.PlaceCallRequest(account=scene.account, callee=scene.far.address("bob"), from_user="desk")
    placed = await scene.stub.PlaceCall(request)
    assert placed.state == resources_pb2.Call.TRYING
    bob = await scene.far.incoming()
    assert bob.remote.startswith("sip:desk@")
    assert (await scene.watching.event("call_ringing")).call_id == placed.call_id
    await bob.answer()
    assert (await scene.watching.event("call_answered")).call_answered.codec == "PCMU"
    await bob.hangup()
    ended = (await scene.watching.event("call_ended")).call_ended
    assert (ended.by, ended.answered) == (events_pb2.REMOTE, True)

    request.ring_timeout_ms = 100
    await scene.stub.PlaceCall(request)
    assert (await scene.watching.event("call_ended")).call_ended.cause == events_pb2.CallEnded.TIMEOUT


async def test_an_attended_transfer_and_the_end_of_the_account(scene: Scene) -> None:
    bob, call_id = await scene.connected()
    followed: list[Call] = []

    def follow(request: ReferRequest) -> None:
        assert request.attended
        followed.append(request.follow())

    bob.on_refer = follow
    asking = asyncio.create_task(answered(scene.telephone("desk")))
    request = pb.StartConsultationRequest(call_id=call_id, callee=scene.far.address("desk"))
    consultation = await scene.stub.StartConsultation(request)
    desk = await asking
    assert consultation.consultation_for == call_id
    await scene.stub.TransferToConsultation(pb.TransferToConsultationRequest(call_id=call_id))
    assert followed[0].is_connected
    assert desk.replaced_by is not None
    await asyncio.gather(bob.wait_ended(), desk.wait_ended())
    assert not (await scene.stub.ListCalls(pb.ListCallsRequest())).calls
    kinds = await scene.watching.kinds("OUTGOING_CALL_FINISHED")
    assert "TRANSFER_CALL_INITIATED" in kinds
    assert "transfer_progress" in kinds

    await scene.stub.RemoveAccount(pb.RemoveAccountRequest(account=scene.account))
    assert scene.far.contacts("alice") == []
    await scene.watching.event("account_removed")
