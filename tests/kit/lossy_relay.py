"""A bad network between real sockets: every datagram between two hosts of the loopback crosses a relay that loses,
doubles and delays it.

Two agents listen on ``127.0.0.1`` and ``127.0.0.2`` and advertise ``127.0.0.11`` and ``127.0.0.12``. What is sent to
an advertised address reaches the relay, which passes it on to the agent with the sender's advertised address as its
source. So neither sees the other's own address, and nothing has to be rewritten, in SIP or in SDP. For a program that
cannot be told to advertise anything, the relay writes its address anew, as routers with an ALG do.
"""

from __future__ import annotations

import heapq
import random
import re
import selectors
import socket
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count
from types import TracebackType

from tests.kit.network import Conditions

__all__ = ["LossyRelay", "Side", "Tally"]

LONGEST_RUN = 4
"""Copies of the same datagram lost one after the other; the next gets through. 64*T1 is meant for loss, not for an
unlucky run that would rightly end a call, and with it the test, once in a few hundred runs."""
RECEIVE_BUFFER = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two hosts."""

    host: str
    """Where its agent listens."""
    advertised: str
    """Where the relay listens in its stead."""
    media: range = range(0)
    """Five-digit ports of RTP of a program that cannot be told to advertise anything, and takes its ports at every
    address of the machine. What it says of them and of its host is written anew, as by a router with an ALG; what it
    hears is put back."""

    def leaving(self, data: bytes) -> bytes:
        """A datagram of its agent's, as the other side gets it."""
        if not self.media:
            return data
        return _MEDIA.sub(
            lambda found: b"m=audio %d" % self.told(int(found[1])), _named(data, self.advertised, self.host)
        )

    def coming(self, data: bytes) -> bytes:
        """A datagram for its agent."""
        return _named(data, self.host, self.advertised) if self.media else data

    def told(self, port: int) -> int:
        """The number under which others know a port of its RTP."""
        return port + len(self.media)


_MEDIA = re.compile(rb"^m=audio (\d{5})", re.MULTILINE)


def _named(data: bytes, name: str, instead_of: str) -> bytes:
    assert len(name) == len(instead_of), "Content-Length stays what it is"
    return re.sub(rb"(?<![0-9.])" + re.escape(instead_of.encode()) + rb"(?![0-9])", name.encode(), data)


@dataclass(slots=True)
class Tally:
    """What the relay did to the datagrams of one direction."""

    received: int = 0
    lost: int = 0
    doubled: int = 0
    overtaken: int = 0
    """Passed on after one that came later."""


class LossyRelay:
    """Runs in a thread of its own; use as a context manager.

    Args:
        left, right: the two hosts.
        ports: the ports that are relayed, the same on both sides; those of ``media`` are besides.
        conditions: what happens to each datagram.
        seed: the same seed loses the same datagrams as long as they come in the same order.
    """

    def __init__(self, left: Side, right: Side, ports: Iterable[int], conditions: Conditions, *, seed: int) -> None:
        self._rng = random.Random(seed)
        self.conditions = conditions
        self.tallies = {left.host: Tally(), right.host: Tally()}
        """By the sender's own host."""
        self._selector = selectors.DefaultSelector()
        self._sockets: dict[tuple[str, int], socket.socket] = {}
        self._other = {left: right, right: left}
        self._by_host = {left.host: left, right.host: right}
        self._queue: list[tuple[float, int, socket.socket, bytes, tuple[str, int], int]] = []
        self._order = count()
        self._newest_sent = dict.fromkeys(self.tallies, -1)
        self._runs: dict[bytes, int] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lossy relay", daemon=True)
        try:
            for port in ports:
                for side in (left, right):
                    self._open(side, port, port)
            for side in (left, right):
                for port in side.media:
                    self._open(side, port, side.told(port))
        except OSError:
            self._close()
            raise

    def _open(self, side: Side, port: int, told: int) -> None:
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sockets[side.advertised, port] = opened
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        opened.setblocking(False)
        opened.bind((side.advertised, told))
        self._selector.register(opened, selectors.EVENT_READ, (side, port))

    def __enter__(self) -> LossyRelay:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._close()

    def _close(self) -> None:
        for opened in self._sockets.values():
            opened.close()
        self._selector.close()

    # -- the thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stop.is_set():
            wait = 0.05
            if self._queue:
                wait = min(wait, max(0.0, self._queue[0][0] - time.monotonic()))
            for key, _ in self._selector.select(wait):
                side, port = key.data
                self._receive(key.fileobj, side, port)  # type: ignore[arg-type]  # only sockets were registered
            self._send_due()

    def _receive(self, bound: socket.socket, side: Side, port: int) -> None:
        """What came for ``side``: from the other one, by the address that stands for it."""
        sender = self._by_host[self._other[side].host]
        while True:
            try:
                data, source = bound.recvfrom(65535)
            except BlockingIOError:
                return
            except OSError:
                continue  # ICMP about an earlier datagram: nobody listens there any more
            if source[0] != sender.host:
                continue
            outlet = self._sockets.get((sender.advertised, source[1]))
            if outlet is None:
                continue
            data = side.coming(sender.leaving(data))
            tally = self.tallies[sender.host]
            tally.received += 1
            delays = self.conditions.arrivals(self._rng, reliable=False)
            if not delays and self._runs.get(data, 0) >= LONGEST_RUN:
                delays = [self.conditions.delay[0]]
            tally.lost += not delays
            tally.doubled += len(delays) > 1
            self._remember(data, lost=not delays)
            for delay in delays:
                item = (time.monotonic() + delay, next(self._order), outlet, data, (side.host, port), tally.received)
                heapq.heappush(self._queue, item)

    def _remember(self, data: bytes, *, lost: bool) -> None:
        if lost:
            self._runs[data] = self._runs.get(data, 0) + 1
        else:
            self._runs.pop(data, None)

    def _send_due(self) -> None:
        now = time.monotonic()
        while self._queue and self._queue[0][0] <= now:
            _, _, outlet, data, target, number = heapq.heappop(self._queue)
            sender = self._other[self._by_host[target[0]]].host
            if number < self._newest_sent[sender]:
                self.tallies[sender].overtaken += 1
            self._newest_sent[sender] = max(self._newest_sent[sender], number)
            try:
                outlet.sendto(data, target)
            except OSError:
                continue  # the far end's port was closed
