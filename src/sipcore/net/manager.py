"""The sockets of one user agent: finds a flow to a target, sends on flows, and hands up what arrives on
them."""

from __future__ import annotations

import asyncio
import errno
import logging
import random
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

from sipcore.errors import ServerUnreachable
from sipcore.net.addresses import LocalAddresses, family_of, ip_literal, is_wildcard, join, sentence
from sipcore.net.resolver import Resolver, default_port
from sipcore.net.stream import BACKLOG, StreamEndpoint, StreamLimits
from sipcore.net.udp import UdpSocket
from sipcore.protocol.flows import Flow

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sipcore.config import UserAgentConfig
    from sipcore.net.addresses import Address
    from sipcore.net.resolver import Endpoint
    from sipcore.net.trace import Trace
    from sipcore.protocol.flows import Target, Transport

__all__ = ["FlowManager"]

log = logging.getLogger(__name__)

PORT_ATTEMPTS = 50
"""Free UDP ports tried until one is free for TCP too."""
MAX_ATTEMPTS = 3
"""Endpoints of one target tried, each with its own connect timeout."""
MEMORY = 30.0
"""Seconds for which routes, and endpoints that failed, are remembered."""
MAX_FLOWS = 16_384
"""UDP flows remembered; they are only a cache."""
KEEP_ALIVE_BYTES = b"\r\n\0 "
"""A datagram of nothing else opens a NAT's pinhole and means nothing (RFC 3261 §7.5; Kamailio sends
zeroes)."""


