"""INFO, MESSAGE and OPTIONS with scripted peers, over sockets."""

from __future__ import annotations

from typing import Literal

import pytest

from sipcore.config import Account
from sipcore.errors import RequestRejected
from sipcore.events import DtmfReceived, MessageReceived
from tests.interop import scenarios_messages
from tests.interop.kit.agent import agent
from tests.interop.kit.peers import Peers
from tests.interop.kit.ports import HOST

pytestmark = pytest.mark.interop


async def test_keys_go_by_info_where_telephone_event_was_not_offered(peers: Peers) -> None:
    """FIELD 10."""
    far_end = await peers.sipp(scenarios_messages.TAKES_KEYS_BY_INFO)
    async with agent() as bot, await bot.line.call(far_end.uri()) as call:
        await call.send_dtmf("1#")
    await far_end.finished()


async def test_keys_go_bare_where_dtmf_relay_is_refused(peers: Peers) -> None:
    far_end = await peers.sipp(scenarios_messages.TAKES_BARE_KEYS)
    async with agent() as bot, await bot.line.call(far_end.uri()) as call:
        await call.send_dtmf("7")
    await far_end.finished()


async def test_keys_come_by_info(peers: Peers) -> None:
    """FIELD 10; what nobody reads gets 415, what nobody knows 501."""
    async with agent() as bot:
        far_end = await peers.sipp(scenarios_messages.SENDS_KEYS_BY_INFO, target=bot.address, user="bot")
        call = await anext(bot.line.incoming())
        await call.answer()
        await call.wait_ended()
        keys = [event async for event in call.events() if isinstance(event, DtmfReceived)]
        assert keys == [DtmfReceived("5", 250, "info"), DtmfReceived("*", 160, "info")]
        await far_end.finished()


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_a_message_comes_in(peers: Peers, transport: Literal["udp", "tcp"]) -> None:
    async with agent() as bot:
        scenario = scenarios_messages.sends_message(200)
        far_end = await peers.sipp(scenario, target=bot.address, user="bot", transport=transport)
        message = await anext(bot.line.messages())
        assert isinstance(message, MessageReceived)
        assert (message.text.strip(), message.content_type) == ("good morning", "text/plain")
        await far_end.finished()


async def test_a_message_for_nobody_gets_404(peers: Peers) -> None:
    async with agent() as bot:
        far_end = await peers.sipp(scenarios_messages.sends_message(404), target=bot.address, user="nobody")
        await far_end.finished()


async def test_a_message_goes_out_and_is_challenged(peers: Peers) -> None:
    far_end = await peers.sipp(scenarios_messages.takes_message("bot", "bot-secret"))
    async with agent() as bot:
        line = bot.user_agent.open_line(Account(f"sip:bot@{HOST}", password="bot-secret"))
        assert await line.send_message(far_end.uri(), "good evening") == 200
    await far_end.finished()


async def test_a_message_through_a_proxy(peers: Peers) -> None:
    """Two accounts of one Kamailio, which challenges the sender; nobody of that name is told by its 404."""
    kamailio = await peers.kamailio()
    async with agent("alice", kamailio=kamailio) as alice, agent("bob", kamailio=kamailio) as bob:
        await alice.line.send_message("bob", "hello bob")
        message = await anext(bob.line.messages())
        assert isinstance(message, MessageReceived)
        assert (message.text, message.sender) == ("hello bob", f"sip:{kamailio.aor('alice')}")
        with pytest.raises(RequestRejected) as refused:
            await alice.line.send_message("nobody", "hello?")
        assert refused.value.code == 404


async def test_asking_who_is_there(peers: Peers) -> None:
    """RFC 3261 §11: a far end of its own, and the account's server."""
    far_end = await peers.sipp(scenarios_messages.TAKES_OPTIONS)
    async with agent() as bot:
        answer = await bot.line.probe(far_end.uri())
        assert (answer.code, answer.extensions) == (200, ("timer", "replaces"))
        assert answer.methods == ("INVITE", "ACK", "BYE")
    await far_end.finished()


async def test_baresip_takes_keys_and_messages(peers: Peers) -> None:
    """A telephone through a proxy that challenges each request: INFO, MESSAGE in the call and outside of it."""
    kamailio = await peers.kamailio()
    bob = await peers.baresip("bob", kamailio)
    async with agent("alice", kamailio=kamailio) as alice, await alice.line.call("bob") as call:
        await bob.event("CALL_ESTABLISHED")
        await call.send_dtmf("5#", method="info")
        assert [event["param"] for event in bob.of_type("CALL_DTMF_START")] == ["5", "#"]
        assert await call.send_message("hello") == 200
        assert await alice.line.send_message("bob", "hello") == 200
        assert "INVITE" in (await alice.line.probe(bob.uri)).methods
        assert call.is_connected
