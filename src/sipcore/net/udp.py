"""One UDP socket for all remotes: bursts in, ICMP errors told apart by remote (RFC 3261 §18.4)."""

from __future__ import annotations

import asyncio
import logging
import select
import socket
import struct
import sys
from typing import TYPE_CHECKING

from sipcore.net.addresses import family_of, join, sentence, socket_address

if TYPE_CHECKING:
    from collections.abc import Callable

    from sipcore.net.addresses import Address

__all__ = ["UdpSocket"]

log = logging.getLogger(__name__)

RECEIVE_BUFFER = 4 * 1024 * 1024
"""Bytes asked of the kernel, which gives what it allows: a thousand phones may call in the same second."""
BURST = 64
"""Datagrams taken per wake-up; the loop's other tasks run before the next."""
MAX_DATAGRAM = 65_535

# <linux/in.h>, <linux/in6.h>, <linux/errqueue.h>: Python's socket module names none of them in 3.11.
IP_RECVERR = 11
IPV6_RECVERR = 25
EXTENDED_ERROR = struct.Struct("=IBBBB")
"""``struct sock_extended_err``: errno, origin, type, code, padding (two words of info follow)."""
ORIGIN_ICMP = 2
ORIGIN_ICMP6 = 3
ICMP_UNREACHABLE = frozenset({(3, 0), (3, 1), (3, 2), (3, 3)})
"""Network, host, protocol and port unreachable. The other codes of type 3 (fragmentation needed…) heal by
themselves."""
ICMP_PARAMETER_PROBLEM = 12
ICMP6_UNREACHABLE = 1
ICMP6_PARAMETER_PROBLEM = 4


class UdpSocket:
    """A bound UDP socket on the running loop.

    Linux tells of ICMP errors per remote on the socket's error queue (``IP_RECVERR``). A socket with an error
    pending makes libuv drop the handle that polls it, so the loop polls an ``epoll`` of its own that holds
    the socket; that looks readable in both cases and works on every loop. Elsewhere nothing is known of ICMP,
    and transactions time out instead.
    """

    def __init__(
        self,
        address: Address,
        *,
        on_datagram: Callable[[bytes, Address], None],
        on_unreachable: Callable[[Address, str], None],
    ) -> None:
        """Binds at once.

        Args:
            address: IP literal and port; port 0 takes a free one.
            on_datagram: called with each datagram and where it came from.
            on_unreachable: called with a remote that ICMP or the kernel says cannot be reached, and why.

        Raises:
            OSError: the address is taken, or is not this machine's.
        """
        self._on_datagram = on_datagram
        self._on_unreachable = on_unreachable
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray(MAX_DATAGRAM)
        self._closed = False
        self.dropped = 0
        """Datagrams not sent because the kernel's buffer was full."""
        self._socket = socket.socket(family_of(address[0]), socket.SOCK_DGRAM)
        try:
            self._configure()
            self._socket.bind(address)
        except OSError:
            self._socket.close()
            raise
        self.address: Address = socket_address(self._socket.getsockname())
        """As bound."""
        self._poll: select.epoll | None = None
        self._watched = self._socket.fileno()
        if sys.platform == "linux":
            self._poll = select.epoll()
            self._poll.register(self._socket, select.EPOLLIN)
            self._watched = self._poll.fileno()
        self._loop.add_reader(self._watched, self._on_readable)

    def _configure(self) -> None:
        ipv6 = self._socket.family == socket.AF_INET6
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        if ipv6:
            # IPv4 has a socket of its own, so that no ::ffff:… address gets into a message.
            self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if sys.platform == "linux":
            if ipv6:
                self._socket.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
            else:
                self._socket.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)

    def send(self, data: bytes, remote: Address) -> None:
        """Sends one datagram; never raises. A full kernel buffer loses it, as networks do; SIP retransmits."""
        for _ in range(3):
            try:
                self._socket.sendto(data, remote)
            except BlockingIOError:
                self.dropped += 1
                log.warning("send buffer full: %d datagrams dropped so far", self.dropped)
                return
            except OSError as error:
                if self._closed:
                    return
                # An ICMP error from an earlier datagram to somebody else is reported on the next call,
                # whatever it is.
                if self._read_errors() == 0:
                    self._on_unreachable(remote, sentence(error))
                    return
            else:
                return

    @property
    def is_open(self) -> bool:
        """Whether it sends and receives."""
        return not self._closed

    def close(self) -> None:
        """Frees the port. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._watched)
        if self._poll is not None:
            self._poll.close()
        self._socket.close()

    def _on_readable(self) -> None:
        for done in range(BURST):
            if self._closed:  # by what a datagram led to
                return
            try:
                length, raw = self._socket.recvfrom_into(self._buffer)
            except BlockingIOError:
                if done == 0:  # woken for the error queue alone; unread, it would wake the loop again at once
                    self._read_errors()
                return
            except OSError:
                if self._read_errors() == 0:
                    log.debug("receiving failed", exc_info=True)
                    return
                continue
            self._on_datagram(bytes(memoryview(self._buffer)[:length]), socket_address(raw))

    def _read_errors(self) -> int:
        """Empties the error queue; returns how many errors were on it."""
        if self._poll is None:
            return 0
        count = 0
        while not self._closed:
            try:
                _, ancillary, _, raw = self._socket.recvmsg(0, 512, socket.MSG_ERRQUEUE)
            except OSError:
                break
            count += 1
            for level, kind, content in ancillary:
                if (level, kind) in ((socket.IPPROTO_IP, IP_RECVERR), (socket.IPPROTO_IPV6, IPV6_RECVERR)):
                    self._on_extended_error(content, socket_address(raw))
        return count

    def _on_extended_error(self, content: bytes, remote: Address) -> None:
        number, origin, kind, code, _ = EXTENDED_ERROR.unpack_from(content)
        if origin == ORIGIN_ICMP:
            final = (kind, code) in ICMP_UNREACHABLE or kind == ICMP_PARAMETER_PROBLEM
        elif origin == ORIGIN_ICMP6:
            final = kind in (ICMP6_UNREACHABLE, ICMP6_PARAMETER_PROBLEM)
        else:
            final = False  # this machine's own, such as a smaller path MTU: the next copy is fragmented
        if final:
            self._on_unreachable(remote, sentence(OSError(number, "")))
        else:
            log.debug("ignored ICMP type %d code %d about %s", kind, code, join(remote))
