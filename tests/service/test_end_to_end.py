"""The whole path, every layer real: gRPC client → server process → SIP and RTP over the loopback → a telephone.

The registrar and the telephone are the library's own, in the test's process. Real peers are in ``tests/interop``.
"""

from __future__ import annotations

import asyncio
import io
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import grpc
import numpy as np
import pytest
import pytest_asyncio
import soundfile
from google.protobuf.empty_pb2 import Empty
from numpy.typing import NDArray

from service.generated.ondewo.sip import sip_pb2 as pb
from service.generated.ondewo.sip.sip_pb2_grpc import SipStub
from sipcore.call import Call
from sipcore.events import EndCause
from tests.service.bench import wav
from tests.service.far_side import PASSWORD, FarSide
from tests.service.program import PROGRAM, RunningServer, run_server

if TYPE_CHECKING:
    from service.generated.ondewo.sip.sip_pb2_grpc import SipAsyncStub

pytestmark = pytest.mark.process

Type = pb.SipStatus


class Scene:
    """A server with alice registered at the far side."""

    def __init__(self, far: FarSide, server: RunningServer, channel: grpc.aio.Channel) -> None:
        self.far = far
        self.server = server
        self.stub: SipAsyncStub = SipStub(channel)

    async def register(self, user: str = "alice", password: str = PASSWORD) -> pb.SipStatus:
        request = pb.SipRegisterAccountRequest(account_name=self.far.address(user), password=password)
        return await self.stub.SipRegisterAccount(request)

    async def session(self, auto_answer: int = 0) -> None:
        assert (await self.register()).status_type == Type.REGISTERED
        request = pb.SipStartSessionRequest(account_name=self.far.address("alice"), auto_answer_interval=auto_answer)
        assert (await self.stub.SipStartSession(request)).status_type == Type.READY

    def dial(self, **headers: str) -> Any:
        request = pb.SipStartCallRequest(callee_id=self.far.address("bob"), headers=headers)
        return self.stub.SipStartCall(request)

    async def connected(self) -> tuple[Call, pb.SipStatus]:
        """bob's end of a call from alice that he answered, and alice's status."""
        calling = self.dial()
        call = await self.far.incoming()
        await call.answer()
        status: pb.SipStatus = await calling
        assert status.status_type == Type.OUTGOING_CALL_CONNECTED
        return call, status

    async def reaches(self, type_: pb.SipStatus.StatusType.ValueType) -> pb.SipStatus:
        """The account's status once it is of this type; at most two seconds."""
        async with asyncio.timeout(2):
            while (  # noqa: ASYNC110 - the contract has nothing to wait on
                status := await self.stub.SipGetSipStatus(Empty())
            ).status_type != type_:
                await asyncio.sleep(0.01)
            return status

    async def types(self) -> list[str]:
        history = await self.stub.SipGetSipStatusHistory(Empty())
        return [Type.StatusType.Name(status.status_type) for status in history.status_history]


@pytest_asyncio.fixture
async def scene() -> AsyncIterator[Scene]:
    async with FarSide() as far, run_server() as server, grpc.aio.insecure_channel(server.bound["grpc"]) as channel:
        yield Scene(far, server, channel)


async def hear(call: Call, frames: list[NDArray[np.int16]]) -> None:
    frames.extend([frame async for frame in call.audio()])


def similarity(sent: NDArray[np.int16], heard: NDArray[np.int16]) -> float:
    """Correlation after alignment."""
    a, b = sent.astype(np.float64), heard.astype(np.float64)
    size = 1 << (len(a) + len(b)).bit_length()
    shift = int(np.argmax(np.fft.irfft(np.fft.rfft(b, size) * np.conj(np.fft.rfft(a, size)), size)[: len(b)]))
    part = b[shift : shift + len(a)]
    return float(np.corrcoef(a[: len(part)], part)[0, 1])


def noise(seconds: float, seed: int) -> bytes:
    """A wav of noise: nothing correlates with it but itself."""
    samples = np.random.default_rng(seed).normal(0, 3000, int(8000 * seconds)).astype(np.int16)
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, 8000, format="WAV")
    return buffer.getvalue()


def samples_of(data: bytes) -> NDArray[np.int16]:
    return np.frombuffer(data[44:], np.int16)


