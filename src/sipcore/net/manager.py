"""The sockets of one user agent: finds a flow to a target, sends on flows, and hands up what arrives on
them."""

from __future__ import annotations

import asyncio
import logging
import random
from functools import partial
from typing import TYPE_CHECKING

from sipcore.config import TlsConfig
from sipcore.errors import ServerUnreachable
from sipcore.net.addresses import LocalAddresses, family_of, ip_literal, is_wildcard, join, sentence
from sipcore.net.binding import bind, hosts_to_bind
from sipcore.net.keepalive import KeepAlives
from sipcore.net.resolver import Resolver, default_port, default_transport
from sipcore.net.stream import Secured, StreamEndpoint, StreamLimits
from sipcore.net.tls import client_context, server_context
from sipcore.protocol.addresses import parse_name_server
from sipcore.protocol.flows import Flow
from sipcore.protocol.framing import KeepAlive

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable, Hashable

    from sipcore.config import UserAgentConfig
    from sipcore.net.addresses import Address
    from sipcore.net.binding import Bound
    from sipcore.net.resolver import Endpoint
    from sipcore.net.trace import Trace
    from sipcore.net.udp import UdpSocket
    from sipcore.protocol.flows import Target, Transport

__all__ = ["FlowManager"]

log = logging.getLogger(__name__)

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
    """UDP and TCP on one port number and TLS on its own, for each family that ``config.sip_host`` covers (``::``
    covers both).

    Args:
        config: ``sip_host``, ``sip_port``, ``advertise``, ``nameservers`` and ``tls`` are used.
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
        self._tls_port = 0
        self._client_context: ssl.SSLContext | None = None
        self._udp: dict[socket.AddressFamily, UdpSocket] = {}
        self._flows: dict[Address, Flow] = {}
        """UDP flows by remote."""
        self._suspects: dict[Address, float] = {}
        """Remotes that failed lately, tried last, and until when."""
        self._unreachable: set[Flow] = set()
        """UDP flows that are about to be reported as closed."""
        self._forgetting: asyncio.TimerHandle | None = None
        self._keep_alives = KeepAlives(self._ping, random.SystemRandom())
        self._open = False

    # -- life ------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Binds.

        Raises:
            OSError: a port is taken, the host is not this machine's, or a file of TLS cannot be used.
        """
        self._loop = asyncio.get_running_loop()
        tls = self._config.tls
        hosts = await hosts_to_bind(self._config.sip_host)
        self._host = hosts[0]
        self._locals = LocalAddresses(hosts)
        self._resolver = self._given_resolver or Resolver(
            ipv4=self._locals.serves("127.0.0.1"),
            ipv6=self._locals.serves("::1"),
            rng=random.SystemRandom(),
            nameservers=tuple(parse_name_server(server) for server in self._config.nameservers),
        )
        self._tcp = self._stream_endpoint("tcp", None)
        server = server_context(tls) if tls.certificate else None
        if tls != TlsConfig():
            self._client_tls()  # files that are wrong shall be known at the start
        self._tls = self._stream_endpoint("tls", Secured(self._client_tls, server, tls.verify, tls.wildcards))
        bound = bind(self._config, hosts, on_datagram=self._on_datagram, on_unreachable=self._on_unreachable)
        self._port, self._tls_port = bound.port, bound.tls_port
        await self._listen(bound)

    def _stream_endpoint(self, transport: Transport, secured: Secured | None) -> StreamEndpoint:
        return StreamEndpoint(
            make_flow=partial(self._flow, transport),
            on_message=self._receive,
            on_closed=self._report_closed,
            limits=self._limits,
            secured=secured,
        )

    def _client_tls(self) -> ssl.SSLContext:
        if self._client_context is None:
            self._client_context = client_context(self._config.tls)
        return self._client_context

    async def close(self, timeout: float = 1.0) -> None:
        """Frees every port and connection; what was sent before still goes out. Idempotent."""
        if not self._open:
            return
        self._open = False
        self._keep_alives.close()
        if self._forgetting is not None:
            self._forgetting.cancel()
        await self._resolver.close()
        await asyncio.gather(self._tcp.close(timeout), self._tls.close(timeout))
        for udp in self._udp.values():
            udp.close()
        self._flows.clear()

    @property
    def address(self) -> Address:
        """Host as bound (``0.0.0.0`` and ``::`` mean every interface) and port, of UDP and TCP alike."""
        return self._host, self._port

    @property
    def tls_address(self) -> Address | None:
        """Host as bound and port of TLS; None where no certificate is configured."""
        return (self._host, self._tls_port) if self._tls_port else None

    @property
    def listening(self) -> bool:
        """Whether any socket is open for peers: UDP, TCP or TLS."""
        if not self._open:
            return False
        return any(udp.is_open for udp in self._udp.values()) or self._tcp.listening or self._tls.listening

    @property
    def open_flow_count(self) -> int:
        """Open stream connections."""
        return len(self._tcp) + len(self._tls) if self._open else 0

    async def _listen(self, bound: Bound) -> None:
        """Hands the bound sockets to those who read them."""
        self._udp = bound.udp
        waiting = [(self._tcp, each) for each in bound.tcp] + [(self._tls, each) for each in bound.tls]
        self._open = True
        try:
            while waiting:
                endpoint, each = waiting.pop()
                await endpoint.listen(each)
        except BaseException:
            for _, each in waiting:
                each.close()
            await self.close()
            raise

    # -- finding a flow --------------------------------------------------------------------------------------

    def flow_at_once(self, target: Target, *, prefer: Flow | None = None) -> Flow | None:
        """A flow that needs no waiting: the preferred one if it is open, an IP literal over UDP, or a
        connection that is up; None where :meth:`flow_to` has to be awaited.

        Raises:
            ServerUnreachable: no route leads there, or this agent is closed.
        """
        if not self._open:
            raise ServerUnreachable("The user agent is closed")
        if prefer is not None and self.is_open(prefer):
            return prefer
        host = ip_literal(target.host)
        if host is None:
            return None
        transport = default_transport(target)
        remote = (host, default_port(transport) if target.port is None else target.port)
        if transport == "udp":
            return self._udp_flow(remote)
        return self._streams(transport).find(remote)

    async def flow_to(
        self, target: Target, *, prefer: Flow | None = None, avoid: tuple[Flow, ...] = (), rest: float = 0.0
    ) -> Flow:
        """A flow to a target; a name's endpoints are tried in order, those that failed lately last.

        Args:
            avoid: flows to endpoints that failed and are not tried again (RFC 3263 §4.3).
            rest: seconds for which the last of them asked to be left alone.

        Raises:
            ServerUnreachable: no endpoint can be reached; a sentence says which and why.
        """
        if avoid:
            self._suspect(avoid[-1].remote, max(rest, MEMORY))
        else:
            flow = self.flow_at_once(target, prefer=prefer)
            if flow is not None:
                return flow
        failed = {(flow.transport, flow.remote) for flow in avoid}
        found = await self._resolver.resolve(target)
        endpoints = [endpoint for endpoint in found if (endpoint.transport, endpoint.address) not in failed]
        endpoints.sort(key=lambda endpoint: endpoint.address in self._suspects)
        what = "no further server" if avoid else "no address"
        failure = ServerUnreachable(f"The host {target.host!r} has {what}")
        for endpoint in endpoints[:MAX_ATTEMPTS]:
            try:
                return await self._flow_to_endpoint(endpoint, target.host)
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

    async def _flow_to_endpoint(self, endpoint: Endpoint, host: str) -> Flow:
        if endpoint.transport == "udp":
            return self._udp_flow(endpoint.address)
        self._local_towards(endpoint.address, endpoint.transport.upper())
        source = None if is_wildcard(self._host) else self._host
        return await self._streams(endpoint.transport).connect(endpoint.address, source, host=ip_literal(host) or host)

    def _streams(self, transport: Transport) -> StreamEndpoint:
        return self._tls if transport == "tls" else self._tcp

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

    def _flow(self, transport: Transport, local: Address, remote: Address, number: int = 0) -> Flow:
        host = self._config.advertise or local[0].partition("%")[0]
        # Where nothing listens for TLS, the connection itself is the only way to us: a registrar that looks for the
        # address of our Contact among its connections finds it.
        port = (self._tls_port or local[1]) if transport == "tls" else self._port
        return Flow(transport, local, remote, number, advertised=(host, port))

    def _suspect(self, address: Address, seconds: float = MEMORY) -> None:
        until = self._loop.time() + seconds
        if len(self._suspects) >= MAX_FLOWS:
            self._suspects.clear()
        self._suspects[address] = max(until, self._suspects.get(address, 0.0))
        self._forget_later()

    def _forget_later(self) -> None:
        if self._forgetting is None and self._open:
            self._forgetting = self._loop.call_later(MEMORY, self._forget)

    def _forget(self) -> None:
        self._forgetting = None
        self._flows.clear()
        now = self._loop.time()
        self._suspects = {address: until for address, until in self._suspects.items() if until > now}
        self._locals.forget()
        if self._suspects:
            self._forget_later()

    # -- messages --------------------------------------------------------------------------------------------

    def keep(self, owner: Hashable, flow: Flow | None, every: float | None) -> None:
        """Sends keep-alives on ``flow`` for ``owner``, and on none that it had before (RFC 5626 §4.4).

        Args:
            flow: None: on none any more.
            every: seconds between them, where the far end asked for it; it answers them then.
        """
        if flow is None:
            self._keep_alives.release(owner)
        elif self._open:
            usual = self._config.udp_keep_alive if flow.transport == "udp" else self._config.keep_alive
            self._keep_alives.keep(owner, flow, usual if every is None else every, sure=every is not None)

    def _ping(self, flow: Flow, sure: bool) -> None:
        if flow.transport == "udp":
            udp = self._udp.get(family_of(flow.remote[0]))
            if udp is not None:
                udp.send(KeepAlive.PONG.value, flow.remote)  # one CRLF: it opens the NAT, and wants no answer
        else:
            self._streams(flow.transport).ping(flow, must_answer=sure)

    def is_open(self, flow: Flow) -> bool:
        """Whether messages can be sent on the flow."""
        if not self._open:
            return False
        return flow.transport == "udp" or self._streams(flow.transport).is_open(flow)

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
        elif self._streams(flow.transport).send(data, flow) or self._streams(flow.transport).is_open(flow):
            return  # one that is closing reports its end, and the reason, by itself
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
        if flow not in self._unreachable:
            # A thousand requests to a host that is gone are a thousand ICMP errors, and one report.
            self._unreachable.add(flow)
            self._loop.call_soon(self._report_closed, flow, why)

    def _report_closed(self, flow: Flow, why: str) -> None:
        self._unreachable.discard(flow)
        if self._open:
            self._keep_alives.forget(flow)
            self._on_flow_closed(flow, why)
