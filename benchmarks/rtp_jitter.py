"""How punctually does it send? N two-way RTP streams of G.711 in 20 ms packets, as their receiver saw them.

Three processes: this one, a receiver that takes every packet with the kernel's receive time and sends it back, and
in turn two senders: the engine (`rtp.engine`, playing audio, with its jitter buffers and statistics at work), and a
bare loop over sockets that sends prepared packets and reads what comes back, which is what Python can do at best.

How to read the table
  deviation   |time between two packets of a stream - 20 ms|; a receiver's jitter buffer has to hold it.
  jitter      RFC 3550's smoothed estimate, median and largest over the streams.
  late        how far packets lie behind the earliest one of their stream on the ideal 20 ms grid, 99th percentile.
  gaps        packets missing by sequence number. missed: ticks that ran after the next one's deadline.
  CPU         milliseconds of CPU time of the sender for one second of one call; 1 is a thousandth of a core.
  steal       cores that the host of a virtual machine took away meanwhile. Figures of windows with steal say little.
Compare rows of one run, and look at several runs (--rounds); no figure means anything alone.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import random
import select
import socket
import struct
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from common import Window, machine, median_of, print_table, raise_file_limit, steal_seconds, write_json
from rtp_receiver import HISTOGRAM_EDGES_MS, receive

from rtp.engine import MediaEngine
from sipcore.tuning import tune_interpreter

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from numpy.typing import NDArray

HOST = "127.0.0.1"
PERIOD = 0.02
FRAME = 160
SENDERS = ("engine", "bare")


class EndlessTone:
    """A source that never ends."""

    total_samples = None
    exhausted = False

    def __init__(self, hertz: float) -> None:
        self._samples = (8000 * np.sin(2 * np.pi * hertz * np.arange(16000) / 8000)).astype(np.int16)
        self._position = 0

    def read(self, samples: int) -> NDArray[np.int16]:
        """Two seconds over and over."""
        start = self._position
        self._position = (start + samples) % 16000
        return self._samples[start : start + samples]


def engine_sender(ports: list[int], pipe: Connection, uvloop: bool) -> None:
    """The process with the engine."""
    factory = None
    if uvloop:
        with contextlib.suppress(ImportError):
            from uvloop import new_event_loop as factory
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(_run_engine(ports, pipe))


async def _run_engine(ports: list[int], pipe: Connection) -> None:
    raise_file_limit(2 * len(ports) + 100)
    tune_interpreter()
    engine = MediaEngine(ports=(16384, 65535), capacity=len(ports))
    await engine.start()
    tones = [EndlessTone(300 + 10 * number) for number in range(10)]
    streams = []
    for number, port in enumerate(ports):
        stream = engine.open_stream(HOST)
        stream.configure((HOST, port), codec="PCMU", payload_type=0, receive_payload_types={0: "PCMU"})
        stream.play(tones[number % len(tones)])
        streams.append(stream)
    window = Window()
    before = engine.statistics()
    pipe.send("ready")
    while True:
        if pipe.poll():
            if pipe.recv() == "end":
                break
            before = engine.statistics()
            window.begin()
        await asyncio.sleep(0.05)
    window.end()
    after = engine.statistics()
    received = [stream.statistics() for stream in streams]
    pipe.send(
        {
            "cpu": window.cpu,
            "wall": window.wall,
            "ticks": after.ticks - before.ticks,
            "missed_ticks": after.missed_ticks - before.missed_ticks,
            "tick_ms_p50": after.tick_ms_p50,
            "tick_ms_p99": after.tick_ms_p99,
            "clock_lateness_ms_p99": after.lateness_ms_p99,
            "echo_lost": sum(one.lost for one in received),
            "echo_late": sum(one.late for one in received),
            "echo_concealed": sum(one.concealed for one in received),
        }
    )
    await engine.close()


def bare_sender(ports: list[int], pipe: Connection, uvloop: bool) -> None:
    """The process with the bare loop; it has no event loop, so ``uvloop`` says nothing to it."""
    raise_file_limit(len(ports) + 100)
    rng = random.Random()
    poller = select.epoll()
    calls = []
    readers = {}
    for port in ports:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((HOST, 0))
        sock.connect((HOST, port))
        sock.setblocking(False)
        poller.register(sock, select.EPOLLIN)
        packet = bytearray(struct.pack("!BBHII", 0x80, 0, 0, 0, rng.getrandbits(32)) + b"\x55" * FRAME)
        calls.append((sock.send, packet))
        readers[sock.fileno()] = sock
    inbox = bytearray(2048)
    window = Window()
    ticks = missed = sequence = 0
    pipe.send("ready")
    start = time.monotonic()
    while True:
        deadline = start + (sequence + 1) * PERIOD
        delay = deadline - time.monotonic()
        if delay > 0:
            time.sleep(delay)
        elif delay < -PERIOD:
            missed += 1
        sequence += 1
        ticks += 1
        header = struct.pack("!HI", sequence & 0xFFFF, sequence * FRAME & 0xFFFFFFFF)
        for send, packet in calls:
            packet[2:8] = header
            send(packet)
        while events := poller.poll(0, len(calls)):
            for descriptor, _ in events:
                readers[descriptor].recv_into(inbox)
        if ticks % 3 == 0 and pipe.poll():
            if pipe.recv() == "end":
                break
            ticks = missed = 0
            window.begin()
    window.end()
    pipe.send({"cpu": window.cpu, "wall": window.wall, "ticks": ticks, "missed_ticks": missed})


def run_once(sender: str, options: argparse.Namespace) -> dict[str, Any]:
    """One window of one sender."""
    context = multiprocessing.get_context("spawn")
    ear, ear_end = context.Pipe()
    receiver = context.Process(target=receive, args=(options.calls, ear_end), daemon=True)
    receiver.start()
    ports = ear.recv()
    mouth, mouth_end = context.Pipe()
    target = engine_sender if sender == "engine" else bare_sender
    process = context.Process(target=target, args=(ports, mouth_end, options.uvloop), daemon=True)
    process.start()
    mouth.recv()
    time.sleep(options.warm_up)
    steal = steal_seconds()
    mouth.send("begin")
    ear.send("begin")
    time.sleep(options.seconds)
    ear.send("end")
    mouth.send("end")
    result: dict[str, Any] = {"sender": sender, **mouth.recv(), **ear.recv()}
    result["steal_cores"] = (steal_seconds() - steal) / options.seconds
    result["cpu_ms_per_call_second"] = 1000 * result["cpu"] / (result["wall"] * options.calls)
    process.join()
    receiver.join()
    if not result["streams"]:
        raise SystemExit(f"nothing of {sender} arrived in the window: is the machine busy, or --warm-up too short?")
    return result


HEAD = ("sender", "streams", "p50", "p90", "p99", "max ms", "jitter", "worst", "late", "gaps", "missed", "CPU", "steal")


def cells(result: dict[str, Any], calls: int) -> tuple[str, ...]:
    """One row of the table."""
    deviation, jitter = result["deviation_ms"], result["jitter_ms"]
    return (
        result["sender"],
        f"{result['streams']}/{calls}",
        *(f"{deviation[name]:.2f}" for name in ("p50", "p90", "p99", "max")),
        f"{jitter['median']:.2f}",
        f"{jitter['max']:.2f}",
        f"{result['lateness_ms_p99']:.2f}",
        str(result["sequence_gaps"]),
        f"{result['missed_ticks']}/{result['ticks']}",
        f"{result['cpu_ms_per_call_second']:.3f}",
        f"{result['steal_cores']:.2f}",
    )


def summarize(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the rounds, and the engine beside the bare loop."""
    summary: dict[str, Any] = {}
    for sender in SENDERS:
        mine = [result for result in results if result["sender"] == sender]
        if mine:
            summary[sender] = {
                "deviation_ms_p99": median_of([result["deviation_ms"]["p99"] for result in mine]),
                "jitter_ms": median_of([result["jitter_ms"]["median"] for result in mine]),
                "cpu_ms_per_call_second": median_of([result["cpu_ms_per_call_second"] for result in mine]),
                "missed_ticks": sum(result["missed_ticks"] for result in mine),
            }
    if len(summary) == 2:
        engine, bare = summary["engine"], summary["bare"]
        summary["ratio"] = {
            name: engine[name] / bare[name]
            for name in ("deviation_ms_p99", "jitter_ms", "cpu_ms_per_call_second")
            if bare[name]
        }
    return summary


