"""How the two sides of `rtp_jitter.py` talk: one JSON object a line over TCP, on one machine or between two."""

from __future__ import annotations

import contextlib
import json
import socket
from typing import Any

__all__ = ["Channel"]

LONGEST_LINE = 16 << 20
"""A result of 20,000 streams is far below; whatever else connects does not fill the memory."""


class Channel:
    """One connection. Whoever asks waits; whoever measures looks (`poll`)."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        self._received = bytearray()

    @property
    def local_host(self) -> str:
        """The address that the other side reaches this one at."""
        return str(self._sock.getsockname()[0])

    def send(self, message: dict[str, Any]) -> None:
        """Sends all of it."""
        self._sock.settimeout(None)
        self._sock.sendall(json.dumps(message).encode() + b"\n")

    def receive(self) -> dict[str, Any]:
        """Waits for the next message.

        Raises:
            ConnectionError: the other side has gone, or talks something else.
        """
        self._sock.settimeout(None)
        while (message := self._next()) is None:
            self._read()
        return message

    def poll(self) -> dict[str, Any] | None:
        """The next message, if it is there.

        Raises:
            ConnectionError: see `receive`.
        """
        self._sock.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            self._read()
        return self._next()

    def close(self) -> None:
        """Ends the connection."""
        self._sock.close()

    def _read(self) -> None:
        data = self._sock.recv(1 << 16)
        if not data:
            raise ConnectionError("the other side has ended")
        self._received += data
        if len(self._received) > LONGEST_LINE:
            raise ConnectionError("the other side sends no messages of ours")

    def _next(self) -> dict[str, Any] | None:
        line, newline, rest = self._received.partition(b"\n")
        if not newline:
            return None
        self._received = rest
        try:
            message = json.loads(line)
        except ValueError:
            message = None
        if not isinstance(message, dict):
            raise ConnectionError("the other side sends no messages of ours")
        return message
