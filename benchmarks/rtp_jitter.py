"""How punctually does it send? N two-way RTP streams of G.711, as their receiver saw them.

Three processes: this one; a receiver that takes every packet with the kernel's receive time and sends it back; and
in turn the senders: `rows`, the engine of this project with its jitter buffers, RTCP and statistics at work; `live` and
`recorded`, the same with a program that hears and speaks on each call, or a recording of each; `task`, a plain asyncio
task for each call; `bare`, a loop over sockets that sends prepared packets, which is what Python can do at best.
`--rival` measures programs of others in the same run: they call by SIP, and talk to the same receiver.

\b
  rtp_jitter.py --calls 200                  the engine beside the bare loop
  rtp_jitter.py --engine task --calls 50     the asyncio task that people know, beside the bare loop
  rtp_jitter.py --engine live --calls 200    a program on each call; --engine recorded: a file of each call
  rtp_jitter.py --calls 1000 --seconds 60 --rounds 1
  rtp_jitter.py --ptime 30 --calls 200       packets of 30 ms
  rtp_jitter.py --search                     more and more calls until it breaks
  rtp_jitter.py --rival baresip --calls 50   beside Debian's baresip; --rival pjsua: a pjsua of your own (--pjsua PATH)
  rtp_jitter.py receive                      on another machine; then here:
  rtp_jitter.py --peer HOST --calls 200
  rtp_jitter.py compare A.json B.json        ratios of two reports

How to read the table

\b
  p50..max   deviation: |time between two packets of a stream - their ptime|; a jitter buffer has to hold it.
  jitter     RFC 3550's smoothed estimate, median and worst over the streams.
  late       how far packets lie behind the earliest one of their stream on the ideal grid, 99th percentile.
  gaps       packets missing by sequence number. missed: ticks that ran after the next one's deadline; rivals tell none.
             The engine ticks each 20 ms whatever packets hold; task and bare each ptime.
  CPU        milliseconds of CPU time of the sender for one second of one call; 1 is a thousandth of a core.
  KiB        memory that the process grew by, for each call (a rival: all of its memory).
  steal      cores that the host of a virtual machine took away meanwhile. Figures of windows with steal say little.

Compare rows of one run, and look at several rounds; no figure means anything alone. docs/tuning.md tells what helps.
"""

from __future__ import annotations

import json
import multiprocessing
import socket
import textwrap
import time
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from common import machine, print_table, steal_seconds, write_json
from rtp_channel import Channel
from rtp_receiver import listen
from rtp_report import HEAD, cells, compare, draw, holds, print_summary, summarize, verdict
from rtp_rivals import call, find
from rtp_senders import PTIMES, Job, resident_kib, send

if TYPE_CHECKING:
    from collections.abc import Mapping

HOST = "127.0.0.1"
PORT = 7090
OUT = Path(__file__).parent / "out"
PROGRESS_SECONDS = 10.0
STEPS = (100, 200, 400, 600, 800, 1000, 1200, 1400, 1600, 2000, 2500, 3000)

app = typer.Typer(add_completion=False, invoke_without_command=True, rich_markup_mode=None)


class Engine(StrEnum):
    """What to measure beside the bare loop."""

    ROWS = "rows"
    LIVE = "live"
    RECORDED = "recorded"
    TASK = "task"
    BARE = "bare"


class Rival(StrEnum):
    """Programs of others."""

    PJSUA = "pjsua"
    BARESIP = "baresip"


class Codec(StrEnum):
    """Of all streams."""

    PCMU = "PCMU"
    PCMA = "PCMA"


@dataclass(frozen=True, slots=True)
class Plan:
    """One window, whatever sends."""

    calls: int
    seconds: float
    warm_up: float
    peer: tuple[str, int] | None
    codec: Codec
    ptime: int
    uvloop: bool
    tuned: bool
    sender_core: int | None
    receiver_core: int | None
    programs: Mapping[str, str]
    """Of rivals, by name."""


