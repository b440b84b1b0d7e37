"""Reads sockets in rounds, at most one datagram of each, into preallocated rows.

`KernelReader` (Linux) has the kernel write data, length, source address and receive time straight into arrays, of a
whole round in one system call where it may; `PortableReader` does the same with the `socket` module, stamping a whole
round with the time it was read.

Which sockets have a datagram the poller knows. But a stream that had one at each of the latest ticks has one now, and
is read without asking; the poller then tells of the others, of second datagrams and of errors.
"""

from __future__ import annotations

import errno
import select
import selectors
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from rtp import kernel
from rtp.endpoint import SOURCE_WORDS, endpoint_of
from rtp.refusals import take_errors
from rtp.uring import RECEIVE_MESSAGE, Batch, operations

if TYPE_CHECKING:
    import socket

    from numpy.typing import NDArray

__all__ = ["SLOT_BYTES", "Datagrams", "KernelReader", "PortableReader", "Reader", "make_reader"]

SLOT_BYTES = 1600
"""Room for what crosses an Ethernet; an odd number of cache lines, so that columns do not collide in the cache."""

CONTROL_BYTES = 64
MSG_TRUNC = 0x20
SOL_SOCKET = 1
STAMP = int(np.array([SOL_SOCKET, kernel.SO_TIMESTAMPNS], np.int32).view(np.int64)[0])
"""Level and type of the control message that tells a receive time, as one word."""

STEADY = 0b11
"""Ticks, as bits, at which a socket had a datagram that is expected to have one at the next."""

MESSAGE_HEADER = np.dtype(
    [
        ("name", np.uint64),
        ("name_length", np.uint32),
        ("pad1", np.uint32),
        ("vector", np.uint64),
        ("vector_length", np.uint64),
        ("control", np.uint64),
        ("control_length", np.uint64),
        ("flags", np.int32),
        ("pad2", np.int32),
    ]
)
"""``struct msghdr`` of a 64-bit Linux."""


@dataclass(slots=True)
class Datagrams:
    """One round: arrays of one length n."""

    rows: NDArray[np.int64]
    lengths: NDArray[np.int64]
    """Bytes; -1 where nothing came after all; 0 for a datagram too long for its slot."""
    sources: NDArray[np.uint64]
    """(n, 4), see `rtp.endpoint`."""
    arrivals: NDArray[np.float64]
    """Seconds since the epoch."""
    data: NDArray[np.uint8]
    """(n, `SLOT_BYTES`); what lies behind a datagram's length is old."""


class Reader(Protocol):
    """Watches sockets and reads them in rounds."""

    def resize(self, capacity: int) -> None:
        """Makes room for rounds of this many datagrams."""

    def register(self, sock: socket.socket, row: int) -> None:
        """Reads this bound, non-blocking socket from now on."""

    def unregister(self, sock: socket.socket) -> None:
        """Forgets the socket, which must still be open."""

    def read_expected(self) -> Datagrams | None:
        """The first round of a tick, valid until the next call: sockets that had a datagram at each tick lately.

        None where that is no way to read. `read` goes on.
        """

    def read(self) -> Datagrams | None:
        """The next round, valid until the next call; None when no socket has a datagram."""

    def refused(self) -> list[int]:
        """Rows whose packets were refused (ICMP), since the last call."""

    def close(self) -> None:
        """Gives the poller back."""


def make_reader(capacity: int) -> Reader:
    """The best reader of this system."""
    return KernelReader(capacity) if kernel.AVAILABLE else PortableReader(capacity)


