"""The caller's side of setting up a session (RFC 3261 §13.2)."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from sipcore.errors import CallCancelled, CallTimeout, MediaNotAcceptable, ServerUnreachable
from sipcore.events import EndCause, Party, Reason
from sipcore.protocol.acknowledgement import Acknowledgement
from sipcore.protocol.dialog import Dialog
from sipcore.protocol.offer_answer import OfferAnswer
from sipcore.protocol.reasons import NO_ANSWER, NORMAL_CLEARING, reason_headers
from sipcore.protocol.session_context import SDP, capabilities, ended_by_failure, ended_by_response, refusal_of_method
from sipcore.protocol.session_events import SessionEnded, SessionProvisional
from sipcore.protocol.uac import RequestPlan

if TYPE_CHECKING:
    from sipcore.protocol.flows import Flow, Target
    from sipcore.protocol.invite_session import InviteSession
    from sipcore.protocol.offer_answer import NegotiatedMedia
    from sipcore.protocol.transaction import ServerTransaction
    from sipcore.protocol.uac import UacFailure, UacRequest
    from sipcore.protocol.values import Uri
    from sipcore.protocol.wire import Request, Response

__all__ = ["CallerSetup"]

MAX_FORKS = 16
"""Branches beyond this are ignored, ringing or answering; no proxy forks a voice bot's call further."""