async def test_the_life_cycle(scene: Scene) -> None:
    await scene.session()
    assert scene.far.registers == 2  # one challenge
    calling = scene.dial(**{"X-Campaign": "7", "X-ondewo-vtsi-caller-call-id": "mine"})
    bob = await scene.far.incoming()
    assert bob.headers["X-Campaign"] == "7"
    frames: list[NDArray[np.int16]] = []
    await bob.answer()
    listening = asyncio.create_task(hear(bob, frames))
    connected = await calling
    assert (connected.status_type, connected.call_id) == (Type.OUTGOING_CALL_CONNECTED, "mine")

    first, second = noise(0.6, 1), noise(0.4, 2)
    played = await asyncio.gather(
        scene.stub.SipPlayWavFiles(pb.SipPlayWavFilesRequest(wav_files=[first])),
        scene.stub.SipPlayWavFiles(pb.SipPlayWavFilesRequest(wav_files=[second])),
    )
    assert {status.status_type for status in played} == {Type.MICROPHONE_WAV_FILES_PLAYED}
    assert (await scene.stub.SipMute(Empty())).status_type == Type.MICROPHONE_MUTED
    await scene.stub.SipPlayWavFiles(pb.SipPlayWavFilesRequest(wav_files=[noise(0.2, 3)]))
    assert (await scene.stub.SipUnMute(Empty())).status_type == Type.MICROPHONE_UNMUTED
    await asyncio.sleep(0.3)
    finished = await scene.stub.SipEndCall(pb.SipEndCallRequest())
    assert (finished.status_type, finished.call_id) == (Type.OUTGOING_CALL_FINISHED, "mine")
    assert (await bob.wait_ended()).cause is EndCause.HANGUP
    await listening
    heard = np.concatenate(frames)
    both = np.concatenate([samples_of(first), samples_of(second)])
    assert similarity(both, heard) > 0.95  # in order, and without a gap
    assert similarity(samples_of(noise(0.2, 3)), heard) < 0.3  # muted

    ended = await scene.stub.SipEndSession(Empty())
    assert ended.status_type == Type.SESSION_ENDED
    assert scene.far.contacts("alice") == []
    assert await scene.types() == [
        "REGISTERED",
        "SESSION_STARTED",
        "READY",
        "OUTGOING_CALL_INITIATED",
        "OUTGOING_CALL_CONNECTED",
        "MICROPHONE_WAV_FILES_PLAYED",
        "MICROPHONE_WAV_FILES_PLAYED",
        "MICROPHONE_MUTED",
        "MICROPHONE_WAV_FILES_PLAYED",
        "MICROPHONE_UNMUTED",
        "SOFT_HANGUP_INITIATED",
        "OUTGOING_CALL_FINISHED",
        "SESSION_ENDED",
    ]


async def test_an_incoming_call(scene: Scene) -> None:
    await scene.register()
    (contact,) = scene.far.contacts("alice")
    refused = scene.far.bob.place(contact)
    assert (await refused.wait_ended()).code == 480  # no session yet
    await scene.session(auto_answer=1)
    before = time.monotonic()
    call = await scene.far.bob.call(contact, headers={"X-Customer": "9"})
    assert time.monotonic() - before > 0.9
    busy = scene.far.bob.place(contact)
    assert (await busy.wait_ended()).code == 486
    status = await scene.stub.SipGetSipStatus(Empty())
    assert status.status_type == Type.INCOMING_CALL_CONNECTED
    assert status.headers["X-Customer"] == "9"
    assert status.callee_id.startswith("sip:bob@")
    await call.hangup()
    assert (await scene.reaches(Type.INCOMING_CALL_FINISHED)).description


async def test_a_declined_incoming_call(scene: Scene) -> None:
    await scene.session(auto_answer=-1)
    call = scene.far.bob.place(scene.far.contacts("alice")[0])
    await scene.reaches(Type.INCOMING_CALL_INITIATED)
    finished = await scene.stub.SipEndCall(pb.SipEndCallRequest())
    assert finished.status_type == Type.INCOMING_CALL_FINISHED
    assert (await call.wait_ended()).code == 603


async def test_refusals(scene: Scene) -> None:
    wrong = await scene.register(password="wrong")
    assert (wrong.status_type, wrong.exception_name) == (Type.SESSION_REGISTRATION_FAILED, "AuthenticationFailed")
    assert wrong.sip_response_code in (401, 403)
    await scene.session()
    for code in (486, 603, 404, 408):
        calling = scene.dial()
        (await scene.far.incoming()).reject(code)
        status = await calling
        assert (status.status_type, status.sip_response_code) == (Type.OUTGOING_CALL_FAILED, code)
        assert status.exception_name == ("CallTimeout" if code == 408 else "CallRejected")
        assert str(code) in status.description
    request = pb.SipStartCallRequest(callee_id="sip:nobody@127.0.0.1:9")
    status = await scene.stub.SipStartCall(request)
    assert (status.status_type, status.exception_name) == (Type.OUTGOING_CALL_FAILED, "ServerUnreachable")


