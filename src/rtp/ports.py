"""RTP ports in even/odd pairs (RFC 3550 §11), held by binding both, never probed and let go."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

from rtp import kernel
from rtp.endpoint import family_of

if TYPE_CHECKING:
    import random

__all__ = ["NoPortAvailable", "PortPair", "PortPool"]

IN_USE = frozenset((errno.EADDRINUSE, errno.EACCES, errno.EPERM))
CONTROL_BUFFER_BYTES = 4096
"""Enough for RTCP reports between two looks; a peer that sends more is not buffered for."""


class NoPortAvailable(OSError):
    """No even/odd pair is free in the range, the local address is not ours, or the process has no descriptor left."""


class PortPair:
    """Two bound, non-blocking UDP sockets: RTP on an even port and RTCP on the next."""

    def __init__(self, rtp: socket.socket, rtcp: socket.socket) -> None:
        self.rtp = rtp
        self.rtcp = rtcp
        self.port: int = rtp.getsockname()[1]

    def close(self) -> None:
        """Gives both ports back; may be called again."""
        self.rtp.close()
        self.rtcp.close()


class PortPool:
    """Opens pairs in a range, from a random place onwards, so that a port just closed is the last to be used again."""

    def __init__(self, low: int, high: int, rng: random.Random) -> None:
        """The inclusive range low..high.

        Raises:
            ValueError: no even/odd pair fits into the range.
        """
        first = low + low % 2
        self._pairs = range(first, high, 2)
        if not (0 < low <= 65535 and high <= 65535) or not self._pairs:
            raise ValueError(f"RTP ports {low}-{high}: no even/odd pair in that range")
        self._next = rng.randrange(len(self._pairs))

    def open(self, host: str) -> PortPair:
        """The next free pair at a local numeric address; ports taken by others are passed over.

        Raises:
            NoPortAvailable: with the reason.
        """
        family = family_of(host)
        for _ in range(len(self._pairs)):
            port = self._pairs[self._next]
            self._next = (self._next + 1) % len(self._pairs)
            try:
                return _bind_pair(family, host, port)
            except OSError as error:
                if error.errno not in IN_USE:
                    raise NoPortAvailable(error.errno, f"RTP port at {host}: {error.strerror}") from error
        raise NoPortAvailable(
            errno.EADDRINUSE,
            f"all {len(self._pairs)} pairs of RTP ports {self._pairs[0]}-{self._pairs[-1] + 1} are taken",
        )


def _bind_pair(family: socket.AddressFamily, host: str, port: int) -> PortPair:
    rtp = _bind(family, host, port)
    try:
        rtcp = _bind(family, host, port + 1)
    except OSError:
        rtp.close()
        raise
    rtcp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, CONTROL_BUFFER_BYTES)
    if kernel.AVAILABLE:
        rtp.setsockopt(socket.SOL_SOCKET, kernel.SO_TIMESTAMPNS, 1)
    return PortPair(rtp, rtcp)


def _bind(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock
