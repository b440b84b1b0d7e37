"""Call everybody on a list, never more than so many at once, play a message, and write down what came of it.

    SIPCORE_PASSWORD=... python examples/dial_list.py alice@example.com numbers.csv message.wav results.csv --at-once 10

The first column of numbers.csv is whom to call, without a heading. results.csv gets a line when a call is over: number,
outcome (answered, busy, no answer, refused, unreachable), SIP code, seconds connected, keys pressed, and a sentence.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from sipcore import (
    Account,
    Call,
    CallRejected,
    CallTimeout,
    DtmfReceived,
    NoOngoingCall,
    Registration,
    SipError,
    UserAgent,
)

COLUMNS = ("number", "outcome", "code", "seconds", "keys", "description")
LISTEN = 2.0
"""Seconds after the message in which keys still count."""


async def keys_of(call: Call) -> str:
    """All keys of a call that is over."""
    return "".join([event.digit async for event in call.events() if isinstance(event, DtmfReceived)])


async def dial(line: Registration, number: str, message: str) -> tuple[object, ...]:
    """One call; a row of the results."""
    try:
        call = await line.call(number, timeout=30)
    except CallTimeout as error:
        return number, "no answer", error.code, 0, "", str(error)
    except CallRejected as error:
        return number, "busy" if error.code in (486, 600) else "refused", error.code, 0, "", str(error)
    except SipError as error:  # no route, no codec in common, not even a number …
        return number, "unreachable", error.code, 0, "", str(error)
    since = time.monotonic()
    async with call:  # leaving the block hangs up
        try:
            await call.play(message)
            await asyncio.sleep(LISTEN)
        except NoOngoingCall:
            pass  # hung up while it was told
    ended = await call.wait_ended()
    return number, "answered", 200, round(time.monotonic() - since, 1), await keys_of(call), ended.description


async def work(line: Registration, numbers: Iterator[str], message: str, results: Path) -> None:
    """One call after the other, for as long as there are numbers."""
    for number in numbers:  # all workers share one iterator: whoever is free takes the next
        row = await dial(line, number, message)
        print(*row, flush=True)
        with results.open("a", newline="") as file:  # a program that is stopped has written all calls that are over
            csv.writer(file).writerow(row)


async def main(options: argparse.Namespace) -> int:
    with options.numbers.open(newline="") as file:
        numbers = iter([row[0].strip() for row in csv.reader(file) if row and row[0].strip()])
    with options.results.open("w", newline="") as file:
        csv.writer(file).writerow(COLUMNS)
    password = os.environ.get("SIPCORE_PASSWORD", "")
    account = Account(options.account, password=password)
    async with UserAgent() as agent:
        try:
            line = await agent.register(account) if password else agent.open_line(account)
        except SipError as error:
            print(f"not registered: {error}")
            return 1
        # As many workers as calls may be up at once: no queue of a million tasks, and nothing to count.
        async with asyncio.TaskGroup() as workers:
            for _ in range(options.at_once):
                workers.create_task(work(line, numbers, options.message, options.results))
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Call everybody on a list.")
    parser.add_argument("account", help="user@host")
    parser.add_argument("numbers", type=Path, help="csv file, whom to call in its first column")
    parser.add_argument("message", help="wav file to play")
    parser.add_argument("results", type=Path, help="csv file to write")
    parser.add_argument("--at-once", type=int, default=5, help="calls at the same time, at most")
    sys.exit(asyncio.run(main(parser.parse_args())))
