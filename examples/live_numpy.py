"""A bot that speaks sound made with numpy, listens meanwhile, and stops at once when it is interrupted.

    SIPCORE_PASSWORD=... python examples/live_numpy.py bot@example.com

Without a password it does not register and takes calls sent straight to its address:

    python examples/live_numpy.py bot@127.0.0.1 --sip-port 5070

In place of the scale there would be a speech synthesiser, which makes seconds of audio in one go; in place of the
loudness a voice activity detector or a recogniser.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os

import numpy as np
from numpy.typing import NDArray

from sipcore import Account, AudioStream, Call, NoOngoingCall, UserAgent, UserAgentConfig

RATE = 16000
SCALE = {"do": 262, "re": 294, "mi": 330, "fa": 349, "sol": 392, "la": 440, "si": 494}
LOUD = 500.0


def note(hertz: float, seconds: float) -> NDArray[np.int16]:
    """A sine that fades in and out."""
    time = np.arange(int(RATE * seconds)) / RATE
    shape = np.minimum(1, np.minimum(time, seconds - time) / 0.01)
    return (6000 * shape * np.sin(2 * np.pi * hertz * time)).astype(np.int16)


async def sing(audio: AudioStream) -> None:
    """Says more than the caller may want to hear, and tells what was heard."""
    marks = []
    for name, hertz in SCALE.items():
        await audio.write(note(hertz, 0.5))  # at once: what is queued is bounded, and waits here when there is no room
        marks.append(audio.mark(name))
    for mark in marks:
        played = await mark
        print(f"  {mark.name}: {'heard' if played else 'cut'} at {mark.seconds:.2f} s", flush=True)


async def converse(call: Call) -> None:
    """Sings until the call ends or the caller says something."""
    async with call.audio(rate=RATE, frame_ms=40) as audio, asyncio.TaskGroup() as tasks:
        singing = tasks.create_task(sing(audio))
        async for frame in audio:
            loudness = float(np.sqrt(np.mean(frame.astype(np.float32) ** 2)))
            if loudness > LOUD and not singing.done():
                thrown_away = audio.clear()
                print(f"  interrupted: {thrown_away:.2f} s not said", flush=True)
                await singing
                await audio.write(note(880, 0.2))  # "yes?"


async def serve(call: Call) -> None:
    """One call, from ringing to its end."""
    print(f"{call.remote} calls", flush=True)
    try:
        await call.answer()
        await converse(call)
    except NoOngoingCall:
        return  # the caller was gone already
    print(f"over: {(await call.wait_ended()).description}", flush=True)


async def main() -> None:
    parser = argparse.ArgumentParser(description="Answer calls, sing, and stop when interrupted.")
    parser.add_argument("address", help="user@host")
    parser.add_argument("--sip-port", type=int, default=0)
    options = parser.parse_args()
    password = os.environ.get("SIPCORE_PASSWORD", "")
    account = Account(options.address, password=password)
    async with UserAgent(UserAgentConfig(sip_port=options.sip_port)) as agent:
        line = await agent.register(account) if password else agent.open_line(account)
        print(f"waiting for calls at {agent.sip_address}; Ctrl-C ends it", flush=True)
        async with asyncio.TaskGroup() as calls:
            async for call in line.incoming():
                calls.create_task(serve(call))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
