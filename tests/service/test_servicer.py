"""The servicer over a real gRPC port: codes, details, metadata, deadlines, cancellation (CONTRACT §§4-5).

The user agent behind it is a fake; the real one is in ``test_end_to_end``.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.empty_pb2 import Empty

from service.config import load_settings
from service.frames import add_sip
from service.generated.ondewo.sip import sip_pb2 as pb
from service.generated.ondewo.sip.sip_pb2_grpc import SipStub
from service.servicer import GRPC_OPTIONS, Servicer
from tests.service.bench import ALICE, BOB, Bench, settle, wav

if TYPE_CHECKING:
    from service.generated.ondewo.sip.sip_pb2_grpc import SipAsyncStub

LIMITS = [("grpc.max_send_message_length", -1)]


class Wire:
    """A client and the bench behind the port it talks to."""

    def __init__(self, bench: Bench, channel: grpc.aio.Channel) -> None:
        self.bench = bench
        self.stub: SipAsyncStub = SipStub(channel)

    async def session(self) -> None:
        await self.stub.SipRegisterAccount(pb.SipRegisterAccountRequest(account_name=ALICE, password="secret"))
        await self.stub.SipStartSession(pb.SipStartSessionRequest(account_name=ALICE))

    async def connected(self) -> None:
        await self.session()
        calling = asyncio.ensure_future(self.stub.SipStartCall(pb.SipStartCallRequest(callee_id=BOB)))
        await until(lambda: self.bench.agent.registrations and self.bench.registration.calls)
        self.bench.call.answer_by_far_end()
        assert (await calling).status_type == pb.SipStatus.OUTGOING_CALL_CONNECTED


@pytest_asyncio.fixture
async def wire() -> AsyncIterator[Wire]:
    settings = load_settings({}, environ={})
    bench = Bench(wav_limit=settings.wav_limit_bytes)
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", settings.receive_limit_bytes), *GRPC_OPTIONS])
    add_sip(Servicer(bench.accounts), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=LIMITS) as channel:
        yield Wire(bench, channel)
    await Bench.close_all()
    await server.stop(0)


async def until(condition: Callable[[], object]) -> None:
    """Waits for what the server does on its own; the test's time limit is pytest's."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - the fake has no events to wait for
            await asyncio.sleep(0.001)


