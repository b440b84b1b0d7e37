"""What does a live audio stream cost? N clients of SipStreamCallAudio hear one call, in 20 ms frames at 16,000 Hz.

Two processes: the server, as `sipcore serve` runs it, with a call up; and this one, which holds the far end of the call
and all clients. In turn: LISTEN streams of the server; a bare gRPC handler in the server's process that pushes frames
of the same size every 20 ms; and a bare bidi echo, whose clients send those frames and get them back. What gRPC itself
costs is in all three; what lies between LISTEN and push is the tap on the call, the mixing and the resampling.

How to read the table
  us/frame   CPU time of the server's process for each frame sent, less what it used without any stream.
  cores      CPU time of the server's process in all, per second.
  sent       frames that arrived at the clients, of those that should have.
  missed     ticks of the media clock that ran after the next one's deadline; the first row that has some says how many
             streams are too many for this machine while the clients run beside it.
  steal      cores that the host of a virtual machine took away meanwhile. Figures of windows with steal say little.
Compare rows of one run; no figure means anything alone.
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
from common import Window, machine, print_table, run_benchmark, steal_seconds, write_json

from service.config import Endpoint, PortRange, load_settings
from service.demo.registrar import Registrar
from service.generated.ondewo.sip import sip_pb2 as pb
from service.generated.ondewo.sip.sip_pb2_grpc import SipStub
from service.loops import loop_factory
from service.server import Server
from sipcore import Account, UserAgent, UserAgentConfig, tune_interpreter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from multiprocessing.connection import Connection

HOST = "127.0.0.1"
PERIOD = 0.02
FRAME = bytes(640)
KINDS = ("listen", "push", "echo")


# -- the server's process


class Push:
    """The same frames from nowhere, of all streams at the same moments, as a media clock has them."""

    def __init__(self) -> None:
        self._tick = asyncio.Event()

    async def run(self) -> None:
        """The clock."""
        start, ticks = time.monotonic(), 0
        while True:
            ticks += 1
            await asyncio.sleep(max(0.0, start + ticks * PERIOD - time.monotonic()))
            tick, self._tick = self._tick, asyncio.Event()
            tick.set()

    async def stream(self, _: AsyncIterator[bytes], context: Any) -> None:
        """One stream."""
        message = pb.SipCallAudioResponse(audio=pb.SipCallAudioFrame(pcm_s16le=FRAME, sequence=1000))
        while True:
            await self._tick.wait()
            await context.write(message.SerializeToString())


async def echo(requests: AsyncIterator[bytes], context: Any) -> None:
    """What comes goes back."""
    async for request in requests:
        await context.write(request)


def serve(pipe: Connection) -> None:
    """`sipcore serve`, and the bare handlers on a port of their own."""
    tune_interpreter()
    with asyncio.Runner(loop_factory=loop_factory("auto")) as runner:
        runner.run(_serve(pipe))


async def _serve(pipe: Connection) -> None:
    settings = load_settings(
        {
            "grpc": Endpoint(HOST, 0),
            "sip": Endpoint(HOST, 0),
            "rtp_ports": PortRange(26000, 26999),
            "max_audio_streams": 10_000,
            "max_call_audio_streams": 10_000,
        },
        environ={},
    )
    bare = grpc.aio.server()
    push = Push()
    clock = asyncio.create_task(push.run())
    methods = {"push": push.stream, "echo": echo}
    handlers = {name: grpc.stream_stream_rpc_method_handler(method) for name, method in methods.items()}
    bare.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bare", handlers),))
    port = bare.add_insecure_port(f"{HOST}:0")
    await bare.start()
    async with Server(settings) as server:
        pipe.send((str(server.grpc_address), f"{HOST}:{port}"))
        window = Window()
        before = server.agent.media.statistics()
        while True:
            if not pipe.poll():
                await asyncio.sleep(0.02)
                continue
            word = pipe.recv()
            if word == "begin":
                before = server.agent.media.statistics()
                window.begin()
            elif word == "end":
                window.end()
                after = server.agent.media.statistics()
                pipe.send(
                    {
                        "cpu": window.cpu,
                        "wall": window.wall,
                        "ticks": after.ticks - before.ticks,
                        "missed": after.missed_ticks - before.missed_ticks,
                    }
                )
            else:
                break
    clock.cancel()
    await bare.stop(0)


# -- this process


class Clients:
    """Streams that count what they get."""

    def __init__(self) -> None:
        self.frames = 0
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self, kind: str, count: int, addresses: tuple[str, str], call_id: str) -> None:
        """``count`` more of them, a channel for each twenty, opened one after the other."""
        self._channels: list[grpc.aio.Channel] = []
        for number in range(count):
            if number % 20 == 0:
                address = addresses[kind != "listen"]
                options = [("grpc.use_local_subchannel_pool", 1)]
                self._channels.append(grpc.aio.insecure_channel(address, options=options))
            self._tasks.append(asyncio.create_task(self._read(kind, self._channels[-1], call_id)))
            await asyncio.sleep(PERIOD / max(1, count))

    async def _read(self, kind: str, channel: grpc.aio.Channel, call_id: str) -> None:
        if kind == "listen":
            metadata = (("x-ondewo-expected-call-id", call_id),)
            async for response in SipStub(channel).SipStreamCallAudio(self._config(), metadata=metadata):
                self.frames += response.HasField("audio")
        else:
            async for _ in channel.stream_stream(f"/bare/{kind}")(self._talk(kind)):
                self.frames += 1

    async def _config(self) -> AsyncIterator[pb.SipCallAudioRequest]:
        yield pb.SipCallAudioRequest(config=pb.SipCallAudioConfig(mode=pb.SIP_CALL_AUDIO_MODE_LISTEN))
        await asyncio.sleep(3600)

    async def _talk(self, kind: str) -> AsyncIterator[bytes]:
        start, sent = time.monotonic(), 0
        while kind == "echo":
            yield FRAME
            sent += 1
            await asyncio.sleep(max(0.0, start + sent * PERIOD - time.monotonic()))
        await asyncio.sleep(3600)

    async def close(self) -> None:
        """Hangs up."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for channel in self._channels:
            await channel.close(None)


