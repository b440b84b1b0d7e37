"""Offers inside a dialog: re-INVITE both ways and UPDATE from the peer (RFC 3261 §14, RFC 3311, RFC 6337)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sipcore.errors import HoldRejected, MediaNotAcceptable, NoOngoingCall
from sipcore.events import EndCause, Party
from sipcore.protocol.acknowledgement import Acknowledgement
from sipcore.protocol.builder import make_response, reason_phrase
from sipcore.protocol.session_context import SDP, capabilities, unreadable_body
from sipcore.protocol.session_events import SessionEnded, SessionMediaChanged, SessionOfferSettled

if TYPE_CHECKING:
    from sipcore.errors import SipError
    from sipcore.protocol.dialog import Dialog
    from sipcore.protocol.invite_session import InviteSession
    from sipcore.protocol.offer_answer import NegotiatedMedia, OfferAnswer
    from sipcore.protocol.transaction import ServerTransaction
    from sipcore.protocol.uac import UacFailure, UacRequest
    from sipcore.protocol.wire import Request, Response

__all__ = ["Direction", "Offer", "Reoffer"]

Direction = Literal["sendrecv", "sendonly", "recvonly", "inactive"]
MAX_ATTEMPTS = 8
"""How often one offer is made while the far end asks for another time; two sides that collide part after a few."""


@dataclass(slots=True, eq=False)
class Offer:
    """A wish of this side for other media."""

    direction: Direction | None
    """None: what holds already, as a refresh of the session."""
    attempts: int = 0


class Reoffer:
    """The later offers of a session: at most one of ours is under way at a time."""

    def __init__(self, session: InviteSession) -> None:
        self._session = session
        self._ours: UacRequest | None = None
        self._offered: Offer | None = None
        """The one that is out."""
        self._wanted: Offer | None = None
        """One that waits for a 491 timer or for the current exchange to end."""
        self._not_before = 0.0
        """When the far end wants to hear the next offer."""
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
        too_small = session.timer.too_small(request)
        if too_small:
            session.respond(transaction, 422, now, headers=too_small)
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
            headers=(*capabilities(), *session.timer.answers(request, now)),
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
        too_small = session.timer.too_small(request)
        if too_small:
            session.respond(transaction, 422, now, headers=too_small)
            return
        if not request.body:
            session.dialog.refresh_target(request)
            session.respond(transaction, 200, now, headers=self._timer_of(request, now), contact=True)
            return
        callee = session.callee
        if session.offer_answer is None or (session.setting_up and callee is not None and callee.offer_open):
            self._not_yet(transaction, now)
            return
        if self._ours is not None or session.offer_answer.pending_offer:
            session.respond(transaction, 491, now)
            return
        media = self.answer_update(session.dialog, session.offer_answer, transaction, request, now)
        if media is not None:
            self.changed(media)

    def answer_update(
        self,
        dialog: Dialog,
        negotiation: OfferAnswer,
        transaction: ServerTransaction,
        request: Request,
        now: float,
    ) -> NegotiatedMedia | None:
        """Answers the offer of an UPDATE, or of a PRACK (RFC 3262 §5); None where it was refused."""
        session = self._session
        unreadable = unreadable_body(request)
        if unreadable:
            session.respond(transaction, 415, now, headers=unreadable)
            return None
        try:
            body, media = negotiation.answer(request.body)
        except MediaNotAcceptable:
            session.respond(transaction, 488, now)
            return None
        update = request.method == "UPDATE"
        if update:
            dialog.refresh_target(request)
        session.context.layer.respond(
            transaction,
            make_response(
                request,
                200,
                contact=session.identity.contact(transaction.flow) if update else "",
                headers=(*capabilities(), *(self._timer_of(request, now) if update else ())),
                body=body,
                content_type=SDP,
                server=session.context.user_agent,
            ),
            now,
        )
        return media

    def _timer_of(self, request: Request, now: float) -> tuple[tuple[str, str], ...]:
        """An UPDATE in a call refreshes the session; one before the answer has none to refresh (RFC 4028 §4)."""
        return self._session.timer.answers(request, now) if self._session.connected else ()

    def _not_yet(self, transaction: ServerTransaction, now: float) -> None:
        """The peer's own earlier offer is not answered yet, or not acknowledged (§14.2, RFC 3311 §5.2)."""
        retry_after = str(self._session.context.rng.randint(0, 10))
        self._session.respond(transaction, 500, now, headers=(("Retry-After", retry_after),))

    def changed(self, media: NegotiatedMedia) -> None:
        """An exchange is complete: the shell hears of it."""
        self._session.emit(SessionMediaChanged(media))

    # -- our offers ------------------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """An exchange is under way, or one of ours waits for its turn."""
        return self._ours is not None or self._wanted is not None or self._session.answers.pending is not None

    def offer(self, direction: Direction, now: float) -> Offer:
        """Sends a re-INVITE with a new direction, after whatever exchange is under way; the newest wish counts.

        What becomes of it is told by :class:`~sipcore.protocol.session_events.SessionOfferSettled`.
        """
        offer = Offer(direction)
        if self._wanted is not None:
            self._settle(self._wanted, HoldRejected("Overtaken by a later wish of this side"))
        self._wanted = offer
        self._next(now)
        return offer

    def refresh(self, now: float) -> None:
        """Sends a re-INVITE that changes nothing, for the session timer's sake (RFC 4028 §7.4)."""
        if not self.busy:
            self._wanted = Offer(None)
            self._next(now)

    def on_deadline(self, now: float) -> None:
        """The 491 timer, or the wait for the exchange before, has run out."""
        self._next(now)

    def _next(self, now: float) -> None:
        """Makes the offer that is wanted, as soon as nothing else is under way."""
        session = self._session
        if self._wanted is None or self._ours is not None or not session.connected:
            return
        if now < self._not_before:
            session.set_deadline("reoffer", self._not_before)
        elif session.answers.pending is not None:
            session.set_deadline("reoffer", now + session.context.timers.t1)
        else:
            self._send(self._wanted, now)

    def _send(self, offer: Offer, now: float) -> None:
        session = self._session
        assert session.offer_answer is not None
        self._offered, self._wanted = offer, None
        offer.attempts += 1
        session.cancel_deadline("reoffer")
        session.set_deadline("reoffer patience", now + session.context.timers.timeout)
        self._ours = session.request(
            "INVITE",
            self,
            now,
            headers=(*capabilities(reliable=False), *session.timer.asks()),
            body=session.offer_answer.create_offer(direction=offer.direction),
            content_type=SDP,
            contact=True,
        )

    def on_patience_deadline(self, now: float) -> None:
        """A provisional response stops timer B; a re-INVITE that gets nothing else is cancelled (§14.1, §9.1)."""
        if self._ours is not None:
            self._ours.cancel(now)

    def terminate(self, now: float) -> None:
        """The session is over: no further offer, and the one that is out is given up."""
        open_offers = (self._wanted, self._offered)
        self._wanted = self._offered = None
        for offer in open_offers:
            self._settle(offer, NoOngoingCall("The call ended meanwhile"))
        if self._ours is not None:
            self._ours.cancel(now)

    def _settle(self, offer: Offer | None, error: SipError | None) -> None:
        """Tells who asked for an offer what became of it; nobody asked for a refresh."""
        if offer is not None and offer.direction is not None:
            self._session.emit(SessionOfferSettled(offer, error))

    def on_provisional(self, request: UacRequest, response: Response, now: float) -> None:
        """Nothing to learn from a provisional response to a re-INVITE."""

    def on_final(self, request: UacRequest, response: Response, now: float) -> None:
        """§14.1: 2xx changes the session; some refusals ask for another try; 481 and 408 end it; any other leaves it
        as it was."""
        session = self._session
        if response.status < 300:
            self._accepted(request, response, now)
            return
        offer = self._over()
        wait = self._wait_of(response)
        if response.status in (481, 408):
            sentence = f"{response.status} {response.reason or reason_phrase(response.status)} from {session.peer}"
            self._settle(offer, HoldRejected(sentence, code=response.status))
            session.gone("re-INVITE", response, now)
        elif wait is not None and offer is not None and offer.attempts < MAX_ATTEMPTS and session.connected:
            # A newer wish has taken its place already.
            if self._wanted is None:
                self._wanted = offer
            else:
                self._settle(offer, HoldRejected("Overtaken by a later wish of this side"))
            self._not_before = now + wait
            self._next(now)
        else:
            sentence = f"{response.status} {response.reason or reason_phrase(response.status)} from {session.peer}"
            self._refused(offer, HoldRejected(sentence, code=response.status), response, now)

    def _wait_of(self, response: Response) -> float | None:
        """Seconds until an offer may be made again; None where the far end does not want it."""
        match response.status:
            case 491:
                return self._session.glare_wait()
            case 422 if self._session.timer.raised_by(response):
                return 0.0
            case 500 | 503 | 480 | 486 if (again := response.headers.get("Retry-After")) is not None:
                # §14.2 has a 500 with Retry-After say that the far end's own exchange is still under way.
                seconds = again.partition(";")[0].partition("(")[0].strip()
                return float(seconds) if seconds.isascii() and seconds.isdigit() and len(seconds) <= 2 else None
            case _:
                return None

    def _over(self) -> Offer | None:
        """Our re-INVITE came to nothing."""
        offer, self._offered, self._ours = self._offered, None, None
        self._session.cancel_deadline("reoffer patience")
        if self._session.offer_answer is not None:
            self._session.offer_answer.rollback()
        return offer

    def _refused(self, offer: Offer | None, error: SipError, response: Response | None, now: float) -> None:
        self._settle(offer, error)
        if offer is not None and offer.direction is None:
            self._session.timer.failed(response, now)
        self._next(now)

    def _accepted(self, request: UacRequest, response: Response, now: float) -> None:
        session = self._session
        if self._ours is not request:
            if self._ack is not None:
                self._ack.send()
            return
        offer, self._offered, self._ours = self._offered, None, None
        session.cancel_deadline("reoffer patience")
        dialog, sent = session.dialog, request.request
        assert dialog is not None
        assert sent is not None
        assert session.offer_answer is not None
        dialog.refresh_target(response)
        self._ack = Acknowledgement(session.context, dialog, sent, session.preferred_flow(dialog))
        self._ack.send()
        if not session.connected:
            return
        session.learn(response)
        session.timer.accepted(response, now)
        try:
            media = session.offer_answer.accept_answer(response.body)
        except MediaNotAcceptable as error:
            session.offer_answer.rollback()
            self._settle(offer, HoldRejected(f"{session.peer} gave no usable answer: {error}", code=response.status))
        else:
            self.changed(media)
            self._settle(offer, None)
        self._next(now)

    def on_failure(self, request: UacRequest, failure: UacFailure, now: float) -> None:
        """§14.1 with §8.1.3.1: a timeout counts as 408 and ends the session, a transport error as 503 and does not."""
        session = self._session
        offer = self._over()
        if failure.kind == "timeout":
            sentence = f"No answer to re-INVITE from {session.peer}"
            self._settle(offer, HoldRejected(sentence, code=408))
            session.break_off(SessionEnded(EndCause.TIMEOUT, Party.NETWORK, 408, sentence, None), now)
        else:
            self._refused(offer, HoldRejected(failure.detail, code=503), None, now)
