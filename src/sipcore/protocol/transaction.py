"""Client and server transactions: what executes the tables of :mod:`~sipcore.protocol.transaction_tables`.

A transaction is told of inputs by the layer that owns it, changes its state in one method,
:meth:`Transaction._step`, and does everything else through a :class:`TransactionContext`.
"""

from __future__ import annotations

import logging
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from sipcore.protocol.builder import make_cancel, make_failure_ack, make_response
from sipcore.protocol.transaction_tables import (
    INVITE_CLIENT,
    INVITE_SERVER,
    NON_INVITE_CLIENT,
    NON_INVITE_SERVER,
    Action,
    Ignore,
    Input,
    State,
    Timer,
    Transition,
)
from sipcore.protocol.values import NameAddr
from sipcore.protocol.wire import Request, Response, parse_message, serialize

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sipcore.config import Timers
    from sipcore.protocol.deadlines import Deadlines
    from sipcore.protocol.flows import Flow
    from sipcore.protocol.transaction_tables import Machine
    from sipcore.protocol.wire import Message

__all__ = [
    "ClientHandler",
    "ClientTransaction",
    "ServerTransaction",
    "Transaction",
    "TransactionContext",
    "TransactionFailure",
    "TransactionUser",
]

log = logging.getLogger(__name__)

TRYING_DELAY = 0.2
"""Seconds an INVITE may wait for the TU before it gets a 100 (RFC 3261 §17.2.1)."""


class TransactionFailure(Enum):
    """Why a client transaction ended without a final response."""

    TIMEOUT = "timeout"
    """Timer B or F, or 64*T1 after a CANCEL. To be treated as a 408 (RFC 3261 §8.1.3.1)."""
    TRANSPORT = "transport"
    """To be treated as a 503 (RFC 3261 §8.1.3.1)."""


class ClientHandler(Protocol):
    """Who sent a request. It may call the layer from within these methods."""

    def on_response(self, transaction: ClientTransaction, response: Response, now: float) -> None:
        """A response: every 1xx, the final one once; of an INVITE each 2xx that arrives, copies too (RFC 6026)."""

    def on_failure(self, transaction: ClientTransaction, failure: TransactionFailure, now: float) -> None:
        """No final response came; the last call of this handler."""


class TransactionUser(Protocol):
    """Who answers requests (the TU of RFC 3261 §17). It may call the layer from within these methods."""

    def on_request(self, transaction: ServerTransaction, request: Request, now: float) -> None:
        """A new request, neither ACK nor CANCEL. It must be answered; non-INVITEs within 64*T1."""

    def on_ack(self, request: Request, flow: Flow, now: float) -> None:
        """An ACK that acknowledges no failure response of ours: that of a 2xx, each copy of it."""

    def on_cancel(self, transaction: ServerTransaction, cancel: Request, now: float) -> None:
        """A CANCEL for an INVITE without a final response. It has been answered; the INVITE wants a 487."""

    def on_stray_response(self, response: Response, flow: Flow, now: float) -> None:
        """A response that matches no client transaction (any more)."""

    def on_server_timeout(self, transaction: ServerTransaction, now: float) -> None:
        """Timer H: nobody acknowledged a failure response to an INVITE."""


class TransactionContext(Protocol):
    """What a transaction needs of the layer that owns it."""

    timers: Timers
    deadlines: Deadlines[tuple[Transaction, Timer]]
    user: TransactionUser

    def transmit(self, flow: Flow, data: bytes) -> None:
        """Sends bytes on a flow."""

    def send_cancel(self, cancel: Request, flow: Flow, now: float) -> None:
        """Sends a CANCEL, complete with its Via, in a client transaction of its own."""

    def forget(self, transaction: Transaction) -> None:
        """The transaction is over."""


