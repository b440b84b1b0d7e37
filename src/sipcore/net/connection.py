"""One TCP or TLS connection: messages framed by Content-Length (RFC 3261 §18.3), keep-alives (RFC 5626 §4.4.1)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from typing import TYPE_CHECKING, cast

from sipcore.net.addresses import join, sentence, socket_address
from sipcore.net.tls import handshake_failure
from sipcore.protocol.framing import FramingError, KeepAlive, StreamFramer

if TYPE_CHECKING:
    from sipcore.net.stream import StreamEndpoint, StreamLimits
    from sipcore.net.tls import Certificate
    from sipcore.protocol.flows import Flow

__all__ = ["StreamConnection"]

log = logging.getLogger(__name__)

PONG_TIMEOUT = 10.0
"""Seconds (RFC 5626 §4.4.1)."""
CLOSED = "closed by the peer"
TLS_RECORD = b"\x16\x03"
"""How a TLS handshake begins (RFC 8446 §5.1)."""


class StreamConnection(asyncio.Protocol):
    """One connection."""

    def __init__(self, endpoint: StreamEndpoint, *, inbound: bool, host: str = "") -> None:
        self._endpoint = endpoint
        self.inbound = inbound
        self.host = host
        """Whom an outgoing connection was opened for."""
        self.certificate: Certificate = {}
        """Of the peer; verified."""
        self.why = ""
        """Why it is closed."""
        self._heard = False
        """Whether anything came."""
        self._answers_pings = False
        self._pinged = False
        self._awaits_pong: asyncio.TimerHandle | None = None
        self.flow: Flow | None = None
        """While it is open."""
        self._transport: asyncio.Transport | None = None
        self._framer = StreamFramer()
        self.unfinished = 0
        """Bytes of a message that has begun."""
        self._quiet = 0.0
        self._owes = inbound
        """A message is owed: the first of an accepted connection, or the rest of one that has begun."""
        self._owed = 0.0
        """Seconds since then."""

    # -- asyncio.Protocol ------------------------------------------------------------------------------------

    def connection_made(self, base: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, base)  # uvloop's are of a class of their own
        local, remote = transport.get_extra_info("sockname"), transport.get_extra_info("peername")
        if not local or not remote:  # the peer is gone already
            transport.abort()
            return
        secured = transport.get_extra_info("ssl_object")
        if secured is not None:
            self.certificate = secured.getpeercert() or {}
        flow = self._endpoint.admit(self, socket_address(local), socket_address(remote))
        if flow is None:
            if self.inbound:
                log.warning("refused a connection from %s: too many are open", join(socket_address(remote)))
            transport.abort()
            return
        self._transport = transport
        self.flow = flow
        _keep_alive(transport.get_extra_info("socket"), self._endpoint.limits)

    def data_received(self, data: bytes) -> None:
        if self.why:  # about to be closed
            return
        if not self._heard and data.startswith(TLS_RECORD):
            self.abort("TLS on a port for plain TCP")
            return
        self._heard = True
        self._stop_waiting()
        try:
            items = self._framer.feed(data)
        except FramingError as error:
            self._give_up(error)
            return
        self._owes = self._framer.pending > 0
        if self.flow is not None and self._framer.pending != self.unfinished:
            more = self._framer.pending - self.unfinished
            self.unfinished = self._framer.pending
            self._endpoint.holds(more)
        if items or not self._owes:
            self._quiet = self._owed = 0.0
        self._deliver(items)

    def _give_up(self, error: FramingError) -> None:
        """The rest of the stream means nothing. What came before it counts; the header that broke it is refused where
        it can be (RFC 4475 §3.1.2.3, §3.3.9). What that leads to is sent in the loop's next round, before the end."""
        last = [*error.complete, error.head] if error.head else error.complete
        self._deliver(last)
        self.why = self.why or f"not SIP: {error}"
        if last:
            self._owes = True  # so that it ends by force where the peer does not read
            asyncio.get_running_loop().call_soon(self.finish, self.why)
        else:
            self.abort(self.why)

    def _deliver(self, items: list[bytes | KeepAlive]) -> None:
        for item in items:
            flow = self.flow
            if flow is None:  # closed by what an earlier message led to
                return
            match item:
                case KeepAlive.PING:
                    self.write(KeepAlive.PONG.value)
                case KeepAlive.PONG:
                    self._answers_pings = self._pinged
                case _:
                    self._endpoint.on_message(item, flow)

    def eof_received(self) -> bool:
        self.why = self.why or CLOSED
        return False

    def connection_lost(self, error: Exception | None) -> None:
        if isinstance(error, OSError):
            self.why = self.why or (handshake_failure(error) if isinstance(error, ssl.SSLError) else sentence(error))
        elif self.why in ("", CLOSED) and not self._heard and self.certificate:
            # TLS 1.3: the server judges our certificate after we think the handshake done, and may say nothing.
            self.why = f"{CLOSED} right after the TLS handshake; it may want another client certificate"
        self._discard(self.why or CLOSED)
        self._transport = None

    # -- told by the endpoint --------------------------------------------------------------------------------

    def write(self, data: bytes) -> bool:
        """Buffers bytes for the peer; False where the connection is closing."""
        transport = self._transport
        if self.flow is None or transport is None or transport.is_closing():
            return False
        transport.write(data)
        self._quiet = 0.0
        unsent = transport.get_write_buffer_size()
        if unsent > self._endpoint.limits.write_buffer:
            self.abort("the peer does not read")
            return False
        if unsent:
            self._endpoint.lags(self)
        return True

    def ping(self, *, must_answer: bool) -> None:
        """Sends a ping; where its answer is due, the connection is closed unless anything comes within ten seconds."""
        quiet = self._quiet
        if not self.write(KeepAlive.PING.value):
            return
        self._quiet = quiet  # whether anybody needs the connection is for messages to say
        self._pinged = True
        if (must_answer or self._answers_pings) and self._awaits_pong is None:
            loop = asyncio.get_running_loop()
            self._awaits_pong = loop.call_later(PONG_TIMEOUT, self.abort, "no answer to a keep-alive")

    def _stop_waiting(self) -> None:
        if self._awaits_pong is not None:
            self._awaits_pong.cancel()
            self._awaits_pong = None

    @property
    def unsent(self) -> int:
        """Bytes that wait for the peer."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def age(self, seconds: float) -> None:
        """Time went by: closes a connection that has been silent, or owed a message, for too long."""
        self._quiet += seconds
        self._owed = self._owed + seconds if self._owes else 0.0
        limits = self._endpoint.limits
        if self._owed >= limits.message_timeout:
            self.abort("no whole message came in time")
        elif self._quiet >= limits.idle_timeout:
            self.finish("idle")

    def finish(self, why: str) -> None:
        """Closes it once everything buffered is sent."""
        self.why = self.why or why
        if self._transport is not None:
            self._transport.close()

    def abort(self, why: str) -> None:
        """Closes it at once; the loss is reported in the loop's next round, not from inside this call."""
        self.why = self.why or why
        if self._transport is not None:
            self._transport.abort()

    def _discard(self, why: str) -> None:
        self._stop_waiting()
        if self.flow is not None:
            flow, self.flow = self.flow, None
            self._endpoint.discard(self, flow, why)


def _keep_alive(raw: socket.socket, limits: StreamLimits) -> None:
    """Lets the system notice a peer that vanished without a word, idle or not."""
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", 60),
        ("TCP_KEEPINTVL", 10),
        ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", int(limits.user_timeout * 1000)),
    ):
        option = getattr(socket, name, None)  # not every system has all of them
        if option is not None:
            with contextlib.suppress(OSError):
                raw.setsockopt(socket.IPPROTO_TCP, option, value)
