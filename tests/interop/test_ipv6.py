"""Calls with a scripted far end over IPv6, in both directions, over UDP and TCP (RFC 3261 §19.1.1, RFC 5118)."""

from __future__ import annotations

import socket
from typing import Literal

import pytest

from sipcore.events import EndCause, Party
from tests.interop import scenarios
from tests.interop.kit.agent import agent
from tests.interop.kit.peers import Peers
from tests.interop.kit.scenario import Scenario

pytestmark = pytest.mark.interop

HOST = "::1"


@pytest.fixture(autouse=True)
def _ipv6() -> None:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind((HOST, 0))
    except OSError as error:
        pytest.skip(f"this machine has no {HOST}: {error}")


def _over_ipv6(script: Scenario) -> Scenario:
    """Its session descriptions name IPv6 addresses (RFC 8866 §5.7), which have no brackets there."""
    steps = [
        step.replace("IN IP4 [local_ip]", f"IN IP6 {HOST}").replace("IN IP4 [media_ip]", f"IN IP6 {HOST}")
        for step in script.steps
    ]
    return Scenario(script.name, tuple(steps), script.server)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_calling(peers: Peers, transport: Literal["udp", "tcp"]) -> None:
    """The far end hangs up: its BYE finds the way back by our Contact."""
    far_end = await peers.sipp(_over_ipv6(scenarios.hangs_up_first(200)), transport=transport, host=HOST)
    async with agent(host=HOST) as here:
        call = await here.line.call(far_end.uri())
        ended = await call.wait_ended()
        assert (ended.cause, ended.by) == (EndCause.HANGUP, Party.REMOTE)
        await far_end.finished()
        assert f"c=IN IP6 {HOST}" in far_end.messages()


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_being_called(peers: Peers, transport: Literal["udp", "tcp"]) -> None:
    async with agent(host=HOST) as here:
        script = _over_ipv6(scenarios.is_hung_up_on())
        caller = await peers.sipp(script, target=here.address, user="bot", transport=transport, host=HOST)
        async for call in here.line.incoming():
            await call.answer()
            await call.hangup()
            break
        await caller.finished()
