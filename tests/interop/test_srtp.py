"""SRTP with baresip, which has libsrtp's algorithms from a code base of its own (libre)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import pytest

from sipcore.call import Call
from sipcore.config import Account, CallPolicy, UserAgentConfig
from sipcore.errors import MediaNotAcceptable
from sipcore.registration import Registration
from sipcore.useragent import UserAgent
from tests.interop.kit.align import align
from tests.interop.kit.line import open_line
from tests.interop.kit.peers import Peers
from tests.interop.kit.ports import HOST, free_ports
from tests.interop.kit.process import eventually
from tests.interop.kit.sound import RATE, Pcm, read_wav, speech_like, wav_bytes, write_wav
from tests.interop.kit.voicebot import kind

pytest.importorskip("pylibsrtp")
pytestmark = pytest.mark.interop

Use = Literal["forbidden", "optional", "required"]


@asynccontextmanager
async def bot(use: Use) -> AsyncIterator[tuple[Registration, str]]:
    """A user agent of the library with one account, and its address."""
    first = free_ports(20)
    async with UserAgent(UserAgentConfig(sip_host=HOST, rtp_ports=(first, first + 19))) as agent:
        line = agent.open_line(Account(f"sip:bot@{HOST}", calls=CallPolicy(srtp=use)))
        yield line, f"sip:bot@{HOST}:{agent.sip_address[1]}"


def is_heard(recording: Pcm, played: Pcm) -> bool:
    """Whether most tenths of a second of ``played`` stand in the recording: a loaded machine may lose a frame."""
    pieces = [played[start : start + RATE // 10] for start in range(0, len(played) - RATE // 10, RATE // 10)]
    found = [align(recording, piece).correlation > 0.9 for piece in pieces]
    return sum(found) > len(found) / 2


async def converse(call: Call, folder: Path, said: Pcm) -> Path:
    """Plays what is said, and records the far end meanwhile, which reports once."""
    recording = call.record(folder / "heard.wav")
    await call.play(said)
    assert call.srtp
    statistics = call.statistics()
    assert statistics.srtp == call.srtp
    # To open its NAT, baresip sends an RTCP packet in the clear.
    assert statistics.unauthenticated <= 2
    assert statistics.replayed == statistics.malformed == 0
    assert statistics.packets_received > 20
    await call.hangup()
    await recording.wait_closed()
    return folder / "heard.wav"


@pytest.mark.parametrize(("use", "theirs"), [("required", "srtp-mand"), ("optional", "srtp")])
async def test_both_sides_hear_each_other_when_we_call(
    peers: Peers, tmp_path: Path, use: Use, theirs: Literal["srtp", "srtp-mand"]
) -> None:
    """RFC 4568, and RFC 8643 where neither side insists."""
    said, heard = speech_like(1.0, seed=71), speech_like(20.0, seed=72)
    source = write_wav(tmp_path / "voice.wav", heard)
    telephone = await peers.baresip("bob", HOST, srtp=theirs, source=source)
    async with bot(use) as (line, _):
        recorded = await converse(await line.call(telephone.uri), tmp_path, said)
    await telephone.event("CALL_CLOSED")
    assert is_heard(read_wav(await telephone.recording()), said)
    assert is_heard(heard, read_wav(recorded)[RATE // 4 :])


@pytest.mark.parametrize(("use", "theirs"), [("required", "srtp-mand"), ("optional", "srtp")])
async def test_both_sides_hear_each_other_when_we_are_called(
    peers: Peers, tmp_path: Path, use: Use, theirs: Literal["srtp", "srtp-mand"]
) -> None:
    said, heard = speech_like(1.0, seed=73), speech_like(20.0, seed=74)
    source = write_wav(tmp_path / "voice.wav", heard)
    telephone = await peers.baresip("bob", HOST, srtp=theirs, source=source)
    async with bot(use) as (line, address):
        calls = line.incoming()
        await telephone.dial(address)
        call = await anext(calls)
        await call.answer()
        recorded = await converse(call, tmp_path, said)
    await telephone.event("CALL_CLOSED")
    assert is_heard(read_wav(await telephone.recording()), said)
    assert is_heard(heard, read_wav(recorded)[RATE // 4 :])


async def test_reports_are_encrypted_too(peers: Peers) -> None:
    """SRTCP (RFC 3711 §3.4): its report answers one of ours."""
    telephone = await peers.baresip("bob", HOST, srtp="srtp-mand")
    async with bot("required") as (line, _), await line.call(telephone.uri) as call:
        await eventually(lambda: call.statistics().round_trip_ms is not None, timeout=20, what="a round trip")
        assert call.statistics().malformed == 0


async def test_a_hold_and_a_resume_change_no_key(peers: Peers) -> None:
    telephone = await peers.baresip("bob", HOST, srtp="srtp-mand")
    async with bot("required") as (line, _), await line.call(telephone.uri) as call:
        await eventually(lambda: call.statistics().packets_received > 5, timeout=5, what="audio")
        await call.hold()
        await call.resume()
        before = call.statistics().packets_received
        await eventually(lambda: call.statistics().packets_received > before + 5, timeout=5, what="audio again")
        assert call.statistics().unauthenticated <= 2
        assert call.statistics().replayed == 0


async def test_who_only_may_encrypt_talks_in_the_clear_with_who_cannot(peers: Peers) -> None:
    """RFC 8643 §3.1: an ordinary offer for who knows nothing of SRTP."""
    telephone = await peers.baresip("bob", HOST)
    async with bot("optional") as (line, _), await line.call(telephone.uri) as call:
        assert call.srtp == ""
        await eventually(lambda: call.statistics().packets_received > 5, timeout=5, what="audio")
        assert call.statistics().malformed == call.statistics().unauthenticated == 0


@pytest.mark.parametrize(("use", "theirs"), [("forbidden", "srtp-mand"), ("required", ""), ("optional", "srtp-mand")])
async def test_who_insists_and_who_refuses_do_not_meet(
    peers: Peers, use: Use, theirs: Literal["", "srtp-mand"]
) -> None:
    """Nor does baresip, where it insists, take keys in RTP/AVP: then ours has to insist, too."""
    telephone = await peers.baresip("bob", HOST, srtp=theirs)
    async with bot(use) as (line, _):
        with pytest.raises(MediaNotAcceptable) as refused:
            await line.call(telephone.uri)
        assert refused.value.code == 488


async def test_a_call_without_srtp_is_refused_where_it_is_required(peers: Peers) -> None:
    telephone = await peers.baresip("bob", HOST)
    async with bot("required") as (_, address):
        await telephone.dial(address)
        closed = await telephone.event("CALL_CLOSED")
        assert "488" in str(closed["param"])


async def test_the_server_encrypts_where_its_settings_say_so(peers: Peers, tmp_path: Path) -> None:
    """``--srtp``: an account that a client registers, through a proxy, with wav files played."""
    said = speech_like(1.0, seed=75)
    line = await open_line(peers, arguments=("--srtp", "required"))
    plain = await peers.baresip("carol", line.kamailio)
    refused = await line.bot.call(line.callee("carol"))
    assert (kind(refused), refused.sip_response_code) == ("OUTGOING_CALL_FAILED", 488)
    assert not plain.of_type("CALL_ESTABLISHED")
    telephone = await peers.baresip("bob", line.kamailio, srtp="srtp-mand")
    connected = await line.bot.call(line.callee("bob"))
    assert kind(connected) == "OUTGOING_CALL_CONNECTED", connected.description
    await line.bot.play(wav_bytes(said, tmp_path))
    await line.bot.end_call()
    await telephone.event("CALL_CLOSED")
    assert is_heard(read_wav(await telephone.recording()), said)
