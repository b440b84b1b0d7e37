"""Ten times a busy trunk's traffic from strangers, garbage mixed in, while calls are up: do they notice?

    python benchmarks/call_setup.py --flood

Three processes: an agent under attack that holds calls, their far end (this process), and an attacker that sends from
another loopback address. A quiet window and a window of flood are compared: what the far end's ears got, what the
agent's clock missed, its CPU, its memory. Afterwards a new call has to work and the old ones have to end normally.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import random
import resource
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from common import Window, machine, print_table, raise_file_limit, write_json
from sipp_peer import HOST

from sipcore.config import Account, UserAgentConfig
from sipcore.tuning import tune_interpreter
from sipcore.useragent import UserAgent

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from rtp.statistics import StreamStatistics
    from sipcore.call import Call

__all__ = ["run"]

CALLS = 50
RATE = 5000
"""Messages a second: ten times the rate of calls that one agent is expected to take."""
STRANGER = "127.0.0.9"
BURST = 0.01


def loop_factory() -> Any:
    """uvloop's, where it is installed."""
    with contextlib.suppress(ImportError):
        from uvloop import new_event_loop

        return new_event_loop
    return None


# -- the agent under attack --------------------------------------------------------------------------------------


def attacked(pipe: Connection) -> None:
    """A process of its own."""
    raise_file_limit(4096)
    tune_interpreter()
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_attacked(pipe))


async def _attacked(pipe: Connection) -> None:
    noise = (3000 * np.random.default_rng(1).standard_normal(8000)).clip(-9000, 9000).astype(np.int16)
    tasks: set[asyncio.Task[None]] = set()
    async with UserAgent(UserAgentConfig(sip_host=HOST, allow_from=(HOST,))) as agent:
        line = agent.open_line(Account(f"bench@{HOST}"))

        async def talk(call: Call) -> None:
            await call.answer()
            while call.is_connected:
                await call.play(noise)

        async def take() -> None:
            async for call in line.incoming():
                task = asyncio.create_task(talk(call))
                tasks.add(task)
                task.add_done_callback(tasks.discard)

        taking = asyncio.create_task(take())
        pipe.send(agent.sip_address[1])
        window = Window()
        before = agent.media.statistics()
        while (word := await asyncio.to_thread(pipe.recv)) != "end":
            if word == "begin":
                before = agent.media.statistics()
                window.begin()
            else:
                window.end()
                after = agent.media.statistics()
                pipe.send(
                    {
                        "cpu_cores": window.cpu / window.wall,
                        "missed_ticks": after.missed_ticks - before.missed_ticks,
                        "ticks": after.ticks - before.ticks,
                        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                        "idle": agent.stack.idle,
                        "transactions": agent.stack.layer.active_count,
                    }
                )
        taking.cancel()
        await asyncio.gather(taking, *tasks, return_exceptions=True)


# -- the attacker ------------------------------------------------------------------------------------------------


def attack(port: int, rate: int, seconds: float, pipe: Connection) -> None:
    """Sends in bursts of 10 ms; says how many messages it sent."""
    rng = random.Random(7)
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((STRANGER, 0))
    sock.setblocking(False)
    own = sock.getsockname()[1]
    sent = 0
    pipe.send("ready")
    pipe.recv()
    begin = time.monotonic()
    while (elapsed := time.monotonic() - begin) < seconds:
        while sent < elapsed * rate:
            with contextlib.suppress(BlockingIOError):
                sock.sendto(message(rng, port, own, sent), (HOST, port))
            sent += 1
        with contextlib.suppress(BlockingIOError):
            while True:
                sock.recv(4096)
        time.sleep(BURST)
    pipe.send(sent)


