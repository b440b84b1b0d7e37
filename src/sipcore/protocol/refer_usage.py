"""The transfers of one session: REFER and NOTIFY inside its dialog (RFC 3515)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sipcore.events import EndCause, Party
from sipcore.protocol.refer import (
    SUBSCRIPTION_SECONDS,
    IncomingRefer,
    OutgoingRefer,
    ReferState,
    declines_subscription,
)
from sipcore.protocol.replaces import replaces_of
from sipcore.protocol.session_context import SUPPORTED_EXTENSIONS
from sipcore.protocol.session_events import (
    SessionEnded,
    SessionReferAnswered,
    SessionReferFailed,
    SessionReferNotified,
    SessionReferReceived,
)
from sipcore.protocol.values import MalformedValue, Uri

if TYPE_CHECKING:
    from sipcore.protocol.invite_session import InviteSession
    from sipcore.protocol.transaction import ServerTransaction
    from sipcore.protocol.uac import UacFailure, UacRequest
    from sipcore.protocol.wire import Request, Response

__all__ = ["ReferUsage"]

MAX_OPEN_REFERS = 8
"""REFERs of the peer that wait for their last NOTIFY at once; more get 503 (a bot has one, an attacker many)."""


class ReferUsage:
    """REFERs in both directions."""

    def __init__(self, session: InviteSession) -> None:
        self._session = session
        self._ours: list[OutgoingRefer] = []
        self._theirs: list[IncomingRefer] = []
        self._again: tuple[OutgoingRefer, tuple[tuple[str, str], ...]] | None = None
        """A REFER that waits for the peer's other request to be over."""

    @property
    def waiting(self) -> bool:
        """Whether a NOTIFY about a REFER of ours may still come, or one of ours is to be sent."""
        open_states = (ReferState.SENT, ReferState.ACCEPTED)
        return any(refer.state in open_states for refer in self._ours) or any(
            refer.answered and not refer.finished for refer in self._theirs
        )

    # -- ours ------------------------------------------------------------------------------------------------------

    def refer(
        self, target: str, headers: tuple[tuple[str, str], ...], now: float, *, subscribe: bool = True
    ) -> OutgoingRefer:
        """Asks the peer to call ``target`` (a URI as text).

        Args:
            target: whom; it may hold a Replaces header.
            headers: extension headers.
            subscribe: False: no NOTIFYs are wanted (RFC 4488).
        """
        refer = OutgoingRefer(target, subscribe)
        over = (ReferState.REFUSED, ReferState.FINISHED)
        self._ours = [known for known in self._ours if known.state not in over]
        self._ours.append(refer)
        self.send(refer, headers, now)
        return refer

    def send(self, refer: OutgoingRefer, headers: tuple[tuple[str, str], ...], now: float) -> None:
        """Sends a REFER of ours."""
        session = self._session
        session.request(
            "REFER",
            _ReferResponses(session, self, refer, headers),
            now,
            headers=(
                ("Refer-To", f"<{refer.target}>"),
                ("Referred-By", session.identity.address),
                ("Supported", ", ".join(SUPPORTED_EXTENSIONS)),
                *(() if refer.subscribe else (("Refer-Sub", "false"),)),
                *headers,
            ),
            contact=True,
            numbered=refer.sent_as,
        )

    def tries_again(self, refer: OutgoingRefer, headers: tuple[tuple[str, str], ...], now: float) -> bool:
        """491: the peer is busy with an offer, ours to hold the call or its own; once more when that is over."""
        session = self._session
        if refer.tried_again or self._again is not None or not session.connected:
            return False
        refer.tried_again = True
        self._again = (refer, headers)
        # As long as a re-INVITE waits after its 491 (RFC 3261 §14.1).
        session.set_deadline("refer", now + session.context.rng.uniform(2.1, 4.0))
        return True

    def on_deadline(self, now: float) -> None:
        """The time that :meth:`tries_again` waits is over."""
        if self._again is not None:
            (refer, headers), self._again = self._again, None
            self.send(refer, headers, now)

    def on_notify(self, transaction: ServerTransaction, request: Request, now: float) -> None:
        """A NOTIFY belongs to a REFER of ours or gets 481 (RFC 6665 §4.1.3)."""
        session = self._session
        refer = next((refer for refer in self._ours if refer.matches(request)), None)
        if refer is None:
            session.respond(transaction, 481, now)
            return
        session.respond(transaction, 200, now)
        fragment = refer.take(request)
        session.emit(SessionReferNotified(refer, fragment))
        self.settle()

    def settle(self) -> None:
        """Lets an ended session go once nothing is open."""
        if not self.waiting:
            self._session.refers_settled()

    # -- the peer's ------------------------------------------------------------------------------------------------

    def on_refer(self, transaction: ServerTransaction, request: Request, now: float) -> None:
        """RFC 3515 §2.4.2: exactly one Refer-To, or 400. What happens next is the shell's to say."""
        session = self._session
        if not session.connected:
            session.respond(transaction, 603, now)
            return
        refer_to = request.headers.get_all("Refer-To")
        try:
            target = _uri_of(refer_to[0]) if len(refer_to) == 1 else None
            replaces = replaces_of(target) if target is not None else None
        except MalformedValue:
            target = replaces = None
        if target is None:
            session.respond(transaction, 400, now)
            return
        if (target.parameters.get("method") or "INVITE").upper() != "INVITE":
            session.respond(transaction, 603, now)  # a REFER may ask for a BYE of somebody else's call: never
            return
        self._theirs = [known for known in self._theirs if not known.finished]
        if len(self._theirs) >= MAX_OPEN_REFERS:
            session.respond(transaction, 503, now)
            return
        refer = IncomingRefer(request, transaction, target, replaces)
        self._theirs.append(refer)
        session.emit(SessionReferReceived(refer))

    def terminate(self, now: float) -> None:
        """The session is over: REFERs that nobody has decided on are refused, ours is not tried again."""
        if self._again is not None:
            self._again[0].state = ReferState.REFUSED
            self._again = None
        for refer in self._theirs:
            self.refuse(refer, 481, now)

    def accept(self, refer: IncomingRefer, now: float) -> None:
        """202, then the NOTIFY that every REFER owes at once (§2.4.4), unless its sender wants none (RFC 4488)."""
        if refer.answered:
            return
        refer.answered = True
        refer.finished = declines_subscription(refer.request)
        headers = (("Refer-Sub", "false"),) if refer.finished else ()
        self._session.respond(refer.transaction, 202, now, contact=True, headers=headers)
        self.notify(refer, 100, "Trying", now)

    def refuse(self, refer: IncomingRefer, status: int, now: float) -> None:
        """A final refusal; no subscription comes to life."""
        if refer.answered:
            return
        refer.answered = refer.finished = True
        self._session.respond(refer.transaction, status, now)

    def notify(self, refer: IncomingRefer, status: int, reason: str, now: float) -> None:
        """Reports a status of the call that the peer asked for; a final one ends the subscription (§2.4.7).

        One NOTIFY at a time: over UDP the next could overtake it, and be the one that the peer saw last. What waits
        makes room for what is newer.
        """
        if not refer.answered or refer.finished or (refer.unsent is not None and refer.unsent[0] >= 200):
            return
        if refer.notifying:
            refer.unsent = (status, reason)
            return
        refer.notifying = True
        refer.finished = status >= 200
        state = "terminated;reason=noresource" if refer.finished else f"active;expires={SUBSCRIPTION_SECONDS}"
        self._session.request(
            "NOTIFY",
            _NotifyResponses(self, refer),
            now,
            headers=(("Event", f"refer;id={refer.request.cseq.number}"), ("Subscription-State", state)),
            body=f"SIP/2.0 {status} {reason}\r\n".encode(),
            content_type="message/sipfrag;version=2.0",
            contact=True,
        )


