"""Packets of other lengths than 20 ms, with baresip, which asks for them (RFC 8866 §6.4)."""

from __future__ import annotations

from pathlib import Path

import pytest

from sipcore.call import Call
from sipcore.config import CallPolicy
from tests.interop.kit.agent import agent
from tests.interop.kit.align import is_heard
from tests.interop.kit.peers import Peers
from tests.interop.kit.ports import HOST
from tests.interop.kit.sound import RATE, Pcm, read_wav, speech_like, write_wav

pytestmark = pytest.mark.interop


async def converse(call: Call, folder: Path, said: Pcm, ptime: int) -> Path:
    """Plays what is said in packets of ``ptime`` ms, and records the far end meanwhile."""
    recording = call.record(folder / "heard.wav")
    before = call.statistics()
    await call.play(said)
    after = call.statistics()
    packets, least = after.packets_sent - before.packets_sent, len(said) * 1000 / RATE / ptime
    # A loop that is held up sends later, and no more; half a second of silence about what plays is a lot.
    assert least - 2 <= packets <= least + 500 / ptime
    assert after.packets_received > before.packets_received
    assert after.malformed == 0
    await call.hangup()
    await recording.wait_closed()
    return folder / "heard.wav"


@pytest.mark.parametrize("ptime", [30, 60])
async def test_both_sides_send_the_packets_that_they_agree_on(peers: Peers, tmp_path: Path, ptime: int) -> None:
    """Our offer asks for them, and so does its answer."""
    said, heard = speech_like(1.0, seed=81), speech_like(20.0, seed=82)
    telephone = await peers.baresip("bob", HOST, ptime=ptime, source=write_wav(tmp_path / "voice.wav", heard))
    async with agent(calls=CallPolicy(ptime=ptime)) as bot:
        await converse(await bot.line.call(telephone.uri), tmp_path, said, ptime)
    await telephone.event("CALL_CLOSED")
    assert is_heard(read_wav(await telephone.recording()), said)


async def test_a_caller_that_asks_for_other_packets_gets_them(peers: Peers, tmp_path: Path) -> None:
    """Its offer says so."""
    said, heard = speech_like(1.0, seed=83), speech_like(20.0, seed=84)
    telephone = await peers.baresip("bob", HOST, ptime=40, source=write_wav(tmp_path / "voice.wav", heard))
    async with agent() as bot:
        calls = bot.line.incoming()
        await telephone.dial(f"sip:bot@{bot.address}")
        call = await anext(calls)
        await call.answer()
        await converse(call, tmp_path, said, 40)
    await telephone.event("CALL_CLOSED")
    assert is_heard(read_wav(await telephone.recording()), said)
