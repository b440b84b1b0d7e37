"""How many calls a second can be set up and torn down, against SIPp, beside a bare UDP socket in the same run.

    python benchmarks/call_setup.py [--from 100] [--to 1200] [--seconds 4] [--role caller|callee] [--flood]

A call is INVITE, 180, 200, ACK, 100 ms of talk, BYE, 200, with a session description each way. It is placed by this
side (SIPp's built-in ``uas`` answers) and by SIPp (its built-in ``uac`` calls). The user agent does all that a call
needs: parsing, transactions with every timer, dialog, offer/answer, an RTP port pair and a stream on the media clock.
The bare socket sends fixed text and looks at nothing but the status code.

How to read the table
  Each rate is asked for during a window, by a fresh process, after ten calls to warm up.
  held     no call failed, nothing was sent twice, and the rate was reached. A rate that did not hold is tried once
           more: a stall of half a second of the machine is enough for a retransmission.
  CPU      milliseconds of CPU time of the measured process per call.
  p50 p99  INVITE to 200, milliseconds, where this side calls.
The ladder ends at the first rate that did not hold twice; the bare socket is measured at the highest that held.

``--flood`` instead sends ten times the highest rate of a usual trunk at an agent with calls up; see flood.py.
Writes ``call_setup.json`` and, where matplotlib is installed, ``call_setup.png``. Needs SIPp (Debian: sip-tester).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from bare_calls import BareCallee, BareCaller
from common import Window, machine, print_table, raise_file_limit, run_benchmark, write_json
from sipp_peer import HOST, Sipp

from sipcore.config import Account, UserAgentConfig
from sipcore.tuning import tune_interpreter
from sipcore.useragent import UserAgent

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

HOLD = 0.1
"""Seconds of talk in each call."""
WARM_UP = 10
REACHED = 0.97
"""Share of the rate asked for that counts as reached."""
STEPS = (100, 200, 300, 400, 500, 600, 800, 1000, 1200, 1600)


@dataclass(frozen=True, slots=True)
class Step:
    """One window."""

    role: str
    """``caller`` or ``callee``: what the measured side was."""
    side: str
    """``sipcore`` or ``bare socket``."""
    rate: int
    """Calls a second asked for."""
    reached: float
    calls: int
    failed: int
    retransmitted: int
    cpu_ms: float
    """CPU time of the measured process per call, milliseconds."""
    p50_ms: float = 0.0
    p99_ms: float = 0.0

    @property
    def held(self) -> bool:
        """See the module's docstring."""
        return not self.failed and not self.retransmitted and self.reached >= REACHED * self.rate


# -- the measured process ----------------------------------------------------------------------------------------


def measured(role: str, side: str, pipe: Connection) -> None:
    """A process of its own: its CPU time is what is measured."""
    raise_file_limit(8192)
    factory = None
    with contextlib.suppress(ImportError):
        from uvloop import new_event_loop as factory
    if side == "sipcore":
        tune_interpreter()
    run: Callable[[Connection], Awaitable[None]] = {
        ("caller", "sipcore"): agent_calls,
        ("callee", "sipcore"): agent_answers,
        ("caller", "bare socket"): bare_calls,
        ("callee", "bare socket"): bare_answers,
    }[role, side]

    async def main() -> None:
        await run(pipe)

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())


async def received(pipe: Connection) -> Any:
    """The next message of the measuring process; the loop goes on meanwhile."""
    return await asyncio.to_thread(pipe.recv)


async def agent_answers(pipe: Connection) -> None:
    """The user agent takes every call."""
    answering: set[asyncio.Task[None]] = set()
    async with UserAgent(UserAgentConfig(sip_host=HOST)) as agent:
        line = agent.open_line(Account(f"bench@{HOST}"))

        async def take() -> None:
            async for call in line.incoming():
                task = asyncio.create_task(call.answer())
                answering.add(task)
                task.add_done_callback(answering.discard)

        taking = asyncio.create_task(take())
        await count_cpu(pipe, agent.sip_address[1])
        taking.cancel()
        await asyncio.gather(taking, *answering, return_exceptions=True)


async def bare_answers(pipe: Connection) -> None:
    """The bare socket takes every call."""
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(BareCallee, local_addr=(HOST, 0))
    await count_cpu(pipe, transport.get_extra_info("sockname")[1])
    transport.close()


