"""A network in memory that joins pure protocol objects in virtual time: slow, lossy, and the same for the
same seed.

:class:`Network` steps everything itself, without asyncio. :mod:`tests.kit.loop_network` does the same to
drivers on a loop.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Protocol

from sipcore.protocol.flows import Flow
from sipcore.protocol.stack import FlowWanted
from sipcore.protocol.wire import MalformedMessage, parse_message

if TYPE_CHECKING:
    from sipcore.protocol.flows import Transport
    from sipcore.protocol.stack import Stack, StackEvent
    from sipcore.protocol.transaction_layer import TransactionLayer

__all__ = ["Address", "Conditions", "LayerNode", "Network", "Node", "Packet", "StackNode"]

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the network does to datagrams. Streams stay in order: all have the longest delay."""

    delay: tuple[float, float] = (0.01, 0.01)
    """Shortest and longest one-way time, seconds; an interval reorders what is sent close together."""
    loss: float = 0.0
    """Share of datagrams that never arrive, 0..1."""
    duplication: float = 0.0
    """Share of datagrams that arrive twice, each copy with a delay of its own, 0..1."""

    def arrivals(self, rng: random.Random, *, reliable: bool) -> list[float]:
        """Delays after which copies of one message arrive; none where it is lost."""
        if reliable:
            return [self.delay[1]]
        if rng.random() < self.loss:
            return []
        copies = 2 if rng.random() < self.duplication else 1
        return [rng.uniform(*self.delay) for _ in range(copies)]


@dataclass(frozen=True, slots=True)
class Packet:
    """One message as it was sent."""

    sent_at: float
    flow: Flow
    """The sender's."""
    data: bytes = field(repr=False)
    arrivals: tuple[float, ...] = ()
    """When copies of it arrive; empty: lost."""

    @property
    def start_line(self) -> str:
        """``INVITE sip:bob@… SIP/2.0``"""
        return self.data.partition(b"\r\n")[0].decode("utf-8", "replace")


class Node(Protocol):
    """What a pure protocol object looks like to the network."""

    def receive(self, data: bytes, flow: Flow, now: float) -> None:
        """A message arrived."""

    def handle_timer(self, now: float) -> None:
        """Its deadline has come."""

    def next_deadline(self) -> float | None:
        """When that is."""

    def flow_closed(self, flow: Flow, detail: str, now: float) -> None:
        """What was sent on a flow cannot arrive."""

    def transmits(self) -> list[tuple[Flow, bytes]]:
        """What it wants sent, drained."""


class Network:
    """Carries messages between nodes and lets time pass.

    Args:
        rng: decides on every loss and delay; seed it.
        conditions: may be replaced at any time.
    """

    def __init__(self, rng: random.Random, conditions: Conditions | None = None) -> None:
        self.conditions = conditions or Conditions()
        self.now = 0.0
        self.packets: list[Packet] = []
        """Everything ever sent, in order."""
        self.drop: Callable[[Packet], bool] = lambda packet: False
        """Scripted loss, asked for every packet before chance is."""
        self.refusing: set[Address] = set()
        """Hosts that are up with nobody listening: senders are told, as by ICMP or a TCP reset."""
        self.servers: dict[str, list[Address]] = {}
        """What DNS says of a name, the best server first."""
        self._rng = rng
        self._nodes: dict[Address, Node] = {}
        self._queue: list[tuple[float, int, Callable[[float], None]]] = []
        self._order = count()

    # -- building --------------------------------------------------------------------------------------------

    def join(self, address: Address, node: Node) -> None:
        """Puts a node at an address."""
        self._nodes[address] = node

    def leave(self, address: Address) -> None:
        """What is sent there is lost from now on, without a word."""
        del self._nodes[address]

    @staticmethod
    def flow(local: Address, remote: Address, transport: Transport = "udp") -> Flow:
        """The flow from one address to another."""
        return Flow(transport, local, remote, 0 if transport == "udp" else 1, advertised=local)

    def add_stack(self, address: Address, stack: Stack) -> StackNode:
        """Puts a stack at an address; its wishes for flows are granted at once."""
        node = StackNode(self, address, stack)
        self.join(address, node)
        return node

    # -- running ---------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Takes what the nodes want sent. To be called after a node was told something from outside."""
        busy = True
        while busy:
            busy = False
            for node in tuple(self._nodes.values()):
                for flow, data in node.transmits():
                    self._send(node, flow, data)
                    busy = True

    def run(self, until: float) -> None:
        """Lets time pass up to and including ``until``."""
        self.flush()
        while (when := self._next_time()) is not None and when <= until:
            self._step(when)
        self.now = max(self.now, until)

    def run_until(self, condition: Callable[[], bool], *, limit: float = 300.0) -> None:
        """Lets time pass until ``condition`` holds.

        Raises:
            AssertionError: nothing is left to happen, or ``limit`` more seconds have passed.
        """
        end = self.now + limit
        self.flush()
        while not condition():
            when = self._next_time()
            assert when is not None, f"nothing is left to happen at {self.now:g} s"
            assert when <= end, f"not so within {limit:g} s"
            self._step(when)

    def call_at(self, when: float, action: Callable[[float], None]) -> None:
        """Calls ``action(now)`` at a time."""
        heapq.heappush(self._queue, (when, next(self._order), action))

    def _next_time(self) -> float | None:
        times = [node.next_deadline() for node in self._nodes.values()]
        if self._queue:
            times.append(self._queue[0][0])
        return min((when for when in times if when is not None), default=None)

    def _step(self, when: float) -> None:
        """Everything due at one moment: arrivals first, then timers."""
        self.now = max(self.now, when)
        while self._queue and self._queue[0][0] <= self.now:
            heapq.heappop(self._queue)[2](self.now)
            self.flush()
        for node in tuple(self._nodes.values()):
            deadline = node.next_deadline()
            if deadline is not None and deadline <= self.now:
                node.handle_timer(self.now)
                self.flush()
                after = node.next_deadline()
                assert after is None or after > self.now, f"a deadline of {after} is still due at {self.now}"

    def _send(self, node: Node, flow: Flow, data: bytes) -> None:
        delays = self.conditions.arrivals(self._rng, reliable=flow.reliable)
        packet = Packet(self.now, flow, data, tuple(self.now + delay for delay in delays))
        if self.drop(packet):
            packet = Packet(self.now, flow, data)
        self.packets.append(packet)
        if flow.remote in self.refusing:
            self.call_at(
                self.now + self.conditions.delay[0],
                lambda now: node.flow_closed(flow, "connection refused", now),
            )
            return
        arriving = Flow(flow.transport, flow.remote, flow.local, flow.connection, advertised=flow.remote)
        for when in packet.arrivals:
            self.call_at(when, lambda now: self._deliver(data, arriving, now))

    def _deliver(self, data: bytes, flow: Flow, now: float) -> None:
        node = self._nodes.get(flow.local)
        if node is not None:
            node.receive(data, flow, now)


