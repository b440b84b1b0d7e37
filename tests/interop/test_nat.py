"""Behind a router that masquerades: a real NAT, the kernel's, between the agent and the world (RFC 3581, 4961)."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sipcore.call import Call
from tests.interop.kit.agent import Agent, agent
from tests.interop.kit.kamailio import SUBSCRIBERS, Kamailio, KamailioOptions
from tests.interop.kit.nat import INSIDE_HOST, Nat, nat
from tests.interop.kit.peers import Peers
from tests.interop.kit.process import Program, eventually
from tests.rtp.kit import tone

pytestmark = pytest.mark.interop

ROOT = Path(__file__).parents[2]
FIRST, SECOND = range(41000, 42000), range(43000, 44000)
"""Ports of the router before and after its line was down; nobody behind it uses them."""


@pytest.fixture
def router() -> Iterator[Nat]:
    with nat(FIRST) as router:
        yield router


class Telephone:
    """The agent behind the router."""

    def __init__(self, program: Program) -> None:
        self.program = program

    @classmethod
    async def start(cls, peers: Peers, router: Nat, kamailio: Kamailio) -> Telephone:
        folder = peers.new_folder("behind-nat")
        folder.mkdir(parents=True)
        account = (f"alice@{kamailio.address}", SUBSCRIBERS["alice"], kamailio.address)
        argv = [*router.enter, sys.executable, "-m", "tests.interop.kit.behind_nat", INSIDE_HOST, *account]
        paths = os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", "")))
        program = Program("behind-nat", argv, folder, environment={"PYTHONPATH": paths})
        peers.own(program)
        telephone = cls(program)
        await program.ready(lambda: bool(telephone.told("registered")), timeout=20)
        return telephone

    def told(self, event: str) -> list[dict[str, object]]:
        """What it has printed about that so far."""
        lines = (json.loads(line) for line in self.program.log().splitlines() if line.startswith("{"))
        return [each for each in lines if each["event"] == event]


async def _ports(kamailio: Kamailio, router: Nat) -> list[int]:
    """Where Kamailio reaches it; always at the router."""
    contacts = [str(contact["Address"]) for contact in await kamailio.contacts("alice")]
    found = [re.search(rf"@{re.escape(router.public_host)}:(\d+)", contact) for contact in contacts]
    return [int(match[1]) for match in found if match is not None]


async def _moves(kamailio: Kamailio, router: Nat) -> None:
    """It is registered with one of the new ports."""
    deadline = time.monotonic() + 20
    while not any(port in SECOND for port in await _ports(kamailio, router)):
        assert time.monotonic() < deadline, "not registered with its new port"
        await asyncio.sleep(0.1)


async def _talk(here: Agent, kamailio: Kamailio, telephone: Telephone) -> None:
    """A call to it, with audio both ways."""
    before = len(telephone.told("ended"))
    call = await here.line.call(f"sip:{kamailio.aor('alice')}")
    call.play(tone(16000))
    await _hears(call)
    await call.hangup()
    await eventually(lambda: len(telephone.told("ended")) > before, timeout=10, what="the end of the call behind it")
    ended = telephone.told("ended")[-1]
    assert ended["cause"] == "hangup"
    assert int(str(ended["received"])) >= 10


async def _hears(call: Call) -> None:
    loud = 0
    async for frame in call.audio():
        loud += int(np.abs(frame).max() > 4000)
        if loud == 25:
            return
    raise AssertionError(f"the call ended: {call.ended}")


async def test_an_agent_behind_a_router_is_called_also_when_the_router_has_changed_its_port(
    peers: Peers, router: Nat
) -> None:
    """It is registered where the registrar sees it, takes a call there with audio both ways, and follows when the
    router's mapping is another one."""
    options = KamailioOptions(host=router.outside_host, max_expires=3, challenge_requests=False)
    kamailio = await peers.kamailio(options)
    telephone = await Telephone.start(peers, router, kamailio)
    ports = await _ports(kamailio, router)
    assert ports
    assert ports[0] in FIRST
    async with agent("bob", kamailio=kamailio, host=router.outside_host) as here:
        await _talk(here, kamailio, telephone)
        router.reconnect(SECOND)
        await _moves(kamailio, router)
        await _talk(here, kamailio, telephone)
