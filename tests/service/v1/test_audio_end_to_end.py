"""A conversation and a recording through a server process, SIP and RTP, with a telephone at the other end."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from rtp.wav import load_wav
from service.demo.measure import find
from service.demo.sounds import chime
from service.generated.sipcore.v1 import audio_pb2 as pb
from service.generated.sipcore.v1.audio_pb2_grpc import CallAudioStub
from tests.service.far_side import FarSide
from tests.service.program import run_server
from tests.service.v1.test_end_to_end import Scene

pytestmark = pytest.mark.process


async def taken(stream: Any) -> tuple[NDArray[np.int16], pb.RecordingEnded]:
    """What is streamed of a call, int16 (n, 2), and how it ended."""
    pieces: list[bytes] = []
    async for response in stream:
        if response.HasField("chunk"):
            assert response.chunk.position * 4 == sum(map(len, pieces))
            pieces.append(response.chunk.pcm_s16le)
    return np.frombuffer(b"".join(pieces), "<i2").astype(np.int16).reshape(-1, 2), response.ended


async def test_a_program_speaks_hears_is_interrupted_and_the_call_is_recorded(tmp_path: Path) -> None:
    folder = tmp_path / "recordings"
    folder.mkdir()
    voice = chime()
    async with (
        FarSide() as far,
        run_server("--recordings", str(folder)) as server,
        grpc.aio.insecure_channel(server.bound["grpc"]) as channel,
    ):
        scene = Scene(far, channel)
        bob, call_id = await scene.connected()
        heard_by_bob = bob.record(tmp_path / "bob.wav")
        stub: Any = CallAudioStub(channel)
        begun = await stub.StartRecording(pb.StartRecordingRequest(call_id=call_id, file_name="call.wav"))
        taking = asyncio.create_task(taken(stub.StreamRecording(pb.StreamRecordingRequest(call_id=call_id))))
        stream = stub.Converse()
        config = pb.ConverseConfig(call_id=call_id, sample_rate_hz=8000)
        await stream.write(pb.ConverseRequest(config=config))
        await stream.write(pb.ConverseRequest(audio=voice.astype("<i2").tobytes()))
        await stream.write(pb.ConverseRequest(mark=pb.SetMark(name="said")))
        playing = bob.play(voice)
        frames: list[bytes] = []
        marks: list[pb.MarkReached] = []
        cleared: list[pb.AudioCleared] = []
        async with asyncio.timeout(60):
            async for response in stream:
                match response.WhichOneof("response"):
                    case "audio":
                        frames.append(response.audio.pcm_s16le)
                    case "mark":
                        marks.append(response.mark)
                        if response.mark.name == "said":  # then ten seconds of noise, cut off
                            noise = np.random.default_rng(1).integers(-3000, 3000, 80_000).astype("<i2")
                            await stream.write(pb.ConverseRequest(audio=noise.tobytes()))
                            await stream.write(pb.ConverseRequest(mark=pb.SetMark(name="noise")))
                            await stream.write(pb.ConverseRequest(clear=pb.ClearAudio()))
                    case "cleared":
                        cleared.append(response.cleared)
                        await playing
                        await stream.done_writing()
                    case "ended":
                        assert response.ended.reason == pb.ConverseEnded.CLIENT_CLOSED
        assert await stream.code() is grpc.StatusCode.OK
        await asyncio.sleep(0.3)
        stopped = await stub.StopRecording(pb.StopRecordingRequest(recording_id=begun.recording_id))
        await bob.hangup()
        await heard_by_bob.wait_closed()
        streamed, ended = await taking
    assert [(mark.name, mark.cleared) for mark in marks] == [("said", False), ("noise", True)]
    assert marks[0].position == len(voice)
    assert cleared[0].thrown_away_ms > 8000
    heard = np.frombuffer(b"".join(frames), "<i2").astype(np.int16)
    assert find(heard, voice).similarity > 0.95
    assert find(load_wav(tmp_path / "bob.wav"), voice).similarity > 0.95
    both, rate = soundfile.read(folder / "call.wav", dtype="int16")
    assert (rate, len(both)) == (8000, round(stopped.seconds * 8000))
    assert not stopped.error
    assert ended.reason == pb.RecordingEnded.CALL_ENDED
    assert len(streamed) == round(ended.seconds * 8000)
    for recorded in (both, streamed):
        for side in (0, 1):
            assert find(recorded[:, side], voice).similarity > 0.95