class _ReferResponses:
    """Follows the answer to a REFER of ours."""

    def __init__(
        self, session: InviteSession, usage: ReferUsage, refer: OutgoingRefer, headers: tuple[tuple[str, str], ...]
    ) -> None:
        self._session = session
        self._usage = usage
        self._refer = refer
        self._headers = headers

    def on_provisional(self, request: UacRequest, response: Response, now: float) -> None:
        """100 says nothing."""

    def on_final(self, request: UacRequest, response: Response, now: float) -> None:
        """The shell is told; 481 ends the call too."""
        refer, session = self._refer, self._session
        if response.status == 491 and self._usage.tries_again(refer, self._headers, now):
            return
        refer.answered(response)
        subscribed = refer.subscribe or not declines_subscription(response)
        session.emit(SessionReferAnswered(refer, response.status, response.reason, subscribed))
        if response.status == 481:
            # §12.2.1.2; a 408 need not come from the far end, and a call is too dear for a guess.
            sentence = f"481 {response.reason} from {session.peer}: the far end knows no such call"
            session.break_off(SessionEnded(EndCause.HANGUP, Party.REMOTE, 481, sentence, None), now)
        self._usage.settle()

    def on_failure(self, request: UacRequest, failure: UacFailure, now: float) -> None:
        """No answer: the shell is told whether the peer was silent or could not be reached."""
        if self._refer.state is ReferState.SENT:
            self._refer.state = ReferState.REFUSED
        self._session.emit(SessionReferFailed(self._refer, failure.detail, failure.kind == "timeout"))
        self._usage.settle()


class _NotifyResponses:
    """A subscriber that refuses a NOTIFY has lost its subscription (RFC 6665 §4.2.2)."""

    def __init__(self, usage: ReferUsage, refer: IncomingRefer) -> None:
        self._usage = usage
        self._refer = refer

    def on_provisional(self, request: UacRequest, response: Response, now: float) -> None:
        """100 says nothing."""

    def on_final(self, request: UacRequest, response: Response, now: float) -> None:
        """481 and the like end the subscription; else the next report goes out."""
        refer = self._refer
        refer.notifying = False
        if response.status >= 300:
            refer.finished = True
        elif refer.unsent is not None:
            (status, reason), refer.unsent = refer.unsent, None
            self._usage.notify(refer, status, reason, now)
        self._usage.settle()

    def on_failure(self, request: UacRequest, failure: UacFailure, now: float) -> None:
        """Nobody listens."""
        self._refer.finished = True
        self._usage.settle()


def _uri_of(refer_to: str) -> Uri:
    """The URI of a Refer-To value, whatever headers it carries.

    Raises:
        MalformedValue: it is none that can be called.
    """
    value = refer_to.strip()
    value = value.partition("<")[2].partition(">")[0] if "<" in value else value.partition(";")[0]
    uri = Uri.parse(value.strip())
    if uri.scheme not in ("sip", "sips", "tel"):
        raise MalformedValue("not a URI to call")
    return uri
