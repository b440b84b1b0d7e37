"""The callee's side of setting up a session (RFC 3261 §13.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sipcore.errors import CallCancelled, CallRejected, MediaNotAcceptable
from sipcore.events import EndCause, Party
from sipcore.protocol.builder import make_response, reason_phrase
from sipcore.protocol.offer_answer import OfferAnswer
from sipcore.protocol.reasons import with_reasons
from sipcore.protocol.reliable import ReliableResponses
from sipcore.protocol.session_context import SDP, capabilities, unreadable_body, warning
from sipcore.protocol.session_events import SessionEarlyMedia, SessionEnded

if TYPE_CHECKING:
    from sipcore.events import Reason
    from sipcore.protocol.dialog import Dialog
    from sipcore.protocol.invite_session import InviteSession
    from sipcore.protocol.offer_answer import NegotiatedMedia
    from sipcore.protocol.transaction import ServerTransaction
    from sipcore.protocol.wire import Request

__all__ = ["CalleeSetup"]

PROGRESS_INTERVAL = 60.0
"""A ringing call repeats its 180 this often, so that no proxy's timer C cancels it (§13.3.1.1)."""
LONGEST_RINGING = 300.0
"""Seconds after which a call that nobody takes gets 480: its caller may be gone, and its CANCEL lost with it."""


