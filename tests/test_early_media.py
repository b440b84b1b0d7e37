"""Early media of ours as an embedder has it: `Call.progress`, in virtual time and heard over real sockets."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from sipcore.call import Call
from sipcore.config import Account, UserAgentConfig
from sipcore.errors import CallCancelled, NoOngoingCall
from sipcore.events import CallRinging, EndCause
from sipcore.registration import Registration
from sipcore.useragent import UserAgent
from tests.kit.loops import both_loops
from tests.kit.pair import Pair, pair
from tests.kit.virtual_time import virtual_time
from tests.rtp.kit import tone


async def ringing(line: Registration) -> Call:
    async for call in line.incoming():
        return call
    raise AssertionError("no call came")


async def placed(scene: Pair) -> tuple[Call, Call]:
    here = scene.here.place("sip:bob@192.0.2.2")
    return here, await ringing(scene.there)


@virtual_time
async def test_what_is_played_before_the_answer_goes_out() -> None:
    """The caller hears that there is early media; the answer changes nothing about what plays."""
    async with pair() as scene:
        here, there = await placed(scene)
        with pytest.raises(NoOngoingCall):
            there.play(tone(8000))
        await there.progress()
        await there.progress()
        await there.play(tone(8000))
        events = await first(here, 2)
        assert [(event.code, event.early_media) for event in events] == [(180, False), (183, True)]
        assert not there.is_connected
        stream = scene.bob_media.streams[0]
        assert stream.settings[-1]["remote"] == ("192.0.2.1", scene.alice_media.streams[0].local_port)
        playing = there.play(tone(8000))
        await there.answer()
        await here.connected()
        assert (await playing).completed
        await there.hangup()
        assert (await here.wait_ended()).early_media
        with pytest.raises(NoOngoingCall):
            await there.progress()
        with pytest.raises(NoOngoingCall):
            await here.progress()


async def first(call: Call, count: int) -> list[CallRinging]:
    rings: list[CallRinging] = []
    async for event in call.events():
        assert isinstance(event, CallRinging)
        rings.append(event)
        if len(rings) == count:
            break
    return rings


@virtual_time
async def test_an_announcement_and_a_refusal() -> None:
    """A call that is never answered, and costs its caller nothing."""
    async with pair() as scene:
        here, there = await placed(scene)
        await there.progress()
        playing = there.play(tone(16000))
        await asyncio.sleep(1)
        there.reject(480)
        assert not (await playing).completed
        ended = await here.wait_ended()
        assert (ended.cause, ended.code, ended.early_media) == (EndCause.REJECTED, 480, True)
        assert (await there.wait_ended()).early_media


@virtual_time
async def test_a_caller_that_gives_up_ends_what_plays() -> None:
    async with pair() as scene:
        here, there = await placed(scene)
        await there.progress()
        playing = there.play(tone(80000))
        await here.hangup()
        assert not (await playing).completed
        with pytest.raises(CallCancelled):
            await there.connected()


@both_loops
async def test_it_is_heard_over_real_sockets() -> None:
    """A second of a tone reaches the caller's ears while it still rings."""
    config = UserAgentConfig(sip_host="127.0.0.1")
    async with UserAgent(config) as alice, UserAgent(config) as bob:
        here = alice.open_line(Account(f"alice@127.0.0.1:{alice.sip_address[1]}"))
        there = bob.open_line(Account(f"bob@127.0.0.1:{bob.sip_address[1]}"))
        call = here.place(there.address.text)
        heard = call.audio()
        taken = await ringing(there)
        await taken.progress()
        playing = taken.play(tone(8000))
        loud = 0
        async for frame in heard:
            loud += int(np.abs(frame).max() > 4000)
            if loud == 20:
                break
        assert not call.is_connected
        assert not taken.is_connected
        playing.cancel()
        await taken.answer()
        await call.connected()
        await call.hangup()
