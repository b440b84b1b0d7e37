"""What an embedder sets of the length of packets."""

from __future__ import annotations

import pytest

from sipcore.config import CallPolicy
from sipcore.errors import InvalidRequest
from tests.kit.pair import pair


async def test_an_accounts_ptime_is_asked_for_and_sent() -> None:
    """RFC 8866 §6.4: both ends ask for 30 ms, so both send it; a hold changes nothing of it."""
    async with pair(calls=CallPolicy(ptime=30)) as both:
        call, _ = await both.connect()
        streams = [engine.streams[0] for engine in (both.alice_media, both.bob_media)]
        assert [stream.settings[-1]["ptime_ms"] for stream in streams] == [30, 30]
        await call.hold()
        assert [stream.settings[-1]["ptime_ms"] for stream in streams] == [30, 30]
        await call.hangup()


@pytest.mark.parametrize("ptime", [0, 25, 70])
def test_other_lengths_are_refused(ptime: int) -> None:
    with pytest.raises(InvalidRequest, match=f"ptime: {ptime} is none of 10, 20") as refused:
        CallPolicy(ptime=ptime)
    assert refused.value.field == "ptime"
