"""N two-way calls, all of them watched, some of them listened to: are ticks missed, and how long do requests take?

Four processes: the server, as `sipcore serve` runs it; the far end, which answers every call and talks; the audience,
with a `sipcore.v1` Watch for each account and LISTEN streams (SipStreamCallAudio, 16,000 Hz, 20 ms) of the first calls;
and this one, which sends requests of each method of `ondewo.sip.Sip`, one after the other, as rpc_latency.py does.

How to read the table
  bare       a handler of the same gRPC server process that answers at once: what gRPC, the kernel and the machine take.
  p50, p99   of the times from the request to its answer, in this process, ms.
  audience   "no": beside the calls alone; "yes": beside the calls, the watches and the streams.
Below it, for each of the two windows: CPU of the server's process, ticks of its media clock that ran after the next
one's deadline, events and frames that the audience got, of the frames that it should have, and what the host of a
virtual machine took away (steal, cores). Four processes share the machine: compare the rows of one run.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
from common import machine, print_table, raise_file_limit, steal_seconds, write_json
from rpc_latency import FILES, Client, answer_all, in_batches, processes, quantile, sample, serve

from service.generated.ondewo.sip import sip_pb2 as sip
from service.generated.ondewo.sip.sip_pb2_grpc import SipStub
from service.generated.sipcore.v1 import telephony_pb2 as pb
from service.generated.sipcore.v1.telephony_pb2_grpc import TelephonyStub
from service.loops import loop_factory

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from multiprocessing.connection import Connection

MORE = {"max_audio_streams": 10_000, "max_watches": 10_000, "quality_interval": 5}
"""Settings of the server: each call tells how it sounds each 5 s."""
PER_CHANNEL = 50


# -- the audience's process


class Audience:
    """Counts what it is told and what it hears."""

    def __init__(self, address: str) -> None:
        self.events = 0
        self.lost = 0
        self.frames = 0
        self.ended: list[str] = []
        """Why streams ended before the audience left."""
        self._address = address
        self._channels: list[grpc.aio.Channel] = []
        self._tasks: list[asyncio.Task[None]] = []

    def open(self, accounts: list[str], listened: list[tuple[str, str]]) -> None:
        """Watches ``accounts``; listens to calls, by account and call_id."""
        for number, account in enumerate(accounts):
            self._tasks.append(asyncio.create_task(self._watch(self._channel(number), account)))
        for number, (account, call_id) in enumerate(listened):
            self._tasks.append(asyncio.create_task(self._listen(self._channel(number), account, call_id)))

    def _channel(self, number: int) -> grpc.aio.Channel:
        if number % PER_CHANNEL == 0:
            options = [("grpc.use_local_subchannel_pool", 1)]
            self._channels.append(grpc.aio.insecure_channel(self._address, options=options))
        return self._channels[-1]

    async def _watch(self, channel: grpc.aio.Channel, account: str) -> None:
        stub: Any = TelephonyStub(channel)
        async for response in stub.Watch(pb.WatchRequest(accounts=[account])):
            self.events += response.HasField("event")
            self.lost += response.HasField("lost")

    async def _listen(self, channel: grpc.aio.Channel, account: str, call_id: str) -> None:
        stub: Any = SipStub(channel)
        metadata = (("x-sip-account", account), ("x-ondewo-expected-call-id", call_id))
        async for response in stub.SipStreamCallAudio(self._config(), metadata=metadata):
            self.frames += response.HasField("audio")
            if response.HasField("ended"):
                self.ended.append(sip.SipCallAudioEndReason.Name(response.ended.reason))

    async def _config(self) -> AsyncIterator[sip.SipCallAudioRequest]:
        yield sip.SipCallAudioRequest(config=sip.SipCallAudioConfig(mode=sip.SIP_CALL_AUDIO_MODE_LISTEN))
        await asyncio.sleep(3600)

    async def close(self) -> None:
        """Leaves."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for channel in self._channels:
            await channel.close(None)

    def failed(self) -> str:
        """Why somebody has left already; empty: nobody has."""
        over = [task for task in self._tasks if task.done()]
        return f"{len(over)} are gone: {over[0].exception()!r}" if over else ""