async def call(agent: UserAgent, address: str) -> str:
    """Has the server call the far end, which speaks without end; the call's id."""
    registrar = Registrar("bench.example", {"alice": "secret"}, rng=random.Random())
    agent.handle("REGISTER", registrar.handle)
    domain = "{}:{}".format(*agent.sip_address)
    bob = agent.open_line(Account(f"bob@{domain}"))
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = SipStub(channel)
        request: Any = pb.SipRegisterAccountRequest(account_name=f"alice@{domain}", password="secret")
        await stub.SipRegisterAccount(request)
        await stub.SipStartSession(pb.SipStartSessionRequest(account_name=f"alice@{domain}"))
        calling = asyncio.ensure_future(stub.SipStartCall(pb.SipStartCallRequest(callee_id=f"bob@{domain}")))
        taken = await anext(aiter(bob.incoming()))
        await taken.answer()
        speech = np.random.default_rng(1).normal(0, 2000, 8000 * 600).astype(np.int16)
        taken.play(speech)
        call_id: str = (await calling).call_id
        return call_id


async def measure(options: argparse.Namespace, pipe: Connection) -> list[dict[str, Any]]:
    """Every window."""
    addresses = await asyncio.to_thread(pipe.recv)
    results = []
    async with UserAgent(UserAgentConfig(sip_host=HOST, rtp_ports=(28000, 28999))) as agent:
        call_id = await call(agent, addresses[0])
        idle = 0.0

        async def window(kind: str, count: int) -> dict[str, Any]:
            nonlocal idle
            clients = Clients()
            await clients.open(kind, count, addresses, call_id)
            await asyncio.sleep(options.warm_up)
            steal, frames = steal_seconds(), clients.frames
            pipe.send("begin")
            await asyncio.sleep(options.seconds)
            frames = clients.frames - frames
            pipe.send("end")
            result = await asyncio.to_thread(pipe.recv)
            cores = result["cpu"] / result["wall"]
            idle = cores if kind == "idle" else idle
            result |= {"kind": kind, "streams": count, "frames": frames, "cores": cores}
            result["expected"] = count * options.seconds / PERIOD
            result["us_per_frame"] = 1e6 * (cores - idle) * result["wall"] / frames if frames else 0.0
            result["steal_cores"] = (steal_seconds() - steal) / options.seconds
            results.append(result)
            print(f"{kind} x {count} measured", flush=True)
            await clients.close()
            return result

        await window("idle", 0)
        if options.search:
            await search(options.streams[0], window)
        else:
            for count in options.streams:
                for kind in KINDS:
                    await window(kind, count)
    pipe.send("stop")
    return results


