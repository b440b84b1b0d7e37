"""A registrar that prescribes the way of calls (RFC 3608), and an edge proxy that puts itself on it (RFC 3327)."""

from __future__ import annotations

import pytest

from sipcore.config import Account, UserAgentConfig
from sipcore.events import Party
from sipcore.useragent import UserAgent
from tests.interop.kit.kamailio import BOT_SECRET, KamailioOptions
from tests.interop.kit.peers import Peers
from tests.interop.kit.ports import HOST
from tests.interop.kit.scenario import (
    Scenario,
    is_left,
    receive,
    receive_invite,
    respond,
    take,
)

pytestmark = pytest.mark.interop

EDGE = Scenario(
    "edge",
    (
        receive_invite(check=("INVITE sip:bob@nowhere.invalid SIP/2.0", "Route: *<sip:edge@.*;lr>")),
        *take(),
        *is_left(),
    ),
)


def _registrar(edge: str) -> Scenario:
    granted = ("[last_Contact:]", "Expires: 600", f"Service-Route: <sip:edge@{edge};lr>")
    return Scenario(
        "prescribes-a-way",
        (
            receive("REGISTER", check=("Supported: .*path",)),
            respond("200 OK", headers=granted),
            receive("REGISTER", check=("Expires: *0",)),
            respond("200 OK"),
        ),
    )


async def test_calls_go_the_way_that_the_registrar_says(peers: Peers) -> None:
    """To a name that no server knows: the edge proxy does."""
    edge = await peers.sipp(EDGE)
    registrar = await peers.sipp(_registrar(f"{HOST}:{edge.port}"))
    async with UserAgent(UserAgentConfig(sip_host=HOST)) as agent:
        line = await agent.register(Account(f"bot@{HOST}:{registrar.port}"))
        call = await line.call("sip:bob@nowhere.invalid")
        await call.hangup()
        await edge.finished()
    await registrar.finished()


async def test_an_edge_proxy_puts_itself_on_the_way_back(peers: Peers) -> None:
    """RFC 3327 §5: Kamailio's path module in front of a registrar that takes a Path from who supports it alone."""
    registrar = await peers.kamailio()
    edge = await peers.kamailio(KamailioOptions(edge_of=registrar.address))
    carol = await peers.baresip("carol", registrar)
    async with UserAgent(UserAgentConfig(sip_host=HOST)) as agent:
        account = Account(f"bot1@{registrar.address}", BOT_SECRET, outbound_proxy=f"sip:{edge.address};lr")
        line = await agent.register(account)
        (binding,) = await registrar.contacts("bot1")
        assert binding["Path"].startswith(f"<sip:edge@{edge.address}")
        calls = line.incoming()
        await carol.dial(f"sip:bot1@{registrar.address}")
        call = await anext(calls)
        await call.answer()
        await carol.event("CALL_ESTABLISHED")
        await edge.logged(f"request INVITE sip:bot1@{HOST}:{agent.sip_address[1]}")
        await edge.logged("request ACK")
        await carol.hangup()
        assert (await call.wait_ended()).by is Party.REMOTE
        await edge.logged("request BYE")
        # And the other way: out by the edge, which is the outbound proxy.
        call = await line.call(f"sip:carol@{registrar.address}")
        await edge.logged(f"request INVITE sip:carol@{registrar.address}")
        assert (await call.hangup()).by is Party.LOCAL
        await edge.logged("request BYE", count=2)
        await line.unregister()
        assert await registrar.contacts("bot1") == []
