"""A fifth of all datagrams lost each way, some doubled, some late: calls are set up, talk and end, and nothing is left.

Over real sockets the timers are a fifth of RFC 3261's (T1 = 100 ms), so that 200 calls fit into a test; in virtual time
they are the real ones.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass

import numpy as np
import pytest

from rtp.ports import PortPool
from sipcore.call import Call
from sipcore.config import Account, Timers, UserAgentConfig
from sipcore.events import DtmfReceived, EndCause, Party
from sipcore.protocol.session_events import SessionEstablished
from sipcore.registration import Registration
from sipcore.useragent import UserAgent
from tests.flows.scene import Scene
from tests.interop.kit.process import eventually
from tests.kit.lossy_relay import LossyRelay, Side
from tests.kit.network import Conditions

LEFT, RIGHT = Side("127.0.0.1", "127.0.0.11"), Side("127.0.0.2", "127.0.0.12")
BAD = Conditions(delay=(0.0, 0.02), loss=0.2, duplication=0.1)
"""Delays of up to one frame of audio, chosen anew for each datagram: neighbours overtake each other."""
FAST = Timers(t1=0.1, t2=0.8, t4=1.0, d=6.4)
CALLS = 200
AT_ONCE = 25
TALK = 0.5
"""Seconds."""
ABSORBING = 64 * FAST.t1 + FAST.t4
"""Seconds for which finished transactions answer retransmissions (RFC 3261 §17, RFC 6026)."""
QUARANTINE = 3.0
"""Longer than a busy machine holds a packet back: one of an earlier call would be heard in the next on its port."""
PAIRS = 8 * AT_ONCE
"""Of RTP ports: those in use, and those that rest."""
HEARD = 10
"""Packets of the other side that each waits for before the call may end."""


def free_range(pairs: int) -> tuple[int, int]:
    """RTP ports that are free on both agents' hosts and on the relay's."""
    candidates = range(20000, 30000, 2 * pairs)
    for low in random.Random().sample(candidates, len(candidates)):
        ports = range(low, low + 2 * pairs)
        try:
            with ExitStack() as opened:
                for host in (LEFT.host, RIGHT.host, LEFT.advertised, RIGHT.advertised):
                    for port in ports:
                        opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)).bind((host, port))
        except OSError:
            continue
        return ports[0], ports[-1]
    raise AssertionError("no free range of ports")


@dataclass
class Pair:
    """Two agents that see each other through the relay only."""

    here: UserAgent
    there: UserAgent
    alice: Registration
    bob: Registration
    relay: LossyRelay
    ports: tuple[int, int]


@asynccontextmanager
async def pair() -> AsyncIterator[Pair]:
    """Checks afterwards that nothing is left of any call, on either side, before the agents are closed."""
    ports = free_range(PAIRS)
    here, there = (
        UserAgent(
            UserAgentConfig(
                sip_host=side.host,
                advertise=side.advertised,
                rtp_ports=ports,
                rtp_port_quarantine=QUARANTINE,
                timers=FAST,
            ),
            rng=random.Random(number),
        )
        for number, side in enumerate((LEFT, RIGHT))
    )
    async with here, there:
        relayed = {here.sip_address[1], there.sip_address[1], *range(ports[0], ports[1] + 1)}
        alice = here.open_line(Account(f"alice@{LEFT.advertised}:{here.sip_address[1]}"))
        bob = there.open_line(Account(f"bob@{RIGHT.advertised}:{there.sip_address[1]}"))
        before = asyncio.all_tasks()
        with LossyRelay(LEFT, RIGHT, relayed, BAD, seed=7) as relay:
            yield Pair(here, there, alice, bob, relay, ports)
            await asyncio.sleep(ABSORBING)
        assert asyncio.all_tasks() <= before
        for agent, line in ((here, alice), (there, bob)):
            assert agent.stack.idle
            assert agent.calls == line.calls == ()
            assert agent.media.statistics().streams == 0
    for host in (LEFT.host, RIGHT.host):
        # Every pair can be bound at once: no socket of any call is open.
        pool = PortPool(*ports, random.Random(1))
        held = [pool.open(host) for _ in range(PAIRS)]
        for each in held:
            each.close()


async def answer_all(bob: Registration, calls: dict[str, Call]) -> None:
    """Answers whatever rings, by Call-ID."""
    async with asyncio.TaskGroup() as answering:
        async for call in bob.incoming():
            calls[call.call_id] = call
            answering.create_task(call.answer())


async def converse(scene: Pair, number: int, answered: dict[str, Call]) -> None:
    """One call: audio both ways, a key from the caller; the caller and the callee hang up in turn."""
    call = await scene.alice.call(scene.bob.address.text)
    far = answered[call.call_id]
    await far.connected()
    tone = (8000 * np.sin(np.arange(round(8000 * TALK)) / 5)).astype(np.int16)
    playing = (call.play(tone), far.play(tone))
    await call.send_dtmf("5")
    for each in playing:
        assert (await each).completed
    for side in (call, far):
        await eventually(lambda side=side: side.statistics().packets_received >= HEARD, timeout=10, what="audio")  # type: ignore[misc]
    ending, other = (call, far) if number % 2 else (far, call)
    assert (await ending.hangup()).by is Party.LOCAL
    assert (await other.wait_ended()).by is Party.REMOTE
    digits = [event.digit async for event in far.events() if isinstance(event, DtmfReceived)]
    assert digits == ["5"]


@pytest.mark.long
async def test_200_calls_in_a_row_with_a_fifth_of_all_datagrams_lost() -> None:
    """RFC 3261 §17, §13.3.1.4: signalling is retransmitted until it is through; RTP is not, and does without."""
    async with pair() as scene:
        answered: dict[str, Call] = {}
        answering = asyncio.create_task(answer_all(scene.bob, answered))

        async def caller(first: int) -> None:
            for number in range(first, CALLS, AT_ONCE):
                await converse(scene, number, answered)

        try:
            async with asyncio.timeout(60), asyncio.TaskGroup() as callers:
                for first in range(AT_ONCE):
                    callers.create_task(caller(first))
        finally:
            answering.cancel()
            await asyncio.wait({answering})
        assert len(answered) == CALLS
        assert all(call.ended is not None for call in answered.values())
        for tally in scene.relay.tallies.values():
            assert tally.received > 20 * CALLS
            assert 0.15 < tally.lost / tally.received < 0.25
            assert tally.doubled > CALLS
            assert tally.overtaken > CALLS


@pytest.mark.long
@pytest.mark.parametrize("seed", range(6))
def test_200_calls_with_the_timers_of_the_standard(seed: int) -> None:
    """RFC 3261 table 4, in virtual time: T1 = 500 ms. Each is up on both sides, then over on both, whoever hangs up."""
    scene = Scene(seed=seed, conditions=Conditions(delay=(0.01, 0.4), loss=0.2, duplication=0.1))
    for number in range(1, CALLS + 1):
        here = scene.alice.call("sip:bob@192.0.2.2")
        there = scene.bob.await_call(number)
        scene.answer_and_settle(there)
        ending, session = (scene.alice, here) if number % 2 else (scene.bob, there)
        ending.hang_up(session)
        for phone, side in ((scene.alice, here), (scene.bob, there)):
            assert phone.end_of(side).cause is EndCause.HANGUP
            assert len(phone.happened(side, SessionEstablished)) == 1
    sent = scene.network.packets
    assert 0.15 < sum(not packet.arrivals for packet in sent) / len(sent) < 0.25
    scene.settle()
