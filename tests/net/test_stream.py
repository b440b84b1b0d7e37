"""TCP connections, with real sockets on the loopback interface; time limits in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from sipcore.errors import ServerUnreachable
from sipcore.net.addresses import Address
from sipcore.net.stream import StreamEndpoint, StreamLimits
from sipcore.protocol.flows import Flow
from tests.kit.loops import both_loops
from tests.kit.virtual_time import virtual_time

LIMITS = StreamLimits()
OPTIONS = b"OPTIONS sip:a@b SIP/2.0\r\nContent-Length: 4\r\n\r\nbody"


class Peer:
    """A listening endpoint and what happened to it."""

    def __init__(self, limits: StreamLimits = LIMITS) -> None:
        self.messages: asyncio.Queue[tuple[bytes, Flow]] = asyncio.Queue()
        self.closed: asyncio.Queue[tuple[Flow, str]] = asyncio.Queue()
        self.address: Address = ("", 0)
        self.endpoint = StreamEndpoint(
            make_flow=lambda local, remote, number: Flow("tcp", local, remote, number),
            on_message=lambda data, flow: self.messages.put_nowait((data, flow)),
            on_closed=lambda flow, why: self.closed.put_nowait((flow, why)),
            limits=limits,
        )

    async def listen(self) -> None:
        bound = socket.socket()
        bound.setblocking(False)
        bound.bind(("127.0.0.1", 0))
        self.address = bound.getsockname()
        await self.endpoint.listen(bound)


@contextlib.asynccontextmanager
async def peer(limits: StreamLimits = LIMITS) -> AsyncIterator[Peer]:
    opened = Peer(limits)
    await opened.listen()
    try:
        yield opened
    finally:
        await opened.endpoint.close()


@contextlib.asynccontextmanager
async def raw_connection(
    address: Address,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(*address)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


@both_loops
async def test_messages_pass_both_ways_on_one_connection() -> None:
    async with peer() as near, peer() as far:
        flow = await near.endpoint.connect(far.address, "127.0.0.1")
        assert flow.reliable
        assert flow.remote == far.address
        assert near.endpoint.send(OPTIONS, flow)
        data, back = await far.messages.get()
        assert data == OPTIONS
        assert (back.local, back.remote) == (flow.remote, flow.local)
        assert far.endpoint.send(OPTIONS, back)
        assert await near.messages.get() == (OPTIONS, flow)


@both_loops
async def test_messages_are_cut_out_of_the_stream_however_it_arrives() -> None:
    """RFC 3261 §18.3: Content-Length frames."""
    async with peer() as near, raw_connection(near.address) as (_, writer):
        for byte in OPTIONS + OPTIONS:
            writer.write(bytes([byte]))
            await writer.drain()
        writer.write(OPTIONS * 3)
        assert [(await near.messages.get())[0] for _ in range(5)] == [OPTIONS] * 5


@both_loops
async def test_a_ping_is_answered_with_a_pong() -> None:
    """RFC 5626 §4.4.1."""
    async with peer() as near, raw_connection(near.address) as (reader, writer):
        writer.write(b"\r\n\r\n")
        assert await reader.readexactly(2) == b"\r\n"
        writer.write(OPTIONS)
        assert (await near.messages.get())[0] == OPTIONS


@both_loops
async def test_an_open_connection_is_used_again() -> None:
    """RFC 3261 §18.1.1."""
    async with peer() as near, peer() as far:
        flows = await asyncio.gather(
            *(near.endpoint.connect(far.address) for _ in range(10)),
        )
        assert len(set(flows)) == 1
        assert await near.endpoint.connect(far.address) == flows[0]
        assert near.endpoint.find(far.address) == flows[0]
        assert len(near.endpoint) == 1


@both_loops
async def test_a_refused_connection_says_so() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        gone = probe.getsockname()
        async with peer() as near:
            with pytest.raises(ServerUnreachable, match=r"127\.0\.0\.1:\d+ over TCP failed: connection refused"):
                await near.endpoint.connect(gone, "127.0.0.1")
            assert near.closed.empty()


@both_loops
async def test_a_connection_that_is_not_answered_times_out() -> None:
    with socket.socket() as full, contextlib.ExitStack() as clients:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(8):  # a full backlog drops the handshake
            client = clients.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        async with peer(replace(LIMITS, connect_timeout=0.05)) as near:
            with pytest.raises(ServerUnreachable, match="timed out"):
                await near.endpoint.connect(full.getsockname(), "127.0.0.1")


@both_loops
async def test_the_end_of_a_connection_is_reported_once() -> None:
    async with peer() as near, peer() as far:
        flow = await near.endpoint.connect(far.address, "127.0.0.1")
        near.endpoint.send(OPTIONS, flow)
        await far.messages.get()
        await far.endpoint.close()
        assert await near.closed.get() == (flow, "closed by the peer")
        assert not near.endpoint.is_open(flow)
        assert not near.endpoint.send(OPTIONS, flow)
        assert near.endpoint.find(far.address) is None
        assert near.closed.empty()


@both_loops
async def test_a_new_connection_is_another_flow() -> None:
    async with peer() as near, peer() as far:
        first = await near.endpoint.connect(far.address, "127.0.0.1")
        near.endpoint._open[first.connection].abort("test")
        await near.closed.get()
        assert await near.endpoint.connect(far.address, "127.0.0.1") != first


@pytest.mark.parametrize(
    "garbage",
    [b"OPTIONS sip:a@b SIP/2.0\r\nCall-ID: 1\r\n\r\n", b"x" * 100_000],
    ids=["no Content-Length", "no end"],
)
@both_loops
async def test_a_stream_that_is_not_sip_is_closed(garbage: bytes) -> None:
    async with peer() as near, raw_connection(near.address) as (reader, writer):
        writer.write(garbage)
        _, why = await near.closed.get()
        assert why.startswith("not SIP")
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        assert len(near.endpoint) == 0


@both_loops
async def test_a_peer_that_does_not_read_is_closed() -> None:
    async with peer(replace(LIMITS, write_buffer=200_000)) as near, raw_connection(near.address) as (_, writer):
        writer.write(OPTIONS)
        _, flow = await near.messages.get()
        big = b"x" * 60_000
        for _ in range(1000):
            if not near.endpoint.send(big, flow):
                break
            await asyncio.sleep(0)
        assert await near.closed.get() == (flow, "the peer does not read")


@both_loops
async def test_accepted_connections_are_bounded() -> None:
    async with peer(replace(LIMITS, inbound_connections=2)) as near, contextlib.AsyncExitStack() as clients:
        for _ in range(2):
            _, writer = await clients.enter_async_context(raw_connection(near.address))
            writer.write(OPTIONS)
            await near.messages.get()
        reader, writer = await clients.enter_async_context(raw_connection(near.address))
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        assert len(near.endpoint) == 2


@both_loops
async def test_connections_of_one_peer_are_bounded() -> None:
    """Another peer still gets in."""
    async with peer(replace(LIMITS, connections_per_peer=2)) as near, contextlib.AsyncExitStack() as clients:
        for _ in range(2):
            _, writer = await clients.enter_async_context(raw_connection(near.address))
            writer.write(OPTIONS)
            await near.messages.get()
        reader, _ = await clients.enter_async_context(raw_connection(near.address))
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        _, other = await asyncio.open_connection(*near.address, local_addr=("127.0.0.9", 0))
        other.write(OPTIONS)
        assert (await near.messages.get())[1].remote[0] == "127.0.0.9"
        assert len(near.endpoint) == 3
        other.close()
        await near.closed.get()


@both_loops
async def test_unfinished_messages_of_all_together_are_bounded() -> None:
    """The connection that holds most is closed; a small message on its way is not harmed."""
    limits = replace(LIMITS, unfinished=50_000)
    async with peer(limits) as near, contextlib.AsyncExitStack() as clients:
        _, small = await clients.enter_async_context(raw_connection(near.address))
        small.write(OPTIONS[:30])
        for _ in range(2):
            _, large = await clients.enter_async_context(raw_connection(near.address))
            large.write(b"OPTIONS sip:a@b SIP/2.0\r\nContent-Length: 60000\r\n\r\n" + bytes(30_000))
        assert (await near.closed.get())[1] == "too much is unfinished"
        small.write(OPTIONS[30:])
        assert (await near.messages.get())[0] == OPTIONS
        assert len(near.endpoint) == 2


@both_loops
async def test_what_waits_to_be_sent_is_bounded_for_all_together() -> None:
    """Several peers that do not read: the one that most waits for is closed."""
    limits = replace(LIMITS, write_buffer=2**30, write_buffers=16 * 1024 * 1024)
    async with peer(limits) as near, contextlib.AsyncExitStack() as clients:
        flows = []
        for _ in range(3):
            _, writer = await clients.enter_async_context(raw_connection(near.address))
            writer.write(OPTIONS)
            flows.append((await near.messages.get())[1])
        for _ in range(400):
            for flow in flows:
                near.endpoint.send(bytes(65_536), flow)
            if not near.closed.empty():
                break
            await asyncio.sleep(0)
        assert (await near.closed.get())[1] == "too much waits to be sent"


@both_loops
async def test_a_half_closed_connection_is_closed() -> None:
    async with peer() as near, raw_connection(near.address) as (reader, writer):
        writer.write(OPTIONS)
        writer.write_eof()
        assert (await near.messages.get())[0] == OPTIONS
        assert (await near.closed.get())[1] == "closed by the peer"
        assert await reader.read() == b""


@both_loops
async def test_what_was_sent_before_closing_still_arrives() -> None:
    async with peer() as far:
        near = Peer()
        flow = await near.endpoint.connect(far.address, "127.0.0.1")
        for _ in range(100):
            near.endpoint.send(OPTIONS, flow)
        await near.endpoint.close()
        assert [(await far.messages.get())[0] for _ in range(100)] == [OPTIONS] * 100


@both_loops
async def test_closing_is_bounded_when_a_peer_does_not_read() -> None:
    loop = asyncio.get_running_loop()
    near = Peer(replace(LIMITS, write_buffer=100_000_000))
    await near.listen()
    async with raw_connection(near.address) as (_, writer):
        writer.write(OPTIONS)
        _, flow = await near.messages.get()
        near.endpoint.send(b"x" * 50_000_000, flow)
        began = loop.time()
        await near.endpoint.close(timeout=0.1)
        assert loop.time() - began < 1.0
        assert near.closed.empty()


@both_loops
async def test_closing_while_connecting_ends_the_attempt() -> None:
    with socket.socket() as full, contextlib.ExitStack() as clients:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(8):
            client = clients.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        near = Peer()
        attempt = asyncio.create_task(near.endpoint.connect(full.getsockname(), "127.0.0.1"))
        await asyncio.sleep(0.01)
        await near.endpoint.close()
        with pytest.raises(ServerUnreachable, match="closed"):
            await attempt


class TestTimeLimits:
    """In virtual time: the connection is real, and nothing arrives on it."""

    @virtual_time
    async def test_an_accepted_connection_owes_a_message(self) -> None:
        async with peer() as near, raw_connection(near.address):
            _, why = await near.closed.get()
            assert why == "no whole message came in time"
            assert 32.0 <= asyncio.get_running_loop().time() <= 40.0

    @virtual_time
    async def test_keep_alives_are_no_message_owed(self) -> None:
        async with peer() as near, raw_connection(near.address) as (reader, writer):
            writer.write(b"\r\n\r\n")
            await reader.readexactly(2)
            assert (await near.closed.get())[1] == "idle"

    @virtual_time
    async def test_a_message_that_has_begun_owes_its_rest(self) -> None:
        async with peer() as near, raw_connection(near.address) as (_, writer):
            writer.write(OPTIONS + OPTIONS[:-1])
            await near.messages.get()
            began = asyncio.get_running_loop().time()
            assert (await near.closed.get())[1] == "no whole message came in time"
            assert 32.0 <= asyncio.get_running_loop().time() - began <= 40.0

    @virtual_time
    async def test_an_idle_connection_is_closed_after_an_hour(self) -> None:
        async with peer() as near, peer() as far:
            flow = await near.endpoint.connect(far.address, "127.0.0.1")
            near.endpoint.send(OPTIONS, flow)
            await far.messages.get()
            assert (await near.closed.get())[1] == "idle"
            assert 3600.0 <= asyncio.get_running_loop().time() <= 3700.0

    @virtual_time
    async def test_traffic_keeps_a_connection(self) -> None:
        async with peer() as near, peer() as far:
            flow = await near.endpoint.connect(far.address, "127.0.0.1")
            for _ in range(10):
                near.endpoint.send(OPTIONS, flow)
                await far.messages.get()
                await asyncio.sleep(1800)
            assert near.endpoint.is_open(flow)
            assert far.closed.empty()