async def test_a_cancelled_request_cancels_the_ringing_call(scene: Scene) -> None:
    await scene.session()
    calling = scene.dial()
    bob = await scene.far.incoming()
    calling.cancel()
    assert (await asyncio.wait_for(bob.wait_ended(), 2)).code == 487
    status = await scene.stub.SipGetSipStatus(Empty())
    assert (status.status_type, status.exception_name) == (Type.OUTGOING_CALL_FAILED, "CallCancelled")


async def test_barge_in(scene: Scene) -> None:
    """Cancelling SipPlayWavFiles is how a voicebot lets its caller interrupt it."""
    await scene.session()
    bob, _ = await scene.connected()
    playing = scene.stub.SipPlayWavFiles(pb.SipPlayWavFilesRequest(wav_files=[wav(5)]))
    await asyncio.sleep(0.4)
    playing.cancel()
    status = await scene.reaches(Type.MICROPHONE_WAV_FILES_PLAYED)
    assert status.exception_name == "PlaybackCancelled"
    frames: list[NDArray[np.int16]] = []
    await asyncio.sleep(0.1)
    listening = asyncio.create_task(hear(bob, frames))
    await asyncio.sleep(0.3)
    await scene.stub.SipEndCall(pb.SipEndCallRequest(hard_hangup=True))
    await listening
    assert len(frames) > 5
    assert np.abs(np.concatenate(frames)).max() < 50


async def test_transfers(scene: Scene) -> None:
    await scene.session()
    bob, _ = await scene.connected()

    # refused: the call goes on
    request = pb.SipTransferCallRequest(transfer_id="carol", outcome_timeout_ms=3000, headers={"X-Why": "tired"})
    status = await scene.stub.SipTransferCall(request)
    assert (status.status_type, status.sip_response_code) == (Type.TRANSFER_CALL_FAILED, 603)
    assert status.description == "reason=refer-rejected"
    assert bob.is_connected

    # accepted, but the target is unknown: the call goes on
    asked: list[str] = []

    def accept_and_report(code: int, reason: str) -> None:
        def on_refer(refer: Any) -> None:
            asked.append(refer.target)
            assert refer.headers["X-Why"] == "tired"
            refer.accept()
            refer.notify(code, reason)

        bob.on_refer = on_refer

    accept_and_report(404, "Not Found")
    status = await scene.stub.SipTransferCall(request)
    assert (status.status_type, status.sip_response_code) == (Type.TRANSFER_CALL_FAILED, 404)
    assert asked == [f"sip:carol@{scene.far.domain}"]
    assert bob.is_connected

    # accepted
    accept_and_report(200, "OK")
    status = await scene.stub.SipTransferCall(request)
    assert (status.status_type, status.sip_response_code) == (Type.TRANSFER_CALL_INITIATED, 202)
    assert (await bob.wait_ended()).cause is EndCause.HANGUP
    status = await scene.reaches(Type.OUTGOING_CALL_FINISHED)
    assert status.description == "Call transferred"
    assert status.transfer_call_id == "carol"

    # without outcome
    bob, _ = await scene.connected()
    accept_and_report(100, "Trying")
    status = await scene.stub.SipTransferCall(
        pb.SipTransferCallRequest(transfer_id="carol", headers={"X-Why": "tired"})
    )
    assert (status.status_type, status.sip_response_code) == (Type.TRANSFER_CALL_INITIATED, 0)
    await asyncio.wait_for(bob.wait_ended(), 2)
    assert len(asked) == 3


async def test_stopping_with_a_call_up_says_goodbye_everywhere(scene: Scene) -> None:
    await scene.session()
    bob, _ = await scene.connected()
    before = time.monotonic()
    scene.server.process.send_signal(signal.SIGTERM)
    assert (await asyncio.wait_for(bob.wait_ended(), 3)).cause is EndCause.HANGUP
    assert await asyncio.wait_for(scene.server.process.wait(), 5) == 0
    assert time.monotonic() - before < 5
    assert scene.far.contacts("alice") == []


