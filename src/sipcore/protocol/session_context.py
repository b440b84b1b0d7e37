"""What an INVITE session needs of the stack around it, and what both sides of a call set-up share."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Protocol

from sipcore.errors import (
    AuthenticationFailed,
    CallCancelled,
    CallRejected,
    CallTimeout,
    MediaNotAcceptable,
    ServerUnreachable,
    SipError,
)
from sipcore.events import EndCause, Party
from sipcore.protocol.builder import reason_phrase
from sipcore.protocol.message import METHODS
from sipcore.protocol.reasons import parse_reasons, with_reasons
from sipcore.protocol.session_events import SessionEnded

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Hashable, Sequence

    from sipcore.config import Timers
    from sipcore.protocol.deadlines import Deadlines
    from sipcore.protocol.dialog import DialogId
    from sipcore.protocol.exchange import Exchange
    from sipcore.protocol.flows import Flow, Target
    from sipcore.protocol.ids import Ids
    from sipcore.protocol.invite_session import InviteSession
    from sipcore.protocol.session_events import SessionEvent
    from sipcore.protocol.transaction_layer import TransactionLayer
    from sipcore.protocol.uac import UacCore, UacFailure
    from sipcore.protocol.wire import Request, Response

__all__ = [
    "ALLOW",
    "CONSUMED_TYPES",
    "SDP",
    "SUPPORTED_EXTENSIONS",
    "SessionContext",
    "capabilities",
    "ended_by_failure",
    "ended_by_response",
    "refusal_of_method",
    "takes_sdp",
    "unreadable_body",
    "warning",
]

SDP = "application/sdp"
ALLOW = ("INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "UPDATE", "PRACK", "REFER", "NOTIFY", "INFO", "MESSAGE")
"""Methods a dialog of ours takes (RFC 3261 §20.5)."""
CONSUMED_TYPES = (SDP, "message/sipfrag", "application/dtmf-relay", "application/dtmf", "text/plain")
"""Media types that requests of a dialog may carry (RFC 3261 §20.1)."""
SUPPORTED_EXTENSIONS: tuple[str, ...] = ("replaces", "norefersub", "timer", "100rel")
"""Option tags for Supported and for the check of Require (RFC 3261 §8.2.2.3)."""


@cache
def capabilities(*, reliable: bool = True) -> tuple[tuple[str, str], ...]:
    """Allow and Supported, for every request and 2xx that makes or refreshes a session (§13.2.1, RFC 4028 §7.1).

    Args:
        reliable: whether 100rel is among them; in a request within a call it would ask for what is of no use there.
    """
    extensions = (each for each in SUPPORTED_EXTENSIONS if reliable or each != "100rel")
    return (("Allow", ", ".join(ALLOW)), ("Supported", ", ".join(extensions)))


class SessionContext(Protocol):
    """The stack, as its sessions see it."""

    layer: TransactionLayer
    deadlines: Deadlines[Hashable]
    ids: Ids
    rng: random.Random
    timers: Timers
    user_agent: str
    codecs: Sequence[str]
    info_types: Sequence[str]
    """Media types of INFO bodies that the application reads, beside keys."""

    @property
    def uac(self) -> UacCore:
        """Sends requests."""

    def emit(self, session: InviteSession, event: SessionEvent) -> None:
        """Queues an event for the shell."""

    def exchanged(self, exchange: Exchange) -> None:
        """Queues for the shell that a request of ours has its outcome."""

    def add_dialog(self, dialog_id: DialogId, session: InviteSession) -> None:
        """Requests of this dialog go to ``session`` from now on."""

    def remove_dialog(self, dialog_id: DialogId) -> None:
        """Requests of this dialog get 481 from now on."""

    def want_flow(
        self,
        target: Target,
        prefer: Flow | None,
        ready: Callable[[Flow, float], None],
        failed: Callable[[str, float], None],
    ) -> None:
        """See :class:`sipcore.protocol.uac.FlowWaiter`."""


def refusal_of_method(method: str) -> int:
    """What a method gets that is not taken: 501 where nobody knows it (RFC 3261 §8.2.1, §21.5.2)."""
    return 405 if method in METHODS else 501


def takes_sdp(request: Request) -> bool:
    """Whether a session description may answer the request, by its Accept (RFC 3261 §20.1, RFC 4475 §3.3.15)."""
    ranges = {accepted.partition(";")[0].strip().lower() for accepted in request.list_of("Accept")}
    return not ranges or not ranges.isdisjoint(("*/*", "application/*", SDP))


def warning(flow: Flow, sentence: str) -> tuple[str, str]:
    """A Warning header (RFC 3261 §20.43); 399 is for people. What the far end wrote may stand in the sentence."""
    host = flow.advertised[0]
    agent = f"[{host}]" if ":" in host else host
    plain = "".join(character if " " <= character <= "~" and character not in '"\\' else "'" for character in sentence)
    return "Warning", f'399 {agent} "{plain}"'


def unreadable_body(request: Request) -> tuple[tuple[str, str], ...]:
    """Headers of the 415 that a body gets which is no plain SDP (RFC 3261 §8.2.3); empty where all is well."""
    if not request.body:
        return ()
    encodings = [coding for coding in request.list_of("Content-Encoding") if coding.lower() != "identity"]
    if encodings:
        return (("Accept-Encoding", "identity"),)
    return () if request.content_type == SDP else (("Accept", SDP),)


def ended_by_response(response: Response, peer: str, unanswered: str = "") -> SessionEnded:
    """The end of an outgoing call whose INVITE was answered with 300-699 (RFC 3261 §13.2.2.2-3).

    ``unanswered`` is why a challenge was not answered, where this side decided so.
    """
    code, reasons = response.status, parse_reasons(response)
    sentence = with_reasons(f"{code} {response.reason or reason_phrase(code)} from {peer}", reasons)
    cause: EndCause
    error: SipError
    match code:
        case 401 | 407:
            sentence += f"; the challenge was not answered: {unanswered}" if unanswered else ""
            cause, error = EndCause.AUTHENTICATION, AuthenticationFailed(sentence, code=code)
        case 408:
            cause, error = EndCause.TIMEOUT, CallTimeout(sentence, code=code)
        case 487:
            cause, error = EndCause.CANCELLED, CallCancelled(sentence, code=code)
        case 488 | 606:
            cause, error = EndCause.MEDIA, MediaNotAcceptable(sentence, code=code)
        case _:
            cause, error = EndCause.REJECTED, CallRejected(sentence, code=code)
    return SessionEnded(cause, Party.REMOTE, code, sentence, error, reasons)


def ended_by_failure(failure: UacFailure) -> SessionEnded:
    """The end of an outgoing call whose INVITE got no final response.

    RFC 3261 §8.1.3.1: a timeout is treated as 408, a transport error as 503.
    """
    match failure.kind:
        case "timeout":
            return SessionEnded(
                EndCause.TIMEOUT, Party.NETWORK, 408, failure.detail, CallTimeout(failure.detail, code=408)
            )
        case "cancelled":
            return SessionEnded(EndCause.CANCELLED, Party.LOCAL, 0, failure.detail, CallCancelled(failure.detail))
        case _:
            return SessionEnded(
                EndCause.UNREACHABLE, Party.NETWORK, 503, failure.detail, ServerUnreachable(failure.detail, code=503)
            )
