"""RTCP with baresip, which reports every five seconds."""

from __future__ import annotations

import pytest

from tests.interop.kit.agent import agent
from tests.interop.kit.peers import Peers
from tests.interop.kit.ports import HOST
from tests.interop.kit.process import eventually

pytestmark = pytest.mark.interop


async def test_baresip_and_we_report_to_each_other(peers: Peers) -> None:
    """RFC 3550 §6: its report answers one of ours, so the round trip is known; nothing of it is malformed."""
    telephone = await peers.baresip("bob", HOST)
    async with agent() as bot, await bot.line.call(telephone.uri) as call:
        await eventually(lambda: call.statistics().round_trip_ms is not None, timeout=12, what="a round trip")
        statistics = call.statistics()
        assert statistics.reports_sent >= 1
        assert statistics.reports_received >= 1
        assert statistics.round_trip_ms is not None
        assert 0 <= statistics.round_trip_ms < 1000
        assert statistics.remote_loss < 0.5
        assert statistics.mos > 1
        assert statistics.malformed == statistics.strangers == 0