async def refused(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value.code(), str(raised.value.details())


async def test_the_life_cycle(wire: Wire) -> None:
    stub = wire.stub
    assert (await stub.SipGetSipStatus(Empty())).status_type == pb.SipStatus.NO_SESSION
    await wire.connected()
    assert (await stub.SipMute(Empty())).status_type == pb.SipStatus.MICROPHONE_MUTED
    assert (await stub.SipUnMute(Empty())).status_type == pb.SipStatus.MICROPHONE_UNMUTED
    played = await stub.SipPlayWavFiles(pb.SipPlayWavFilesRequest(wav_files=[wav(0.02), wav(0.02)]))
    assert played.status_type == pb.SipStatus.MICROPHONE_WAV_FILES_PLAYED
    transferred = await stub.SipTransferCall(pb.SipTransferCallRequest(transfer_id="carol"))
    assert transferred.status_type == pb.SipStatus.TRANSFER_CALL_INITIATED
    await until(lambda: wire.bench.call.ended is not None)
    nothing = await stub.SipEndCall(pb.SipEndCallRequest(hard_hangup=True))
    assert nothing.status_type == pb.SipStatus.NO_ONGOING_CALL
    ended = await stub.SipEndSession(Empty())
    assert ended.status_type == pb.SipStatus.SESSION_ENDED
    assert await stub.SipGetSipStatus(Empty()) == ended
    history = (await stub.SipGetSipStatusHistory(Empty())).status_history
    assert [pb.SipStatus.StatusType.Name(status.status_type) for status in history] == [
        "REGISTERED",
        "SESSION_STARTED",
        "READY",
        "OUTGOING_CALL_INITIATED",
        "OUTGOING_CALL_CONNECTED",
        "MICROPHONE_MUTED",
        "MICROPHONE_UNMUTED",
        "MICROPHONE_WAV_FILES_PLAYED",
        "TRANSFER_CALL_INITIATED",
        "OUTGOING_CALL_FINISHED",
        "NO_ONGOING_CALL",
        "SESSION_ENDED",
    ]
    stamps = [status.timestamp.ToMicroseconds() for status in history]
    assert all(before < after for before, after in itertools.pairwise(stamps))


async def test_metadata_choose_account_and_call(wire: Wire) -> None:
    await wire.connected()
    await wire.stub.SipRegisterAccount(pb.SipRegisterAccountRequest(account_name="dave@example.com"))
    status = await wire.stub.SipGetSipStatus(Empty(), metadata=(("x-sip-account", "dave@example.com"),))
    assert (status.account_name, status.status_type) == ("dave@example.com", pb.SipStatus.REGISTERED)
    status = await wire.stub.SipMute(Empty(), metadata=(("x-ondewo-expected-call-id", "other"),))
    assert status.exception_name == "CallScopeMismatch"
    code, details = await refused(wire.stub.SipMute(Empty(), metadata=(("x-sip-account", "@"),)))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert details.startswith("x-sip-account: ")


@pytest.mark.parametrize(
    ("method", "request_", "said"),
    [
        ("SipRegisterAccount", pb.SipRegisterAccountRequest(), "account_name: "),
        ("SipRegisterAccount", pb.SipRegisterAccountRequest(account_name="no address"), "account_name: "),
        (
            "SipRegisterAccount",
            pb.SipRegisterAccountRequest(account_name=ALICE, outbound_proxy="a b"),
            "outbound_proxy: ",
        ),
        ("SipStartSession", pb.SipStartSessionRequest(), "account_name: "),
        ("SipStartCall", pb.SipStartCallRequest(), "callee_id: "),
        ("SipStartCall", pb.SipStartCallRequest(callee_id="bob\r\nX: y"), "callee_id: "),
        ("SipStartCall", pb.SipStartCallRequest(callee_id="bob", headers={"Via": "x"}), "headers"),
        ("SipStartCall", pb.SipStartCallRequest(callee_id="bob", headers={"X-A": "x\r\ny"}), "headers"),
        (
            "SipStartCall",
            pb.SipStartCallRequest(callee_id="bob", headers={f"X-{n}": "v" for n in range(65)}),
            "headers",
        ),
        ("SipTransferCall", pb.SipTransferCallRequest(), "transfer_id: "),
        ("SipTransferCall", pb.SipTransferCallRequest(transfer_id="c", headers={"Refer-To": "x"}), "headers"),
        ("SipPlayWavFiles", pb.SipPlayWavFilesRequest(), "wav_files: "),
        ("SipPlayWavFiles", pb.SipPlayWavFilesRequest(wav_files=[b"just a text"]), "wav_files[0]: "),
        ("SipPlayWavFiles", pb.SipPlayWavFilesRequest(wav_files=[wav(0.1), wav(0)]), "wav_files[1]: "),
    ],
)
async def test_a_malformed_request_names_its_field(wire: Wire, method: str, request_: Any, said: str) -> None:
    code, details = await refused(getattr(wire.stub, method)(request_))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert details.startswith(said)
    assert not details.removeprefix(said).startswith(said)
    assert wire.bench.agent.registrations == []


async def test_what_is_far_too_long_is_refused_by_its_own_code(wire: Wire) -> None:
    """Details that quote all of it would be over gRPC's limit for trailers, and the client saw RESOURCE_EXHAUSTED."""
    code, details = await refused(
        wire.stub.SipStartCall(pb.SipStartCallRequest(callee_id="b", headers={"ä" * 4000: ""}))
    )
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert details.startswith("headers: 'ää")
    await wire.connected()
    amd = pb.AnsweringMachineDetectionResult(rule_id="r" * 20_000)
    report = pb.SipReportAnsweringMachineDetectedRequest(amd_result=amd)
    code, details = await refused(wire.stub.SipReportAnsweringMachineDetected(report))
    assert (code, details) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "amd_result: 20004 bytes, at most 16384 are allowed",
    )


async def test_a_list_of_100_megabytes_is_refused_with_its_sizes(wire: Wire) -> None:
    request = pb.SipPlayWavFilesRequest(wav_files=[bytes(50_000_000)] * 2)
    code, details = await refused(wire.stub.SipPlayWavFiles(request))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert details == "wav_files: 2 files of 100,000,000 bytes together are over the limit of 33,554,432 bytes"


