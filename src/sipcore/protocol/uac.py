"""One request of a user agent client, from "find a flow" to its final response (RFC 3261 §8.1, §22.2).

What asks for a request writes a :class:`RequestPlan` and is told of its responses as a :class:`UacHandler`. Between the
two :class:`Uac` waits for a flow, numbers and builds the request, and answers 401 and 407 by sending it once more with
credentials (new CSeq and branch, same Call-ID, From and To), so that nobody above sees a challenge that could be met.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from sipcore.protocol.builder import make_request
from sipcore.protocol.flows import Target
from sipcore.protocol.routing import is_address, retry_after
from sipcore.protocol.transaction import TransactionFailure

if TYPE_CHECKING:
    from sipcore.protocol.dialog import Dialog
    from sipcore.protocol.digest import DigestClient
    from sipcore.protocol.flows import Flow
    from sipcore.protocol.security_agreement import SecurityAgreement
    from sipcore.protocol.transaction import ClientTransaction
    from sipcore.protocol.transaction_layer import TransactionLayer
    from sipcore.protocol.values import Uri, Via
    from sipcore.protocol.wire import Request, Response

__all__ = ["FlowWaiter", "RequestPlan", "Uac", "UacCore", "UacFailure", "UacHandler", "UacRequest"]

MAX_UDP_REQUEST = 1300
"""Bytes (RFC 3261 §18.1.1, where the path's MTU is not known)."""
VIA = 110
"""Bytes that the transaction layer adds, about: Via and Content-Length."""
UDP_ONLY = 300.0
MAX_REMEMBERED = 4096
MAX_SERVERS = 8
"""Servers of one target that a request is sent to, one after the other."""
MAX_CHALLENGES = 5
"""A request is sent at most this many times more for 401/407; a proxy chain needs one each."""


@dataclass(frozen=True, slots=True)
class UacFailure:
    """A request that ended without a final response."""

    kind: Literal["timeout", "transport", "resolve", "cancelled"]
    detail: str
    """One sentence, without secrets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestPlan:
    """All that is needed to build a request once its flow is known."""

    method: str
    uri: Uri
    from_: str
    to: str
    call_id: str
    next_cseq: Callable[[], int]
    """Called once per transmission as a new transaction, at the moment of sending, so that CSeq order is wire order."""
    target: Target
    routes: tuple[str, ...] = ()
    contact: Callable[[Flow], str] | None = None
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | Callable[[Flow], bytes] = b""
    content_type: str = ""
    digest: DigestClient | None = field(default=None, repr=False)
    agreement: SecurityAgreement | None = None
    flow: Flow | None = None
    """Preferred while it is open; else ``target`` is resolved."""
    seen: Callable[[Flow, Via], None] | None = None
    """Told of the Via in each response: which address the far end sees us at."""

    @classmethod
    def within(
        cls,
        dialog: Dialog,
        method: str,
        *,
        next_cseq: Callable[[], int] | None = None,
        contact: Callable[[Flow], str] | None = None,
        headers: tuple[tuple[str, str], ...] = (),
        body: bytes = b"",
        content_type: str = "",
        digest: DigestClient | None = None,
        agreement: SecurityAgreement | None = None,
        flow: Flow | None = None,
    ) -> RequestPlan:
        """A request inside a dialog (§12.2.1.1); numbered by it if ``next_cseq`` is not given."""
        uri, routes = dialog.request_line_and_routes()
        return cls(
            method=method,
            uri=uri,
            from_=dialog.local,
            to=dialog.remote,
            call_id=dialog.id.call_id,
            next_cseq=next_cseq or dialog.next_cseq,
            target=dialog.next_hop,
            routes=routes,
            contact=contact,
            headers=headers,
            body=body,
            content_type=content_type,
            digest=digest,
            agreement=agreement,
            flow=flow,
        )


class UacHandler(Protocol):
    """Told of the responses to one request."""

    def on_provisional(self, request: UacRequest, response: Response, now: float) -> None:
        """A 1xx, 100 included."""

    def on_final(self, request: UacRequest, response: Response, now: float) -> None:
        """A final response; an INVITE has as many 2xx as copies and forks of it come (RFC 6026 §7.2)."""

    def on_failure(self, request: UacRequest, failure: UacFailure, now: float) -> None:
        """No final response will come."""


class UacCore(Protocol):
    """What sends requests, as the parts of a user agent see it."""

    def send(self, plan: RequestPlan, handler: UacHandler, now: float) -> UacRequest:
        """Sends now or as soon as a flow is found; the handler is never called before this returns."""

    def lost(self, flow: Flow, why: str) -> None:
        """A flow is about to fail its transactions: what to tell of it."""


class FlowWaiter(Protocol):
    """Gives flows: :class:`~sipcore.protocol.stack.Stack` turns a wish into an event for the shell."""

    def want_flow(
        self,
        target: Target,
        prefer: Flow | None,
        ready: Callable[[Flow, float], None],
        failed: Callable[[str, float], None],
        avoid: tuple[Flow, ...] = (),
        rest: float = 0.0,
    ) -> None:
        """Calls ``ready(flow, now)`` or ``failed(sentence, now)`` later, exactly once.

        Args:
            avoid: flows to servers of ``target`` that failed; another server is wanted.
            rest: seconds for which the last of them asked to be left alone.
        """


@dataclass(slots=True, eq=False)
class UacRequest:
    """A request on its way. ``cancel`` abandons it at any point (RFC 3261 §9.1 for INVITE)."""

    plan: RequestPlan
    handler: UacHandler = field(repr=False)
    _uac: Uac = field(repr=False)
    request: Request | None = None
    """As last sent."""
    flow: Flow | None = None
    transaction: ClientTransaction | None = field(default=None, repr=False)
    challenges: int = 0
    unanswered: str = ""
    """Why the challenge that it ended with was not answered, where that was this side's own decision."""
    tried_again: bool = False
    """Sent a second time because the connection it first went out on was dead."""
    tried: tuple[Flow, ...] = ()
    """Flows to servers of the target that failed (RFC 3263 §4.3)."""
    cancelled: bool = False
    done: bool = False

    def cancel(self, now: float, headers: tuple[tuple[str, str], ...] = ()) -> None:
        """Cancels an INVITE, or forgets a request that has not been sent yet. Idempotent."""
        self._uac.cancel(self, now, headers)


class Uac:
    """Sends planned requests over a transaction layer."""

    def __init__(self, *, layer: TransactionLayer, flows: FlowWaiter, user_agent: str) -> None:
        self._layer = layer
        self._flows = flows
        self._user_agent = user_agent
        self._lost: tuple[Flow, str] | None = None
        """The flow that died last, and why."""
        self._udp_only: dict[tuple[str, int], float] = {}
        """Servers that take no TCP, and until when that is believed."""

    def lost(self, flow: Flow, why: str) -> None:
        """See :meth:`UacCore.lost`."""
        self._lost = (flow, why)

    def send(self, plan: RequestPlan, handler: UacHandler, now: float) -> UacRequest:
        """See :meth:`UacCore.send`."""
        request = UacRequest(plan, handler, self)
        self._flows.want_flow(
            plan.target,
            plan.flow,
            lambda flow, at: self._start(request, flow, at),
            lambda detail, at: self._fail(request, UacFailure("resolve", detail), at),
        )
        return request

    def cancel(self, request: UacRequest, now: float, headers: tuple[tuple[str, str], ...]) -> None:
        """See :meth:`UacRequest.cancel`."""
        if request.cancelled or request.done:
            return
        request.cancelled = True
        if request.transaction is not None:
            self._layer.cancel(request.transaction, now, headers=headers)
        # Not sent yet: _start tells the handler as soon as the flow is known or has failed.

    def _start(self, pending: UacRequest, flow: Flow, now: float) -> None:
        if pending.cancelled:
            self._fail(pending, UacFailure("cancelled", "Cancelled before it was sent"), now)
            return
        plan = pending.plan
        body = plan.body if isinstance(plan.body, bytes) else plan.body(flow)
        # For the next server it is the same request (RFC 3263 §4.3): only its branch, and what names the flow, is new.
        same = pending.request if pending.tried else None
        request = make_request(
            plan.method,
            plan.uri,
            from_=plan.from_,
            to=plan.to,
            call_id=plan.call_id,
            cseq=plan.next_cseq() if same is None else same.cseq.number,
            routes=plan.routes,
            contact=plan.contact(flow) if plan.contact is not None else "",
            headers=plan.headers,
            body=body,
            content_type=plan.content_type if body else "",
            user_agent=self._user_agent,
        )
        if plan.digest is not None:
            plan.digest.apply(request)
        if plan.agreement is not None:
            plan.agreement.apply(request)
        self._transmit(pending, request, flow, now)

    def _transmit(self, pending: UacRequest, request: Request, flow: Flow, now: float) -> None:
        """Sends a built request; one that is too long for a datagram over TCP, if its server takes that (§18.1.1)."""
        server = flow.remote
        if flow.reliable or _size(request) <= MAX_UDP_REQUEST or self._udp_only.get(server, now) > now:
            self._send(pending, request, flow, now)
            return
        pending.transaction = None
        self._flows.want_flow(
            Target(server[0], server[1], "tcp"),
            None,
            lambda ready, at: self._send_over_tcp(pending, request, ready, at),
            lambda detail, at: self._send_long(pending, request, flow, at),
        )

    def _send_over_tcp(self, pending: UacRequest, request: Request, flow: Flow, now: float) -> None:
        if pending.plan.contact is not None:
            request.headers.set("Contact", pending.plan.contact(flow))
        self._send(pending, request, flow, now)

    def _send_long(self, pending: UacRequest, request: Request, flow: Flow, now: float) -> None:
        """The server takes no TCP: fragments are better than nothing (§18.1.1), for a while without asking again."""
        if len(self._udp_only) >= MAX_REMEMBERED:
            self._udp_only.clear()
        self._udp_only[flow.remote] = now + UDP_ONLY
        self._send(pending, request, flow, now)

    def _send(self, pending: UacRequest, request: Request, flow: Flow, now: float) -> None:
        if pending.cancelled:
            self._fail(pending, UacFailure("cancelled", "Cancelled before it was sent"), now)
            return
        pending.request = request
        pending.flow = flow
        try:
            pending.transaction = self._layer.send_request(request, flow, _Responses(self, pending), now)
        except ValueError as error:
            # A display name or the like with a line break: whoever waits for an answer shall not wait for ever.
            self._fail(pending, UacFailure("transport", f"{request.method} cannot be sent: {error}"), now)

    def respond(self, pending: UacRequest, response: Response, now: float) -> None:
        """A response arrived in the request's current transaction."""
        if pending.plan.seen is not None and pending.flow is not None:
            pending.plan.seen(pending.flow, response.via)
        if pending.plan.agreement is not None and pending.plan.method == "REGISTER":
            pending.plan.agreement.learn(response)  # others answer the other requests
        if response.status < 200:
            pending.handler.on_provisional(pending, response, now)
            return
        if self._answers_challenge(pending, response, now):
            return
        if response.status < 300 and pending.plan.digest is not None and pending.request is not None:
            pending.plan.digest.accepted(pending.request, response)
        if response.status == 503 and self._fails_over(
            pending, lambda at: self._finish(pending, response, at), rest=retry_after(response) or 0.0
        ):
            return
        self._finish(pending, response, now)

    def _finish(self, pending: UacRequest, response: Response, now: float) -> None:
        if pending.done and response.status >= 300:
            return
        pending.done = True
        pending.handler.on_final(pending, response, now)

    def _fails_over(self, pending: UacRequest, give_up: Callable[[float], None], *, rest: float = 0.0) -> bool:
        """Whether the request goes to the next server of its target (RFC 3263 §4.3): the one it went to is silent,
        unreachable, or overloaded. ``give_up`` is called later where there is no next one.

        What was answered with a provisional response is not sent elsewhere after a failure: it may ring there.
        """
        flow, transaction = pending.flow, pending.transaction
        if pending.cancelled or flow is None or transaction is None or len(pending.tried) >= MAX_SERVERS:
            return False
        if is_address(pending.plan.target.host):  # no name, no other server
            return False
        pending.tried = (*pending.tried, flow)
        pending.transaction = None
        self._flows.want_flow(
            pending.plan.target,
            None,
            lambda ready, at: self._start(pending, ready, at),
            lambda detail, at: give_up(at),
            pending.tried,
            rest,
        )
        return True

    def _answers_challenge(self, pending: UacRequest, response: Response, now: float) -> bool:
        digest, sent, flow = pending.plan.digest, pending.request, pending.flow
        if response.status not in (401, 407) or digest is None or sent is None or flow is None:
            return False
        if pending.cancelled or pending.challenges >= MAX_CHALLENGES:
            return False
        again = sent.copy()
        again.headers.remove("Via")
        transaction = pending.transaction
        if not digest.answer(again, response, repeated=transaction is not None and transaction.repeated):
            pending.unanswered = digest.refusal
            return False
        if pending.plan.agreement is not None:
            pending.plan.agreement.apply(again)
        pending.challenges += 1
        pending.transaction = None
        # Some servers close the connection that they sent a challenge on.
        self._flows.want_flow(
            pending.plan.target,
            flow,
            lambda ready, at: self._send_again(pending, again, ready, at),
            lambda detail, at: self._fail(pending, UacFailure("resolve", detail), at),
        )
        return True

    def _send_again(self, pending: UacRequest, again: Request, flow: Flow, now: float) -> None:
        if pending.cancelled:
            self._fail(pending, UacFailure("cancelled", "Cancelled before it was sent again"), now)
            return
        again.headers.set("CSeq", f"{pending.plan.next_cseq()} {again.method}")
        if pending.plan.contact is not None:  # the challenge may have told of a NAT
            again.headers.set("Contact", pending.plan.contact(flow))
        self._transmit(pending, again, flow, now)

    def fail(self, pending: UacRequest, failure: TransactionFailure, now: float) -> None:
        """The request's current transaction ended without a final response."""
        if failure is TransactionFailure.TIMEOUT:
            told = UacFailure("timeout", f"No answer to {pending.plan.method}")
        elif self._tries_again(pending):
            return
        else:
            told = UacFailure("transport", self._not_sent(pending))
        heard = pending.transaction is not None and pending.transaction.last_provisional is not None
        if heard or not self._fails_over(pending, lambda at: self._fail(pending, told, at)):
            self._fail(pending, told, now)

    def _not_sent(self, pending: UacRequest) -> str:
        flow = pending.flow
        where = f"{flow.remote[0]}:{flow.remote[1]}" if flow is not None else "the server"
        why = f": {self._lost[1]}" if self._lost is not None and self._lost[0] == flow and self._lost[1] else ""
        return f"Sending {pending.plan.method} to {where} failed{why}"

    def _tries_again(self, pending: UacRequest) -> bool:
        """A connection kept from before may have died unseen (a restarted proxy, a NAT that forgot it): found out by
        writing to it, and worth one new connection. What was answered, if only with a 100, did arrive."""
        flow, transaction = pending.flow, pending.transaction
        if flow is None or not flow.reliable or flow != pending.plan.flow or pending.tried_again or pending.cancelled:
            return False
        if transaction is None or transaction.last_provisional is not None:
            return False
        pending.tried_again = True
        pending.transaction = None
        self._flows.want_flow(
            pending.plan.target,
            None,
            lambda ready, at: self._start(pending, ready, at),
            lambda detail, at: self._fail(pending, UacFailure("resolve", detail), at),
        )
        return True

    def _fail(self, pending: UacRequest, failure: UacFailure, now: float) -> None:
        if pending.done:
            return
        pending.done = True
        pending.handler.on_failure(pending, failure, now)


def _size(request: Request) -> int:
    """Bytes on the wire, about."""
    fields = sum([len(name) + len(value) + 4 for _, name, value in request.headers.lines])
    return len(request.method) + len(str(request.uri)) + 14 + fields + len(request.body) + VIA


class _Responses:
    """Joins one client transaction to its request; one that was superseded after a challenge is not heard any more."""

    __slots__ = ("_pending", "_uac")

    def __init__(self, uac: Uac, pending: UacRequest) -> None:
        self._uac = uac
        self._pending = pending

    def on_response(self, transaction: ClientTransaction, response: Response, now: float) -> None:
        if self._pending.transaction is transaction:
            self._uac.respond(self._pending, response, now)

    def on_failure(self, transaction: ClientTransaction, failure: TransactionFailure, now: float) -> None:
        if self._pending.transaction is transaction:
            self._uac.fail(self._pending, failure, now)
