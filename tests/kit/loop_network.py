"""The network of :mod:`tests.kit.network` for drivers on a loop: best run in virtual time, see
``virtual_time``."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sipcore.errors import ServerUnreachable
from sipcore.net.addresses import ip_literal
from sipcore.protocol.flows import Flow
from tests.kit.network import Address, Conditions, Packet

if TYPE_CHECKING:
    from sipcore.net.driver import FlowsFactory
    from sipcore.protocol.flows import Target

__all__ = ["LoopNetwork", "MemoryFlows"]


@dataclass
class LoopNetwork:
    """Carries messages between the :class:`MemoryFlows` of one loop."""

    rng: random.Random = field(default_factory=lambda: random.Random(1))
    conditions: Conditions = field(default_factory=Conditions)
    names: dict[str, str] = field(default_factory=dict)
    """Host names and their addresses."""
    lookup_time: float = 0.1
    """Seconds that finding a name takes."""
    packets: list[Packet] = field(default_factory=list)
    """Everything ever sent, in order."""
    hosts: dict[Address, MemoryFlows] = field(default_factory=dict)
    """Who listens where."""

    def at(self, host: str, port: int = 5060) -> FlowsFactory:
        """For ``Driver(…, flows=network.at("10.0.0.1"))``."""

        def build(
            *, on_message: Callable[[bytes, Flow], None], on_flow_closed: Callable[[Flow, str], None]
        ) -> MemoryFlows:
            return MemoryFlows(self, (host, port), on_message, on_flow_closed)

        return build


class MemoryFlows:
    """Stands in for a :class:`~sipcore.net.manager.FlowManager`."""

    def __init__(
        self,
        network: LoopNetwork,
        address: Address,
        on_message: Callable[[bytes, Flow], None],
        on_flow_closed: Callable[[Flow, str], None],
    ) -> None:
        self._network = network
        self._address = address
        self._on_message = on_message
        self._on_flow_closed = on_flow_closed

    @property
    def address(self) -> Address:
        """Where it is."""
        return self._address

    @property
    def tls_address(self) -> None:
        """Nothing is encrypted in memory."""

    @property
    def listening(self) -> bool:
        """Whether it is in the network."""
        return self._network.hosts.get(self._address) is self

    async def start(self) -> None:
        """Joins the network."""
        self._network.hosts[self._address] = self

    async def close(self) -> None:
        """Leaves the network."""
        self._network.hosts.pop(self._address, None)

    def flow_at_once(self, target: Target, *, prefer: Flow | None = None) -> Flow | None:
        """A flow to an IP address; names take :meth:`flow_to`."""
        if prefer is not None:
            return prefer
        literal = ip_literal(target.host)
        return self._flow(literal, target) if literal is not None else None

    async def flow_to(
        self, target: Target, *, prefer: Flow | None = None, avoid: tuple[Flow, ...] = (), rest: float = 0.0
    ) -> Flow:
        """A flow to a name, which has one address only.

        Raises:
            ServerUnreachable: the network does not know it.
        """
        if avoid:
            raise ServerUnreachable(f"The host {target.host!r} has no further server")
        flow = self.flow_at_once(target, prefer=prefer)
        if flow is not None:
            return flow
        await asyncio.sleep(self._network.lookup_time)
        literal = self._network.names.get(target.host)
        if literal is None:
            raise ServerUnreachable(f"The host {target.host!r} cannot be found: there is no such name")
        return self._flow(literal, target)

    async def hosts_of(self, target: Target) -> tuple[str, ...]:
        """The address of a name, if the network knows it."""
        literal = ip_literal(target.host) or self._network.names.get(target.host)
        return (literal,) if literal is not None else ()

    def _flow(self, host: str, target: Target) -> Flow:
        transport = target.transport or "udp"
        remote = (host, target.port or 5060)
        return Flow(transport, self._address, remote, int(transport != "udp"), advertised=self._address)

    def keep(self, owner: Hashable, flow: Flow | None, every: float | None) -> None:
        """Nothing closes in memory."""

    def send(self, flow: Flow, data: bytes) -> None:
        """Sends one message; the sender is told where nobody listens."""
        loop = asyncio.get_running_loop()
        network = self._network
        delays = network.conditions.arrivals(network.rng, reliable=flow.reliable)
        arrivals = tuple(loop.time() + delay for delay in delays)
        network.packets.append(Packet(loop.time(), flow, data, arrivals))
        for when in arrivals:
            loop.call_at(when, self._arrive, flow, data)

    def _arrive(self, flow: Flow, data: bytes) -> None:
        receiver = self._network.hosts.get(flow.remote)
        if receiver is None:
            self.told_closed(flow, "connection refused")
            return
        receiver.told(data, Flow(flow.transport, flow.remote, flow.local, flow.connection, advertised=flow.remote))

    def told(self, data: bytes, flow: Flow) -> None:
        """A message arrived."""
        self._on_message(data, flow)

    def told_closed(self, flow: Flow, why: str) -> None:
        """What was sent did not arrive."""
        self._on_flow_closed(flow, why)
