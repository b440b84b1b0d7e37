"""One call: the INVITE usage of a dialog from set-up to BYE (RFC 3261 §12-15).

The session owns the state and the dialog. Setting up is :class:`CallerSetup` or :class:`CalleeSetup`, later offers are
:class:`Reoffer`, its time limit is :class:`SessionTimer`, transfers are :class:`ReferUsage`.

Left out: preconditions (RFC 3312); an INVITE that requires them gets 420.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from sipcore.config import CallPolicy
from sipcore.errors import CallTimeout
from sipcore.events import EndCause, Party
from sipcore.protocol.builder import make_response, reason_phrase
from sipcore.protocol.dialog import Dialog, DialogId
from sipcore.protocol.dialog_requests import DialogRequests
from sipcore.protocol.hangup import Bye, Unheard
from sipcore.protocol.invite_client import CallerSetup
from sipcore.protocol.invite_server import CalleeSetup
from sipcore.protocol.pending_answer import Answers
from sipcore.protocol.reasons import NORMAL_CLEARING, parse_reasons, reason_headers, with_reasons
from sipcore.protocol.refer_usage import ReferUsage
from sipcore.protocol.reoffer import Reoffer
from sipcore.protocol.routing import leads_to
from sipcore.protocol.session_context import ALLOW, CONSUMED_TYPES, capabilities, refusal_of_method
from sipcore.protocol.session_events import SessionEnded, SessionEstablished
from sipcore.protocol.session_timer import SessionTimer
from sipcore.protocol.uac import RequestPlan

if TYPE_CHECKING:
    from collections.abc import Callable

    from sipcore.events import Reason
    from sipcore.protocol.digest import DigestClient
    from sipcore.protocol.flows import Flow, Target
    from sipcore.protocol.offer_answer import NegotiatedMedia, OfferAnswer
    from sipcore.protocol.security_agreement import SecurityAgreement
    from sipcore.protocol.session_context import SessionContext
    from sipcore.protocol.session_events import SessionEvent
    from sipcore.protocol.transaction import ServerTransaction
    from sipcore.protocol.uac import UacHandler, UacRequest
    from sipcore.protocol.wire import Message, Request, Response

__all__ = ["InviteSession", "LocalIdentity", "SessionState"]

log = logging.getLogger(__name__)

LINGER = 32.0
"""How long an ended session with an open REFER subscription still takes its NOTIFYs (RFC 5057 §4.2), seconds."""


class SessionState(Enum):
    """Where a session stands."""

    SETTING_UP = "setting up"
    """INVITE sent or received, no final response yet."""
    CONNECTED = "connected"
    ENDING = "ending"
    """Our BYE waits for its answer, or for the ACK that must come before it."""
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class LocalIdentity:
    """How this side presents itself in a session."""

    address: str
    """From/To value without tag: ``"Alice" <sip:alice@example.com>``."""
    contact: Callable[[Flow], str]
    digest: DigestClient | None = field(default=None, repr=False)
    agreement: SecurityAgreement | None = None
    policy: CallPolicy = field(default_factory=CallPolicy)
    codecs: tuple[str, ...] = ()
    """Audio codecs, best first; empty: the user agent's."""


_TAKEN = {
    SessionState.ENDING: ("BYE", "OPTIONS", "NOTIFY"),
    SessionState.ENDED: ("NOTIFY",),
}
"""Methods still taken when the session is, or is about to be, over (§15.1.1); before that all of ALLOW."""


