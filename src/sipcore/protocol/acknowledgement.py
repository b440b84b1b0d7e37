"""A 2xx to our INVITE and its ACK, the caller's half (RFC 3261 §13.2.2.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sipcore.protocol.builder import make_request
from sipcore.protocol.session_context import SDP
from sipcore.protocol.wire import Request, parse_message

if TYPE_CHECKING:
    from collections.abc import Callable

    from sipcore.protocol.dialog import Dialog
    from sipcore.protocol.flows import Flow
    from sipcore.protocol.session_context import SessionContext

__all__ = ["Acknowledgement"]


class Acknowledgement:
    """One ACK: a request of its own, to the far end's Contact through the route set, once for each copy of the 2xx.

    Once it has left, no more than its bytes are kept, and where they go.

    Args:
        context: the stack.
        dialog: what the 2xx made or refreshed.
        invite: as last sent; the ACK has its number and carries its credentials.
        prefer: the flow to take while it is open.
        unreachable: told each time that no flow was found; the next copy of the 2xx tries again.
        body: the answer, where the 2xx made the offer (§13.2.1).
    """

    __slots__ = ("_ack", "_context", "_flow", "_looking", "_sent", "_target", "_unreachable")

    def __init__(
        self,
        context: SessionContext,
        dialog: Dialog,
        invite: Request,
        prefer: Flow | None,
        unreachable: Callable[[float], None] | None = None,
        body: bytes = b"",
    ) -> None:
        self._context = context
        self._target = dialog.next_hop
        self._flow = prefer
        self._unreachable = unreachable
        uri, routes = dialog.request_line_and_routes()
        self._ack: Request | None = make_request(
            "ACK",
            uri,
            from_=dialog.local,
            to=dialog.remote,
            call_id=dialog.id.call_id,
            cseq=invite.cseq.number,
            routes=routes,
            headers=tuple(
                (name, value)
                for name in ("Authorization", "Proxy-Authorization")
                for value in invite.headers.get_all(name)
            ),
            body=body,
            content_type=SDP,
            user_agent=context.user_agent,
        )
        self._sent = b""
        self._looking = False

    @property
    def sent(self) -> bool:
        """Whether it has left at least once."""
        return bool(self._sent)

    def send(self) -> None:
        """Sends it, or sends it again; over another flow where the one that it took is closed."""
        if self._looking:
            return
        self._looking = True
        self._context.want_flow(self._target, self._flow, self._on_flow, self._on_no_flow)

    def _on_flow(self, flow: Flow, now: float) -> None:
        self._looking = False
        if self._sent and self._flow == flow:
            self._context.layer.transmit(flow, self._sent)
            return
        self._sent = self._context.layer.send_stateless(self._request(), flow)
        self._flow = flow
        self._ack = self._unreachable = None

    def _request(self) -> Request:
        if self._ack is not None:
            return self._ack
        ack = parse_message(self._sent)
        assert isinstance(ack, Request)
        ack.headers.remove("Via")
        return ack

    def _on_no_flow(self, detail: str, now: float) -> None:
        self._looking = False
        if self._unreachable is not None:
            self._unreachable(now)