class KernelReader:
    """``epoll`` and ``recvmsg`` with headers prepared beforehand."""

    def __init__(self, capacity: int, *, fewest_in_batch: int = 8) -> None:
        """``fewest_in_batch``: fewer datagrams are read by one call each."""
        self._batch = Batch()
        self._fewest = fewest_in_batch
        self._epoll = select.epoll()
        self._row_of = np.zeros(1024, np.int64)
        self._came = np.zeros(1024, np.uint8)
        """By descriptor, a bit a tick, the lowest for the present one: a datagram came."""
        self._sockets: dict[int, socket.socket] = {}
        self._refused: list[int] = []
        self.resize(capacity)

    def resize(self, capacity: int) -> None:
        """Replaces all buffers."""
        self._capacity = capacity
        self._data = np.zeros((capacity, SLOT_BYTES), np.uint8)
        self._sources = np.zeros((capacity, SOURCE_WORDS), np.uint64)
        self._control = np.zeros((capacity, CONTROL_BYTES), np.uint8)
        self._vectors = np.zeros((capacity, 2), np.uint64)
        self._vectors[:, 0] = kernel.addresses(self._data)
        self._vectors[:, 1] = SLOT_BYTES
        self._headers = np.zeros(capacity, MESSAGE_HEADER)
        self._headers["name"] = kernel.addresses(self._sources)
        self._headers["name_length"] = SOURCE_WORDS * 8
        self._headers["vector"] = kernel.addresses(self._vectors)
        self._headers["vector_length"] = 1
        self._headers["control"] = kernel.addresses(self._control)
        self._headers["control_length"] = CONTROL_BYTES
        self._words = self._headers.view(np.uint64).reshape(capacity, -1)
        self._fresh = self._words.copy()
        self._references = [kernel.reference(address) for address in kernel.addresses(self._headers).tolist()]
        self._receives = operations(capacity, RECEIVE_MESSAGE)
        self._receives["address"] = kernel.addresses(self._headers)
        self._receives["length"] = 1
        self._messages = self._control.view(np.int64)

    def register(self, sock: socket.socket, row: int) -> None:
        """Adds the descriptor to the poller."""
        descriptor = sock.fileno()
        if descriptor >= len(self._row_of):
            self._row_of = np.concatenate([self._row_of, np.zeros(descriptor, np.int64)])
            self._came = np.concatenate([self._came, np.zeros(descriptor, np.uint8)])
        self._row_of[descriptor] = row
        self._sockets[descriptor] = sock
        self._epoll.register(descriptor, select.EPOLLIN)

    def unregister(self, sock: socket.socket) -> None:
        """Takes the descriptor out of the poller."""
        self._epoll.unregister(sock.fileno())
        del self._sockets[sock.fileno()]
        self._came[sock.fileno()] = 0

    def read_expected(self) -> Datagrams | None:
        """One ``recvmsg`` for each socket that is likely to have something."""
        descriptors = np.flatnonzero(self._came & STEADY == STEADY)[: self._capacity]
        self._came <<= 1
        if not len(descriptors):
            return None
        lengths = self._receive(descriptors)
        # Of errors that wait behind an empty queue the poller will tell.
        return self._round(descriptors, lengths, np.flatnonzero((lengths < 0) & (lengths != -errno.EAGAIN)))

    def read(self) -> Datagrams | None:
        """One poll, one ``recvmsg`` for each socket that has something."""
        events = self._epoll.poll(0, self._capacity)
        if not events:
            return None
        descriptors = np.array([event[0] for event in events], np.int64)
        lengths = self._receive(descriptors)
        return self._round(descriptors, lengths, np.flatnonzero(lengths < 0))  # woken for the error queue

    def _round(self, descriptors: NDArray[np.int64], lengths: NDArray[np.int64], failed: NDArray[np.intp]) -> Datagrams:
        """What was read of each descriptor. ``failed``: which of them may have an error to tell."""
        for descriptor in descriptors[failed].tolist():
            if take_errors(self._sockets[descriptor]):
                self._refused.append(int(self._row_of[descriptor]))
        count = len(descriptors)
        truncated = self._headers["flags"][:count] & MSG_TRUNC
        if np.count_nonzero(truncated):
            lengths[(truncated != 0) & (lengths > 0)] = 0
        self._words[:count] = self._fresh[:count]
        messages = self._messages[:count]
        arrivals = messages[:, 2] + messages[:, 3] * 1e-9
        unstamped = messages[:, 1] != STAMP
        if np.count_nonzero(unstamped):
            arrivals[unstamped] = time.time()
        self._came[descriptors] |= lengths >= 0
        return Datagrams(
            self._row_of[descriptors],
            np.maximum(lengths, -1),
            self._sources[:count],
            arrivals,
            self._data[:count],
        )

    def refused(self) -> list[int]:
        """Rows whose packets were refused."""
        refused, self._refused = self._refused, []
        return refused

    def _receive(self, descriptors: NDArray[np.int64]) -> NDArray[np.int64]:
        """Into one slot each. Returns the lengths, below zero where nothing was read."""
        if len(descriptors) >= self._fewest:
            receives = self._receives[: len(descriptors)]
            receives["descriptor"] = descriptors
            lengths = self._batch.run(receives)
            if lengths is not None:
                return lengths
        receive, flags = kernel.receive_message, kernel.DONT_WAIT
        calls = zip(descriptors.tolist(), self._references, strict=False)
        return np.array([receive(descriptor, header, flags) for descriptor, header in calls], np.int64)

    def close(self) -> None:
        """Closes the epoll descriptor, and gives the batch back."""
        self._epoll.close()
        self._batch.close()


class PortableReader:
    """Any selector and ``recvfrom_into``."""

    def __init__(self, capacity: int) -> None:
        self._selector = selectors.DefaultSelector()
        self._refused: list[int] = []
        self._words: dict[object, NDArray[np.uint64]] = {}
        self.resize(capacity)

    def resize(self, capacity: int) -> None:
        """Replaces all buffers."""
        self._capacity = capacity
        self._data = np.zeros((capacity, SLOT_BYTES), np.uint8)
        self._views = [slot.data for slot in self._data]
        self._sources = np.zeros((capacity, SOURCE_WORDS), np.uint64)

    def register(self, sock: socket.socket, row: int) -> None:
        """Adds the socket to the selector."""
        self._selector.register(sock, selectors.EVENT_READ, row)

    def unregister(self, sock: socket.socket) -> None:
        """Takes the socket out of the selector."""
        self._selector.unregister(sock)

    def read_expected(self) -> Datagrams | None:
        """Nothing: a read that finds none costs an exception."""
        return None

    def read(self) -> Datagrams | None:
        """One look, one ``recvfrom_into`` for each socket that has something."""
        ready = self._selector.select(0)[: self._capacity]
        if not ready:
            return None
        now = time.time()
        rows = np.array([key.data for key, _ in ready], np.int64)
        lengths = np.full(len(ready), -1, np.int64)
        for slot, (key, _) in enumerate(ready):
            sock: socket.socket = key.fileobj  # type: ignore[assignment]  # register() takes sockets only
            try:
                length, address = sock.recvfrom_into(self._views[slot])
                self._sources[slot] = self._words_of(address)
            except (OSError, ValueError):
                if take_errors(sock):
                    self._refused.append(key.data)
                continue
            lengths[slot] = length if length < SLOT_BYTES else 0
        count = len(ready)
        return Datagrams(rows, lengths, self._sources[:count], np.full(count, now), self._data[:count])

    def refused(self) -> list[int]:
        """Rows whose packets were refused."""
        refused, self._refused = self._refused, []
        return refused

    def close(self) -> None:
        """Closes the selector."""
        self._selector.close()

    def _words_of(self, address: tuple[str, int]) -> NDArray[np.uint64]:
        words = self._words.get(address)
        if words is None:
            if len(self._words) >= 4 * self._capacity:
                self._words.clear()
            words = self._words[address] = endpoint_of(address).words
        return words
