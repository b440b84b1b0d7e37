"""Puts packets on the wire: one ``sendto`` a row, its arguments prepared beforehand."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Protocol

from rtp import kernel

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from rtp.endpoint import Endpoint
    from rtp.packetizer import Sending

__all__ = ["KernelTransmitter", "PortableTransmitter", "Transmitter", "make_transmitter"]


class Transmitter(Protocol):
    """Sends the packets that lie in the rows of `Sending`."""

    def prepare(self, sending: Sending, routes: Sequence[tuple[int, socket.socket, Endpoint]]) -> None:
        """From now on `send_all` sends these rows, in this order, through these sockets to these addresses."""

    def send_all(self, length: int) -> list[int]:
        """Sends ``length`` bytes of each row. Returns which of the prepared ones failed, by position."""


def make_transmitter() -> Transmitter:
    """The best transmitter of this system."""
    return KernelTransmitter() if kernel.AVAILABLE else PortableTransmitter()


class KernelTransmitter:
    """``sendto`` with addresses of memory."""

    def __init__(self) -> None:
        self._calls: list[tuple[int, int, ctypes.Array[ctypes.c_char], int]] = []

    def prepare(self, sending: Sending, routes: Sequence[tuple[int, socket.socket, Endpoint]]) -> None:
        """Looks every address up once."""
        start, stride = sending.packet.ctypes.data, sending.packet.strides[0]
        self._calls = []
        for row, sock, endpoint in routes:
            raw = ctypes.create_string_buffer(endpoint.raw, len(endpoint.raw))
            self._calls.append((sock.fileno(), start + row * stride, raw, len(endpoint.raw)))

    def send_all(self, length: int) -> list[int]:
        """One system call a row."""
        send, flags = kernel.send_to, kernel.DONT_WAIT
        results = [
            send(descriptor, packet, length, flags, address, address_length)
            for descriptor, packet, address, address_length in self._calls
        ]
        if min(results, default=length) == length:
            return []
        return [index for index, sent in enumerate(results) if sent != length and self._fails_again(index, length)]

    def _fails_again(self, index: int, length: int) -> bool:
        # A refusal of an earlier packet (ICMP) is reported by the next call, which sends nothing then.
        descriptor, packet, address, address_length = self._calls[index]
        sent: int = kernel.send_to(descriptor, packet, length, kernel.DONT_WAIT, address, address_length)
        return sent != length


class PortableTransmitter:
    """`socket.socket.sendto` on memory views."""

    def __init__(self) -> None:
        self._calls: list[tuple[socket.socket, memoryview, tuple[str, int] | tuple[str, int, int, int]]] = []

    def prepare(self, sending: Sending, routes: Sequence[tuple[int, socket.socket, Endpoint]]) -> None:
        """Makes a view of every row once."""
        self._calls = [(sock, memoryview(sending.packet[row]), endpoint.address) for row, sock, endpoint in routes]

    def send_all(self, length: int) -> list[int]:
        """One system call a row."""
        failed = []
        for index, (sock, packet, address) in enumerate(self._calls):
            if not (_sent(sock, packet[:length], address) or _sent(sock, packet[:length], address)):
                failed.append(index)
        return failed


def _sent(sock: socket.socket, packet: memoryview, address: tuple[str, int] | tuple[str, int, int, int]) -> bool:
    try:
        sock.sendto(packet, address)
    except OSError:
        return False
    return True
