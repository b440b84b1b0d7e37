"""Session timers (RFC 4028) with a scripted far end, in both roles."""

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
    [scenarios.REFRESHED_BY_UPDATE, scenarios.REFRESHED_BY_REINVITE, scenarios.REFRESHES_UNADVERTISED],
    ids=str,
)
async def test_a_call_is_refreshed(peers: Peers, script: Scenario) -> None:
    line = await open_line(peers)
    far_end = await peers.sipp(script)
    assert kind(await line.bot.call(far_end.uri())) == "OUTGOING_CALL_CONNECTED"
    await far_end.finished()
    assert "Hung up by sip:" in (await line.bot.reached("OUTGOING_CALL_FINISHED")).description


async def test_a_far_end_that_does_not_refresh_is_hung_up_on(peers: Peers) -> None:
    line = await open_line(peers)
    far_end = await peers.sipp(scenarios.NEVER_REFRESHES)
    assert kind(await line.bot.call(far_end.uri())) == "OUTGOING_CALL_CONNECTED"
    finished = await line.bot.reached("OUTGOING_CALL_FINISHED")
    assert "session timer ran out" in finished.description
    await far_end.finished()


async def test_the_interval_is_raised_on_demand(peers: Peers) -> None:
    line = await open_line(peers)
    far_end = await peers.sipp(scenarios.RAISES_THE_INTERVAL)
    assert kind(await line.bot.call(far_end.uri())) == "OUTGOING_CALL_CONNECTED"
    assert kind(await line.bot.end_call()) == "OUTGOING_CALL_FINISHED"
    await far_end.finished()


async def test_a_caller_that_wants_to_be_refreshed(peers: Peers) -> None:
    line = await open_line(peers, arguments=("--min-se", "2"))
    target, user = await _contact(line)
    caller = await peers.sipp(scenarios.calls_with_timer("4", "4;refresher=uas"), target=target, user=user)
    await caller.finished()
    assert "Hung up by sip:" in (await line.bot.reached("INCOMING_CALL_FINISHED")).description


async def test_a_caller_that_does_not_refresh_is_hung_up_on(peers: Peers) -> None:
    line = await open_line(peers, arguments=("--min-se", "2"))
    target, user = await _contact(line)
    caller = await peers.sipp(scenarios.calls_and_does_not_refresh(), target=target, user=user)
    await caller.finished()
    finished = await line.bot.reached("INCOMING_CALL_FINISHED")
    assert "session timer ran out" in finished.description


async def test_a_caller_whose_interval_is_too_small_is_told(peers: Peers) -> None:
    line = await open_line(peers)
    target, user = await _contact(line)
    await (await peers.sipp(scenarios.INTERVAL_TOO_SMALL, target=target, user=user)).finished()
    assert "INCOMING_CALL_CONNECTED" not in await line.bot.kinds()


async def _contact(line: Line) -> tuple[str, str]:
    """Target and user of the registered contact, for callers without a proxy in between."""
    (contact,) = await line.kamailio.contacts("alice")
    user, _, rest = contact["Address"].removeprefix("sip:").partition("@")
    return rest.partition(";")[0], user
