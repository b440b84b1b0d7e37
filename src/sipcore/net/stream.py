"""TCP and TLS: all connections of a user agent, in and out, found again as flows, and swept away (RFC 3261 §18)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from sipcore.errors import ServerUnreachable
from sipcore.net.addresses import family_of, join, sentence
from sipcore.net.connection import StreamConnection
from sipcore.net.shared import SharedTasks
from sipcore.net.tls import HANDSHAKE_TIMEOUT, handshake_failure, mismatch
from sipcore.protocol.sources import peer_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from sipcore.net.addresses import Address
    from sipcore.protocol.flows import Flow

__all__ = ["Secured", "StreamEndpoint", "StreamLimits"]

log = logging.getLogger(__name__)

BACKLOG = 512


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """What a peer may cost. Times are seconds, kept to about an eighth."""

    connect_timeout: float = 5.0
    """For the handshake of an outgoing connection."""
    inbound_connections: int = 1024
    """Accepted connections open at once; more are closed as they come."""
    connections_per_peer: int = 128
    """The same of one peer: an IPv4 address, or an IPv6 /64."""
    message_timeout: float = 32.0
    """For the first message of an accepted connection, and for the rest of a message that has begun."""
    idle_timeout: float = 3600.0
    """Without a whole message, ping or pong in either direction."""
    write_buffer: int = 1024 * 1024
    """Bytes that wait for a peer that does not read, before its connection is closed."""
    write_buffers: int = 64 * 1024 * 1024
    """The same of all connections; beyond, the one that holds most is closed."""
    unfinished: int = 16 * 1024 * 1024
    """Bytes of messages that have begun, of all connections; beyond, the accepted one that holds most is closed."""
    user_timeout: float = 30.0
    """For the acknowledgement of bytes sent, where the system can be told (``TCP_USER_TIMEOUT``)."""


@dataclass(frozen=True, slots=True)
class Secured:
    """What makes a :class:`StreamEndpoint` one of TLS."""

    client: Callable[[], ssl.SSLContext]
    """For outgoing connections; asked for when the first is opened, since loading the system's CAs takes a moment."""
    server: ssl.SSLContext | None
    """For accepted connections."""
    verify: bool
    """Whether a server has to be the one that its URI names (RFC 5922 §7)."""
    wildcards: bool


