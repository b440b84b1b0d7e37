"""Complaint 23, "dead air after abnormal hangups": a far end that falls silent ends its call, and all of it.

Audio is expected once the call is up and while nobody holds it. Anything that the far end sends is a sign of life.
"""

from __future__ import annotations

import asyncio
import random
import socket

import numpy as np
import pytest

from rtp.engine import MediaEngine
from sipcore.call import Call
from sipcore.config import Account, CallPolicy, UserAgentConfig
from sipcore.events import EndCause, Party
from sipcore.useragent import UserAgent
from tests.kit.loop_network import MemoryFlows
from tests.kit.loops import both_loops
from tests.kit.pair import Pair, pair
from tests.kit.virtual_time import virtual_time
from tests.rtp.kit import FarEnd, packet

ALICE, BOB = ("192.0.2.1", 5060), ("192.0.2.2", 5060)


def fall_silent(scene: Pair, *, since: float | None = None) -> None:
    """Bob sends nothing from now on, or since then."""
    scene.alice_media.streams[0].silent_since = asyncio.get_running_loop().time() if since is None else since


@virtual_time
async def test_a_far_end_that_falls_silent_ends_its_call() -> None:
    """After a minute, at once, with BYE and its reason for a far end that only its audio has left."""
    async with pair() as scene:
        here, there = await scene.connect()
        loop = asyncio.get_running_loop()
        await asyncio.sleep(300)
        assert here.is_connected
        fall_silent(scene)
        before = loop.time()
        ended = await here.wait_ended()
        assert 60 <= loop.time() - before <= 62
        assert (ended.cause, ended.by) == (EndCause.SILENCE, Party.NETWORK)
        assert ended.description == "no RTP from the far end for 60 s"
        assert scene.alice_media.open_streams == 0
        assert scene.alice.calls == ()
        other = await there.wait_ended()
        assert other.by is Party.REMOTE
        assert other.reason == ended.reason


@virtual_time
async def test_a_far_end_that_never_sent_anything_is_silent_from_the_answer_on() -> None:
    """However long it rang."""
    async with pair() as scene:
        loop = asyncio.get_running_loop()
        call = scene.here.place("sip:bob@192.0.2.2", timeout=300)
        fall_silent(scene, since=0.0)
        await asyncio.sleep(200)
        assert call.ended is None
        answering = asyncio.create_task(scene.answer())
        await call.connected()
        answered = loop.time()
        assert (await call.wait_ended()).cause is EndCause.SILENCE
        assert 60 <= loop.time() - answered <= 62
        await (await answering).wait_ended()


@pytest.mark.parametrize("holder", ["here", "there"])
@virtual_time
async def test_nothing_is_expected_on_hold(holder: str) -> None:
    """Whichever side holds (RFC 3264 §8.4); from the resumption on it is again."""
    async with pair() as scene:
        here, there = await scene.connect()
        holding = here if holder == "here" else there
        await holding.hold()
        fall_silent(scene)
        await asyncio.sleep(600)
        assert here.is_connected
        await holding.resume()
        await asyncio.sleep(50)
        assert here.is_connected
        await asyncio.sleep(15)
        assert here.ended is not None
        assert here.ended.cause is EndCause.SILENCE


@pytest.mark.parametrize("holder", ["here", "there"])
@pytest.mark.parametrize("fate", ["forgot", "silent", "gone"])
@virtual_time
async def test_a_far_end_that_vanishes_while_on_hold_is_found_out(holder: str, fate: str) -> None:
    """RFC 3261 §12.2.1.2: it knows the call no more, says nothing, or its port is closed; without session timers."""
    async with pair(calls=CallPolicy(session_expires=0)) as scene:
        here, there = await scene.connect()
        await (here if holder == "here" else there).hold()
        fall_silent(scene)
        await asyncio.sleep(1000)
        assert here.is_connected, "as long as it answers"
        asked = [each for each in scene.network.packets if each.start_line.startswith("OPTIONS")]
        assert len(asked) == 3, "once in five minutes"
        hosts = scene.network.hosts
        near, far = hosts[ALICE], hosts[BOB]
        if fate == "forgot":
            hosts[ALICE] = deaf(scene, ALICE)
            await there.hangup()
            hosts[ALICE] = near
        elif fate == "silent":
            hosts[BOB] = deaf(scene, BOB)
        else:
            del hosts[BOB]
        ended = await here.wait_ended()
        assert ended.cause is (EndCause.HANGUP if fate == "forgot" else EndCause.TIMEOUT), ended
        assert (ended.code, scene.alice.calls) == (481 if fate == "forgot" else 408, ())
        hosts[BOB] = far
        await there.hangup()