class StackNode:
    """A :class:`~sipcore.protocol.stack.Stack` on the network."""

    def __init__(self, network: Network, address: Address, stack: Stack) -> None:
        self.stack = stack
        self.events: list[StackEvent] = []
        """What happened, FlowWanted left out, in order."""
        self._network = network
        self._address = address

    def receive(self, data: bytes, flow: Flow, now: float) -> None:
        """See :class:`Node`."""
        self.stack.receive(data, flow, now)

    def handle_timer(self, now: float) -> None:
        """See :class:`Node`."""
        self.stack.handle_timer(now)

    def next_deadline(self) -> float | None:
        """See :class:`Node`."""
        return self.stack.next_deadline()

    def flow_closed(self, flow: Flow, detail: str, now: float) -> None:
        """See :class:`Node`."""
        self.stack.flow_closed(flow, detail, now)

    def transmits(self) -> list[tuple[Flow, bytes]]:
        """See :class:`Node`. Flows to any host name or address with a port are ready at once."""
        while True:
            events = self.stack.events()
            if not events:
                return self.stack.transmits()
            for event in events:
                if isinstance(event, FlowWanted):
                    self._grant(event)
                else:
                    self.events.append(event)

    def _grant(self, wanted: FlowWanted) -> None:
        target = wanted.target
        remote = (target.host, target.port or 5060)
        servers = self._network.servers.get(target.host)
        if servers is not None or wanted.avoid:
            tried = {flow.remote for flow in wanted.avoid}
            left = [server for server in servers or () if server not in tried]
            if not left:
                self.stack.flow_failed(wanted.id, f"The host {target.host!r} has no further server", self._network.now)
                return
            remote = left[0]
        flow = wanted.prefer or Network.flow(self._address, remote, target.transport or "udp")
        self.stack.flow_ready(wanted.id, flow, self._network.now)


class LayerNode:
    """A :class:`~sipcore.protocol.transaction_layer.TransactionLayer` on the network.

    Args:
        build: makes the layer around the function it shall transmit with.
    """

    def __init__(self, build: Callable[[Callable[[Flow, bytes], None]], TransactionLayer]) -> None:
        self._outbox: list[tuple[Flow, bytes]] = []
        self.layer = build(lambda flow, data: self._outbox.append((flow, data)))

    def receive(self, data: bytes, flow: Flow, now: float) -> None:
        """See :class:`Node`. What cannot be parsed is dropped."""
        try:
            message = parse_message(data)
        except MalformedMessage:
            return
        self.layer.receive(message, flow, now)

    def handle_timer(self, now: float) -> None:
        """See :class:`Node`."""
        self.layer.handle_timer(now)

    def next_deadline(self) -> float | None:
        """See :class:`Node`."""
        return self.layer.next_deadline()

    def flow_closed(self, flow: Flow, detail: str, now: float) -> None:
        """See :class:`Node`."""
        self.layer.transport_failed(flow, now)

    def transmits(self) -> list[tuple[Flow, bytes]]:
        """See :class:`Node`."""
        sent = self._outbox.copy()
        self._outbox.clear()
        return sent
