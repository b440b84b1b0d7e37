"""How many calls a second can be set up and torn down, against SIPp, beside a bare UDP socket in the same run.

    python benchmarks/call_setup.py [--calls 300] [--concurrency 1,10,50] [--out benchmarks/out]

A call is INVITE, 180, 200, ACK, BYE, 200 with a session description each way. It is placed by this side (SIPp's
built-in ``uas`` answers) and by SIPp (its built-in ``uac`` calls). The user agent does all that a call needs: parsing,
transactions, dialog, offer/answer, an RTP port pair and a stream on the media clock. The bare socket sends fixed text
and looks at nothing but the status code: what is left is SIPp, the kernel and Python's event loop.

Prints a table, writes ``call_setup.json`` and, where matplotlib is installed, ``call_setup.png``.
Needs SIPp (Debian: ``apt-get install sip-tester``).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import platform
import shutil
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import cast

from sipcore.config import Account, UserAgentConfig
from sipcore.registration import Registration
from sipcore.tuning import tune_interpreter
from sipcore.useragent import UserAgent

HOST = "127.0.0.1"
SDP = f"v=0\r\no=- 1 1 IN IP4 {HOST}\r\ns=-\r\nc=IN IP4 {HOST}\r\nt=0 0\r\nm=audio 9 RTP/AVP 0\r\n"


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement."""

    caller: str
    """``agent`` or ``sipp``: who places the calls."""
    side: str
    """``sipcore`` or ``bare socket``: what is measured."""
    concurrency: int
    """Calls under way at once."""
    calls: int
    failed: int
    seconds: float
    cpu_ms: float
    """CPU time of this process per call, milliseconds."""
    p50_ms: float = 0.0
    """INVITE to 200, median, milliseconds; only where this side calls."""
    p99_ms: float = 0.0

    @property
    def rate(self) -> float:
        """Calls a second."""
        return (self.calls - self.failed) / self.seconds


class Stopwatch:
    """Wall and CPU time of a block."""

    def __enter__(self) -> Stopwatch:
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self._wall
        self.cpu = time.process_time() - self._cpu

    def row(self, caller: str, side: str, concurrency: int, calls: int, failed: int = 0) -> Row:
        return Row(caller, side, concurrency, calls, failed, self.seconds, 1000 * self.cpu / calls)


def with_times(row: Row, seconds: list[float]) -> Row:
    """``row`` with the percentiles of the set-up times."""
    if len(seconds) < 2:
        return row
    hundredths = statistics.quantiles(seconds, n=100, method="inclusive")
    return replace(row, p50_ms=1000 * hundredths[49], p99_ms=1000 * hundredths[98])


def free_port() -> int:
    """A UDP port that nobody has bound."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@contextlib.asynccontextmanager
async def sipp(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """SIPp in a folder of its own; ended when the block is left."""
    executable = shutil.which("sipp")
    if executable is None:
        sys.exit("sipp is not installed: apt-get install sip-tester")
    with tempfile.TemporaryDirectory() as folder:
        process = await asyncio.create_subprocess_exec(
            executable,
            *arguments,
            "-i",
            HOST,
            "-nostdin",
            cwd=folder,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


@contextlib.asynccontextmanager
async def answering_sipp() -> AsyncIterator[int]:
    """SIPp's ``uas``; yields its port once it answers."""
    port = free_port()
    async with sipp("-sn", "uas", "-p", str(port)):
        await answered(port)
        yield port


async def answered(port: int) -> None:
    """Wait until something has bound the UDP port: until then datagrams come back as ICMP errors."""
    for _ in range(500):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                return
        await asyncio.sleep(0.01)
    raise TimeoutError(f"nothing bound port {port}")


# -- the user agent ----------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def agent_line() -> AsyncIterator[tuple[UserAgent, Registration]]:
    """A user agent with one account that is registered nowhere."""
    async with UserAgent(UserAgentConfig(sip_host=HOST)) as agent:
        yield agent, agent.open_line(Account(f"bench@{HOST}"))


