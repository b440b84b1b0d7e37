"""A 2xx to our INVITE and its ACK, the caller's half (RFC 3261 §13.2.2.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sipcore.protocol.builder import make_request
from sipcore.protocol.session_context import SDP

if TYPE_CHECKING:
    from collections.abc import Callable

    from sipcore.protocol.dialog import Dialog
    from sipcore.protocol.flows import Flow
    from sipcore.protocol.invite_session import InviteSession
    from sipcore.protocol.wire import Request

__all__ = ["Acknowledgement"]


class Acknowledgement:
    """One ACK: a request of its own, to the far end's Contact through the route set, once for each copy of the 2xx.

    Args:
        session: whose INVITE was answered.
        dialog: what the 2xx made or refreshed.
        invite: as last sent; the ACK has its number and carries its credentials.
        body: the answer, where the 2xx made the offer (§13.2.1).
        unreachable: told each time that no flow was found; the next copy of the 2xx tries again.
    """

    def __init__(
        self,
        session: InviteSession,
        dialog: Dialog,
        invite: Request,
        unreachable: Callable[[str, float], None],
        body: bytes = b"",
    ) -> None:
        self._session = session
        self._dialog = dialog
        self._unreachable = unreachable
        uri, routes = dialog.request_line_and_routes()
        self._ack = make_request(
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
            user_agent=session.context.user_agent,
        )
        self._sent: tuple[Flow, bytes] | None = None
        self._looking = False

    @property
    def sent(self) -> bool:
        """Whether it has left at least once."""
        return self._sent is not None

    def send(self) -> None:
        """Sends it, or sends it again; over another flow where the one that it took is closed."""
        if self._looking:
            return
        self._looking = True
        session = self._session
        prefer = self._sent[0] if self._sent is not None else session.preferred_flow(self._dialog)
        session.context.want_flow(self._dialog.next_hop, prefer, self._on_flow, self._on_no_flow)

    def _on_flow(self, flow: Flow, now: float) -> None:
        self._looking = False
        layer = self._session.context.layer
        if self._sent is not None and self._sent[0] == flow:
            layer.transmit(*self._sent)
        else:
            self._sent = (flow, layer.send_stateless(self._ack.copy(), flow))

    def _on_no_flow(self, detail: str, now: float) -> None:
        self._looking = False
        self._unreachable(detail, now)