async def test_a_report_of_an_answering_machine_reaches_the_terminal_status(wire: Wire) -> None:
    await wire.connected()
    amd = pb.AnsweringMachineDetectionResult(confidence=0.75, decision_ms=900, rule_id="beep")
    amd.verdict = pb.AnsweringMachineDetectionResult.MACHINE
    amd.cause = pb.AnsweringMachineDetectionResult.BEEP
    amd.matched_cue_ids.extend(["a", "b"])
    amd.action_taken = pb.AnsweringMachineDetectionResult.LEFT_VOICE_MESSAGE
    request = pb.SipReportAnsweringMachineDetectedRequest(amd_result=amd)
    status = await wire.stub.SipReportAnsweringMachineDetected(request)
    assert status.status_type == pb.SipStatus.OUTGOING_CALL_ANSWERING_MACHINE_DETECTED
    assert status.amd_result == amd
    wire.bench.call.hang_up_by_far_end()
    await settle()
    finished = await wire.stub.SipGetSipStatus(Empty())
    assert (finished.status_type, finished.amd_result) == (pb.SipStatus.OUTGOING_CALL_FINISHED, amd)
    assert finished.description == (
        "Answering machine detected, call ended by the answering machine after leaving a voice message"
    )
    refused_ = await wire.stub.SipReportAnsweringMachineDetected(request)
    assert refused_.exception_name == "NoOngoingCall"
    assert await wire.stub.SipGetSipStatus(Empty()) == finished


async def test_media_control(wire: Wire) -> None:
    await wire.connected()
    call_id = (await wire.stub.SipGetSipStatus(Empty())).call_id
    request = pb.SipSetCallMediaControlRequest(
        bot_voice=pb.MEDIA_CONTROL_SETTING_OFF, bot_listening=pb.MEDIA_CONTROL_SETTING_OFF
    )
    metadata = (("x-ondewo-expected-call-id", call_id),)
    status = await wire.stub.SipSetCallMediaControl(request, metadata=metadata)
    assert (status.call_id, status.bot_muted, status.listening_paused) == (call_id, True, True)
    assert (status.status_type, status.exception_name) == (pb.SipStatus.OUTGOING_CALL_CONNECTED, "")
    assert await wire.stub.SipGetSipStatus(Empty()) == status
    assert len((await wire.stub.SipGetSipStatusHistory(Empty())).status_history) == 5
    unnamed = await wire.stub.SipSetCallMediaControl(request)
    assert unnamed.exception_name == "CallScopeMismatch"
    for field, broken in (
        ("owner", pb.SipSetCallMediaControlRequest.FromString(b"\x18\x09")),
        ("bot_voice", pb.SipSetCallMediaControlRequest.FromString(b"\x08\x09")),
        ("bot_listening", pb.SipSetCallMediaControlRequest.FromString(b"\x10\x09")),
    ):
        code, details = await refused(wire.stub.SipSetCallMediaControl(broken, metadata=metadata))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert details.startswith(f"{field}: 9 ")


async def test_live_audio_and_its_codes(wire: Wire) -> None:
    listen = pb.SipCallAudioRequest(config=pb.SipCallAudioConfig(mode=pb.SIP_CALL_AUDIO_MODE_LISTEN))
    talk = pb.SipCallAudioRequest(
        config=pb.SipCallAudioConfig(mode=pb.SIP_CALL_AUDIO_MODE_TALK, take_over=True, sample_rate_hz=8000)
    )

    async def refusal(*requests: pb.SipCallAudioRequest, call_id: str = "") -> grpc.StatusCode:
        stream = wire.stub.SipStreamCallAudio(
            patient(*requests), metadata=(("x-ondewo-expected-call-id", call_id or current),)
        )
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            async for _ in stream:
                pass
        assert raised.value.details()
        return raised.value.code()

    async def patient(*requests: pb.SipCallAudioRequest) -> AsyncIterator[pb.SipCallAudioRequest]:
        for request in requests:
            yield request
        await asyncio.sleep(30)

    current = "x"
    assert await refusal(listen) is grpc.StatusCode.FAILED_PRECONDITION
    await wire.connected()
    current = (await wire.stub.SipGetSipStatus(Empty())).call_id
    assert await refusal(listen, call_id="another") is grpc.StatusCode.FAILED_PRECONDITION
    assert await refusal() is grpc.StatusCode.INVALID_ARGUMENT
    assert await refusal(pb.SipCallAudioRequest(agent_muted=True)) is grpc.StatusCode.INVALID_ARGUMENT
    assert await refusal(pb.SipCallAudioRequest(config=pb.SipCallAudioConfig(sample_rate_hz=44100))) is (
        grpc.StatusCode.INVALID_ARGUMENT
    )
    frame = pb.SipCallAudioRequest(audio=pb.SipCallAudioFrame(pcm_s16le=b"123"))
    assert await refusal(talk, frame) is grpc.StatusCode.INVALID_ARGUMENT
    talking = wire.stub.SipStreamCallAudio(patient(talk), metadata=(("x-ondewo-expected-call-id", current),))
    started = (await anext(aiter(talking))).started
    assert (started.mode, started.sample_rate_hz, started.frame_ms) == (pb.SIP_CALL_AUDIO_MODE_TALK, 8000, 20)
    assert await refusal(talk) is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (await wire.stub.SipGetSipStatus(Empty())).call_audio_streams == 1
    wire.bench.call.tick(7)
    response = await anext(aiter(talking))
    assert (response.audio.pcm_s16le, response.audio.sequence) == (b"\x07\x00" * 160, 0)
    wire.bench.call.hang_up_by_far_end()
    stats, ended = [one async for one in talking]
    assert stats.stats.frames_sent == 1
    assert ended.ended.reason == pb.SIP_CALL_AUDIO_END_REASON_CALL_ENDED
    assert await talking.code() is grpc.StatusCode.OK


