"""A bot that answers every call, greets, and repeats what it hears; the key # transfers the caller.

    SIPCORE_PASSWORD=... python examples/echo_bot.py bot@example.com --transfer-to desk

Without a password it does not register and takes calls sent straight to its address:

    python examples/echo_bot.py bot@127.0.0.1 --sip-port 5070
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os

from sipcore import Account, Call, CallEnded, DtmfReceived, NoOngoingCall, TransferError, UserAgent, UserAgentConfig


async def echo(call: Call) -> None:
    """Sends every frame back: int16 arrays of 160 samples, 20 ms at 8,000 Hz."""
    async with call.audio() as audio:
        async for frame in audio:
            audio.write_nowait(frame)


async def serve(call: Call, greeting: str, transfer_to: str) -> None:
    """One call, from ringing to its end."""
    print(f"{call.remote} calls, with headers {dict(call.headers)}")
    try:
        await call.answer()
        if greeting:
            await call.play(greeting)
    except NoOngoingCall:
        return  # the caller was gone already
    echoing = asyncio.create_task(echo(call))
    async for event in call.events():
        match event:
            case DtmfReceived(digit="#") if transfer_to:
                try:
                    await call.transfer(transfer_to)
                except TransferError as error:
                    print(f"transfer refused: {error}")
            case DtmfReceived(digit=digit):
                print(f"{call.remote} pressed {digit}")
            case CallEnded(description=description):
                print(f"over: {description}")
    await echoing


async def main() -> None:
    parser = argparse.ArgumentParser(description="Answer calls and repeat what is heard.")
    parser.add_argument("address", help="user@host")
    parser.add_argument("--greeting", default="", help="wav file to play first")
    parser.add_argument("--transfer-to", default="", help="whom the key # leads to")
    parser.add_argument("--sip-port", type=int, default=0)
    options = parser.parse_args()
    password = os.environ.get("SIPCORE_PASSWORD", "")
    account = Account(options.address, password=password)
    async with UserAgent(UserAgentConfig(sip_port=options.sip_port)) as agent:
        line = await agent.register(account) if password else agent.open_line(account)
        print(f"waiting for calls at {agent.sip_address}; Ctrl-C ends it")
        async with asyncio.TaskGroup() as calls:
            async for call in line.incoming():
                calls.create_task(serve(call, options.greeting, options.transfer_to))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
