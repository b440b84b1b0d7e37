"""Dialogs (RFC 3261 §12): the peer-to-peer relation that outlives a transaction."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from sipcore.protocol.ids import has_cookie
from sipcore.protocol.routing import request_line_and_routes, target_of

if TYPE_CHECKING:
    from sipcore.protocol.flows import Target, Transport
    from sipcore.protocol.values import NameAddr, Uri
    from sipcore.protocol.wire import Message, Request, Response

__all__ = ["Dialog", "DialogId"]


class DialogId(NamedTuple):
    """What identifies a dialog at this end (RFC 3261 §12)."""

    call_id: str
    local_tag: str
    remote_tag: str


@dataclass(slots=True, eq=False)
class Dialog:
    """State of one dialog, early or confirmed. Addresses are kept as the peer wrote them."""

    id: DialogId
    local: str
    """Our From/To value, tag included."""
    remote: str
    """The peer's From/To value, tag included."""
    remote_target: Uri
    """The peer's Contact: where requests go (§12.2.1.1)."""
    route_set: tuple[NameAddr, ...]
    """In the order in which our requests visit it."""
    local_cseq: int
    remote_cseq: int | None
    transport: Transport
    """Transport of the request that made the dialog; used where no URI names one."""
    confirmed: bool = field(default=False)

    @classmethod
    def from_response(cls, request: Request, response: Response, transport: Transport) -> Dialog:
        """The caller's side (§12.1.2). The route set is the response's Record-Route reversed."""
        return cls(
            id=DialogId(request.call_id, request.from_tag, response.to_tag),
            local=request.headers.get("From") or "",
            remote=response.headers.get("To") or "",
            # A peer that forgets its Contact in a 2xx still deserves an ACK: the request URI is the best guess.
            remote_target=_contact_of(response) or request.uri,
            route_set=tuple(reversed(response.record_routes)),
            local_cseq=request.cseq.number,
            remote_cseq=None,
            transport=transport,
            confirmed=response.status >= 200,
        )

    @classmethod
    def from_request(cls, request: Request, local_tag: str, transport: Transport) -> Dialog:
        """The callee's side (§12.1.1). The route set keeps the request's order.

        Raises:
            ValueError: the request has no Contact to send requests to.
        """
        remote_target = _contact_of(request) or _caller_before_rfc_3261(request)
        if remote_target is None:
            raise ValueError("An INVITE needs a Contact with a sip: or sips: URI (RFC 3261 §8.1.1.8)")
        return cls(
            id=DialogId(request.call_id, local_tag, request.from_tag),
            local=f"{request.headers.get('To')};tag={local_tag}",
            remote=request.headers.get("From") or "",
            remote_target=remote_target,
            route_set=tuple(request.record_routes),
            local_cseq=0,
            remote_cseq=request.cseq.number,
            transport=transport,
        )

    def confirm(self, request: Request, response: Response) -> None:
        """A 2xx to our INVITE confirms an early dialog; its route set and target are taken anew (§13.2.2.4)."""
        self.confirmed = True
        self.local_cseq = max(self.local_cseq, request.cseq.number)
        self.remote = response.headers.get("To") or self.remote
        self.route_set = tuple(reversed(response.record_routes))
        self.refresh_target(response)

    def refresh_target(self, message: Message) -> None:
        """A target refresh request or its 2xx replaces the remote target (§12.2.1.2, §12.2.2)."""
        self.remote_target = _contact_of(message) or self.remote_target

    def next_cseq(self) -> int:
        """Numbers our next request (§12.2.1.1)."""
        self.local_cseq += 1
        return self.local_cseq

    def accepts_cseq(self, request: Request) -> bool:
        """Whether a request of the peer is in order; if so its number is taken over (§12.2.2)."""
        number = request.cseq.number
        if self.remote_cseq is not None and number <= self.remote_cseq:
            return False
        self.remote_cseq = number
        return True

    def request_line_and_routes(self) -> tuple[Uri, tuple[str, ...]]:
        """Request URI and Route values, for loose and strict first routes (§12.2.1.1)."""
        return request_line_and_routes(self.remote_target, self.route_set)

    @property
    def next_hop(self) -> Target:
        """Where the next request is sent: the first route, else the remote target (§8.1.2).

        A URI that names no transport keeps the dialog's: RFC 3263 §4.1 would have it be UDP, but peers that speak
        nothing but TCP often leave ``;transport=tcp`` out of their Contact.
        """
        uri = self.route_set[0].uri if self.route_set else self.remote_target
        return target_of(uri, transport=self.transport)


def _caller_before_rfc_3261(request: Request) -> Uri | None:
    """RFC 2543 §6.13 let an INVITE come without Contact; requests then go to its From (RFC 4475 §3.4.1)."""
    uri = request.from_.uri
    return None if has_cookie(request.via.branch) or uri.scheme not in ("sip", "sips") else uri


def _contact_of(message: Message) -> Uri | None:
    contact = message.contact
    return contact.uri if contact is not None and contact.uri.scheme in ("sip", "sips") else None
