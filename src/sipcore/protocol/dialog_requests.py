"""INFO and MESSAGE inside a session's dialog, both directions (RFC 6086, RFC 3428), and OPTIONS to see who is there."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from sipcore.errors import CallTimeout
from sipcore.events import DtmfReceived, EndCause, InfoReceived, Party
from sipcore.protocol.builder import extension_headers
from sipcore.protocol.exchange import Exchange
from sipcore.protocol.info import DTMF, DTMF_RELAY, keys_of
from sipcore.protocol.messages import message_of, refusal_of_body
from sipcore.protocol.params import legible
from sipcore.protocol.session_events import SessionEnded, SessionHeard

if TYPE_CHECKING:
    from sipcore.protocol.invite_session import InviteSession
    from sipcore.protocol.transaction import ServerTransaction
    from sipcore.protocol.wire import Request

__all__ = ["DialogRequests"]

UNREACHED = 2
"""Questions in a row that could not even be sent, after which a far end is taken for gone: a proxy may restart."""


class DialogRequests:
    """Requests of a dialog that change nothing in it."""

    def __init__(self, session: InviteSession) -> None:
        self._session = session
        self._unreached = 0

    # -- ours ------------------------------------------------------------------------------------------------------

    def send(
        self, method: str, content_type: str, body: bytes, headers: tuple[tuple[str, str], ...], now: float
    ) -> Exchange:
        """Sends a request; its outcome is an event of the stack."""
        exchange = Exchange(method, self._session.peer, self._on_outcome)
        self._session.request(method, exchange, now, headers=headers, body=body, content_type=content_type)
        return exchange

    def _on_outcome(self, exchange: Exchange, now: float) -> None:
        """RFC 3261 §12.2.1.2: who answers 481 knows no such call."""
        session, response = self._session, exchange.response
        session.context.exchanged(exchange)
        if response is not None and response.status == 481:
            sentence = f"481 {response.reason} from {session.peer}: the far end knows no such call"
            session.break_off(SessionEnded(EndCause.HANGUP, Party.REMOTE, 481, sentence, None), now)

    def ask_for_life(self, now: float) -> None:
        """Asks whether the far end still knows the call; one that does not, or is silent, ends it (§12.2.1.2)."""
        self._session.request("OPTIONS", Exchange("OPTIONS", self._session.peer, self._on_asked), now)

    def _on_asked(self, exchange: Exchange, now: float) -> None:
        session, response, failure = self._session, exchange.response, exchange.failure
        if response is not None and response.status in (408, 481):
            session.gone("OPTIONS", response, now)
            return
        self._unreached = 0 if response is not None else self._unreached + 1
        if failure is not None and (failure.kind == "timeout" or self._unreached >= UNREACHED):
            sentence = f"{failure.detail}: the far end, on hold, is not reached any more"
            error = CallTimeout(sentence, code=408)
            session.break_off(SessionEnded(EndCause.TIMEOUT, Party.NETWORK, 408, sentence, error), now)

    # -- the peer's ------------------------------------------------------------------------------------------------

    def on_request(self, transaction: ServerTransaction, request: Request, now: float) -> None:
        """An INFO or MESSAGE; never left without a final response."""
        refusal = refusal_of_body(request)
        if refusal is not None:
            self._session.respond(transaction, refusal[0], now, headers=refusal[1])
        elif request.method == "INFO":
            self._on_info(transaction, request, now)
        else:
            self._session.respond(transaction, 200, now)
            self._session.emit(SessionHeard(message_of(request)))

    def _on_info(self, transaction: ServerTransaction, request: Request, now: float) -> None:
        """RFC 6086 §4.2.2: no Info Package of ours gets 469, a body that nobody here reads 415, all others 200."""
        session, kind = self._session, request.content_type
        if request.headers.get("Info-Package"):
            session.respond(transaction, 469, now, headers=(("Recv-Info", ""),))
            return
        if kind in (DTMF_RELAY, DTMF):
            session.respond(transaction, 200, now)
            for key, milliseconds in keys_of(kind, request.body):
                session.emit(SessionHeard(DtmfReceived(key, milliseconds, "info")))
            return
        readable = (DTMF_RELAY, DTMF, *session.context.info_types)
        if request.body and kind not in readable:
            session.respond(transaction, 415, now, headers=(("Accept", ", ".join(readable)),))
            return
        session.respond(transaction, 200, now)
        headers = MappingProxyType(extension_headers(request))
        session.emit(SessionHeard(InfoReceived(legible(kind), request.body, headers)))
