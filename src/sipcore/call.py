"""A call as an embedder holds it."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from sipcore.call_audio import CallAudio
from sipcore.call_life import CallLife
from sipcore.call_transfers import CallTransfers
from sipcore.errors import InvalidRequest, NoOngoingCall
from sipcore.events import (
    CallAnswered,
    CallEnded,
    CallEvent,
    CallHeld,
    CallReplaced,
    CallResumed,
    CallRinging,
    DtmfReceived,
    EndCause,
    Party,
)
from sipcore.keys import Keys
from sipcore.media import checked_digits
from sipcore.protocol.builder import extension_headers
from sipcore.protocol.params import legible
from sipcore.protocol.reasons import MEDIA_TIMEOUT, NORMAL_CLEARING
from sipcore.protocol.session_events import (
    SessionEarlyMedia,
    SessionEnded,
    SessionEstablished,
    SessionHeard,
    SessionMediaChanged,
    SessionOfferSettled,
    SessionProvisional,
)
from sipcore.requests import CallRequests, check_body, check_headers
from sipcore.transfer import referred_by

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from sipcore.broadcast import Subscription
    from sipcore.events import InfoReceived, MessageReceived, Reason
    from sipcore.media import CallMedia
    from sipcore.protocol.invite_session import InviteSession
    from sipcore.protocol.offer_answer import NegotiatedMedia
    from sipcore.protocol.reoffer import Direction
    from sipcore.protocol.session_events import SessionEvent
    from sipcore.registration import Registration
    from sipcore.runtime import Runtime
    from sipcore.transfer import ReferRequest, Transfer

__all__ = ["Call", "CallState"]

_REASONS: dict[EndCause | None, Reason] = {EndCause.SILENCE: MEDIA_TIMEOUT}
"""What the far end is told where this side hangs up for a reason of its own."""


class CallState(Enum):
    """Where a call stands."""

    TRYING = "trying"
    RINGING = "ringing"
    CONNECTED = "connected"
    ENDING = "ending"
    ENDED = "ended"


class Call(CallAudio):
    """One call, outgoing or incoming. Leaving its ``async with`` block hangs it up.

    Methods that need a connected call raise :class:`~sipcore.errors.NoOngoingCall` on any other.
    """

    def __init__(self, runtime: Runtime, registration: Registration, session: InviteSession) -> None:
        self._runtime = runtime
        self._session = session
        super().__init__()
        self.registration = registration
        """The account this call belongs to."""
        self.state = CallState.TRYING
        self.ended: CallEnded | None = None
        """Set once the call is over."""
        self.headers: Mapping[str, str] = MappingProxyType({})
        """The far end's extension headers: of its INVITE, or of its 2xx."""
        self.on_refer: Callable[[ReferRequest], None] | None = None
        """Called when the far end asks for a transfer; without it such requests get 603."""
        self.replaces: Call | None = runtime.call_of(session.replaces) if session.replaces is not None else None
        """The call of this account in whose place the far end asks to come (RFC 3891): it is hung up, and this one
        answered, unless the screen refuses."""
        self.codec = ""
        """What is spoken, as in :class:`~sipcore.events.CallAnswered`; empty before media was agreed on."""
        self.replaced_by: Call | None = None
        """The call that has come in this one's place."""
        self._life = CallLife()
        self._keys = Keys()
        self._requests = CallRequests(runtime, session)
        self._transfers: CallTransfers | None = None
        """Made when it is needed: it and the call hold each other."""
        self._held = False
        self._early_media = False
        self._end_cause: EndCause | None = None
        if not session.outgoing and session.callee is not None:
            self.headers = MappingProxyType(extension_headers(session.callee.request))

    def __repr__(self) -> str:
        return f"<Call {self.direction} {self.remote} {self.state.value}>"

    async def __aenter__(self) -> Call:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.hangup()

    # -- what it is ------------------------------------------------------------------------------------------------

    @property
    def session(self) -> InviteSession:
        """The call inside the protocol core."""
        return self._session

    @property
    def direction(self) -> str:
        """``outgoing`` or ``incoming``."""
        return "outgoing" if self._session.outgoing else "incoming"

    @property
    def remote(self) -> str:
        """The far end's URI: the callee as dialled, or the caller's From."""
        return self._session.peer

    @property
    def call_id(self) -> str:
        """The SIP Call-ID (RFC 3261 §8.1.1.4)."""
        return legible(self._session.call_id)

    @property
    def referred_by(self) -> str:
        """Who sent the caller here, as the caller says: the URI of Referred-By (RFC 3892), or empty."""
        callee = self._session.callee
        return referred_by(callee.request) if callee is not None else ""

    @property
    def is_connected(self) -> bool:
        """Answered and not over."""
        return self.state is CallState.CONNECTED

    @property
    def held_by_remote(self) -> bool:
        """Whether the far end holds the call."""
        return self._held

    def events(self) -> Subscription[CallEvent]:
        """Every event from the first on, ending after :class:`~sipcore.events.CallEnded`; any number of readers.

        A reader that falls a thousand events behind gets :class:`~sipcore.broadcast.Lost` for those it missed.
        """
        return self._life.events()

    # -- setting up ------------------------------------------------------------------------------------------------

    async def connected(self) -> None:
        """Waits until the call is connected.

        Raises:
            CallRejected, CallTimeout, CallCancelled, MediaNotAcceptable, AuthenticationFailed, ServerUnreachable:
                it never will be; ``code`` is the SIP status code.
        """
        await self._life.wait_settled()
        if self.ended is not None and self.ended.error is not None:
            raise self.ended.error

    async def answer(self) -> None:
        """Answers an incoming call with 200 and waits until media may flow.

        Raises:
            NoOngoingCall: the call is over, or is not an incoming one that rings.
        """
        if self._session.callee is None or self.ended is not None:
            raise NoOngoingCall("There is no incoming call to answer")
        if self.state in (CallState.TRYING, CallState.RINGING):
            self._session.callee.answer(self._runtime.now())
            self._runtime.pump()
        await self.connected()

    async def progress(self) -> None:
        """Early media: sends 183 to an incoming call that rings, with our SDP, and waits until audio may flow.

        From then on, until :meth:`answer`, :meth:`reject` or the caller's CANCEL, the caller hears what is played:
        announcements, music, the ringing of somewhere else. Nothing is charged for that as a rule, and networks cut it
        off after a minute or a few. Where ringing is reliable (``CallPolicy.rel100``), so is the 183.

        Raises:
            NoOngoingCall: the call is over, or is not an incoming one.
            MediaNotAcceptable: the caller made no offer in its INVITE and takes no reliable responses.
            CallCancelled, CallRejected: the call ended before audio could flow.
        """
        if self._session.callee is None or self.ended is not None:
            raise NoOngoingCall("There is no incoming call that could have early media")
        if self.state in (CallState.TRYING, CallState.RINGING):
            self._session.callee.progress(self._runtime.now())
            self._runtime.pump()
        await self._life.wait_flowing()
        if self.ended is not None and self.ended.error is not None:
            raise self.ended.error

    def reject(self, code: int = 603, reason: str = "") -> None:
        """Refuses an incoming call that still rings. ``code`` is 300-699."""
        if self._session.callee is not None and self._session.setting_up:
            self._session.hang_up(self._runtime.now(), code=code, reason=reason)
            self._runtime.pump()

    # -- ending ----------------------------------------------------------------------------------------------------

    async def hangup(
        self, *, code: int = 603, cause: EndCause | None = None, reason: Reason | None = None
    ) -> CallEnded:
        """Ends the call: BYE, CANCEL before the answer, or ``code`` to a ringing incoming call. Waits until it is over.

        Args:
            code: final response for an incoming call that was not answered yet.
            cause: why, for :class:`~sipcore.events.CallEnded`; default: as the protocol sees it.
            reason: why, for the far end: the Reason header field of BYE or CANCEL (RFC 3326); default: normal
                clearing, or what ``cause`` says.
        """
        if self.ended is None:
            self._begin_end(code, cause, reason or _REASONS.get(cause, NORMAL_CLEARING))
        return await self._life.wait_over()

    def hangup_now(self, *, code: int = 603, cause: EndCause = EndCause.HANGUP, reason: Reason | None = None) -> None:
        """Media stops and the call is over at once; BYE or CANCEL is still sent, and nobody waits for its answer."""
        if self.ended is not None:
            return
        connected = self._life.settled
        reason = reason or _REASONS.get(cause, NORMAL_CLEARING)
        self._begin_end(code, cause, reason)
        if self.ended is None:
            error = None if connected else NoOngoingCall("Hung up by this side before the answer")
            sentence = "Hung up by this side at once"
            if self.replaced_by is not None:
                sentence = f"Replaced by a call from {self.replaced_by.remote}"
            self._finish(CallEnded(cause, Party.LOCAL, 0, sentence, error, (reason,)))

    def seconds_of_silence(self) -> float:
        """For how long the far end has sent nothing although its audio is expected."""
        if self._media is None or self.state is not CallState.CONNECTED:
            return 0.0
        return self._media.seconds_of_silence(self._runtime.now())

    def seconds_refused(self) -> float:
        """For how long the far end's host has said that nobody listens at its RTP port (ICMP)."""
        return self._media.seconds_refused() if self._media is not None else 0.0

    def look_for_life(self, patience: float) -> None:
        """On hold nothing need come: a far end that is quiet for ``patience`` seconds is asked whether it is there."""
        if self._media is not None and self.state is CallState.CONNECTED:
            self._requests.look_for_life(self._media.seconds_since_life(), patience)

    def end_silent(self, sentence: str) -> None:
        """The far end is taken for dead: the call is over at once, and BYE is sent in case it is not."""
        self._begin_end(603, EndCause.SILENCE, MEDIA_TIMEOUT)
        if self.ended is None:
            self._finish(CallEnded(EndCause.SILENCE, Party.NETWORK, 0, sentence, None, (MEDIA_TIMEOUT,)))

    def _begin_end(self, code: int, cause: EndCause | None, reason: Reason) -> None:
        self._end_cause = cause
        if self._media is not None:
            self._media.stop()
        if self.state is not CallState.ENDING:
            self.state = CallState.ENDING
            self._session.hang_up(self._runtime.now(), code=code, reasons=(reason,))
            self._runtime.pump()

    async def wait_ended(self) -> CallEnded:
        """Waits until the call is over, whoever ends it."""
        return await self._life.wait_over()

    # -- keys ------------------------------------------------------------------------------------------------------

    async def send_dtmf(
        self, digits: str, *, method: Literal["auto", "rfc4733", "info"] = "auto", duration_ms: int = 160
    ) -> None:
        """Sends keys and waits until they are out.

        Args:
            digits: of ``0-9 * # A-D``.
            method: ``rfc4733``: telephone-events in step with the audio; ``info``: INFO requests with
                ``application/dtmf-relay``; ``auto``: the first where the far end takes it, else the second.
            duration_ms: what an INFO says; telephone-events last as long as the engine has them last.

        Raises:
            NoOngoingCall: the call is not connected, or the far end takes no telephone-event (``rfc4733``).
            InvalidRequest: another character, or no duration of 40-5000 ms.
            RequestRejected, RequestTimeout, AuthenticationFailed, ServerUnreachable: the far end takes no INFO either.
        """
        keys = checked_digits(digits)
        if not 40 <= duration_ms <= 5000:
            raise InvalidRequest(f"duration_ms: {duration_ms} is not 40-5000", field="duration_ms")
        media = self._connected_media()
        if method == "info" or (method == "auto" and not media.takes_events):
            await self._requests.send_keys(keys, duration_ms)
        else:
            await media.send_dtmf(keys)

    # -- messages --------------------------------------------------------------------------------------------------

    async def send_info(self, body: str | bytes, content_type: str, *, headers: Mapping[str, str] | None = None) -> int:
        """Sends an INFO inside the call (RFC 6086 §3) and waits for its answer; returns the 2xx status code.

        Raises:
            InvalidRequest, InvalidHeader: nothing was sent.
            NoOngoingCall: the call is not connected.
            RequestRejected, RequestTimeout, AuthenticationFailed, ServerUnreachable: it did not get through.
        """
        checked = check_body(body, content_type)
        return await self._requests.send("INFO", content_type, checked, check_headers(headers))

    async def send_message(
        self, text: str | bytes, content_type: str = "text/plain", *, headers: Mapping[str, str] | None = None
    ) -> int:
        """Sends a MESSAGE inside the call (RFC 3428); as :meth:`send_info`."""
        checked = check_body(text, content_type)
        return await self._requests.send("MESSAGE", content_type, checked, check_headers(headers))

    def _connected_media(self) -> CallMedia:
        if self.state is not CallState.CONNECTED or self._media is None:
            raise NoOngoingCall(f"The call with {self.remote} is not connected")
        return self._media

    def _flowing_media(self) -> CallMedia:
        early = self.state is CallState.RINGING and self._life.flows
        return self._media if early and self._media is not None else self._connected_media()

    def _publish(self, event: CallEvent) -> None:
        self._life.publish(event)

    # -- hold and transfer -----------------------------------------------------------------------------------------

    async def hold(self) -> None:
        """Asks the far end to stop sending: re-INVITE ``sendonly`` (RFC 3264 §8.4). Waits until it has agreed.

        Raises:
            HoldRejected: it did not, or :meth:`resume` overtook it; the call goes on as it was.
            NoOngoingCall: the call is not, or no longer, connected.
        """
        await self._offer("sendonly")

    async def resume(self) -> None:
        """Undoes :meth:`hold`: re-INVITE ``sendrecv``. Waits and raises likewise."""
        await self._offer("sendrecv")

    async def _offer(self, direction: Direction) -> None:
        self._connected_media()
        await self._requests.offer(direction)

    def refer(self, to: str | Call, *, headers: Mapping[str, str] | None = None, subscribe: bool = True) -> Transfer:
        """Sends a REFER and returns at once; the call goes on.

        Args:
            to: whom the far end shall call: a URI, ``user@host``, or a bare user or number at the account's domain;
                or another connected call, whose place the far end shall take (Replaces, RFC 3891).
            headers: extension headers of the REFER.
            subscribe: False: the far end is asked not to report (``Refer-Sub: false``, RFC 4488).

        Raises:
            InvalidAddress, InvalidHeader: nothing was sent.
            NoOngoingCall: the call, or the other one, is not connected.
        """
        return self._transferring().refer(to, headers, subscribe=subscribe)

    async def transfer(self, to: str, *, headers: Mapping[str, str] | None = None, timeout: float = 10.0) -> None:
        """Blind transfer: REFER, wait until it is accepted, then hang up.

        Raises:
            TransferRejected: it was refused; the call goes on.
            TransferTimeout: no answer within ``timeout`` seconds; the call goes on.
            NoOngoingCall: the call is not, or no longer, connected.
            InvalidAddress, InvalidHeader: nothing was sent.
        """
        await self._transferring().blind(to, headers, timeout)

    async def attended_transfer(
        self, consultation: Call, *, headers: Mapping[str, str] | None = None, timeout: float = 10.0
    ) -> None:
        """Connects this call's far end with that of ``consultation``: REFER with Replaces (RFC 5589 §7), wait until the
        one has taken our place with the other, then hang up what is left of both calls.

        Raises:
            TransferRejected: the REFER was refused, or the far end reports that it failed; both calls go on.
            TransferTimeout: no outcome within ``timeout`` seconds; both calls go on.
            NoOngoingCall: one of the calls is not, or no longer, connected.
            InvalidHeader: nothing was sent.
        """
        await self._transferring().attended(consultation, headers, timeout)

    def _transferring(self) -> CallTransfers:
        if self._transfers is None:
            self._transfers = CallTransfers(self, self._runtime, self._life.publish)
        return self._transfers

    # -- told by the user agent ------------------------------------------------------------------------------------

    def attach(self, media: CallMedia) -> None:
        """The RTP stream of the call is open."""
        self._media = media
        media.on_dtmf(self._on_heard)
        if self.registration.account.dtmf_detection != "events":
            media.detect_keys(self.registration.account.dtmf_detection)

    def on_ringing(self) -> None:
        """The incoming call rings here."""
        self.state = CallState.RINGING
        self._life.publish(CallRinging(180, "Ringing"))

    def on_replaced(self, by: Call) -> None:
        """Another call has come in this one's place (RFC 3891 §3): what is left of it is hung up."""
        if self.ended is not None:
            return
        self.replaced_by = by
        self._life.publish(CallReplaced(by.call_id))
        self.hangup_now(cause=EndCause.REPLACED)

    def on_session_event(self, event: SessionEvent) -> None:
        """Something happened in the session; after the end nothing counts any more."""
        if self.ended is not None:
            return
        match event:
            case SessionProvisional():
                self._on_provisional(event)
            case SessionEarlyMedia(media):
                self._on_early_media(media)
            case SessionEstablished():
                self._on_established(event)
            case SessionMediaChanged():
                self._on_media_changed(event)
            case SessionOfferSettled(offer, failure):
                self._requests.on_offer_settled(offer, failure)
            case SessionEnded(cause, by, code, description, error, reasons):
                self._finish(CallEnded(self._end_cause or cause, by, code, description, error, reasons))
            case SessionHeard(heard):
                self._on_heard(heard)
            case _:
                self._transferring().on_event(event)

    def _on_provisional(self, event: SessionProvisional) -> None:
        if self.state is CallState.TRYING:
            self.state = CallState.RINGING
        if event.media is not None and self._media is not None:
            self._apply(event.media)
            self._early_media = True
        self._life.publish(CallRinging(event.code, event.reason, event.media is not None))

    def _on_early_media(self, media: NegotiatedMedia) -> None:
        self._apply(media)
        self._early_media = True
        self._life.publish(CallRinging(183, "Session Progress", early_media=True))
        self._life.flow()

    def _on_established(self, event: SessionEstablished) -> None:
        self._apply(event.media)
        if self._media is not None:
            self._media.expect(event.media, self._runtime.now())
        if self._session.outgoing:
            self.headers = MappingProxyType(extension_headers(event.headers))
        self.state = CallState.CONNECTED
        self._life.publish(CallAnswered(event.media.codec, self.headers, self._srtp))
        self._life.settle()

    def _apply(self, media: NegotiatedMedia) -> None:
        if self._media is not None:
            self._media.apply(media)
        self.codec = media.codec
        self._srtp = media.srtp.suite if media.srtp is not None else ""
        flow = self._session.flow
        if self._srtp and flow is not None:
            self.registration.on_keys(flow.transport)

    def _on_media_changed(self, event: SessionMediaChanged) -> None:
        self._apply(event.media)
        if self._media is not None:
            self._media.expect(event.media, self._runtime.now())
        if event.media.remote_hold != self._held:
            self._held = event.media.remote_hold
            self._life.publish(CallHeld() if self._held else CallResumed())

    def _on_heard(self, event: DtmfReceived | InfoReceived | MessageReceived) -> None:
        if not isinstance(event, DtmfReceived) or self._keys.is_new(event, self._runtime.now()):
            self._life.publish(event)

    def watch(self, watcher: Callable[[CallEvent], None], *, replay: bool = False) -> None:
        """Calls ``watcher`` with each event from now on, at once: for what may not be late, or lost.

        Args:
            watcher: what to call.
            replay: begin with the events so far.
        """
        self._life.watch(watcher, replay=replay)

    def _finish(self, ended: CallEnded) -> None:
        ended = replace(ended, early_media=self._early_media)
        self.ended = ended
        self.state = CallState.ENDED
        if self._media is not None:
            self._media.close()
        if self._transfers is not None:
            self._transfers.on_call_ended(ended)
        self._requests.on_call_ended()
        self._life.end(ended)
        self._runtime.forget(self)
