"""Offers inside a dialog: re-INVITE both ways and UPDATE from the peer (RFC 3261 §14, RFC 3311, RFC 6337)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from sipcore.errors import MediaNotAcceptable
from sipcore.events import EndCause, Party
from sipcore.protocol.acknowledgement import Acknowledgement
from sipcore.protocol.builder import make_response
from sipcore.protocol.session_context import ALLOW, SDP, unreadable_body
from sipcore.protocol.session_events import SessionEnded, SessionMediaChanged

if TYPE_CHECKING:
    from sipcore.protocol.invite_session import InviteSession
    from sipcore.protocol.offer_answer import NegotiatedMedia
    from sipcore.protocol.transaction import ServerTransaction
    from sipcore.protocol.uac import UacFailure, UacRequest
    from sipcore.protocol.wire import Request, Response

__all__ = ["Direction", "Reoffer"]

Direction = Literal["sendrecv", "sendonly", "recvonly", "inactive"]


class Reoffer:
    """The later offers of a session: at most one of ours is under way at a time."""

    def __init__(self, session: InviteSession) -> None:
        self._session = session
        self._ours: UacRequest | None = None
        self._offered: Direction = "sendrecv"
        """Direction of the newest offer sent."""
        self._wanted: Direction | None = None
        """Direction of an offer of ours that waits for a 491 timer or for the current exchange to end."""
        self._ack: Acknowledgement | None = None

    # -- the peer's offers -----------------------------------------------------------------------------------------

    def on_invite(self, transaction: ServerTransaction, request: Request, now: float) -> None:
        """A re-INVITE (§14.2): never left without a final response."""
        session = self._session
        if self._ours is not None:
            session.respond(transaction, 491, now)
            return
        if session.setting_up or session.answers.pending is not None:
            self._not_yet(transaction, now)
            return
        assert session.offer_answer is not None
        assert session.dialog is not None
        unreadable = unreadable_body(request)
        if unreadable:
            session.respond(transaction, 415, now, headers=unreadable)
            return
        media: NegotiatedMedia | None = None
        if request.body:
            try:
                body, media = session.offer_answer.answer(request.body)
            except MediaNotAcceptable:
                session.respond(transaction, 488, now)
                return
        else:
            body = session.offer_answer.create_offer()
        session.dialog.refresh_target(request)
        response = make_response(
            request,
            200,
            contact=session.identity.contact(transaction.flow),
            headers=(("Allow", ", ".join(ALLOW)),),
            body=body,
            content_type=SDP,
            server=session.context.user_agent,
        )
        session.answers.send(transaction, response, now, offered=media is None)
        if media is not None:
            self.changed(media)

    def on_update(self, transaction: ServerTransaction, request: Request, now: float) -> None:
        """UPDATE (RFC 3311 §5.2): with an offer like a re-INVITE without ACK, without one a target refresh."""
        session = self._session
        assert session.dialog is not None
        if not request.body:
            session.dialog.refresh_target(request)
            session.respond(transaction, 200, now, contact=True)
            return
        if session.setting_up or session.offer_answer is None:
            self._not_yet(transaction, now)
            return
        if self._ours is not None or session.offer_answer.pending_offer:
            session.respond(transaction, 491, now)
            return
        unreadable = unreadable_body(request)
        if unreadable:
            session.respond(transaction, 415, now, headers=unreadable)
            return
        try:
            body, media = session.offer_answer.answer(request.body)
        except MediaNotAcceptable:
            session.respond(transaction, 488, now)
            return
        session.dialog.refresh_target(request)
        session.context.layer.respond(
            transaction,
            make_response(
                request,
                200,
                contact=session.identity.contact(transaction.flow),
                headers=(("Allow", ", ".join(ALLOW)),),
                body=body,
                content_type=SDP,
                server=session.context.user_agent,
            ),
            now,
        )
        self.changed(media)

    def _not_yet(self, transaction: ServerTransaction, now: float) -> None:
        """The peer's own earlier offer is not answered yet, or not acknowledged (§14.2, RFC 3311 §5.2)."""
        retry_after = str(self._session.context.rng.randint(0, 10))
        self._session.respond(transaction, 500, now, headers=(("Retry-After", retry_after),))

    def changed(self, media: NegotiatedMedia) -> None:
        """An exchange is complete: the shell hears of it."""
        self._session.emit(SessionMediaChanged(media))

    # -- our offers ------------------------------------------------------------------------------------------------

    def offer(self, direction: Direction, now: float) -> None:
        """Sends a re-INVITE with a new direction, after whatever exchange is under way; the newest wish counts."""
        session = self._session
        self._wanted = direction
        if self._ours is not None:
            return
        if session.answers.pending is not None:
            session.set_deadline("reoffer", now + session.context.timers.t1)
            return
        self._send(now)

    def on_deadline(self, now: float) -> None:
        """The 491 timer, or the wait for the exchange before, has run out."""
        if self._wanted is not None and self._session.dialog is not None:
            self.offer(self._wanted, now)

    def _send(self, now: float) -> None:
        session = self._session
        assert session.offer_answer is not None
        assert self._wanted is not None
        self._offered, self._wanted = self._wanted, None
        session.cancel_deadline("reoffer")
        session.set_deadline("reoffer patience", now + session.context.timers.timeout)
        self._ours = session.request(
            "INVITE",
            self,
            now,
            headers=(("Allow", ", ".join(ALLOW)),),
            body=session.offer_answer.create_offer(direction=self._offered),
            content_type=SDP,
            contact=True,
        )

    def on_patience_deadline(self, now: float) -> None:
        """A provisional response stops timer B; a re-INVITE that gets nothing else is cancelled (§14.1, §9.1)."""
        if self._ours is not None:
            self._ours.cancel(now)

    def terminate(self, now: float) -> None:
        """The session is over: no further offer, and the one that is out is given up."""
        self._wanted = None
        if self._ours is not None:
            self._ours.cancel(now)

    def on_provisional(self, request: UacRequest, response: Response, now: float) -> None:
        """Nothing to learn from a provisional response to a re-INVITE."""

    def on_final(self, request: UacRequest, response: Response, now: float) -> None:
        """§14.1: 2xx changes the session; 491 tries again; 481 and 408 end it; any other leaves it as it was."""
        session = self._session
        if response.status < 300:
            self._accepted(request, response, now)
            return
        self._over()
        match response.status:
            case 491:
                self._wanted = self._wanted or self._offered
                # The owner of the Call-ID waits longer, so that the two sides do not collide again.
                low, high = (2.1, 4.0) if session.outgoing else (0.0, 2.0)
                if session.connected:
                    session.set_deadline("reoffer", now + session.context.rng.uniform(low, high))
                return
            case 481 | 408:
                sentence = f"{response.status} {response.reason} from {session.peer}: the far end knows no such call"
                session.break_off(SessionEnded(EndCause.HANGUP, Party.REMOTE, response.status, sentence, None), now)
        self._next(now)

    def _over(self) -> None:
        """Our re-INVITE came to nothing."""
        self._ours = None
        self._session.cancel_deadline("reoffer patience")
        if self._session.offer_answer is not None:
            self._session.offer_answer.rollback()

    def _next(self, now: float) -> None:
        """Makes the offer that was asked for while this one was under way."""
        if self._wanted is not None and self._session.connected:
            self.offer(self._wanted, now)

    def _accepted(self, request: UacRequest, response: Response, now: float) -> None:
        session = self._session
        if self._ours is not request:
            if self._ack is not None:
                self._ack.send()
            return
        self._ours = None
        session.cancel_deadline("reoffer patience")
        dialog, sent = session.dialog, request.request
        assert dialog is not None
        assert sent is not None
        assert session.offer_answer is not None
        dialog.refresh_target(response)
        self._ack = Acknowledgement(session, dialog, sent, lambda detail, at: None)
        self._ack.send()
        try:
            media = session.offer_answer.accept_answer(response.body)
        except MediaNotAcceptable:
            session.offer_answer.rollback()
        else:
            if session.connected:
                self.changed(media)
        self._next(now)

    def on_failure(self, request: UacRequest, failure: UacFailure, now: float) -> None:
        """§14.1 with §8.1.3.1: a timeout counts as 408 and ends the session, a transport error as 503 and does not."""
        session = self._session
        self._over()
        if failure.kind == "timeout":
            sentence = f"No answer to re-INVITE from {session.peer}"
            session.break_off(SessionEnded(EndCause.TIMEOUT, Party.NETWORK, 408, sentence, None), now)
        else:
            self._next(now)
