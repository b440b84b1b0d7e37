"""Conversations and recordings over the wire, with a clock that the tests tick."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import pytest_asyncio
import soundfile
from google.protobuf.empty_pb2 import Empty

from rtp.speech import MAX_MARKS
from service.generated.sipcore.v1 import audio_pb2 as pb
from service.stream_places import AudioLimits
from tests.kit.fake_agent import FakeCall
from tests.service.bench import Bench
from tests.service.v1.wire import Wire, open_wire, refused, until

Code = grpc.StatusCode
Request = pb.ConverseRequest
Hearing = pb.ConverseConfig


@pytest_asyncio.fixture
async def wire(tmp_path: Path) -> AsyncIterator[Wire]:
    async with open_wire(Bench(audio_limits=AudioLimits(per_call=2)), recordings=tmp_path) as opened:
        yield opened


def samples(seconds: float, value: int = 1000, rate: int = 8000) -> bytes:
    return np.full(int(seconds * rate), value, "<i2").tobytes()


class Talk:
    """One conversation, as its client sees it."""

    def __init__(self, wire: Wire, **metadata: str) -> None:
        converse: Any = wire.audio.Converse
        self.stream = converse(metadata=tuple(metadata.items()))

    async def open(self, call_id: str = "one", **config: Any) -> pb.ConverseStarted:
        settings = {"sample_rate_hz": 8000, **config}
        await self.stream.write(Request(config=pb.ConverseConfig(call_id=call_id, **settings)))
        return (await self.next("started")).started

    async def say(self, pcm: bytes, mark: str = "") -> None:
        await self.stream.write(Request(audio=pcm))
        if mark:
            await self.stream.write(Request(mark=pb.SetMark(name=mark)))

    async def next(self, *kinds: str) -> pb.ConverseResponse:
        """The next response of these kinds; others are passed over."""
        async with asyncio.timeout(20):
            while True:
                response = await self.stream.read()
                assert isinstance(response, pb.ConverseResponse), await self.stream.code()
                if response.WhichOneof("response") in kinds:
                    return response

    async def finish(self) -> None:
        await self.stream.done_writing()


async def queued(call: FakeCall, seconds: float) -> None:
    """Waits until so much is queued to be said."""
    await until(lambda: call.speakers and call.speakers[-1].queued_seconds == seconds)


async def test_what_the_far_end_says_is_heard(wire: Wire) -> None:
    call = await wire.connected()
    talk = Talk(wire)
    started = await talk.open()
    assert (started.sample_rate_hz, started.frame_ms, started.max_queue_ms) == (8000, 20, 30_000)
    for value in (5, 6):
        call.tick(value)
    heard = [(await talk.next("audio")).audio for _ in range(2)]
    assert [frame.sequence for frame in heard] == [0, 1]
    assert [frame.pcm_s16le for frame in heard] == [samples(0.02, value) for value in (5, 6)]
    talk.stream.cancel()
    await until(lambda: call.speakers[0].closed)
    assert not call.ears.open


async def test_the_agreed_rate_length_and_sides(wire: Wire) -> None:
    call = await wire.connected()
    talk = Talk(wire)
    started = await talk.open(sample_rate_hz=0, frame_ms=60, hearing=Hearing.BOTH_SIDES, max_queue_ms=500)
    assert (started.sample_rate_hz, started.frame_ms, started.max_queue_ms) == (16000, 60, 500)
    assert call.settings["both"]
    for _ in range(3):
        call.tick(5)
    assert len((await talk.next("audio")).audio.pcm_s16le) == 2 * 960
    talk.stream.cancel()


async def test_a_sentence_is_played_marked_and_the_conversation_ends_with_it(wire: Wire) -> None:
    call = await wire.connected()
    talk = Talk(wire)
    await talk.open()
    await talk.say(samples(0.06), mark="half")
    await talk.say(samples(0.06), mark="whole")
    await talk.finish()
    await queued(call, 0.12)
    spoken = []
    for _ in range(6):
        call.tick()
        spoken.append(call.spoken[0])
    assert np.concatenate(spoken).tobytes() == samples(0.12)
    marks = [(await talk.next("mark")).mark for _ in range(2)]
    assert [(mark.name, mark.cleared, mark.position) for mark in marks] == [("half", False, 480), ("whole", False, 960)]
    ended = (await talk.next("ended")).ended
    assert ended.reason == pb.ConverseEnded.CLIENT_CLOSED
    assert await talk.stream.code() is Code.OK


async def test_barge_in_clears_and_tells_how_much_was_heard(wire: Wire) -> None:
    call = await wire.connected()
    talk = Talk(wire)
    await talk.open()
    await talk.say(samples(10), mark="end")
    await queued(call, 10)
    for _ in range(50):
        call.tick()
    await talk.stream.write(Request(clear=pb.ClearAudio()))
    responses = [await talk.next("cleared", "mark") for _ in range(2)]
    kinds = {response.WhichOneof("response"): response for response in responses}
    assert (kinds["cleared"].cleared.thrown_away_ms, kinds["cleared"].cleared.position) == (9000, 8000)
    assert (kinds["mark"].mark.cleared, kinds["mark"].mark.position) == (True, 8000)
    call.tick()
    assert len(call.spoken[0]) == 40  # what fades out
    call.tick()
    assert len(call.spoken[0]) == 0
    await talk.say(samples(0.1, 7))
    await queued(call, 0.1)
    call.tick()
    assert call.spoken[0].tobytes() == samples(0.02, 7)
    talk.stream.cancel()


async def test_more_than_may_wait_waits_in_the_flow_control(wire: Wire) -> None:
    call = await wire.connected()
    talk = Talk(wire)
    await talk.open(max_queue_ms=100)
    await talk.say(samples(0.3))
    await queued(call, 0.1)
    for _ in range(5):
        call.tick()
    await until(lambda: call.speakers[0].queued_seconds > 0)
    talk.stream.cancel()


async def test_counters_come_each_second(wire: Wire) -> None:
    call = await wire.connected()
    talk = Talk(wire)
    await talk.open(frame_ms=500)
    await talk.say(samples(2))
    await queued(call, 2)
    for _ in range(50):
        call.tick()
    stats = (await talk.next("stats")).stats
    assert (stats.frames_sent, stats.ticks_dropped, stats.underruns) == (2, 0, 0)
    assert (stats.position, stats.queued_ms) == (8000, 1000)
    talk.stream.cancel()


async def test_the_end_of_the_call_ends_it(wire: Wire) -> None:
    call = await wire.connected()
    talk = Talk(wire)
    await talk.open()
    await talk.say(samples(1), mark="never")
    await until(lambda: call.speakers and call.speakers[0].speech._marks)
    call.hang_up_by_far_end()
    assert (await talk.next("mark")).mark.cleared
    assert (await talk.next("ended")).ended.reason == pb.ConverseEnded.CALL_ENDED
    assert await talk.stream.code() is Code.OK


async def test_a_client_that_does_not_read_is_let_go(wire: Wire) -> None:
    call = await wire.connected()
    talk = Talk(wire)
    await talk.open()
    speaker = call.speakers[0]
    for _ in range(400):
        call.tick()  # in one go: nobody could have read it
    assert speaker.stalled
    assert (await talk.next("ended")).ended.reason == pb.ConverseEnded.STALLED


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"sample_rate_hz": 44100}, "config.sample_rate_hz"),
        ({"frame_ms": 30}, "config.frame_ms"),
        ({"frame_ms": 520}, "config.frame_ms"),
        ({"max_queue_ms": 50}, "config.max_queue_ms"),
        ({"hearing": 9}, "config.hearing"),
        ({"call_id": ""}, "call_id"),
    ],
)
async def test_a_wrong_config_names_its_field(wire: Wire, config: dict[str, Any], field: str) -> None:
    await wire.connected()
    refusal = await refused(Talk(wire).open(**config))
    assert (refusal.code, refusal.reason) == (Code.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert list(refusal.violations) == [field]


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (Request(audio=b"odd"), "audio"),
        (Request(config=pb.ConverseConfig()), "config"),
        (Request(mark=pb.SetMark(name="x" * 129)), "mark.name"),
    ],
)
async def test_a_wrong_request_names_its_field(wire: Wire, request_: pb.ConverseRequest, field: str) -> None:
    call = await wire.connected()
    talk = Talk(wire)
    await talk.open()
    await talk.stream.write(request_)
    refusal = await refused(talk.next("ended"))
    assert refusal.code is Code.INVALID_ARGUMENT
    assert list(refusal.violations) == [field]
    assert call.speakers[0].closed


async def test_too_many_marks(wire: Wire) -> None:
    await wire.connected()
    talk = Talk(wire)
    await talk.open()
    await talk.say(samples(1))
    for _ in range(MAX_MARKS + 1):
        await talk.stream.write(Request(mark=pb.SetMark()))
    assert list((await refused(talk.next("ended"))).violations) == ["mark"]


async def test_what_is_refused(wire: Wire) -> None:
    await wire.connected()
    assert (await refused(Talk(wire).open("other"))).reason == "CALL_NOT_FOUND"
    talk = Talk(wire)
    await talk.say(samples(1))
    assert list((await refused(talk.next("started"))).violations) == ["config"]
    held = [Talk(wire), Talk(wire)]  # a stream that nobody holds is cancelled
    for one in held:
        await one.open()
    refusal = await refused(Talk(wire).open())
    assert (refusal.code, refusal.reason) == (Code.RESOURCE_EXHAUSTED, "AUDIO_STREAM_LIMIT")
    for one in held:
        one.stream.cancel()


async def test_a_call_that_rings_is_not_heard(wire: Wire) -> None:
    _, call_id = await wire.ringing()
    refusal = await refused(Talk(wire).open(call_id))
    assert (refusal.code, refusal.reason) == (Code.FAILED_PRECONDITION, "NO_ONGOING_CALL")
    recording = await refused(wire.audio.StartRecording(pb.StartRecordingRequest(call_id=call_id)))
    assert recording.reason == "NO_ONGOING_CALL"


async def test_the_token_is_asked_for(tmp_path: Path) -> None:
    async with open_wire(Bench(control_token="secret"), recordings=tmp_path) as wire:
        call = await wire.connected()
        assert (await refused(Talk(wire).open())).code is Code.UNAUTHENTICATED
        name = "x-ondewo-sip-call-control-token"
        request = pb.StartRecordingRequest(call_id="one")
        assert (await refused(wire.audio.StartRecording(request))).code is Code.UNAUTHENTICATED
        talk = Talk(wire, **{name: "secret"})
        await talk.open()
        talk.stream.cancel()
        assert (await wire.audio.StartRecording(request, metadata=((name, "secret"),))).call_id == "one"
        call.hang_up_by_far_end()


# ---- recordings ------------------------------------------------------------------------------------------------------


async def test_a_call_is_recorded_paused_and_stopped(wire: Wire, tmp_path: Path) -> None:
    call = await wire.connected()
    begun = await wire.audio.StartRecording(pb.StartRecordingRequest(call_id="one", file_name="x.wav"))
    assert (begun.recording_id, begun.call_id, begun.file_name, begun.ended) == ("x.wav", "one", "x.wav", False)
    call.tick(1)
    paused = await wire.audio.PauseRecording(pb.PauseRecordingRequest(recording_id="x.wav", paused=True))
    assert (paused.paused, paused.seconds) == (True, 0.02)
    call.tick(2)
    assert not (await wire.audio.PauseRecording(pb.PauseRecordingRequest(recording_id="x.wav"))).paused
    call.tick(3)
    for _ in range(2):
        stopped = await wire.audio.StopRecording(pb.StopRecordingRequest(recording_id="x.wav"))
        assert (stopped.ended, stopped.seconds, stopped.error) == (True, 0.06, "")
    recorded, rate = soundfile.read(tmp_path / "x.wav", dtype="int16")
    assert rate == 8000
    assert recorded[::160].tolist() == [[1, 0], [0, 0], [3, 0]]


async def test_mono_and_a_name_made_by_the_server(wire: Wire, tmp_path: Path) -> None:
    call = await wire.connected("../../etc/passwd")
    begun = await wire.audio.StartRecording(pb.StartRecordingRequest(call_id="../../etc/passwd", mono=True))
    call.tick(1)
    call.hang_up_by_far_end()
    await until(lambda: not wire.bench.registration.calls or call.ended)
    assert begun.file_name.startswith("etc_passwd-")
    assert (tmp_path / begun.file_name).parent == tmp_path
    assert soundfile.info(tmp_path / begun.file_name).channels == 1


@pytest.mark.parametrize(
    "name",
    ["../x.wav", "/tmp/x.wav", "a/b.wav", "..", ".x.wav", "x.mp3", "x.wav\n", "x\0.wav", "é.wav", "a" * 130 + ".wav"],
)
async def test_no_name_leads_out_of_the_folder(wire: Wire, tmp_path: Path, name: str) -> None:
    await wire.connected()
    refusal = await refused(wire.audio.StartRecording(pb.StartRecordingRequest(call_id="one", file_name=name)))
    assert refusal.code is Code.INVALID_ARGUMENT
    assert list(refusal.violations) == ["file_name"]
    assert not list(tmp_path.iterdir())


async def test_a_file_that_is_there_is_left_alone(wire: Wire, tmp_path: Path) -> None:
    await wire.connected()
    (tmp_path / "target.txt").write_text("precious")
    (tmp_path / "x.wav").symlink_to(tmp_path / "target.txt")
    request = pb.StartRecordingRequest(call_id="one", file_name="x.wav")
    refusal = await refused(wire.audio.StartRecording(request))
    assert (refusal.code, refusal.reason) == (Code.ALREADY_EXISTS, "RECORDING_EXISTS")
    assert (tmp_path / "target.txt").read_text() == "precious"


async def test_a_folder_that_is_gone_and_no_folder(wire: Wire, tmp_path: Path) -> None:
    await wire.connected()
    tmp_path.rmdir()
    request = pb.StartRecordingRequest(call_id="one")
    assert (await refused(wire.audio.StartRecording(request))).reason == "RECORDING_NOT_WRITABLE"
    tmp_path.mkdir()
    assert (await wire.sip.SipGetSipStatus(Empty())).call_id == "one"
    async with open_wire(Bench()) as other:
        await other.connected()
        refusal = await refused(other.audio.StartRecording(request))
        assert (refusal.code, refusal.reason) == (Code.FAILED_PRECONDITION, "RECORDINGS_DISABLED")


async def test_recordings_are_bounded_and_known_while_the_call_lasts(wire: Wire) -> None:
    call = await wire.connected()
    for number in range(16):
        await wire.audio.StartRecording(pb.StartRecordingRequest(call_id="one", file_name=f"{number}.wav"))
    refusal = await refused(wire.audio.StartRecording(pb.StartRecordingRequest(call_id="one")))
    assert (refusal.code, refusal.reason) == (Code.RESOURCE_EXHAUSTED, "RECORDING_LIMIT")
    call.hang_up_by_far_end()
    stop = pb.StopRecordingRequest(recording_id="1.wav")
    await until(lambda: wire.bench.types()[-1] == "OUTGOING_CALL_FINISHED")
    assert (await refused(wire.audio.StopRecording(stop))).reason == "RECORDING_NOT_FOUND"


async def test_a_disk_that_fails_is_told(wire: Wire) -> None:
    call = await wire.connected()
    await wire.audio.StartRecording(pb.StartRecordingRequest(call_id="one", file_name="x.wav"))
    (recording,) = call.ears.takers
    recording._give_up(OSError(28, "No space left on device"))  # type: ignore[attr-defined]
    stopped = await wire.audio.StopRecording(pb.StopRecordingRequest(recording_id="x.wav"))
    assert stopped.ended
    assert "No space left" in stopped.error
