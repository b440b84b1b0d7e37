"""An agent that cannot start, over real sockets."""

from __future__ import annotations

import pytest

from rtp.engine import MediaEngine
from sipcore.config import UserAgentConfig
from sipcore.useragent import UserAgent

HOST = "127.0.0.1"


async def test_an_agent_whose_media_engine_does_not_start_leaves_its_ports_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken: list[int] = []

    async def broken(engine: MediaEngine) -> None:
        taken.append(agent.sip_address[1])
        raise OSError("no timer left")

    agent = UserAgent(UserAgentConfig(sip_host=HOST))
    with monkeypatch.context() as patch:
        patch.setattr(MediaEngine, "start", broken)
        with pytest.raises(OSError, match="no timer left"):
            await agent.start()
    async with UserAgent(UserAgentConfig(sip_host=HOST, sip_port=taken[0])) as again:
        assert again.sip_address == (HOST, taken[0])
    await agent.close()
