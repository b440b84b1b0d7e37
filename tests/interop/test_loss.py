"""Programs of others behind a relay that loses a fifth of all datagrams, each way: theirs are other retransmissions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from sipcore.config import Account, Timers, UserAgentConfig
from sipcore.events import EndCause, Party
from sipcore.useragent import UserAgent
from tests.interop.kit.kamailio import BOT_SECRET, DOMAIN, KamailioOptions
from tests.interop.kit.peers import Peers
from tests.interop.kit.ports import free_ports
from tests.interop.kit.scenario import Scenario, answer, pause, receive, receive_invite, reply, request, respond, sdp
from tests.kit.lossy_relay import LossyRelay, Side
from tests.kit.network import Conditions

pytestmark = pytest.mark.interop

THEIRS, OURS = Side("127.0.0.1", "127.0.0.11"), Side("127.0.0.2", "127.0.0.12")
LOSSY = Conditions(delay=(0.002, 0.002), loss=0.2)
FAST = Timers(t1=0.1, t2=0.8, t4=1.0, d=6.4)
"""A fifth of the standard's; the other programs keep to the standard."""
CALLS = 20
_LINGER = '<timewait milliseconds="8000"/>'
"""What comes again is answered again, for longer than 64 T1 of ours."""


def _behind_the_relay(name: str, *steps: str) -> Scenario:
    """Its Contact and SDP say where the relay listens in its stead."""
    told = [step.replace("[local_ip]", THEIRS.advertised).replace("[media_ip]", THEIRS.advertised) for step in steps]
    return Scenario(name, tuple(told))


IS_HUNG_UP_ON = _behind_the_relay(
    "is-hung-up-on",
    receive_invite(),
    respond("180 Ringing"),
    respond("200 OK", body=sdp(), attributes=' retrans="500"'),
    receive("ACK", optional=True),  # lost, for once: the BYE may be here before its next copy
    receive("BYE"),
    reply(),
    _LINGER,
)
HANGS_UP = _behind_the_relay("hangs-up", *answer(), pause(100), request("BYE", 199), receive("200"), _LINGER)


@asynccontextmanager
async def _relayed(their_port: int) -> AsyncIterator[tuple[UserAgent, LossyRelay]]:
    """An agent that sees their port through the relay only."""
    config = UserAgentConfig(sip_host=OURS.host, sip_port=free_ports(), advertise=OURS.advertised, timers=FAST)
    with LossyRelay(THEIRS, OURS, (their_port, config.sip_port), LOSSY, seed=3) as relay:
        async with UserAgent(config) as agent:
            yield agent, relay
    assert sum(tally.lost for tally in relay.tallies.values()) > 5, "else nothing was shown"


@pytest.mark.parametrize("script", [IS_HUNG_UP_ON, HANGS_UP], ids=str)
async def test_calls_with_sipp(peers: Peers, script: Scenario) -> None:
    """RFC 3261 §17, §13.3.1.4: each is set up and ends, by the one side or the other."""
    far_end = await peers.sipp(script, calls=CALLS, strict=False)
    async with _relayed(far_end.port) as (agent, _):
        line = agent.open_line(Account(f"bot@{OURS.advertised}:{agent.sip_address[1]}"))

        async def converse() -> None:
            call = await line.call(f"sip:service@{THEIRS.advertised}:{far_end.port}")
            ended = await (call.hangup() if script is IS_HUNG_UP_ON else call.wait_ended())
            by = Party.LOCAL if script is IS_HUNG_UP_ON else Party.REMOTE
            assert (ended.cause, ended.by) == (EndCause.HANGUP, by), ended.description

        await asyncio.gather(*(converse() for _ in range(CALLS)))
        assert agent.calls == ()
        await far_end.stop()
        assert far_end.received("INVITE") >= CALLS


async def test_registrations_at_kamailio(peers: Peers) -> None:
    """RFC 3261 §10, §22: challenged, granted, and removed again, with whatever is lost sent once more."""
    kamailio = await peers.kamailio(KamailioOptions())
    names = [f"bot{number}" for number in range(CALLS)]
    async with _relayed(kamailio.port) as (agent, _):
        proxy = f"{THEIRS.advertised}:{kamailio.port}"
        lines = await asyncio.gather(
            *(agent.register(Account(f"{name}@{DOMAIN}", BOT_SECRET, outbound_proxy=proxy)) for name in names)
        )
        for name in names:
            (contact,) = await kamailio.contacts(name)
            assert f"@{OURS.advertised}:{agent.sip_address[1]}" in contact["Address"]
        await asyncio.gather(*(line.unregister() for line in lines))
        assert [await kamailio.contacts(name) for name in names] == [[]] * CALLS
