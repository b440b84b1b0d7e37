"""How long does a request take? Each method of ondewo.sip.Sip, while nothing goes on and beside N two-way calls.

Three processes: the server, as `sipcore serve` runs it; the far end, a registrar and a telephone that answers and
talks; and this one, the client, which sends one request after the other, each method in turn, with a pause between.

How to read the table
  bare       a handler of the same gRPC server process that answers at once: what gRPC, the kernel and the machine take.
  wire       "yes": the method also waits for the far end's answer over SIP (REGISTER, INVITE, BYE), in its process.
  p50, p99   of the times from the request to its answer, in this process, ms.
  cores      CPU time of the server's process per second, in the window.
  missed     ticks of its media clock that ran after the next one's deadline.
  steal      cores that the host of a virtual machine took away meanwhile.
Three processes share the machine: with two cores, 500 calls leave the client waiting for a core as well, which the row
"bare" shows. Compare rows of one run.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
from common import Window, machine, print_table, raise_file_limit, run_benchmark, steal_seconds, write_json
from google.protobuf.empty_pb2 import Empty

from service.config import Endpoint, PortRange, load_settings
from service.demo.registrar import Registrar
from service.generated.ondewo.sip import sip_pb2 as pb
from service.generated.ondewo.sip.sip_pb2_grpc import SipStub
from service.loops import loop_factory
from service.server import Server
from sipcore import Account, UserAgent, UserAgentConfig, tune_interpreter

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from multiprocessing.connection import Connection

HOST = "127.0.0.1"
PAUSE = 0.002
"""Seconds between two requests."""
FILES = 8192


def run(work: Callable[[Connection], Coroutine[Any, Any, None]], pipe: Connection) -> None:
    """What each of the other processes does."""
    raise_file_limit(FILES)
    tune_interpreter()
    with asyncio.Runner(loop_factory=loop_factory("auto")) as runner:
        runner.run(work(pipe))


@contextlib.contextmanager
def processes(*works: Callable[[Connection], Coroutine[Any, Any, None]]) -> Iterator[list[Connection]]:
    """A process for each of ``works`` and this one's end of the pipe to it; they are to end by themselves, else they
    are ended."""
    context = multiprocessing.get_context("spawn")
    pipes, started = [], []
    for work in works:
        pipe, other = context.Pipe()
        started.append(context.Process(target=run, args=(work, other)))
        started[-1].start()
        pipes.append(pipe)
    try:
        yield pipes
        for process in started:
            process.join(15)
    finally:
        for process in started:
            process.kill()


# -- the server's process


async def serve(pipe: Connection, more: dict[str, Any] | None = None) -> None:
    """The server, a bare handler on a port of its own, and what the server used between "begin" and "end"; ``more``
    settings than it needs for itself."""

    async def answer(request: bytes, _: Any) -> bytes:
        return request

    settings = load_settings(
        {
            "grpc": Endpoint(HOST, 0),
            "sip": Endpoint(HOST, 0),
            "rtp_ports": PortRange(20000, 22999),
            "register_rate": 1000,
            "max_load": 0,
            "log_level": "warning",
            **(more or {}),
        },
        environ={},
    )
    bare = grpc.aio.server()
    handlers = {"bare": grpc.unary_unary_rpc_method_handler(answer)}
    bare.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bare", handlers),))
    port = bare.add_insecure_port(f"{HOST}:0")
    await bare.start()
    async with Server(settings) as server:
        pipe.send((str(server.grpc_address), f"{HOST}:{port}"))
        window, before = Window(), server.agent.media.statistics()
        while (word := await asyncio.to_thread(pipe.recv)) != "stop":
            if word == "begin":
                before = server.agent.media.statistics()
                window.begin()
            else:
                window.end()
                after = server.agent.media.statistics()
                ticks, missed = after.ticks - before.ticks, after.missed_ticks - before.missed_ticks
                pipe.send({"cpu": window.cpu, "wall": window.wall, "ticks": ticks, "missed": missed})
    await bare.stop(0)


# -- the far end's process


async def answer_all(pipe: Connection) -> None:
    """Registers whoever asks, answers every call and speaks."""
    speech = np.random.default_rng(1).normal(0, 2000, 8000).astype(np.int16)
    config = UserAgentConfig(sip_host=HOST, rtp_ports=(24000, 26999), max_load=0)
    async with UserAgent(config) as agent, asyncio.TaskGroup() as talks:
        users = {f"user{number}": "secret" for number in range(2000)}
        agent.handle("REGISTER", Registrar("bench.example", users, rng=random.Random()).handle)
        bob = agent.open_line(Account(f"bob@{HOST}:{agent.sip_address[1]}"))

        async def answer() -> None:
            async for call in bob.incoming():
                talks.create_task(talk(call))

        async def talk(call: Any) -> None:
            await call.answer()
            call.play(speech, loop=True)

        answering = talks.create_task(answer())
        pipe.send("{}:{}".format(*agent.sip_address))
        await asyncio.to_thread(pipe.recv)
        answering.cancel()


# -- this process


class Client:
    """The requests; each account has one call at most."""

    def __init__(self, channel: grpc.aio.Channel, bare: grpc.aio.Channel, domain: str) -> None:
        self.stub: Any = SipStub(channel)
        self._bare = bare.unary_unary("/bare/bare")
        self.domain = domain
        self.call_ids: dict[int, str] = {}
        """Of the calls that are up, by account."""

    def name(self, number: int) -> str:
        """The account of that number; 0 is the one whose requests are measured."""
        return f"user{number}@{self.domain}"

    async def register(self, number: int) -> None:
        request: Any = pb.SipRegisterAccountRequest(account_name=self.name(number), password="secret")
        status = await self.stub.SipRegisterAccount(request)
        if status.status_type != pb.SipStatus.REGISTERED:
            raise SystemExit(f"not registered: {status.description}")

    async def start_session(self, number: int) -> None:
        await self.stub.SipStartSession(pb.SipStartSessionRequest(account_name=self.name(number)))

    async def dial(self, number: int) -> None:
        request = pb.SipStartCallRequest(callee_id=f"bob@{self.domain}")
        status = await self.stub.SipStartCall(request, metadata=self.about(number))
        if status.status_type != pb.SipStatus.OUTGOING_CALL_CONNECTED:
            raise SystemExit(f"no call: {status.description}")
        self.call_ids[number] = status.call_id

    def about(self, number: int) -> tuple[tuple[str, str], ...]:
        return (("x-sip-account", self.name(number)),)

    def requests(self) -> dict[str, tuple[bool, Callable[[], Coroutine[Any, Any, object]]]]:
        """What is measured, in this order: whether it waits for the far end, and one request of it."""
        about, stub = self.about(0), self.stub
        probe: Any = pb.SipSetCallMediaControlRequest(bot_voice=pb.MEDIA_CONTROL_SETTING_ON)
        machine_: Any = pb.SipReportAnsweringMachineDetectedRequest()

        async def bare() -> None:
            await self._bare(b"x" * 40)

        async def control() -> None:
            await stub.SipSetCallMediaControl(probe, metadata=(*about, ("x-ondewo-expected-call-id", self.call_ids[0])))

        async def plain(method: Any, request: Any) -> None:
            await method(request, metadata=about)

        return {
            "bare": (False, bare),
            "SipRegisterAccount": (True, lambda: self.register(0)),
            "SipStartSession": (False, lambda: self.start_session(0)),
            "SipStartCall": (True, lambda: self.dial(0)),
            "SipGetSipStatus": (False, lambda: plain(stub.SipGetSipStatus, Empty())),
            "SipMute": (False, lambda: plain(stub.SipMute, Empty())),
            "SipUnMute": (False, lambda: plain(stub.SipUnMute, Empty())),
            "SipSetCallMediaControl": (False, control),
            "SipReportAnsweringMachine…": (False, lambda: plain(stub.SipReportAnsweringMachineDetected, machine_)),
            "SipEndCall": (True, lambda: plain(stub.SipEndCall, pb.SipEndCallRequest())),
        }


async def in_batches(work: Callable[[int], Coroutine[Any, Any, None]], numbers: range, size: int = 25) -> None:
    for start in range(numbers.start, numbers.stop, size):
        await asyncio.gather(*(work(number) for number in range(start, min(start + size, numbers.stop))))


async def sample(client: Client, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each request."""
    times: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, (_, request) in client.requests().items():
            begun = time.perf_counter()
            await request()
            times.setdefault(name, []).append(1000 * (time.perf_counter() - begun))
            await asyncio.sleep(PAUSE)
    return times


