"""What does a call cost the media engine, and where? CPU time by phase of the tick, on any machine.

The streams of one engine talk to each other in pairs over the loopback, both ways, with jitter buffers, RTCP and
statistics at work. Nobody waits for a clock: the ticks are driven by hand, one behind the other, and what is measured
is the CPU time of the process. Other programs cost it caches, some ten per cent, and nothing else; the bare loop,
measured beside it, shows how many.

How to read the tables
  ms          milliseconds of CPU time for one second (50 ticks) of one call; 1 is a thousandth of a core.
  best, p50   of the --sets sets of --ticks ticks. Compare the best of two versions, and the median of two machines.
  bare        the same sockets without an engine: `sendto` and `recv_into` of Python's socket module, one `epoll`.
  KiB a call  resident memory that the process gained by opening the streams and running them, without the kernel's.
  phases      exclusive time: what a phase calls that is a phase of its own is not counted twice.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import gc
import importlib
import multiprocessing
import os
import random
import select
import socket
import time
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from common import machine, median_of, print_table, raise_file_limit, run_benchmark, write_json
from rtp_senders import PTIMES, endless_tone

from rtp.engine import MediaEngine

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

HOST = "127.0.0.1"
PERIOD = 0.02
WARM_UP_TICKS = 150
"""Longer than the jitter buffer's first review, and than the first reports."""

PHASES = {
    "sources": ["rtp.outgoing:Outgoing._fill_payloads"],
    "encode": ["rtp.outgoing:encode_frames"],
    "headers": ["rtp.outgoing:write_headers"],
    "pack": ["rtp.outgoing:collect", "rtp.outgoing:take"],
    "send": [
        "rtp.transmit:KernelTransmitter.send_all",
        "rtp.transmit:PortableTransmitter.send_all",
        "rtp.transmit:KernelTransmitter.send_some",
        "rtp.transmit:PortableTransmitter.send_some",
    ],
    "read": [
        "rtp.datagrams:KernelReader.read_expected",
        "rtp.datagrams:KernelReader.read",
        "rtp.datagrams:PortableReader.read",
    ],
    "classify": ["rtp.incoming:classify"],
    "follow": ["rtp.incoming:follow"],
    "arrivals": ["rtp.incoming:measure_arrivals"],
    "insert": ["rtp.incoming:insert"],
    "play": ["rtp.delay:Delay.play"],
    "conceal": ["rtp.incoming:conceal"],
    "RTCP": ["rtp.control:Reports.tick"],
    "rest": ["rtp.engine:MediaEngine.tick"],
}
"""Functions by phase, as the engine calls them."""


