"""Transfers as an embedder does them: Bob is Alice's far end, Carol is whom she hands him over to."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from sipcore.call import Call
from sipcore.config import Account, UserAgentConfig
from sipcore.errors import (
    CallRejected,
    InvalidRequest,
    NoOngoingCall,
    TransferRejected,
    TransferTimeout,
)
from sipcore.events import CallEnded, CallReplaced, EndCause, Party, TransferProgress
from sipcore.registration import Registration
from sipcore.transfer import ReferRequest
from sipcore.useragent import UserAgent
from tests.kit.loop_network import LoopNetwork
from tests.kit.silent_engine import SilentEngine
from tests.kit.virtual_time import virtual_time


@dataclass
class Trio:
    """Three agents, each with a line and no registrar."""

    network: LoopNetwork
    agents: list[UserAgent]
    alice: Registration
    bob: Registration
    carol: Registration

    async def connect(self, caller: Registration, callee: Registration) -> tuple[Call, Call]:
        """A call from one to the other; both sides."""
        answering = asyncio.create_task(_next_call(callee))
        call = await caller.call(callee.address.text)
        return call, await answering

    async def talk(self) -> tuple[Call, Call, Call, Call]:
        """Alice has called Bob and, for consultation, Carol."""
        with_bob, bobs = await self.connect(self.alice, self.bob)
        with_carol, carols = await self.connect(self.alice, self.carol)
        return with_bob, bobs, with_carol, carols

    def sent(self, start: str) -> list[str]:
        """Messages that begin so, whole."""
        return [packet.data.decode() for packet in self.network.packets if packet.start_line.startswith(start)]


async def _next_call(line: Registration) -> Call:
    call = await anext(line.incoming())
    await call.answer()
    return call


@asynccontextmanager
async def trio() -> AsyncIterator[Trio]:
    network = LoopNetwork()
    media = [SilentEngine() for _ in range(3)]
    agents = [
        UserAgent(
            UserAgentConfig(),
            rng=random.Random(number),
            flows=network.at(f"192.0.2.{number}"),
            media=engine.as_engine(),
        )
        for number, engine in enumerate(media, start=1)
    ]
    async with agents[0], agents[1], agents[2]:
        lines = [
            agent.open_line(Account(f"sip:{name}@192.0.2.{number}"))
            for number, (name, agent) in enumerate(zip(("alice", "bob", "carol"), agents, strict=True), start=1)
        ]
        yield Trio(network, agents, *lines)
    for agent, engine in zip(agents, media, strict=True):
        assert not agent.calls
        assert engine.open_streams == 0


def _follow(request: ReferRequest) -> None:
    request.follow()


# -- attended --------------------------------------------------------------------------------------------------------


@virtual_time
async def test_an_attended_transfer_connects_the_two_others() -> None:
    """RFC 5589 §7.1: REFER with Replaces, INVITE with Replaces, NOTIFYs, and every other leg hung up."""
    async with trio() as scene:
        with_bob, bobs, with_carol, carols = await scene.talk()
        asked: list[ReferRequest] = []
        followed: list[Call] = []

        def follow(request: ReferRequest) -> None:
            asked.append(request)
            followed.append(request.follow(headers={"X-Ticket": "7"}))

        bobs.on_refer = follow
        await with_bob.attended_transfer(with_carol)
        assert asked[0].attended
        assert asked[0].referred_by == "sip:alice@192.0.2.1"
        for call in (with_bob, with_carol):
            assert call.ended is not None
        assert with_bob.ended is not None
        assert with_bob.ended.cause is EndCause.TRANSFERRED
        taken = await anext(scene.carol.incoming())
        await taken.answer()
        assert taken.is_connected
        assert followed[0].is_connected
        assert (taken.replaces, carols.replaced_by) == (carols, taken)
        assert taken.referred_by == "sip:alice@192.0.2.1"
        assert taken.headers["X-Ticket"] == "7"
        events = [event async for event in carols.events()]
        assert isinstance(events[-2], CallReplaced)
        assert events[-2].call_id == taken.call_id
        assert isinstance(events[-1], CallEnded)
        assert (events[-1].cause, events[-1].by) == (EndCause.REPLACED, Party.LOCAL)
        assert events[-1].description == "Replaced by a call from sip:bob@192.0.2.2"
        assert (await bobs.wait_ended()).by is Party.REMOTE
        told = [event.code async for event in with_bob.events() if isinstance(event, TransferProgress)]
        assert (told[:2], told[-1]) == ([202, 100], 200)


@virtual_time
async def test_an_attended_transfer_that_is_refused_leaves_both_calls() -> None:
    async with trio() as scene:
        with_bob, _, with_carol, _ = await scene.talk()
        with pytest.raises(TransferRejected) as refused:
            await with_bob.attended_transfer(with_carol)
        assert refused.value.code == 603
        assert with_bob.is_connected
        assert with_carol.is_connected


@virtual_time
async def test_an_attended_transfer_whose_call_fails_leaves_both_calls() -> None:
    """The final NOTIFY says so (RFC 3515 §2.4.5)."""
    async with trio() as scene:
        with_bob, bobs, with_carol, _ = await scene.talk()
        followed: list[Call] = []
        bobs.on_refer = lambda request: followed.append(request.follow())
        scene.carol.screen = lambda call: 403
        with pytest.raises(TransferRejected, match="The far end reports: 403") as refused:
            await with_bob.attended_transfer(with_carol)
        assert refused.value.code == 403
        with pytest.raises(CallRejected):
            await followed[0].connected()
        assert with_bob.is_connected
        assert with_carol.is_connected


@virtual_time
async def test_an_attended_transfer_that_nobody_reports_on_times_out() -> None:
    async with trio() as scene:
        with_bob, bobs, with_carol, _ = await scene.talk()
        bobs.on_refer = lambda request: request.accept()
        before = asyncio.get_running_loop().time()
        with pytest.raises(TransferTimeout, match="No outcome of the transfer within 5 s"):
            await with_bob.attended_transfer(with_carol, timeout=5)
        assert 4.9 < asyncio.get_running_loop().time() - before < 5.2
        assert with_bob.is_connected
        assert with_carol.is_connected


@virtual_time
async def test_a_transferee_that_hangs_up_instead_of_reporting() -> None:
    """Seen in the field: 202, BYE. That the consultation is replaced says that it worked."""
    async with trio() as scene:
        with_bob, bobs, with_carol, _ = await scene.talk()

        def leave(request: ReferRequest) -> None:
            target, replaces = request.target.split("?Replaces=")
            request.accept()
            asyncio.get_running_loop().call_later(0.2, bobs.hangup_now)
            value = replaces.replace("%40", "@").replace("%3B", ";").replace("%3D", "=")
            asyncio.get_running_loop().call_later(0.5, lambda: scene.bob.place(target, headers={"Replaces": value}))

        bobs.on_refer = leave
        await with_bob.attended_transfer(with_carol)
        assert with_carol.ended is not None
        assert with_carol.ended.by is Party.REMOTE


@virtual_time
async def test_only_connected_calls_can_be_joined() -> None:
    async with trio() as scene:
        with_bob, _, with_carol, _ = await scene.talk()
        with pytest.raises(InvalidRequest, match="cannot take its own place"):
            await with_bob.attended_transfer(with_bob)
        await with_carol.hangup()
        with pytest.raises(NoOngoingCall):
            await with_bob.attended_transfer(with_carol)
        assert scene.sent("REFER") == []


@virtual_time
async def test_the_call_that_is_taken_over_may_be_one_that_rings() -> None:
    """RFC 3891 §1: Bob picks up at his desk what Alice is trying to reach elsewhere; her INVITE is cancelled."""
    async with trio() as scene:
        calling = scene.alice.place("sip:carol@192.0.2.3")
        ringing = await anext(scene.carol.incoming())
        await asyncio.sleep(0.2)
        dialog = ringing.session.dialog
        assert dialog is not None
        value = f"{dialog.id.call_id};to-tag={dialog.id.remote_tag};from-tag={dialog.id.local_tag};early-only"
        picking_up = await scene.bob.call("sip:alice@192.0.2.1", headers={"Replaces": value})
        assert picking_up.is_connected
        assert calling.ended is not None
        assert calling.ended.cause is EndCause.REPLACED
        assert (await ringing.wait_ended()).cause is EndCause.CANCELLED


@virtual_time
async def test_a_replacement_without_usable_media_leaves_the_call() -> None:
    """RFC 3891 §3: the old call is hung up only when the new one is answered."""
    async with trio() as scene:
        _, bobs, _, carols = await scene.talk()
        scene.agents[1].stack.codecs = ("PCMU",)
        scene.agents[2].stack.codecs = ("PCMA",)
        dialog = carols.session.dialog
        assert dialog is not None
        value = f"{dialog.id.call_id};to-tag={dialog.id.local_tag};from-tag={dialog.id.remote_tag}"
        with pytest.raises(Exception, match="488"):
            await scene.bob.call("sip:carol@192.0.2.3", headers={"Replaces": value})
        assert carols.is_connected
        assert bobs.is_connected


# -- blind, as the one who is transferred ------------------------------------------------------------------------------


@virtual_time
async def test_following_a_blind_transfer_reports_every_step() -> None:
    """RFC 3515 §2.4.5, RFC 3892: NOTIFYs from 100 to the final status, and the INVITE names who sent it."""
    async with trio() as scene:
        with_bob, bobs = await scene.connect(scene.alice, scene.bob)
        followed: list[Call] = []
        bobs.on_refer = lambda request: followed.append(request.follow())
        transfer = with_bob.refer("sip:carol@192.0.2.3")
        taken = await anext(scene.carol.incoming())
        await asyncio.sleep(2)
        await taken.answer()
        assert (await transfer.finished()).code == 200
        assert [step.code for step in transfer.progress] == [100, 180, 200]
        assert taken.referred_by == "sip:alice@192.0.2.1"
        assert taken.replaces is None
        assert with_bob.is_connected
        await with_bob.hangup()
        assert followed[0].is_connected


@virtual_time
async def test_following_a_transfer_to_somebody_busy_reports_it() -> None:
    async with trio() as scene:
        with_bob, bobs = await scene.connect(scene.alice, scene.bob)
        bobs.on_refer = _follow
        scene.carol.screen = lambda call: 486
        assert (await with_bob.refer("sip:carol@192.0.2.3").finished()).code == 486
        scene.carol.screen = None
        assert (await with_bob.refer("sip:carol@192.0.2.99").finished()).code == 503


@virtual_time
async def test_a_target_that_cannot_be_called_is_refused() -> None:
    async with trio() as scene:
        with_bob, bobs = await scene.connect(scene.alice, scene.bob)
        bobs.on_refer = _follow
        refer = with_bob.session.refers.refer("sip:carol:secret@192.0.2.3", (), scene.agents[0].now())
        scene.agents[0].pump()
        await asyncio.sleep(1)
        assert refer.state.value == "refused"
        assert scene.sent("SIP/2.0 400")


@virtual_time
async def test_a_handler_that_fails_refuses_the_transfer() -> None:
    async with trio() as scene:
        with_bob, bobs = await scene.connect(scene.alice, scene.bob)

        def broken(request: ReferRequest) -> None:
            raise RuntimeError("a bug of the embedder")

        bobs.on_refer = broken
        with pytest.raises(TransferRejected) as refused:
            await with_bob.transfer("sip:carol@192.0.2.3")
        assert refused.value.code == 500


# -- without reports (RFC 4488) ----------------------------------------------------------------------------------------


@virtual_time
async def test_a_transfer_without_reports() -> None:
    """RFC 4488 §4: both roles; no NOTIFY is sent, and nobody waits for one."""
    async with trio() as scene:
        with_bob, bobs = await scene.connect(scene.alice, scene.bob)
        bobs.on_refer = _follow
        transfer = with_bob.refer("sip:carol@192.0.2.3", subscribe=False)
        await _next_call(scene.carol)
        assert await transfer.accepted() == 202
        with pytest.raises(TransferTimeout, match="asked not to report"):
            await transfer.finished()
        (refer,) = scene.sent("REFER")
        assert "\r\nRefer-Sub: false\r\n" in refer
        assert "norefersub" in refer
        assert any("\r\nRefer-Sub: false\r\n" in answer for answer in scene.sent("SIP/2.0 202"))
        assert scene.sent("NOTIFY") == []