def message(rng: random.Random, port: int, own: int, number: int) -> bytes:
    """Three of five are well-formed requests of a scanner, one is garbage, one a broken or stray message."""
    kind = rng.randrange(5)
    if kind == 0:
        return rng.randbytes(rng.randrange(1, 1400))
    method = rng.choice(("INVITE", "INVITE", "OPTIONS", "REGISTER", "BYE"))
    body = "v=0\r\no=- 1 1 IN IP4 127.0.0.9\r\ns=-\r\nc=IN IP4 127.0.0.9\r\nt=0 0\r\nm=audio 9 RTP/AVP 0\r\n"
    start = f"{method} sip:{rng.randrange(10_000)}@{HOST}:{port} SIP/2.0"
    if kind == 1 and rng.random() < 0.5:
        start = f"SIP/2.0 {rng.choice((180, 200, 404, 503))} Whatever"
    data = (
        f"{start}\r\nVia: SIP/2.0/UDP {STRANGER}:{own};branch=z9hG4bK{number};rport\r\n"
        f"From: <sip:100@{STRANGER}>;tag={number}\r\nTo: <sip:100@{HOST}>\r\nCall-ID: {number}@{STRANGER}\r\n"
        f"CSeq: 1 {method}\r\nContact: <sip:100@{STRANGER}:{own}>\r\nMax-Forwards: 70\r\n"
        f"User-Agent: friendly-scanner\r\nContent-Type: application/sdp\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()
    return data[: rng.randrange(20, len(data))] if kind == 1 else data


# -- the far end, and the report ---------------------------------------------------------------------------------


def heard(before: list[StreamStatistics], after: list[StreamStatistics], seconds: float) -> dict[str, Any]:
    """What the far end's ears got in a window."""
    pairs = list(zip(before, after, strict=True))
    return {
        "packets_per_second": sum(b.packets_received - a.packets_received for a, b in pairs) / seconds / len(pairs),
        "lost": sum(b.lost - a.lost for a, b in pairs),
        "late": sum(b.late - a.late for a, b in pairs),
        "jitter_ms": max(b.jitter_ms for b in after),
    }


async def _run(seconds: float) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    pipe, pipe_end = context.Pipe()
    victim = context.Process(target=attacked, args=(pipe_end,), daemon=True)
    victim.start()
    port = await asyncio.to_thread(pipe.recv)
    report: dict[str, Any] = {"calls": CALLS, "rate": RATE, "seconds": seconds}
    async with UserAgent(UserAgentConfig(sip_host=HOST)) as agent:
        line = agent.open_line(Account(f"far@{HOST}"))
        calls = [await line.call(f"sip:bench@{HOST}:{port}") for _ in range(CALLS)]
        print(f"{CALLS} calls are up")
        await asyncio.sleep(2)
        for name, rate in (("quiet", 0), ("flood", RATE)):
            ear, ear_end = context.Pipe()
            attacker = context.Process(target=attack, args=(port, rate, seconds, ear_end), daemon=True)
            attacker.start()
            await asyncio.to_thread(ear.recv)
            before, begun = [call.statistics() for call in calls], time.monotonic()
            pipe.send("begin")
            ear.send("go")
            sent = await asyncio.to_thread(ear.recv)
            pipe.send("report")
            after, elapsed = [call.statistics() for call in calls], time.monotonic() - begun
            report[name] = await asyncio.to_thread(pipe.recv)
            report[name] |= heard(before, after, elapsed) | {"sent_per_second": sent / elapsed}
            attacker.join()
            print(f"{name}: measured")
        report["alive"] = sum(call.is_connected for call in calls)
        late = await line.call(f"sip:bench@{HOST}:{port}", timeout=5)
        await late.hangup()
        ends = await asyncio.gather(*(call.hangup() for call in calls))
        report["ended_normally"] = sum(end.code in (0, 200) and end.error is None for end in ends)
    pipe.send("end")
    victim.join(15)
    return report


def run(out: Path, seconds: float) -> None:
    """Measures, prints, writes ``flood.json``."""
    raise_file_limit(4096)
    tune_interpreter()
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        report = runner.run(_run(seconds))
    head = (
        "window",
        "sent/s",
        "packets/s a call",
        "lost",
        "late",
        "jitter ms",
        "missed ticks",
        "CPU cores",
        "peak MiB",
    )
    print()
    print_table(
        head,
        [
            (
                *(name, f"{one['sent_per_second']:.0f}", f"{one['packets_per_second']:.1f}"),
                *(str(one["lost"]), str(one["late"]), f"{one['jitter_ms']:.2f}"),
                *(f"{one['missed_ticks']}/{one['ticks']}", f"{one['cpu_cores']:.2f}", f"{one['peak_mib']:.0f}"),
            )
            for name, one in (("quiet", report["quiet"]), ("flood", report["flood"]))
        ],
    )
    print()
    print(
        f"{report['alive']} of {CALLS} calls lived through it, a new one was taken meanwhile, and "
        f"{report['ended_normally']} ended normally; "
        f"{report['flood']['transactions']} transactions were left right after the flood"
    )
    write_json(out / "flood.json", {"machine": machine(), **report})
    print(f"written to {out}")
