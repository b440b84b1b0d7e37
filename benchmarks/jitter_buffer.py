"""What does the adaptive jitter buffer make of a bad network? Nothing but the lost packets may be missing, soon.

The engine as it is shipped, with real sockets, and a far end for each call that sends a packet each 20 ms. The network
between them is virtual: it loses packets, and delays each of the others at random, so that many overtake others. The
ticks are driven by hand, one behind the other, on a virtual clock: a minute takes some seconds, and what else runs on
the machine changes no figure. Each packet carries its number in its samples; a frame that was heard tells which it was.

How to read the table
  sent, lost   packets in the window, and how many of them the network lost.
  filled in    frames that the buffer had to make up in the window.
  beyond       those of them that are not lost packets, and packets that came after their time: has to be 0.
  skipped      frames that were left out on purpose, in silence, to take delay back.
  learning     frames made up beyond the lost packets before the window, while the buffer learned what the network does.
  network p99  of the delays of the packets that arrived, ms.
  heard after  from the far end's sending to the tick that plays, ms: mean of all calls, and of the worst one.
  added        mean less the network's p99. A tick plays 20 ms at once: a call whose far end sends right before our tick
               waits less than one whose far end sends right after it, by up to 20 ms, whatever the buffer does.
The buffer remembers 10 to 80 s: where one packet in a thousand is much slower, a frame may be made up now and then. The
least delay of the shipped buffer is 20 ms (--least): all there is to hear where the network has no jitter.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import random
import socket
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from common import machine, print_table, raise_file_limit, run_benchmark, write_json

from rtp.engine import MediaEngine
from rtp.g711 import Law, decode, encode

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rtp.stream import RtpStream

HOST = "127.0.0.1"
TICK_MS = 20
FRAME = 160
DIGITS = 4
BASE = 32
"""A packet's number is four samples of 32 values, over and over."""
MARGIN = 25
"""Packets at both borders of the window that the network does not lose, so that what is made up in the window was lost
in it."""
ALLOWED_MS = 20
"""Added delay above the network's 99th percentile that issue 4 allows."""
TALK_PACKETS, PAUSE_PACKETS = 100, 50
"""The far end speaks for two seconds and is silent for one: delay is taken back in pauses."""


