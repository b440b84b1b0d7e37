"""UDP and TCP on one port, with real sockets on the loopback interfaces."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import random
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sipcore.config import UserAgentConfig
from sipcore.errors import ServerUnreachable
from sipcore.net import binding
from sipcore.net import manager as manager_module
from sipcore.net.addresses import LocalAddresses
from sipcore.net.manager import FlowManager
from sipcore.net.resolver import Resolver
from sipcore.net.trace import Trace
from sipcore.protocol.flows import Flow, Target
from tests.kit.loops import both_loops
from tests.kit.virtual_time import virtual_time

OPTIONS = b"OPTIONS sip:a@b SIP/2.0\r\nContent-Length: 0\r\n\r\n"

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="ICMP errors are read from Linux' error queue")


class Agent:
    """A manager and what happened to it."""

    def __init__(self, config: UserAgentConfig, trace: Trace | None = None, hosts: Path | None = None) -> None:
        self.messages: asyncio.Queue[tuple[bytes, Flow]] = asyncio.Queue()
        self.closed: asyncio.Queue[tuple[Flow, str]] = asyncio.Queue()
        resolver = None
        if hosts is not None:
            resolver = Resolver(ipv4=True, ipv6=False, rng=random.Random(1), hosts=hosts, configuration=hosts)
        self.manager = FlowManager(
            config,
            on_message=lambda data, flow: self.messages.put_nowait((data, flow)),
            on_flow_closed=lambda flow, why: self.closed.put_nowait((flow, why)),
            trace=trace,
            resolver=resolver,
        )

    @property
    def port(self) -> int:
        return self.manager.address[1]


@contextlib.asynccontextmanager
async def agent(
    host: str = "127.0.0.1", *, port: int = 0, advertise: str = "", hosts: Path | None = None
) -> AsyncIterator[Agent]:
    opened = Agent(UserAgentConfig(sip_host=host, sip_port=port, advertise=advertise), hosts=hosts)
    await opened.manager.start()
    try:
        yield opened
    finally:
        await opened.manager.close()


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize(
    ("listening", "towards"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),
        ("::1", "::1"),
        ("[::1]", "[::1]"),
        ("::", "::1"),
        ("::", "127.0.0.1"),
        ("localhost", "127.0.0.1"),
    ],
)
@both_loops
async def test_a_message_and_its_answer(listening: str, towards: str, transport: str) -> None:
    """The response's flow is the request's: RFC 3261 §18.2.2."""
    async with agent(listening) as near, agent(listening) as far:
        target = Target(towards, far.port, "udp" if transport == "udp" else "tcp")
        flow = await near.manager.flow_to(target)
        near.manager.send(flow, OPTIONS)
        data, back = await far.messages.get()
        assert data == OPTIONS
        assert back.remote == flow.local
        assert back.local == flow.remote
        far.manager.send(back, b"SIP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n")
        data, answered = await near.messages.get()
        assert data.startswith(b"SIP/2.0 200")
        assert answered == flow
        assert await near.manager.flow_to(target) == flow


@both_loops
async def test_a_wildcard_never_gets_into_a_message() -> None:
    """Via and Contact name an address that the peer can reach."""
    async with agent("0.0.0.0") as near, agent("0.0.0.0") as far:
        assert near.manager.address == ("0.0.0.0", near.port)
        for transport in ("udp", "tcp"):
            target = Target("127.0.0.1", far.port, "udp" if transport == "udp" else "tcp")
            flow = await near.manager.flow_to(target)
            assert flow.advertised == ("127.0.0.1", near.port)
            near.manager.send(flow, OPTIONS)
            _, back = await far.messages.get()
            assert back.advertised == ("127.0.0.1", far.port)


@both_loops
async def test_an_advertised_host_is_named_instead() -> None:
    async with agent(advertise="sip.example.com") as near, agent() as far:
        flow = await near.manager.flow_to(Target("127.0.0.1", far.port))
        assert flow.advertised == ("sip.example.com", near.port)
        assert flow.local == ("127.0.0.1", near.port)


@both_loops
async def test_udp_and_tcp_share_a_port_number() -> None:
    async with agent() as near:
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            for probe in (tcp, udp):
                with pytest.raises(OSError, match="in use"):
                    probe.bind(("127.0.0.1", near.port))


@both_loops
async def test_a_number_taken_for_tcp_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    with contextlib.ExitStack() as taken:
        numbers: list[int] = []
        original = binding._bind_once

        def interfere(*args: Any) -> binding.Bound:
            with socket.socket(type=socket.SOCK_DGRAM) as probe:
                probe.bind(("127.0.0.1", 0))
                number = probe.getsockname()[1]
            if len(numbers) < 3:
                numbers.append(number)
                blocker = taken.enter_context(socket.socket())
                blocker.bind(("127.0.0.1", number))
                blocker.listen()
                raise OSError(errno.EADDRINUSE, "taken")
            return original(*args)

        monkeypatch.setattr(binding, "_bind_once", interfere)
        async with agent() as near:
            assert near.port not in numbers


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
@both_loops
async def test_a_taken_port_is_an_error_that_names_it_and_leaks_nothing(kind: socket.SocketKind) -> None:
    with socket.socket(type=kind) as taken:
        taken.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=rf"Cannot listen on 127\.0\.0\.1:{port}: address already in use"):
            await Agent(UserAgentConfig(sip_host="127.0.0.1", sip_port=port)).manager.start()


@both_loops
async def test_an_address_of_another_machine_cannot_be_listened_on() -> None:
    with pytest.raises(OSError, match=r"Cannot listen on 198\.51\.100\.1"):
        await Agent(UserAgentConfig(sip_host="198.51.100.1")).manager.start()


@both_loops
async def test_literals_over_udp_and_open_connections_need_no_waiting() -> None:
    async with agent() as near, agent() as far:
        flow = near.manager.flow_at_once(Target("127.0.0.1", far.port))
        assert flow is not None
        assert flow.transport == "udp"
        over_tcp = Target("127.0.0.1", far.port, "tcp")
        assert near.manager.flow_at_once(over_tcp) is None
        opened = await near.manager.flow_to(over_tcp)
        assert near.manager.flow_at_once(over_tcp) == opened
        assert near.manager.open_flow_count == 1
        assert near.manager.flow_at_once(Target("pbx1")) is None


@both_loops
async def test_the_default_port_is_5060() -> None:
    """RFC 3261 §19.1.2."""
    async with agent() as near:
        flow = near.manager.flow_at_once(Target("127.0.0.1"))
        assert flow is not None
        assert flow.remote == ("127.0.0.1", 5060)


@both_loops
async def test_the_preferred_flow_is_used_while_it_is_open() -> None:
    async with agent() as near, agent() as far:
        elsewhere = Target("192.0.2.1", 5060)
        preferred = await near.manager.flow_to(Target("127.0.0.1", far.port, "tcp"))
        assert await near.manager.flow_to(elsewhere, prefer=preferred) == preferred
        near.manager.send(preferred, OPTIONS)
        await far.messages.get()
        await far.manager.close()
        await near.closed.get()
        over_tcp = Target("127.0.0.1", far.port, "tcp")
        with pytest.raises(ServerUnreachable, match="refused"):
            await near.manager.flow_to(over_tcp, prefer=preferred)


@both_loops
async def test_a_family_that_is_not_listened_on_cannot_be_reached() -> None:
    async with agent("0.0.0.0") as near:
        for transport in ("udp", "tcp"):
            with pytest.raises(ServerUnreachable, match=r"\[::1\]:5060 .* listens on 0\.0\.0\.0 only"):
                await near.manager.flow_to(Target("::1", transport="udp" if transport == "udp" else "tcp"))


@linux_only
@both_loops
async def test_nobody_listening_closes_the_flow_of_that_remote_only() -> None:
    """RFC 3261 §18.4."""
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        gone = probe.getsockname()[1]
    async with agent() as near, agent() as far:
        flow = await near.manager.flow_to(Target("127.0.0.1", gone))
        near.manager.send(flow, OPTIONS)
        async with asyncio.timeout(2):
            assert await near.closed.get() == (flow, "connection refused")
        near.manager.send(await near.manager.flow_to(Target("127.0.0.1", far.port)), OPTIONS)
        await far.messages.get()
        assert near.closed.empty()


@both_loops
async def test_sending_on_a_dead_connection_is_reported_later() -> None:
    """Not from inside send(): the stack is not to be entered while it is being emptied."""
    async with agent() as near:
        dead = Flow("tcp", ("127.0.0.1", 1), ("127.0.0.1", 2), 99)
        near.manager.send(dead, OPTIONS)
        assert near.closed.empty()
        assert await near.closed.get() == (dead, "the connection is closed")


@both_loops
async def test_keep_alive_datagrams_mean_nothing() -> None:
    """RFC 3261 §7.5 (leading CRLFs), and the zeroes that Kamailio sends."""
    async with agent() as near, agent() as far:
        flow = await near.manager.flow_to(Target("127.0.0.1", far.port))
        for data in (b"", b"\r\n\r\n", b"\0\0\0\0", b"\r\n", OPTIONS):
            near.manager.send(flow, data)
        assert (await far.messages.get())[0] == OPTIONS
        assert far.messages.empty()


class TestNames:
    @both_loops
    async def test_the_next_endpoint_is_tried(self, tmp_path: Path) -> None:
        """RFC 3263 §4.3; the one that failed is tried last for a while."""
        async with agent("127.0.0.1") as far:
            hosts = tmp_path / "hosts"
            hosts.write_text("127.0.0.9 pbx\n127.0.0.1 pbx\n")
            async with agent("0.0.0.0", hosts=hosts) as near:
                target = Target("pbx", far.port, "tcp")
                flow = await near.manager.flow_to(target)
                assert flow.remote == ("127.0.0.1", far.port)
                assert set(near.manager._suspects) == {("127.0.0.9", far.port)}
                assert await near.manager.flow_to(target) == flow

    @linux_only
    @both_loops
    async def test_udp_moves_on_after_an_icmp_error(self, tmp_path: Path) -> None:
        async with agent("127.0.0.1") as far:
            hosts = tmp_path / "hosts"
            hosts.write_text("127.0.0.9 pbx\n127.0.0.1 pbx\n")
            async with agent("0.0.0.0", hosts=hosts) as near:
                target = Target("pbx", far.port)
                first = await near.manager.flow_to(target)
                assert first.remote[0] == "127.0.0.9"
                near.manager.send(first, OPTIONS)
                await near.closed.get()
                assert (await near.manager.flow_to(target)).remote[0] == "127.0.0.1"

    @both_loops
    async def test_a_name_that_leads_nowhere_says_which(self, tmp_path: Path) -> None:
        hosts = tmp_path / "hosts"
        hosts.write_text("")
        async with agent(hosts=hosts) as near:
            with pytest.raises(ServerUnreachable, match="'pbx' cannot be found"):
                await near.manager.flow_to(Target("pbx"))


class TestClosing:
    @both_loops
    async def test_everything_is_refused_and_nothing_raises_afterwards(self) -> None:
        near = Agent(UserAgentConfig(sip_host="127.0.0.1"))
        await near.manager.close()
        await near.manager.start()
        flow = await near.manager.flow_to(Target("127.0.0.1", 9))
        await near.manager.close()
        await near.manager.close()
        near.manager.send(flow, OPTIONS)
        assert not near.manager.is_open(flow)
        assert near.manager.open_flow_count == 0
        with pytest.raises(ServerUnreachable, match="closed"):
            await near.manager.flow_to(Target("127.0.0.1", 9))
        await asyncio.sleep(0)
        assert near.closed.empty()

    @both_loops
    async def test_the_port_is_free_at_once(self) -> None:
        """A restart must not meet "address in use", whatever connections were open."""
        async with agent() as near, agent() as far:
            port = near.port
            near.manager.send(await near.manager.flow_to(Target("127.0.0.1", far.port, "tcp")), OPTIONS)
            far.manager.send(await far.manager.flow_to(Target("127.0.0.1", port, "tcp")), OPTIONS)
            await far.messages.get()
            await near.messages.get()
            await near.manager.close()
            async with agent(port=port) as again:
                assert again.port == port


@virtual_time
async def test_routes_and_failures_are_forgotten_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(("192.0.2.1", "192.0.2.2"))
    monkeypatch.setattr(LocalAddresses, "_ask", staticmethod(lambda remote: next(answers)))
    async with agent("0.0.0.0") as near:
        before = near.manager.flow_at_once(Target("198.51.100.1"))
        near.manager._on_unreachable(("198.51.100.1", 5060), "test")
        assert near.manager.flow_at_once(Target("198.51.100.1")) == before
        await asyncio.sleep(manager_module.MEMORY + 1)
        assert not near.manager._suspects
        after = near.manager.flow_at_once(Target("198.51.100.1"))
        assert before is not None
        assert after is not None
        assert (before.local[0], after.local[0]) == ("192.0.2.1", "192.0.2.2")


@virtual_time
async def test_an_icmp_error_is_reported_though_the_flow_was_forgotten_meanwhile() -> None:
    async with agent() as near:
        flow = await near.manager.flow_to(Target("127.0.0.1", 9))
        near.manager._forget()
        near.manager._on_unreachable(("127.0.0.1", 9), "connection refused")
        assert await near.closed.get() == (flow, "connection refused")


@virtual_time
async def test_remembered_flows_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manager_module, "MAX_FLOWS", 10)
    async with agent() as near:
        for port in range(1, 100):
            near.manager.flow_at_once(Target("127.0.0.1", port))
        assert len(near.manager._flows) <= 10
