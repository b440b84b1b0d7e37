"""Reliable provisional responses (RFC 3262) with a scripted far end, in both roles."""

from __future__ import annotations

import pytest

from tests.interop import session_scenarios as scenarios
from tests.interop.kit.line import Line, open_line
from tests.interop.kit.peers import Peers
from tests.interop.kit.scenario import Scenario
from tests.interop.kit.voicebot import kind

pytestmark = pytest.mark.interop


@pytest.mark.parametrize(
    "script",
    [scenarios.RINGS_RELIABLY, scenarios.RELIABLE_EARLY_MEDIA, scenarios.CHALLENGES_PRACK],
    ids=str,
)
async def test_reliable_ringing_is_acknowledged(peers: Peers, script: Scenario) -> None:
    line = await open_line(peers)
    far_end = await peers.sipp(script)
    assert kind(await line.bot.call(far_end.uri())) == "OUTGOING_CALL_CONNECTED"
    assert kind(await line.bot.end_call()) == "OUTGOING_CALL_FINISHED"
    await far_end.finished()


@pytest.mark.parametrize("script", [scenarios.REQUIRES_RELIABLE_RINGING, scenarios.OFFERED_IN_THE_180], ids=str)
async def test_a_caller_that_requires_it(peers: Peers, script: Scenario) -> None:
    line = await open_line(peers, auto_answer=1)
    target, user = await _contact(line)
    caller = await peers.sipp(script, target=target, user=user)
    await caller.finished()
    await line.bot.reached("INCOMING_CALL_FINISHED")


async def test_ringing_is_repeated(peers: Peers) -> None:
    line = await open_line(peers, auto_answer=-1)
    target, user = await _contact(line)
    script = scenarios.NEVER_ACKNOWLEDGES_RINGING
    await (await peers.sipp(script, target=target, user=user, retransmit=False)).finished()


async def test_a_stray_prack_is_refused(peers: Peers) -> None:
    line = await open_line(peers, auto_answer=-1)
    target, user = await _contact(line)
    await (await peers.sipp(scenarios.STRAY_PRACK, target=target, user=user)).finished()


async def _contact(line: Line) -> tuple[str, str]:
    """Target and user of the registered contact, for callers without a proxy in between."""
    (contact,) = await line.kamailio.contacts("alice")
    user, _, rest = contact["Address"].removeprefix("sip:").partition("@")
    return rest.partition(";")[0], user
