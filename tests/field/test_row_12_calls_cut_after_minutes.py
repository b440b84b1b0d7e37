"""Complaint 12, "calls are cut at 15 or 30 minutes": session timers are kept to in every part that a peer may play.

In virtual time, an hour and a half each: who asks, who only can, who has never heard of it; and a far end that is gone.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from sipcore.call import Call
from sipcore.config import Account, CallPolicy, UserAgentConfig
from sipcore.events import EndCause
from sipcore.registration import Registration
from sipcore.useragent import UserAgent
from tests.kit.loop_network import LoopNetwork
from tests.kit.network import Conditions
from tests.kit.silent_engine import SilentEngine
from tests.kit.virtual_time import run_virtual

NINETY_MINUTES = 5400


@asynccontextmanager
async def _call(alice: CallPolicy, bob: CallPolicy) -> AsyncIterator[tuple[LoopNetwork, Call, Call]]:
    """Alice calls Bob, who answers."""
    network = LoopNetwork()
    agents = [
        UserAgent(
            UserAgentConfig(),
            rng=random.Random(number),
            flows=network.at(f"192.0.2.{number}"),
            media=SilentEngine().as_engine(),
        )
        for number in (1, 2)
    ]
    async with agents[0] as one, agents[1] as two:
        here = one.open_line(Account("sip:alice@192.0.2.1", calls=alice))
        there = two.open_line(Account("sip:bob@192.0.2.2", calls=bob))
        answering = asyncio.create_task(_answered(there))
        call = await here.call("sip:bob@192.0.2.2")
        yield network, call, await answering


async def _answered(line: Registration) -> Call:
    async for call in line.incoming():
        await call.answer()
        return call
    raise AssertionError("no call came")


@pytest.mark.parametrize("alice", [0, 90, 1800])
@pytest.mark.parametrize("bob", [0, 90, 1800])
def test_a_call_outlives_every_interval(alice: int, bob: int) -> None:
    async def scenario() -> None:
        async with _call(CallPolicy(session_expires=alice), CallPolicy(session_expires=bob)) as (_, here, there):
            await asyncio.sleep(NINETY_MINUTES)
            assert here.is_connected
            assert there.is_connected

    run_virtual(scenario())


def test_a_far_end_that_is_gone_is_found_out() -> None:
    async def scenario() -> None:
        async with _call(CallPolicy(session_expires=600), CallPolicy()) as (network, here, there):
            network.conditions = Conditions(loss=1.0)
            for call in (here, there):
                ended = await asyncio.wait_for(call.wait_ended(), 600)
                assert ended.cause is EndCause.EXPIRED
                assert "session timer ran out" in ended.description

    run_virtual(scenario())
