"""StreamRecording over the wire, with a clock that the tests tick."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
import pytest
import pytest_asyncio
from google.protobuf.empty_pb2 import Empty

from service.generated.sipcore.v1 import audio_pb2 as pb
from service.stream_places import AudioLimits
from tests.kit.fake_agent import FakeCall
from tests.service.bench import Bench
from tests.service.v1.wire import Wire, open_wire, refused, until

Code = grpc.StatusCode
Ended = pb.RecordingEnded


@pytest_asyncio.fixture
async def wire() -> AsyncIterator[Wire]:
    async with open_wire(Bench(audio_limits=AudioLimits(per_call=2))) as opened:  # no folder is needed
        yield opened


class Taking:
    """One streamed recording, as its client sees it."""

    def __init__(self, wire: Wire, call_id: str = "one", **settings: Any) -> None:
        self.stream: Any = wire.audio.StreamRecording(pb.StreamRecordingRequest(call_id=call_id, **settings))

    async def started(self) -> pb.RecordingStarted:
        return (await self.next("started")).started

    async def next(self, kind: str) -> pb.StreamRecordingResponse:
        async with asyncio.timeout(20):
            response = await self.stream.read()
        assert isinstance(response, pb.StreamRecordingResponse), await self.stream.code()
        assert response.WhichOneof("response") == kind, response
        return response

    async def chunk(self) -> tuple[int, list[list[int]]]:
        """Its position, and the first sample of each tick by channel."""
        chunk = (await self.next("chunk")).chunk
        return chunk.position, np.frombuffer(chunk.pcm_s16le, "<i2").reshape(-1, 2)[::160].tolist()

    async def ended(self) -> pb.RecordingEnded:
        ended = (await self.next("ended")).ended
        assert not isinstance(await self.stream.read(), pb.StreamRecordingResponse)
        assert await self.stream.code() is Code.OK
        return ended


def tick(call: FakeCall, far: int, sent: int = 0) -> None:
    if sent:
        call.ears.sent(call.ticks + 1, np.full(160, sent, np.int16))
    call.tick(far)


async def test_both_sides_until_the_call_ends(wire: Wire) -> None:
    call = await wire.connected()
    taking = Taking(wire, chunk_ms=40)
    started = await taking.started()
    assert (started.sample_rate_hz, started.channels, started.chunk_ms) == (8000, 2, 40)
    for far, sent in ((1, -1), (2, 0), (3, -3)):
        tick(call, far, sent)
    assert await taking.chunk() == (0, [[1, -1], [2, 0]])
    call.hang_up_by_far_end()
    assert await taking.chunk() == (320, [[3, -3]])
    ended = await taking.ended()
    assert (ended.reason, ended.seconds) == (Ended.CALL_ENDED, 0.06)


async def test_it_is_paused_and_stopped_by_its_id(wire: Wire) -> None:
    call = await wire.connected()
    taking = Taking(wire, chunk_ms=20)
    name = (await taking.started()).recording_id
    tick(call, 1)
    paused = await wire.audio.PauseRecording(pb.PauseRecordingRequest(recording_id=name, paused=True))
    assert (paused.paused, paused.file_name, paused.call_id, paused.seconds) == (True, "", "one", 0.02)
    tick(call, 2)
    await wire.audio.PauseRecording(pb.PauseRecordingRequest(recording_id=name))
    tick(call, 3)
    stopped = await wire.audio.StopRecording(pb.StopRecordingRequest(recording_id=name))
    assert (stopped.ended, stopped.error) == (True, "")
    tick(call, 4)
    assert [(await taking.chunk())[1] for _ in range(3)] == [[[1, 0]], [[0, 0]], [[3, 0]]]
    assert (await taking.ended()).reason == Ended.STOPPED
    again = await refused(wire.audio.StopRecording(pb.StopRecordingRequest(recording_id=name)))
    assert again.reason == "RECORDING_NOT_FOUND"


async def test_a_client_that_does_not_read_gets_what_waits_and_is_let_go(wire: Wire) -> None:
    call = await wire.connected()
    taking = Taking(wire, chunk_ms=1000, max_behind_ms=1000)
    await taking.started()
    for _ in range(60):
        tick(call, 5)  # in one go: nobody could have read it
    assert call.recording_streams[0].error is not None
    assert await taking.chunk() == (0, [[5, 0]] * 50)
    position, _ = await taking.chunk()
    assert position == 8000
    assert (await taking.ended()).reason == Ended.STALLED
    assert call.is_connected


async def test_a_client_that_goes_away_is_forgotten(wire: Wire) -> None:
    call = await wire.connected()
    taking = Taking(wire, mono=True)
    assert (await taking.started()).channels == 1
    assert (await wire.sip.SipGetSipStatus(Empty())).call_audio_streams == 1
    taking.stream.cancel()
    await until(lambda: call.recording_streams[0].closed)
    assert not call.ears.open
    await until(lambda: wire.bench.current.audio_streams == 0)


async def test_live_streams_of_all_kinds_are_counted_together(wire: Wire) -> None:
    await wire.connected()
    taking = Taking(wire)
    await taking.started()
    method: Any = wire.audio.Converse
    converse = method()
    await converse.write(pb.ConverseRequest(config=pb.ConverseConfig(call_id="one")))
    assert (await converse.read()).HasField("started")
    assert (await wire.sip.SipGetSipStatus(Empty())).call_audio_streams == 2
    answer = await refused(Taking(wire).stream.read())
    assert (answer.code, answer.reason) == (Code.RESOURCE_EXHAUSTED, "AUDIO_STREAM_LIMIT")
    for stream in (converse, taking.stream):
        stream.cancel()
    await until(lambda: wire.bench.current.audio_streams == 0)


@pytest.mark.parametrize(
    ("settings", "code", "field"),
    [
        ({"chunk_ms": 30}, Code.INVALID_ARGUMENT, "chunk_ms"),
        ({"chunk_ms": 1020}, Code.INVALID_ARGUMENT, "chunk_ms"),
        ({"max_behind_ms": 999}, Code.INVALID_ARGUMENT, "max_behind_ms"),
        ({"max_behind_ms": 60_001}, Code.INVALID_ARGUMENT, "max_behind_ms"),
        ({"call_id": ""}, Code.INVALID_ARGUMENT, "call_id"),
        ({"call_id": "two"}, Code.NOT_FOUND, None),
    ],
)
async def test_what_is_refused(wire: Wire, settings: dict[str, Any], code: grpc.StatusCode, field: str | None) -> None:
    await wire.connected()
    answer = await refused(Taking(wire, **settings).stream.read())
    assert answer.code is code
    assert list(answer.violations) == ([field] if field else [])


async def test_a_call_that_rings_is_not_recorded(wire: Wire) -> None:
    _, call_id = await wire.ringing()
    answer = await refused(Taking(wire, call_id).stream.read())
    assert (answer.code, answer.reason) == (Code.FAILED_PRECONDITION, "NO_ONGOING_CALL")
    assert wire.bench.current.audio_streams == 0


async def test_the_token_is_asked_for() -> None:
    async with open_wire(Bench(control_token="secret")) as wire:
        answer = await refused(Taking(wire).stream.read())
        assert answer.code is Code.UNAUTHENTICATED