class CalleeSetup:
    """Rings, answers or refuses one INVITE."""

    def __init__(self, session: InviteSession, transaction: ServerTransaction, dialog: Dialog) -> None:
        self._session = session
        self.transaction = transaction
        self._dialog = dialog
        self._answer_body = b""
        self._media: NegotiatedMedia | None = None
        self._final_sent = False
        self._reliable: ReliableResponses | None = None
        """Where provisional responses are sent reliably (RFC 3262)."""
        self._answer_waits = False
        """Answered, but the 200 has to wait for a PRACK."""
        self._early = False
        """Audio flows before the answer: what is sent while it rings is 183 and not 180."""
        self._early_waits = False
        """It was asked for, but the 183 has to wait for a PRACK."""
        self._answered_early = False
        """The caller has acknowledged our answer in a reliable 183: the 200 holds none."""

    @property
    def offer_open(self) -> bool:
        """The caller's offer has not been answered yet: the 200 will do it."""
        return not self._final_sent and not self._answered_early and bool(self.request.body)

    @property
    def request(self) -> Request:
        """The INVITE."""
        return self.transaction.request

    def ring(self, media_port: int, now: float) -> bool:
        """Agrees on media and sends 180; False where the call is over (nothing to agree on: the INVITE got 488, or 422
        for a session timer that is too short)."""
        session = self._session
        if self._final_sent:
            return False
        rel100 = session.identity.policy.rel100
        required, supported = self._asks_for("Require"), self._asks_for("Supported")
        if required and rel100 == "never":
            self.reject(420, "", now, headers=(("Unsupported", "100rel"),))
            return False
        if required or (supported and rel100 == "supported"):
            self._reliable = ReliableResponses(session, self.transaction)
        too_small = session.timer.too_small(self.request)
        if too_small:
            self.reject(422, "", now, headers=too_small)
            return False
        offer_answer = OfferAnswer(
            codecs=session.identity.codecs or session.context.codecs,
            host=self.transaction.flow.advertised[0],
            port=media_port,
            ids=session.context.ids,
            ptime=session.identity.policy.ptime,
            srtp=session.identity.policy.srtp,
            to_access_edge=session.identity.agreement is not None,
        )
        session.offer_answer = offer_answer
        if self.request.body:
            try:
                self._answer_body, self._media = offer_answer.answer(self.request.body)
            except MediaNotAcceptable as error:
                self.reject(488, "", now, error=error)
                return False
        self._ringing(now)
        expires = self.request.expires
        session.set_deadline("expiry", now + min(LONGEST_RINGING if expires is None else expires, LONGEST_RINGING))
        return True

    def _asks_for(self, header: str) -> bool:
        return "100rel" in (token.lower() for token in self.request.list_of(header))

    def _ringing(self, now: float) -> None:
        status = 183 if self._early else 180
        answer = self._answer_body if self._early and not self._answered_early else b""
        if self._reliable is None:
            self._respond(status, now, body=answer)
        elif not self._reliable.pending:
            # §13.2.1: the first reliable response that is no refusal makes the offer which the INVITE has not.
            offer_answer = self._session.offer_answer
            first = self._media is None and offer_answer is not None
            offer = offer_answer.create_offer() if first and offer_answer else b""
            self._reliable.send(status, now, offer=offer, answer=answer)
        self._session.set_deadline("progress", now + PROGRESS_INTERVAL)

    def progress(self, now: float) -> None:
        """Early media: sends 183 with the answer that the 200 would hold (§13.3.1.1), reliably where ringing is.

        :class:`~sipcore.protocol.session_events.SessionEarlyMedia` tells when audio may flow: at once, or when the
        caller has acknowledged our 180 (RFC 3262 §3: one at a time).

        Raises:
            MediaNotAcceptable: the INVITE has no offer, and its caller takes no reliable responses: nothing can be
                agreed on before the answer.
        """
        if self._final_sent or self._answer_waits or self._early:
            return
        if self._media is None and self._reliable is None:
            raise MediaNotAcceptable("The caller made no offer, so there is no early media")
        if self._reliable is not None and self._reliable.pending:
            self._early_waits = True
            return
        if self._media is None:
            return
        self._early, self._early_waits = True, False
        self._ringing(now)
        self._session.emit(SessionEarlyMedia(self._media))

    def on_progress_deadline(self, now: float) -> None:
        """A minute of ringing has passed."""
        if not self._final_sent:
            self._ringing(now)

    def on_reliable_deadline(self, now: float) -> None:
        """The 180 is sent once more, or the caller is given up (RFC 3262 §3)."""
        if self._reliable is not None and not self._final_sent and not self._reliable.on_deadline(now):
            self.reject(504, "No PRACK", now)

    def on_prack(self, transaction: ServerTransaction, request: Request, now: float) -> None:
        """PRACK (RFC 3262 §3): 481 where it names no response that waits for it."""
        session, reliable = self._session, self._reliable
        if reliable is None or not reliable.acknowledges(request):
            session.respond(transaction, 481, now)
            return
        unreadable = unreadable_body(request)
        if unreadable:
            session.respond(transaction, 415, now, headers=unreadable)
            return
        offered = reliable.offers
        self._answered_early |= reliable.answers
        reliable.acknowledged()
        if offered:
            session.respond(transaction, 200, now)
            self._take_answer(request, now)
        elif request.body and session.offer_answer is not None and not self.offer_open:
            # The exchange that our 180 began is complete, and the caller makes another offer (§5).
            media = session.reoffer.answer_update(self._dialog, session.offer_answer, transaction, request, now)
            if media is not None:
                session.reoffer.changed(media)
        else:
            session.respond(transaction, 200, now)
        if self._answer_waits:
            self._answer_waits = False
            self.answer(now)
        elif self._early_waits:
            self.progress(now)

    def _take_answer(self, prack: Request, now: float) -> None:
        """The PRACK answers the offer in our 180 (§5)."""
        offer_answer = self._session.offer_answer
        if self._final_sent or offer_answer is None:
            return
        try:
            self._media = offer_answer.accept_answer(prack.body)
        except MediaNotAcceptable as error:
            self.reject(488, "", now, error=error)

    def on_expiry(self, now: float) -> None:
        """The caller's Expires has passed (§13.3.1), or nobody has taken the call for minutes."""
        expires = self.request.expires
        if expires is not None and expires <= LONGEST_RINGING:
            self.cancelled(now, f"Expires of {expires} s")
        else:
            self.reject(480, "", now)

    def answer(self, now: float) -> None:
        """Sends 200. An INVITE without an offer gets ours, and its ACK carries the answer (§13.2.1)."""
        session = self._session
        offer_answer = session.offer_answer
        if self._final_sent or offer_answer is None:
            return
        if self._reliable is not None and self._reliable.delays_final:
            self._answer_waits = True
            return
        self._end_ringing()
        session.cancel_deadline("progress")
        session.cancel_deadline("expiry")
        offered = self._media is None
        body = offer_answer.create_offer() if offered else b"" if self._answered_early else self._answer_body
        timer = session.timer.answers(self.request, now)
        response = make_response(
            self.request,
            200,
            to_tag=session.local_tag,
            contact=session.identity.contact(self.transaction.flow),
            headers=(*capabilities(), *timer),
            body=body,
            content_type=SDP,
            server=session.context.user_agent,
        )
        session.answers.send(self.transaction, response, now, offered=offered)
        session.establish(self._dialog, None if offered else offer_answer.current, self.request, now)

    def _end_ringing(self) -> None:
        self._final_sent = True
        if self._reliable is not None:
            self._reliable.final()

    def reject(
        self,
        code: int,
        reason: str,
        now: float,
        *,
        error: CallRejected | MediaNotAcceptable | None = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        """Refuses with a final response of 300-699.

        Raises:
            ValueError: another code, or CR, LF or NUL in ``reason``; nothing was sent.
        """
        if not 300 <= code <= 699 or any(character in reason for character in "\r\n\0"):
            raise ValueError(f"{code} {reason!r} refuses no call: a code of 300-699 and one line does")
        if self._final_sent:
            return
        self._end_ringing()
        phrase = reason or reason_phrase(code)
        sentence = f"Refused with {code} {phrase}" + (f": {error}" if error is not None else "")
        if error is not None:
            headers = (*headers, warning(self.transaction.flow, str(error)))
        self._respond(code, now, reason=reason, headers=headers)
        cause = EndCause.MEDIA if error is not None else EndCause.REJECTED
        self._session.end(
            SessionEnded(cause, Party.LOCAL, code, sentence, error or CallRejected(sentence, code=code)), now
        )

    def cancelled(self, now: float, how: str, reasons: tuple[Reason, ...] = ()) -> None:
        """A CANCEL, or a BYE on the early dialog, arrived before the final response (§9.2, §15.1.2)."""
        if self._final_sent:
            return
        self._end_ringing()
        self._respond(487, now)
        sentence = with_reasons(f"{how} from {self._session.peer} before the answer", reasons)
        error = CallCancelled(sentence, code=487)
        self._session.end(SessionEnded(EndCause.CANCELLED, Party.REMOTE, 487, sentence, error, reasons), now)

    def _respond(
        self,
        status: int,
        now: float,
        *,
        reason: str = "",
        headers: tuple[tuple[str, str], ...] = (),
        body: bytes = b"",
    ) -> None:
        session = self._session
        session.context.layer.respond(
            self.transaction,
            make_response(
                self.request,
                status,
                reason,
                to_tag=session.local_tag,
                contact=session.identity.contact(self.transaction.flow) if status < 300 else "",
                headers=headers,
                body=body,
                content_type=SDP,
                server=session.context.user_agent,
            ),
            now,
        )
