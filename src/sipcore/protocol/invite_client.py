"""The caller's side of setting up a session (RFC 3261 §13.2)."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from sipcore.errors import CallCancelled, CallTimeout, MediaNotAcceptable
from sipcore.events import EndCause, Party
from sipcore.protocol.builder import make_request
from sipcore.protocol.dialog import Dialog
from sipcore.protocol.offer_answer import OfferAnswer
from sipcore.protocol.session_context import ALLOW, SDP, ended_by_failure, ended_by_response
from sipcore.protocol.session_events import SessionEnded, SessionProvisional
from sipcore.protocol.uac import RequestPlan

if TYPE_CHECKING:
    from sipcore.protocol.flows import Flow, Target
    from sipcore.protocol.invite_session import InviteSession
    from sipcore.protocol.offer_answer import NegotiatedMedia
    from sipcore.protocol.uac import UacFailure, UacRequest
    from sipcore.protocol.values import Uri
    from sipcore.protocol.wire import Request, Response

__all__ = ["CallerSetup"]

MAX_FORKS = 16
"""Answers of more branches than this are ignored; no proxy forks a voice bot's call further."""


class CallerSetup:
    """Sends the INVITE, follows its provisional responses, ACKs every 2xx, and keeps exactly one of them."""

    def __init__(self, session: InviteSession) -> None:
        self._session = session
        self._request: UacRequest | None = None
        self._cseq = session.context.ids.cseq()
        self._media_port = 0
        self._ring_timeout = 0.0
        self._rang_out = False
        self._cancelled = False
        self._acks: dict[str, tuple[Flow, bytes] | None] = {}
        """Sent ACKs by the far end's tag; None while a flow for it is being found."""

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
        session = self._session
        self._media_port = media_port
        self._ring_timeout = ring_timeout
        session.flow_target = target
        session.set_deadline("ring", now + ring_timeout)
        self._request = session.context.uac.send(
            RequestPlan(
                method="INVITE",
                uri=uri,
                from_=f"{session.identity.address};tag={session.local_tag}",
                to=f"<{uri}>",
                call_id=session.call_id,
                next_cseq=self._next_cseq,
                target=target,
                routes=routes,
                contact=session.identity.contact,
                headers=(("Allow", ", ".join(ALLOW)), *headers),
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
            codecs=session.context.codecs,
            host=flow.advertised[0],
            port=self._media_port,
            ids=session.context.ids,
        )
        return session.offer_answer.create_offer()

    def cancel(self, now: float) -> None:
        """Gives up before the answer (§9.1); the session ends when the INVITE does."""
        self._cancelled = True
        if self._request is not None:
            self._request.cancel(now)

    def ring_out(self, now: float) -> None:
        """Nobody answered within the ring time."""
        self._rang_out = True
        self.cancel(now)
        transaction = self._request.transaction if self._request is not None else None
        if transaction is None or transaction.last_provisional is None:
            # The CANCEL has to wait for a provisional response (§9.1), the caller need not: where nobody is there the
            # INVITE would keep it until timer B. A late answer still gets its ACK and BYE.
            self._session.end(self._rang_out_end(), now)

    # -- UacHandler ------------------------------------------------------------------------------------------------

    def on_provisional(self, request: UacRequest, response: Response, now: float) -> None:
        """100 says nothing; 101-199 may open an early dialog (§13.2.2.1)."""
        session = self._session
        if response.status == 100 or self._cancelled or not session.setting_up:
            return
        session.emit(SessionProvisional(response.status, response.reason, self._early_media(response)))

    def _early_media(self, response: Response) -> NegotiatedMedia | None:
        """An answer in an unreliable 18x is a preview of the one in the 2xx (RFC 6337 §3.1.1): tried on a copy."""
        offer_answer = self._session.offer_answer
        if offer_answer is None or response.content_type != SDP or not response.body:
            return None
        try:
            return copy.copy(offer_answer).accept_answer(response.body)
        except MediaNotAcceptable:
            return None

    def on_final(self, request: UacRequest, response: Response, now: float) -> None:
        """2xx, each copy and each fork of it, or one failure (§13.2.2.2-4)."""
        if response.status < 300:
            self._accepted(request, response, now)
            return
        session = self._session
        if self._rang_out and response.status == 487:
            session.end(self._rang_out_end(), now)
        else:
            session.end(ended_by_response(response, session.peer, cancelled=self._cancelled), now)

    def on_failure(self, request: UacRequest, failure: UacFailure, now: float) -> None:
        """Timer B, a transport error, or no flow."""
        if self._rang_out:
            self._session.end(self._rang_out_end(), now)
        elif self._cancelled:
            self._session.end(self._cancelled_end(), now)
        else:
            self._session.end(ended_by_failure(failure), now)

    # -- 2xx -------------------------------------------------------------------------------------------------------

    def _accepted(self, request: UacRequest, response: Response, now: float) -> None:
        invite, flow, tag = request.request, request.flow, response.to_tag
        if invite is None or flow is None:
            return
        if tag in self._acks:
            self._acknowledge_again(tag)
            return
        if len(self._acks) >= MAX_FORKS:
            return
        session = self._session
        dialog = Dialog.from_response(invite, response, flow.transport)
        self._acknowledge(dialog, invite)
        if not session.setting_up:
            # Another fork answered too, or the 200 overtook our CANCEL: §13.2.2.4 and §15 have it hung up with a BYE.
            session.send_bye_on(dialog, now)
            return
        if self._rang_out or self._cancelled:
            session.send_bye_on(dialog, now)
            session.end(self._rang_out_end() if self._rang_out else self._cancelled_end(), now)
            return
        try:
            media = self._answered(response)
        except MediaNotAcceptable as error:
            session.send_bye_on(dialog, now)
            sentence = f"{response.status} {response.reason} from {session.peer}, but no usable media: {error}"
            session.end(
                SessionEnded(
                    EndCause.MEDIA, Party.LOCAL, response.status, sentence, MediaNotAcceptable(sentence, code=488)
                ),
                now,
            )
            return
        session.establish(dialog, media, response, now)

    def _answered(self, response: Response) -> NegotiatedMedia:
        offer_answer = self._session.offer_answer
        if offer_answer is None or not response.body:
            raise MediaNotAcceptable("the answer has no SDP", code=488)
        return offer_answer.accept_answer(response.body)

    def _acknowledge(self, dialog: Dialog, invite: Request) -> None:
        """ACK to a 2xx: a request of its own, to the Contact through the route set (§13.2.2.4)."""
        uri, routes = dialog.request_line_and_routes()
        credentials = tuple(
            (name, value) for name in ("Authorization", "Proxy-Authorization") for value in invite.headers.get_all(name)
        )
        ack = make_request(
            "ACK",
            uri,
            from_=dialog.local,
            to=dialog.remote,
            call_id=dialog.id.call_id,
            cseq=invite.cseq.number,
            routes=routes,
            headers=credentials,
            user_agent=self._session.context.user_agent,
        )
        self._acks[dialog.id.remote_tag] = None
        layer = self._session.context.layer

        def send(ready: Flow, at: float) -> None:
            self._acks[dialog.id.remote_tag] = (ready, layer.send_stateless(ack, ready))

        def give_up(detail: str, at: float) -> None:
            # The far end sends its 2xx again; the next copy tries anew.
            self._acks.pop(dialog.id.remote_tag, None)

        session = self._session
        session.context.want_flow(dialog.next_hop, session.preferred_flow(dialog), send, give_up)

    def _acknowledge_again(self, tag: str) -> None:
        """A retransmitted 2xx gets the same ACK once more (§13.2.2.4)."""
        sent = self._acks[tag]
        if sent is not None:
            self._session.context.layer.transmit(*sent)

    # -- ends ------------------------------------------------------------------------------------------------------

    def _rang_out_end(self) -> SessionEnded:
        sentence = f"No answer from {self._session.peer} within {self._ring_timeout:g} s"
        return SessionEnded(EndCause.TIMEOUT, Party.LOCAL, 408, sentence, CallTimeout(sentence, code=408))

    def _cancelled_end(self) -> SessionEnded:
        error = CallCancelled("Cancelled before the answer", code=487)
        return SessionEnded(EndCause.CANCELLED, Party.LOCAL, 487, str(error), error)
