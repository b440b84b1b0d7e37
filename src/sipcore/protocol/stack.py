"""The user agent core: composes transactions, dialogs, sessions and registrations into one pure object.

Time and bytes go in (:meth:`Stack.receive`, :meth:`Stack.handle_timer`), bytes, one deadline and events come out
(:meth:`Stack.transmits`, :meth:`Stack.next_deadline`, :meth:`Stack.events`). No socket, no clock, no task.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Protocol, cast

from sipcore.protocol.admission import Admission
from sipcore.protocol.builder import make_response
from sipcore.protocol.deadlines import Deadlines
from sipcore.protocol.dialog import DialogId
from sipcore.protocol.exchange import Exchange
from sipcore.protocol.identity import ACCOUNT_ITSELF
from sipcore.protocol.ids import Ids
from sipcore.protocol.invite_session import InviteSession
from sipcore.protocol.line import Line
from sipcore.protocol.outside import Outside
from sipcore.protocol.pace import Pace
from sipcore.protocol.registrar_client import RegistrarClient
from sipcore.protocol.replaces import find_replaced
from sipcore.protocol.session_context import capabilities
from sipcore.protocol.session_events import SessionEnded, SessionEstablished, SessionEvent
from sipcore.protocol.sources import peer_of
from sipcore.protocol.stack_events import (
    ExchangeDone,
    FlowKept,
    FlowWanted,
    HostsWanted,
    MessageArrived,
    RegistrationOccurred,
    SessionIncoming,
    SessionOccurred,
    StackEvent,
)
from sipcore.protocol.standalone import Standalone
from sipcore.protocol.transaction_layer import TransactionLayer
from sipcore.protocol.uac import Uac, UacCore
from sipcore.protocol.wire import MalformedMessage, Request, parse_message

if TYPE_CHECKING:
    import random

    from sipcore.config import Account, UserAgentConfig
    from sipcore.protocol.admission import TrafficStatistics
    from sipcore.protocol.flows import Flow, Target
    from sipcore.protocol.identity import Caller
    from sipcore.protocol.transaction import ServerTransaction
    from sipcore.protocol.values import Uri
    from sipcore.protocol.wire import Response

__all__ = [
    "ExchangeDone",
    "FlowKept",
    "FlowWanted",
    "HostsWanted",
    "MessageArrived",
    "RegistrationOccurred",
    "RequestHandler",
    "SessionIncoming",
    "SessionOccurred",
    "Stack",
    "StackEvent",
]

log = logging.getLogger(__name__)

REMEMBERED_DIALOGS = 256
"""How many ended dialogs a Replaces header field can still name (RFC 3891 §3: 603 instead of 481)."""

RequestHandler = Callable[[Request, "ServerTransaction", float], "Response | None"]
"""Answers an out-of-dialog request: returns the final response, or None to answer it later."""


class _DeadlineOwner(Protocol):
    """Sessions and registrations: keys of the deadline heap are ``(owner, name)``."""

    def on_deadline(self, name: str, now: float) -> None:
        """The deadline ``name`` is due."""


class Stack:
    """One user agent. See the module's docstring for its five doors."""

    def __init__(self, config: UserAgentConfig, *, rng: random.Random, user_agent: str) -> None:
        self.config = config
        self.rng = rng
        self.user_agent = user_agent
        self.timers = config.timers
        self.codecs: Sequence[str] = config.codecs
        self.info_types: Sequence[str] = tuple(kind.lower() for kind in config.info_types)
        self.ids = Ids(rng)
        self.deadlines: Deadlines[Hashable] = Deadlines()
        self.layer = TransactionLayer(user=self, transmit=self._transmit, timers=config.timers, ids=self.ids)
        self.uac: UacCore = Uac(layer=self.layer, flows=self, user_agent=user_agent)
        self.standalone = Standalone(self)
        """Requests that make no dialog."""
        self._outside = Outside(self)
        self.lines: dict[str, Line] = {}
        """By token."""
        self.register_pace = Pace(config.register_rate, max(1, round(config.register_rate / 2)))
        self.request_handlers: dict[str, RequestHandler] = {}
        """By method; asked for requests outside a dialog before the stack's own answer."""
        self.room: Callable[[], bool] | None = None
        """Asked before each call that comes in, once it is known to be for somebody: whether it can be carried."""
        self.admission = Admission(config, self)
        """Which requests are taken."""
        self._dialogs: dict[DialogId, InviteSession] = {}
        self._over: dict[DialogId, None] = {}
        """Dialogs that have ended lately, oldest first."""
        self._unanswered: dict[ServerTransaction, InviteSession] = {}
        self._flow_waiters: dict[int, tuple[Callable[[Flow, float], None], Callable[[str, float], None]]] = {}
        self._flow_number = 0
        self._transmits: list[tuple[Flow, bytes]] = []
        self._events: list[StackEvent] = []

    # -- in --------------------------------------------------------------------------------------------------------

    def receive(self, data: bytes, flow: Flow, now: float) -> None:
        """One whole message. What cannot be parsed is answered where RFC 3261 §8.2 names a code, else dropped."""
        try:
            message = parse_message(data)
        except MalformedMessage as error:
            request = error.request
            readable = request is not None and request.method != "ACK"
            if self.admission.malformed(flow.remote[0], readable=readable) and request is not None:
                self._answer_stateless(request, error.status, flow)
            else:
                log.debug("dropped a malformed message from %s:%s: %s", *flow.remote, error)
            return
        if isinstance(message, Request) and not self._admits(message, flow):
            return
        self.layer.receive(message, flow, now)

    def _admits(self, request: Request, flow: Flow) -> bool:
        refusal = self.admission.refusal(request, flow)
        if refusal is None:
            return True
        if refusal.status:
            self.layer.refuse(request, refusal.status, flow, refusal.headers)
        return False

    def handle_timer(self, now: float) -> None:
        """Everything that is due at ``now``."""
        self.layer.handle_timer(now)
        for key in self.deadlines.pop_due(now):
            owner, name = cast("tuple[_DeadlineOwner, str]", key)
            owner.on_deadline(name, now)

    def flow_ready(self, request_id: int, flow: Flow, now: float) -> None:
        """Answers :class:`FlowWanted`."""
        ready, _ = self._flow_waiters.pop(request_id)
        ready(flow, now)

    def flow_failed(self, request_id: int, detail: str, now: float) -> None:
        """Answers :class:`FlowWanted`: nothing leads to the target."""
        _, failed = self._flow_waiters.pop(request_id)
        failed(detail, now)

    def flow_closed(self, flow: Flow, detail: str, now: float) -> None:
        """A connection died, or ICMP says that nobody listens: what waits on it fails now (RFC 3261 §18.4)."""
        log.debug("flow to %s:%s closed: %s", *flow.remote, detail)
        self.uac.lost(flow, detail)
        self.layer.transport_failed(flow, now)
        for line in self.lines.values():
            if line.registrar is not None:
                line.registrar.flow_closed(flow, now)

    # -- out -------------------------------------------------------------------------------------------------------

    def transmits(self) -> list[tuple[Flow, bytes]]:
        """Messages to send, in order; drained."""
        drained, self._transmits = self._transmits, []
        return drained

    def events(self) -> list[StackEvent]:
        """What happened, in order; drained."""
        drained, self._events = self._events, []
        return drained

    def next_deadline(self) -> float | None:
        """When :meth:`handle_timer` wants to be called next."""
        due = [when for when in (self.layer.next_deadline(), self.deadlines.next()) if when is not None]
        return min(due, default=None)

    @property
    def idle(self) -> bool:
        """Nothing is under way: no transaction, no dialog, no call, no waiting flow, no deadline."""
        held = self.layer.active_count or self._dialogs or self._unanswered or self._flow_waiters
        return not held and self.next_deadline() is None

    # -- the shell's wishes ----------------------------------------------------------------------------------------

    def add_line(self, account: Account) -> Line:
        """Takes calls for an account from now on."""
        line = Line(account, self.ids)
        line.address_is_set = bool(self.config.advertise)
        self.lines[line.token] = line
        self.admission.lines_changed()
        return line

    def remove_line(self, line: Line) -> None:
        """Calls for the line get 404 from now on; its sessions go on."""
        self.lines.pop(line.token, None)
        self.admission.lines_changed()

    def register(self, line: Line, now: float) -> None:
        """Starts keeping the line registered; its fate comes as :class:`RegistrationOccurred`."""
        line.registrar = RegistrarClient(
            line=line,
            uac=self.uac,
            ids=self.ids,
            rng=self.rng,
            deadlines=self.deadlines,
            pace=self.register_pace,
            on_event=lambda event, at: self._events.append(RegistrationOccurred(line, event)),
            on_flow=lambda flow: self._registrar_at(line, flow.remote[0]),
            on_kept=lambda flow, every: self._events.append(FlowKept(line, flow, every)),
        )
        line.registers = True
        self.admission.lines_changed()
        line.registrar.start(now)

    def _registrar_at(self, line: Line, host: str) -> None:
        """A REGISTER leaves for ``host``. Its name may have got other addresses since the last one."""
        self._learn(line, host)
        self._events += [HostsWanted(line, target) for target in line.homes if target.host != host]

    def hosts_found(self, line: Line, hosts: Iterable[str], now: float) -> None:
        """Answers :class:`HostsWanted`."""
        for host in hosts:
            self._learn(line, host)

    def _learn(self, line: Line, host: str) -> None:
        if not line.reaches(host):
            self.admission.learned(host)
        line.reached(host)

    def invite(
        self,
        line: Line,
        uri: Uri,
        *,
        headers: tuple[tuple[str, str], ...],
        media_port: int,
        ring_timeout: float,
        delayed_offer: bool = False,
        now: float,
        caller: Caller = ACCOUNT_ITSELF,
    ) -> InviteSession:
        """Places a call (RFC 3261 §13.2.1)."""
        way = partial(line.way, caller=caller)
        first = way(uri)
        session = InviteSession(self, first.identity, outgoing=True, call_id=self.ids.call_id(), peer=str(uri))
        session.as_caller().start(
            uri=first.uri,
            target=first.target,
            routes=line.routes,
            headers=line.invite_headers(headers, caller),
            media_port=media_port,
            ring_timeout=ring_timeout,
            delayed=delayed_offer,
            way=way,
            now=now,
            flow=first.flow,
        )
        return session

    # -- Premises --------------------------------------------------------------------------------------------------

    @property
    def dialog_count(self) -> int:
        """See :class:`~sipcore.protocol.admission.Premises`."""
        return len(self._dialogs)

    def has_room(self) -> bool:
        """See :class:`~sipcore.protocol.admission.Premises`."""
        return self.room is None or self.room()

    def answers_itself(self, method: str) -> bool:
        """See :class:`~sipcore.protocol.admission.Premises`."""
        return method in self.request_handlers

    def under_way(self, request: Request) -> bool:
        """See :class:`~sipcore.protocol.admission.Premises`."""
        in_dialog = DialogId(request.call_id, request.to_tag, request.from_tag) in self._dialogs
        return in_dialog or self.layer.knows(request)

    def transaction_load(self, peer: str) -> tuple[int, int]:
        """See :class:`~sipcore.protocol.admission.Premises`."""
        return self.layer.load(peer)

    def statistics(self) -> TrafficStatistics:
        """What is under way, and what was turned away."""
        return replace(
            self.admission.statistics,
            calls=len(self._dialogs),
            unanswered=len(self._unanswered),
            transactions=self.layer.active_count,
        )

    # -- SessionContext, FlowWaiter --------------------------------------------------------------------------------

    def emit(self, session: InviteSession, event: SessionEvent) -> None:
        """See :class:`~sipcore.protocol.session_context.SessionContext`."""
        if isinstance(event, (SessionEstablished, SessionEnded)) and session.callee is not None:
            self._unanswered.pop(session.callee.transaction, None)
            self.admission.unanswered.discard(session)
            if isinstance(event, SessionEnded):
                self.admission.calls.discard(session)
        self._events.append(SessionOccurred(session, event))

    def tell(self, event: StackEvent) -> None:
        """Queues an event for the shell."""
        self._events.append(event)

    def exchanged(self, exchange: Exchange) -> None:
        """See :class:`~sipcore.protocol.session_context.SessionContext`."""
        self._events.append(ExchangeDone(exchange))

    def add_dialog(self, dialog_id: DialogId, session: InviteSession) -> None:
        """See :class:`~sipcore.protocol.session_context.SessionContext`."""
        self._dialogs[dialog_id] = session

    def remove_dialog(self, dialog_id: DialogId) -> None:
        """See :class:`~sipcore.protocol.session_context.SessionContext`."""
        if self._dialogs.pop(dialog_id, None) is not None:
            self._over[dialog_id] = None
            if len(self._over) > REMEMBERED_DIALOGS:
                del self._over[next(iter(self._over))]

    def want_flow(
        self,
        target: Target,
        prefer: Flow | None,
        ready: Callable[[Flow, float], None],
        failed: Callable[[str, float], None],
        avoid: tuple[Flow, ...] = (),
        rest: float = 0.0,
    ) -> None:
        """See :class:`~sipcore.protocol.uac.FlowWaiter`."""
        self._flow_number += 1
        self._flow_waiters[self._flow_number] = (ready, failed)
        self._events.append(FlowWanted(self._flow_number, target, prefer, avoid, rest))

    def _transmit(self, flow: Flow, data: bytes) -> None:
        self._transmits.append((flow, data))

    # -- TransactionUser -------------------------------------------------------------------------------------------

    def on_request(self, transaction: ServerTransaction, request: Request, now: float) -> None:
        """A new request (RFC 3261 §8.2, §12.2.2)."""
        if request.headers.get("Replaces") is not None and (request.method != "INVITE" or request.to_tag):
            self.respond(transaction, 400, now, reason="Replaces Belongs Into a First INVITE")  # RFC 3891 §3
            return
        if request.to_tag:
            session = self._dialogs.get(DialogId(request.call_id, request.to_tag, request.from_tag))
            if session is None:
                self.respond(transaction, 481, now)
            elif request.method == "BYE" or not self._outside.requires_too_much(transaction, request, now):
                # A BYE ends the session whatever it requires: its sender is gone, refused or not (§15.1.1).
                session.on_request(transaction, request, now)
        else:
            self._outside.on_request(transaction, request, now)

    def replaced_by(self, request: Request, line: Line) -> InviteSession | int | None:
        """The call in whose place an INVITE asks to come; see :func:`~sipcore.protocol.replaces.find_replaced`."""
        return find_replaced(request, line.identity, self._dialogs, self._over)

    def take_call(self, session: InviteSession, transaction: ServerTransaction, line: Line) -> None:
        """A call for ``line`` has come in; the shell has it ring."""
        self._unanswered[transaction] = session
        peer = peer_of(transaction.flow.remote[0])
        self.admission.unanswered.add(session, peer)
        self.admission.calls.add(session, peer)
        self._events.append(SessionIncoming(session, line))

    def on_ack(self, request: Request, flow: Flow, now: float) -> None:
        """The ACK of a 2xx."""
        session = self._dialogs.get(DialogId(request.call_id, request.to_tag, request.from_tag))
        if session is not None:
            session.on_ack(request, now)

    def on_cancel(self, transaction: ServerTransaction, cancel: Request, now: float) -> None:
        """CANCEL of an INVITE (§9.2)."""
        session = self._unanswered.get(transaction)
        if session is not None:
            session.on_cancel(transaction, cancel, now)

    def on_stray_response(self, response: Response, flow: Flow, now: float) -> None:
        """Matches nothing of ours: dropped (§18.1.2; the timer of RFC 6026's Accepted state has run out for a 2xx)."""
        log.debug("dropped a stray %s from %s:%s", response.status, *flow.remote)

    def on_server_timeout(self, transaction: ServerTransaction, now: float) -> None:
        """Timer H: no ACK for a failure response; its session has ended already."""
        log.debug("no ACK for the %s to %s", transaction.last_status, transaction.request.call_id)

    def respond(
        self,
        transaction: ServerTransaction,
        status: int,
        now: float,
        *,
        reason: str = "",
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        """Answers a request outside of any dialog of ours."""
        if status in (200, 405, 501):
            headers = (*capabilities(), *headers)
        to_tag = "" if transaction.request.to_tag else self.ids.tag()
        self.layer.respond(
            transaction,
            make_response(transaction.request, status, reason, to_tag=to_tag, headers=headers, server=self.user_agent),
            now,
        )

    def _answer_stateless(self, request: Request, status: int, flow: Flow) -> None:
        """§8.2.7: a malformed request gets one response and leaves nothing behind."""
        headers = (("Server", self.user_agent), *(capabilities() if status == 501 else ()))
        try:
            self.layer.refuse(request, status, flow, headers)
        except ValueError:
            log.debug("a malformed request from %s:%s cannot even be refused", *flow.remote)