class FlowManager:
    """UDP and TCP on one port number, for each family that ``config.sip_host`` covers (``::`` covers both).

    Args:
        config: ``sip_host``, ``sip_port`` and ``advertise`` are used.
        on_message: called with each message and its flow; several may come in one round of the loop.
        on_flow_closed: called from the loop, never from inside :meth:`send`, when a connection is gone, or
            when UDP to a remote is known not to arrive; the string says why.
        trace: gets every message.
        resolver: default: one over the system's configuration.
        limits: of stream connections.
    """

    def __init__(
        self,
        config: UserAgentConfig,
        *,
        on_message: Callable[[bytes, Flow], None],
        on_flow_closed: Callable[[Flow, str], None],
        trace: Trace | None = None,
        resolver: Resolver | None = None,
        limits: StreamLimits | None = None,
    ) -> None:
        self._config = config
        self._on_message = on_message
        self._on_flow_closed = on_flow_closed
        self._trace = trace
        self._given_resolver = resolver
        self._limits = limits or StreamLimits()
        self._host = config.sip_host
        self._port = 0
        self._udp: dict[socket.AddressFamily, UdpSocket] = {}
        self._flows: dict[Address, Flow] = {}
        """UDP flows by remote."""
        self._suspects: set[Address] = set()
        """Remotes that failed lately; tried last."""
        self._forgetting: asyncio.TimerHandle | None = None
        self._open = False

    # -- life ------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Binds.

        Raises:
            OSError: the port is taken, or the host is not this machine's.
        """
        self._loop = asyncio.get_running_loop()
        hosts = await self._hosts_to_bind()
        self._locals = LocalAddresses(hosts)
        self._resolver = self._given_resolver or Resolver(
            ipv4=self._locals.serves("127.0.0.1"), ipv6=self._locals.serves("::1"), rng=random.SystemRandom()
        )
        self._streams = StreamEndpoint(
            make_flow=self._make_stream_flow,
            on_message=self._receive,
            on_closed=self._report_closed,
            limits=self._limits,
        )
        listening = self._bind(hosts)
        self._open = True
        try:
            while listening:
                await self._streams.listen(listening.pop())
        except BaseException:
            for bound in listening:
                bound.close()
            await self.close()
            raise

    async def close(self, timeout: float = 1.0) -> None:
        """Frees every port and connection; what was sent before still goes out. Idempotent."""
        if not self._open:
            return
        self._open = False
        if self._forgetting is not None:
            self._forgetting.cancel()
        await self._resolver.close()
        await self._streams.close(timeout)
        for udp in self._udp.values():
            udp.close()
        self._flows.clear()

    @property
    def address(self) -> Address:
        """Host as bound (``0.0.0.0`` and ``::`` mean every interface) and port, of UDP and TCP alike."""
        return self._host, self._port

    @property
    def open_flow_count(self) -> int:
        """Open stream connections."""
        return len(self._streams) if self._open else 0

    async def _hosts_to_bind(self) -> tuple[str, ...]:
        literal = ip_literal(self._config.sip_host)
        if literal is None:
            found = await self._loop.getaddrinfo(self._config.sip_host, None, type=socket.SOCK_DGRAM)
            literal = str(found[0][4][0])
        self._host = literal
        return ("::", "0.0.0.0") if literal == "::" else (literal,)  # noqa: S104 - as the configuration says

    def _bind(self, hosts: Sequence[str]) -> list[socket.socket]:
        """Opens the UDP sockets and returns the bound TCP ones, all on one port number."""
        for attempt in range(PORT_ATTEMPTS):
            with ExitStack() as undo:
                try:
                    udp, streams = self._bind_once(hosts, undo)
                except OSError as error:
                    if error.errno == errno.EADDRINUSE and not self._config.sip_port and attempt + 1 < PORT_ATTEMPTS:
                        continue
                    where = join((self._host, self._config.sip_port))
                    raise OSError(error.errno, f"Cannot listen on {where}: {sentence(error)}") from error
                undo.pop_all()
                self._udp = udp
                return streams
        raise AssertionError("the last attempt returns or raises")

    def _bind_once(
        self, hosts: Sequence[str], undo: ExitStack
    ) -> tuple[dict[socket.AddressFamily, UdpSocket], list[socket.socket]]:
        udp: dict[socket.AddressFamily, UdpSocket] = {}
        streams: list[socket.socket] = []
        self._port = self._config.sip_port
        for host in hosts:
            opened = UdpSocket((host, self._port), on_datagram=self._on_datagram, on_unreachable=self._on_unreachable)
            undo.callback(opened.close)
            self._port = opened.address[1]
            udp[family_of(host)] = opened
            bound = socket.socket(family_of(host), socket.SOCK_STREAM)
            undo.callback(bound.close)
            bound.setblocking(False)
            # A restarted server may bind while the system still holds its old connections in TIME_WAIT.
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if bound.family == socket.AF_INET6:
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            bound.bind((host, self._port))
            bound.listen(BACKLOG)
            streams.append(bound)
        return udp, streams

    # -- finding a flow --------------------------------------------------------------------------------------

    def flow_at_once(self, target: Target, *, prefer: Flow | None = None) -> Flow | None:
        """A flow that needs no waiting: the preferred one if it is open, an IP literal over UDP, or a
        connection that is up; None where :meth:`flow_to` has to be awaited.

        Raises:
            ServerUnreachable: TLS is asked for, no route leads there, or this agent is closed.
        """
        self._refuse_unless_usable(target)
        if prefer is not None and self.is_open(prefer):
            return prefer
        host = ip_literal(target.host)
        if host is None:
            return None
        transport = target.transport or "udp"
        remote = (host, default_port(transport) if target.port is None else target.port)
        if transport == "udp":
            return self._udp_flow(remote)
        return self._streams.find(remote)

    async def flow_to(self, target: Target, *, prefer: Flow | None = None) -> Flow:
        """A flow to a target; a name's endpoints are tried in order, those that failed lately last.

        Raises:
            ServerUnreachable: no endpoint can be reached; a sentence says which and why.
        """
        flow = self.flow_at_once(target, prefer=prefer)
        if flow is not None:
            return flow
        endpoints = await self._resolver.resolve(target)
        endpoints.sort(key=lambda endpoint: endpoint.address in self._suspects)
        failure = ServerUnreachable(f"The host {target.host!r} has no address")
        for endpoint in endpoints[:MAX_ATTEMPTS]:
            try:
                return await self._flow_to_endpoint(endpoint)
            except ServerUnreachable as error:
                self._suspect(endpoint.address)
                failure = error
        raise failure

    async def hosts_of(self, target: Target) -> tuple[str, ...]:
        """Every IP address that a target may be reached at.

        Raises:
            ServerUnreachable: the name has none, or DNS does not answer.
        """
        literal = ip_literal(target.host)
        if literal is not None:
            return (literal,)
        return tuple(dict.fromkeys(endpoint.address[0] for endpoint in await self._resolver.resolve(target)))

    async def _flow_to_endpoint(self, endpoint: Endpoint) -> Flow:
        if endpoint.transport == "udp":
            return self._udp_flow(endpoint.address)
        self._local_towards(endpoint.address, "TCP")
        return await self._streams.connect(endpoint.address, None if is_wildcard(self._host) else self._host)

    def _refuse_unless_usable(self, target: Target) -> None:
        if not self._open:
            raise ServerUnreachable("The user agent is closed")
        if target.secure or target.transport == "tls":
            raise ServerUnreachable("TLS is not available in this version")

    def _udp_flow(self, remote: Address) -> Flow:
        flow = self._flows.get(remote)
        if flow is None:
            local = self._local_towards(remote, "UDP")
            flow = self._flow("udp", (local, self._port), remote)
            if len(self._flows) >= MAX_FLOWS:
                self._flows.clear()
            self._flows[remote] = flow
            self._forget_later()
        return flow

    def _local_towards(self, remote: Address, over: str) -> str:
        try:
            return self._locals.towards(remote[0])
        except OSError as error:
            served = self._locals.serves(remote[0])
            why = sentence(error) if served else f"this agent listens on {self._host} only"
            raise ServerUnreachable(f"{join(remote)} cannot be reached over {over}: {why}") from error

    def _make_stream_flow(self, local: Address, remote: Address, number: int) -> Flow:
        return self._flow("tcp", local, remote, number)

    def _flow(self, transport: Transport, local: Address, remote: Address, number: int = 0) -> Flow:
        host = self._config.advertise or local[0].partition("%")[0]
        return Flow(transport, local, remote, number, advertised=(host, self._port))

    def _suspect(self, address: Address) -> None:
        self._suspects.add(address)
        self._forget_later()

    def _forget_later(self) -> None:
        if self._forgetting is None and self._open:
            self._forgetting = self._loop.call_later(MEMORY, self._forget)

    def _forget(self) -> None:
        self._forgetting = None
        self._flows.clear()
        self._suspects.clear()
        self._locals.forget()

    # -- messages --------------------------------------------------------------------------------------------

    def is_open(self, flow: Flow) -> bool:
        """Whether messages can be sent on the flow."""
        if not self._open:
            return False
        return flow.transport == "udp" or self._streams.is_open(flow)

    def send(self, flow: Flow, data: bytes) -> None:
        """Sends one message; never raises. A flow that is not open is reported as closed."""
        if not self._open:
            return
        if self._trace is not None:
            self._trace.record("sent", flow, data)
        if flow.transport == "udp":
            udp = self._udp.get(family_of(flow.remote[0]))
            if udp is not None:
                udp.send(data, flow.remote)
                return
        elif self._streams.send(data, flow):
            return
        self._loop.call_soon(self._report_closed, flow, "the connection is closed")

    def _receive(self, data: bytes, flow: Flow) -> None:
        if self._trace is not None:
            self._trace.record("received", flow, data)
        self._on_message(data, flow)

    def _on_datagram(self, data: bytes, remote: Address) -> None:
        if not data.strip(KEEP_ALIVE_BYTES):
            return
        try:
            flow = self._udp_flow(remote)
        except ServerUnreachable as error:
            log.debug("dropped a datagram that could not be answered: %s", error)
            return
        self._receive(data, flow)

    def _on_unreachable(self, remote: Address, why: str) -> None:
        if not self._open:
            return
        self._suspect(remote)
        try:
            flow = self._udp_flow(remote)
        except ServerUnreachable as error:
            log.debug("nothing waits for %s: %s", join(remote), error)
            return
        self._loop.call_soon(self._report_closed, flow, why)

    def _report_closed(self, flow: Flow, why: str) -> None:
        if self._open:
            self._on_flow_closed(flow, why)
