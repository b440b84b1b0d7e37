"""Requests outside of any dialog that make none: MESSAGE both ways, OPTIONS of ours (RFC 3261 §8, §11, RFC 3428)."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Protocol

from sipcore.protocol.exchange import Exchange
from sipcore.protocol.messages import message_of, refusal_of_body
from sipcore.protocol.stack_events import MessageArrived
from sipcore.protocol.uac import RequestPlan

if TYPE_CHECKING:
    from sipcore.protocol.ids import Ids
    from sipcore.protocol.line import Line
    from sipcore.protocol.stack_events import StackEvent
    from sipcore.protocol.transaction import ServerTransaction
    from sipcore.protocol.uac import UacCore
    from sipcore.protocol.values import Uri
    from sipcore.protocol.wire import Request

__all__ = ["Standalone"]


class _Core(Protocol):
    """The stack, as seen from here."""

    ids: Ids
    uac: UacCore

    def exchanged(self, exchange: Exchange) -> None:
        """Queues for the shell that a request of ours has its outcome."""

    def tell(self, event: StackEvent) -> None:
        """Queues an event for the shell."""

    def respond(
        self,
        transaction: ServerTransaction,
        status: int,
        now: float,
        *,
        reason: str = "",
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        """Answers a request outside of any dialog."""


class Standalone:
    """What a stack says and hears beside its calls and registrations."""

    def __init__(self, core: _Core) -> None:
        self._core = core

    def send(
        self,
        line: Line,
        method: str,
        uri: Uri,
        *,
        headers: tuple[tuple[str, str], ...] = (),
        body: bytes = b"",
        content_type: str = "",
        contact: bool = False,
        now: float,
    ) -> Exchange:
        """Sends a request (RFC 3261 §8.1); its outcome is an event,
        :class:`~sipcore.protocol.stack_events.ExchangeDone`."""
        core = self._core
        exchange = Exchange(method, str(uri), lambda done, at: core.exchanged(done))
        numbers = itertools.count(core.ids.cseq())
        core.uac.send(
            RequestPlan(
                method=method,
                uri=uri,
                from_=f"{line.identity.address};tag={core.ids.tag()}",
                to=f"<{uri}>",
                call_id=core.ids.call_id(),
                next_cseq=lambda: next(numbers),
                target=line.target(uri),
                routes=line.routes,
                contact=line.identity.contact if contact else None,
                headers=headers,
                body=body,
                content_type=content_type,
                digest=line.digest,
                agreement=line.agreement,
            ),
            exchange,
            now,
        )
        return exchange

    def on_message(self, line: Line | None, transaction: ServerTransaction, request: Request, now: float) -> None:
        """RFC 3428 §7: 200 says that it was delivered to the application, 404 that nobody of that name is here."""
        refusal = refusal_of_body(request)
        if line is None:
            self._core.respond(transaction, 404, now)
        elif refusal is not None:
            self._core.respond(transaction, refusal[0], now, headers=refusal[1])
        else:
            self._core.respond(transaction, 200, now)
            self._core.tell(MessageArrived(line, message_of(request)))
