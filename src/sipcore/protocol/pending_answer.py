"""A 2xx to INVITE and its ACK, the callee's half (RFC 3261 §13.3.1.4)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sipcore.errors import MediaNotAcceptable
from sipcore.events import EndCause, Party
from sipcore.protocol.session_events import SessionEnded, SessionEstablished

if TYPE_CHECKING:
    from sipcore.config import Timers
    from sipcore.protocol.invite_session import InviteSession
    from sipcore.protocol.transaction import ServerTransaction
    from sipcore.protocol.wire import Request, Response

__all__ = ["Answers", "PendingAnswer"]


@dataclass(slots=True, eq=False)
class PendingAnswer:
    """One 2xx, sent again after T1, 2 T1, 4 T1 … at most T2 apart until its ACK arrives or 64 T1 have passed.

    Over reliable transports too: the 2xx travels end to end, and a proxy may forward it over UDP.
    """

    transaction: ServerTransaction
    response: Response = field(repr=False)
    cseq: int
    """Of the INVITE; its ACK has the same number (§13.2.2.4)."""
    offered: bool
    """The 2xx carries our offer, so the ACK must carry the answer."""
    gives_up_at: float
    interval: float

    @classmethod
    def sent(
        cls, transaction: ServerTransaction, response: Response, now: float, timers: Timers, *, offered: bool
    ) -> PendingAnswer:
        """The state right after the first transmission at ``now``."""
        return cls(
            transaction=transaction,
            response=response,
            cseq=transaction.request.cseq.number,
            offered=offered,
            gives_up_at=now + timers.timeout,
            interval=timers.t1,
        )

    def next_retransmission(self, now: float, timers: Timers) -> float:
        """When to look again, and doubles the interval for the time after that."""
        when = min(now + self.interval, self.gives_up_at)
        self.interval = min(self.interval * 2, timers.t2)
        return when


class Answers:
    """The 2xx that a session sends to INVITE and re-INVITE; one at a time waits for its ACK."""

    def __init__(self, session: InviteSession) -> None:
        self._session = session
        self.pending: PendingAnswer | None = None

    def send(self, transaction: ServerTransaction, response: Response, now: float, *, offered: bool) -> None:
        """Sends a 2xx and keeps sending it until its ACK arrives."""
        session = self._session
        session.context.layer.respond(transaction, response, now)
        self.pending = PendingAnswer.sent(transaction, response, now, session.context.timers, offered=offered)
        session.set_deadline("answer", self.pending.next_retransmission(now, session.context.timers))

    def forget(self) -> None:
        """The session is over."""
        self.pending = None

    def on_ack(self, request: Request, now: float) -> bool:
        """An ACK; False where it is a stray with another number, which changes nothing."""
        pending = self.pending
        if pending is None or request.cseq.number != pending.cseq:
            return False
        self.pending = None
        self._session.cancel_deadline("answer")
        if pending.offered:
            self._take_answer(request, now)
        return True

    def _take_answer(self, ack: Request, now: float) -> None:
        """The ACK answers the offer in our 2xx (§13.2.1). One that cannot be used ends a call that has no media yet;
        in a call that has, what was settled before holds (§14.1)."""
        session = self._session
        assert session.offer_answer is not None
        if not session.connected:
            return
        first = session.offer_answer.current is None
        try:
            media = session.offer_answer.accept_answer(ack.body)
        except MediaNotAcceptable as error:
            if not first:
                return
            sentence = f"No media agreed on with {session.peer}: {error}"
            session.break_off(
                SessionEnded(EndCause.MEDIA, Party.LOCAL, 488, sentence, MediaNotAcceptable(sentence, code=488)), now
            )
            return
        if first and session.callee is not None:
            session.emit(SessionEstablished(media, tuple(session.callee.request.headers.items())))
        else:
            session.reoffer.changed(media)

    def on_deadline(self, now: float) -> None:
        """Sends the 2xx once more, or gives it up (§13.3.1.4)."""
        session, pending = self._session, self.pending
        if pending is None:
            return
        if now >= pending.gives_up_at:
            self.pending = None
            session.no_ack(now)
            return
        session.context.layer.respond(pending.transaction, pending.response, now)
        session.set_deadline("answer", pending.next_retransmission(now, session.context.timers))