def quantile(times: list[float], share: float) -> float:
    ordered = sorted(times)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def measure(options: argparse.Namespace, server: Connection, far: Connection) -> list[dict[str, Any]]:
    """Every window."""
    address, bare = await asyncio.to_thread(server.recv)
    domain = await asyncio.to_thread(far.recv)
    results = []
    async with grpc.aio.insecure_channel(address) as channel, grpc.aio.insecure_channel(bare) as other:
        client = Client(channel, other, domain)
        await client.register(0)
        await client.start_session(0)
        up = 0
        for calls in options.calls:
            await in_batches(client.register, range(up + 1, calls + 1))
            await in_batches(client.start_session, range(up + 1, calls + 1))
            await in_batches(client.dial, range(up + 1, calls + 1), 10)
            up = max(up, calls)
            await sample(client, 10)
            steal = steal_seconds()
            server.send("begin")
            times = await sample(client, options.rounds)
            server.send("end")
            used = await asyncio.to_thread(server.recv)
            used |= {"calls": calls, "steal": (steal_seconds() - steal) / used["wall"], "times": times}
            results.append(used)
            print(f"beside {calls} calls: measured", flush=True)
    server.send("stop")
    far.send("stop")
    return results


HEAD = ("method", "wire", "calls", "p50", "p99", "most")


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        epilog=__doc__.partition("\n\n")[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    out = Path(__file__).parent / "out"
    parser.add_argument("--calls", type=int, nargs="+", default=[0, 200, 500], help="calls beside, rising")
    parser.add_argument("--rounds", type=int, default=500, help="requests of each method (default 500)")
    parser.add_argument("--json", type=Path, default=out / "rpc_latency.json", help="where the report goes")
    options = parser.parse_args()
    raise_file_limit(FILES)
    facts = machine()
    print(f"{options.rounds} requests of each method, on {facts['cores']} x {facts['processor']}")
    with processes(serve, answer_all) as pipes, asyncio.Runner(loop_factory=loop_factory("auto")) as runner:
        results = runner.run(measure(options, *pipes))
    rows, report = [], []
    for name in results[0]["times"]:
        for result in results:
            times = result["times"][name]
            figures = [quantile(times, 0.5), quantile(times, 0.99), max(times)]
            wire = "yes" if name in ("SipRegisterAccount", "SipStartCall", "SipEndCall") else ""
            rows.append((name, wire, str(result["calls"]), *(f"{figure:.2f}" for figure in figures)))
            report.append({"method": name, "calls": result["calls"], "p50_ms": figures[0], "p99_ms": figures[1]})
    print()
    print_table(HEAD, rows)
    print()
    for result in results:
        cores, missed = result["cpu"] / result["wall"], f"{result['missed']}/{result['ticks']}"
        print(f"beside {result['calls']} calls: {cores:.2f} cores, {missed} ticks missed, steal {result['steal']:.2f}")
    for result in results:
        del result["times"]
    write_json(options.json, {"machine": facts, "rounds": options.rounds, "rows": report, "windows": results})
    print(f"written to {options.json.parent}")


if __name__ == "__main__":
    run_benchmark(main)
