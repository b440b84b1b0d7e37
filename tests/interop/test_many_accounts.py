"""A thousand accounts of one agent, over one SIP socket, at Kamailio."""

from __future__ import annotations

import asyncio
import signal

import pytest

from sipcore.config import Account, UserAgentConfig
from sipcore.registration import Registration
from sipcore.useragent import UserAgent
from tests.interop.kit.kamailio import BOT_SECRET, Kamailio, KamailioOptions
from tests.interop.kit.peers import Peers
from tests.interop.kit.ports import HOST

pytestmark = pytest.mark.interop

MANY = 1000


async def register_all(agent: UserAgent, kamailio: Kamailio) -> list[Registration]:
    """Each with a digest of its own."""
    accounts = [Account(kamailio.aor(f"bot{number}"), password=BOT_SECRET) for number in range(MANY)]
    lines = [agent.add_account(account) for account in accounts]
    async with asyncio.timeout(60):
        await asyncio.gather(*(line.wait_registered() for line in lines))
    assert all(line.registered for line in lines)
    return lines


async def bindings(kamailio: Kamailio) -> int:
    """Addresses that Kamailio holds a binding of."""
    (domain,) = (await kamailio.rpc("ul.dump", "brief"))["Domains"]
    return int(domain["Domain"]["Stats"]["Records"])


async def test_a_thousand_accounts_register_refresh_and_un_register(peers: Peers) -> None:
    """One socket; the registrar grants 12 s, so that all are refreshed at least once while we look."""
    kamailio = await peers.kamailio(KamailioOptions(max_expires=12))
    async with UserAgent(UserAgentConfig(sip_host=HOST, register_rate=250)) as agent:
        lines = await register_all(agent, kamailio)
        await asyncio.sleep(12)
        assert await bindings(kamailio) == MANY
        assert all(line.registered for line in lines)
        # Closing the agent would do that as well, but no more of it than two seconds of this machine allow.
        await asyncio.gather(*(line.unregister() for line in lines))
        for _ in range(100):
            if not (left := await bindings(kamailio)):
                break
            await asyncio.sleep(0.05)
        assert left == 0


async def test_a_thousand_accounts_are_closed_while_the_registrar_is_dead(peers: Peers) -> None:
    """Killed: ICMP answers. Stopped in its tracks: nobody does."""
    for death in (signal.SIGSTOP, signal.SIGKILL):
        kamailio = await peers.kamailio()
        async with UserAgent(UserAgentConfig(sip_host=HOST, register_rate=500)) as agent:
            await register_all(agent, kamailio)
            kamailio.program.signal_all(death)
            async with asyncio.timeout(60):
                await agent.close()
            assert agent.registrations == ()
        kamailio.program.signal_all(signal.SIGKILL)