def run_once(sender: str, plan: Plan) -> dict[str, Any]:
    """One window of one sender.

    Raises:
        SystemExit: nothing arrived, or there is no receiver.
    """
    context = multiprocessing.get_context("spawn")
    receiver = None
    address = plan.peer
    if address is None:
        ready, ready_end = context.Pipe()
        receiver = context.Process(target=_listen_here, args=(ready_end, plan.receiver_core), daemon=True)
        receiver.start()
        address = (HOST, ready.recv())
    try:
        channel = Channel(socket.create_connection(address, timeout=5))
    except OSError as error:
        raise SystemExit(
            f"no receiver at {address[0]} port {address[1]} ({error}): start 'rtp_jitter.py receive' there"
        ) from None
    channel.send({"calls": plan.calls, "ptime": plan.ptime})
    targets = [(socket.gethostbyname(address[0]), port) for port in channel.receive()["ports"]]
    job = Job(
        sender,
        targets,
        channel.local_host,
        plan.codec.value,
        plan.ptime,
        uvloop=plan.uvloop,
        affinity=plan.sender_core,
        tuned=plan.tuned,
        program=plan.programs.get(sender, ""),
    )
    mouth, mouth_end = context.Pipe()
    process = context.Process(target=call if sender in plan.programs else send, args=(job, mouth_end), daemon=True)
    process.start()
    mouth_end.close()
    try:
        if (said := mouth.recv()) != "ready":
            raise SystemExit(f"{sender}: {said}")
        time.sleep(plan.warm_up)
        steal = steal_seconds()
        mouth.send("begin")
        channel.send({"do": "begin"})
        _wait(plan.seconds, f"{plan.calls} calls, {sender}", process.pid)
        channel.send({"do": "end"})
        mouth.send("end")
        result = {"sender": sender, "calls": plan.calls, "ptime": plan.ptime, **mouth.recv(), **channel.receive()}
    except EOFError:
        raise SystemExit(f"{sender} ended before its window did") from None
    result["steal_cores"] = (steal_seconds() - steal) / plan.seconds
    result["cpu_ms_per_call_second"] = 1000 * result["cpu"] / (result["wall"] * plan.calls)
    process.join()
    channel.close()
    if receiver is not None:
        receiver.join()
    if not result["streams"]:
        raise SystemExit(f"nothing of {sender} arrived in the window: is the machine busy, or --warm-up too short?")
    return result


def _wait(seconds: float, what: str, process: int | None) -> None:
    """Lets the window pass; in a long one it is said how far it is."""
    begin = time.monotonic()
    while (left := seconds - (time.monotonic() - begin)) > PROGRESS_SECONDS:
        time.sleep(PROGRESS_SECONDS)
        memory = resident_kib(process or "self") / 1024
        print(f"{what}: {seconds - left + PROGRESS_SECONDS:.0f} of {seconds:g} s, {memory:.0f} MiB", flush=True)
    time.sleep(max(0.0, left))


def _listen_here(ready: Any, affinity: int | None) -> None:
    listen((HOST, 0), ready.send, affinity, once=True)


def measure(plan: Plan, senders: list[str], rounds: int) -> list[dict[str, Any]]:
    """Each sender's windows, taken in turn."""
    results = []
    for number in range(rounds):
        for sender in senders:
            results.append(run_once(sender, plan))
            print(f"{plan.calls} calls, round {number + 1} of {rounds}: {sender} measured", flush=True)
    return results


def search(plan: Plan, sender: str) -> list[dict[str, Any]]:
    """More and more calls, until two windows in a row of a number do not hold."""
    results: list[dict[str, Any]] = []
    for calls in STEPS:
        step = replace(plan, calls=calls)
        for _ in range(2):
            results.append(run_once(sender, step))
            held = holds(results[-1])
            print(f"{calls} calls: {'held' if held else 'did not hold'}", flush=True)
            if held:
                break
        else:
            return results
    return results


