"""Matches messages to transactions and owns them (RFC 3261 §17.1.3, §17.2.3, §18, RFC 3581, §8.2.2.2, §9)."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, cast

from sipcore.protocol.builder import make_cancel, make_response
from sipcore.protocol.deadlines import Deadlines
from sipcore.protocol.ids import MAGIC_COOKIE
from sipcore.protocol.transaction import ClientTransaction, ServerTransaction, Transaction
from sipcore.protocol.transaction_tables import Input, State, Timer
from sipcore.protocol.values import split_list
from sipcore.protocol.wire import Request, Response, serialize

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from sipcore.config import Timers
    from sipcore.protocol.flows import Flow
    from sipcore.protocol.ids import Ids
    from sipcore.protocol.transaction import ClientHandler, TransactionFailure

__all__ = ["TransactionLayer", "TransactionUser"]

log = logging.getLogger(__name__)

MAX_SERVER_TRANSACTIONS = 20_000
"""Requests beyond get a stateless 503; at 500 calls a second and 32 s of timer L about 16,000 are alive."""
TRYING_AFTER = 0.2
"""A TU that has not answered an INVITE by then has 100 sent for it (§17.2.1), seconds."""

_EMPTY_RPORT = re.compile(r";[ \t]*rport[ \t]*(?==?[ \t]*(?:;|\Z))=?", re.IGNORECASE)
_TRYING = "100"


class TransactionUser(Protocol):
    """The core above the transactions (§8)."""

    def on_request(self, transaction: ServerTransaction, request: Request, now: float) -> None:
        """A new request, neither ACK nor CANCEL."""

    def on_ack(self, request: Request, flow: Flow, now: float) -> None:
        """An ACK that belongs to no failure response: that of a 2xx (§13.3.1.4)."""

    def on_cancel(self, transaction: ServerTransaction, cancel: Request, now: float) -> None:
        """A CANCEL for an INVITE without final response; the CANCEL itself was answered (§9.2)."""

    def on_stray_response(self, response: Response, flow: Flow, now: float) -> None:
        """A response that no transaction waits for (§18.1.2)."""

    def on_server_timeout(self, transaction: ServerTransaction, now: float) -> None:
        """Timer H: no ACK came for a failure response."""


class TransactionLayer:
    """All transactions of one user agent. ``transmit`` takes what is to be sent, in order."""

    def __init__(
        self, *, user: TransactionUser, transmit: Callable[[Flow, bytes], None], timers: Timers, ids: Ids
    ) -> None:
        self.timers = timers
        self.transmit = transmit
        self.deadlines: Deadlines[Hashable] = Deadlines()
        self._user = user
        self._ids = ids
        self._clients: dict[Hashable, ClientTransaction] = {}
        self._servers: dict[Hashable, ServerTransaction] = {}
        self._merging: dict[tuple[str, str, int, str], ServerTransaction] = {}

    @property
    def active_count(self) -> int:
        """Transactions that are not over."""
        return len(self._clients) + len(self._servers)

    # -- the TU's wishes -------------------------------------------------------------------------------------------

    def send_request(self, request: Request, flow: Flow, handler: ClientHandler, now: float) -> ClientTransaction:
        """Sends a request other than ACK and CANCEL in a transaction of its own; puts the top Via on it."""
        branch = self._ids.branch()
        request.headers.prepend("Via", _via(flow, branch))
        transaction = ClientTransaction(self, (branch, request.method), request, flow, handler)
        self._clients[transaction.key] = transaction
        transaction.start(now)
        return transaction

    def send_stateless(self, request: Request, flow: Flow) -> bytes:
        """Sends an ACK to a 2xx: a branch of its own, no transaction (§13.2.2.4). Returns its bytes, to be sent again."""
        request.headers.prepend("Via", _via(flow, self._ids.branch()))
        data = serialize(request)
        self.transmit(flow, data)
        return data

    def cancel(
        self, transaction: ClientTransaction, now: float, *, headers: tuple[tuple[str, str], ...] = ()
    ) -> None:
        """Cancels an INVITE (§9.1): at once in Proceeding, after the first provisional in Calling, else not at all."""
        if not transaction.is_invite or transaction.cancel_wanted:
            return
        if transaction.state is State.CALLING:
            transaction.cancel_wanted = True
            transaction.cancel_headers = headers
        elif transaction.state is State.PROCEEDING:
            transaction.cancel_wanted = True
            self._send_cancel(transaction, headers, now)

    def _send_cancel(
        self, transaction: ClientTransaction, headers: tuple[tuple[str, str], ...], now: float
    ) -> None:
        cancel = make_cancel(transaction.request, headers)
        key = (transaction.request.via.branch, "CANCEL")
        client = ClientTransaction(self, key, cancel, transaction.flow, _Unheard())
        self._clients[key] = client
        client.start(now)
        # §9.1: without a final response within 64*T1 the INVITE counts as cancelled.
        transaction.start_timer(Timer.B, now, seconds=self.timers.timeout)

    def respond(self, transaction: ServerTransaction, response: Response, now: float) -> None:
        """Sends a response; a 2xx to INVITE may be sent again and again (RFC 6026 §8.7)."""
        if transaction.terminated:
            return
        self.deadlines.cancel((transaction, _TRYING))
        transaction.respond(response, now)

    def abandon(self, transaction: ClientTransaction) -> None:
        """Nobody wants to hear of it any more; it still absorbs retransmissions."""
        transaction.handler = None

    # -- in --------------------------------------------------------------------------------------------------------

    def receive(self, message: Request | Response, flow: Flow, now: float) -> None:
        """A message arrived."""
        if isinstance(message, Response):
            self._receive_response(message, flow, now)
        else:
            self._receive_request(message, flow, now)

    def _receive_response(self, response: Response, flow: Flow, now: float) -> None:
        transaction = self._clients.get((response.via.branch, response.cseq.method))
        if transaction is None:
            self._user.on_stray_response(response, flow, now)
            return
        transaction.on_response(response, now)
        if transaction.cancel_wanted and transaction.state is State.PROCEEDING and Timer.B not in transaction.running:
            self._send_cancel(transaction, transaction.cancel_headers, now)

    def _receive_request(self, request: Request, flow: Flow, now: float) -> None:
        reply_flow = _mark_source(request, flow)
        if request.method == "ACK":
            self._receive_ack(request, flow, now)
            return
        key = _server_key(request, request.method)
        transaction = self._servers.get(key)
        if transaction is not None:
            transaction.feed(Input.REQUEST, now, request)
            return
        if len(self._servers) >= MAX_SERVER_TRANSACTIONS:
            busy = make_response(request, 503, to_tag=self._ids.tag(), headers=(("Retry-After", "5"),))
            self.transmit(reply_flow, serialize(busy))
            return
        transaction = ServerTransaction(self, key, request, flow, reply_flow)
        self._servers[key] = transaction
        if request.method == "CANCEL":
            self._receive_cancel(transaction, request, now)
            return
        if not request.to_tag:
            merge_key = _merge_key(request)
            if merge_key in self._merging:
                self.respond(transaction, make_response(request, 482, to_tag=self._ids.tag()), now)
                return
            self._merging[merge_key] = transaction
        if transaction.is_invite:
            self.deadlines.set((transaction, _TRYING), now + TRYING_AFTER)
        self._user.on_request(transaction, request, now)

    def _receive_ack(self, request: Request, flow: Flow, now: float) -> None:
        transaction = self._servers.get(_server_key(request, "INVITE"))
        if transaction is None:
            self._user.on_ack(request, flow, now)
        else:
            transaction.feed(Input.ACK, now, request)

    def _receive_cancel(self, transaction: ServerTransaction, cancel: Request, now: float) -> None:
        invite = self._servers.get(_server_key(cancel, "INVITE"))
        if invite is None:
            self.respond(transaction, make_response(cancel, 481, to_tag=self._ids.tag()), now)
            return
        self.respond(transaction, make_response(cancel, 200, to_tag=self._ids.tag()), now)
        if invite.state is State.PROCEEDING:
            self._user.on_cancel(invite, cancel, now)

    def transport_failed(self, flow: Flow, now: float) -> None:
        """The flow is gone (§18.4): what waits on it hears so now."""
        waiting: list[Transaction] = [each for each in self._clients.values() if each.flow == flow]
        waiting += [each for each in self._servers.values() if each.reply_flow == flow]
        for transaction in waiting:
            transaction.feed(Input.TRANSPORT_ERROR, now)

    def handle_timer(self, now: float) -> None:
        """Fires what is due."""
        for key in self.deadlines.pop_due(now):
            transaction, timer = cast("tuple[Transaction, Timer | str]", key)
            if isinstance(timer, Timer):
                transaction.on_timer(timer, now)
            elif isinstance(transaction, ServerTransaction) and not transaction.last_status:
                transaction.respond(make_response(transaction.request, 100), now)

    def next_deadline(self) -> float | None:
        """When :meth:`handle_timer` wants to be called next."""
        return self.deadlines.next()

    # -- TransactionHost -------------------------------------------------------------------------------------------

    def forget(self, transaction: Transaction) -> None:
        """See :class:`~sipcore.protocol.transaction.TransactionHost`."""
        if isinstance(transaction, ServerTransaction):
            self.deadlines.cancel((transaction, _TRYING))
            self._servers.pop(transaction.key, None)
            merge_key = _merge_key(transaction.request)
            if self._merging.get(merge_key) is transaction:
                del self._merging[merge_key]
        else:
            self._clients.pop(transaction.key, None)

    def pass_ack(self, transaction: ServerTransaction, ack: Request, now: float) -> None:
        """See :class:`~sipcore.protocol.transaction.TransactionHost`."""
        self._user.on_ack(ack, transaction.flow, now)

    def server_timed_out(self, transaction: ServerTransaction, now: float) -> None:
        """See :class:`~sipcore.protocol.transaction.TransactionHost`."""
        self._user.on_server_timeout(transaction, now)


class _Unheard:
    """The handler of CANCEL: its answer changes nothing, the INVITE's does (§9.1)."""

    def on_response(self, transaction: ClientTransaction, response: Response, now: float) -> None:
        """Not needed."""

    def on_failure(self, transaction: ClientTransaction, failure: TransactionFailure, now: float) -> None:
        """Not needed."""


