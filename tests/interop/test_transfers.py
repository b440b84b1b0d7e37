"""Transfers over sockets: SIPp and baresip in each role, and three agents of ours through Kamailio."""

from __future__ import annotations

import asyncio
import re
from typing import Literal

import pytest

from sipcore.call import Call
from sipcore.errors import TransferRejected, TransferTimeout
from sipcore.events import CallReplaced, EndCause, Party
from sipcore.registration import Registration
from sipcore.transfer import ReferRequest
from tests.interop import scenarios, scenarios_transfers
from tests.interop.kit.agent import agent
from tests.interop.kit.line import open_line
from tests.interop.kit.peers import Peers

pytestmark = pytest.mark.interop


async def _take(line: Registration) -> Call:
    call = await anext(line.incoming())
    await call.answer()
    return call


def _name_of(call: Call) -> str:
    """What a Replaces header field needs to say to find a call at our end."""
    assert call.session.dialog is not None
    dialog = call.session.dialog.id
    return f"{dialog.call_id};to-tag={dialog.local_tag};from-tag={dialog.remote_tag}"


# -- this side transfers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_a_blind_transfer_is_accepted(peers: Peers, transport: Literal["udp", "tcp"]) -> None:
    """FIELD 14: also on the TCP connection that the call was set up on."""
    far_end = await peers.sipp(scenarios_transfers.refer_accepted("200 OK"), transport=transport)
    async with agent() as bot:
        call = await bot.line.call(far_end.uri())
        transfer = call.refer("sip:carol@127.0.0.1")
        assert await transfer.accepted() == 202
        assert (await transfer.finished()).code == 200
        await call.hangup()
    await far_end.finished()


@pytest.mark.parametrize("status", ["405 Method Not Allowed", "603 Decline"])
async def test_a_blind_transfer_is_refused(peers: Peers, status: str) -> None:
    far_end = await peers.sipp(scenarios_transfers.refer_refused(status))
    async with agent() as bot:
        call = await bot.line.call(far_end.uri())
        with pytest.raises(TransferRejected) as refused:
            await call.transfer("sip:carol@127.0.0.1")
        assert refused.value.code == int(status[:3])
        assert call.is_connected
        await call.hangup()
    await far_end.finished()


async def test_a_transfer_that_meets_an_offer_is_tried_again(peers: Peers) -> None:
    """FIELD 14: 491."""
    far_end = await peers.sipp(scenarios_transfers.REFER_MEETS_AN_OFFER)
    async with agent() as bot:
        call = await bot.line.call(far_end.uri())
        await call.transfer("sip:carol@127.0.0.1")
    await far_end.finished()


async def test_a_transfer_without_reports(peers: Peers) -> None:
    """RFC 4488."""
    far_end = await peers.sipp(scenarios_transfers.REFER_WITHOUT_REPORTS)
    async with agent() as bot:
        call = await bot.line.call(far_end.uri())
        transfer = call.refer("sip:carol@127.0.0.1", subscribe=False)
        assert await transfer.accepted() == 200
        with pytest.raises(TransferTimeout):
            await transfer.finished()
        await call.hangup()
    await far_end.finished()


async def test_an_attended_transfer(peers: Peers) -> None:
    """RFC 5589 §7: the dialog in the Refer-To, each step reported, both legs hung up."""
    far_end = await peers.sipp(scenarios_transfers.IS_TRANSFERRED_ATTENDED)
    target = await peers.sipp(scenarios.answers())
    async with agent() as bot:
        call = await bot.line.call(far_end.uri())
        consultation = await bot.line.call(target.uri("carol"))
        await call.attended_transfer(consultation)
        for leg in (call, consultation):
            assert leg.ended is not None
            assert leg.ended.cause is EndCause.TRANSFERRED
    await far_end.finished()
    await target.finished()


# -- this side is transferred ------------------------------------------------------------------------------------------


async def test_being_transferred_reports_every_step(peers: Peers) -> None:
    """RFC 3515 §2.4.5, RFC 3892."""
    target = await peers.sipp(scenarios_transfers.takes_a_referred_call())
    async with agent() as bot:
        far_end = await peers.sipp(
            scenarios_transfers.asks_to_call(target.uri("carol")), target=bot.address, user="bot"
        )
        followed: list[Call] = []
        call = await anext(bot.line.incoming())
        call.on_refer = lambda request: followed.append(request.follow())
        await call.answer()
        await far_end.finished()
        assert followed[0].is_connected
        await followed[0].hangup()
        await target.finished()


async def test_being_transferred_attended(peers: Peers) -> None:
    """RFC 3891 §4: the INVITE has the Replaces of the Refer-To, with its escapes undone."""
    wanted = "Replaces: *98732@sip[.]example[.]com;to-tag=r33th4x0r;from-tag=ff87ff"
    target = await peers.sipp(scenarios_transfers.takes_a_referred_call(check=(wanted,)))
    refer_to = f"{target.uri('carol')}?Replaces=98732%40sip.example.com%3Bfrom-tag%3Dff87ff%3Bto-tag%3Dr33th4x0r"
    async with agent() as bot:
        far_end = await peers.sipp(scenarios_transfers.asks_to_call(refer_to), target=bot.address, user="bot")
        followed: list[Call] = []
        call = await anext(bot.line.incoming())
        call.on_refer = lambda request: followed.append(request.follow())
        await call.answer()
        await far_end.finished()
        await followed[0].hangup()
        await target.finished()


