"""What a call's handle does with live audio and recordings: over real sockets, and as events."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
import soundfile

from service.demo.measure import find
from service.demo.sounds import chime
from sipcore import Account, CallEnded, NoOngoingCall, RecordingFailed, UserAgent, UserAgentConfig
from tests.kit.pair import pair
from tests.kit.virtual_time import virtual_time

LOOPBACK = "127.0.0.1"


async def test_what_is_written_is_heard_recorded_and_marked(tmp_path: Path) -> None:
    async with (
        UserAgent(UserAgentConfig(sip_host=LOOPBACK)) as near,
        UserAgent(UserAgentConfig(sip_host=LOOPBACK)) as far,
    ):
        here = near.open_line(Account(f"alice@{LOOPBACK}:{near.sip_address[1]}"))
        there = far.open_line(Account(f"bob@{LOOPBACK}:{far.sip_address[1]}"))
        calling = asyncio.create_task(here.call(there.account.address, timeout=5))
        other = await anext(aiter(there.incoming()))
        await other.answer()
        call = await calling
        recording = call.record(tmp_path / "both.wav", stereo=True)
        voice = chime()
        async with call.audio() as audio, other.audio(rate=16000) as ears:
            listening = asyncio.create_task(anext(ears))
            await audio.write(voice)
            mark = audio.mark("said")
            await other.play(voice)
            assert await mark
            assert mark.position == audio.position == len(voice)
            assert len(await listening) == 320
            await asyncio.sleep(0.3)
            heard = [await anext(ears) for _ in range(50)]
        await call.hangup()
        with pytest.raises(NoOngoingCall):
            call.talk()
        await recording.wait_closed()
    assert find(np.concatenate(heard)[::2], voice[1600:5600]).similarity > 0.9
    both, rate = soundfile.read(tmp_path / "both.wav", dtype="int16")
    assert rate == 8000
    for side in (0, 1):
        assert find(both[:, side], voice).similarity > 0.95


@virtual_time
async def test_a_recording_that_fails_is_an_event_and_the_call_goes_on(tmp_path: Path) -> None:
    async with pair() as scene:
        call, _ = await scene.connect()
        recording = call.record(tmp_path / "x.wav", stereo=True)
        recording.take(0, np.ones(160, np.int16), None)
        recording._give_up(OSError(28, "No space left on device"))
        await asyncio.sleep(0.1)
        assert call.is_connected
        assert recording.closed
        await call.hangup()
        events = [event async for event in call.events()]
    failed = next(event for event in events if isinstance(event, RecordingFailed))
    assert (failed.path, failed.seconds) == (str(tmp_path / "x.wav"), 0.02)
    assert failed.error.errno == 28
    assert isinstance(events[-1], CallEnded)


@virtual_time
async def test_a_file_that_cannot_be_made_is_told_at_once(tmp_path: Path) -> None:
    async with pair() as scene:
        call, _ = await scene.connect()
        with pytest.raises(OSError, match="No such file"):
            call.record(tmp_path / "nowhere" / "x.wav")
        assert call.is_connected
        await call.hangup()
