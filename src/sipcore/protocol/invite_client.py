"""The caller's side of setting up a session (RFC 3261 §13.2)."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, NamedTuple

from sipcore.errors import CallCancelled, CallTimeout, MediaNotAcceptable, ServerUnreachable
from sipcore.events import EndCause, Party, Reason
from sipcore.protocol.acknowledgement import Acknowledgement
from sipcore.protocol.dialog import Dialog
from sipcore.protocol.early_dialog import EarlyDialog, reliable_number
from sipcore.protocol.hangup import Unheard
from sipcore.protocol.late_answers import MAX_FORKS, LateAnswers
from sipcore.protocol.offer_answer import OfferAnswer
from sipcore.protocol.reasons import NO_ANSWER, NORMAL_CLEARING, reason_headers
from sipcore.protocol.redirects import Redirects
from sipcore.protocol.session_context import SDP, capabilities, ended_by_failure, ended_by_response, refusal_of_method
from sipcore.protocol.session_events import SessionEnded, SessionMediaChanged, SessionProvisional
from sipcore.protocol.uac import RequestPlan

if TYPE_CHECKING:
    from collections.abc import Callable

    from sipcore.protocol.flows import Flow, Target
    from sipcore.protocol.invite_session import InviteSession, LocalIdentity
    from sipcore.protocol.offer_answer import NegotiatedMedia
    from sipcore.protocol.transaction import ServerTransaction
    from sipcore.protocol.uac import UacFailure, UacRequest
    from sipcore.protocol.values import Uri
    from sipcore.protocol.wire import Request, Response

__all__ = ["CallerSetup", "Way"]


class Way(NamedTuple):
    """How an address is called."""

    uri: Uri
    target: Target
    identity: LocalIdentity
    flow: Flow | None = None
    """The one to prefer while it is open."""


class CallerSetup:
    """Sends the INVITE, follows its provisional responses, and takes its first 2xx; others are :class:`LateAnswers`."""

    _to: str
    _uri: Uri
    _target: Target
    _routes: tuple[str, ...]
    _headers: tuple[tuple[str, str], ...]
    _redirects: Redirects
    _way: Callable[[Uri], Way]

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
        self._delayed = False
        """The INVITE has no offer; the far end makes it (§13.2.1)."""
        self._offered: OfferAnswer | None = None
        """What the INVITE says of media; each branch goes on with a copy of its own."""
        self._offers_savp = False
        """This address has refused an offer of RTP/AVP with keys, and is asked once more."""
        self._early: dict[str, EarlyDialog] = {}
        """Early dialogs by the far end's tag (§13.2.2.1)."""
        self._ack: Acknowledgement | None = None
        """Of the first 2xx; others are not for this session."""
        self._gives_up_ack = False
        self._prefer: Flow | None = None

    def start(
        self,
        *,
        uri: Uri,
        target: Target,
        routes: tuple[str, ...],
        headers: tuple[tuple[str, str], ...],
        media_port: int,
        ring_timeout: float,
        delayed: bool,
        way: Callable[[Uri], Way],
        now: float,
        flow: Flow | None = None,
    ) -> None:
        """Sends the INVITE (§13.2.1).

        Args:
            delayed: without an offer.
            way: how to reach an address that a redirection names.
            flow: where it is sent while that is open.
        """
        self._delayed = delayed
        self._way = way
        self._redirects = Redirects(uri, self._session.identity.policy.max_redirects)
        self._prefer = flow
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
                headers=(
                    *capabilities(reliable=session.identity.policy.rel100 != "never"),
                    *session.timer.asks(),
                    *self._headers,
                ),
                body=self._offer,
                content_type=SDP,
                digest=session.identity.digest,
                agreement=session.identity.agreement,
                flow=self._prefer,
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
        self._offered = session.offer_answer = OfferAnswer(
            codecs=session.identity.codecs or session.context.codecs,
            host=flow.advertised[0],
            port=self._media_port,
            ids=session.context.ids,
            ptime=session.identity.policy.ptime,
            srtp=session.identity.policy.srtp,
            secure_profile=self._offers_savp,
            to_access_edge=session.identity.agreement is not None,
        )
        return b"" if self._delayed else self._offered.create_offer()

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
        """100 says nothing; 101-199 may open an early dialog (§13.2.2.1), and may want a PRACK (RFC 3262 §4)."""
        session = self._session
        if response.status == 100 or not session.setting_up:
            return
        early = self._early_dialog_of(request, response)
        number = reliable_number(response)
        if number is not None and early is not None:
            if not early.expects(number):
                return
            media = self._acknowledge(early, response, number, now)
        else:
            media = self._preview(early, response)
        if response.status == 199:
            # RFC 6228 §4: that branch is over, and the call may still be answered on another.
            self._forget_early(response.to_tag)
        elif not self._cancelled:
            session.emit(SessionProvisional(response.status, response.reason, media))

    def _early_dialog_of(self, request: UacRequest, response: Response) -> EarlyDialog | None:
        """The early dialog of a response, opened where it is the first with that tag."""
        tag, invite, flow = response.to_tag, request.request, request.flow
        known = self._early.get(tag)
        if known is not None or not tag or invite is None or flow is None or self._offered is None:
            return known
        if len(self._early) >= MAX_FORKS:
            return None
        dialog = Dialog.from_response(invite, response, flow.transport)
        early = self._early[tag] = EarlyDialog(dialog, copy.copy(self._offered))
        self._session.context.add_dialog(dialog.id, self._session)
        return early

    def _acknowledge(self, early: EarlyDialog, response: Response, number: int, now: float) -> NegotiatedMedia | None:
        """Sends the PRACK of a reliable response (RFC 3262 §4); its SDP counts (§5), and so is early media."""
        body, media = early.take_reliable(response, delayed=self._delayed)
        self._session.request(
            "PRACK",
            Unheard(),
            now,
            dialog=early.dialog,
            headers=(("RAck", f"{number} {response.cseq.number} INVITE"), *capabilities(reliable=False)),
            body=body,
            content_type=SDP,
        )
        return media

    def _preview(self, early: EarlyDialog | None, response: Response) -> NegotiatedMedia | None:
        """An answer in an unreliable 18x is a preview of the one in the 2xx (RFC 6337 §3.1.1): tried on a copy."""
        negotiation = early.negotiation if early is not None else self._offered
        if self._delayed or negotiation is None or response.content_type != SDP or not response.body:
            return None
        if early is not None and early.settled:
            return None
        try:
            media = copy.copy(negotiation).accept_answer(response.body)
        except MediaNotAcceptable:
            return None
        if early is not None:
            early.remember(response.body)
        return media

    # -- requests in early dialogs ---------------------------------------------------------------------------------

    def early_dialog(self, request: Request) -> EarlyDialog | None:
        """The early dialog of a request from the far end."""
        return self._early.get(request.from_tag)

    def on_early_request(
        self, early: EarlyDialog, transaction: ServerTransaction, request: Request, now: float
    ) -> None:
        """A request of a callee that has not answered yet (§12.2.2). While our offer is open, it may not make one."""
        session = self._session
        match request.method:
            case "UPDATE" if not request.body:
                early.dialog.refresh_target(request)
                session.respond(transaction, 200, now, contact=True)
            case "UPDATE" if early.settled:
                media = session.reoffer.answer_update(early.dialog, early.negotiation, transaction, request, now)
                if media is not None:
                    session.emit(SessionMediaChanged(media))
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
            case "NOTIFY" | "PRACK":
                session.respond(transaction, 481, now)
            case "INFO" | "MESSAGE":
                session.in_dialog.on_request(transaction, request, now)
            case _:
                session.respond(transaction, refusal_of_method(request.method), now)

    def _forget_early(self, tag: str) -> EarlyDialog | None:
        early = self._early.pop(tag, None)
        if early is not None:
            self._session.context.remove_dialog(early.dialog.id)
        return early

    def forget_early_dialogs(self) -> None:
        """One branch has answered, or none will: requests in the other dialogs get 481."""
        for tag in tuple(self._early):
            self._forget_early(tag)

    # -- the final response ----------------------------------------------------------------------------------------

    def on_final(self, request: UacRequest, response: Response, now: float) -> None:
        """The first 2xx, or one failure (§13.2.2.2-4)."""
        if response.status < 300:
            self._accepted(request, response, now)
            return
        session = self._session
        if response.status == 422 and not self._cancelled and session.timer.raised_by(response):
            self._invite_again(now)
        elif response.status == 488 and not self._cancelled and self._may_offer_savp():
            self._offers_savp = True
            self._invite_again(now)
        elif self._cancelled and response.status in (401, 407, 408, 487):
            # 487 is what a CANCEL asks for; the others only say that the INVITE got no further before it.
            session.end(self._given_up(), now)
        elif self._cancelled or not self._goes_elsewhere(response, now):
            session.end(ended_by_response(response, session.peer, request.unanswered), now)

    def on_failure(self, request: UacRequest, failure: UacFailure, now: float) -> None:
        """Timer B, a transport error, or no flow."""
        if self._cancelled or not self._goes_elsewhere(None, now):
            self._session.end(self._given_up() if self._cancelled else ended_by_failure(failure), now)

    def _invite_again(self, now: float) -> None:
        self.forget_early_dialogs()
        self._invite(now)

    def _may_offer_savp(self) -> bool:
        """Whether a 488 may mean that the far end insists on RTP/SAVP: what it got is RTP/AVP with keys (RFC 8643)."""
        return self._session.identity.policy.srtp == "optional" and not self._delayed and not self._offers_savp

    def _goes_elsewhere(self, response: Response | None, now: float) -> bool:
        """Tries the next address that a redirection has named (§8.1.3.4): same Call-ID, From and To, next CSeq."""
        if response is not None:
            self._redirects.add(response)
            if response.status >= 600:
                return False
        elsewhere = self._redirects.next()
        if elsewhere is None:
            return False
        self._uri, self._target, self._session.identity, self._prefer = self._way(elsewhere)
        self._offers_savp = False
        self._invite_again(now)
        return True

    # -- 2xx -------------------------------------------------------------------------------------------------------

    def _accepted(self, request: UacRequest, response: Response, now: float) -> None:
        invite, flow, tag = request.request, request.flow, response.to_tag
        if invite is None or flow is None:
            return
        session = self._session
        early = self._forget_early(tag)
        dialog = self._confirmed(early, invite, response, flow)
        negotiation, reply, media = self._negotiated(early, response)
        prefer = session.preferred_flow(dialog)
        ack = self._ack = Acknowledgement(session.context, dialog, invite, prefer, self._on_no_way_to_ack, reply)
        if request.transaction is not None:
            identity, delayed = session.identity, self._offered if self._delayed else None
            late = LateAnswers(
                session.context, tag, ack, session.flow_target, identity.digest, identity.agreement, delayed
            )
            session.context.layer.hand_over(request.transaction, late)
        self._request = None
        ack.send()
        if not session.setting_up:
            # The 200 came when this side had given up already: §15 has it hung up with a BYE.
            session.send_bye_on(dialog, now)
            return
        if self._cancelled:
            session.send_bye_on(dialog, now, self._reasons)
            session.end(self._given_up(), now)
            return
        if isinstance(media, MediaNotAcceptable):
            session.send_bye_on(dialog, now, (Reason("SIP", 488, "Not Acceptable Here"),))
            sentence = f"{response.status} {response.reason} from {session.peer}, but no usable media: {media}"
            session.end(
                SessionEnded(
                    EndCause.MEDIA, Party.LOCAL, response.status, sentence, MediaNotAcceptable(sentence, code=488)
                ),
                now,
            )
            return
        session.offer_answer = negotiation
        session.establish(dialog, media, response, now)
        session.timer.accepted(response, now)

    def _confirmed(self, early: EarlyDialog | None, invite: Request, response: Response, flow: Flow) -> Dialog:
        """The dialog of a 2xx: its early dialog confirmed, or a new one."""
        if early is None:
            return Dialog.from_response(invite, response, flow.transport)
        early.dialog.confirm(invite, response)
        return early.dialog

    def _negotiated(
        self, early: EarlyDialog | None, response: Response
    ) -> tuple[OfferAnswer | None, bytes, NegotiatedMedia | MediaNotAcceptable]:
        """What a 2xx settles: how this branch goes on, the body of the ACK, and the media, or why there are none."""
        negotiation = early.negotiation if early is not None else copy.copy(self._offered)
        if early is not None and early.settled and early.negotiation.current is not None:
            return negotiation, b"", early.negotiation.current
        answer = early.final_answer(response) if early is not None else response.body
        if negotiation is None or not answer:
            return negotiation, b"", MediaNotAcceptable("the answer has no SDP", code=488)
        try:
            if self._delayed:
                reply, media = negotiation.answer(answer)
            else:
                reply, media = b"", negotiation.accept_answer(answer)
        except MediaNotAcceptable as error:
            return negotiation, b"", error
        return negotiation, reply, media

    def _on_no_way_to_ack(self, now: float) -> None:
        """Nothing leads to the far end's Contact. It sends its 2xx for 64 T1, and each copy tries anew."""
        session = self._session
        if session.connected and not self._gives_up_ack:
            self._gives_up_ack = True
            session.set_deadline("ack", now + session.context.timers.timeout)

    def on_ack_deadline(self, now: float) -> None:
        """The far end has had its time: without an ACK it has given the call up (§13.3.1.4)."""
        if self._ack is not None and not self._ack.sent:
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
