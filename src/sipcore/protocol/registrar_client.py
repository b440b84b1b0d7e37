"""Keeps one binding at a registrar (RFC 3261 §10.2): registers, refreshes ahead of time, recovers, un-registers.

Left out: Path and Service-Route (RFC 3327, RFC 3608), outbound flows (RFC 5626), GRUU (RFC 5627).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from sipcore.errors import AuthenticationFailed, RegistrationRejected, RegistrationTimeout, ServerUnreachable, SipError
from sipcore.events import Registered, RegistrationEvent, RegistrationFailed, Unregistered
from sipcore.protocol.builder import reason_phrase
from sipcore.protocol.uac import RequestPlan

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Hashable

    from sipcore.protocol.deadlines import Deadlines
    from sipcore.protocol.ids import Ids
    from sipcore.protocol.line import Line
    from sipcore.protocol.uac import UacCore, UacFailure, UacRequest
    from sipcore.protocol.wire import Response

__all__ = ["Backoff", "RegistrarClient", "RegistrarState"]

log = logging.getLogger(__name__)

MAX_TOO_BRIEF = 3
"""423 responses obeyed in a row; a registrar that raises its minimum each time is broken."""
SHORTEST_REFRESH = 1.0
"""Seconds; a registrar that grants less is not refreshed more often than this."""


class RegistrarState(Enum):
    """Where the binding stands."""

    IDLE = "idle"
    REGISTERING = "registering"
    """REGISTER under way, no binding."""
    REGISTERED = "registered"
    REFRESHING = "refreshing"
    """REGISTER under way, binding still alive."""
    WAITING = "waiting"
    """Failed; the next try is timed."""
    UNREGISTERING = "un-registering"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Backoff:
    """When to try again after the n-th failure in a row: ``first * 2**(n-1)``, at most ``longest``, give or take a quarter."""

    first: float = 2.0
    longest: float = 300.0
    refused_credentials: float = 60.0
    """At least this long after 401, 403 or 407: registrars lock out who tries wrong passwords fast."""

    def delay(self, failures: int, rng: random.Random) -> float:
        """Seconds until the next try."""
        return min(self.first * 2.0 ** min(failures - 1, 20), self.longest) * rng.uniform(0.75, 1.25)


class RegistrarClient:
    """The registration of one line. Deadlines are kept in the stack's heap under ``(self, name)``."""

    def __init__(
        self,
        *,
        line: Line,
        uac: UacCore,
        ids: Ids,
        rng: random.Random,
        deadlines: Deadlines[Hashable],
        on_event: Callable[[RegistrationEvent, float], None],
        backoff: Backoff | None = None,
    ) -> None:
        self._line = line
        self._uac = uac
        self._rng = rng
        self._deadlines = deadlines
        self._on_event = on_event
        self._backoff = backoff or Backoff()
        self.state = RegistrarState.IDLE
        self.expires_at: float | None = None
        """When the binding lapses unless refreshed; None while there is none."""
        self._call_id = ids.call_id()
        self._from_tag = ids.tag()
        self._cseq = ids.cseq()
        self._wanted = line.account.expires
        self._too_brief = 0
        self._failures = 0
        self._announced = False
        """Whether the last event told was Registered: refreshes are silent."""
        self._request: UacRequest | None = None

    # -- wishes ----------------------------------------------------------------------------------------------------

    def start(self, now: float) -> None:
        """Registers, and keeps registering until stopped."""
        self._enter(RegistrarState.REGISTERING)
        self._send(self._wanted, now)

    def refresh(self, now: float) -> None:
        """Registers now, whatever is timed; its success is told even if the binding was alive."""
        self._announced = False
        match self.state:
            case RegistrarState.REGISTERED:
                self._enter(RegistrarState.REFRESHING)
            case RegistrarState.WAITING:
                self._enter(RegistrarState.REGISTERING)
            case _:
                return
        self._deadlines.cancel((self, "next"))
        self._send(self._wanted, now)

    def stop(self, now: float) -> None:
        """Removes the binding (expires 0, §10.2.2); :class:`Unregistered` follows, answered or not."""
        match self.state:
            case RegistrarState.UNREGISTERING | RegistrarState.CLOSED:
                return
            case RegistrarState.IDLE | RegistrarState.WAITING:
                self._close()
                self._on_event(Unregistered(), now)
            case _:
                self._deadlines.cancel((self, "next"))
                self._enter(RegistrarState.UNREGISTERING)
                self._send(0, now)

    def abandon(self, now: float) -> None:
        """Stops without a word to the registrar."""
        if self._request is not None:
            self._request.cancel(now)
        self._close()

    def _close(self) -> None:
        self._deadlines.cancel((self, "next"))
        self._request = None
        self.expires_at = None
        self._enter(RegistrarState.CLOSED)

    def on_deadline(self, name: str, now: float) -> None:
        """It is time to refresh, or to try again."""
        match self.state:
            case RegistrarState.REGISTERED:
                self._enter(RegistrarState.REFRESHING)
            case RegistrarState.WAITING:
                self._enter(RegistrarState.REGISTERING)
            case _:
                return
        self._send(self._wanted, now)

    # -- REGISTER --------------------------------------------------------------------------------------------------

    def _next_cseq(self) -> int:
        self._cseq += 1
        return self._cseq

    def _send(self, expires: int, now: float) -> None:
        """One Call-ID for all, CSeq rising (§10.2); the request URI has no user part."""
        line = self._line
        address = line.identity.address
        self._request = self._uac.send(
            RequestPlan(
                method="REGISTER",
                uri=line.address.registrar.without_parameters(),
                from_=f"{address};tag={self._from_tag}",
                to=address,
                call_id=self._call_id,
                next_cseq=self._next_cseq,
                target=line.target(line.address.registrar),
                routes=line.routes,
                contact=line.contact,
                headers=(("Expires", str(expires)),),
                digest=line.digest,
            ),
            self,
            now,
        )

    def on_provisional(self, request: UacRequest, response: Response, now: float) -> None:
        """100 says nothing."""

    def on_final(self, request: UacRequest, response: Response, now: float) -> None:
        """The registrar has decided."""
        if request is not self._request:
            return
        self._request = None
        if self.state is RegistrarState.UNREGISTERING:
            self._close()
            self._on_event(Unregistered(), now)
        elif response.status < 300:
            self._bound(response, now)
        elif response.status == 423 and self._obeys_minimum(response):
            self._send(self._wanted, now)
        else:
            self._failed(self._error(request, response), now, retry_after=_retry_after(response))

    def on_failure(self, request: UacRequest, failure: UacFailure, now: float) -> None:
        """The registrar was not reached, or is silent."""
        if request is not self._request:
            return
        self._request = None
        if self.state is RegistrarState.UNREGISTERING:
            self._close()
            self._on_event(Unregistered(), now)
        elif failure.kind == "timeout":
            where = self._line.address.registrar.hostport
            self._failed(RegistrationTimeout(f"No answer from the registrar {where}", code=408), now)
        else:
            self._failed(ServerUnreachable(failure.detail, code=503), now)

    def _bound(self, response: Response, now: float) -> None:
        granted = self._granted(response)
        if granted <= 0:
            self._failed(RegistrationRejected("The registrar holds no binding of ours", code=response.status), now)
            return
        self._failures = self._too_brief = 0
        self.expires_at = now + granted
        self._enter(RegistrarState.REGISTERED)
        # Ahead of the expiry, and spread, so that a thousand accounts do not refresh in one burst.
        wait = max(granted * self._rng.uniform(0.6, 0.85), SHORTEST_REFRESH)
        self._deadlines.set((self, "next"), now + wait)
        if not self._announced:
            self._announced = True
            self._on_event(Registered(granted), now)

    def _granted(self, response: Response) -> int:
        """Our Contact's own ``expires``, else the Expires header, else what was asked for (§10.2.4)."""
        token = self._line.token
        ours = [contact for contact in response.contacts if contact.uri.parameters.get("line") == token]
        text = ours[0].params.get("expires") if ours else None
        if text is not None and text.isascii() and text.isdigit():
            return int(text[:9])
        if response.expires is not None:
            return response.expires
        return self._wanted

    def _obeys_minimum(self, response: Response) -> bool:
        """§10.2.8: asks again for the least that the registrar takes."""
        text = (response.headers.get("Min-Expires") or "").strip()
        if not (text.isascii() and text.isdigit()) or int(text[:9]) <= self._wanted:
            return False
        self._too_brief += 1
        if self._too_brief > MAX_TOO_BRIEF:
            return False
        self._wanted = int(text[:9])
        return True

    def _error(self, request: UacRequest, response: Response) -> SipError:
        code = response.status
        where = self._line.address.registrar.hostport
        sentence = f"{code} {response.reason or reason_phrase(code)} from the registrar {where}"
        match code:
            case 401 | 407:
                return AuthenticationFailed(sentence, code=code)
            case 403 if request.challenges:
                return AuthenticationFailed(sentence, code=code)
            case 408:
                return RegistrationTimeout(sentence, code=code)
            case _:
                return RegistrationRejected(sentence, code=code)

    def _failed(self, error: SipError, now: float, *, retry_after: float | None = None) -> None:
        self._failures += 1
        self._announced = False
        self.expires_at = None
        wait = self._backoff.delay(self._failures, self._rng)
        if isinstance(error, AuthenticationFailed) or error.code == 403:
            wait = max(wait, self._backoff.refused_credentials)
        if retry_after is not None:
            wait = max(wait, retry_after)
        self._enter(RegistrarState.WAITING)
        self._deadlines.set((self, "next"), now + wait)
        self._on_event(RegistrationFailed(error, wait), now)

    def _enter(self, state: RegistrarState) -> None:
        log.debug("registration of %s: %s -> %s", self._line.address.key, self.state.value, state.value)
        self.state = state


def _retry_after(response: Response) -> float | None:
    """Retry-After in seconds (§20.33), at most an hour: nobody is locked out for good by one header."""
    digits = (response.headers.get("Retry-After") or "").strip().split(" ")[0].split(";")[0].split("(")[0]
    return min(float(digits), 3600.0) if digits.isascii() and digits.isdigit() else None