class Stopwatch:
    """CPU time by phase."""

    def __init__(self) -> None:
        self.spent: defaultdict[str, float] = defaultdict(float)
        self._inner = 0.0

    def attach(self) -> None:
        """Puts a watch on every function of `PHASES`."""
        for phase, targets in PHASES.items():
            for target in targets:
                module, _, path = target.partition(":")
                owner: Any = importlib.import_module(module)
                *classes, name = path.split(".")
                for part in classes:
                    owner = getattr(owner, part)
                setattr(owner, name, self._timed(phase, getattr(owner, name)))

    def _timed(self, phase: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def timed(*arguments: Any, **options: Any) -> Any:
            outer, self._inner = self._inner, 0.0
            begin = time.process_time()
            try:
                return function(*arguments, **options)
            finally:
                passed = time.process_time() - begin
                self.spent[phase] += passed - self._inner
                self._inner = outer + passed

        return timed


def resident_kib() -> int:
    """Memory of this process that is in use, KiB; 0 where nobody tells."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024
    except OSError:
        return 0


async def measure_engine(options: argparse.Namespace, calls: int, *, phases: bool) -> dict[str, Any]:
    """Sets of ticks of one engine."""
    watch = Stopwatch()
    if not options.uring:
        rings: Any = importlib.import_module("rtp.uring")
        rings.Batch.run = lambda *_: None
    if phases:
        watch.attach()
    clock = SimpleNamespace(now=time.monotonic())
    engine_module: Any = importlib.import_module("rtp.engine")
    engine_module.time = SimpleNamespace(  # a tick takes 20 ms of it, so that reports are as frequent as in earnest
        monotonic=lambda: clock.now, perf_counter=time.perf_counter, thread_time=time.thread_time
    )
    gc.collect()
    memory = resident_kib()
    engine = MediaEngine(ports=(16384, 65535), rng=random.Random(1), capacity=calls)
    streams = [engine.open_stream(HOST) for _ in range(calls)]
    for number, stream in enumerate(streams):
        far = streams[number ^ 1]
        stream.configure(
            (HOST, far.local_port),
            codec=options.codec,
            payload_type=0,
            receive_payload_types={0: options.codec},
            rtcp=(HOST, far.local_port + 1),
            ptime_ms=options.ptime,
        )
        if not options.silent:
            stream.play(endless_tone(300 + 10 * (number % 10)))

    def tick() -> None:
        clock.now += PERIOD
        engine.tick(1, 0.0)
        if options.ptime % 20:
            engine.half_tick()

    for _ in range(WARM_UP_TICKS):
        tick()
    watch.spent.clear()
    sets = []
    for _ in range(options.sets):
        begin = time.process_time()
        for _ in range(options.ticks):
            tick()
        sets.append(1000 * (time.process_time() - begin) / (options.ticks * PERIOD * calls))
    scale = 1000 / (options.sets * options.ticks * PERIOD * calls)
    one = streams[-1].statistics()
    result = {
        "calls": calls,
        "best_ms": min(sets),
        "median_ms": median_of(sets),
        "phases_ms": {phase: watch.spent[phase] * scale for phase in PHASES if phases},
        "kib_per_call": (resident_kib() - memory) / calls,
        "received": one.packets_received,
        "lost": one.lost,
        "concealed": one.concealed,
        "reports_received": one.reports_received,
    }
    await engine.close()
    return result


def measure_bare(options: argparse.Namespace, calls: int) -> dict[str, Any]:
    """The same packets with nothing around them."""
    poller = select.epoll()
    sockets = []
    for _ in range(calls):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((HOST, 0))
        sock.setblocking(False)
        poller.register(sock, select.EPOLLIN)
        sockets.append(sock)
    packets = [bytearray(12 + 8 * options.ptime) for _ in range(calls)]
    period = options.ptime / 1000
    sends = [(sock.sendto, packets[number], sockets[number ^ 1].getsockname()) for number, sock in enumerate(sockets)]
    readers = {sock.fileno(): sock.recv_into for sock in sockets}
    inbox = bytearray(2048)

    def tick(number: int) -> None:
        header = number.to_bytes(6)
        for send, packet, address in sends:
            packet[2:8] = header
            send(packet, address)
        while events := poller.poll(0, calls):
            for descriptor, _ in events:
                readers[descriptor](inbox)

    for number in range(WARM_UP_TICKS):
        tick(number)
    sets = []
    for _ in range(options.sets):
        begin = time.process_time()
        for number in range(options.ticks):
            tick(number)
        sets.append(1000 * (time.process_time() - begin) / (options.ticks * period * calls))
    for sock in sockets:
        sock.close()
    return {"calls": calls, "best_ms": min(sets), "median_ms": median_of(sets)}


def work(kind: str, options: argparse.Namespace, calls: int, pipe: Connection) -> None:
    """The process of one measurement: what one leaves behind must not weigh on the next."""
    raise_file_limit(2 * calls + 100)
    np.zeros(1).sum()
    if kind == "bare":
        pipe.send(measure_bare(options, calls))
    else:
        pipe.send(asyncio.run(measure_engine(options, calls, phases=kind == "phases")))


def run(kind: str, options: argparse.Namespace, calls: int) -> dict[str, Any]:
    """One measurement in a fresh process."""
    context = multiprocessing.get_context("spawn")
    near, far = context.Pipe()
    process = context.Process(target=work, args=(kind, options, calls, far), daemon=True)
    process.start()
    far.close()
    try:
        result: dict[str, Any] = near.recv()
    except EOFError:
        raise SystemExit(f"the process that measured {kind} with {calls} calls failed") from None
    process.join()
    return result


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        epilog=__doc__.partition("\n\n")[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    out = Path(__file__).parent / "out"
    parser.add_argument("--calls", type=int, nargs="+", default=[100, 1000], help="streams at once (default 100 1000)")
    parser.add_argument("--ticks", type=int, default=50, help="ticks of a set (default 50: one second of calls)")
    parser.add_argument("--sets", type=int, default=8, help="sets (default 8)")
    parser.add_argument("--codec", choices=("PCMU", "PCMA", "G722"), default="PCMU")
    parser.add_argument(
        "--ptime", type=int, choices=PTIMES, default=20, help="milliseconds of audio in a packet (default 20)"
    )
    parser.add_argument("--silent", action="store_true", help="nothing plays: silence goes both ways")
    parser.add_argument(
        "--no-uring", dest="uring", action="store_false", help="a system call a packet, as where io_uring is forbidden"
    )
    parser.add_argument("--json", type=Path, default=out / "rtp_cost.json", help="where the report goes")
    options = parser.parse_args()
    if any(calls % 2 or calls < 2 for calls in options.calls):
        parser.error("streams talk in pairs: --calls wants even numbers")
    facts = machine()
    print(f"packets of {options.ptime} ms, sets of {options.ticks} ticks", end=", ")
    print(f"on {facts['cores']} x {facts['processor']}, load {os.getloadavg()[0]:.1f}\n")
    rows, reports = [], []
    for calls in options.calls:
        engine, split, bare = (run(kind, options, calls) for kind in ("engine", "phases", "bare"))
        reports.append({"engine": engine, "phases": split["phases_ms"], "bare": bare})
        rows.append(
            (
                str(calls),
                f"{engine['best_ms']:.3f}",
                f"{engine['median_ms']:.3f}",
                f"{bare['best_ms']:.3f}",
                f"{bare['median_ms']:.3f}",
                f"{engine['best_ms'] / bare['best_ms']:.2f}",
                f"{engine['kib_per_call']:.1f}",
                str(engine["lost"] + engine["concealed"]),
            )
        )
    print_table(("calls", "best ms", "p50", "bare best", "p50", "ratio", "KiB a call", "lost"), rows)
    print()
    head = ("phase", *(f"{calls} calls, ms" for calls in options.calls))
    print_table(head, [(phase, *(f"{report['phases'][phase]:.3f}" for report in reports)) for phase in PHASES])
    first, last = reports[0]["engine"], reports[-1]["engine"]
    if first is not last:
        ratio = last["best_ms"] / first["best_ms"]
        print(f"\na call among {last['calls']} costs x {ratio:.2f} what one among {first['calls']} does")
    write_json(options.json, {"machine": facts, "ptime": options.ptime, "load": os.getloadavg(), "results": reports})
    print(f"written to {options.json}")


if __name__ == "__main__":
    run_benchmark(main)