@app.callback(help=__doc__)
def main(
    context: typer.Context,
    calls: Annotated[int, typer.Option(min=1, help="Streams at once.")] = 100,
    seconds: Annotated[float, typer.Option(min=0.5, help="Length of each window.")] = 6.0,
    rounds: Annotated[int, typer.Option(min=1, help="Windows of each sender, taken in turn.")] = 3,
    warm_up: Annotated[float, typer.Option(min=0.2, help="Seconds ahead of each window.")] = 1.5,
    engine: Annotated[Engine, typer.Option(help="What to measure.")] = Engine.ROWS,
    beside: Annotated[bool, typer.Option("--bare/--no-bare", help="Measure the bare loop beside it.")] = True,
    rivals: Annotated[list[Rival], typer.Option("--rival", help="Programs to measure beside it; again for more.")] = [],  # noqa: B006
    pjsua: Annotated[str, typer.Option(help="The pjsua program, of pjproject 2.x.")] = "pjsua",
    baresip: Annotated[str, typer.Option(help="The baresip program.")] = "baresip",
    seek: Annotated[bool, typer.Option("--search", help="How many calls it holds; --calls is ignored.")] = False,
    peer: Annotated[
        str, typer.Option(help="HOST or HOST:PORT of a machine on which 'rtp_jitter.py receive' runs.")
    ] = "",
    codec: Annotated[Codec, typer.Option(help="Of all streams.")] = Codec.PCMU,
    ptime: Annotated[int, typer.Option(metavar="MS", help="Audio in a packet: 10, 20, 30, 40, 50 or 60 ms.")] = 20,
    uvloop: Annotated[bool, typer.Option(help="Event loop of rows and task: uvloop, or the stock one.")] = True,
    tuned: Annotated[bool, typer.Option(help="Interpreter settings as the server has them, or Python's own.")] = True,
    sender_core: Annotated[int | None, typer.Option(help="Bind the sender to this core.")] = None,
    receiver_core: Annotated[int | None, typer.Option(help="Bind the receiver to this core.")] = None,
    report: Annotated[Path, typer.Option("--json", help="Where the report goes.")] = OUT / "rtp_jitter.json",
    png: Annotated[Path, typer.Option(help="Where the plot goes (needs matplotlib).")] = OUT / "rtp_jitter.png",
) -> None:
    if context.invoked_subcommand is not None:
        return
    if ptime not in PTIMES:
        raise typer.BadParameter(f"{ptime} ms is none of {', '.join(map(str, PTIMES))}", param_hint="--ptime")
    if rivals and ptime != 20:
        raise typer.BadParameter("rivals send packets of 20 ms", param_hint="--ptime")
    paths = {Rival.PJSUA: pjsua, Rival.BARESIP: baresip}
    plan = Plan(
        calls=calls,
        seconds=seconds,
        warm_up=warm_up,
        peer=_address(peer) if peer else None,
        codec=codec,
        ptime=ptime,
        uvloop=uvloop,
        tuned=tuned,
        sender_core=sender_core,
        receiver_core=receiver_core,
        programs={rival.value: find(paths[rival]) for rival in rivals},
    )
    facts = machine()
    print(f"two-way streams of {ptime} ms packets, windows of {seconds:g} s", end=", ")
    print(f"on {facts['cores']} x {facts['processor']}")
    senders = list(dict.fromkeys([engine.value, *plan.programs, *(["bare"] if beside else [])]))
    results = search(plan, engine.value) if seek else measure(plan, senders, rounds)
    print()
    print_table(HEAD, [cells(result) for result in results])
    print()
    if seek:
        held = max((result["calls"] for result in results if holds(result)), default=0)
        print(f"{engine.value} held {held} calls" + (f", not {results[-1]['calls']}" * (not holds(results[-1]))))
        summary = summarize([result for result in results if result["calls"] == held])
    else:
        held = calls
        summary = summarize(results)
        print_summary(summary)
    if engine.value in summary:
        print(textwrap.fill(verdict(summary, engine.value, held), 100))
    facts_of_run = {"machine": facts, "calls": held, "seconds": seconds, "codec": codec.value, "ptime": ptime}
    write_json(report, {**facts_of_run, "summary": summary, "windows": results})
    try:
        draw(results, png)
    except ImportError:
        print("no PNG: pip install 'sipcore[plot]'")
    print(f"written to {report.parent}")


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.partition(":")
    if port and not port.isdecimal():
        raise typer.BadParameter(f"{text!r} is no HOST:PORT")
    return host, int(port or PORT)


@app.command("receive")
def receive_command(
    host: Annotated[str, typer.Argument(help="Address of this machine that the sender reaches.")] = "0.0.0.0",
    port: Annotated[int, typer.Option(min=1, max=65535, help="TCP port of the control connection.")] = PORT,
    core: Annotated[int | None, typer.Option(help="Bind this process to a core.")] = None,
) -> None:
    """Be the far end of a sender on another machine, until Ctrl-C. For a network that you trust: whoever reaches the
    port may use it."""
    try:
        listen((host, port), lambda port: print(f"waiting on {host} port {port}; Ctrl-C ends", flush=True), core)
    except OSError as error:
        raise SystemExit(f"{host} port {port}: {error}") from None
    except KeyboardInterrupt:
        pass


@app.command("compare")
def compare_command(
    first: Annotated[Path, typer.Argument(exists=True, dir_okay=False)],
    second: Annotated[Path, typer.Argument(exists=True, dir_okay=False)],
) -> None:
    """Print the ratios of two reports."""
    reports = []
    for path in (first, second):
        try:
            report = json.loads(path.read_text())
            report["summary"].items()
        except (ValueError, KeyError, TypeError, AttributeError):
            raise SystemExit(f"{path} is no report of rtp_jitter.py") from None
        reports.append(report)
    compare(*reports)


if __name__ == "__main__":
    app()
