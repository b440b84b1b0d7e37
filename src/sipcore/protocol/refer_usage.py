"""The transfers of one session: REFER and NOTIFY inside its dialog (RFC 3515)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sipcore.events import EndCause, Party
from sipcore.protocol.refer import SUBSCRIPTION_SECONDS, IncomingRefer, OutgoingRefer, ReferState
from sipcore.protocol.session_events import (
    SessionEnded,
    SessionReferAnswered,
    SessionReferFailed,
    SessionReferNotified,
    SessionReferReceived,
)

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

    @property
    def waiting(self) -> bool:
        """Whether a NOTIFY about a REFER of ours may still come, or one of ours is to be sent."""
        open_states = (ReferState.SENT, ReferState.ACCEPTED)
        return any(refer.state in open_states for refer in self._ours) or any(
            refer.answered and not refer.finished for refer in self._theirs
        )

    # -- ours ------------------------------------------------------------------------------------------------------

    def refer(self, target: str, headers: tuple[tuple[str, str], ...], now: float) -> OutgoingRefer:
        """Asks the peer to call ``target`` (a URI as text)."""
        session = self._session
        refer = OutgoingRefer(target)
        over = (ReferState.REFUSED, ReferState.FINISHED)
        self._ours = [known for known in self._ours if known.state not in over]
        self._ours.append(refer)
        session.request(
            "REFER",
            _ReferResponses(session, self, refer),
            now,
            headers=(
                ("Refer-To", f"<{target}>"),
                ("Referred-By", session.identity.address),
                *headers,
            ),
            contact=True,
            numbered=refer.sent_as,
        )
        return refer

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
        target = _uri_of(refer_to[0]) if len(refer_to) == 1 else ""
        if not target:
            session.respond(transaction, 400, now)
            return
        self._theirs = [known for known in self._theirs if not known.finished]
        if len(self._theirs) >= MAX_OPEN_REFERS:
            session.respond(transaction, 503, now)
            return
        refer = IncomingRefer(request, transaction, target)
        self._theirs.append(refer)
        session.emit(SessionReferReceived(refer))

    def terminate(self, now: float) -> None:
        """The session is over: REFERs that nobody has decided on are refused."""
        for refer in self._theirs:
            self.refuse(refer, 481, now)

    def accept(self, refer: IncomingRefer, now: float) -> None:
        """202, then the NOTIFY that every REFER owes at once (§2.4.4)."""
        if refer.answered:
            return
        refer.answered = True
        self._session.respond(refer.transaction, 202, now, contact=True)
        self.notify(refer, 100, "Trying", now)

    def refuse(self, refer: IncomingRefer, status: int, now: float) -> None:
        """A final refusal; no subscription comes to life."""
        if refer.answered:
            return
        refer.answered = refer.finished = True
        self._session.respond(refer.transaction, status, now)

    def notify(self, refer: IncomingRefer, status: int, reason: str, now: float) -> None:
        """Reports a status of the call that the peer asked for; a final one ends the subscription (§2.4.7)."""
        if not refer.answered or refer.finished:
            return
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

    def __init__(self, session: InviteSession, usage: ReferUsage, refer: OutgoingRefer) -> None:
        self._session = session
        self._usage = usage
        self._refer = refer

    def on_provisional(self, request: UacRequest, response: Response, now: float) -> None:
        """100 says nothing."""

    def on_final(self, request: UacRequest, response: Response, now: float) -> None:
        """2xx opens the subscription (unless a NOTIFY overtook it), anything else refuses; 481 ends the call too."""
        refer, session = self._refer, self._session
        if response.status >= 300:
            refer.state = ReferState.REFUSED
        elif refer.state is ReferState.SENT:
            refer.state = ReferState.ACCEPTED
        session.emit(SessionReferAnswered(refer, response.status, response.reason))
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
        """481 and the like end the subscription."""
        if response.status >= 300:
            self._refer.finished = True
        self._usage.settle()

    def on_failure(self, request: UacRequest, failure: UacFailure, now: float) -> None:
        """Nobody listens."""
        self._refer.finished = True
        self._usage.settle()


def _uri_of(refer_to: str) -> str:
    """The URI of a Refer-To value, whatever headers it carries; empty where it is malformed."""
    value = refer_to.strip()
    value = value.partition("<")[2].partition(">")[0] if "<" in value else value.partition(";")[0]
    value = value.strip()
    return value if value.lower().startswith(("sip:", "sips:", "tel:")) else ""