class StreamEndpoint:
    """All TCP, or all TLS connections of one user agent: accepts, connects, finds again, sweeps away."""

    def __init__(
        self,
        *,
        make_flow: Callable[[Address, Address, int], Flow],
        on_message: Callable[[bytes, Flow], None],
        on_closed: Callable[[Flow, str], None],
        limits: StreamLimits,
        secured: Secured | None = None,
    ) -> None:
        """
        Args:
            make_flow: builds the flow of a connection from its local and remote address and its number.
            on_message: called with each whole message.
            on_closed: called once for each connection that was open, with a few words on why it is not any
                more.
            limits: what a peer may cost.
            secured: for TLS.
        """
        self._secured = secured
        self._name = "TCP" if secured is None else "TLS"
        self.make_flow = make_flow
        self.on_message = on_message
        self._on_closed = on_closed
        self.limits = limits
        self._loop = asyncio.get_running_loop()
        self._servers: list[asyncio.Server] = []
        self._open: dict[int, StreamConnection] = {}
        self._by_remote: dict[Address, StreamConnection] = {}
        """The newest connection to each remote."""
        self._inbound: dict[str, int] = {}
        """Accepted connections by peer."""
        self._unfinished = 0
        self._behind: set[StreamConnection] = set()
        """Connections that had bytes to send left after they were written to."""
        self._numbers = count(1)
        self._connecting: SharedTasks[tuple[Address, str], Flow] = SharedTasks()
        self._all_closed = asyncio.Event()
        self._sweep: asyncio.TimerHandle | None = None
        self._closing = False

    def __len__(self) -> int:
        return len(self._open)

    @property
    def listening(self) -> bool:
        """Whether it takes connections."""
        return not self._closing and any(server.is_serving() for server in self._servers)

    # -- opening ---------------------------------------------------------------------------------------------

    async def listen(self, bound: socket.socket) -> None:
        """Accepts connections on a bound socket, which it takes over."""
        context = self._secured.server if self._secured is not None else None
        self._servers.append(
            await self._loop.create_server(
                lambda: StreamConnection(self, inbound=True),
                sock=bound,
                backlog=BACKLOG,
                ssl=context,
                ssl_handshake_timeout=None if context is None else HANDSHAKE_TIMEOUT,
            )
        )

    async def connect(self, remote: Address, source: str | None = None, *, host: str = "") -> Flow:
        """A flow to ``remote``: the open one, the one being opened, or a new connection from the local address
        ``source`` (None: as the system chooses).

        Args:
            host: whom the peer of a TLS connection has to prove to be (RFC 5922 §7); empty: its address.

        Raises:
            ServerUnreachable: refused, no route, no answer within the connect timeout, or not the peer asked for.
        """
        host = host or remote[0]
        flow = self.find(remote, host=host)
        if flow is not None:
            return flow
        key = (remote, "" if self._secured is None else host.lower())
        return await self._connecting.get(key, lambda: self._connect(remote, source, host))

    async def _connect(self, remote: Address, source: str | None, host: str) -> Flow:
        connection = StreamConnection(self, inbound=False, host=host)
        secured = self._secured
        try:
            async with asyncio.timeout(self.limits.connect_timeout):
                await self._loop.create_connection(
                    lambda: connection,
                    *remote,
                    family=family_of(remote[0]),
                    local_addr=None if source is None else (source, 0),
                    ssl=None if secured is None else secured.client(),
                    # Server Name Indication is of names only (RFC 6066 §3); Python leaves it out for an address.
                    server_hostname=None if secured is None else host.partition("%")[0],
                    ssl_handshake_timeout=None if secured is None else HANDSHAKE_TIMEOUT,
                )
        except OSError as error:
            raise self._unreachable(
                remote, handshake_failure(error) if secured is not None else sentence(error)
            ) from error
        if connection.flow is None:
            raise self._unreachable(remote, connection.why or "closed at once")
        return connection.flow

    def _unreachable(self, remote: Address, why: str) -> ServerUnreachable:
        return ServerUnreachable(f"Connecting to {join(remote)} over {self._name} failed: {why}")

    def find(self, remote: Address, *, host: str = "") -> Flow | None:
        """The newest open connection to a remote. One of TLS only where its peer has proved to be ``host`` too: the
        server of one domain shall not get the requests for another (RFC 5923 §8.2)."""
        connection = self._by_remote.get(remote)
        if connection is None or self.doubt(connection, host or remote[0]) is not None:
            return None
        return connection.flow

    def doubt(self, connection: StreamConnection, host: str) -> str | None:
        """Why the peer of a connection is not ``host``; None where it is, or where that does not matter."""
        secured = self._secured
        if secured is None or not secured.verify:
            return None
        if connection.inbound:
            return "the peer has not proved who it is"
        return mismatch(connection.certificate, host, wildcards=secured.wildcards)

    def is_open(self, flow: Flow) -> bool:
        """Whether the flow's connection can be sent on."""
        return flow.connection in self._open

    # -- sending and closing ---------------------------------------------------------------------------------

    def send(self, data: bytes, flow: Flow) -> bool:
        """Writes one message; False where the connection is gone."""
        connection = self._open.get(flow.connection)
        return connection is not None and connection.write(data)

    async def close(self, timeout: float = 1.0) -> None:
        """Stops listening, sends what is buffered, closes; by force after ``timeout`` seconds."""
        self._closing = True
        for server in self._servers:
            server.close()
        await self._connecting.close()
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        if self._open:
            for connection in tuple(self._open.values()):
                connection.finish("closed by this side")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._all_closed.wait()
            for connection in tuple(self._open.values()):
                connection.abort("closed by this side")
            # An aborted transport tells its protocol in the loop's next round.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._all_closed.wait()
        for server in self._servers:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await server.wait_closed()

    def ping(self, flow: Flow, *, must_answer: bool) -> None:
        """Sends a keep-alive (RFC 5626 §4.4.1) on an open flow. A peer that has to answer it, or has answered one
        before, and does not, is gone."""
        connection = self._open.get(flow.connection)
        if connection is not None:
            connection.ping(must_answer=must_answer)

    # -- told by connections ---------------------------------------------------------------------------------

    def admit(self, connection: StreamConnection, local: Address, remote: Address) -> Flow | None:
        """A connection is up: its flow, or None where it is to be closed again: too many, or the wrong peer."""
        if not connection.inbound:
            doubt = self.doubt(connection, connection.host)
            if doubt is not None:
                connection.why = doubt
                return None
        if self._closing or (connection.inbound and not self._takes(remote)):
            return None
        flow = self.make_flow(local, remote, next(self._numbers))
        if connection.inbound:
            peer = peer_of(remote[0])
            self._inbound[peer] = self._inbound.get(peer, 0) + 1
        self._open[flow.connection] = connection
        self._by_remote[remote] = connection
        self._all_closed.clear()
        if self._sweep is None:
            self._arm_sweep()
        return flow

    def discard(self, connection: StreamConnection, flow: Flow, why: str) -> None:
        """A connection is down."""
        del self._open[flow.connection]
        self._behind.discard(connection)
        self._unfinished -= connection.unfinished
        if connection.inbound:
            peer = peer_of(flow.remote[0])
            self._inbound[peer] -= 1
            if not self._inbound[peer]:
                del self._inbound[peer]
        if self._by_remote.get(flow.remote) is connection:
            del self._by_remote[flow.remote]
        if not self._open:
            self._all_closed.set()
        if not self._closing:
            self._on_closed(flow, why)

    def _takes(self, remote: Address) -> bool:
        own = self._inbound.get(peer_of(remote[0]), 0)
        return own < self.limits.connections_per_peer and sum(self._inbound.values()) < self.limits.inbound_connections

    def holds(self, more: int) -> None:
        """The messages that have begun have ``more`` bytes than before, or fewer."""
        self._unfinished += more
        if self._unfinished > self.limits.unfinished:
            largest = max(self._open.values(), key=lambda one: one.unfinished if one.inbound else -1)
            largest.abort("too much is unfinished")

    def lags(self, connection: StreamConnection) -> None:
        """A connection could not send at once all that was written to it."""
        self._behind.add(connection)
        waiting = {one: one.unsent for one in self._behind}
        self._behind = {one for one, bytes_ in waiting.items() if bytes_}
        if sum(waiting.values()) > self.limits.write_buffers:
            max(waiting, key=lambda one: waiting[one]).abort("too much waits to be sent")

    def _arm_sweep(self) -> None:
        interval = min(self.limits.message_timeout, self.limits.idle_timeout) / 8
        self._sweep = self._loop.call_later(interval, self._on_sweep, interval)

    def _on_sweep(self, interval: float) -> None:
        self._sweep = None
        for connection in tuple(self._open.values()):
            connection.age(interval)
        if self._open:
            self._arm_sweep()