class MuteWorld(asyncio.DatagramProtocol):
    """Takes REGISTER, lets an INVITE ring, and from then on answers nothing at all."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        head = data.decode().split("\r\n")
        status = {"REGISTER": "200 OK", "INVITE": "180 Ringing"}.get(head[0].split()[0])
        if status is None or "Expires: 0" in head:
            return
        copied = [line for line in head if line.split(":")[0] in ("Via", "From", "Call-ID", "CSeq", "Contact")]
        to = next(line for line in head if line.startswith("To:"))
        lines = [f"SIP/2.0 {status}", *copied, f"{to};tag=mute", "Expires: 600", "Content-Length: 0", "", ""]
        self.transport.sendto("\r\n".join(lines).encode(), addr)


async def test_stopping_in_time_though_nobody_answers_any_more() -> None:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(MuteWorld, local_addr=("127.0.0.1", 0))
    account = f"alice@127.0.0.1:{transport.get_extra_info('sockname')[1]}"
    async with run_server() as server, grpc.aio.insecure_channel(server.bound["grpc"]) as channel:
        stub: SipAsyncStub = SipStub(channel)
        await stub.SipRegisterAccount(pb.SipRegisterAccountRequest(account_name=account))
        ready = await stub.SipStartSession(pb.SipStartSessionRequest(account_name=account))
        assert ready.status_type == Type.READY
        ringing = await stub.SipStartCall(pb.SipStartCallRequest(callee_id="bob"), timeout=1)
        assert ringing.status_type == Type.OUTGOING_CALL_INITIATED
        before = time.monotonic()
        server.process.terminate()
        assert await asyncio.wait_for(server.process.wait(), 5) == 0
        assert time.monotonic() - before < 5
    transport.close()


async def test_the_far_end_hangs_up_while_a_wav_plays(scene: Scene) -> None:
    await scene.session()
    bob, _ = await scene.connected()
    playing = scene.stub.SipPlayWavFiles(pb.SipPlayWavFilesRequest(wav_files=[wav(5)]))
    await asyncio.sleep(0.5)
    await bob.hangup()
    status = await playing
    assert (status.status_type, status.exception_name) == (Type.NO_ONGOING_CALL, "NoOngoingCall")
    assert "of 5.00 s were played" in status.description
    assert (await scene.types())[-2:] == ["OUTGOING_CALL_FINISHED", "NO_ONGOING_CALL"]


# -- sipcore call


async def test_one_call_from_the_shell(tmp_path: Path) -> None:
    sound, recording = tmp_path / "sound.wav", tmp_path / "bob.wav"
    sound.write_bytes(noise(0.6, 4))
    async with FarSide() as far:
        process = await asyncio.create_subprocess_exec(
            *(*PROGRAM, "call", far.address("bob"), "--account", far.address("alice"), "--sip", "127.0.0.1:0"),
            *("--wav", str(sound), "--record", str(recording), "--dtmf", "12#", "--header", "X-From: shell"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "SIPCORE_PASSWORD": PASSWORD},
        )
        bob = await far.incoming()
        assert bob.headers["X-From"] == "shell"
        frames: list[NDArray[np.int16]] = []
        await bob.answer()
        listening = asyncio.create_task(hear(bob, frames))
        bob.play(noise(3, 5))
        output, errors = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0, (output, errors)
        await listening
        digits = [event async for event in bob.events()]
    assert similarity(samples_of(sound.read_bytes()), np.concatenate(frames)) > 0.95
    assert "".join(getattr(event, "digit", "") for event in digits) == "12#"
    assert similarity(samples_of(noise(3, 5))[:4000], samples_of(recording.read_bytes())) > 0.9
    for said in (b"registering", b"calling", b"answered, PCMU", b"playing sound.wav", b"sent digits 12#", b"received"):
        assert said in output
    assert PASSWORD.encode() not in output + errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_ctrl_c_and_sigterm_hang_up(number: signal.Signals) -> None:
    async with FarSide() as far:
        process = await asyncio.create_subprocess_exec(
            *(*PROGRAM, "call", far.address("bob"), "--account", far.address("alice"), "--sip", "127.0.0.1:0"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "SIPCORE_PASSWORD": PASSWORD},
        )
        bob = await far.incoming()
        await bob.answer()
        await asyncio.sleep(0.2)
        process.send_signal(number)
        assert (await asyncio.wait_for(bob.wait_ended(), 60)).cause is EndCause.HANGUP
        output, errors = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 130, (output, errors)
        assert b"Traceback" not in errors, errors.decode()
        assert far.contacts("alice") == []


async def test_a_call_from_the_shell_that_is_refused() -> None:
    async with FarSide() as far:
        process = await asyncio.create_subprocess_exec(
            *(*PROGRAM, "call", far.address("bob"), "--account", far.address("alice"), "--sip", "127.0.0.1:0"),
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "SIPCORE_PASSWORD": PASSWORD},
        )
        (await far.incoming()).reject(486)
        output, _ = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 1
        assert b"486" in output
