"""Holds and resumes of the library, with a scripted far end (RFC 3261 §14.1, RFC 3264 §8.4)."""

from __future__ import annotations

import pytest

from sipcore.config import Account, UserAgentConfig
from sipcore.errors import HoldRejected
from sipcore.events import EndCause
from sipcore.useragent import UserAgent
from tests.interop import session_scenarios as scenarios
from tests.interop.kit.peers import Peers
from tests.interop.kit.ports import HOST
from tests.interop.kit.scenario import Scenario, is_left, receive, receive_invite, reply, respond, sdp

pytestmark = pytest.mark.interop


async def test_a_hold_is_made_again_after_491_and_a_refused_resume_says_so(peers: Peers) -> None:
    far_end = await peers.sipp(scenarios.HELD_AT_A_BAD_TIME)
    async with UserAgent(UserAgentConfig(sip_host=HOST)) as agent:
        line = agent.open_line(Account(f"alice@{HOST}:{agent.sip_address[1]}"))
        async with await line.call(far_end.uri()) as call:
            await call.hold()
            with pytest.raises(HoldRejected, match="488") as refused:
                await call.resume()
            assert refused.value.code == 488
            assert call.is_connected
    await far_end.finished()


HOLDS_AND_FORGETS = Scenario(
    "holds-and-forgets",
    (
        receive_invite(),
        respond("200 OK", body=sdp("sendonly"), attributes=' retrans="500"'),
        receive("ACK"),
        receive("OPTIONS", check=("To: .*tag=",)),
        reply("481 Call/Transaction Does Not Exist"),
        *is_left(),
    ),
)
"""On hold from the answer on, it sends nothing, and then knows nothing of the call."""


async def test_a_far_end_that_forgot_a_call_on_hold_is_found_out(peers: Peers) -> None:
    """RFC 3261 §12.2.1.2, FIELD row 23: five times the limit without a sign of life, then it is asked."""
    far_end = await peers.sipp(HOLDS_AND_FORGETS)
    async with UserAgent(UserAgentConfig(sip_host=HOST, rtp_timeout=0.1)) as agent:
        line = agent.open_line(Account(f"alice@{HOST}:{agent.sip_address[1]}"))
        ended = await (await line.call(far_end.uri())).wait_ended()
        assert (ended.cause, ended.code) == (EndCause.HANGUP, 481)
        await far_end.finished()
