"""The agent behind the router: a program of its own, since a process has one network namespace.

    python -m tests.interop.kit.behind_nat HOST ACCOUNT PASSWORD PROXY

It registers, takes each call, plays a tone into it until the far end hangs up, and prints what happens, a JSON object a
line.
"""

from __future__ import annotations

import asyncio
import json
import sys

from sipcore.call import Call
from sipcore.config import Account, UserAgentConfig
from sipcore.useragent import UserAgent
from tests.rtp.kit import tone

MINUTE = tone(60 * 8000)


async def main(host: str, account: str, password: str, proxy: str) -> None:
    async with UserAgent(UserAgentConfig(sip_host=host)) as agent:
        line = await agent.register(Account(account, password, outbound_proxy=proxy))
        tell(event="registered", port=agent.sip_address[1])
        async for call in line.incoming():
            await converse(call)


async def converse(call: Call) -> None:
    await call.answer()
    call.play(MINUTE)
    tell(event="answered")
    ended = await call.wait_ended()
    statistics = call.statistics()
    tell(event="ended", cause=ended.cause.value, received=statistics.packets_received, sent=statistics.packets_sent)


def tell(**what: object) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