async def agent_calls(port: int, concurrency: int, calls: int) -> Row:
    """Place ``calls`` calls, ``concurrency`` at once."""
    times: list[float] = []
    failed = 0
    left = iter(range(calls))

    async def worker(line: Registration) -> None:
        nonlocal failed
        for _ in left:
            begin = time.perf_counter()
            try:
                call = await line.call(f"sip:bench@{HOST}:{port}")
                times.append(time.perf_counter() - begin)
                await call.hangup()
            except Exception as error:
                failed += 1
                print(f"failed: {error!r}", file=sys.stderr)

    async with agent_line() as (_, line):
        with Stopwatch() as watch:
            await asyncio.gather(*(worker(line) for _ in range(concurrency)))
    return with_times(watch.row("agent", "sipcore", concurrency, calls, failed), times)


async def agent_answers(concurrency: int, calls: int) -> Row:
    """Answer the calls of SIPp's ``uac``."""
    async with agent_line() as (agent, line):

        async def take() -> None:
            async for call in line.incoming():
                answering.add(asyncio.create_task(call.answer()))

        answering: set[asyncio.Task[None]] = set()
        taking = asyncio.create_task(take())
        row = await sipp_calls(agent.sip_address[1], "sipcore", concurrency, calls)
        taking.cancel()
        await asyncio.gather(taking, *answering, return_exceptions=True)
    return row


async def sipp_calls(port: int, side: str, concurrency: int, calls: int) -> Row:
    """Let SIPp call ``port`` as fast as ``concurrency`` calls at once allow."""
    limits = ("-m", str(calls), "-l", str(concurrency), "-r", "5000", "-d", "0")
    with Stopwatch() as watch:
        async with sipp("-sn", "uac", f"{HOST}:{port}", "-s", "bench", *limits) as caller:
            code = await caller.wait()
    return watch.row("sipp", side, concurrency, calls, 0 if code == 0 else calls)


# -- the bare socket ---------------------------------------------------------------------------------------------


def request(method: str, port: int, number: int, own: int, *, to_tag: str = "", body: str = "") -> bytes:
    """The shortest request that SIPp takes."""
    cseq = 2 if method == "BYE" else 1
    return (
        f"{method} sip:bench@{HOST}:{port} SIP/2.0\r\nVia: SIP/2.0/UDP {HOST}:{own};branch=z9hG4bK{method}{number}\r\n"
        f"From: <sip:bare@{HOST}:{own}>;tag=t{number}\r\nTo: <sip:bench@{HOST}:{port}>{to_tag}\r\n"
        f"Call-ID: bare-{number}-{own}\r\nCSeq: {cseq} {method}\r\nContact: <sip:bare@{HOST}:{own}>\r\n"
        f"Max-Forwards: 70\r\nContent-Type: application/sdp\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


class BareCaller(asyncio.DatagramProtocol):
    """Keeps ``concurrency`` calls under way until ``calls`` are done."""

    def __init__(self, port: int, concurrency: int, calls: int) -> None:
        self._port, self._concurrency, self._calls = port, concurrency, calls
        self._begun = 0
        self._begin: dict[str, float] = {}
        self.times: list[float] = []
        self._over = 0
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)
        self._own = transport.get_extra_info("sockname")[1]
        for _ in range(self._concurrency):
            self._invite()

    def _invite(self) -> None:
        if self._begun == self._calls:
            return
        self._begun += 1
        self._begin[str(self._begun)] = time.perf_counter()
        self._send(request("INVITE", self._port, self._begun, self._own, body=SDP))

    def _send(self, data: bytes) -> None:
        self._transport.sendto(data, (HOST, self._port))

    def datagram_received(self, data: bytes, addr: object) -> None:
        text = data.decode()
        if not text.startswith("SIP/2.0 200"):
            return
        number = text.partition("Call-ID: bare-")[2].partition("-")[0]
        if "CSeq: 2 BYE" in text:
            self._over += 1
            if self._over == self._calls:
                self.done.set_result(None)
            self._invite()
            return
        self.times.append(time.perf_counter() - self._begin[number])
        tag = ";tag=" + text.partition("\nTo:")[2].partition("\n")[0].partition(";tag=")[2].strip()
        for method in ("ACK", "BYE"):
            self._send(request(method, self._port, int(number), self._own, to_tag=tag))


async def bare_calls(port: int, concurrency: int, calls: int) -> Row:
    """The bare socket calls SIPp."""
    with Stopwatch() as watch:
        transport, caller = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: BareCaller(port, concurrency, calls), local_addr=(HOST, 0)
        )
        await caller.done
    transport.close()
    return with_times(watch.row("agent", "bare socket", concurrency, calls), caller.times)


