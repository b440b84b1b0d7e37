"""Programs of others behind a relay that loses a fifth of all datagrams, each way: theirs are other retransmissions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from sipcore.call import Call
from sipcore.config import Account, Timers, UserAgentConfig
from sipcore.events import EndCause, Party
from sipcore.useragent import UserAgent
from tests.interop.kit.kamailio import BOT_SECRET, DOMAIN, KamailioOptions
from tests.interop.kit.peers import Peers
from tests.interop.kit.ports import free_ports
from tests.interop.kit.process import eventually
from tests.interop.kit.scenario import Scenario, answer, pause, receive, receive_invite, reply, request, respond, sdp
from tests.interop.kit.sound import read_wav
from tests.kit.lossy_relay import LossyRelay, Side
from tests.kit.network import Conditions

pytestmark = pytest.mark.interop

THEIRS, OURS = Side("127.0.0.1", "127.0.0.11"), Side("127.0.0.2", "127.0.0.12")
LOSSY = Conditions(delay=(0.002, 0.002), loss=0.2)
FAST = Timers(t1=0.1, t2=0.8, t4=1.0, d=6.4)
"""A fifth of the standard's; the other programs keep to the standard."""
CALLS = 20
_LINGER = '<timewait milliseconds="8000"/>'
"""What comes again is answered again, for longer than 64 T1 of ours."""


def _behind_the_relay(name: str, *steps: str) -> Scenario:
    """Its Contact and SDP say where the relay listens in its stead."""
    told = [step.replace("[local_ip]", THEIRS.advertised).replace("[media_ip]", THEIRS.advertised) for step in steps]
    return Scenario(name, tuple(told))


IS_HUNG_UP_ON = _behind_the_relay(
    "is-hung-up-on",
    receive_invite(),
    respond("180 Ringing"),
    respond("200 OK", body=sdp(), attributes=' retrans="500"'),
    receive("ACK", optional=True),  # lost, for once: the BYE may be here before its next copy
    receive("BYE"),
    reply(),
    _LINGER,
)
HANGS_UP = _behind_the_relay("hangs-up", *answer(), pause(100), request("BYE", 199), receive("200"), _LINGER)


@asynccontextmanager
async def _relayed(their_port: int) -> AsyncIterator[tuple[UserAgent, LossyRelay]]:
    """An agent that sees their port through the relay only."""
    config = UserAgentConfig(sip_host=OURS.host, sip_port=free_ports(), advertise=OURS.advertised, timers=FAST)
    with LossyRelay(THEIRS, OURS, (their_port, config.sip_port), LOSSY, seed=3) as relay:
        async with UserAgent(config) as agent:
            yield agent, relay
    assert sum(tally.lost for tally in relay.tallies.values()) > 5, "else nothing was shown"


@pytest.mark.parametrize("script", [IS_HUNG_UP_ON, HANGS_UP], ids=str)
async def test_calls_with_sipp(peers: Peers, script: Scenario) -> None:
    """RFC 3261 §17, §13.3.1.4: each is set up and ends, by the one side or the other."""
    far_end = await peers.sipp(script, calls=CALLS, strict=False)
    async with _relayed(far_end.port) as (agent, _):
        line = agent.open_line(Account(f"bot@{OURS.advertised}:{agent.sip_address[1]}"))

        async def converse() -> None:
            call = await line.call(f"sip:service@{THEIRS.advertised}:{far_end.port}")
            ended = await (call.hangup() if script is IS_HUNG_UP_ON else call.wait_ended())
            by = Party.LOCAL if script is IS_HUNG_UP_ON else Party.REMOTE
            assert (ended.cause, ended.by) == (EndCause.HANGUP, by), ended.description

        await asyncio.gather(*(converse() for _ in range(CALLS)))
        assert agent.calls == ()
        await far_end.stop()
        assert far_end.received("INVITE") >= CALLS


