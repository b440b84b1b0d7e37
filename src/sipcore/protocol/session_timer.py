"""Session timers (RFC 4028): a call whose far end is gone ends by itself, and proxies see that it goes on.

One side, the refresher, sends a request every half of the interval that both agreed on; where none has come shortly
before the interval is over, either side hangs up. Each re-INVITE and UPDATE with its 2xx is such a refresh.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sipcore.events import EndCause, Party
from sipcore.protocol.reasons import SESSION_TIMER_EXPIRED
from sipcore.protocol.session_context import capabilities
from sipcore.protocol.session_events import SessionEnded
from sipcore.protocol.values import Params

if TYPE_CHECKING:
    from sipcore.protocol.invite_session import InviteSession
    from sipcore.protocol.uac import UacFailure, UacRequest
    from sipcore.protocol.wire import Message, Request, Response

__all__ = ["LEAST_INTERVAL", "MAX_RAISES", "SessionTimer"]

LEAST_INTERVAL = 90
"""The smallest interval there is unless Min-SE says otherwise (§5), seconds."""
MAX_RAISES = 5
"""422 answers that one call follows; each proxy on the way may have its own minimum."""
LONGEST_INTERVAL = 7 * 86_400
"""Longer ones are cut to it: no timer runs for ever because of a number in a message."""
LEAST_WAIT = 1.0
"""Refreshes, and attempts at one, are at least this far apart, seconds."""


@dataclass(frozen=True, slots=True)
class _SessionExpires:
    """``Session-Expires: 1800;refresher=uac`` (§4)."""

    seconds: int
    refresher: str
    """``uac``, ``uas``, or empty."""

    @classmethod
    def of(cls, message: Message) -> _SessionExpires | None:
        """What a message says; None where it says nothing, or nothing that makes sense."""
        number, semicolon, rest = (message.headers.get("Session-Expires") or "").partition(";")
        seconds = _seconds(number)
        if seconds <= 0:
            return None
        refresher = (Params.parse(semicolon + rest).get("refresher") or "").lower()
        return cls(seconds, refresher if refresher in ("uac", "uas") else "")


class SessionTimer:
    """The timer of one session, whichever side refreshes."""

    def __init__(self, session: InviteSession) -> None:
        self._session = session
        self._wanted = session.identity.policy.session_expires
        """What this side asks for; 0: it does not ask."""
        self._least = session.identity.policy.min_se
        """What this side takes."""
        self._floor = 0
        """The largest Min-SE that a 422 of this call has named (§7.3)."""
        self._raises = 0
        self.interval = 0
        """Seconds agreed on; 0: the session does not expire."""
        self.refreshing = False
        """This side is the refresher."""
        self._expires_at = 0.0
        self._update: UacRequest | None = None
        self._update_works = True

    # -- our INVITE, re-INVITE and UPDATE --------------------------------------------------------------------------

    def asks(self) -> tuple[tuple[str, str], ...]:
        """Header fields of a session refresh request of ours (§7.1, §7.4): within a call, who refreshes stays so."""
        asked = self._asked
        if not asked:
            return ()
        roles = f";refresher={'uac' if self.refreshing else 'uas'}" if self.interval else ""
        least = max(self._least, self._floor)
        minimum = (("Min-SE", str(least)),) if asked >= least > LEAST_INTERVAL or self._floor else ()
        return (("Session-Expires", f"{asked}{roles}"), *minimum)

    @property
    def _asked(self) -> int:
        """The interval that our next request asks for; 0: it asks for none."""
        interval = self.interval or (max(self._wanted, self._least) if self._wanted else 0)
        return max(interval, self._floor) if interval else 0

    def accepted(self, response: Response, now: float) -> None:
        """The 2xx to such a request (§7.2). Without Session-Expires the session does not expire."""
        agreed = _SessionExpires.of(response)
        if agreed is None:
            self.stop()
        else:
            # The default is for a 2xx that breaks §9: somebody has to refresh, and the far end did not say it will.
            self._start(agreed.seconds, now, refreshing=agreed.refresher != "uas")

    def raised_by(self, response: Response) -> bool:
        """Whether a 422 asks for a longer interval than was offered; if so the next request offers it (§7.3)."""
        least, asked = _seconds(response.headers.get("Min-SE") or ""), self._asked
        if not asked or least <= asked or self._raises >= MAX_RAISES:
            return False
        self._raises += 1
        self._floor = min(least, LONGEST_INTERVAL)
        return True

    # -- the far end's ---------------------------------------------------------------------------------------------

    def too_small(self, request: Request) -> tuple[tuple[str, str], ...]:
        """Header fields of the 422 that a request gets whose interval is too small (§9); empty where it is not.

        A caller without the extension could make nothing of a 422; it was a proxy that wrote the header field.
        """
        asked = _SessionExpires.of(request)
        if asked is None or not _supports(request) or asked.seconds >= self._least:
            return ()
        return (("Min-SE", str(self._least)),)

    def answers(self, request: Request, now: float) -> tuple[tuple[str, str], ...]:
        """Header fields of our 2xx to a session refresh request (§9, table 2); the interval begins now.

        A far end that asks without having advertised the extension is answered too, and so is one that leaves
        the refreshing to us; silence would have it, or a proxy on the way, cut the call.
        """
        asked, supports = _SessionExpires.of(request), _supports(request)
        if asked is None and not (self._wanted and supports):
            self.stop()
            return ()
        least = max(_seconds(request.headers.get("Min-SE") or ""), LEAST_INTERVAL)
        if asked is None:
            seconds = max(self.interval or self._wanted, least, self._least)
        elif self._wanted:
            seconds = min(asked.seconds, max(self._wanted, least))
        else:
            seconds = asked.seconds
        refresher = asked.refresher if asked is not None else ""
        if not refresher:
            # Table 2: a far end without the extension cannot refresh. One that has it and leaves us the choice keeps
            # the part it had, and at first has none: then no mistake of its can end the call.
            theirs = supports and self.interval and not self.refreshing
            refresher = "uac" if theirs else "uas"
        self._start(seconds, now, refreshing=refresher == "uas")
        required = (("Require", "timer"),) if supports else ()
        return (("Session-Expires", f"{seconds};refresher={refresher}"), *required)

    # -- running ---------------------------------------------------------------------------------------------------

    def _start(self, seconds: int, now: float, *, refreshing: bool) -> None:
        self.interval = min(seconds, LONGEST_INTERVAL)
        self.refreshing = refreshing
        # §10: a margin before the end, for the BYE to find the proxies' state in place.
        self._expires_at = now + self.interval - min(32.0, self.interval / 3)
        self._session.set_deadline("session expiry", self._expires_at)
        if refreshing:
            self._session.set_deadline("refresh", now + max(self.interval / 2, LEAST_WAIT))
        else:
            self._session.cancel_deadline("refresh")

    def stop(self) -> None:
        """The session does not expire (any more)."""
        self.interval = 0
        self._session.cancel_deadline("refresh")
        self._session.cancel_deadline("session expiry")

    def on_expiry(self, now: float) -> None:
        """No refresh has been answered, or none has come (§10)."""
        session = self._session
        what = (
            f"{session.peer} did not answer our refresh" if self.refreshing else f"no refresh came from {session.peer}"
        )
        self._ran_out(what, now)

    def _ran_out(self, what: str, now: float) -> None:
        session = self._session
        if not session.connected:
            return
        sentence = f"The session timer ran out ({self.interval} s): {what}"
        reasons = (SESSION_TIMER_EXPIRED,)
        session.break_off(SessionEnded(EndCause.EXPIRED, Party.NETWORK, 408, sentence, None, reasons), now)

    def on_refresh(self, now: float) -> None:
        """Half of the interval has passed: UPDATE where the far end takes it, else a re-INVITE (§7.4)."""
        session = self._session
        if not session.connected or not self.refreshing or self._update is not None:
            return
        if session.reoffer.busy:
            # What is under way refreshes too; if it fails, here is the next attempt.
            session.set_deadline("refresh", now + LEAST_WAIT)
        elif self._update_works and session.far_end_takes("UPDATE"):
            headers = (*capabilities(reliable=False), *self.asks())
            self._update = session.request("UPDATE", self, now, headers=headers, contact=True)
        else:
            session.reoffer.refresh(now)

    def failed(self, response: Response | None, now: float) -> None:
        """A refresh came to nothing, but the session may go on: tries again while there is time."""
        if self._session.connected and self.interval and self.refreshing:
            wait = max((self._expires_at - now) / 2, LEAST_WAIT)
            if response is not None and response.status == 491:
                wait = min(wait, self._session.glare_wait())
            self._session.set_deadline("refresh", now + wait)

    # -- UacHandler of our UPDATE ----------------------------------------------------------------------------------

    def on_provisional(self, request: UacRequest, response: Response, now: float) -> None:
        """Says nothing."""

    def on_final(self, request: UacRequest, response: Response, now: float) -> None:
        """The answer to our UPDATE (§7.2, §7.3, §10)."""
        session = self._session
        self._update = None
        if not session.connected:
            return
        match response.status:
            case status if status < 300:
                if session.dialog is not None:
                    session.dialog.refresh_target(response)
                session.learn(response)
                self.accepted(response, now)
            case 422 if self.raised_by(response):
                self.on_refresh(now)
            case 405 | 501:
                self._update_works = False
                self.on_refresh(now)
            case 481:
                session.gone("UPDATE", response, now)
            case 408:
                self._ran_out(f"{session.peer} did not answer our refresh", now)
            case _:
                self.failed(response, now)

    def on_failure(self, request: UacRequest, failure: UacFailure, now: float) -> None:
        """§10: a timeout ends the session, while a transport may come back before it runs out."""
        self._update = None
        if failure.kind == "timeout":
            self._ran_out(f"{self._session.peer} did not answer our refresh", now)
        else:
            self.failed(None, now)


def _supports(request: Request) -> bool:
    return "timer" in (token.lower() for name in ("Supported", "Require") for token in request.list_of(name))


def _seconds(text: str) -> int:
    """A number of seconds, whatever parameters follow it; 0 where there is none."""
    digits = text.partition(";")[0].strip()
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 10 else 0
