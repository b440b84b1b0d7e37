"""Keys by INFO, INFO, MESSAGE and OPTIONS, as an embedder sends and gets them."""

from __future__ import annotations

import asyncio

import pytest

from sipcore.broadcast import Lost
from sipcore.errors import (
    AccountNotRegistered,
    InvalidAddress,
    InvalidHeader,
    InvalidRequest,
    NoOngoingCall,
    RequestRejected,
    RequestTimeout,
    ServerUnreachable,
)
from sipcore.events import (
    DtmfReceived,
    InfoReceived,
    MessageReceived,
)
from tests.kit.pair import pair
from tests.kit.virtual_time import virtual_time


@virtual_time
async def test_keys_go_by_info_where_no_telephone_event_was_agreed_on() -> None:
    """FIELD 10: impossible to send is no answer."""
    async with pair() as scene:
        here, there = await scene.connect()
        scene.alice_media.streams[0].event_payload_type = None
        await here.send_dtmf("1#")
        with pytest.raises(NoOngoingCall, match="takes no telephone-event"):
            await here.send_dtmf("1", method="rfc4733")
        await here.send_dtmf("d", method="info", duration_ms=90)
        await here.hangup()
        keys = [event async for event in there.events() if isinstance(event, DtmfReceived)]
        assert keys == [DtmfReceived("1", 160, "info"), DtmfReceived("#", 160, "info"), DtmfReceived("D", 90, "info")]


@virtual_time
async def test_wrong_keys_and_durations_send_nothing() -> None:
    async with pair() as scene:
        here, _ = await scene.connect()
        before = len(scene.network.packets)
        for digits, duration in (("", 160), ("x", 160), ("1", 1), ("1", 100_000)):
            with pytest.raises(InvalidRequest):
                await here.send_dtmf(digits, method="info", duration_ms=duration)
        assert len(scene.network.packets) == before


@virtual_time
async def test_info_and_messages_in_a_call() -> None:
    async with pair() as scene:
        scene.bob.stack.info_types = ("application/json",)
        here, there = await scene.connect()
        assert await here.send_info('{"score": 1}', "application/json", headers={"X-A": "b"}) == 200
        assert await here.send_message("grüß Gott") == 200
        with pytest.raises(RequestRejected, match=r"INFO refused: 415 .* from sip:bob@192\.0\.2\.2") as caught:
            await here.send_info("<xml/>", "application/xml")
        assert caught.value.code == 415
        assert here.is_connected
        await here.hangup()
        with pytest.raises(NoOngoingCall):
            await here.send_message("too late")
        heard = [event async for event in there.events() if isinstance(event, InfoReceived | MessageReceived)]
        assert [type(event) for event in heard] == [InfoReceived, MessageReceived]
        assert isinstance(heard[1], MessageReceived)
        assert heard[1].text == "grüß Gott"


@virtual_time
async def test_messages_between_accounts() -> None:
    """RFC 3428; what came before somebody reads is kept, within bounds."""
    async with pair() as scene:
        for number in range(70):
            assert await scene.here.send_message("sip:bob@192.0.2.2", f"number {number}") == 200
        reader = scene.there.messages()
        assert await anext(reader) == Lost(6)
        message = await anext(reader)
        assert isinstance(message, MessageReceived)
        assert (message.sender, message.text) == ("sip:alice@192.0.2.1", "number 6")
        with pytest.raises(RequestRejected) as refused:
            await scene.here.send_message("sip:nobody@192.0.2.2", "hello")
        assert refused.value.code == 404
        with pytest.raises(ServerUnreachable):
            await scene.here.send_message("sip:bob@192.0.2.99", "hello")
        scene.network.conditions = type(scene.network.conditions)(loss=1.0)
        with pytest.raises(RequestTimeout):
            await scene.here.send_message("sip:bob@192.0.2.2", "hello")
        scene.network.conditions = type(scene.network.conditions)()


@virtual_time
async def test_messages_that_may_not_be_sent() -> None:
    async with pair() as scene:
        with pytest.raises(InvalidRequest, match="1301 bytes"):
            await scene.here.send_message("bob", "x" * 1301)
        with pytest.raises(InvalidRequest, match="content_type"):
            await scene.here.send_message("bob", "x", "text/plain\r\nEvil: yes")
        with pytest.raises(InvalidHeader):
            await scene.here.send_message("bob", "x", headers={"Via": "x"})
        with pytest.raises(InvalidAddress):
            await scene.here.send_message("", "x")
        await scene.here.unregister()
        with pytest.raises(AccountNotRegistered):
            await scene.here.send_message("sip:bob@192.0.2.2", "x")
        assert scene.network.packets == []


@virtual_time
async def test_asking_who_is_there() -> None:
    """RFC 3261 §11: what Teams wants to see before any call."""
    async with pair() as scene:
        answer = await scene.here.probe("sip:bob@192.0.2.2")
        assert answer.code == 200
        assert {"INVITE", "REFER", "MESSAGE"} <= set(answer.methods)
        assert "application/sdp" in answer.content_types
        scene.network.conditions = type(scene.network.conditions)(loss=1.0)
        with pytest.raises(RequestTimeout):
            await scene.here.probe("sip:bob@192.0.2.2")
        scene.network.conditions = type(scene.network.conditions)()


@virtual_time
async def test_closing_ends_what_waits_for_an_answer() -> None:
    async with pair() as scene:
        scene.network.conditions = type(scene.network.conditions)(loss=1.0)
        asking = asyncio.create_task(scene.here.probe("sip:bob@192.0.2.2"))
        await asyncio.sleep(1)
        await scene.alice.close()
        with pytest.raises(ServerUnreachable, match="closed"):
            await asking
