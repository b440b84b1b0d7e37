"""Which message belongs to which transaction (RFC 3261 §17.1.3, §17.2.3), and the little that is left around them.

The layer puts on and reads Via, answers what no transaction user has to see (retransmissions, CANCEL without a
transaction, merged requests), and keeps the timers of all transactions in one heap.
"""

from __future__ import annotations

import ipaddress
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from sipcore.protocol.builder import make_response
from sipcore.protocol.deadlines import Deadlines
from sipcore.protocol.ids import has_cookie
from sipcore.protocol.sources import peer_of
from sipcore.protocol.transaction import ClientTransaction, ServerTransaction, Transaction
from sipcore.protocol.wire import Request, serialize

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sipcore.config import Timers
    from sipcore.protocol.flows import Flow
    from sipcore.protocol.ids import Ids
    from sipcore.protocol.transaction import ClientHandler, TransactionUser
    from sipcore.protocol.transaction_tables import Timer
    from sipcore.protocol.values import Via
    from sipcore.protocol.wire import Response

__all__ = ["MAX_SERVER_TRANSACTIONS", "TransactionLayer"]

log = logging.getLogger(__name__)

MAX_SERVER_TRANSACTIONS = 100_000
"""Beyond it every new request gets a stateless 503. What is between this and ``Limits.transactions`` is kept for
requests of calls that are up."""

_DEFAULT_PORT, _DEFAULT_TLS_PORT = 5060, 5061

ClientKey = tuple[str, str]
"""Branch and method (RFC 3261 §17.1.3)."""
ServerKey = tuple[str, ...]
"""Branch, sent-by and method; for RFC 2543 peers what §17.2.3 has them compared by. An ACK has its INVITE's."""
MergeKey = tuple[str, str, str]
"""Call-ID, From tag and CSeq (§8.2.2.2)."""