class InviteSession:
    """State machine of one call. Pure: every method takes ``now`` and speaks through its context."""

    def __init__(
        self, context: SessionContext, identity: LocalIdentity, *, outgoing: bool, call_id: str, peer: str
    ) -> None:
        self.context = context
        self.identity = identity
        self.outgoing = outgoing
        self.call_id = call_id
        self.peer = peer
        """The far end's URI, for people."""
        self.local_tag = context.ids.tag()
        self.state = SessionState.SETTING_UP
        self.dialog: Dialog | None = None
        self.flow: Flow | None = None
        self.flow_target: Target | None = None
        """What ``flow`` was found for; None where the INVITE came in on it."""
        self.offer_answer: OfferAnswer | None = None
        self.caller: CallerSetup | None = None
        self.callee: CalleeSetup | None = None
        self.replaces: InviteSession | None = None
        """The session in whose place this one asks to come (RFC 3891)."""
        self.reoffer = Reoffer(self)
        self.timer = SessionTimer(self)
        self.refers = ReferUsage(self)
        self.answers = Answers(self)
        self.in_dialog = DialogRequests(self)
        self._bye_waits_for_ack = False
        self._reasons: tuple[Reason, ...] = ()
        """What our BYE says."""
        self._far_end_allows: frozenset[str] = frozenset()
        self._deadlines: set[str] = set()

    def __repr__(self) -> str:
        return f"<InviteSession {self.call_id} with {self.peer} {self.state.value}>"

    @property
    def setting_up(self) -> bool:
        """Neither connected nor given up yet."""
        return self.state is SessionState.SETTING_UP

    @property
    def connected(self) -> bool:
        """Answered, and not hung up by either side."""
        return self.state is SessionState.CONNECTED

    # -- set-up ----------------------------------------------------------------------------------------------------

    def as_caller(self) -> CallerSetup:
        """Makes this the caller's side; the result's ``start`` sends the INVITE."""
        self.caller = CallerSetup(self)
        return self.caller

    def as_callee(self, transaction: ServerTransaction) -> None:
        """Makes this the callee's side of the INVITE in ``transaction``.

        Raises:
            ValueError: the INVITE has no usable Contact.
        """
        dialog = Dialog.from_request(transaction.request, self.local_tag, transaction.flow.transport)
        self.flow = transaction.flow
        self._adopt(dialog)
        self.callee = CalleeSetup(self, transaction, dialog)

    def establish(self, dialog: Dialog, media: NegotiatedMedia | None, message: Message, now: float) -> None:
        """2xx received and acknowledged, or sent. ``media`` is None where the ACK will bring the answer."""
        self.cancel_deadline("ring")
        if self.caller is not None:
            self.caller.forget_early_dialogs()
        self._enter(SessionState.CONNECTED)
        self._adopt(dialog)
        self.learn(message)
        dialog.confirmed = True
        if media is not None:
            self.emit(SessionEstablished(media, tuple(message.headers.items())))

    def _adopt(self, dialog: Dialog) -> None:
        self.dialog = dialog
        self.context.add_dialog(dialog.id, self)

    # -- the shell's wishes ----------------------------------------------------------------------------------------

    def hang_up(
        self,
        now: float,
        *,
        code: int = 603,
        reason: str = "",
        reasons: tuple[Reason, ...] = (NORMAL_CLEARING,),
    ) -> None:
        """Ends the session from any state: CANCEL, a final refusal (``code``), or BYE. Idempotent.

        Args:
            reasons: what a CANCEL or BYE says in its Reason header field (RFC 3326).
        """
        match self.state:
            case SessionState.SETTING_UP if self.caller is not None:
                self.caller.cancel(now, reasons)
            case SessionState.SETTING_UP if self.callee is not None:
                self.callee.reject(code, reason, now)
            case SessionState.CONNECTED:
                self._enter(SessionState.ENDING)
                self._reasons = reasons
                if self.answers.pending is not None and not self.outgoing:
                    # §15: the callee must not send BYE before the ACK for its 2xx, or its time-out, has come.
                    self._bye_waits_for_ack = True
                else:
                    self._send_bye(now)
            case _:
                pass

    def _send_bye(self, now: float) -> None:
        self.request("BYE", Bye(self, self._reasons), now, headers=reason_headers(self._reasons))

    def request(
        self,
        method: str,
        handler: UacHandler,
        now: float,
        *,
        dialog: Dialog | None = None,
        headers: tuple[tuple[str, str], ...] = (),
        body: bytes = b"",
        content_type: str = "",
        contact: bool = False,
        numbered: Callable[[int], None] | None = None,
    ) -> UacRequest:
        """Sends a request inside the dialog, with this side's credentials if challenged.

        Args:
            dialog: another one than the session's own: an early one, or one of a fork.
            numbered: told the CSeq number of each transmission as a new transaction.
        """
        dialog = dialog or self.dialog
        assert dialog is not None
        return self.context.uac.send(
            RequestPlan.within(
                dialog,
                method,
                next_cseq=_told(dialog, numbered) if numbered is not None else None,
                contact=self.identity.contact if contact else None,
                headers=headers,
                body=body,
                content_type=content_type,
                digest=self.identity.digest,
                agreement=self.identity.agreement,
                flow=self.preferred_flow(dialog),
            ),
            handler,
            now,
        )

    def preferred_flow(self, dialog: Dialog) -> Flow | None:
        """The flow that the session was set up on, where it leads to the dialog's next hop."""
        flow = self.flow
        return flow if flow is not None and leads_to(flow, dialog.next_hop, self.flow_target) else None

    def send_bye_on(self, dialog: Dialog, now: float, reasons: tuple[Reason, ...] = ()) -> None:
        """Hangs up a dialog that is not, or not any more, this session's."""
        self.request("BYE", Unheard(), now, dialog=dialog, headers=reason_headers(reasons))

    def break_off(self, event: SessionEnded, now: float) -> None:
        """Ends the session with a BYE whose answer nobody waits for (§12.2.1.2: what terminating a dialog means)."""
        if self.state is SessionState.CONNECTED and self.dialog is not None:
            self.send_bye_on(self.dialog, now, event.reasons)
        self.end(event, now)

    # -- from the stack --------------------------------------------------------------------------------------------

    def on_request(self, transaction: ServerTransaction, request: Request, now: float) -> None:
        """A request inside the dialog, other than ACK and CANCEL (§12.2.2)."""
        early = self.caller.early_dialog(request) if self.caller is not None else None
        dialog = early.dialog if early is not None else self.dialog
        assert dialog is not None
        if not dialog.accepts_cseq(request):
            self.respond(transaction, 500, now)
            return
        if self.caller is not None and early is not None:
            self.caller.on_early_request(early, transaction, request, now)
            return
        if request.method not in _TAKEN.get(self.state, ALLOW):
            self.respond(transaction, 481 if request.method in ALLOW else refusal_of_method(request.method), now)
            return
        self.learn(request)
        match request.method:
            case "BYE":
                self._on_bye(transaction, request, now)
            case "INVITE":
                self.reoffer.on_invite(transaction, request, now)
            case "UPDATE":
                self.reoffer.on_update(transaction, request, now)
            case "PRACK" if self.callee is not None:
                self.callee.on_prack(transaction, request, now)
            case "PRACK":
                self.respond(transaction, 481, now)
            case "REFER":
                self.refers.on_refer(transaction, request, now)
            case "NOTIFY":
                self.refers.on_notify(transaction, request, now)
            case "OPTIONS":
                accept = ("Accept", ", ".join(CONSUMED_TYPES))
                self.respond(transaction, 200, now, headers=(accept,))
            case "INFO" | "MESSAGE":
                self.in_dialog.on_request(transaction, request, now)

    def _on_bye(self, transaction: ServerTransaction, request: Request, now: float) -> None:
        """§15.1.2; a BYE that crosses ours is answered alike."""
        self.respond(transaction, 200, now)
        reasons = parse_reasons(request)
        if self.setting_up and self.callee is not None:
            self.callee.cancelled(now, "BYE", reasons)
            return
        sentence = with_reasons(f"Hung up by {self.peer}", reasons)
        self.end(SessionEnded(EndCause.HANGUP, Party.REMOTE, 0, sentence, None, reasons), now)

    def on_cancel(self, transaction: ServerTransaction, cancel: Request, now: float) -> None:
        """CANCEL of an INVITE of this session: the first one, or a re-INVITE still unanswered."""
        if self.callee is not None and self.callee.request is transaction.request:
            self.callee.cancelled(now, "CANCEL", parse_reasons(cancel))

    def on_ack(self, request: Request, now: float) -> None:
        """The ACK of a 2xx of ours."""
        if self.answers.on_ack(request, now) and self._bye_waits_for_ack:
            self._bye_waits_for_ack = False
            self._send_bye(now)

    def on_deadline(self, name: str, now: float) -> None:
        """A deadline set by :meth:`set_deadline` is due."""
        self._deadlines.discard(name)
        match name:
            case "ring" if self.caller is not None and self.setting_up:
                self.caller.ring_out(now)
            case "progress" if self.callee is not None:
                self.callee.on_progress_deadline(now)
            case "reliable" if self.callee is not None:
                self.callee.on_reliable_deadline(now)
            case "expiry" if self.callee is not None:
                self.callee.on_expiry(now)
            case "ack" if self.caller is not None:
                self.caller.on_ack_deadline(now)
            case "answer":
                self.answers.on_deadline(now)
            case "reoffer":
                self.reoffer.on_deadline(now)
            case "reoffer patience":
                self.reoffer.on_patience_deadline(now)
            case "refer":
                self.refers.on_deadline(now)
            case "refresh":
                self.timer.on_refresh(now)
            case "session expiry":
                self.timer.on_expiry(now)
            case "linger":
                self._forget_dialog()
            case _:
                pass

    # -- shared by the parts ---------------------------------------------------------------------------------------

    def no_ack(self, now: float) -> None:
        """The far end never acknowledged our 2xx: the call is over (§13.3.1.4)."""
        self._bye_waits_for_ack = False
        self._send_bye(now)
        sentence = f"No ACK from {self.peer}"
        self.end(SessionEnded(EndCause.TIMEOUT, Party.NETWORK, 408, sentence, CallTimeout(sentence, code=408)), now)

    def gone(self, method: str, response: Response, now: float) -> None:
        """481 or 408 to a request inside the dialog (§12.2.1.2): for the far end there is no such call, or nobody
        reaches it any more; so for this one there is none."""
        what = f"{response.status} {response.reason or reason_phrase(response.status)} to our {method} from {self.peer}"
        if response.status == 408:
            cause, by, sentence = EndCause.TIMEOUT, Party.NETWORK, f"{what}: the far end is not reached any more"
        else:
            cause, by, sentence = EndCause.HANGUP, Party.REMOTE, f"{what}: the far end knows no such call any more"
        self.break_off(SessionEnded(cause, by, response.status, sentence, None), now)

    def learn(self, message: Message) -> None:
        """What a message of the far end says about its abilities (§20.5); one that says nothing changes nothing."""
        methods = message.list_of("Allow")
        if methods:
            self._far_end_allows = frozenset(methods)

    def far_end_takes(self, method: str) -> bool:
        """Whether the far end has said that it takes a method."""
        return method in self._far_end_allows

    def glare_wait(self) -> float:
        """Seconds to wait after a 491 (§14.1): the owner of the Call-ID longer, so that both do not collide again."""
        return self.context.rng.uniform(*((2.1, 4.0) if self.outgoing else (0.0, 2.0)))

    def respond(
        self,
        transaction: ServerTransaction,
        status: int,
        now: float,
        *,
        headers: tuple[tuple[str, str], ...] = (),
        contact: bool = False,
    ) -> None:
        """Answers a request of the dialog without a body."""
        if status in (200, 405, 501):
            headers = (*capabilities(), *headers)
        self.context.layer.respond(
            transaction,
            make_response(
                transaction.request,
                status,
                contact=self.identity.contact(transaction.flow) if contact else "",
                headers=headers,
                server=self.context.user_agent,
            ),
            now,
        )

    def emit(self, event: SessionEvent) -> None:
        """Tells the shell."""
        self.context.emit(self, event)

    def set_deadline(self, name: str, when: float) -> None:
        """Asks for :meth:`on_deadline`; one of the same name is replaced."""
        self._deadlines.add(name)
        self.context.deadlines.set((self, name), when)

    def cancel_deadline(self, name: str) -> None:
        """Forgets a deadline; unknown names are fine."""
        if name in self._deadlines:
            self._deadlines.discard(name)
            self.context.deadlines.cancel((self, name))

    def end(self, event: SessionEnded, now: float) -> None:
        """The session is over; only the first call counts."""
        if self.state is SessionState.ENDED:
            return
        self._enter(SessionState.ENDED)
        for name in tuple(self._deadlines):
            self.cancel_deadline(name)
        self.answers.forget()
        if self.caller is not None:
            self.caller.forget_early_dialogs()
            self.caller = None  # it would hold this session, and the INVITE with all that belongs to it
        self.reoffer.terminate(now)
        self.refers.terminate(now)
        self.emit(event)
        if self.refers.waiting:
            self.set_deadline("linger", now + LINGER)
        else:
            self._forget_dialog()

    def refers_settled(self) -> None:
        """The last open subscription is finished; an ended session needs its dialog no more."""
        if self.state is SessionState.ENDED:
            self.cancel_deadline("linger")
            self._forget_dialog()

    def _forget_dialog(self) -> None:
        if self.dialog is not None:
            self.context.remove_dialog(self.dialog.id)

    def dialog_id(self) -> DialogId | None:
        """The dialog's id, where there is a dialog."""
        return self.dialog.id if self.dialog is not None else None

    def _enter(self, state: SessionState) -> None:
        if log.isEnabledFor(logging.DEBUG):
            log.debug("call %s: %s -> %s", self.call_id, self.state.value, state.value)
        self.state = state


def _told(dialog: Dialog, numbered: Callable[[int], None]) -> Callable[[], int]:
    """Numbers requests of a dialog, and tells how."""

    def next_cseq() -> int:
        number = dialog.next_cseq()
        numbered(number)
        return number

    return next_cseq
