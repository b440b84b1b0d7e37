"""One INVITE, several telephones (RFC 3261 §13.2.2.4, §16.7): forked by Kamailio, or answered twice."""

from __future__ import annotations

import asyncio

import pytest

from sipcore.events import CallRinging
from tests.interop.kit.agent import agent
from tests.interop.kit.kamailio import KamailioOptions
from tests.interop.kit.peers import Peers
from tests.interop.kit.process import eventually
from tests.interop.kit.scenario import Scenario, answer_invite, receive, receive_invite, reply, respond, sdp

pytestmark = pytest.mark.interop

_SIPP_TAG = ";tag=[call_number]sipp[pid]"


def _tagged(message: str, tag: str) -> str:
    return message.replace(_SIPP_TAG, f";tag={tag}")


ANSWERS_TWICE = Scenario(
    "answers-twice",
    (
        receive_invite(),
        _tagged(respond("180 Ringing"), "one"),
        _tagged(respond("180 Ringing"), "two"),
        _tagged(answer_invite("200 OK", body=sdp()), "two"),
        receive("ACK", check=("To: .*;tag=two",)),
        _tagged(answer_invite("200 OK", body=sdp(version=2)), "one"),
        receive("ACK", check=("To: .*;tag=one",)),
        receive("BYE", check=("To: .*;tag=one",)),
        reply(),
        receive("BYE", check=("To: .*;tag=two",)),
        reply(),
    ),
)
"""A proxy whose CANCEL came too late for the second telephone: both branches ring, and both answer."""


async def test_one_of_two_telephones_takes_the_call(peers: Peers) -> None:
    """Both ring at once; when one answers, Kamailio cancels the other."""
    kamailio = await peers.kamailio(KamailioOptions(challenge_requests=False))
    telephones = await asyncio.gather(*(peers.baresip("bob", kamailio, answer="manual") for _ in range(2)))
    assert len(await kamailio.contacts("bob")) == 2
    async with agent("alice", kamailio=kamailio) as here:
        call = here.line.place(f"sip:{kamailio.aor('bob')}")
        for telephone in telephones:
            await telephone.event("CALL_INCOMING")
        other, taken = telephones
        await taken.accept()
        await call.connected()
        await other.event("CALL_CLOSED")
        await taken.event("CALL_ESTABLISHED")
        assert not other.of_type("CALL_ESTABLISHED")
        await eventually(lambda: call.statistics().packets_received > 10, timeout=5, what="audio")
        await call.hangup()
        await taken.event("CALL_CLOSED")
        rings = [event async for event in call.events() if isinstance(event, CallRinging)]
        assert len(rings) >= 2, "each branch is heard of"


async def test_a_second_200_is_acknowledged_and_hung_up(peers: Peers) -> None:
    """§13.2.2.4: the call is with whom answered first; the other one gets ACK and BYE."""
    far_end = await peers.sipp(ANSWERS_TWICE)
    async with agent() as here:
        call = await here.line.call(far_end.uri())
        await eventually(lambda: far_end.received("BYE") == 1, timeout=5, what="the BYE of the second branch")
        assert call.is_connected
        assert here.user_agent.calls == (call,)
        await call.hangup()
        await far_end.finished()
