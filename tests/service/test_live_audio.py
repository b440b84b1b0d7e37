"""SipStreamCallAudio over a real gRPC port of a server in a process of its own, with real RTP to a telephone."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections.abc import AsyncIterator, Iterator
from multiprocessing.synchronize import Event
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest
from google.protobuf.empty_pb2 import Empty
from numpy.typing import NDArray

from rtp.resample import Downsampler, Upsampler
from service.generated.ondewo.sip import sip_pb2 as pb
from service.generated.ondewo.sip.sip_pb2_grpc import SipStub
from sipcore.call import Call
from tests.service.far_side import FarSide
from tests.service.program import run_server
from tests.service.test_end_to_end import Scene, hear, noise, samples_of, scene, similarity

if TYPE_CHECKING:
    from service.generated.ondewo.sip.sip_pb2_grpc import SipAsyncStub

pytestmark = pytest.mark.process

__all__ = ["scene"]

LISTEN, TALK = pb.SIP_CALL_AUDIO_MODE_LISTEN, pb.SIP_CALL_AUDIO_MODE_TALK
RATES = pytest.mark.parametrize("rate", [8000, 16000])


class Client:
    """One stream, read by a task."""

    def __init__(self, scene: Scene, call_id: str, mode: pb.SipCallAudioMode.ValueType, rate: int) -> None:
        self._requests: asyncio.Queue[pb.SipCallAudioRequest | None] = asyncio.Queue()
        config = pb.SipCallAudioConfig(mode=mode, sample_rate_hz=rate, take_over=mode == TALK)
        self._requests.put_nowait(pb.SipCallAudioRequest(config=config))
        self.rate = rate
        self.frames: list[pb.SipCallAudioFrame] = []
        self.stats: list[pb.SipCallAudioStats] = []
        self.ended: list[pb.SipCallAudioEnded] = []
        self.started = asyncio.Event()
        self.stream = scene.stub.SipStreamCallAudio(self._iterate(), metadata=(("x-ondewo-expected-call-id", call_id),))
        self.reading = asyncio.create_task(self._read())

    @classmethod
    async def open(
        cls, scene: Scene, call_id: str, mode: pb.SipCallAudioMode.ValueType = LISTEN, rate: int = 8000
    ) -> Client:
        client = cls(scene, call_id, mode, rate)
        await asyncio.wait_for(client.started.wait(), 5)
        return client

    async def _iterate(self) -> AsyncIterator[pb.SipCallAudioRequest]:
        while (request := await self._requests.get()) is not None:
            yield request

    async def _read(self) -> None:
        async for response in self.stream:
            match response.WhichOneof("response"):
                case "started":
                    self.started.set()
                case "audio":
                    self.frames.append(response.audio)
                case "stats":
                    self.stats.append(response.stats)
                case "ended":
                    self.ended.append(response.ended)

    async def say(self, samples: NDArray[np.int16]) -> None:
        """At the pace of a microphone."""
        size, start = self.rate // 50, time.monotonic()
        for number, at in enumerate(range(0, len(samples) - size + 1, size)):
            frame = pb.SipCallAudioFrame(pcm_s16le=samples[at : at + size].tobytes(), sequence=number)
            self._requests.put_nowait(pb.SipCallAudioRequest(audio=frame))
            await asyncio.sleep(max(0.0, start + (number + 1) * 0.02 - time.monotonic()))

    def close(self) -> None:
        self._requests.put_nowait(None)

    async def end(self) -> int:
        """The reason, once the stream is over as it should be."""
        await asyncio.wait_for(self.reading, 10)
        self.close()  # gRPC may still wait for a request, also of a stream that is over
        await asyncio.sleep(0.01)
        assert await self.stream.code() is grpc.StatusCode.OK
        (ended,) = self.ended
        assert [frame.sequence for frame in self.frames] == list(range(len(self.frames)))
        return ended.reason

    def heard(self) -> NDArray[np.int16]:
        """All frames, at 8,000 Hz."""
        samples = np.frombuffer(b"".join(frame.pcm_s16le for frame in self.frames), "<i2")
        return samples if self.rate == 8000 else Downsampler()(samples)


async def connected(scene: Scene) -> tuple[Call, str]:
    await scene.session()
    bob, status = await scene.connected()
    return bob, status.call_id


def likeness(sent: NDArray[np.int16], heard: NDArray[np.int16]) -> float:
    """Correlation of the best 0.3 s: a busy machine may lose a frame, and jitter buffers move what comes behind it."""
    return max(similarity(sent[at : at + 2400], heard) for at in range(0, len(sent) - 2399, 1600))


def at_rate(samples: NDArray[np.int16], rate: int) -> NDArray[np.int16]:
    return samples if rate == 8000 else Upsampler()(samples)


@RATES
async def test_a_listener_hears_both_sides(scene: Scene, rate: int) -> None:
    bob, call_id = await connected(scene)
    client = await Client.open(scene, call_id, LISTEN, rate)
    ours, theirs = noise(1.0, 1), noise(1.0, 2)
    playing = bob.play(theirs)
    await scene.stub.SipPlayWavFiles(pb.SipPlayWavFilesRequest(wav_files=[ours]))
    await playing
    await asyncio.sleep(0.2)
    assert (await scene.stub.SipGetSipStatus(Empty())).call_audio_streams == 1
    await scene.stub.SipEndCall(pb.SipEndCallRequest())
    assert await client.end() == pb.SIP_CALL_AUDIO_END_REASON_CALL_ENDED
    heard = client.heard()
    for one in (ours, theirs):  # the other side is noise of the same level: it takes 0.3 from the 1 of a copy
        assert likeness(samples_of(one), heard) > 0.65
    assert client.stats[-1].frames_sent == len(client.frames) >= 55
    assert client.stats[-1].frames_dropped == 0


@RATES
async def test_a_talker_is_heard_instead_of_the_bot_and_hears_the_far_end_alone(scene: Scene, rate: int) -> None:
    bob, call_id = await connected(scene)
    at_bob: list[NDArray[np.int16]] = []
    hearing = asyncio.create_task(hear(bob, at_bob))
    bot, theirs, agents = noise(1.5, 3), noise(1.5, 4), samples_of(noise(1.0, 5))
    supervisor = await Client.open(scene, call_id)
    client = await Client.open(scene, call_id, TALK, rate)
    status = await scene.stub.SipGetSipStatus(Empty())
    assert (status.bot_muted, status.listening_paused, status.call_audio_streams) == (True, True, 2)
    bob.play(theirs)
    playing = asyncio.ensure_future(scene.stub.SipPlayWavFiles(pb.SipPlayWavFilesRequest(wav_files=[bot])))
    await client.say(at_rate(agents, rate))
    assert (await playing).status_type == pb.SipStatus.MICROPHONE_WAV_FILES_PLAYED  # muted, not stopped
    client.close()
    assert await client.end() == pb.SIP_CALL_AUDIO_END_REASON_CLIENT_CLOSED
    status = await scene.stub.SipGetSipStatus(Empty())
    assert (status.bot_muted, status.listening_paused, status.call_audio_streams) == (False, False, 1)
    after = noise(0.6, 6)
    await scene.stub.SipPlayWavFiles(pb.SipPlayWavFilesRequest(wav_files=[after]))
    await asyncio.sleep(0.2)
    await scene.stub.SipEndCall(pb.SipEndCallRequest())
    await hearing
    at_bob_all, at_client = np.concatenate(at_bob), client.heard()
    assert likeness(agents, at_bob_all) > 0.9
    assert likeness(samples_of(bot), at_bob_all) < 0.2
    assert likeness(samples_of(after), at_bob_all) > 0.95  # the bot has its voice back
    assert likeness(samples_of(theirs)[:8000], at_client) > 0.9
    assert likeness(agents, at_client) < 0.2
    assert await supervisor.end() == pb.SIP_CALL_AUDIO_END_REASON_CALL_ENDED
    assert likeness(agents, supervisor.heard()) > 0.6
    counters = client.stats[-1]
    assert counters.frames_received == 50
    assert counters.frames_discarded <= 5


async def test_ten_listeners_and_a_transfer(scene: Scene) -> None:
    bob, call_id = await connected(scene)
    clients = [await Client.open(scene, call_id, LISTEN, 16000) for _ in range(10)]
    theirs = noise(1.0, 7)
    await bob.play(theirs)
    await asyncio.sleep(0.2)
    bob.on_refer = lambda refer: refer.accept()
    request = pb.SipTransferCallRequest(transfer_id="carol", outcome_timeout_ms=3000)
    assert (await scene.stub.SipTransferCall(request)).sip_response_code == 202
    for client in clients:
        assert await client.end() == pb.SIP_CALL_AUDIO_END_REASON_CALL_TRANSFERRED
        assert likeness(samples_of(theirs), client.heard()) > 0.95
        assert client.stats[-1].frames_dropped == 0


def take_over_and_hang(address: str, call_id: str, started: Event) -> None:
    """A client that reads one response, and nothing more, until it is killed."""
    stub = SipStub(grpc.insecure_channel(address))

    def requests() -> Iterator[pb.SipCallAudioRequest]:
        yield pb.SipCallAudioRequest(config=pb.SipCallAudioConfig(mode=TALK, take_over=True))
        time.sleep(60)

    stream = stub.SipStreamCallAudio(requests(), metadata=(("x-ondewo-expected-call-id", call_id),))
    next(iter(stream))
    started.set()
    time.sleep(60)


async def test_a_client_that_dies_gives_the_bot_its_voice_back(scene: Scene) -> None:
    _, call_id = await connected(scene)
    context = multiprocessing.get_context("spawn")
    started = context.Event()
    client = context.Process(target=take_over_and_hang, args=(scene.server.bound["grpc"], call_id, started))
    client.start()
    try:
        assert await asyncio.to_thread(started.wait, 20)
        assert (await scene.stub.SipGetSipStatus(Empty())).bot_muted
    finally:
        client.kill()
        client.join()
    async with asyncio.timeout(5):
        while (status := await scene.stub.SipGetSipStatus(Empty())).call_audio_streams:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert (status.bot_muted, status.listening_paused) == (False, False)


@pytest.mark.long
async def test_a_client_that_stops_reading_slows_nobody_and_loses_its_stream(scene: Scene) -> None:
    bob, call_id = await connected(scene)
    # By default gRPC takes some MiB from the wire for a client that does not read: minutes of audio. This one does not.
    narrow = [("grpc.http2.bdp_probe", 0)]
    over = asyncio.Event()

    async def requests() -> AsyncIterator[pb.SipCallAudioRequest]:
        yield pb.SipCallAudioRequest(config=pb.SipCallAudioConfig(mode=LISTEN))
        await over.wait()

    async with grpc.aio.insecure_channel(scene.server.bound["grpc"], options=narrow) as channel:
        lazy: SipAsyncStub = SipStub(channel)
        stream = lazy.SipStreamCallAudio(requests(), metadata=(("x-ondewo-expected-call-id", call_id),))
        responses = aiter(stream)
        assert (await anext(responses)).HasField("started")
        client = await Client.open(scene, call_id)
        async with asyncio.timeout(30):
            while (await scene.stub.SipGetSipStatus(Empty())).call_audio_streams == 2:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        theirs = noise(1.0, 8)
        await bob.play(theirs)
        await asyncio.sleep(0.2)
        async with asyncio.timeout(30):
            *_, stats, ended = [response async for response in responses]
        over.set()
        await asyncio.sleep(0.01)
    assert ended.ended.reason == pb.SIP_CALL_AUDIO_END_REASON_STALLED
    assert stats.stats.frames_dropped > 250
    await scene.stub.SipEndCall(pb.SipEndCallRequest())
    assert await client.end() == pb.SIP_CALL_AUDIO_END_REASON_CALL_ENDED
    assert client.stats[-1].frames_dropped == 0
    assert likeness(samples_of(theirs), client.heard()) > 0.95


async def test_the_token_of_a_running_server() -> None:
    variables = {"SIPCORE_CALL_CONTROL_TOKEN": "open-sesame"}
    async with FarSide() as far, run_server("--log-level", "debug", **variables) as server:
        channel = grpc.aio.insecure_channel(server.bound["grpc"])
        async with channel:
            scene = Scene(far, server, channel)
            _, call_id = await connected(scene)
            scope = ("x-ondewo-expected-call-id", call_id)
            request = pb.SipSetCallMediaControlRequest(bot_voice=pb.MEDIA_CONTROL_SETTING_OFF)
            for token, refusal in (("wrong guess", "CallControlUnauthenticated"), ("open-sesame", "")):
                metadata = (scope, ("x-ondewo-sip-call-control-token", token))
                status = await scene.stub.SipSetCallMediaControl(request, metadata=metadata)
                assert (status.exception_name, status.bot_muted) == (refusal, not refusal)
    assert "sesame" not in server.errors
    assert "wrong guess" not in server.errors