class TransactionLayer:
    """All transactions of a user agent.

    Args:
        user: who answers requests.
        transmit: sends bytes on a flow; it may only queue them, and reports errors later by :meth:`transport_failed`.
        timers: the base timers.
        ids: where branches and tags come from.
    """

    def __init__(
        self, *, user: TransactionUser, transmit: Callable[[Flow, bytes], None], timers: Timers, ids: Ids
    ) -> None:
        self.user = user
        self.timers = timers
        self.deadlines: Deadlines[tuple[Transaction, Timer]] = Deadlines()
        self._transmit = transmit
        self._ids = ids
        self._clients: dict[ClientKey, ClientTransaction] = {}
        self._clients_by_flow: dict[Flow, dict[ClientTransaction, None]] = {}
        self._servers: dict[ServerKey, ServerTransaction] = {}
        self._merges: dict[MergeKey, ServerTransaction] = {}
        self._served: dict[str, int] = {}
        """Server transactions by peer."""

    # -- sending ---------------------------------------------------------------------------------------------------

    def send_request(self, request: Request, flow: Flow, handler: ClientHandler, now: float) -> ClientTransaction:
        """Puts the top Via on ``request`` (§8.1.1.7, §18.1.1) and sends it in a new client transaction.

        ``handler`` is never called before this returns.

        Raises:
            ValueError: a header field holds CR, LF or NUL.
        """
        return self._begin(request, self._put_via(request, flow), flow, handler, now)

    def send_stateless(self, message: Request, flow: Flow) -> bytes:
        """Puts the top Via on an ACK to a 2xx and sends it once: it is no transaction (§13.2.2.4, §17.1).

        Returns:
            The bytes, to be given to :meth:`transmit` again for each copy of the 2xx.

        Raises:
            ValueError: a header field holds CR, LF or NUL.
        """
        self._put_via(message, flow)
        data = serialize(message)
        self.transmit(flow, data)
        return data

    def cancel(self, transaction: ClientTransaction, now: float, *, headers: Sequence[tuple[str, str]] = ()) -> None:
        """Cancels an INVITE (§9.1): the CANCEL is held until a provisional response came; none once a final one did.

        64*T1 after the CANCEL, if no final response came, the INVITE fails with a timeout.
        """
        transaction.cancel(now, headers)

    def respond(self, transaction: ServerTransaction, response: Response, now: float) -> None:
        """Sends a response. A 2xx to INVITE may be given again to retransmit it; a second final is discarded.

        Raises:
            ValueError: a header field holds CR, LF or NUL.
        """
        transaction.respond(response, now)

    def refuse(self, request: Request, status: int, flow: Flow, headers: Sequence[tuple[str, str]] = ()) -> None:
        """Answers a request that was found malformed, without a transaction (§8.2, §8.2.7)."""
        if request.method != "ACK":
            self._refuse(request, status, _stamp(request, flow), headers)

    def _refuse(self, request: Request, status: int, reply_flow: Flow, headers: Sequence[tuple[str, str]]) -> None:
        refusal = make_response(request, status, to_tag=self._ids.tag(), headers=headers)
        self.transmit(reply_flow, serialize(refusal))

    def hand_over(self, transaction: ClientTransaction, handler: ClientHandler) -> None:
        """``handler`` is told of what comes for ``transaction`` from now on, instead of who has sent its request."""
        transaction.hand_over(handler)

    def abandon(self, transaction: Transaction) -> None:
        """Nobody is told any more of ``transaction``, which goes on to absorb retransmissions until it ends."""
        transaction.abandoned = True

    def transmit(self, flow: Flow, data: bytes) -> None:
        """Sends bytes outside of any transaction."""
        self._transmit(flow, data)

    # -- receiving -------------------------------------------------------------------------------------------------

    def receive(self, message: Request | Response, flow: Flow, now: float) -> None:
        """A message arrived on ``flow``."""
        if isinstance(message, Request):
            self._receive_request(message, flow, now)
        else:
            self._receive_response(message, flow, now)

    def _receive_response(self, response: Response, flow: Flow, now: float) -> None:
        via = response.via
        transaction = self._clients.get((via.branch, response.cseq.method))
        if transaction is None:
            self.user.on_stray_response(response, flow, now)
        elif not _sent_by_us(via, transaction.flow):
            log.debug("dropped a %s: its Via names %s, not this side (RFC 3261 §18.1.2)", response.status, via.sent_by)
        elif response.via_count > 1:
            log.debug("dropped a %s that has further to go (RFC 3261 §8.1.3.3)", response.status)
        else:
            transaction.on_response(response, now)

    def _receive_request(self, request: Request, flow: Flow, now: float) -> None:
        key = _server_key(request)
        reply_flow = _stamp(request, flow)
        transaction = self._servers.get(key)
        if request.method == "ACK":
            self._receive_ack(transaction, request, flow, now)
        elif transaction is not None:
            transaction.on_request(now)
        elif len(self._servers) >= MAX_SERVER_TRANSACTIONS:
            self._refuse(request, 503, reply_flow, (("Retry-After", "5"),))
        else:
            self._serve(key, ServerTransaction(self, request, flow, reply_flow, now), now)

    def _receive_ack(self, transaction: ServerTransaction | None, ack: Request, flow: Flow, now: float) -> None:
        """An ACK to a failure response is its INVITE transaction's; any other is the TU's (§17.2.1, §13.3.1.4)."""
        is_ours = transaction is not None and (has_cookie(ack.via.branch) or ack.to_tag == transaction.to_tag)
        if transaction is not None and is_ours:
            transaction.on_ack(ack, now)
        else:
            self.user.on_ack(ack, flow, now)

    def _serve(self, key: ServerKey, transaction: ServerTransaction, now: float) -> None:
        request = transaction.request
        transaction.key = key
        self._servers[key] = transaction
        peer = peer_of(transaction.flow.remote[0])
        self._served[peer] = self._served.get(peer, 0) + 1
        if request.method == "CANCEL":
            self._receive_cancel(key, transaction, now)
            return
        if not request.to_tag:
            merge_key = _merge_key(request)
            if merge_key in self._merges:
                # The same request on another path: only the first is for the TU (§8.2.2.2).
                transaction.respond(make_response(request, 482, to_tag=self._ids.tag()), now)
                return
            self._merges[merge_key] = transaction
        self.user.on_request(transaction, request, now)

    def _receive_cancel(self, key: ServerKey, transaction: ServerTransaction, now: float) -> None:
        """A new CANCEL (§9.2): answered here, since only the transaction to be cancelled knows what it is about."""
        cancel = transaction.request
        invite = self._servers.get((*key[:-1], "INVITE"))
        if invite is None:
            transaction.respond(make_response(cancel, 481, to_tag=self._ids.tag()), now)
            return
        transaction.respond(make_response(cancel, 200, to_tag=invite.to_tag or self._ids.tag()), now)
        if invite.last_status < 200 and not invite.abandoned:
            self.user.on_cancel(invite, cancel, now)

    # -- time and failure ------------------------------------------------------------------------------------------

    def handle_timer(self, now: float) -> None:
        """Fires every timer that is due at ``now``."""
        # One at a time: what one timer does may stop the next.
        while (due := self.deadlines.pop_next(now)) is not None:
            transaction, timer = due
            transaction.on_timer(timer, now)

    def next_deadline(self) -> float | None:
        """When :meth:`handle_timer` wants to be called."""
        return self.deadlines.next()

    def transport_failed(self, flow: Flow, now: float) -> None:
        """A flow is dead: each client transaction that waits on it fails (§17.1.4).

        Server transactions stay: their client may retransmit on another flow (RFC 6026 §8.8).
        """
        for transaction in tuple(self._clients_by_flow.get(flow, ())):
            transaction.on_transport_error(now)

    @property
    def active_count(self) -> int:
        """Transactions that have not ended yet."""
        return len(self._clients) + len(self._servers)

    def knows(self, request: Request) -> bool:
        """Whether a request is a retransmission, or the CANCEL, of one that is served."""
        key = _server_key(request)
        return key in self._servers or (request.method == "CANCEL" and (*key[:-1], "INVITE") in self._servers)

    def load(self, peer: str) -> tuple[int, int]:
        """Server transactions that have not ended yet: in all, and those of one peer."""
        return len(self._servers), self._served.get(peer, 0)

    # -- TransactionContext ----------------------------------------------------------------------------------------

    def send_cancel(self, cancel: Request, flow: Flow, now: float) -> None:
        """See :class:`~sipcore.protocol.transaction.TransactionContext`."""
        # What answers the CANCEL says nothing of the INVITE, whose own final response is awaited (§9.1).
        self._begin(cancel, cancel.via.branch, flow, None, now)

    def forget(self, transaction: Transaction) -> None:
        """See :class:`~sipcore.protocol.transaction.TransactionContext`."""
        if isinstance(transaction, ClientTransaction):
            del self._clients[transaction.branch, transaction.method]
            siblings = self._clients_by_flow[transaction.flow]
            del siblings[transaction]
            if not siblings:
                del self._clients_by_flow[transaction.flow]
            return
        assert isinstance(transaction, ServerTransaction)
        del self._servers[transaction.key]
        peer = peer_of(transaction.flow.remote[0])
        self._served[peer] -= 1
        if not self._served[peer]:
            del self._served[peer]
        merge_key = _merge_key(transaction.request)
        if self._merges.get(merge_key) is transaction:
            del self._merges[merge_key]

    def _begin(
        self, request: Request, branch: str, flow: Flow, handler: ClientHandler | None, now: float
    ) -> ClientTransaction:
        transaction = ClientTransaction(self, request, branch, flow, handler, now)
        self._clients[branch, request.method] = transaction
        self._clients_by_flow.setdefault(flow, {})[transaction] = None
        return transaction

    def _put_via(self, request: Request, flow: Flow) -> str:
        """Returns the branch."""
        branch = self._ids.branch()
        host, port = _sent_by(flow)
        bracketed = f"[{host}]" if ":" in host else host
        # RFC 3581: over UDP the response shall come back to the port that the request left from. Over streams it does
        # so anyway; there the answer tells of a NAT, which a registration has to know (RFC 5626 §3.1).
        rport = ";rport"
        request.headers.prepend("Via", f"SIP/2.0/{flow.transport.upper()} {bracketed}:{port};branch={branch}{rport}")
        return branch


