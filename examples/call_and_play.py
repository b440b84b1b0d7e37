"""Place a call, play a wav file into it, send keys the far end asks for, hang up: the library without any server.

    python examples/call_and_play.py alice@example.com bob hello.wav

The password comes from SIPCORE_PASSWORD. Without one the call is placed without registering, which is enough to call
another program directly, such as echo_bot.py:

    python examples/call_and_play.py me@127.0.0.1 sip:bot@127.0.0.1:5070 src/service/demo/assets/welcome.wav
"""

from __future__ import annotations

import asyncio
import os
import sys

from sipcore import Account, CallError, DtmfReceived, SipError, UserAgent


async def main(address: str, callee: str, file: str) -> int:
    password = os.environ.get("SIPCORE_PASSWORD", "")
    account = Account(address, password=password)
    async with UserAgent() as agent:
        try:
            line = await agent.register(account) if password else agent.open_line(account)
        except SipError as error:
            print(f"not registered: {error}")
            return 1
        try:
            call = await line.call(callee, timeout=30, headers={"X-Campaign": "example"})
        except CallError as error:
            print(f"no call: {error} (SIP code {error.code})")  # 486 busy, 603 declined, 487 given up …
            return 1
        async with call:  # leaving the block hangs up
            print(f"connected to {call.remote}")
            call.record("heard.wav")
            played = await call.play(file)
            print(f"played {played.played_seconds:.1f} s")
            counted = call.statistics()
            print(f"{counted.packets_received} packets came, {counted.lost} lost, jitter {counted.jitter_ms:.1f} ms")
        async for event in call.events():  # from the first event on, also after the call
            match event:
                case DtmfReceived(digit=digit):
                    print(f"the far end pressed {digit}")
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    sys.exit(asyncio.run(main(*sys.argv[1:])))
