"""Two user agents, each with a line and no registrar, on a network in memory."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sipcore.call import Call
from sipcore.config import Account, CallPolicy, UserAgentConfig
from sipcore.registration import Registration
from sipcore.useragent import UserAgent
from tests.kit.loop_network import LoopNetwork
from tests.kit.silent_engine import SilentEngine

__all__ = ["Pair", "pair"]


@dataclass
class Pair:
    """Alice and Bob, each with a line and no registrar."""

    network: LoopNetwork
    alice: UserAgent
    bob: UserAgent
    here: Registration
    there: Registration
    alice_media: SilentEngine
    bob_media: SilentEngine

    async def connect(self) -> tuple[Call, Call]:
        """A call from Alice to Bob."""
        answering = asyncio.create_task(self.answer())
        call = await self.here.call("sip:bob@192.0.2.2")
        return call, await answering

    async def answer(self) -> Call:
        """Bob answers the next call."""
        async for call in self.there.incoming():
            await call.answer()
            return call
        raise AssertionError("no call came")


@asynccontextmanager
async def pair(config: UserAgentConfig | None = None, *, calls: CallPolicy | None = None) -> AsyncIterator[Pair]:
    network = LoopNetwork()
    media = SilentEngine(), SilentEngine()
    agents = [
        UserAgent(
            config or UserAgentConfig(),
            rng=random.Random(number),
            flows=network.at(f"192.0.2.{number}"),
            media=engine.as_engine(),
        )
        for number, engine in enumerate(media, start=1)
    ]
    async with agents[0] as alice, agents[1] as bob:
        here = alice.open_line(Account("sip:alice@192.0.2.1", calls=calls or CallPolicy()))
        there = bob.open_line(Account("sip:bob@192.0.2.2", calls=calls or CallPolicy()))
        yield Pair(network, alice, bob, here, there, *media)
    assert not alice.calls
    assert not bob.calls
    assert media[0].open_streams == media[1].open_streams == 0
