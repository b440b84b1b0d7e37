"""Beyond capacity new calls are refused, and those that are up notice nothing."""

from __future__ import annotations

import pytest

from rtp.load import BAD_SECONDS, WINDOW_SECONDS
from sipcore.config import Account, UserAgentConfig
from sipcore.errors import AtCapacity, CallRejected
from sipcore.useragent import UserAgent
from tests.kit.pair import pair
from tests.kit.virtual_time import virtual_time

HOST = "127.0.0.1"


@virtual_time
async def test_a_busy_clock_refuses_new_calls_and_keeps_the_old_ones() -> None:
    """RFC 3261 §21.5.4: 503; outgoing: nothing is sent."""
    async with pair() as scene:
        here, there = await scene.connect()
        scene.bob_media.busy = True
        with pytest.raises(CallRejected, match="503") as refused:
            await scene.here.call("sip:bob@192.0.2.2")
        assert refused.value.code == 503
        with pytest.raises(AtCapacity, match="the media clock is too busy") as full:
            scene.there.place("sip:alice@192.0.2.1")
        assert full.value.code == 503
        assert scene.bob.statistics().overload_refused == 1
        assert here.is_connected
        assert there.is_connected
        assert len(scene.bob.calls) == 1
        assert scene.bob_media.open_streams == 1
        await here.hold()
        await here.resume()
        scene.bob_media.busy = False
        again, _ = await scene.connect()
        await again.hangup()
        await here.hangup()


@virtual_time
async def test_a_call_more_than_max_calls_is_not_placed() -> None:
    async with pair(UserAgentConfig(max_calls=1)) as scene:
        call, _ = await scene.connect()
        with pytest.raises(AtCapacity, match=r"1 are up \(max_calls\)"):
            scene.here.place("sip:bob@192.0.2.2")
        await call.hangup()
        again, _ = await scene.connect()
        await again.hangup()


@pytest.mark.parametrize("limit", [0.8, 0.0])
async def test_what_the_clock_measured_decides(limit: float) -> None:
    """Over real sockets, with a real engine that is told of seconds in which its ticks took nine tenths."""
    busy_config = UserAgentConfig(sip_host=HOST, max_load=limit)
    async with UserAgent(busy_config) as busy, UserAgent(UserAgentConfig(sip_host=HOST)) as other:
        there = busy.open_line(Account(f"bob@{HOST}:{busy.sip_address[1]}"))
        here = other.open_line(Account(f"alice@{HOST}:{other.sip_address[1]}"))
        there.screen = lambda call: 486
        busy.media._clock.stop()  # no tick but those told of here
        for _ in range(BAD_SECONDS):
            busy.media._load.add(60, 1.1)
        with pytest.raises(CallRejected) as refused:
            await here.call(there.address.text)
        assert refused.value.code == (503 if limit else 486)
        for _ in range(WINDOW_SECONDS):
            busy.media._load.add(50, 0.1)
        with pytest.raises(CallRejected) as refused:
            await here.call(there.address.text)
        assert refused.value.code == 486
