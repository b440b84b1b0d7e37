"""Who listens to the answers of our BYE (RFC 3261 §15.1.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sipcore.events import EndCause, Party
from sipcore.protocol.session_events import SessionEnded

if TYPE_CHECKING:
    from sipcore.events import Reason
    from sipcore.protocol.invite_session import InviteSession
    from sipcore.protocol.uac import UacFailure, UacRequest
    from sipcore.protocol.wire import Response

__all__ = ["Bye", "Unheard"]


class Bye:
    """Waits for the answer to our BYE; whatever it is, the session is over (§15.1.1)."""

    def __init__(self, session: InviteSession, reasons: tuple[Reason, ...]) -> None:
        self._session = session
        self._reasons = reasons

    def on_provisional(self, request: UacRequest, response: Response, now: float) -> None:
        """Nothing to do: non-INVITE transactions need no provisional."""

    def on_final(self, request: UacRequest, response: Response, now: float) -> None:
        """200, 481 and 408 alike mean that the dialog is gone."""
        sentence = "Hung up by this side"
        self._session.end(
            SessionEnded(EndCause.HANGUP, Party.LOCAL, response.status, sentence, None, self._reasons), now
        )

    def on_failure(self, request: UacRequest, failure: UacFailure, now: float) -> None:
        """The far end is not there any more, and so is the call."""
        sentence = f"Hung up by this side; {failure.detail}"
        self._session.end(SessionEnded(EndCause.HANGUP, Party.LOCAL, 0, sentence, None, self._reasons), now)


class Unheard:
    """Hears nothing: for requests whose outcome changes nothing."""

    def on_provisional(self, request: UacRequest, response: Response, now: float) -> None:
        """Not needed."""

    def on_final(self, request: UacRequest, response: Response, now: float) -> None:
        """Not needed."""

    def on_failure(self, request: UacRequest, failure: UacFailure, now: float) -> None:
        """Not needed."""