async def test_registrations_at_kamailio(peers: Peers) -> None:
    """RFC 3261 §10, §22: challenged, granted, and removed again, with whatever is lost sent once more."""
    kamailio = await peers.kamailio(KamailioOptions())
    names = [f"bot{number}" for number in range(CALLS)]
    async with _relayed(kamailio.port) as (agent, _):
        proxy = f"{THEIRS.advertised}:{kamailio.port}"
        lines = await asyncio.gather(
            *(agent.register(Account(f"{name}@{DOMAIN}", BOT_SECRET, outbound_proxy=proxy)) for name in names)
        )
        for name in names:
            (contact,) = await kamailio.contacts(name)
            assert f"@{OURS.advertised}:{agent.sip_address[1]}" in contact["Address"]
        await asyncio.gather(*(line.unregister() for line in lines))
        assert [await kamailio.contacts(name) for name in names] == [[]] * CALLS


UNRELIABLE = Conditions(delay=(0.0, 0.02), loss=0.2, duplication=0.1)
"""Neighbours overtake each other."""
FASTER = Timers(t1=0.05, t2=0.4, t4=0.5, d=3.2)
HERTZ = 440
TONE = (8000 * np.sin(2 * np.pi * HERTZ * np.arange(4000) / 8000)).astype(np.int16)
"""Half a second."""


async def _talk(call: Call) -> None:
    """Each side hears the other, of which the tone will be in baresip's recording."""
    assert (await call.play(TONE)).completed
    await eventually(lambda: call.statistics().packets_received > 10, timeout=10, what="its voice")


def _tone_in(recording: Path) -> float:
    """The share of the tone in the best piece of a recording, of two frames."""
    samples = read_wav(recording).astype(float)
    pieces = samples[: len(samples) // 320 * 320].reshape(-1, 320)
    wave = np.exp(-2j * np.pi * HERTZ * np.arange(320) / 8000)
    power = (pieces**2).sum(axis=1)
    return float((2 * np.abs(pieces @ wave) ** 2 / 320 / np.maximum(power, 1)).max())


async def test_calls_with_baresip_in_both_directions(peers: Peers) -> None:
    """RFC 3261 §17, §13.3.1.4, with audio: who calls hangs up, and nothing is left on either side."""
    media = free_ports(80)  # of each side, and as many for the numbers that the relay tells of baresip's
    masked = Side("127.0.0.1", "127.0.0.3", range(media, media + 20))
    ports = range(media + 40, media + 80)
    telephone = await peers.baresip("bob", masked.host, rtp_ports=(media, media + 20))
    config = UserAgentConfig(
        sip_host=OURS.host,
        sip_port=free_ports(),
        advertise=OURS.advertised,
        rtp_ports=(ports[0], ports[-1]),
        timers=FASTER,
    )
    address = f"{OURS.advertised}:{config.sip_port}"
    with LossyRelay(masked, OURS, (telephone.port, config.sip_port, *ports), UNRELIABLE, seed=5) as relay:
        async with UserAgent(config) as agent:
            line = agent.open_line(Account(f"bot@{address}"))

            async def converse() -> None:
                call = await line.call(f"sip:bob@{masked.advertised}:{telephone.port}")
                await _talk(call)
                ended = await call.hangup()
                assert (ended.cause, ended.by) == (EndCause.HANGUP, Party.LOCAL), ended.description

            await asyncio.gather(*(converse() for _ in range(3)))
            await telephone.event("CALL_CLOSED", count=3)
            calls = line.incoming()
            for number in (4, 5):
                await telephone.dial(f"sip:bot@{address}")
                call = await anext(calls)
                await call.answer()
                await _talk(call)
                await telephone.hangup()
                ended = await call.wait_ended()
                assert (ended.cause, ended.by) == (EndCause.HANGUP, Party.REMOTE), ended.description
                await telephone.event("CALL_CLOSED", count=number)
                assert _tone_in(await telephone.recording()) > 0.8
            await eventually(lambda: agent.stack.idle, timeout=15, what="the last transaction to end")
            assert agent.calls == ()
            assert agent.media.statistics().streams == 0
    for tally in relay.tallies.values():
        assert min(tally.lost, tally.doubled) > 5, "else nothing was shown"
