"""Puts packets on the wire: one ``sendto`` a row, prepared beforehand, and many of them in one system call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from rtp import kernel
from rtp.endpoint import SOURCE_WORDS
from rtp.uring import SEND, Batch, operations

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from rtp.endpoint import Endpoint

__all__ = ["KernelTransmitter", "PortableTransmitter", "Transmitter", "make_transmitter"]


class Transmitter(Protocol):
    """Sends the packets that lie in the rows of an array."""

    def prepare(self, packets: NDArray[np.uint8], routes: Sequence[tuple[int, socket.socket, Endpoint]]) -> None:
        """From now on these rows are sent, in this order, through these sockets to these addresses."""

    def send_all(self, length: int) -> list[int]:
        """Sends ``length`` bytes of each row. Returns which of the prepared ones failed, by position."""

    def send_some(self, places: NDArray[np.int64], lengths: NDArray[np.int64]) -> list[int]:
        """Sends some rows, by their positions among the prepared ones, of each so many bytes. Returns which failed, by
        their positions in ``places``."""

    def close(self) -> None:
        """Nothing is sent after this."""


def make_transmitter() -> Transmitter:
    """The best transmitter of this system."""
    return KernelTransmitter() if kernel.AVAILABLE else PortableTransmitter()


class KernelTransmitter:
    """``sendto`` with addresses of memory."""

    def __init__(self, *, fewest_in_batch: int = 8) -> None:
        """``fewest_in_batch``: fewer packets are sent by one call each."""
        self._batch = Batch()
        self._fewest = fewest_in_batch
        self._sends = operations(0, SEND)
        self._packets = np.zeros((0, 1), np.uint8)
        self._peers = np.zeros((0, SOURCE_WORDS * 8), np.uint8)
        self._of_rows = operations(0, SEND)
        self._known: dict[int, tuple[int, socket.socket, Endpoint]] = {}
        self._calls: list[tuple[Any, ...]] | None = None
        self._pieces: dict[int, tuple[Any, ...]] = {}
        self._length = 0

    def prepare(self, packets: NDArray[np.uint8], routes: Sequence[tuple[int, socket.socket, Endpoint]]) -> None:
        """Looks every address up once, when it is new."""
        if packets is not self._packets:
            self._begin(packets)
        for route in routes:
            if self._known.get(route[0]) != route:
                self._learn(*route)
        self._sends = self._of_rows[[row for row, _, _ in routes]]
        self._sends["index"] = np.arange(len(routes))
        self._calls, self._length = None, 0
        self._pieces.clear()

    def _begin(self, packets: NDArray[np.uint8]) -> None:
        # The bank has grown: everything lies elsewhere.
        self._known.clear()
        self._packets = packets
        self._peers = np.zeros((len(packets), SOURCE_WORDS * 8), np.uint8)
        self._of_rows = operations(len(packets), SEND)
        self._of_rows["address"] = kernel.addresses(packets)
        self._of_rows["peer"] = kernel.addresses(self._peers)

    def _learn(self, row: int, sock: socket.socket, endpoint: Endpoint) -> None:
        self._known[row] = (row, sock, endpoint)
        self._of_rows["descriptor"][row] = sock.fileno()
        self._of_rows["peer_length"][row] = len(endpoint.raw)
        self._peers[row, : len(endpoint.raw)] = np.frombuffer(endpoint.raw, np.uint8)

    def send_all(self, length: int) -> list[int]:
        """One system call for all of them, or one for each."""
        if length != self._length:
            self._sends["length"] = self._length = length
            self._calls = None
        results = self._batch.run(self._sends) if len(self._sends) >= self._fewest else None
        if results is None:
            if self._calls is None:
                self._calls = [self._call(index, length) for index in range(len(self._sends))]
            results = np.array([kernel.send_to(*call) for call in self._calls], np.int64)
        # A refusal of an earlier packet (ICMP) is reported by the next call, which sends nothing then.
        failed: list[int] = np.flatnonzero(results != length).tolist()
        return [index for index in failed if kernel.send_to(*self._call(index, length)) != length]

    def send_some(self, places: NDArray[np.int64], lengths: NDArray[np.int64]) -> list[int]:
        """The same for some of them."""
        results = None
        if len(places) >= self._fewest:
            some = self._sends[places]
            some["index"] = np.arange(len(places))
            some["length"] = lengths
            results = self._batch.run(some)
        calls = list(zip(places.tolist(), lengths.tolist(), strict=True))
        if results is None:
            results = np.array([kernel.send_to(*self._call(*call)) for call in calls], np.int64)
        failed: list[int] = np.flatnonzero(results != lengths).tolist()
        return [index for index in failed if kernel.send_to(*self._call(*calls[index])) != lengths[index]]

    def _call(self, index: int, length: int) -> tuple[Any, ...]:
        pieces = self._pieces.get(index)
        if pieces is None:
            one = self._sends[index]
            packet, peer = kernel.reference(int(one["address"])), kernel.reference(int(one["peer"]))
            pieces = self._pieces[index] = int(one["descriptor"]), packet, peer, int(one["peer_length"])
        descriptor, packet, peer, peer_length = pieces
        return descriptor, packet, length, kernel.DONT_WAIT, peer, peer_length

    def close(self) -> None:
        """Gives the batch back."""
        self._batch.close()


class PortableTransmitter:
    """`socket.socket.sendto` on memory views."""

    def __init__(self) -> None:
        self._calls: list[tuple[socket.socket, memoryview, tuple[str, int] | tuple[str, int, int, int]]] = []

    def prepare(self, packets: NDArray[np.uint8], routes: Sequence[tuple[int, socket.socket, Endpoint]]) -> None:
        """Makes a view of every row once."""
        self._calls = [(sock, memoryview(packets[row]), endpoint.address) for row, sock, endpoint in routes]

    def send_all(self, length: int) -> list[int]:
        """One system call a row."""
        return [index for index in range(len(self._calls)) if not self._send(index, length)]

    def send_some(self, places: NDArray[np.int64], lengths: NDArray[np.int64]) -> list[int]:
        """The same for some of them."""
        calls = zip(places.tolist(), lengths.tolist(), strict=True)
        return [index for index, (place, length) in enumerate(calls) if not self._send(place, length)]

    def _send(self, place: int, length: int) -> bool:
        sock, packet, address = self._calls[place]
        return _sent(sock, packet[:length], address) or _sent(sock, packet[:length], address)

    def close(self) -> None:
        """Nothing to give back."""


def _sent(sock: socket.socket, packet: memoryview, address: tuple[str, int] | tuple[str, int, int, int]) -> bool:
    try:
        sock.sendto(packet, address)
    except OSError:
        return False
    return True
