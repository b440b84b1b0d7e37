"""Why calls end, as real peers hear and say it (RFC 3326)."""

from __future__ import annotations

import pytest

from sipcore.errors import CallRejected
from sipcore.events import Party, Reason
from tests.interop import scenarios
from tests.interop.kit.agent import agent
from tests.interop.kit.line import open_line
from tests.interop.kit.peers import Peers
from tests.interop.kit.voicebot import kind

pytestmark = pytest.mark.interop


async def test_the_cause_of_the_telephone_network_is_in_the_status(peers: Peers) -> None:
    """FIELD 21: stable tokens in SipStatus.description."""
    line = await open_line(peers)
    reason = 'Reason: Q.850;cause=17;text="User busy"'
    far_end = await peers.sipp(scenarios.refuses("486 Busy Here", headers=(reason,)))
    status = await line.bot.call(far_end.uri())
    assert status.description == f"486 Busy Here from {far_end.uri()} (Q.850 17 User busy)"
    await far_end.finished()


async def test_our_bye_says_normal_clearing(peers: Peers) -> None:
    line = await open_line(peers)
    far_end = await peers.sipp(scenarios.HEARS_WHY)
    await line.bot.call(far_end.uri())
    assert kind(await line.bot.end_call()) == "OUTGOING_CALL_FINISHED"
    await far_end.finished()


async def test_the_reason_of_a_bye_is_in_the_status(peers: Peers) -> None:
    line = await open_line(peers)
    far_end = await peers.sipp(scenarios.SAYS_WHY)
    await line.bot.call(far_end.uri())
    finished = await line.bot.reached("OUTGOING_CALL_FINISHED")
    assert "(Q.850 41 Temporary failure)" in finished.description
    await far_end.finished()


async def test_an_announcement_before_the_refusal_is_known_of(peers: Peers) -> None:
    """FIELD 21: early media, code, cause and who."""
    far_end = await peers.sipp(scenarios.ANNOUNCES_AND_REFUSES)
    async with agent() as bot:
        call = bot.line.place(far_end.uri())
        ended = await call.wait_ended()
        assert (ended.by, ended.code, ended.early_media) == (Party.REMOTE, 404, True)
        assert ended.reason == (Reason("Q.850", 1, "Unallocated number"),)
        with pytest.raises(CallRejected, match=r"404 Not Found from .* [(]Q.850 1 Unallocated number[)]"):
            await call.connected()
    await far_end.finished()