async def count_cpu(pipe: Connection, port: int) -> None:
    """Says where it listens, and how much CPU time passes between "begin" and "end"."""
    window = Window()
    pipe.send(port)
    await received(pipe)
    window.begin()
    await received(pipe)
    window.end()
    pipe.send({"cpu": window.cpu})


async def agent_calls(pipe: Connection) -> None:
    """The user agent calls."""
    async with UserAgent(UserAgentConfig(sip_host=HOST)) as agent:
        line = agent.open_line(Account(f"bench@{HOST}"))
        port: int = await received(pipe)

        async def one() -> float:
            begin = time.perf_counter()
            call = await line.call(f"sip:bench@{HOST}:{port}")
            elapsed = time.perf_counter() - begin
            await asyncio.sleep(HOLD)
            await call.hangup()
            return elapsed

        await place(pipe, one)


async def bare_calls(pipe: Connection) -> None:
    """The bare socket calls."""
    port: int = await received(pipe)
    transport, caller = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: BareCaller(port), local_addr=(HOST, 0)
    )
    await place(pipe, lambda: caller.call(HOLD))
    transport.close()


async def place(pipe: Connection, one: Callable[[], Awaitable[float]]) -> None:
    """Calls at a steady rate, on absolute deadlines."""
    for _ in range(WARM_UP):
        await one()
    pipe.send("warm")
    rate, calls = await received(pipe)
    window = Window()
    window.begin()
    begun = asyncio.get_running_loop().time()
    under_way: list[asyncio.Future[float]] = []
    for number in range(calls):
        delay = begun + number / rate - asyncio.get_running_loop().time()
        if delay > 0:
            await asyncio.sleep(delay)
        under_way.append(asyncio.ensure_future(one()))
    placing = asyncio.get_running_loop().time() - begun
    results = await asyncio.gather(*under_way, return_exceptions=True)
    window.end()
    times = [result for result in results if isinstance(result, float)]
    pipe.send({"cpu": window.cpu, "reached": (calls - 1) / placing, "failed": calls - len(times), "times": times})


# -- the measuring process ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def process(role: str, side: str) -> Any:
    """The measured process; yields the pipe to it."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    child = context.Process(target=measured, args=(role, side, there), daemon=True)
    child.start()
    there.close()
    try:
        yield here
    finally:
        child.join(10)
        if child.is_alive():
            child.kill()


def measure(role: str, side: str, rate: int, seconds: float) -> Step:
    """One window."""
    calls = int(rate * seconds)
    if role == "callee":
        with process(role, side) as pipe:
            port = pipe.recv()
            call_it = (f"{HOST}:{port}", "-s", "bench", "-d", str(int(1000 * HOLD)), "-l", "20000")
            with Sipp("uac", *call_it, "-m", str(WARM_UP), "-r", "20") as sipp:
                sipp.wait(30)
            pipe.send("begin")
            begin = time.monotonic()
            with Sipp("uac", *call_it, "-m", str(calls), "-r", str(rate), "-rp", "1000") as sipp:
                ended = sipp.wait(seconds + 60)
                elapsed = time.monotonic() - begin - HOLD
                counts = sipp.counts()
            pipe.send("end")
            cpu = pipe.recv()["cpu"]
        failed = calls - counts.succeeded if ended else calls
        # SIPp places the first call at once and looks at its clock each millisecond: the ends of a window are ragged.
        reached = calls / max(elapsed - 0.3, seconds)
        return Step(role, side, rate, reached, calls, failed, counts.retransmitted, 1000 * cpu / calls)
    with Sipp("uas") as sipp, process(role, side) as pipe:
        pipe.send(sipp.port)
        pipe.recv()
        before = sipp.counts()
        pipe.send((rate, calls))
        result = pipe.recv()
        time.sleep(1.1)  # its statistics are a second old
        retransmitted = sipp.counts().retransmitted - before.retransmitted
    p50, p99 = np.percentile(result["times"], (50, 99)) * 1000 if result["times"] else (0.0, 0.0)
    return Step(
        *(role, side, rate, result["reached"], calls, result["failed"], retransmitted),
        *(1000 * result["cpu"] / calls, float(p50), float(p99)),
    )


def ladder(role: str, options: argparse.Namespace) -> list[Step]:
    """Rates that rise until one does not hold twice; then the bare socket at the highest that held."""
    steps: list[Step] = []
    for rate in (step for step in STEPS if options.lowest <= step <= options.highest):
        for _ in range(2):
            steps.append(measure(role, "sipcore", rate, options.seconds))
            tell(steps[-1])
            if steps[-1].held:
                break
        else:
            break
    best = max((step.rate for step in steps if step.held), default=options.lowest)
    steps.append(measure(role, "bare socket", best, options.seconds))
    tell(steps[-1])
    return steps


def tell(step: Step) -> None:
    """One line of progress."""
    print(f"{step.role} {step.side} at {step.rate}/s: {'held' if step.held else 'did not hold'}", flush=True)


HEAD = ("role", "measured", "rate", "reached", "calls", "failed", "sent twice", "held", "CPU", "p50", "p99")


def cells(step: Step) -> tuple[str, ...]:
    """One row of the table."""
    times = (f"{step.p50_ms:.1f}", f"{step.p99_ms:.1f}") if step.p99_ms else ("", "")
    return (
        *(step.role, step.side, str(step.rate), f"{step.reached:.0f}", str(step.calls), str(step.failed)),
        *(str(step.retransmitted), "yes" if step.held else "no", f"{step.cpu_ms:.3f}", *times),
    )


def summarize(steps: list[Step]) -> dict[str, Any]:
    """The highest rate that held, its CPU per call, and how many times that is the bare socket's."""
    summary: dict[str, Any] = {}
    for role in ("caller", "callee"):
        held = [step for step in steps if step.role == role and step.side == "sipcore" and step.held]
        bare = [step for step in steps if step.role == role and step.side == "bare socket"]
        if held and bare:
            best = held[-1]
            cheapest = min(step.cpu_ms for step in held)
            summary[role] = {
                "calls_per_second": best.rate,
                "cpu_ms_per_call": best.cpu_ms,
                "cpu_ms_per_call_cheapest": cheapest,
                "times_bare": best.cpu_ms / bare[-1].cpu_ms if bare[-1].cpu_ms else 0.0,
            }
            print(
                f"as {role}: {best.rate} calls a second held, {best.cpu_ms:.2f} ms of CPU a call there "
                f"({cheapest:.2f} at best), {summary[role]['times_bare']:.1f} x the bare socket's"
            )
    return summary


