"""A registrar that prescribes the way of calls (RFC 3608), and takes Path (RFC 3327): one script for each host."""

from __future__ import annotations

import pytest

from sipcore.config import Account, UserAgentConfig
from sipcore.useragent import UserAgent
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
