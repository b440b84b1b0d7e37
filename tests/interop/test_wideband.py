"""G.722 with baresip, which has it by another hand: both sides hear what no G.711 carries. SIPp changes the codec."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from sipcore import CallState, Samples
from sipcore.call import Call
from sipcore.config import Account, UserAgentConfig
from sipcore.registration import Registration
from sipcore.useragent import UserAgent
from tests.interop import scenarios
from tests.interop.kit.align import align
from tests.interop.kit.peers import Peers
from tests.interop.kit.ports import HOST, free_ports
from tests.interop.kit.sound import Pcm, read_wav, speech_like, write_wav

pytest.importorskip("G722")
pytestmark = pytest.mark.interop

RATE = 16000
HIGHEST = 6500
"""Hz: up to here the signals reach."""


@asynccontextmanager
async def bot(*codecs: str) -> AsyncIterator[tuple[Registration, str]]:
    """A user agent of the library with one account, and its address."""
    first = free_ports(20)
    async with UserAgent(UserAgentConfig(sip_host=HOST, rtp_ports=(first, first + 19))) as agent:
        line = agent.open_line(Account(f"sip:bot@{HOST}", codecs=codecs))
        yield line, f"sip:bot@{HOST}:{agent.sip_address[1]}"


def voice(seconds: float, seed: int) -> Pcm:
    return speech_like(seconds, seed=seed, rate=RATE, highest=HIGHEST)


def high(samples: Pcm) -> Pcm:
    """What lies above 4 kHz."""
    spectrum = np.fft.rfft(samples)
    spectrum[np.fft.rfftfreq(len(samples), 1 / RATE) < 4000] = 0
    return np.asarray(np.fft.irfft(spectrum, len(samples)), np.int16)


def is_heard(recording: Pcm, played: Pcm) -> bool:
    """Whether most tenths of a second of ``played`` stand in the recording, and their upper half as well: a loaded
    machine may lose a frame."""
    starts = range(0, len(played) - RATE // 10, RATE // 10)
    found = []
    for whole, part, least in ((recording, played, 0.9), (high(recording), high(played), 0.85)):
        found += [align(whole, part[start : start + RATE // 10]).correlation > least for start in starts]
    return sum(found) > 0.75 * len(found)


async def converse(call: Call, folder: Path, said: Pcm) -> Path:
    """Plays what is said, and records the far end meanwhile."""
    assert call.sample_rate == RATE
    recording = call.record(folder / "heard.wav")
    await call.play(Samples(said, RATE))
    statistics = call.statistics()
    assert statistics.codec == call.codec
    assert statistics.malformed == 0
    assert statistics.packets_received > 20
    await call.hangup()
    await recording.wait_closed()
    return folder / "heard.wav"


async def test_g722_when_we_call(peers: Peers, tmp_path: Path) -> None:
    said, heard = voice(1.0, 91), voice(20.0, 92)
    source = write_wav(tmp_path / "voice.wav", heard, rate=RATE)
    telephone = await peers.baresip("bob", HOST, codecs="G722/16000/1", source=source)
    async with bot("G722", "PCMU") as (line, _):
        call = await line.call(telephone.uri)
        assert call.codec == "G722"
        recorded = await converse(call, tmp_path, said)
    await telephone.event("CALL_CLOSED")
    assert is_heard(read_wav(await telephone.recording(), RATE), said)
    assert is_heard(heard, read_wav(recorded, RATE)[RATE // 4 :])


async def test_a_far_end_changes_the_codec_in_mid_call(peers: Peers) -> None:
    far_end = await peers.sipp(scenarios.CHANGES_ITS_CODEC)
    async with bot("PCMU", "G722") as (line, _):
        call = await line.call(far_end.uri())
        seen = [(call.codec, call.sample_rate)]
        while call.state is CallState.CONNECTED:
            if (call.codec, call.sample_rate) != seen[-1]:
                seen.append((call.codec, call.sample_rate))
            await asyncio.sleep(0.01)
        assert seen == [("PCMU", 8000), ("G722", RATE), ("PCMU", 8000)]
    await far_end.finished()


async def test_g722_when_we_are_called(peers: Peers, tmp_path: Path) -> None:
    """It prefers G.711 and would take it: the account has G.722 alone."""
    said, heard = voice(1.0, 93), voice(20.0, 94)
    source = write_wav(tmp_path / "voice.wav", heard, rate=RATE)
    telephone = await peers.baresip("bob", HOST, codecs="PCMU/8000/1,G722/16000/1", source=source)
    async with bot("G722") as (line, address):
        calls = line.incoming()
        await telephone.dial(address)
        call = await anext(calls)
        await call.answer()
        assert call.codec == "G722"
        recorded = await converse(call, tmp_path, said)
    await telephone.event("CALL_CLOSED")
    assert is_heard(read_wav(await telephone.recording(), RATE), said)
    assert is_heard(heard, read_wav(recorded, RATE)[RATE // 4 :])