def draw(steps: list[Step], path: Path) -> None:
    """CPU per call by rate, hollow where the rate did not hold."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    for role, color in (("caller", "tab:blue"), ("callee", "tab:orange")):
        mine = [step for step in steps if step.role == role and step.side == "sipcore"]
        axis.plot([step.rate for step in mine], [step.cpu_ms for step in mine], color=color, label=role, linewidth=0.8)
        for held in (True, False):
            some = [step for step in mine if step.held is held]
            face = color if held else "white"
            axis.scatter([s.rate for s in some], [s.cpu_ms for s in some], edgecolors=color, facecolors=face, zorder=3)
    axis.set(xlabel="calls a second (hollow: did not hold)", ylabel="CPU ms per call", ylim=(0, None))
    axis.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        epilog=__doc__.partition("\n\n")[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    out = Path(__file__).parent / "out"
    parser.add_argument("--from", dest="lowest", type=int, default=100, help="lowest rate (default 100)")
    parser.add_argument("--to", dest="highest", type=int, default=1200, help="highest rate (default 1200)")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of each window (default 4)")
    parser.add_argument("--role", choices=("caller", "callee"), help="measure one role only")
    parser.add_argument("--flood", action="store_true", help="the flood run instead")
    parser.add_argument("--out", type=Path, default=out, help="folder for JSON and PNG")
    options = parser.parse_args()
    facts = machine()
    print(f"on {facts['cores']} x {facts['processor']}, Python {facts['python']}")
    if options.flood:
        from flood import run

        run(options.out, options.seconds)
        return
    roles = (options.role,) if options.role else ("caller", "callee")
    steps = [step for role in roles for step in ladder(role, options)]
    print()
    print_table(HEAD, [cells(step) for step in steps])
    print()
    summary = summarize(steps)
    rows = [{**asdict(step), "held": step.held} for step in steps]
    write_json(options.out / "call_setup.json", {"machine": facts, "summary": summary, "steps": rows})
    try:
        draw(steps, options.out / "call_setup.png")
    except ImportError:
        print("no PNG: pip install 'sipcore[plot]'")
    print(f"written to {options.out}")


if __name__ == "__main__":
    run_benchmark(main)