class Transaction:
    """What client and server transactions share: a state, timers, and the table that joins them."""

    __slots__ = ("_context", "_interval", "_machine", "abandoned", "call_id", "flow", "method", "state")

    def __init__(self, context: TransactionContext, machine: Machine, request: Request, flow: Flow) -> None:
        self._context = context
        self._machine = machine
        self._interval = 0.0
        """Last retransmission interval, seconds."""
        self.method = request.method
        """Of the request."""
        self.call_id = request.call_id
        """Of the request."""
        self.flow = flow
        self.state = machine.start.state
        self.abandoned = False
        """Whoever it belonged to does not want to hear of it any more."""

    @property
    def terminated(self) -> bool:
        """Whether it is over and forgotten."""
        return self.state is State.TERMINATED

    def __repr__(self) -> str:
        return f"<{self._machine.name} transaction {self.method} {self.state.value} {self.call_id}>"

    def on_timer(self, timer: Timer, now: float) -> None:
        """A timer of this transaction fired."""
        self._step(Input(timer), now)

    def on_transport_error(self, now: float) -> None:
        """The flow failed (RFC 3261 §17.1.4, RFC 6026 §8.8)."""
        self._step(Input.TRANSPORT_ERROR, now)

    def _start(self, now: float) -> None:
        self._run(self._machine.start, now, None)

    def _step(self, event: Input, now: float, message: Message | None = None) -> None:
        """One input: the only place where ``state`` changes."""
        cell = self._machine.table[self.state, event]
        if isinstance(cell, Ignore):
            log.debug("%r: %s ignored: %s", self, event.name, cell.reason)
            return
        if cell.state is not self.state:
            if log.isEnabledFor(logging.DEBUG):
                log.debug("%r: %s -> %s", self, event.name, cell.state.value)
            keep = self._machine.timers[cell.state]
            for timer in self._machine.timers[self.state]:
                if timer not in keep:
                    self._context.deadlines.cancel((self, timer))
            self.state = cell.state
            if cell.state is State.TERMINATED:
                self._context.forget(self)
        self._run(cell, now, message)

    def _run(self, transition: Transition, now: float, message: Message | None) -> None:
        for action in transition.actions:
            if isinstance(action, Action):
                self._act(action, now, message)
            else:
                self._arm(action, now)

    def _arm(self, timer: Timer, now: float) -> None:
        delay = self._delay(timer)
        if delay is None:
            return
        if delay > 0:
            self._context.deadlines.set((self, timer), now + delay)
        else:
            self._step(Input(timer), now)

    def _delay(self, timer: Timer) -> float | None:
        """Seconds until a timer fires (RFC 3261 table 4); None where it does not run on this transport."""
        timers, reliable = self._context.timers, self.flow.reliable
        match timer:
            case Timer.A:
                return None if reliable else self._backed_off(timers.timeout)
            case Timer.E | Timer.G:
                if timer is Timer.E and self.state is State.PROCEEDING:
                    self._interval = timers.t2
                return None if reliable else self._backed_off(timers.t2)
            case Timer.D:
                return 0.0 if reliable else timers.d
            case Timer.I | Timer.K:
                return 0.0 if reliable else timers.t4
            case Timer.J:
                return 0.0 if reliable else timers.timeout
            case Timer.TRYING:
                return TRYING_DELAY
            case _:
                return timers.timeout

    def _backed_off(self, longest: float) -> float:
        """T1 first, then twice as long each time, at most ``longest``."""
        self._interval = min(2 * self._interval, longest) if self._interval else self._context.timers.t1
        return self._interval

    def _act(self, action: Action, now: float, message: Message | None) -> None:
        raise NotImplementedError


class ClientTransaction(Transaction):
    """The sending side of one request (RFC 3261 §17.1).

    After its final response it lives on for up to 64*T1, and there may be thousands like it: it keeps no more than the
    bytes of its request then.
    """

    __slots__ = ("_ack", "_cancel_headers", "_data", "_handler", "_request", "branch", "cancelled", "last_provisional")

    def __init__(
        self,
        context: TransactionContext,
        request: Request,
        branch: str,
        flow: Flow,
        handler: ClientHandler | None,
        now: float,
    ) -> None:
        """Sends ``request``, whose top Via is in place with that ``branch``, at once."""
        machine = INVITE_CLIENT if request.method == "INVITE" else NON_INVITE_CLIENT
        super().__init__(context, machine, request, flow)
        self.branch = branch
        self._request: Request | None = request
        self._handler = handler
        self._data = serialize(request)
        self._ack = b""
        self._cancel_headers: Sequence[tuple[str, str]] | None = None
        """Of a CANCEL that waits for a provisional response."""
        self.cancelled = False
        """Whether :meth:`cancel` was called in time to matter."""
        self.last_provisional: Response | None = None
        self._start(now)

    @property
    def request(self) -> Request:
        """As it was sent."""
        if self._request is not None:
            return self._request
        sent = parse_message(self._data)
        assert isinstance(sent, Request)
        return sent

    def hand_over(self, handler: ClientHandler) -> None:
        """Another one is told of what comes from now on."""
        self._handler = handler

    @property
    def repeated(self) -> bool:
        """The request was sent more than once: its far end may have answered, and take the copy for another one."""
        return not self.flow.reliable and self.last_provisional is None and self._interval > self._context.timers.t1

    def on_response(self, response: Response, now: float) -> None:
        """A response that matches this transaction (§17.1.3)."""
        if response.status < 200:
            event = Input.RECEIVE_1XX
        elif self._machine is NON_INVITE_CLIENT:
            event = Input.RECEIVE_FINAL
        else:
            event = Input.RECEIVE_2XX if response.status < 300 else Input.RECEIVE_300_699
        self._step(event, now, response)

    def cancel(self, now: float, headers: Sequence[tuple[str, str]] = ()) -> None:
        """Asks for a CANCEL of this INVITE (§9.1): sent once a provisional response is there, never after a final one.

        From then on the INVITE has 64*T1 to end.
        """
        if self.cancelled or self._machine is not INVITE_CLIENT:
            return
        if self.state is State.CALLING:
            self.cancelled = True
            self._cancel_headers = tuple(headers)
        elif self.state is State.PROCEEDING:
            self.cancelled = True
            self._send_cancel(headers, now)

    def _send_cancel(self, headers: Sequence[tuple[str, str]], now: float) -> None:
        self._arm(Timer.CANCELLED, now)
        self._context.send_cancel(make_cancel(self.request, headers), self.flow, now)

    def _act(self, action: Action, now: float, message: Message | None) -> None:
        match action:
            case Action.SEND_REQUEST:
                self._context.transmit(self.flow, self._data)
            case Action.SEND_ACK:
                if not self._ack:
                    assert isinstance(message, Response)
                    self._ack = serialize(make_failure_ack(self.request, message))
                self._context.transmit(self.flow, self._ack)
            case Action.SEND_HELD_CANCEL:
                if self._cancel_headers is not None:
                    self._send_cancel(self._cancel_headers, now)
            case Action.DELIVER:
                assert isinstance(message, Response)
                self._deliver(message, now)
            case Action.REPORT_TIMEOUT:
                self._report(TransactionFailure.TIMEOUT, now)
            case Action.REPORT_TRANSPORT:
                self._report(TransactionFailure.TRANSPORT, now)
            case _:
                raise AssertionError(f"{action} is no action of a client")

    def _deliver(self, response: Response, now: float) -> None:
        if response.status < 200:
            self.last_provisional = response
        if self._handler is not None and not self.abandoned:
            self._handler.on_response(self, response, now)
        if response.status >= 200:
            self._request = self.last_provisional = None
            if self.state is not State.ACCEPTED:  # no other state has more to tell
                self._handler = None

    def _report(self, failure: TransactionFailure, now: float) -> None:
        if self._handler is not None and not self.abandoned:
            self._handler.on_failure(self, failure, now)


