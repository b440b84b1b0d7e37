"""The ports of one user agent, all opened or none: UDP and TCP on one number, TLS on its own."""

from __future__ import annotations

import asyncio
import errno
import socket
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sipcore.net.addresses import family_of, ip_literal, join, sentence
from sipcore.net.stream import BACKLOG
from sipcore.net.udp import UdpSocket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sipcore.config import UserAgentConfig
    from sipcore.net.addresses import Address

__all__ = ["Bound", "bind", "hosts_to_bind"]

PORT_ATTEMPTS = 50
"""Free UDP ports tried until one is free for TCP (and the next one for TLS) too."""


@dataclass(slots=True)
class Bound:
    """What was opened. Whoever gets it closes it."""

    port: int
    """Of UDP and TCP."""
    tls_port: int = 0
    """0: nothing listens for TLS."""
    udp: dict[socket.AddressFamily, UdpSocket] = field(default_factory=dict)
    tcp: list[socket.socket] = field(default_factory=list)
    tls: list[socket.socket] = field(default_factory=list)


async def hosts_to_bind(host: str) -> tuple[str, ...]:
    """IP literals for ``sip_host``; ``::`` covers IPv4 too.

    Raises:
        OSError: a name that has no address.
    """
    literal = ip_literal(host)
    if literal is None:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_DGRAM)
        literal = str(found[0][4][0])
    return ("::", "0.0.0.0") if literal == "::" else (literal,)  # noqa: S104 - as the configuration says


def bind(
    config: UserAgentConfig,
    hosts: tuple[str, ...],
    *,
    on_datagram: Callable[[bytes, Address], None],
    on_unreachable: Callable[[Address, str], None],
) -> Bound:
    """Opens everything.

    Raises:
        OSError: a port is taken, or a host is not this machine's.
    """
    for attempt in range(PORT_ATTEMPTS):
        with ExitStack() as undo:
            try:
                bound = _bind_once(config, hosts, undo, on_datagram, on_unreachable)
            except OSError as error:
                if error.errno == errno.EADDRINUSE and not config.sip_port and attempt + 1 < PORT_ATTEMPTS:
                    continue
                raise
            undo.pop_all()
            return bound
    raise AssertionError("the last attempt returns or raises")


def _bind_once(
    config: UserAgentConfig,
    hosts: tuple[str, ...],
    undo: ExitStack,
    on_datagram: Callable[[bytes, Address], None],
    on_unreachable: Callable[[Address, str], None],
) -> Bound:
    bound = Bound(config.sip_port)
    for host in hosts:
        with _named(hosts[0], bound.port):
            udp = UdpSocket((host, bound.port), on_datagram=on_datagram, on_unreachable=on_unreachable)
            undo.callback(udp.close)
            bound.udp[family_of(host)] = udp
            bound.port = udp.address[1]
            bound.tcp.append(_listener((host, bound.port), undo))
    if config.tls.certificate:
        # Port 0 asked for as such stays any free port; else the one after SIP's (RFC 3261 §19.1.2: 5061 after 5060).
        bound.tls_port = bound.port + 1 if config.tls.port is None else config.tls.port
        for host in hosts:
            with _named(hosts[0], bound.tls_port):
                listener = _listener((host, bound.tls_port), undo)
                bound.tls.append(listener)
                bound.tls_port = int(listener.getsockname()[1])
    return bound


@contextmanager
def _named(host: str, port: int) -> Iterator[None]:
    """Puts the address into the message of an error; the error's number stays."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, f"Cannot listen on {join((host, port))}: {sentence(error)}") from error


def _listener(address: Address, undo: ExitStack) -> socket.socket:
    bound = socket.socket(family_of(address[0]), socket.SOCK_STREAM)
    undo.callback(bound.close)
    bound.setblocking(False)
    # A restarted server may bind while the system still holds its old connections in TIME_WAIT.
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if bound.family == socket.AF_INET6:
        bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    bound.bind(address)
    bound.listen(BACKLOG)
    return bound
