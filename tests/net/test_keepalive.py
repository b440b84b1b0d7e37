"""Keep-alives (RFC 5626 §4.4.1): their timing in virtual time, pings and pongs on real connections."""

from __future__ import annotations

import asyncio
import itertools
import random

import pytest

from sipcore.net import connection
from sipcore.net.keepalive import KeepAlives
from sipcore.protocol.flows import Flow
from tests.kit.loops import both_loops
from tests.kit.virtual_time import virtual_time
from tests.net.test_stream import peer

ONE = Flow("tcp", ("192.0.2.1", 1), ("192.0.2.9", 5060), 1)
TWO = Flow("tcp", ("192.0.2.1", 2), ("192.0.2.9", 5060), 2)


class Heard:
    def __init__(self) -> None:
        self.pings: list[tuple[float, Flow, bool]] = []
        self.keep_alives = KeepAlives(self._ping, random.Random(1))

    def _ping(self, flow: Flow, sure: bool) -> None:
        self.pings.append((asyncio.get_running_loop().time(), flow, sure))


@virtual_time
async def test_each_flow_has_one_rhythm_in_the_last_fifth_of_its_interval() -> None:
    heard = Heard()
    for owner in ("a", "b"):
        heard.keep_alives.keep(owner, ONE, 30)
    await asyncio.sleep(300)
    times = [0.0, *(when for when, _, _ in heard.pings)]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert 10 <= len(gaps) <= 12
    assert all(24 <= gap <= 30 for gap in gaps)
    heard.keep_alives.close()


@virtual_time
async def test_a_flow_is_kept_while_anybody_needs_it() -> None:
    heard = Heard()
    heard.keep_alives.keep("a", ONE, 30)
    heard.keep_alives.keep("b", ONE, 30)
    heard.keep_alives.release("a")
    await asyncio.sleep(31)
    assert len(heard.pings) == 1
    heard.keep_alives.keep("b", TWO, 30, sure=True)
    await asyncio.sleep(31)
    assert [(flow, sure) for _, flow, sure in heard.pings[1:]] == [(TWO, True)]
    heard.keep_alives.forget(TWO)
    heard.keep_alives.release("b")
    assert len(heard.keep_alives) == 0
    await asyncio.sleep(100)
    assert len(heard.pings) == 2


@virtual_time
async def test_no_interval_no_keep_alives() -> None:
    heard = Heard()
    heard.keep_alives.keep("a", ONE, 0)
    assert len(heard.keep_alives) == 0


@both_loops
async def test_a_ping_is_answered_and_the_connection_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "PONG_TIMEOUT", 0.05)
    async with peer() as near, peer() as far:
        flow = await near.endpoint.connect(far.address)
        for _ in range(3):
            near.endpoint.ping(flow, must_answer=True)
            await asyncio.sleep(0.1)
        assert near.endpoint.is_open(flow)
        assert far.messages.empty()


@both_loops
async def test_a_peer_that_has_to_answer_and_does_not_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "PONG_TIMEOUT", 0.05)
    held: list[asyncio.StreamWriter] = []

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)
        await reader.read()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with peer() as near:
        address = server.sockets[0].getsockname()
        flow = await near.endpoint.connect(address)
        near.endpoint.ping(flow, must_answer=False)  # RFC 3261 §7.5: it may just ignore it
        await asyncio.sleep(0.1)
        assert near.endpoint.is_open(flow)
        near.endpoint.ping(flow, must_answer=True)
        assert await near.closed.get() == (flow, "no answer to a keep-alive")
    for writer in held:
        writer.close()
        await writer.wait_closed()
    server.close()
    await server.wait_closed()


@both_loops
async def test_a_peer_that_answered_once_has_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "PONG_TIMEOUT", 0.05)
    held: list[asyncio.StreamWriter] = []

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)
        await reader.readexactly(4)
        writer.write(b"\r\n")
        await reader.read()

    server = await asyncio.start_server(once, "127.0.0.1", 0)
    async with peer() as near:
        flow = await near.endpoint.connect(server.sockets[0].getsockname())
        near.endpoint.ping(flow, must_answer=False)
        await asyncio.sleep(0.05)
        near.endpoint.ping(flow, must_answer=False)
        assert await near.closed.get() == (flow, "no answer to a keep-alive")
    for writer in held:
        writer.close()
        await writer.wait_closed()
    server.close()
    await server.wait_closed()