async def attend(pipe: Connection) -> None:
    """The audience, told by the pipe: whom to watch and hear; "begin"; "end"."""
    address, accounts, listened = await asyncio.to_thread(pipe.recv)
    audience = Audience(address)
    audience.open(accounts, listened)
    await asyncio.sleep(3.0)
    pipe.send(audience.failed())
    before = (0, 0)
    while (word := await asyncio.to_thread(pipe.recv)) != "stop":
        if word == "begin":
            before = (audience.events, audience.frames)
        else:
            pipe.send((audience.events - before[0], audience.frames - before[1], audience.lost, audience.ended))
    await audience.close()


# -- this process


async def measure(options: argparse.Namespace, server: Connection, far: Connection, audience: Connection) -> list[Any]:
    """Both windows."""
    address, bare = await asyncio.to_thread(server.recv)
    domain = await asyncio.to_thread(far.recv)
    results = []
    async with grpc.aio.insecure_channel(address) as channel, grpc.aio.insecure_channel(bare) as other:
        client = Client(channel, other, domain)
        everybody = range(options.calls + 1)
        await in_batches(client.register, everybody)
        await in_batches(client.start_session, everybody)
        await in_batches(client.dial, range(1, options.calls + 1), 10)
        for attended in (False, True):
            if attended:
                listened = [(client.name(n), client.call_ids[n]) for n in range(1, options.streams + 1)]
                audience.send((address, [client.name(n) for n in everybody], listened))
                if failed := await asyncio.to_thread(audience.recv):
                    raise SystemExit(f"of the audience, {failed}")
            await sample(client, 10)
            steal = steal_seconds()
            server.send("begin")
            if attended:
                audience.send("begin")
            times = await sample(client, options.rounds)
            server.send("end")
            result = await asyncio.to_thread(server.recv)
            result |= {"audience": attended, "times": times, "steal": (steal_seconds() - steal) / result["wall"]}
            if attended:
                audience.send("end")
                told = await asyncio.to_thread(audience.recv)
                result["events"], result["frames"], result["lost"], result["ended"] = told
                result["expected"] = options.streams * result["wall"] / 0.02
            results.append(result)
            print(f"{'with' if attended else 'without'} audience: measured", flush=True)
    audience.send("stop")
    server.send("stop")
    far.send("stop")
    return results


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        epilog=__doc__.partition("\n\n")[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    out = Path(__file__).parent / "out"
    parser.add_argument("--calls", type=int, default=500, help="calls up, each watched (default 500)")
    parser.add_argument("--streams", type=int, default=50, help="LISTEN streams, a call each (default 50)")
    parser.add_argument("--rounds", type=int, default=300, help="requests of each method (default 300)")
    parser.add_argument("--json", type=Path, default=out / "watched_calls.json", help="where the report goes")
    options = parser.parse_args()
    if options.streams > options.calls:
        parser.error("--streams: there are not so many calls")
    raise_file_limit(FILES)
    facts = machine()
    print(f"{options.calls} calls, {options.streams} streams, on {facts['cores']} x {facts['processor']}")
    with (
        processes(functools.partial(serve, more=MORE), answer_all, attend) as pipes,
        asyncio.Runner(loop_factory=loop_factory("auto")) as runner,
    ):
        results = runner.run(measure(options, *pipes))
    rows, report = [], []
    for name in results[0]["times"]:
        for result in results:
            times, beside = result["times"][name], "yes" if result["audience"] else "no"
            p50, p99 = quantile(times, 0.5), quantile(times, 0.99)
            rows.append((name, beside, f"{p50:.2f}", f"{p99:.2f}", f"{max(times):.2f}"))
            report.append({"method": name, "audience": result["audience"], "p50_ms": p50, "p99_ms": p99})
    print()
    print_table(("method", "audience", "p50", "p99", "most"), rows)
    print()
    for result in results:
        del result["times"]
        print(told(result))
    write_json(options.json, {"machine": facts, "calls": options.calls, "rows": report, "windows": results})
    print(f"written to {options.json.parent}")


def told(result: dict[str, Any]) -> str:
    """One window in words."""
    cores, missed = result["cpu"] / result["wall"], f"{result['missed']}/{result['ticks']}"
    text = f"{'with' if result['audience'] else 'without'} audience: {cores:.2f} cores, {missed} ticks missed"
    if result["audience"]:
        share = 100 * result["frames"] / result["expected"]
        text += f", {result['events']} events ({result['lost']} gaps), {share:.1f} % of the frames"
        if result["ended"]:
            reasons = ", ".join(sorted(set(result["ended"])))
            text += f" ({len(result['ended'])} streams ended: {reasons}; is the audience's process starved?)"
    return f"{text}, steal {result['steal']:.2f}"


if __name__ == "__main__":
    main()
