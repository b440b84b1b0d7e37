"""Provisional responses that are repeated until they are acknowledged: the callee's side of RFC 3262."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sipcore.protocol.builder import make_response
from sipcore.protocol.session_context import SDP

if TYPE_CHECKING:
    from sipcore.protocol.invite_session import InviteSession
    from sipcore.protocol.transaction import ServerTransaction
    from sipcore.protocol.wire import Request, Response

__all__ = ["ReliableResponses"]

_LARGEST_FIRST = 2**31 - 1
"""Of RSeq (§3), so that it never wraps around within a call."""


@dataclass(slots=True, eq=False)
class _Unacknowledged:
    """One that waits for its PRACK."""

    response: Response = field(repr=False)
    number: int
    offered: bool
    """It carries our offer, so the PRACK must carry the answer (§5)."""
    answered: bool
    """It carries our answer."""
    interval: float
    gives_up_at: float


class ReliableResponses:
    """101-199 to one INVITE; one at a time waits for its PRACK (§3)."""

    def __init__(self, session: InviteSession, invite: ServerTransaction) -> None:
        self._session = session
        self._invite = invite
        self._number = session.context.rng.randint(1, _LARGEST_FIRST) - 1
        self._pending: _Unacknowledged | None = None

    @property
    def pending(self) -> bool:
        """One has not been acknowledged yet; no other may be sent before it is (§3)."""
        return self._pending is not None

    @property
    def offers(self) -> bool:
        """The PRACK that is waited for has to carry the answer to our offer (§5)."""
        return self._pending is not None and self._pending.offered

    @property
    def answers(self) -> bool:
        """With the PRACK that is waited for, the caller's offer is answered (§5)."""
        return self._pending is not None and self._pending.answered

    @property
    def delays_final(self) -> bool:
        """The 2xx has to wait: a session description is on its way in a response not acknowledged yet (§3)."""
        return self.offers or self.answers

    def send(self, status: int, now: float, *, offer: bytes = b"", answer: bytes = b"") -> None:
        """Sends one, and repeats it after T1, 2 T1, 4 T1 … until its PRACK comes."""
        session, timers = self._session, self._session.context.timers
        self._number += 1
        response = make_response(
            self._invite.request,
            status,
            to_tag=session.local_tag,
            contact=session.identity.contact(self._invite.flow),
            headers=(("Require", "100rel"), ("RSeq", str(self._number))),
            body=offer or answer,
            content_type=SDP,
            server=session.context.user_agent,
        )
        self._pending = _Unacknowledged(
            response, self._number, bool(offer), bool(answer), timers.t1, now + timers.timeout
        )
        session.context.layer.respond(self._invite, response, now)
        session.set_deadline("reliable", now + timers.t1)

    def on_deadline(self, now: float) -> bool:
        """Sends it once more; False where the far end has had its 64 T1 (§3)."""
        pending = self._pending
        if pending is None:
            return True
        if now >= pending.gives_up_at:
            self._pending = None
            return False
        self._session.context.layer.respond(self._invite, pending.response, now)
        pending.interval *= 2
        self._session.set_deadline("reliable", min(now + pending.interval, pending.gives_up_at))
        return True

    def final(self) -> None:
        """The INVITE gets its final response: nothing is repeated any more, but a late PRACK still finds its own."""
        self._session.cancel_deadline("reliable")

    def acknowledges(self, prack: Request) -> bool:
        """Whether a PRACK names what waits for it (§3)."""
        if self._pending is None:
            return False
        named = (prack.headers.get("RAck") or "").split()
        return named == [str(self._pending.number), str(self._invite.request.cseq.number), "INVITE"]

    def acknowledged(self) -> None:
        """Its PRACK has come."""
        self._pending = None
        self._session.cancel_deadline("reliable")
