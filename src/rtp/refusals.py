"""ICMP errors about what was sent: nobody listens at the far end's port, or its host is gone (RFC 1122 §4.1.3.3).

The sockets are not connected, so the system tells only on the error queue (``IP_RECVERR``, Linux); elsewhere nothing is
known of refusals, and a dead far end is noticed by its silence. One error means little: a far end may open its port a
moment after its answer, or close it for a moment in a re-INVITE, and anybody can forge one. So a row keeps for how long
errors have come with nothing of the far end in between, and whoever ends calls asks for that.
"""

from __future__ import annotations

import socket
import struct
import sys
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from rtp.bank import Column, Columns

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["LONGEST_GAP", "Refusals", "take_errors", "watch_errors"]

LONGEST_GAP = 5.0
"""Seconds between two errors of one series: hosts send no more than one a second or so (RFC 1812 §4.3.2.8)."""

MOST_AT_ONCE = 64
"""Errors taken off one socket at a time; the queue is bounded by the socket's buffer."""

# <linux/in.h>, <linux/in6.h>, <linux/errqueue.h>: Python's socket module names none of them in 3.11.
IP_RECVERR = 11
IPV6_RECVERR = 25
EXTENDED_ERROR = struct.Struct("=IBBBB")
"""``struct sock_extended_err``: errno, origin, type, code, padding (two words of info follow)."""
UNREACHABLE = frozenset({(2, 3, 0), (2, 3, 1), (2, 3, 2), (2, 3, 3), (3, 1, 0), (3, 1, 3), (3, 1, 4)})
"""Origin (ICMP, ICMPv6), type and code: no route to network or host, no such protocol or port. What a firewall forbids,
and packets too large, are other codes."""


class Refusals(Columns):
    """Since when, and until when, a row's packets were refused; seconds on the monotonic clock, 0 for never."""

    first: NDArray[np.float64]
    last: NDArray[np.float64]

    LAYOUT: ClassVar[Mapping[str, Column]] = {"first": Column(np.float64), "last": Column(np.float64)}

    def forget(self, row: int) -> None:
        """Other packets go elsewhere from now on."""
        self.first[row] = self.last[row] = 0

    def note(self, row: int, life: float, now: float) -> None:
        """Packets of the row were refused; the far end's last sign of life was at ``life``."""
        last = float(self.last[row])
        if last <= life or now - last > LONGEST_GAP:
            self.first[row] = now
        self.last[row] = now

    def lasted(self, row: int, life: float, now: float) -> float:
        """Seconds from the first to the last refusal with no sign of life since; 0 when the last one is long ago."""
        first, last = float(self.first[row]), float(self.last[row])
        return last - first if first > life and now - last <= LONGEST_GAP else 0.0


def watch_errors(sock: socket.socket) -> None:
    """From now on the system keeps ICMP errors for :func:`take_errors`, where it can."""
    if sys.platform == "linux":
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)


def take_errors(sock: socket.socket) -> bool:
    """Empties the error queue, and forgets the error that the next call would have reported. True: refused."""
    refused = False
    if sys.platform != "linux":
        return refused
    for _ in range(MOST_AT_ONCE):
        try:
            _, ancillary, _, _ = sock.recvmsg(0, 512, socket.MSG_ERRQUEUE)
        except OSError:
            break
        for level, kind, content in ancillary:
            if (level, kind) in ((socket.IPPROTO_IP, IP_RECVERR), (socket.IPPROTO_IPV6, IPV6_RECVERR)):
                refused |= EXTENDED_ERROR.unpack_from(content)[1:4] in UNREACHABLE
    return refused