async def test_baresip_transfers_this_side(peers: Peers) -> None:
    """A telephone's transfer key; it hangs up when the NOTIFY says that it worked."""
    kamailio = await peers.kamailio()
    carol = await peers.baresip("carol", kamailio)
    bob = await peers.baresip("bob", kamailio)
    async with agent("alice", kamailio=kamailio) as bot:
        asked: list[ReferRequest] = []
        followed: list[Call] = []

        def follow(request: ReferRequest) -> None:
            asked.append(request)
            followed.append(request.follow())

        await bob.dial(f"sip:{kamailio.aor('alice')}")
        call = await anext(bot.line.incoming())
        call.on_refer = follow
        await call.answer()
        await bob.event("CALL_ESTABLISHED")
        await bob.command("transfer", f"sip:{kamailio.aor('carol')}")
        await carol.event("CALL_ESTABLISHED")
        assert (await asyncio.wait_for(call.wait_ended(), 5)).by is Party.REMOTE
        assert not asked[0].attended
        await followed[0].connected()
        await followed[0].hangup()
        await carol.event("CALL_CLOSED")


# -- this side is the target -------------------------------------------------------------------------------------------


async def test_a_call_takes_the_place_of_another(peers: Peers) -> None:
    """RFC 3891 §3: answered at once, and the one before gets its BYE."""
    async with agent() as bot:
        first = await peers.sipp(scenarios.is_hung_up_on(), target=bot.address, user="bot")
        call = await _take(bot.line)
        second = await peers.sipp(scenarios_transfers.calls_in_place_of(_name_of(call)), target=bot.address, user="bot")
        taken = await _take(bot.line)
        await first.finished()
        assert call.ended is not None
        assert call.ended.cause is EndCause.REPLACED
        assert (call.replaced_by, taken.replaces) == (taken, call)
        assert CallReplaced(taken.call_id) in [event async for event in call.events()]
        await second.finished()


@pytest.mark.parametrize(
    ("change", "status"),
    [(lambda name: f"{name};early-only", 486), (lambda name: f"x{name}", 481), (lambda name: "nonsense", 400)],
)
async def test_a_call_keeps_its_place(peers: Peers, change: object, status: int) -> None:
    """RFC 3891 §3."""
    assert callable(change)
    async with agent() as bot:
        first = await peers.sipp(scenarios.is_hung_up_on(), target=bot.address, user="bot")
        call = await _take(bot.line)
        headers = (f"Replaces: {change(_name_of(call))}",)
        second = await peers.sipp(scenarios.is_refused(status, headers=headers), target=bot.address, user="bot")
        await second.finished()
        assert call.is_connected
        await call.hangup()
        await first.finished()


# -- all three ---------------------------------------------------------------------------------------------------------


async def test_an_attended_transfer_through_a_proxy(peers: Peers) -> None:
    """Record-Routes, challenges and Contacts as Kamailio leaves them: REFER, INVITE with Replaces, NOTIFYs, BYEs."""
    kamailio = await peers.kamailio()
    async with (
        agent("alice", kamailio=kamailio) as alice,
        agent("bob", kamailio=kamailio) as bob,
        agent("carol", kamailio=kamailio) as carol,
    ):
        taking = asyncio.create_task(_take(bob.line))
        with_bob = await alice.line.call("bob")
        bobs = await taking
        taking = asyncio.create_task(_take(carol.line))
        with_carol = await alice.line.call("carol")
        carols = await taking
        followed: list[Call] = []
        bobs.on_refer = lambda request: followed.append(request.follow())
        await with_bob.attended_transfer(with_carol)
        taken = await _take(carol.line)
        assert followed[0].is_connected
        assert carols.replaced_by is taken
        assert taken.referred_by == f"sip:{kamailio.aor('alice')}"
        assert (await bobs.wait_ended()).by is Party.REMOTE
        await followed[0].hangup()
        assert (await asyncio.wait_for(taken.wait_ended(), 5)).by is Party.REMOTE


async def test_the_server_is_handed_over_to_another_caller(peers: Peers) -> None:
    """Over gRPC: the end of the one call, then the other, connected."""
    line = await open_line(peers)
    server = line.kamailio.address
    first = await peers.sipp(scenarios.is_hung_up_on(), target=server, user="alice")
    await line.bot.reached("INCOMING_CALL_CONNECTED")
    answer = first.messages().partition("SIP/2.0 200 OK")[2]
    call_id, tag, sender = (
        re.findall(pattern, answer)[0] for pattern in (r"Call-ID: (\S+)", r"To: .*;tag=(\S+)", r"From: .*;tag=(\S+)")
    )
    scenario = scenarios_transfers.calls_in_place_of(f"{call_id};to-tag={tag};from-tag={sender}")
    second = await peers.sipp(scenario, target=server, user="alice")
    await second.finished()
    await first.finished()
    await line.bot.reached("INCOMING_CALL_FINISHED", count=2)
    assert (await line.bot.kinds())[-4:] == [
        "INCOMING_CALL_FINISHED",
        "INCOMING_CALL_INITIATED",
        "INCOMING_CALL_CONNECTED",
        "INCOMING_CALL_FINISHED",
    ]
