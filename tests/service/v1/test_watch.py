"""Watch over the wire: what is told, in which order, from where on, and to whom."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
import pytest_asyncio
from google.protobuf.empty_pb2 import Empty

from service.generated.ondewo.sip import sip_pb2 as sip
from service.generated.sipcore.v1 import events_pb2, resources_pb2
from service.generated.sipcore.v1 import telephony_pb2 as pb
from service.generated.sipcore.v1.telephony_pb2_grpc import TelephonyStub
from sipcore.errors import CallRejected, RegistrationRejected
from sipcore.events import (
    CallAnswered,
    CallEnded,
    CallHeld,
    CallReplaced,
    CallResumed,
    CallRinging,
    DtmfReceived,
    EndCause,
    InfoReceived,
    MediaQuality,
    MessageReceived,
    Party,
    Reason,
    RecordingFailed,
    TransferProgress,
)
from tests.service.bench import ALICE, BOB, Bench
from tests.service.v1.wire import Watching, Wire, open_wire, refused, until

DAVE = "dave@example.com"


@pytest_asyncio.fixture
async def wire() -> AsyncIterator[Wire]:
    async with open_wire(Bench()) as opened:
        yield opened


async def test_the_life_of_an_account_and_of_its_calls(wire: Wire) -> None:
    watching = wire.watch()
    assert (await watching.started()).newest_sequence == 0
    fake = await wire.connected()
    fake.happen(DtmfReceived("5", 120))
    await wire.sip.SipMute(Empty())
    await wire.stub.HoldCall(pb.HoldCallRequest(call_id="one"))
    fake.hang_up_by_far_end()
    await until(lambda: wire.bench.accounts.lines[0].ongoing is None)
    await wire.sip.SipEndSession(Empty())
    assert await watching.kinds("SESSION_ENDED") == [
        "account_added",
        "REGISTERED",
        "registration_changed",
        "SESSION_STARTED",
        "READY",
        "OUTGOING_CALL_INITIATED",
        "call_started",
        "call_answered",
        "OUTGOING_CALL_CONNECTED",
        "dtmf_received",
        "mute_changed",
        "MICROPHONE_MUTED",
        "hold_changed",
        "OUTGOING_CALL_FINISHED",
        "call_ended",
        "registration_changed",
        "SESSION_ENDED",
    ]
    assert watching.sequence == 17  # without a gap
    watching.cancel()


async def test_what_happens_in_a_call(wire: Wire) -> None:
    fake = await wire.connected()
    watching = wire.watch(ALICE)
    await watching.started()
    for event in (
        CallAnswered("PCMA", {"X-A": "b"}, "AES_CM_128_HMAC_SHA1_80"),
        CallRinging(183, "Session Progress", early_media=True),
        DtmfReceived("#", 160, "info"),
        CallHeld(),
        CallResumed(),
        TransferProgress(202, "Accepted"),
        MediaQuality(250, 10, 3, 13, 2.5, 60.0, 41.0, 0.25, 3.5),
        CallReplaced("sip-other"),
        RecordingFailed("/var/lib/one.wav", 2.5, OSError(28, "No space left on device")),
        InfoReceived("text/plain", b"hello"),
        MessageReceived(BOB, "", "text/plain", b"x" * 5000, "x" * 5000),
    ):
        fake.happen(event)
    answered = (await watching.event("call_answered")).call_answered
    assert answered == events_pb2.CallAnswered(codec="PCMA", headers={"X-A": "b"}, srtp="AES_CM_128_HMAC_SHA1_80")
    ringing = await watching.event("call_ringing")
    assert (ringing.account, ringing.call_id, ringing.time.ToMicroseconds() > 0) == (ALICE, "one", True)
    assert ringing.call_ringing == events_pb2.CallRinging(
        sip_code=183, reason_phrase="Session Progress", early_media=True
    )
    key = (await watching.event("dtmf_received")).dtmf_received
    assert key == events_pb2.DtmfReceived(digit="#", duration_ms=160, method=events_pb2.INFO)
    held = [(await watching.event("hold_changed")).hold_changed for _ in range(2)]
    assert held == [events_pb2.HoldChanged(by=events_pb2.REMOTE, held=held) for held in (True, False)]
    progress = (await watching.event("transfer_progress")).transfer_progress
    assert progress == events_pb2.TransferProgress(sip_code=202, reason_phrase="Accepted")
    quality = (await watching.event("media_quality")).media_quality
    assert quality == events_pb2.MediaQuality(
        packets_received=250,
        packets_lost=10,
        packets_late=3,
        loss=0.05,
        frames_concealed=13,
        jitter_ms=2.5,
        buffer_ms=60,
        round_trip_ms=41,
        remote_loss=0.25,
        mos=3.5,
    )
    assert (await watching.event("call_replaced")).call_replaced.by_sip_call_id == "sip-other"
    broken = (await watching.event("recording_failed")).recording_failed
    assert broken == events_pb2.RecordingFailed(file="one.wav", seconds=2.5, description="No space left on device")
    info = (await watching.event("message_received")).message_received
    assert (info.method, info.content_type, info.body, info.body_size) == ("INFO", "text/plain", b"hello", 5)
    message = (await watching.event("message_received")).message_received
    assert (message.method, len(message.body), message.body_size) == ("MESSAGE", 2048, 5000)
    watching.cancel()


async def test_how_a_call_ended(wire: Wire) -> None:
    await wire.session()
    watching = wire.watch()
    await watching.started()
    calling = asyncio.ensure_future(wire.sip.SipStartCall(sip.SipStartCallRequest(callee_id=BOB)))
    await until(lambda: wire.bench.registration.calls)
    error = CallRejected("486 Busy Here from sip:bob@example.com", code=486)
    reasons = (Reason("Q.850", 17, "busy"),)
    ended = CallEnded(EndCause.REJECTED, Party.REMOTE, 486, str(error), error, reasons, early_media=True)
    wire.bench.call.finish(ended)
    await calling
    began = (await watching.event("call_started")).call_started.call
    assert (began.direction, began.remote, began.consultation_for) == (resources_pb2.Call.OUTGOING, BOB, "")
    failed = await watching.event("transition")
    assert (failed.transition.status_type, failed.transition.sip_code) == ("OUTGOING_CALL_FAILED", 486)
    assert (failed.transition.exception_name, failed.transition.callee) == ("CallRejected", BOB)
    over = await watching.event("call_ended")
    assert (over.call_id, failed.call_id) == (began.call_id, began.call_id)
    told = over.call_ended
    assert (told.cause, told.by, told.sip_code) == (events_pb2.CallEnded.REJECTED, events_pb2.REMOTE, 486)
    assert list(told.reasons) == [events_pb2.Reason(protocol="Q.850", cause=17, text="busy")]
    assert (told.early_media, told.answered, told.error) == (True, False, "CallRejected")
    assert told.statistics.jitter_ms == 1.5
    watching.cancel()


async def test_registrations(wire: Wire) -> None:
    watching = wire.watch()
    await watching.started()
    wire.bench.agent.registrar = RegistrationRejected("403 Forbidden", code=403)
    await wire.sip.SipRegisterAccount(sip.SipRegisterAccountRequest(account_name=ALICE))
    failed = (await watching.event("registration_changed")).registration_changed
    assert (failed.state, failed.sip_code, failed.error) == (
        resources_pb2.Registration.FAILED,
        403,
        "RegistrationRejected",
    )
    assert failed.retry_in_seconds == 30
    assert (await wire.stub.GetAccount(pb.GetAccountRequest(account=ALICE))).registration == failed
    wire.bench.registration.succeed()
    state = (await watching.event("registration_changed")).registration_changed.state
    assert state == resources_pb2.Registration.REGISTERED
    watching.cancel()


async def test_some_accounts_alone_and_those_to_come(wire: Wire) -> None:
    watching = wire.watch(f"sip:{DAVE}")
    await watching.started()
    await wire.session(ALICE)
    await wire.session(DAVE)
    added = await watching.event("account_added")
    assert (added.account, added.sequence > 1) == (DAVE, True)
    watching.cancel()


async def test_a_client_that_comes_back_misses_nothing(wire: Wire) -> None:
    first = wire.watch()
    epoch = (await first.started()).epoch
    await wire.session()
    await first.event("account_added")
    first.cancel()
    fake = await wire.connected()
    fake.hang_up_by_far_end()
    again = wire.watch(after=first.sequence, epoch=epoch)
    assert (await again.started()).epoch == epoch
    missed = await again.event("transition")
    assert (missed.sequence, missed.transition.status_type) == (first.sequence + 1, "REGISTERED")
    assert "call_ended" in await again.kinds("call_ended")
    again.cancel()


async def test_a_client_that_comes_back_too_late_is_told_so() -> None:
    bench = Bench(journal_size=5)
    async with open_wire(bench) as wire:
        fake = await wire.connected()
        for _ in range(10):
            fake.happen(DtmfReceived("1", 100))
        watching = wire.watch(after=1)
        started = await watching.started()
        assert started.newest_sequence - started.oldest_sequence == 4
        lost = (await watching.next()).lost
        assert (lost.cause, lost.first_sequence) == (pb.WatchLost.TOO_OLD, 2)
        assert (lost.last_sequence, lost.count) == (started.oldest_sequence - 1, started.oldest_sequence - 2)
        assert (await watching.next()).event.sequence == started.oldest_sequence
        watching.cancel()


async def test_a_server_that_was_started_anew(wire: Wire) -> None:
    await wire.session()
    watching = wire.watch(after=1, epoch="of another run")
    started = await watching.started()
    lost = (await watching.next()).lost
    assert (lost.cause, lost.count, lost.first_sequence) == (pb.WatchLost.RESTARTED, 0, 0)
    assert (await watching.next()).event.sequence == 1
    assert started.epoch not in ("", "of another run")
    watching.cancel()


async def test_a_client_that_does_not_read_holds_up_nobody() -> None:
    bench = Bench(journal_size=100)
    narrow = [
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", 65_536),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    async with open_wire(bench) as wire, grpc.aio.insecure_channel(wire.address, options=narrow) as channel:
        fake = await wire.connected()
        sleeper = Watching(TelephonyStub(channel).Watch(pb.WatchRequest()))
        await sleeper.started()
        quick = wire.watch()
        await quick.started()
        body = b"x" * 2000
        for _ in range(500):  # a megabyte
            fake.happen(InfoReceived("text/plain", body))
            await quick.event("message_received")
        newest = quick.sequence
        told, lost = 0, None
        while sleeper.sequence < newest:
            response = await sleeper.next()
            if response.HasField("lost"):
                assert lost is None
                lost = response.lost
                assert lost.first_sequence == sleeper.sequence + 1
            else:
                told += 1
        assert lost is not None
        assert lost.cause == pb.WatchLost.TOO_SLOW
        assert (told + lost.count, lost.last_sequence) == (500, newest - 100)
        for watching in (sleeper, quick):
            watching.cancel()


async def test_a_client_that_goes_away_is_nobodys_fault(wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    fake = await wire.connected()
    journal = wire.bench.accounts.journal
    async with grpc.aio.insecure_channel(wire.address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        watching = Watching(TelephonyStub(channel).Watch(pb.WatchRequest()))  # gRPC ends a call that nobody holds
        await watching.started()
        await until(lambda: journal._waiting)
    while journal._waiting:
        fake.happen(DtmfReceived("1", 100))
        await asyncio.sleep(0.001)
    await asyncio.sleep(0)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
    assert fake.is_connected


async def test_a_server_that_stops_says_so(wire: Wire) -> None:
    watching = wire.watch()
    await watching.started()
    await wire.bench.accounts.close()
    stopped = await refused(watching.next())
    assert (stopped.code, stopped.reason, stopped.retry_in) == (grpc.StatusCode.UNAVAILABLE, "SERVER_STOPPING", 5)


async def test_watches_are_bounded_and_their_places_come_free() -> None:
    async with open_wire(Bench(), max_watches=1) as wire:
        first = wire.watch()
        await first.started()
        answer = await refused(wire.watch().next())
        assert (answer.code, answer.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "WATCH_LIMIT")
        first.cancel()
        await until(lambda: not wire.bench.accounts.journal._waiting)
        second = wire.watch()
        await second.started()
        second.cancel()


async def test_an_account_that_is_none(wire: Wire) -> None:
    answer = await refused(wire.watch(ALICE, "nobody").next())
    assert (answer.code, list(answer.violations)) == (grpc.StatusCode.INVALID_ARGUMENT, ["accounts[1]"])


async def test_the_token_is_asked_for() -> None:
    async with open_wire(Bench(control_token="secret")) as wire:
        for metadata in ((), (("x-ondewo-sip-call-control-token", "wrong"),)):
            stream = wire.stub.Watch(pb.WatchRequest(), metadata=metadata)
            answer = await refused(Watching(stream).next())
            assert (answer.code, answer.reason) == (
                grpc.StatusCode.UNAUTHENTICATED,
                "CALL_CONTROL_UNAUTHENTICATED",
            )
            answer = await refused(wire.stub.ListCalls(pb.ListCallsRequest(), metadata=metadata))
            assert answer.code is grpc.StatusCode.UNAUTHENTICATED
        right = (("x-ondewo-sip-call-control-token", "secret"),)
        assert not (await wire.stub.ListCalls(pb.ListCallsRequest(), metadata=right)).calls
