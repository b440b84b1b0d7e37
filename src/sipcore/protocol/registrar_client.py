"""Keeps one binding at a registrar (RFC 3261 §10.2): registers, refreshes ahead of time, recovers, un-registers.

Service-Route (RFC 3608) is kept by the line. Left out: several flows at once (RFC 5626 §4.2), GRUU (RFC 5627).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, assert_never

from sipcore.errors import AuthenticationFailed, RegistrationRejected, RegistrationTimeout, ServerUnreachable, SipError
from sipcore.events import Registered, RegistrationEvent, RegistrationFailed, Unregistered
from sipcore.protocol.builder import reason_phrase
from sipcore.protocol.routing import retry_after
from sipcore.protocol.uac import RequestPlan

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Hashable, Sequence

    from sipcore.protocol.deadlines import Deadlines
    from sipcore.protocol.flows import Flow
    from sipcore.protocol.ids import Ids
    from sipcore.protocol.line import Line
    from sipcore.protocol.pace import Pace
    from sipcore.protocol.uac import UacCore, UacFailure, UacRequest
    from sipcore.protocol.values import NameAddr
    from sipcore.protocol.wire import Response

__all__ = ["Backoff", "RegistrarClient", "RegistrarState"]

log = logging.getLogger(__name__)

DEFAULT_PORT = 5060
MAX_TOO_BRIEF = 3
"""423 responses obeyed in a row; a registrar that raises its minimum each time is broken."""
SHORTEST_REFRESH = 1.0
"""Seconds; a registrar that grants less is not refreshed more often than this."""
REFRESH_SHARE = (0.5, 0.9)
"""Least and most of the granted time after which the binding is refreshed. The wider, the better a thousand accounts
that registered together are spread."""
WAIT_SPREAD = 1.25
"""Nor do those that were told the same time to wait (Retry-After) come back together: up to a quarter later."""
AT_ONCE = (0.0, 1.0)
LATER = (2.0, 5.0)
"""Seconds until the binding is made anew after its flow is lost: spread, so that a thousand accounts of a server that
was restarted do not come in one burst."""
HELD = 30.0
"""Seconds that a flow has to have held for that to be at once."""
MAX_MOVES = 3
"""Public addresses followed in a row: a NAT that gives each request another one is not chased."""
PATH = ("Supported", "path")
"""Proxies on the way to the registrar may put themselves on the way back (RFC 3327 §5.1); that is all we do for it."""
STOP_PATIENCE = 1.0
"""Seconds that :meth:`RegistrarClient.stop` waits for the answer to a REGISTER under way before it sends its own."""


class RegistrarState(Enum):
    """Where the binding stands."""

    IDLE = "idle"
    REGISTERING = "registering"
    """REGISTER under way, no binding."""
    REGISTERED = "registered"
    REFRESHING = "refreshing"
    """REGISTER under way, binding still alive."""
    WAITING = "waiting"
    """No binding, and the first or the next try is timed."""
    STOPPING = "stopping"
    """To be un-registered as soon as the REGISTER under way is answered."""
    UNREGISTERING = "un-registering"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Backoff:
    """When to try again after failure n in a row: ``first * 2**(n-1)``, at most ``longest``, give or take a quarter."""

    first: float = 2.0
    longest: float = 300.0
    refused_credentials: float = 60.0
    """At least this long after 401, 403 or 407: registrars lock out who tries wrong passwords fast."""

    def delay(self, failures: int, rng: random.Random) -> float:
        """Seconds until the next try."""
        return min(self.first * 2.0 ** min(failures - 1, 20), self.longest) * rng.uniform(0.75, 1.25)


class RegistrarClient:
    """The registration of one line. Deadlines are kept in the stack's heap under ``(self, name)``.

    Registrations, retries and refreshes that were asked for wait for their turn in ``pace``, which all lines share; a
    refresh that is due does not, since its binding would lapse.
    """

    def __init__(
        self,
        *,
        line: Line,
        uac: UacCore,
        ids: Ids,
        rng: random.Random,
        deadlines: Deadlines[Hashable],
        pace: Pace,
        on_event: Callable[[RegistrationEvent, float], None],
        on_flow: Callable[[Flow], None] = lambda _: None,
        on_kept: Callable[[Flow | None, float | None], None] = lambda _flow, _every: None,
        backoff: Backoff | None = None,
    ) -> None:
        self._line = line
        self._uac = uac
        self._rng = rng
        self._deadlines = deadlines
        self._pace = pace
        self._on_event = on_event
        self._on_flow = on_flow
        self._on_kept = on_kept
        self._backoff = backoff or Backoff()
        self.state = RegistrarState.IDLE
        self.expires_at: float | None = None
        """When the binding lapses unless refreshed, also while refreshes fail; None where there is none."""
        self._call_id = ids.call_id()
        self._from_tag = ids.tag()
        self._cseq = ids.cseq()
        self._wanted = line.account.expires
        self._too_brief = 0
        self._failures = 0
        self._announced = False
        """Whether the last event told was Registered: refreshes are silent."""
        self._request: UacRequest | None = None
        self.flow: Flow | None = None
        """What the binding was made on: refreshes, and calls by way of the registrar, go there while it is open."""
        self._has_turn = False
        """The deadline "next" is a turn in the pace."""
        self._bound_at = 0.0
        self._contact_bound = ""
        self._moves = 0

    # -- wishes ----------------------------------------------------------------------------------------------------

    def start(self, now: float) -> None:
        """Registers, and keeps registering until stopped. Nothing happens if it was started before."""
        if self.state is RegistrarState.IDLE:
            self._enter(RegistrarState.WAITING)
            self._take_turn(now)

    def refresh(self, now: float) -> None:
        """Registers now, whatever is timed; its success is told even if the binding was alive."""
        self._announced = False
        if self.state in (RegistrarState.REGISTERED, RegistrarState.WAITING) and not self._has_turn:
            self._take_turn(now)

    def _take_turn(self, now: float) -> None:
        """Sends as soon as so many others have."""
        self._has_turn = True
        turn = self._pace.turn(now)
        if turn > now:
            self._deadlines.set((self, "next"), turn)
        else:
            self._deadlines.cancel((self, "next"))
            self.on_deadline("next", now)

    def stop(self, now: float) -> None:
        """Removes the binding (expires 0, §10.2.2); :class:`Unregistered` follows, answered or not.

        A REGISTER under way is given a moment to be answered: two at once may arrive in the wrong order (§10.2).
        """
        match self.state:
            case RegistrarState.IDLE | RegistrarState.REGISTERED | RegistrarState.WAITING:
                self._unregister(now)
            case RegistrarState.REGISTERING | RegistrarState.REFRESHING:
                self._enter(RegistrarState.STOPPING)
                self._deadlines.set((self, "next"), now + STOP_PATIENCE)
            case RegistrarState.STOPPING | RegistrarState.UNREGISTERING | RegistrarState.CLOSED:
                return
            case _:
                assert_never(self.state)

    def abandon(self, now: float) -> None:
        """Stops without a word to the registrar."""
        if self._request is not None:
            self._request.cancel(now)
        self._close()

    def flow_closed(self, flow: Flow, now: float) -> None:
        """The connection is gone that the binding was made on, and calls with it: binds anew, at once where it held
        for a while, else a little later (RFC 5626 §4.5)."""
        if flow != self.flow:
            return
        self._lose_flow()
        if self.state is RegistrarState.REGISTERED and not self._has_turn:
            soon = AT_ONCE if now - self._bound_at >= HELD else LATER
            self._deadlines.set((self, "next"), now + self._rng.uniform(*soon))

    def on_deadline(self, name: str, now: float) -> None:
        """It is time to refresh, to try again, or to stop without the answer to a REGISTER under way."""
        match self.state:
            case RegistrarState.REGISTERED:
                self._enter(RegistrarState.REFRESHING)
                self._send(self._wanted, now)
            case RegistrarState.WAITING if not self._has_turn:
                self._take_turn(now)
            case RegistrarState.WAITING:
                self._enter(RegistrarState.REGISTERING)
                self._send(self._wanted, now)
            case RegistrarState.STOPPING:
                if self._request is not None:
                    # A late 401 to it must not be answered with a REGISTER that undoes ours.
                    self._request.cancel(now)
                self._enter(RegistrarState.UNREGISTERING)
                self._send(0, now)
            case (
                RegistrarState.IDLE
                | RegistrarState.REGISTERING
                | RegistrarState.REFRESHING
                | RegistrarState.UNREGISTERING
                | RegistrarState.CLOSED
            ):
                return
            case _:
                assert_never(self.state)

    def _unregister(self, now: float) -> None:
        """Sends the un-REGISTER where there may be a binding, and is done where there is none."""
        self._deadlines.cancel((self, "next"))
        if self.expires_at is None or self.expires_at <= now:
            self._finish(now)
            return
        self._enter(RegistrarState.UNREGISTERING)
        self._send(0, now)

    def _finish(self, now: float) -> None:
        self._close()
        self._on_event(Unregistered(), now)

    def _close(self) -> None:
        self._deadlines.cancel((self, "next"))
        self._has_turn = False
        self._request = None
        self.expires_at = None
        self._line.served_by(())
        self._lose_flow()
        self._enter(RegistrarState.CLOSED)

    # -- REGISTER --------------------------------------------------------------------------------------------------

    def _next_cseq(self) -> int:
        self._cseq += 1
        return self._cseq

    def _send(self, expires: int, now: float) -> None:
        """One Call-ID for all, CSeq rising (§10.2); the request URI has no user part."""
        self._has_turn = False
        line = self._line
        address = line.registered_address
        self._request = self._uac.send(
            RequestPlan(
                method="REGISTER",
                uri=line.address.registrar.without_parameters(),
                from_=f"{address};tag={self._from_tag}",
                to=address,
                call_id=self._call_id,
                next_cseq=self._next_cseq,
                target=line.registrar_target,
                routes=line.register_routes,
                contact=self._contact,
                headers=(("Expires", str(expires)), PATH, *line.account.register_headers),
                digest=line.digest,
                agreement=line.agreement,
                flow=self.flow,
                seen=line.seen_as,
            ),
            self,
            now,
        )

    def _contact(self, flow: Flow) -> str:
        """Our Contact; with the flow it is known where the registrar is. A binding of ours at another address goes."""
        self._on_flow(flow)
        contact, bound = self._line.contact(flow), self._contact_bound
        return contact if bound in ("", contact) else f"{contact}, {bound};expires=0"

    def _settle(self, request: UacRequest, response: Response, now: float) -> None:
        """Bound: keeps the flow open; where a NAT makes our address another one, binds that instead."""
        if self.state is not RegistrarState.REGISTERED or request.flow is None or request.request is None:
            return
        self._bound_at = now
        timer = (response.headers.get("Flow-Timer") or "").strip()
        known = timer.isascii() and timer.isdigit() and int(timer[:9]) > 0
        self._on_kept(request.flow, float(timer[:9]) if known else None)
        sent = request.request.contacts
        self._contact_bound = str(sent[0]) if sent else ""
        if self._contact_bound == self._line.contact(request.flow):
            self._moves = 0
        elif self._moves < MAX_MOVES:
            self._moves += 1
            self._deadlines.set((self, "next"), now)

    def _lose_flow(self) -> None:
        if self.flow is not None:
            self.flow = None
            self._on_kept(None, None)

    def on_provisional(self, request: UacRequest, response: Response, now: float) -> None:
        """100 says nothing."""

    def on_final(self, request: UacRequest, response: Response, now: float) -> None:
        """The registrar has decided."""
        if request is not self._request:
            return
        self._request = None
        if self.state is RegistrarState.UNREGISTERING:
            self._finish(now)
        elif self.state is RegistrarState.STOPPING:
            if response.status < 300:
                self.expires_at = now + self._granted(request, response)
            self._unregister(now)
        elif response.status < 300:
            self.flow = request.flow
            self._line.served_by(response.service_routes)
            self._bound(request, response, now)
            self._settle(request, response, now)
        elif response.status == 423 and self._obeys_minimum(response):
            self._send(self._wanted, now)
        else:
            self._failed(self._error(request, response), now, retry_after=retry_after(response))

    def on_failure(self, request: UacRequest, failure: UacFailure, now: float) -> None:
        """The registrar was not reached, or is silent."""
        if request is not self._request:
            return
        self._request = None
        if self.state is RegistrarState.UNREGISTERING:
            self._finish(now)
        elif self.state is RegistrarState.STOPPING:
            self._unregister(now)
        elif failure.kind == "timeout":
            where = self._line.address.registrar.hostport
            self._failed(RegistrationTimeout(f"No answer from the registrar {where}", code=408), now)
        else:
            self._failed(ServerUnreachable(failure.detail, code=503), now)

    def _bound(self, request: UacRequest, response: Response, now: float) -> None:
        granted = self._granted(request, response)
        if granted <= 0:
            self.expires_at = None
            self._failed(RegistrationRejected("The registrar holds no binding of ours", code=response.status), now)
            return
        self._failures = self._too_brief = 0
        self.expires_at = now + granted
        self._enter(RegistrarState.REGISTERED)
        # Ahead of the expiry, and spread, so that a thousand accounts do not refresh in one burst.
        # A registrar may not grant more than was asked for (§10.2.4); one that does is not relied on.
        wait = max(min(granted, self._wanted) * self._rng.uniform(*REFRESH_SHARE), SHORTEST_REFRESH)
        self._deadlines.set((self, "next"), now + wait)
        if not self._announced:
            self._announced = True
            self._on_event(Registered(granted), now)

    def _granted(self, request: UacRequest, response: Response) -> int:
        """Our Contact's own ``expires``, else the Expires header, else what was asked for (§10.2.4).

        The response lists all bindings of the address. 0 where others are there and ours is not. One that lists none
        at all is taken for a success: §10.3 forbids it, and some registrars do it.
        """
        contacts = response.contacts
        ours = self._ours(request, response, contacts)
        if contacts and ours is None:
            return 0
        granted = None if ours is None else _seconds(ours)
        if granted is not None:
            return granted
        return self._wanted if response.expires is None else response.expires

    def _ours(self, request: UacRequest, response: Response, contacts: Sequence[NameAddr]) -> NameAddr | None:
        """Our binding among all: by its mark, else by its address, which a registrar or a gateway may have rewritten to
        where it saw the request come from. One that stands alone under our name is ours if it is brand-new."""
        sent = request.request.contact if request.request is not None else None
        if sent is None:
            return None
        via = response.via
        seen_at = (via.received or via.host, via.rport or via.port or DEFAULT_PORT)
        places = {(sent.uri.host, sent.uri.port or DEFAULT_PORT), seen_at}
        for contact in contacts:
            if contact.uri.parameters.get("line") == self._line.token:
                return contact
        namesakes = [contact for contact in contacts if contact.uri.user == sent.uri.user]
        for contact in namesakes:
            if (contact.uri.host, contact.uri.port or DEFAULT_PORT) in places:
                return contact
        alone = len(contacts) == len(namesakes) == 1 and _seconds(namesakes[0]) == self._wanted
        return namesakes[0] if alone else None

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
                if request.unanswered:
                    sentence += f"; the challenge was not answered: {request.unanswered}"
                return AuthenticationFailed(sentence, code=code)
            case 403 if _carried_credentials(request):
                return AuthenticationFailed(sentence, code=code)
            case 408:
                return RegistrationTimeout(sentence, code=code)
            case _:
                return RegistrationRejected(sentence, code=code)

    def _failed(self, error: SipError, now: float, *, retry_after: float | None = None) -> None:
        self._failures += 1
        self._announced = False
        self._lose_flow()
        wait = self._backoff.delay(self._failures, self._rng)
        least = 0.0
        if isinstance(error, AuthenticationFailed) or error.code == 403:
            least = self._backoff.refused_credentials
        if retry_after is not None:
            least = max(least, retry_after)
        wait = max(wait, least * self._rng.uniform(1.0, WAIT_SPREAD))
        self._enter(RegistrarState.WAITING)
        self._deadlines.set((self, "next"), now + wait)
        self._on_event(RegistrationFailed(error, wait), now)

    def _enter(self, state: RegistrarState) -> None:
        log.debug("registration of %s: %s -> %s", self._line.address.key, self.state.value, state.value)
        self.state = state


def _carried_credentials(request: UacRequest) -> bool:
    """Whether what was answered had an answer to a challenge in it, of this request or of an earlier one."""
    sent = request.request
    return sent is not None and ("Authorization" in sent.headers or "Proxy-Authorization" in sent.headers)


def _seconds(contact: NameAddr) -> int | None:
    """The ``expires`` of a Contact; None where there is none, or no number."""
    text = contact.params.get("expires")
    return int(text[:9]) if text is not None and text.isascii() and text.isdigit() else None
