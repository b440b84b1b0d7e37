"""RTP ports in even/odd pairs (RFC 3550 §11), held by binding both, never probed and let go.

A pair that was given back rests before it is opened again: what is still on its way to the call that had it (audio that
a far end sends until it has our BYE, keys, late copies) must not reach another call.
"""

from __future__ import annotations

import errno
import socket
import time
from collections import deque
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rtp import kernel
from rtp.endpoint import family_of
from rtp.refusals import watch_errors

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

__all__ = ["QUARANTINE", "NoPortAvailable", "PortPair", "PortPool", "kernel_may_take"]

QUARANTINE = 5.0
"""Seconds a pair rests by default: longer than any network keeps a datagram, and than most BYEs take to arrive."""
IN_USE = frozenset((errno.EADDRINUSE, errno.EACCES, errno.EPERM))
CONTROL_BUFFER_BYTES = 4096
"""Enough for RTCP reports between two looks; a peer that sends more is not buffered for."""
KERNEL_SETTINGS = Path("/proc/sys/net/ipv4")


class NoPortAvailable(OSError):
    """No even/odd pair is free in the range, the local address is not ours, or the process has no descriptor left."""


class PortPair:
    """Two bound, non-blocking UDP sockets: RTP on an even port and RTCP on the next."""

    def __init__(self, rtp: socket.socket, rtcp: socket.socket) -> None:
        self.rtp = rtp
        self.rtcp = rtcp
        self.port: int = rtp.getsockname()[1]
        self.on_close: Callable[[], None] | None = None
        """Called once, when the ports were given back; for the pool."""

    def close(self) -> None:
        """Gives both ports back; may be called again."""
        self.rtp.close()
        self.rtcp.close()
        on_close, self.on_close = self.on_close, None
        if on_close is not None:
            on_close()


class _HostPorts:
    """The pairs of one local address, by their even port."""

    def __init__(self, pairs: range, first: int) -> None:
        self.free = deque(pairs[first:])
        """The one that was free for the longest time is opened next."""
        self.free.extend(pairs[:first])
        self.resting: deque[tuple[float, int]] = deque()
        """When each may be opened again, in that order."""

    def wake(self, now: float) -> None:
        """Those that have rested are free."""
        while self.resting and self.resting[0][0] <= now:
            self.free.append(self.resting.popleft()[1])


class PortPool:
    """Opens pairs in a range, beginning at a random place: the one that was free for the longest time comes first."""

    def __init__(
        self,
        low: int,
        high: int,
        rng: random.Random,
        *,
        quarantine: float = QUARANTINE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """The inclusive range low..high.

        Args:
            quarantine: seconds for which a pair that was given back is not opened again.
            clock: tells the time in seconds.

        Raises:
            ValueError: no even/odd pair fits into the range, or a negative quarantine.
        """
        first = low + low % 2
        self._pairs = range(first, high, 2)
        if not (0 < low <= 65535 and high <= 65535) or not self._pairs:
            raise ValueError(f"RTP ports {low}-{high}: no even/odd pair in that range")
        if quarantine < 0:
            raise ValueError(f"a quarantine of {quarantine:g} s")
        self._start = rng.randrange(len(self._pairs))
        self._quarantine = quarantine
        self._clock = clock
        self._hosts: dict[str, _HostPorts] = {}

    def open(self, host: str) -> PortPair:
        """A pair at a local numeric address; ports that other programs have taken are passed over.

        Raises:
            NoPortAvailable: with the reason.
        """
        family = family_of(host)
        ports = self._hosts.get(host) or _HostPorts(self._pairs, self._start)
        ports.wake(self._clock())
        for _ in range(len(ports.free)):
            port = ports.free.popleft()
            try:
                pair = _bind_pair(family, host, port)
            except OSError as error:
                ports.free.append(port)
                if error.errno not in IN_USE:
                    raise NoPortAvailable(error.errno, f"RTP port at {host}: {error.strerror}") from error
            else:
                self._hosts[host] = ports
                pair.on_close = partial(self._rest, ports, port)
                return pair
        resting = f", {len(ports.resting)} of them by calls that ended just now" if ports.resting else ""
        raise NoPortAvailable(
            errno.EADDRINUSE,
            f"all {len(self._pairs)} pairs of RTP ports {self._pairs[0]}-{self._pairs[-1] + 1} are taken{resting}",
        )

    def _rest(self, ports: _HostPorts, port: int) -> None:
        ports.resting.append((self._clock() + self._quarantine, port))


def kernel_may_take(low: int, high: int, settings: Path = KERNEL_SETTINGS) -> tuple[int, int] | None:
    """The kernel's own range of ports (``ip_local_port_range``) where it overlaps low..high and is not reserved there.

    From it the kernel gives ports to whoever asks for any: name lookups, for instance. None where it does not, or where
    the system does not tell.
    """
    try:
        first, last = (int(word) for word in (settings / "ip_local_port_range").read_text().split())
        shared = set(range(max(low, first), min(high, last) + 1))
        reserved = (settings / "ip_local_reserved_ports").read_text().strip()
        for part in reserved.split(",") if reserved else ():
            begin, _, end = part.partition("-")
            shared.difference_update(range(int(begin), int(end or begin) + 1))
    except (OSError, ValueError):
        return None
    return (first, last) if shared else None


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
    watch_errors(rtp)
    return PortPair(rtp, rtcp)


def _bind(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        if family == socket.AF_INET6:
            # One socket for both families where every interface is meant; its IPv4 peers are ::ffff:192.0.2.1.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(host != "::"))
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock
