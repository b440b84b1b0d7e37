"""Calls that scripted far ends redirect (RFC 3261 §8.1.3.4)."""

from __future__ import annotations

import pytest

from tests.interop import scenarios, session_scenarios
from tests.interop.kit.line import open_line
from tests.interop.kit.peers import Peers
from tests.interop.kit.ports import HOST
from tests.interop.kit.silent import refusing_port
from tests.interop.kit.voicebot import kind

pytestmark = pytest.mark.interop


async def test_a_redirection_is_followed(peers: Peers) -> None:
    line = await open_line(peers)
    wanted = await peers.sipp(scenarios.answers())
    first = await peers.sipp(session_scenarios.redirects_to(f"<{wanted.uri('carol')}>"))
    assert kind(await line.bot.call(first.uri())) == "OUTGOING_CALL_CONNECTED"
    assert kind(await line.bot.end_call()) == "OUTGOING_CALL_FINISHED"
    await first.finished()
    await wanted.finished()


async def test_contacts_are_tried_in_order_of_preference(peers: Peers) -> None:
    """One is refused by the host, one is busy, the worst answers."""
    line = await open_line(peers)
    wanted, busy = await peers.sipp(scenarios.answers()), await peers.sipp(scenarios.refuses("486 Busy Here"))
    contacts = (f"<{wanted.uri()}>;q=0.1", f"<{busy.uri()}>;q=0.5", f"<sip:gone@{HOST}:{refusing_port()}>")
    first = await peers.sipp(session_scenarios.redirects_to(*contacts))
    assert kind(await line.bot.call(first.uri())) == "OUTGOING_CALL_CONNECTED"
    assert kind(await line.bot.end_call()) == "OUTGOING_CALL_FINISHED"
    for peer in (first, busy, wanted):
        await peer.finished()


async def test_the_last_failure_is_reported(peers: Peers) -> None:
    line = await open_line(peers)
    busy = await peers.sipp(scenarios.refuses("486 Busy Here"))
    first = await peers.sipp(session_scenarios.redirects_to(f"<{busy.uri()}>"))
    failed = await line.bot.call(first.uri())
    assert (failed.exception_name, failed.sip_response_code) == ("CallRejected", 486)
    await busy.finished()


async def test_a_setting_turns_it_off(peers: Peers) -> None:
    line = await open_line(peers, arguments=("--max-redirects", "0"))
    first = await peers.sipp(session_scenarios.redirects_to(f"<sip:carol@{HOST}:9>"))
    failed = await line.bot.call(first.uri())
    assert (failed.exception_name, failed.sip_response_code) == ("CallRejected", 302)
    await first.finished()