class ServerTransaction(Transaction):
    """The answering side of one request (RFC 3261 §17.2)."""

    __slots__ = ("_data", "_to", "key", "last_status", "reply_flow", "request")

    def __init__(self, context: TransactionContext, request: Request, flow: Flow, reply_flow: Flow, now: float) -> None:
        """``flow`` is where the request came from, ``reply_flow`` where its responses go (§18.2.2)."""
        machine = INVITE_SERVER if request.method == "INVITE" else NON_INVITE_SERVER
        super().__init__(context, machine, request, flow)
        self.request = request
        self._data = b""
        self.reply_flow = reply_flow
        self.last_status = 0
        """Of the last response sent; 0 before the first."""
        self._to = ""
        """To of the last response sent."""
        self.key: tuple[str, ...] = ()
        """What its layer finds it by."""
        self._start(now)

    @property
    def to_tag(self) -> str:
        """The To tag of the last response sent."""
        return NameAddr.parse(self._to).tag if self._to else ""

    def on_request(self, now: float) -> None:
        """A retransmission of the request arrived."""
        self._step(Input.RECEIVE_REQUEST, now)

    def on_ack(self, ack: Request, now: float) -> None:
        """An ACK that matches this INVITE arrived."""
        self._step(Input.RECEIVE_ACK, now, ack)

    def respond(self, response: Response, now: float) -> None:
        """The TU's response."""
        if response.status < 200:
            event = Input.SEND_1XX
        elif self._machine is NON_INVITE_SERVER:
            event = Input.SEND_FINAL
        else:
            event = Input.SEND_2XX if response.status < 300 else Input.SEND_300_699
        self._step(event, now, response)

    def _act(self, action: Action, now: float, message: Message | None) -> None:
        match action:
            case Action.SEND_RESPONSE:
                self._context.deadlines.cancel((self, Timer.TRYING))
                assert isinstance(message, Response)
                self._send(message)
            case Action.RESEND_RESPONSE:
                if self._data:
                    self._context.transmit(self.reply_flow, self._data)
            case Action.SEND_TRYING:
                self._send(make_response(self.request, 100))
            case Action.DELIVER_ACK:
                assert isinstance(message, Request)
                self._context.user.on_ack(message, self.flow, now)
            case Action.REPORT_TIMEOUT:
                if not self.abandoned:
                    self._context.user.on_server_timeout(self, now)
            case _:
                raise AssertionError(f"{action} is no action of a server")

    def _send(self, response: Response) -> None:
        self._data = serialize(response)
        self.last_status = response.status
        self._to = response.headers.get("To") or ""
        self._context.transmit(self.reply_flow, self._data)
