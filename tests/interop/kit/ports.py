"""Ports that are free for UDP and for TCP on the loopback address, and a look at what a program has bound."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Literal

__all__ = ["HOST", "free_ports", "is_bound"]

HOST = "127.0.0.1"

# Below the kernel's ephemeral range and below the RTP ports of every program here, so that nobody takes one
# of these between the look and the use.
_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_SHARE = 6000 // _WORKERS
_RANGE = range(10000 + _WORKER * _SHARE, 10000 + (_WORKER + 1) * _SHARE)
"""Each process of tests that run side by side has ports of its own."""
_next = _RANGE.start
"""Where the next look begins: ports come round again when all others have been given out."""


def _is_free(port: int) -> bool:
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            if kind == socket.SOCK_STREAM:
                # A connection of an earlier test in TIME_WAIT does not keep a server from listening.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                return False
    return True


def free_ports(count: int = 1) -> int:
    """The first of ``count`` consecutive ports; of all that are free, those given out the longest time ago.

    Raises:
        RuntimeError: no such block was found.
    """
    global _next
    for _ in _RANGE:
        first = _next if _next + count <= _RANGE.stop else _RANGE.start
        taken = next((port for port in reversed(range(first, first + count)) if not _is_free(port)), None)
        if taken is None:
            _next = first + count
            return first
        _next = taken + 1
    raise RuntimeError(f"no {count} free ports in {_RANGE}")


def is_bound(port: int, transport: Literal["udp", "tcp"]) -> bool:
    """Whether some program has bound ``port`` (UDP) or listens on it (TCP), as the kernel's tables say.

    Looking there, instead of sending a probe, leaves a scripted peer's scenario undisturbed.
    """
    listening = "07" if transport == "udp" else "0A"
    tables = [path for path in (Path(f"/proc/net/{transport}"), Path(f"/proc/net/{transport}6")) if path.exists()]
    for line in (line for table in tables for line in table.read_text().splitlines()[1:]):
        fields = line.split()
        if int(fields[1].rpartition(":")[2], 16) == port and fields[3] == listening:
            return True
    return False