def print_summary(summary: dict[str, Any]) -> None:
    """Medians and ratios in words."""
    for sender in SENDERS:
        if sender in summary:
            mine = summary[sender]
            print(
                f"median of {sender:6}: deviation p99 {mine['deviation_ms_p99']:.2f} ms, "
                f"jitter {mine['jitter_ms']:.2f} ms, CPU {mine['cpu_ms_per_call_second']:.3f} ms per call-second, "
                f"{mine['missed_ticks']} ticks missed in all"
            )
    if "ratio" in summary:
        ratio = summary["ratio"]
        print("engine / bare loop: " + ", ".join(f"{name} x {value:.2f}" for name, value in ratio.items()))


def draw(results: list[dict[str, Any]], path: Path) -> None:
    """Histogram of the intervals, and the worst deviation over time."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for sender, color in zip(SENDERS, ("tab:blue", "tab:gray"), strict=True):
        mine = [result for result in results if result["sender"] == sender]
        if not mine:
            continue
        counts = np.sum([result["interval_histogram"] for result in mine], axis=0)
        left.stairs(
            counts / counts.sum(), HISTOGRAM_EDGES_MS, label=sender, color=color, fill=sender == "bare", alpha=0.7
        )
        line = mine[-1]["worst_deviation_ms_by_100_ms"]
        right.plot(np.arange(len(line)) / 10, line, label=sender, color=color, linewidth=0.9)
    left.set(yscale="log", xlabel="ms between two packets of a stream", ylabel="share", title="intervals")
    right.set(xlabel="s", ylabel="largest deviation in 100 ms, ms", title="last round")
    left.legend()
    right.legend()
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
    parser.add_argument("--calls", type=int, default=100, help="streams at once (default 100)")
    parser.add_argument("--seconds", type=float, default=6.0, help="length of each window (default 6)")
    parser.add_argument("--rounds", type=int, default=3, help="windows of each sender, taken in turn (default 3)")
    parser.add_argument("--warm-up", type=float, default=1.5, help="seconds ahead of each window (default 1.5)")
    parser.add_argument("--only", choices=SENDERS, help="measure one sender only")
    parser.add_argument(
        "--no-uvloop", dest="uvloop", action="store_false", help="run the engine on the stock event loop"
    )
    parser.add_argument("--json", type=Path, default=out / "rtp_jitter.json", help="where the report goes")
    parser.add_argument(
        "--png", type=Path, default=out / "rtp_jitter.png", help="where the plot goes (needs matplotlib)"
    )
    options = parser.parse_args()
    facts = machine()
    print(
        f"{options.calls} two-way streams, windows of {options.seconds:g} s, on {facts['cores']} x {facts['processor']}"
    )
    results = []
    for number in range(options.rounds):
        for sender in SENDERS:
            if options.only in (None, sender):
                results.append(run_once(sender, options))
                print(f"round {number + 1}: {sender} measured", flush=True)
    print()
    print_table(HEAD, [cells(result, options.calls) for result in results])
    print()
    summary = summarize(results)
    print_summary(summary)
    write_json(
        options.json,
        {"machine": facts, "calls": options.calls, "seconds": options.seconds, "summary": summary, "windows": results},
    )
    try:
        draw(results, options.png)
    except ImportError:
        print("no PNG: pip install 'sipcore[plot]'")
    print(f"written to {options.json.parent}")


if __name__ == "__main__":
    main()
