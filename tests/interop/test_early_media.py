"""Early media of ours, for scripted callers: 183 with SDP before the 200, reliable where they require it."""

from __future__ import annotations

import pytest

from sipcore.call import Call
from tests.interop.kit.agent import Agent, agent
from tests.interop.kit.peers import Peers
from tests.interop.kit.scenario import (
    Scenario,
    acknowledge_refusal,
    follow,
    invite,
    is_left,
    receive,
    sdp,
)
from tests.rtp.kit import tone

pytestmark = pytest.mark.interop

_AUDIO = "m=audio [0-9]+ RTP/AVP"
_RINGING = receive("180", check=("Require: .*100rel",), save={"rseq": "RSeq:"}, dialog=True)
_PROGRESS = receive("183", check=("Require: .*100rel", _AUDIO), save={"rseq": "RSeq:"}, dialog=True)


def _prack(cseq: int) -> tuple[str, ...]:
    return (
        follow("PRACK", cseq, headers=("RAck:[$rseq] 1 INVITE",)),
        receive("200", check=(f"CSeq: *{cseq} PRACK",)),
    )


HEARS_EARLY_MEDIA = Scenario(
    "hears-early-media",
    (
        invite(body=sdp()),
        receive("100", optional=True),
        receive("180"),
        receive("183", check=(_AUDIO,)),
        receive("200", check=(_AUDIO,), dialog=True),
        follow("ACK", 1),
        *is_left(),
    ),
    server=False,
)
"""RFC 3261 §13.2.1: the answer is in the 183, and again in the 200."""

HEARS_RELIABLE_EARLY_MEDIA = Scenario(
    "hears-reliable-early-media",
    (
        invite(body=sdp(), headers=("Require: 100rel", "Supported: 100rel")),
        receive("100", optional=True),
        _RINGING,
        *_prack(2),
        _PROGRESS,
        *_prack(3),
        receive("200", check=("CSeq: *1 INVITE", "Content-Length: *0"), dialog=True),
        follow("ACK", 1),
        *is_left(),
    ),
    server=False,
)
"""RFC 3262 §5: the answer is in the reliable 183, and nowhere else."""

HEARS_AN_ANNOUNCEMENT = Scenario(
    "hears-an-announcement",
    (
        invite(body=sdp()),
        receive("100", optional=True),
        receive("180"),
        receive("183", check=(_AUDIO,)),
        receive("480"),
        acknowledge_refusal(),
    ),
    server=False,
)


async def _call_of(here: Agent) -> Call:
    async for call in here.line.incoming():
        return call
    raise AssertionError("no call came")


@pytest.mark.parametrize("script", [HEARS_EARLY_MEDIA, HEARS_RELIABLE_EARLY_MEDIA], ids=str)
async def test_a_caller_hears_something_before_the_answer(peers: Peers, script: Scenario) -> None:
    async with agent() as here:
        caller = await peers.sipp(script, target=here.address, user="bot")
        call = await _call_of(here)
        await call.progress()
        await call.play(tone(2400))
        assert call.statistics().packets_sent >= 10
        await call.answer()
        await call.hangup()
        await caller.finished()


async def test_an_announcement_instead_of_an_answer(peers: Peers) -> None:
    async with agent() as here:
        caller = await peers.sipp(HEARS_AN_ANNOUNCEMENT, target=here.address, user="bot")
        call = await _call_of(here)
        await call.progress()
        await call.play(tone(2400))
        call.reject(480)
        await caller.finished()
        assert (await call.wait_ended()).early_media
