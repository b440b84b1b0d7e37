"""Holds and resumes of the library, with a scripted far end (RFC 3261 §14.1, RFC 3264 §8.4)."""

from __future__ import annotations

import pytest

from sipcore.config import Account, UserAgentConfig
from sipcore.errors import HoldRejected
from sipcore.useragent import UserAgent
from tests.interop import session_scenarios as scenarios
from tests.interop.kit.peers import Peers
from tests.interop.kit.ports import HOST

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
