"""A peer that takes every datagram and never answers, and a port that refuses."""

from __future__ import annotations

import socket
from types import TracebackType

from tests.interop.kit.ports import HOST, free_ports

__all__ = ["SilentPeer", "refusing_port"]


class SilentPeer:
    """A bound UDP socket that nobody serves; use it as a context manager.

    Args:
        host: another address of this machine, such as 127.0.0.9.
    """

    def __init__(self, host: str = HOST) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((host, free_ports()))
        self._socket.setblocking(False)

    @property
    def address(self) -> str:
        """``host:port``."""
        host, port = self._socket.getsockname()
        return f"{host}:{port}"

    def send(self, data: bytes, address: str) -> None:
        """Sends one datagram to ``host:port``."""
        host, _, port = address.rpartition(":")
        self._socket.sendto(data, (host, int(port)))

    def received(self) -> list[bytes]:
        """The datagrams that came since the last look, oldest first."""
        datagrams: list[bytes] = []
        while True:
            try:
                datagrams.append(self._socket.recv(65535))
            except BlockingIOError:
                return datagrams

    def __enter__(self) -> SilentPeer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()


def refusing_port() -> int:
    """A port that nothing is bound to: UDP there is answered with ICMP, TCP with a reset."""
    return free_ports()
