"""The pump between a pure stack and its sockets: one armed timer, and the only reader of the loop's clock."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Protocol

from sipcore.errors import ServerUnreachable
from sipcore.net.manager import FlowManager
from sipcore.protocol.stack import FlowKept, FlowWanted, HostsWanted

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Hashable

    from sipcore.config import UserAgentConfig
    from sipcore.net.trace import Trace
    from sipcore.protocol.flows import Flow, Target
    from sipcore.protocol.stack import Stack, StackEvent

__all__ = ["Driver", "Flows", "FlowsFactory"]

log = logging.getLogger(__name__)

ROUNDS = 100
"""Times that :meth:`Driver.pump` empties the stack before it lets the loop's other tasks run."""
RESOLUTION = 0.001
"""Seconds: a timer is armed at least this far ahead, since libuv counts milliseconds and may fire one
early."""


class Flows(Protocol):
    """What the driver needs of a :class:`~sipcore.net.manager.FlowManager`."""

    @property
    def address(self) -> tuple[str, int]:
        """Host and port listened on."""

    @property
    def tls_address(self) -> tuple[str, int] | None:
        """Host and port listened on for TLS, if at all."""

    @property
    def listening(self) -> bool:
        """Whether any socket is open for peers."""

    async def start(self) -> None:
        """Opens the sockets."""

    async def close(self) -> None:
        """Closes them."""

    def flow_at_once(self, target: Target, *, prefer: Flow | None = None) -> Flow | None:
        """A flow that needs no waiting, or None."""

    async def flow_to(
        self, target: Target, *, prefer: Flow | None = None, avoid: tuple[Flow, ...] = (), rest: float = 0.0
    ) -> Flow:
        """A flow, after names were looked up and a connection was opened; to none of the servers of ``avoid``, the
        last of which wants to rest for so many seconds."""

    async def hosts_of(self, target: Target) -> tuple[str, ...]:
        """Every IP address that a target may be reached at."""

    def send(self, flow: Flow, data: bytes) -> None:
        """Sends one message; never raises."""

    def keep(self, owner: Hashable, flow: Flow | None, every: float | None) -> None:
        """Keeps ``flow`` open for ``owner``, and no other; None: none any more."""


class FlowsFactory(Protocol):
    """Builds the flows of a driver around its two ears."""

    def __call__(
        self, *, on_message: Callable[[bytes, Flow], None], on_flow_closed: Callable[[Flow, str], None]
    ) -> Flows:
        """The flows, not yet started."""