async def search(first: int, window: Callable[[str, int], Awaitable[dict[str, Any]]]) -> None:
    """Half as many LISTEN streams more each time until it breaks, then the middle between held and broken; each that
    breaks gets a second chance, since a machine's other work costs a tick as well."""
    held, broken = 0, 0
    count = first
    while not broken or broken - held > max(5, held // 20):
        held_now = holds(await window("listen", count)) or holds(await window("listen", count))
        held, broken = (count, broken) if held_now else (held, count)
        count = (held + broken) // 2 if broken else count * 3 // 2
        if count == held:
            break


def holds(result: dict[str, Any]) -> bool:
    """No tick was missed, and the clients got their frames."""
    return not result["missed"] and bool(result["frames"] >= 0.98 * result["expected"])


HEAD = ("what", "streams", "us/frame", "cores", "sent", "missed", "steal")


def cells(result: dict[str, Any]) -> tuple[str, ...]:
    """One row of the table."""
    return (
        result["kind"],
        str(result["streams"]),
        f"{result['us_per_frame']:.0f}" if result["frames"] else "-",
        f"{result['cores']:.2f}",
        f"{100 * result['frames'] / result['expected']:.1f} %" if result["expected"] else "-",
        f"{result['missed']}/{result['ticks']}",
        f"{result['steal_cores']:.2f}",
    )


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        epilog=__doc__.partition("\n\n")[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    out = Path(__file__).parent / "out"
    parser.add_argument(
        "--streams", type=int, nargs="+", default=[10, 25, 50, 100, 150], help="streams at once, one window each"
    )
    parser.add_argument(
        "--search", action="store_true", help="how many LISTEN streams are held, from the first of --streams upwards"
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each window (default 5)")
    parser.add_argument("--warm-up", type=float, default=1.5, help="seconds ahead of each window (default 1.5)")
    parser.add_argument("--json", type=Path, default=out / "audio_streams.json", help="where the report goes")
    options = parser.parse_args()
    facts = machine()
    print(f"windows of {options.seconds:g} s, on {facts['cores']} x {facts['processor']}")
    context = multiprocessing.get_context("spawn")
    pipe, other = context.Pipe()
    process = context.Process(target=serve, args=(other,))
    process.start()
    try:
        with asyncio.Runner(loop_factory=loop_factory("auto")) as runner:
            results = runner.run(measure(options, pipe))
        process.join(10)
    finally:
        with contextlib.suppress(ValueError):
            process.kill()
    print()
    print_table(HEAD, [cells(result) for result in results])
    listens = [result for result in results if result["kind"] == "listen"]
    held = [result["streams"] for result in listens if holds(result)]
    print(f"\nmost LISTEN streams without a missed tick, of those tried: {max(held, default=0)}")
    write_json(options.json, {"machine": facts, "seconds": options.seconds, "windows": results})
    print(f"written to {options.json.parent}")


if __name__ == "__main__":
    run_benchmark(main)