class BareCallee(asyncio.DatagramProtocol):
    """Answers INVITE with 180 and 200, BYE with 200."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        method, _, _ = data.partition(b" ")
        if method == b"ACK":
            return
        lines = data.decode().partition("\r\n\r\n")[0].split("\r\n")
        kept = [line for line in lines if line.startswith(("Via:", "From:", "Call-ID:", "CSeq:"))]
        to = next(line for line in lines if line.startswith("To:"))
        kept.append(to if ";tag=" in to else f"{to};tag=bare")
        kept.append(f"Contact: <sip:bench@{HOST}:{self._transport.get_extra_info('sockname')[1]}>")
        for status, body in (("180 Ringing", ""), ("200 OK", SDP)) if method == b"INVITE" else (("200 OK", ""),):
            head = [f"SIP/2.0 {status}", *kept, "Content-Type: application/sdp", f"Content-Length: {len(body)}"]
            self._transport.sendto(("\r\n".join(head) + "\r\n\r\n" + body).encode(), addr)


async def bare_answers(concurrency: int, calls: int) -> Row:
    """SIPp calls the bare socket."""
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(BareCallee, local_addr=(HOST, 0))
    try:
        return await sipp_calls(transport.get_extra_info("sockname")[1], "bare socket", concurrency, calls)
    finally:
        transport.close()


# -- report ------------------------------------------------------------------------------------------------------


async def measure(concurrencies: list[int], calls: int) -> list[Row]:
    """All measurements, printed as they come."""
    rows: list[Row] = []
    print(f"{'caller':8}{'measured':13}{'at once':>8}{'calls':>7}{'failed':>7}{'calls/s':>9}", end="")
    print(f"{'CPU ms/call':>13}{'p50 ms':>8}{'p99 ms':>8}")
    for concurrency in concurrencies:
        async with answering_sipp() as port:
            found = [await bare_calls(port, concurrency, calls), await agent_calls(port, concurrency, calls)]
        found += [await bare_answers(concurrency, calls), await agent_answers(concurrency, calls)]
        for row in found:
            print(f"{row.caller:8}{row.side:13}{row.concurrency:8}{row.calls:7}{row.failed:7}", end="")
            print(f"{row.rate:9.0f}{row.cpu_ms:13.3f}{row.p50_ms:8.2f}{row.p99_ms:8.2f}")
        rows += found
    return rows


def draw(rows: list[Row], path: Path) -> None:
    """Bars: calls a second by concurrency, the user agent beside the bare socket."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
    for axis, caller in zip(axes, ("agent", "sipp"), strict=True):
        for shift, side in ((-0.2, "bare socket"), (0.2, "sipcore")):
            chosen = [row for row in rows if (row.caller, row.side) == (caller, side)]
            places = [index + shift for index in range(len(chosen))]
            bars = axis.bar(places, [row.rate for row in chosen], 0.4, label=side)
            axis.bar_label(bars, fmt="%.0f", fontsize=8)
        axis.set_xticks(range(len(chosen)), [str(row.concurrency) for row in chosen])
        axis.set_xlabel("calls at once")
        axis.set_title("this side calls SIPp" if caller == "agent" else "SIPp calls this side")
    axes[0].set_ylabel("calls per second")
    axes[0].legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--calls", type=int, default=300, help="calls per measurement")
    parser.add_argument("--concurrency", default="1,10,50", help="calls at once, separated by commas")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out", help="folder for JSON and PNG")
    options = parser.parse_args()
    factory = None
    with contextlib.suppress(ImportError):
        import uvloop

        factory = uvloop.new_event_loop
    tune_interpreter()
    with asyncio.Runner(loop_factory=factory) as runner:
        rows = runner.run(measure([int(word) for word in options.concurrency.split(",")], options.calls))
    options.out.mkdir(parents=True, exist_ok=True)
    report = {
        "python": platform.python_version(),
        "loop": "uvloop" if factory else "asyncio",
        "rows": [{**asdict(row), "calls_per_second": row.rate} for row in rows],
    }
    (options.out / "call_setup.json").write_text(json.dumps(report, indent=2) + "\n")
    try:
        draw(rows, options.out / "call_setup.png")
    except ImportError:
        print("no PNG: pip install 'sipcore[plot]'")
    print(f"written to {options.out}")
    if any(row.failed for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