class CallerSetup:
    """Sends the INVITE, follows its provisional responses, ACKs every 2xx, and keeps exactly one of them."""

    _to: str
    _uri: Uri
    _target: Target
    _routes: tuple[str, ...]
    _headers: tuple[tuple[str, str], ...]

    def __init__(self, session: InviteSession) -> None:
        self._session = session
        self._request: UacRequest | None = None
        self._cseq = session.context.ids.cseq()
        self._media_port = 0
        self._ring_timeout = 0.0
        self._rang_out = False
        self._cancelled = False
        self._reasons: tuple[Reason, ...] = ()
        """What the CANCEL says, and a BYE that has to follow it."""
        self._early: dict[str, Dialog] = {}
        """Early dialogs by the far end's tag (§13.2.2.1)."""
        self._early_answers: dict[str, bytes] = {}
        """The newest SDP of each of them."""
        self._acks: dict[str, Acknowledgement] = {}
        """By the far end's tag: one for each branch that answered."""
        self._answered_by = ""
        """The tag of the branch that answered first."""
        self._gives_up_ack = False

    def start(
        self,
        *,
        uri: Uri,
        target: Target,
        routes: tuple[str, ...],
        headers: tuple[tuple[str, str], ...],
        media_port: int,
        ring_timeout: float,
        now: float,
    ) -> None:
        """Sends the INVITE with an offer (§13.2.1)."""
        self._media_port = media_port
        self._ring_timeout = ring_timeout
        self._to = f"<{uri}>"
        self._uri, self._target, self._routes, self._headers = uri, target, routes, headers
        self._session.set_deadline("ring", now + ring_timeout)
        self._invite(now)

    def _invite(self, now: float) -> None:
        """Sends an INVITE: the first, or one more in the same dialog-to-be (§8.1.3.5)."""
        session = self._session
        session.flow_target = self._target
        self._request = session.context.uac.send(
            RequestPlan(
                method="INVITE",
                uri=self._uri,
                from_=f"{session.identity.address};tag={session.local_tag}",
                to=self._to,
                call_id=session.call_id,
                next_cseq=self._next_cseq,
                target=self._target,
                routes=self._routes,
                contact=session.identity.contact,
                headers=(*capabilities(), *session.timer.asks(), *self._headers),
                body=self._offer,
                content_type=SDP,
                digest=session.identity.digest,
            ),
            self,
            now,
        )

    def _next_cseq(self) -> int:
        self._cseq += 1
        return self._cseq

    def _offer(self, flow: Flow) -> bytes:
        session = self._session
        session.flow = flow
        session.offer_answer = OfferAnswer(
            codecs=session.identity.codecs or session.context.codecs,
            host=flow.advertised[0],
            port=self._media_port,
            ids=session.context.ids,
        )
        return session.offer_answer.create_offer()

    def cancel(self, now: float, reasons: tuple[Reason, ...] = (NORMAL_CLEARING,)) -> None:
        """Gives up before the answer (§9.1); the session ends when the INVITE does, at once where none is out."""
        if not self._cancelled:
            self._reasons = reasons
        self._cancelled = True
        if self._request is None:
            return
        self._request.cancel(now, reason_headers(self._reasons))
        if self._request.transaction is None:
            self._session.end(self._given_up(), now)

    def ring_out(self, now: float) -> None:
        """Nobody answered within the ring time. One who has given up already waits for the 487, not for an answer."""
        if self._cancelled:
            return
        self._rang_out = True
        self.cancel(now, (NO_ANSWER,))
        transaction = self._request.transaction if self._request is not None else None
        if transaction is None or transaction.last_provisional is None:
            # The CANCEL has to wait for a provisional response (§9.1), the caller need not: where nobody is there the
            # INVITE would keep it until timer B. A late answer still gets its ACK and BYE.
            self._session.end(self._given_up(), now)

    # -- UacHandler ------------------------------------------------------------------------------------------------

    def on_provisional(self, request: UacRequest, response: Response, now: float) -> None:
        """100 says nothing; 101-199 may open an early dialog (§13.2.2.1)."""
        session = self._session
        if response.status == 100 or not session.setting_up:
            return
        self._open_early_dialog(request, response)
        if not self._cancelled:
            session.emit(SessionProvisional(response.status, response.reason, self._early_media(response)))

    def _open_early_dialog(self, request: UacRequest, response: Response) -> None:
        tag, invite, flow = response.to_tag, request.request, request.flow
        if not tag or invite is None or flow is None or tag in self._early or len(self._early) >= MAX_FORKS:
            return
        dialog = Dialog.from_response(invite, response, flow.transport)
        self._early[tag] = dialog
        self._session.context.add_dialog(dialog.id, self._session)

    def _early_media(self, response: Response) -> NegotiatedMedia | None:
        """An answer in an unreliable 18x is a preview of the one in the 2xx (RFC 6337 §3.1.1): tried on a copy."""
        offer_answer = self._session.offer_answer
        if offer_answer is None or response.content_type != SDP or not response.body:
            return None
        try:
            media = copy.copy(offer_answer).accept_answer(response.body)
        except MediaNotAcceptable:
            return None
        if response.to_tag in self._early:
            self._early_answers[response.to_tag] = response.body
        return media

    # -- requests in early dialogs ---------------------------------------------------------------------------------

    def early_dialog(self, request: Request) -> Dialog | None:
        """The early dialog of a request from the far end."""
        return self._early.get(request.from_tag)

    def on_early_request(self, dialog: Dialog, transaction: ServerTransaction, request: Request, now: float) -> None:
        """A request of a callee that has not answered yet (§12.2.2). Our offer is open, so it may not make one."""
        session = self._session
        match request.method:
            case "UPDATE" if not request.body:
                dialog.refresh_target(request)
                session.respond(transaction, 200, now, contact=True)
            case "UPDATE" | "INVITE":
                session.respond(transaction, 491, now)
            case "OPTIONS":
                session.respond(transaction, 200, now, headers=(("Accept", SDP),))
            case "BYE":
                # §15 forbids it to a callee; one that does so all the same will not answer in this dialog.
                session.respond(transaction, 200, now)
                self._forget_early(request.from_tag)
            case "REFER":
                session.respond(transaction, 603, now)
            case "NOTIFY":
                session.respond(transaction, 481, now)
            case "INFO" | "MESSAGE":
                session.in_dialog.on_request(transaction, request, now)
            case _:
                session.respond(transaction, refusal_of_method(request.method), now)

    def _forget_early(self, tag: str) -> Dialog | None:
        self._early_answers.pop(tag, None)
        dialog = self._early.pop(tag, None)
        if dialog is not None:
            self._session.context.remove_dialog(dialog.id)
        return dialog

    def forget_early_dialogs(self) -> None:
        """One branch has answered, or none will: requests in the other dialogs get 481."""
        for tag in tuple(self._early):
            self._forget_early(tag)

    # -- the final response ----------------------------------------------------------------------------------------

    def on_final(self, request: UacRequest, response: Response, now: float) -> None:
        """2xx, each copy and each fork of it, or one failure (§13.2.2.2-4)."""
        if response.status < 300:
            self._accepted(request, response, now)
            return
        session = self._session
        if response.status == 422 and not self._cancelled and session.timer.raised_by(response):
            self.forget_early_dialogs()
            self._invite(now)
        elif self._cancelled and response.status in (401, 407, 408, 487):
            # 487 is what a CANCEL asks for; the others only say that the INVITE got no further before it.
            session.end(self._given_up(), now)
        else:
            session.end(ended_by_response(response, session.peer, request.unanswered), now)

    def on_failure(self, request: UacRequest, failure: UacFailure, now: float) -> None:
        """Timer B, a transport error, or no flow."""
        self._session.end(self._given_up() if self._cancelled else ended_by_failure(failure), now)

    # -- 2xx -------------------------------------------------------------------------------------------------------

    def _accepted(self, request: UacRequest, response: Response, now: float) -> None:
        invite, flow, tag = request.request, request.flow, response.to_tag
        if invite is None or flow is None:
            return
        known = self._acks.get(tag)
        if known is not None:
            known.send()
            return
        if len(self._acks) >= MAX_FORKS:
            return
        session = self._session
        answer = response.body or self._early_answers.get(tag, b"")
        dialog = self._confirmed(invite, response, flow)
        ack = Acknowledgement(session, dialog, invite, lambda detail, at: self._on_no_way_to_ack(tag, at))
        self._acks[tag] = ack
        ack.send()
        if not session.setting_up:
            # Another fork answered too, or the 200 overtook our CANCEL: §13.2.2.4 and §15 have it hung up with a BYE.
            session.send_bye_on(dialog, now)
            return
        self._answered_by = tag
        if self._cancelled:
            session.send_bye_on(dialog, now, self._reasons)
            session.end(self._given_up(), now)
            return
        try:
            media = self._answered(answer)
        except MediaNotAcceptable as error:
            session.send_bye_on(dialog, now, (Reason("SIP", 488, "Not Acceptable Here"),))
            sentence = f"{response.status} {response.reason} from {session.peer}, but no usable media: {error}"
            session.end(
                SessionEnded(
                    EndCause.MEDIA, Party.LOCAL, response.status, sentence, MediaNotAcceptable(sentence, code=488)
                ),
                now,
            )
            return
        session.establish(dialog, media, response, now)
        session.timer.accepted(response, now)

    def _confirmed(self, invite: Request, response: Response, flow: Flow) -> Dialog:
        """The dialog of a 2xx: its early dialog confirmed, or a new one."""
        dialog = self._forget_early(response.to_tag)
        if dialog is None:
            return Dialog.from_response(invite, response, flow.transport)
        dialog.confirm(invite, response)
        return dialog

    def _answered(self, answer: bytes) -> NegotiatedMedia:
        """Takes the answer of the 2xx; one that has none repeats what its 18x said (§13.2.1: the first SDP counts)."""
        offer_answer = self._session.offer_answer
        if offer_answer is None or not answer:
            raise MediaNotAcceptable("the answer has no SDP", code=488)
        return offer_answer.accept_answer(answer)

    def _on_no_way_to_ack(self, tag: str, now: float) -> None:
        """Nothing leads to the far end's Contact. It sends its 2xx for 64 T1, and each copy tries anew."""
        session = self._session
        if tag == self._answered_by and not self._gives_up_ack:
            self._gives_up_ack = True
            session.set_deadline("ack", now + session.context.timers.timeout)

    def on_ack_deadline(self, now: float) -> None:
        """The far end has had its time: without an ACK it has given the call up (§13.3.1.4)."""
        ack = self._acks.get(self._answered_by)
        if ack is not None and not ack.sent:
            sentence = f"{self._session.peer} answered, but its Contact cannot be reached"
            error = ServerUnreachable(sentence, code=503)
            self._session.break_off(SessionEnded(EndCause.UNREACHABLE, Party.NETWORK, 503, sentence, error), now)

    # -- ends ------------------------------------------------------------------------------------------------------

    def _given_up(self) -> SessionEnded:
        """This side's own patience, or wish, has ended the call."""
        if self._rang_out:
            sentence = f"No answer from {self._session.peer} within {self._ring_timeout:g} s"
            error: CallTimeout | CallCancelled = CallTimeout(sentence, code=408)
            return SessionEnded(EndCause.TIMEOUT, Party.LOCAL, 408, sentence, error, self._reasons)
        error = CallCancelled("Cancelled before the answer", code=487)
        return SessionEnded(EndCause.CANCELLED, Party.LOCAL, 487, str(error), error, self._reasons)
