"""Requests outside of dialogs: answered, refused, or the begin of a call (RFC 3261 §8.2, §11, §13.3.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sipcore.protocol.invite_session import InviteSession
from sipcore.protocol.params import legible
from sipcore.protocol.routing import asks_for_secure_contact
from sipcore.protocol.session_context import (
    SDP,
    SUPPORTED_EXTENSIONS,
    refusal_of_method,
    takes_sdp,
    unreadable_body,
    warning,
)

if TYPE_CHECKING:
    from sipcore.protocol.stack import Stack
    from sipcore.protocol.transaction import ServerTransaction
    from sipcore.protocol.wire import Request

__all__ = ["Outside"]

_SCHEMES = ("sip", "sips", "tel")
"""Of request URIs (§8.2.2.1)."""


class Outside:
    """Takes what belongs to no dialog of a stack."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    def on_request(self, transaction: ServerTransaction, request: Request, now: float) -> None:
        """A new request without a To tag, neither ACK nor CANCEL."""
        stack = self._stack
        if request.uri.scheme not in _SCHEMES:
            stack.respond(transaction, 416, now)
            return
        if self.requires_too_much(transaction, request, now):
            return
        handler = stack.request_handlers.get(request.method)
        if handler is not None:
            response = handler(request, transaction, now)
            if response is not None:
                stack.layer.respond(transaction, response, now)
            return
        match request.method:
            case "INVITE":
                self._on_invite(transaction, request, now)
            case "OPTIONS":
                accept = ("Accept", f"{SDP}, text/plain")
                stack.respond(transaction, 200, now, headers=(accept,))
            case "MESSAGE":
                line = stack.admission.line_for(request, transaction.flow.remote[0])
                stack.standalone.on_message(line, transaction, request, now)
            case "BYE" | "UPDATE" | "NOTIFY" | "REFER" | "INFO":
                stack.respond(transaction, 481, now)
            case method:
                stack.respond(transaction, refusal_of_method(method), now)

    def _on_invite(self, transaction: ServerTransaction, request: Request, now: float) -> None:
        stack = self._stack
        unreadable = unreadable_body(request)
        if unreadable:
            stack.respond(transaction, 415, now, headers=unreadable)
            return
        if not takes_sdp(request):
            stack.respond(transaction, 406, now, headers=(warning(transaction.flow, f"Accept leaves out {SDP}"),))
            return
        line = stack.admission.line_for(request, transaction.flow.remote[0])
        if line is None:
            stack.respond(transaction, 404, now)
            return
        replaced = stack.replaced_by(request, line)
        if isinstance(replaced, int):
            stack.respond(transaction, replaced, now)
            return
        identity = line.identity_in(secure=asks_for_secure_contact(request))
        session = InviteSession(
            stack, identity, outgoing=False, call_id=request.call_id, peer=legible(str(request.from_.uri))
        )
        session.replaces = replaced
        try:
            session.as_callee(transaction)
        except ValueError:
            stack.respond(transaction, 400, now, reason="Missing Contact")
            return
        stack.take_call(session, transaction, line)

    def requires_too_much(self, transaction: ServerTransaction, request: Request, now: float) -> bool:
        """§8.2.2.3: an extension we do not have gets 420."""
        missing = [option for option in request.list_of("Require") if option not in SUPPORTED_EXTENSIONS]
        if missing:
            self._stack.respond(transaction, 420, now, headers=(("Unsupported", ", ".join(missing)),))
        return bool(missing)