async def test_live_audio_asks_for_the_token() -> None:
    bench = Bench(control_token="open sesame")
    server = grpc.aio.server(options=GRPC_OPTIONS)
    add_sip(Servicer(bench.accounts), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub: SipAsyncStub = SipStub(channel)
        for metadata in ((), (("x-ondewo-sip-call-control-token", "sesame"),)):
            request = pb.SipCallAudioRequest(config=pb.SipCallAudioConfig())
            stream = stub.SipStreamCallAudio(iter([request]), metadata=metadata)
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                async for _ in stream:
                    pass
            assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED
            assert "sesame" not in str(raised.value)
            status = await stub.SipSetCallMediaControl(pb.SipSetCallMediaControlRequest(), metadata=metadata)
            assert status.exception_name == "CallControlUnauthenticated"
    await Bench.close_all()
    await server.stop(0)


async def test_a_bug_is_internal_logged_with_its_traceback_and_the_server_goes_on(
    wire: Wire, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    await wire.session()

    def explode(*_: object, **__: object) -> None:
        raise KeyError("a secret detail")

    monkeypatch.setattr(wire.bench.registration, "place", explode)
    with caplog.at_level(logging.ERROR):
        code, details = await refused(wire.stub.SipStartCall(pb.SipStartCallRequest(callee_id="bob")))
    assert code is grpc.StatusCode.INTERNAL
    assert "secret" not in details
    reference = details.split()[2].rstrip(":")
    record = next(record for record in caplog.records if reference in record.getMessage())
    assert record.exc_info is not None
    assert (await wire.stub.SipGetSipStatus(Empty())).status_type == pb.SipStatus.READY


async def test_a_deadline_is_kept_with_the_latest_transition_as_answer(wire: Wire) -> None:
    await wire.session()
    before = time.monotonic()
    status = await wire.stub.SipStartCall(pb.SipStartCallRequest(callee_id=BOB), timeout=0.5)
    assert time.monotonic() - before < 0.5
    assert status.status_type == pb.SipStatus.OUTGOING_CALL_INITIATED
    wire.bench.call.answer_by_far_end()
    await settle()
    current = await wire.stub.SipGetSipStatus(Empty())
    assert current.status_type == pb.SipStatus.OUTGOING_CALL_CONNECTED


async def test_a_cancelled_request_cancels_the_ringing_call(wire: Wire) -> None:
    await wire.session()
    calling = wire.stub.SipStartCall(pb.SipStartCallRequest(callee_id=BOB))
    await until(lambda: wire.bench.registration.calls)
    calling.cancel()
    await until(lambda: wire.bench.call.did)
    assert wire.bench.call.did == ["hangup_now"]
    status = await wire.stub.SipGetSipStatus(Empty())
    assert (status.status_type, status.exception_name) == (pb.SipStatus.OUTGOING_CALL_FAILED, "CallCancelled")


async def test_a_cancelled_wav_stops(wire: Wire) -> None:
    await wire.connected()
    playing = wire.stub.SipPlayWavFiles(pb.SipPlayWavFilesRequest(wav_files=[wav(10)]))
    await until(lambda: wire.bench.call.playbacks)
    playing.cancel()
    await until(lambda: wire.bench.call.playbacks[0].cancelled)
    status = await wire.stub.SipGetSipStatus(Empty())
    assert status.exception_name == "PlaybackCancelled"


async def test_a_stopping_server_is_unavailable_for_new_work(wire: Wire) -> None:
    await wire.session()
    wire.bench.accounts.stop_taking_calls()
    for call in (
        wire.stub.SipStartCall(pb.SipStartCallRequest(callee_id="bob")),
        wire.stub.SipRegisterAccount(pb.SipRegisterAccountRequest(account_name=ALICE)),
        wire.stub.SipStartSession(pb.SipStartSessionRequest(account_name=ALICE)),
    ):
        code, details = await refused(call)
        assert code is grpc.StatusCode.UNAVAILABLE
        assert details
    assert (await wire.stub.SipGetSipStatus(Empty())).status_type == pb.SipStatus.READY
