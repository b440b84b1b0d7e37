"""Complaint 1, "calls die after ~30 s": what was not acknowledged dies after 64*T1, so a call must outlive that.

Both directions, over UDP and TCP: with the timers of RFC 3261 in virtual time, and with T1 = 10 ms over real sockets.
The callee, whose 2xx waits for the ACK, and the caller, whose INVITE waits for the 2xx, must both be in the call well
after 64*T1, and a BYE of either must still arrive.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from sipcore.call import Call
from sipcore.config import Account, Timers, UserAgentConfig
from sipcore.events import Party
from sipcore.registration import Registration
from sipcore.useragent import UserAgent
from tests.kit.loop_network import LoopNetwork
from tests.kit.loops import both_loops
from tests.kit.silent_engine import SilentEngine
from tests.kit.virtual_time import run_virtual

SHORT = Timers(t1=0.01, t2=0.08, t4=0.1, d=0.64)


async def next_call(line: Registration) -> Call:
    async for call in line.incoming():
        await call.answer()
        return call
    raise AssertionError("no call came")


async def outlive(caller: Registration, callee: str, line: Registration, seconds: float, *, caller_ends: bool) -> None:
    """One call that lasts, and then is hung up by one side."""
    answering = asyncio.create_task(next_call(line))
    here = await caller.call(callee)
    there = await answering
    await asyncio.sleep(seconds)
    assert here.is_connected
    assert there.is_connected
    ending, other = (here, there) if caller_ends else (there, here)
    assert (await ending.hangup()).by is Party.LOCAL
    assert (await other.wait_ended()).by is Party.REMOTE


@asynccontextmanager
async def in_memory(transport: str) -> AsyncIterator[tuple[Registration, Registration]]:
    network = LoopNetwork()
    agents = [
        UserAgent(rng=random.Random(number), flows=network.at(f"192.0.2.{number}"), media=SilentEngine().as_engine())
        for number in (1, 2)
    ]
    async with agents[0] as alice, agents[1] as bob:
        yield (
            alice.open_line(Account(f"sip:alice@192.0.2.1;transport={transport}")),
            bob.open_line(Account(f"sip:bob@192.0.2.2;transport={transport}")),
        )


@pytest.mark.parametrize("caller_ends", [True, False], ids=["caller ends", "callee ends"])
@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize("outgoing", [True, False], ids=["outgoing", "incoming"])
def test_with_the_timers_of_the_standard(transport: str, outgoing: bool, caller_ends: bool) -> None:
    """An hour, of which 64*T1 are 32 s (RFC 3261 §17, §13.3.1.4)."""

    async def main() -> None:
        async with in_memory(transport) as (alice, bob):
            caller, line = (alice, bob) if outgoing else (bob, alice)
            callee = f"{line.address.aor};transport={transport}"
            await outlive(caller, callee, line, 3600.0, caller_ends=caller_ends)

    run_virtual(main())


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize("caller_ends", [True, False], ids=["caller ends", "callee ends"])
@both_loops
async def test_over_real_sockets(transport: str, caller_ends: bool) -> None:
    """Twice 64*T1, T1 = 10 ms."""
    config = UserAgentConfig(sip_host="127.0.0.1", timers=SHORT)
    async with UserAgent(config) as alice, UserAgent(config) as bob:
        caller = alice.open_line(Account(f"alice@127.0.0.1:{alice.sip_address[1]}"))
        line = bob.open_line(Account(f"bob@127.0.0.1:{bob.sip_address[1]}"))
        callee = f"{line.address.aor};transport={transport}"
        await outlive(caller, callee, line, 2 * SHORT.timeout, caller_ends=caller_ends)