class Driver:
    """Runs a stack on the running loop.

    Whoever tells the stack something (places a call, answers one) calls :meth:`pump` afterwards; what arrives
    from the network or comes due is pumped by itself. A bug in the stack or in ``on_event`` is logged with
    its traceback and ends neither the pump nor any other call.

    Args:
        stack: the protocol.
        config: the settings of its sockets.
        on_event: gets every event of the stack but those that ask for something of the network, in order. It may
            call into the stack; what that gives rise to is sent after it returns.
        trace: gets every message.
        flows: builds the sockets; tests put a network in memory here.
    """

    def __init__(
        self,
        stack: Stack,
        config: UserAgentConfig,
        *,
        on_event: Callable[[StackEvent], None],
        trace: Trace | None = None,
        flows: FlowsFactory | None = None,
    ) -> None:
        self._stack = stack
        self._on_event = on_event
        make_flows = flows if flows is not None else partial(FlowManager, config, trace=trace)
        self.flows: Flows = make_flows(on_message=self._on_message, on_flow_closed=self._on_flow_closed)
        """The sockets."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._armed_for = 0.0
        self._pumping = False
        self._pump_scheduled = False
        self._searches: set[asyncio.Task[None]] = set()

    # -- life ------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Opens the sockets.

        Raises:
            OSError: the port is taken, or the host is not this machine's.
        """
        self._loop = asyncio.get_running_loop()
        try:
            await self.flows.start()
        except BaseException:
            self._loop = None
            raise
        self.pump()

    async def close(self) -> None:
        """Sends what the stack still has to send, then frees every socket, task and timer. Takes 3 s at
        worst. Idempotent; afterwards :meth:`pump` does nothing."""
        if self._loop is None:
            return
        self.pump()
        self._loop = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        searches = tuple(self._searches)
        for search in searches:
            search.cancel()
        await asyncio.gather(*searches, return_exceptions=True)
        await self.flows.close()

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that UDP and TCP listen on."""
        return self.flows.address

    def now(self) -> float:
        """The time of the stack: seconds of the running loop's clock."""
        return (self._loop or asyncio.get_running_loop()).time()

    # -- the pump --------------------------------------------------------------------------------------------

    def pump(self) -> None:
        """Sends what the stack wants sent, hands out its events, and arms the timer. Inside ``on_event`` it
        does nothing, since the pump that called that goes on afterwards."""
        if self._pumping or self._loop is None:
            return
        self._pumping = True
        try:
            for _ in range(ROUNDS):
                if not self._pump_once():
                    break
            else:
                self._pump_soon()
        finally:
            self._pumping = False
        self._arm()

    def _pump_once(self) -> bool:
        """Whether there was anything."""
        transmits, events = self._stack.transmits(), self._stack.events()
        for flow, data in transmits:
            self.flows.send(flow, data)
        for event in events:
            try:
                if isinstance(event, FlowWanted):
                    self._find_flow(event)
                elif isinstance(event, FlowKept):
                    self.flows.keep(event.line, event.flow, event.every)
                elif isinstance(event, HostsWanted):
                    self._spawn(self._look_up(event))
                else:
                    self._on_event(event)
            except Exception:
                log.exception("handling %s failed", type(event).__name__)
        return bool(transmits or events)

    def _pump_soon(self) -> None:
        """One pump for all messages that arrive in one round of the loop."""
        if not self._pump_scheduled and self._loop is not None:
            self._pump_scheduled = True
            self._loop.call_soon(self._pump_scheduled_now)

    def _pump_scheduled_now(self) -> None:
        self._pump_scheduled = False
        self.pump()

    # -- in --------------------------------------------------------------------------------------------------

    def _on_message(self, data: bytes, flow: Flow) -> None:
        self._tell(partial(self._stack.receive, data, flow), "a message")

    def _on_flow_closed(self, flow: Flow, why: str) -> None:
        self._tell(partial(self._stack.flow_closed, flow, why), "a closed flow")

    def _tell(self, door: Callable[[float], None], what: str) -> None:
        if self._loop is None:
            return
        try:
            door(self._loop.time())
        except Exception:
            log.exception("the stack failed on %s", what)
        self._pump_soon()

    # -- time ------------------------------------------------------------------------------------------------

    def _arm(self) -> None:
        """One timer at or before the stack's deadline. One that is too early stays: it costs less than to arm
        another with each message, and finds out when it fires."""
        if self._loop is None:
            return
        deadline = self._stack.next_deadline()
        if deadline is None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            return
        if self._timer is not None:
            if self._armed_for <= deadline:
                return
            self._timer.cancel()
        self._armed_for = max(deadline, self._loop.time() + RESOLUTION)
        self._timer = self._loop.call_at(self._armed_for, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._loop is None:
            return
        now = self._loop.time()
        deadline = self._stack.next_deadline()
        if deadline is not None and deadline <= now:
            try:
                self._stack.handle_timer(now)
            except Exception:
                log.exception("the stack failed on a timer")
        self.pump()

    # -- flows -----------------------------------------------------------------------------------------------

    def _find_flow(self, wanted: FlowWanted) -> None:
        """At once where nothing has to be waited for: a thousand calls shall not be a thousand tasks."""
        if wanted.avoid:
            self._spawn(self._search(wanted))
            return
        try:
            flow = self.flows.flow_at_once(wanted.target, prefer=wanted.prefer)
        except ServerUnreachable as error:
            self._stack.flow_failed(wanted.id, str(error), self.now())
            return
        if flow is not None:
            self._stack.flow_ready(wanted.id, flow, self.now())
            return
        self._spawn(self._search(wanted))

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        search = asyncio.create_task(work)
        self._searches.add(search)
        search.add_done_callback(self._searches.discard)

    async def _search(self, wanted: FlowWanted) -> None:
        try:
            flow = await self.flows.flow_to(wanted.target, prefer=wanted.prefer, avoid=wanted.avoid, rest=wanted.rest)
        except ServerUnreachable as error:
            self._tell(partial(self._stack.flow_failed, wanted.id, str(error)), "a target that is unreachable")
        except Exception as error:
            log.exception("finding a flow failed")
            why = f"Looking for {wanted.target.host} failed: {type(error).__name__}"
            self._tell(partial(self._stack.flow_failed, wanted.id, why), "a target that is unreachable")
        else:
            self._tell(partial(self._stack.flow_ready, wanted.id, flow), "a new flow")

    async def _look_up(self, wanted: HostsWanted) -> None:
        """Tells the stack where a registrar is. One that cannot be looked up is known by the address it was reached
        at alone."""
        try:
            hosts = await self.flows.hosts_of(wanted.target)
        except ServerUnreachable as error:
            log.debug("no further addresses of %s: %s", wanted.target.host, error)
        except Exception:
            log.exception("looking up %s failed", wanted.target.host)
        else:
            self._tell(partial(self._stack.hosts_found, wanted.line, hosts), "the addresses of a name")