def _sent_by(flow: Flow) -> tuple[str, int]:
    """What Via says of where this side is."""
    return flow.advertised if flow.advertised[0] else flow.local


def _stamp(request: Request, flow: Flow) -> Flow:
    """Marks the top Via with the source (§18.2.1, RFC 3581 §4).

    Returns:
        Where responses go (§18.2.2): reliable transports, the same connection; UDP, the source address, and the source
        port where ``rport`` asks for it, else the port of sent-by. ``maddr`` is not followed: a request could point
        responses at a third party with it, and multicast (its purpose) is not spoken here.
    """
    via = request.via
    host, port = flow.remote
    wants_rport = "rport" in via.params and flow.transport == "udp"
    received = host if wants_rport or not _same_host(via.host, host) else None
    request.stamp_via(received=received, rport=port if wants_rport else None)
    if flow.reliable or wants_rport:
        return flow
    return replace(flow, remote=(host, via.port or _DEFAULT_PORT))


def _same_host(one: str, other: str) -> bool:
    if one == other:
        return True
    try:
        return ipaddress.ip_address(one) == ipaddress.ip_address(other)
    except ValueError:
        return False


def _sent_by_us(via: Via, flow: Flow) -> bool:
    host, port = _sent_by(flow)
    default = _DEFAULT_TLS_PORT if via.transport == "TLS" else _DEFAULT_PORT
    return (via.port or default) == port and _same_host(via.host, host.lower())


def _server_key(request: Request) -> ServerKey:
    """What a request's server transaction is found by (§17.2.3), to be asked before Via is stamped: behind an open
    quote the stamp would become a part of the branch."""
    method = "INVITE" if request.method == "ACK" else request.method
    via = request.via
    if has_cookie(via.branch):
        return (via.branch, via.sent_by, method)
    cseq = str(request.cseq.number)
    where = f"{via.transport} {via.sent_by} {via.branch}"
    return (str(request.uri), request.from_tag, request.call_id, cseq, where, method)


def _merge_key(request: Request) -> MergeKey:
    return (request.call_id, request.from_tag, str(request.cseq))