def _via(flow: Flow, branch: str) -> str:
    """A Via of ours (§18.1.1); over UDP it asks for the response to come back the way it went (RFC 3581 §3)."""
    host, port = flow.advertised
    where = f"[{host}]" if ":" in host else host
    rport = "" if flow.reliable else ";rport"
    return f"SIP/2.0/{flow.transport.upper()} {where}:{port}{rport};branch={branch}"


def _mark_source(request: Request, flow: Flow) -> Flow:
    """Writes where a request came from into its top Via and returns where its responses go (§18.2.1-2, RFC 3581 §4)."""
    via = request.via
    host, port = flow.remote
    asked = "rport" in via.params
    if not (asked or via.host != host):
        return flow if flow.reliable else replace(flow, remote=(host, via.port or 5060))
    lines = request.headers.get_all("Via")
    values = split_list(lines[0])
    top = _EMPTY_RPORT.sub(f";rport={port}", values[0], count=1) if asked else values[0]
    if "received" not in via.params:
        top += f";received={host}"
    request.headers.set("Via", ", ".join([top, *values[1:]]))
    for line in lines[1:]:
        request.headers.add("Via", line)
    return flow if asked or flow.reliable else replace(flow, remote=(host, via.port or 5060))


def _server_key(request: Request, method: str) -> Hashable:
    """§17.2.3: branch, sent-by and method, or what RFC 2543 matched by where the branch has no magic cookie."""
    via = request.via
    if via.branch.startswith(MAGIC_COOKIE) and len(via.branch) > len(MAGIC_COOKIE):
        return (via.branch, via.sent_by, method)
    return (str(request.uri), request.from_tag, request.call_id, request.cseq.number, via.sent_by, via.branch, method)


def _merge_key(request: Request) -> tuple[str, str, int, str]:
    return (request.from_tag, request.call_id, request.cseq.number, request.method)
