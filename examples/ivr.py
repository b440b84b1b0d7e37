"""A menu for callers: keys choose what is played next, interrupt it, transfer the caller or end the call.

    SIPCORE_PASSWORD=... python examples/ivr.py bot@example.com menu.wav --say 1=hours.wav --say 2=way.wav --to 0=desk

After each announcement the menu comes again; # hangs up, and so does pressing nothing or a wrong key three times.
Without a password it does not register and takes calls sent straight to its address, as echo_bot.py does.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os

from sipcore import Account, Call, DtmfReceived, NoOngoingCall, TransferError, UserAgent, UserAgentConfig

PATIENCE = 6.0
"""Seconds that the caller has for a key, once the prompt is over."""
ATTEMPTS = 3


async def collect(call: Call, keys: asyncio.Queue[str | None]) -> None:
    """The keys as they are pressed, in RTP or by INFO alike, also before anybody asks; None: the caller is gone."""
    async for event in call.events():
        if isinstance(event, DtmfReceived):
            keys.put_nowait(event.digit)
    keys.put_nowait(None)


async def ask(call: Call, prompt: str, keys: asyncio.Queue[str | None]) -> str | None:
    """Plays a prompt and returns the key that the caller pressed, which cuts the prompt short; "" for none."""
    playing = call.play(prompt)
    try:
        async with asyncio.timeout((playing.total_seconds or 0.0) + PATIENCE):
            return await keys.get()
    except TimeoutError:
        return ""
    finally:
        playing.cancel()  # at the next frame, 20 ms at most


async def menu(call: Call, options: argparse.Namespace, keys: asyncio.Queue[str | None]) -> None:
    """Asks until the caller has had enough, or hangs up."""
    failures = 0
    while failures < ATTEMPTS and (key := await ask(call, options.menu, keys)) is not None:
        print(f"{call.remote} pressed {key or 'nothing'}", flush=True)
        if key == "#":
            return
        if key in options.to:
            try:
                await call.transfer(options.to[key])  # accepted, and this leg is over
            except TransferError as error:
                print(f"transfer refused: {error}", flush=True)
        elif key in options.say:
            failures = 0
            await call.play(options.say[key])
        else:
            failures += 1


async def serve(call: Call, options: argparse.Namespace) -> None:
    """One call, from ringing to its end."""
    keys: asyncio.Queue[str | None] = asyncio.Queue()
    collecting = asyncio.create_task(collect(call, keys))
    async with call:  # leaving the block hangs up
        with contextlib.suppress(NoOngoingCall):  # the caller hung up while something was to be played
            await call.answer()
            await menu(call, options, keys)
    await collecting
    print(f"over: {(await call.wait_ended()).description}", flush=True)


def choice(text: str) -> tuple[str, str]:
    """``KEY=WHAT`` of the command line."""
    key, _, what = text.partition("=")
    if len(key) != 1 or key not in "0123456789*ABCD" or not what:
        raise argparse.ArgumentTypeError("must be a key, = and what it leads to")
    return key, what


async def main() -> None:
    parser = argparse.ArgumentParser(description="Answer calls with a menu.")
    parser.add_argument("address", help="user@host")
    parser.add_argument("menu", help="wav file that says what there is to choose")
    parser.add_argument(
        "--say", type=choice, action="append", default=[], metavar="KEY=FILE", help="a key plays a file"
    )
    parser.add_argument("--to", type=choice, action="append", default=[], metavar="KEY=WHOM", help="a key transfers")
    parser.add_argument("--sip-port", type=int, default=0)
    options = parser.parse_args()
    options.say, options.to = dict(options.say), dict(options.to)
    password = os.environ.get("SIPCORE_PASSWORD", "")
    account = Account(options.address, password=password)
    async with UserAgent(UserAgentConfig(sip_port=options.sip_port)) as agent:
        line = await agent.register(account) if password else agent.open_line(account)
        print(f"waiting for calls at {agent.sip_address}; Ctrl-C ends it", flush=True)
        async with asyncio.TaskGroup() as calls:
            async for call in line.incoming():
                calls.create_task(serve(call, options))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