def levels(loudest: int) -> NDArray[np.int16]:
    """32 samples that G.711 gives back as they are."""
    every = np.unique(decode(np.arange(256, dtype=np.uint8), Law.PCMU))
    chosen = every[(every > 0) & (every <= loudest)][-BASE // 2 :]
    return np.concatenate([-chosen[::-1], chosen]).astype(np.int16)


LOUD, SOFT = levels(12000), levels(150)
LOUD_CODES, SOFT_CODES = encode(LOUD, Law.PCMU).tobytes(), encode(SOFT, Law.PCMU).tobytes()


def written(number: int) -> bytes:
    """The payload of a packet."""
    codes = LOUD_CODES if number % (TALK_PACKETS + PAUSE_PACKETS) < TALK_PACKETS else SOFT_CODES
    return bytes(codes[number // BASE**place % BASE] for place in range(DIGITS)) * (FRAME // DIGITS)


def read(frame: NDArray[np.int16]) -> int | None:
    """The number of the packet that a frame is; None where it is made up, or two in one."""
    digits = frame[:DIGITS]
    if not (frame.reshape(-1, DIGITS) == digits).all():
        return None
    for level in (LOUD, SOFT):
        places = np.searchsorted(level, digits)
        if places.max() < BASE and (level[places] == digits).all():
            return int((places * BASE ** np.arange(DIGITS)).sum())
    return None


@dataclass(slots=True)
class FarEnd:
    """One call's far end, the network behind it, and what is heard of it."""

    stream: RtpStream
    sock: socket.socket
    rng: random.Random
    phase: float
    """Milliseconds after our tick at which it sends."""
    ssrc: int
    next: int = 0
    under_way: list[tuple[float, int]] = field(default_factory=list)
    delays: dict[int, float] = field(default_factory=dict)
    """Of each packet that arrives, ms."""
    heard: dict[int, float] = field(default_factory=dict)
    """When each was heard, ms since the beginning."""
    now: float = 0.0

    def write(self, frame: NDArray[np.int16]) -> None:
        """A sink: what is heard at this tick."""
        number = read(frame)
        if number is not None and number in self.delays:
            self.heard.setdefault(number, self.now)

    def close(self) -> None:
        """A sink."""

    def send(self, now: float, loss: float, jitter: float, kept: range, *, in_order: bool) -> None:
        """All that arrives before the tick of ``now``."""
        self.now = now
        while (sent := self.next * TICK_MS + self.phase) <= now:
            lost = self.rng.random() < loss and not any(abs(self.next - edge) < MARGIN for edge in (kept[0], kept[-1]))
            delay = self.rng.uniform(0, jitter)
            if not lost:
                arrival = sent + delay
                if in_order and self.under_way:
                    arrival = max(arrival, max(self.under_way)[0])
                self.delays[self.next] = arrival - sent
                heapq.heappush(self.under_way, (arrival, self.next))
            self.next += 1
        while self.under_way and self.under_way[0][0] <= now:
            _, number = heapq.heappop(self.under_way)
            head = b"\x80\x00" + (number & 0xFFFF).to_bytes(2) + (number * FRAME).to_bytes(4) + self.ssrc.to_bytes(4)
            self.sock.sendto(head + written(number), (HOST, self.stream.local_port))


async def measure(options: argparse.Namespace, loss: float, jitter: float) -> dict[str, Any]:
    """One row of the table."""
    rng = random.Random(options.seed)
    engine = MediaEngine(
        ports=(16384, 32767),
        rng=random.Random(options.seed),
        capacity=options.calls,
        jitter_min_ms=options.least,
        jitter_max_ms=options.most,
    )
    calls = []
    for number in range(options.calls):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((HOST, 0))
        stream = engine.open_stream(HOST)
        stream.configure(sock.getsockname(), codec="PCMU", payload_type=0, receive_payload_types={0: "PCMU"})
        phase = TICK_MS * (number + 0.5) / options.calls
        calls.append(FarEnd(stream, sock, random.Random(rng.random()), phase, rng.getrandbits(32)))
        stream.add_sink(calls[-1])
    first = round(options.warm_up * 1000 / TICK_MS)
    last = first + round(options.seconds * 1000 / TICK_MS)
    window = range(first, last)
    before = [call.stream.statistics() for call in calls]
    for tick in range(last + 1):  # a packet is sent after the tick of its number
        if tick == first:
            before = [call.stream.statistics() for call in calls]
        for call in calls:
            call.send(tick * TICK_MS, loss / 100, jitter, window, in_order=options.in_order)
        engine.tick(1, 0.0)
    after = [call.stream.statistics() for call in calls]
    await engine.close()
    for call in calls:
        call.sock.close()
    return summarize(calls, before, after, window, loss, jitter)


def summarize(
    calls: list[FarEnd], before: list[Any], after: list[Any], window: range, loss: float, jitter: float
) -> dict[str, Any]:
    """What one network did, and what was heard of it."""
    spent: Counter[str] = Counter()
    delays: list[float] = []
    means: list[float] = []
    for call, start, end in zip(calls, before, after, strict=True):
        lost = sum(number not in call.delays for number in window)
        filled, late = end.concealed - start.concealed, end.late - start.late
        spent["sent"] += len(window)
        spent["lost"] += lost
        spent["filled"] += filled
        spent["late"] += late
        spent["beyond"] += max(0, filled - lost) + late
        spent["skipped"] += end.skipped - start.skipped
        spent["learning"] += max(0, start.concealed - sum(number not in call.delays for number in range(window[0])))
        spent["underruns"] += end.underruns - start.underruns
        delays += [call.delays[number] for number in window if number in call.delays]
        after_all = [call.heard[number] - (number * TICK_MS + call.phase) for number in window if number in call.heard]
        means.append(float(np.mean(after_all)))
    p99 = float(np.percentile(delays, 99))
    return {
        "calls": len(calls),
        "loss_percent": loss,
        "delay_ms": jitter,
        **spent,
        "network_p99_ms": p99,
        "heard_after_ms": float(np.mean(means)),
        "heard_after_ms_worst_call": max(means),
        "added_ms": float(np.mean(means)) - p99,
    }


HEAD = (
    "loss, delay",
    "sent",
    "lost",
    "filled in",
    "beyond",
    "skipped",
    "learning",
    "network p99",
    "heard after",
    "worst",
    "added",
)


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """One line."""
    return (
        f"{row['loss_percent']:g} %, 0-{row['delay_ms']:g} ms",
        *(str(row[name]) for name in ("sent", "lost", "filled", "beyond", "skipped", "learning")),
        *(f"{row[name]:.1f}" for name in ("network_p99_ms", "heard_after_ms", "heard_after_ms_worst_call")),
        f"{row['added_ms']:+.1f}",
    )


def verdict(rows: list[dict[str, Any]]) -> str:
    """In words."""
    beyond = sum(row["beyond"] for row in rows)
    slow = [row for row in rows if row["added_ms"] > ALLOWED_MS]
    heard = "Nothing but the lost packets was missing." if not beyond else f"{beyond} frames were missing needlessly."
    late = "; ".join(f"{row['loss_percent']:g} %, 0-{row['delay_ms']:g} ms: {row['added_ms']:+.1f} ms" for row in slow)
    return f"{heard} " + (
        f"Heard more than {ALLOWED_MS} ms after the network's p99: {late}."
        if slow
        else f"All is heard within {ALLOWED_MS} ms of the network's p99."
    )


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        epilog=__doc__.partition("\n\n")[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_argument("--loss", type=float, nargs="+", default=[0, 5], help="per cent lost (default 0 5)")
    options.add_argument(
        "--delay", type=float, nargs="+", default=[0, 20, 60, 100], help="longest delay, ms (default 0 20 60 100)"
    )
    options.add_argument("--calls", type=int, default=20, help="calls of each row, whose far ends differ in phase")
    options.add_argument("--seconds", type=float, default=60, help="length of the window (default 60)")
    options.add_argument("--warm-up", type=float, default=30, help="seconds ahead of it (default 30)")
    options.add_argument("--in-order", action="store_true", help="no packet overtakes another")
    options.add_argument("--least", type=int, default=20, help="jitter_min_ms of the engine (default 20)")
    options.add_argument("--most", type=int, default=200, help="jitter_max_ms of the engine (default 200)")
    options.add_argument("--seed", type=int, default=1, help="of everything that is random (default 1)")
    out = Path(__file__).parent / "out"
    options.add_argument("--json", type=Path, default=out / "jitter_buffer.json", help="where the report goes")
    return options


def main(arguments: list[str] | None = None) -> None:
    """Measures, prints, writes."""
    options = parser().parse_args(arguments)
    raise_file_limit(3 * options.calls + 100)
    print(f"{options.calls} calls, {options.seconds:g} s after {options.warm_up:g} s, on a virtual clock\n", flush=True)
    rows = [asyncio.run(measure(options, loss, delay)) for loss in options.loss for delay in options.delay]
    print_table(HEAD, [cells(row) for row in rows])
    print(f"\n{verdict(rows)}")
    report = {"machine": machine(), "seed": options.seed, "in_order": options.in_order, "rows": rows}
    write_json(options.json, report)
    print(f"written to {options.json}")


if __name__ == "__main__":
    run_benchmark(main)
