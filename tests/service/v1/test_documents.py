"""The program in docs/grpc.md does what the text says."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

from sipcore.events import DtmfReceived
from tests.kit.fake_agent import FakeCall
from tests.service.bench import ALICE, BOB, Bench
from tests.service.v1.wire import open_wire, until

DOCUMENT = Path(__file__).parents[3] / "docs" / "grpc.md"


def programs() -> dict[str, Any]:
    """What the programs of the section define."""
    section = DOCUMENT.read_text("utf-8").partition("## Watch and steer")[2].partition("\n## ")[0]
    defined: dict[str, Any] = {}
    for program in re.findall(r"```python\n(.*?)```", section, re.DOTALL):
        exec(program, defined)
    return defined


async def test_the_call_that_is_placed() -> None:
    async with open_wire(Bench()) as wire:
        await wire.session()
        dialling = asyncio.create_task(programs()["dial"](wire.channel, ALICE, BOB))
        await until(lambda: wire.bench.registration.calls)
        wire.bench.call.answer_by_far_end()
        assert await dialling == "Hung up by this side"


async def test_the_bot_that_answers_and_hands_over() -> None:
    program = programs()
    async with open_wire(Bench()) as wire:
        await wire.session(auto_answer=-1)
        registration = wire.bench.registration
        before = len(wire.bench.accounts.journal._waiting)
        attending = asyncio.create_task(program["attend"](wire.channel, ALICE, "desk"))
        await until(lambda: len(wire.bench.accounts.journal._waiting) > before)
        caller = registration.invite(BOB)
        assert isinstance(caller, FakeCall)
        await until(lambda: caller.is_connected)
        caller.happen(DtmfReceived("0", 120))
        await until(lambda: registration.calls[-1].remote == "desk")
        registration.call.answer_by_far_end()
        await until(lambda: caller.transfers)
        caller.transfers[0].accept()
        assert await attending == "Hung up by this side, MOS 4.1"
        assert caller.did == ["answer", "hold", "transfer to desk {} 10", "hangup"]