def deaf(scene: Pair, address: tuple[str, int]) -> MemoryFlows:
    """A host that hears everything and says nothing."""
    return MemoryFlows(scene.network, address, lambda data, flow: None, lambda flow, why: None)


@virtual_time
async def test_a_far_end_whose_port_is_closed_is_given_less_time() -> None:
    """Its host says so for ten seconds, and nothing comes from it (ICMP, RFC 1122 §4.1.3.3)."""
    async with pair() as scene:
        here, there = await scene.connect()
        loop = asyncio.get_running_loop()
        stream = scene.alice_media.streams[0]
        stream.refused_since = loop.time()
        await asyncio.sleep(100)
        assert here.is_connected, "who is heard may close the port that he does not listen at"
        stream.refused_since = before = loop.time()
        fall_silent(scene)
        ended = await here.wait_ended()
        assert 10 <= loop.time() - before <= 12
        assert (ended.cause, ended.by) == (EndCause.SILENCE, Party.NETWORK)
        assert ended.description == "no RTP from the far end for 10 s, and its port is closed"
        assert (await there.wait_ended()).reason == ended.reason


@virtual_time
async def test_a_port_that_is_closed_for_a_moment_or_on_hold_ends_nothing() -> None:
    """The clock of a refusal begins when audio is expected, not before."""
    async with pair() as scene:
        here, there = await scene.connect()
        loop = asyncio.get_running_loop()
        stream = scene.alice_media.streams[0]
        fall_silent(scene)
        stream.refused_since = loop.time()
        await asyncio.sleep(8)
        stream.refused_since = None
        await asyncio.sleep(30)
        assert here.is_connected
        await there.hold()
        stream.refused_since = loop.time()
        await asyncio.sleep(600)
        assert here.is_connected
        await there.resume()
        await asyncio.sleep(8)
        assert here.is_connected
        stream.refused_since = stream.silent_since = None


@both_loops
async def test_over_real_sockets_nothing_is_left() -> None:
    """Both agents talk; then the far one's ports close while its signalling lives, which ICMP tells at once."""
    quick = UserAgentConfig(sip_host="127.0.0.1", rtp_timeout=1.5)
    never = UserAgentConfig(sip_host="127.0.0.1", rtp_timeout=0)
    async with UserAgent(quick) as alice, UserAgent(never) as bob:
        here = alice.open_line(Account(f"alice@127.0.0.1:{alice.sip_address[1]}"))
        there = bob.open_line(Account(f"bob@127.0.0.1:{bob.sip_address[1]}"))
        answering: asyncio.Task[Call] = asyncio.create_task(first_call(there.incoming()))
        call = await here.call(there.address.text)
        far = await answering
        await asyncio.sleep(1.8)
        assert call.is_connected, "audio of the far end, if only silence, is life"
        await bob.media.close()
        ended = await call.wait_ended()
        assert ended.cause is EndCause.SILENCE
        assert ended.description == "no RTP from the far end for 0.25 s, and its port is closed"
        assert (await far.wait_ended()).by is Party.REMOTE
        assert alice.media.statistics().streams == 0


async def first_call(calls: object) -> Call:
    async for call in calls:  # type: ignore[attr-defined]  # an async iterator of calls
        await call.answer()
        assert isinstance(call, Call)
        return call
    raise AssertionError("no call came")


@pytest.mark.parametrize("sign", ["audio", "unknown payload type", "rtcp"])
@both_loops
async def test_all_that_the_far_end_sends_is_a_sign_of_life(sign: str) -> None:
    """Comfort noise that was not agreed on (RFC 3389), anything else with its address, and RTCP (RFC 3550 §6)."""
    engine = MediaEngine(ports=(20000, 59999), rng=random.Random())
    await engine.start()
    try:
        with FarEnd() as far, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            stream = engine.open_stream("127.0.0.1")
            stream.configure(
                far.address, codec="PCMU", payload_type=0, receive_payload_types={0: "PCMU"}, rtcp=("127.0.0.1", 9)
            )
            await asyncio.sleep(0.3)
            before = stream.seconds_since_life()
            if sign == "rtcp":
                control.sendto(b"\x80\xc9\x00\x01\x00\x00\x00\x01", ("127.0.0.1", stream.local_port + 1))
            else:
                kind = 0 if sign == "audio" else 99
                far.send(packet(1, 160, np.zeros(160, np.uint8).tobytes(), payload_type=kind), stream.local_port)
            engine.tick(1, 0.0)
            assert stream.seconds_since_life() < before
    finally:
        await engine.close()
