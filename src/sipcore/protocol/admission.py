"""Which requests are taken at all: from whom, for whom, and how many (RFC 3261 §8.2, §21.4.5, §21.5.4, §26.1.5).

An agent with a public address hears from strangers all day. What belongs to something under way (a retransmission, a
CANCEL, a request in a dialog) is always taken, so that nothing in here can harm a call that is up. All else has to come
from somebody that a line knows, and to fit into the limits. This is decided before a transaction is made: what is not
taken leaves nothing behind.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from sipcore.protocol.sources import parse_sources, peer_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sipcore.config import UserAgentConfig
    from sipcore.protocol.flows import Flow
    from sipcore.protocol.line import Line
    from sipcore.protocol.wire import Request

__all__ = ["Admission", "Premises", "Refusal", "Standing", "Tally", "TrafficStatistics"]

log = logging.getLogger(__name__)

SCANNERS = (
    "friendly-scanner",
    "friendly-request",
    "sipvicious",
    "sundayddr",
    "sip-scan",
    "sipscan",
    "siparmyknife",
    "sipcli",
    "sipptk",
    "pplsip",
    "vaxsipuseragent",
    "iwar",
    "sivus",
    "smap",
    "gulp",
)
"""How programs that look for open telephones name themselves in User-Agent, in lower case."""
MAX_KNOWN = 4096
"""Hosts remembered as some line's; the oldest is forgotten first."""
MAX_JUDGED = 4096
"""Hosts whose standing is remembered; forged sources must not fill the memory."""
MAX_TOLD = 256
"""Strangers that a warning was logged of; after so many only debug lines tell of new ones."""
RETRY_AFTER = ("Retry-After", "5")

Key = TypeVar("Key")


class Standing(Enum):
    """Who somebody is to a line, or to the agent."""

    KNOWN = "known"
    """The registrar or the outbound proxy of an account, or on an allow list."""
    ANYONE = "anyone"
    """Nobody special, let in because the line is open to anyone."""
    STRANGER = "stranger"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request is not taken. ``status`` 0: no answer at all."""

    status: int = 0
    headers: tuple[tuple[str, str], ...] = ()


SILENCE = Refusal()
OVERLOAD = Refusal(503, (RETRY_AFTER,))


@dataclass(slots=True)
class TrafficStatistics:
    """How much is under way, and how much was turned away since the start."""

    calls: int = 0
    """Dialogs held now."""
    unanswered: int = 0
    """Incoming calls that ring now."""
    transactions: int = 0
    """Transactions that have not ended yet."""
    strangers_silenced: int = 0
    """Requests from addresses that no line knows, left without an answer."""
    strangers_refused: int = 0
    """The same, answered with 403."""
    scanners_silenced: int = 0
    """Requests of programs that say that they scan."""
    nobody_silenced: int = 0
    """INVITEs and MESSAGEs for a user that is not here, left without an answer."""
    overload_refused: int = 0
    """Requests beyond a limit, answered with 503."""
    malformed: int = 0
    """Messages that could not be read."""


class Tally(Generic[Key]):
    """Counts things by the peer that caused them."""

    def __init__(self, limit: int, limit_per_peer: int) -> None:
        self._limit = limit
        self._limit_per_peer = limit_per_peer
        self._peers: dict[Key, str] = {}
        self._counts: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._peers)

    def full(self, peer: str) -> bool:
        """Whether there is no room for another one of ``peer``."""
        return len(self._peers) >= self._limit or self._counts.get(peer, 0) >= self._limit_per_peer

    def add(self, key: Key, peer: str) -> None:
        """One more."""
        if key not in self._peers:
            self._peers[key] = peer
            self._counts[peer] = self._counts.get(peer, 0) + 1

    def discard(self, key: Key) -> None:
        """It is over, if it was counted."""
        peer = self._peers.pop(key, None)
        if peer is None:
            return
        self._counts[peer] -= 1
        if not self._counts[peer]:
            del self._counts[peer]


class Premises(Protocol):
    """The stack, as seen from its door."""

    @property
    def lines(self) -> Mapping[str, Line]:
        """By token."""

    @property
    def dialog_count(self) -> int:
        """Dialogs held now."""

    def has_room(self) -> bool:
        """Whether the program can carry another call."""

    def answers_itself(self, method: str) -> bool:
        """Whether the program has a handler of its own for such requests."""

    def under_way(self, request: Request) -> bool:
        """Whether it belongs to a transaction or a dialog that is there."""

    def transaction_load(self, peer: str) -> tuple[int, int]:
        """Server transactions in all, and those of one peer."""


class Admission:
    """The door of one stack."""

    def __init__(self, config: UserAgentConfig, premises: Premises) -> None:
        self._config = config
        self._limits = config.limits
        self._premises = premises
        self._allowed = parse_sources(config.allow_from, field="allow_from")
        self.statistics = TrafficStatistics()
        """The counters; the gauges among them are the stack's to fill in."""
        self.unanswered: Tally[object] = Tally(self._limits.unanswered, self._limits.unanswered_per_peer)
        """Incoming sessions that ring."""
        self.calls: Tally[object] = Tally(config.max_calls, self._limits.calls_per_peer)
        """Incoming sessions that are not over."""
        self._known: dict[str, None] = {}
        """Hosts that are, or were, a line's registrar or proxy. One whose account is gone may have a binding of it
        left: it is told 404 instead of nothing."""
        self._judged: dict[str, Standing] = {}
        self._told: set[str] = set()

    # -- who knows whom --------------------------------------------------------------------------------------------

    def lines_changed(self) -> None:
        """A line came, went, or began to register."""
        self._judged.clear()

    def learned(self, host: str) -> None:
        """A line has a registrar or proxy at ``host``."""
        self._known.pop(host, None)
        self._known[host] = None
        if len(self._known) > MAX_KNOWN:
            del self._known[next(iter(self._known))]
        self._judged.clear()

    def standing(self, host: str, line: Line | None = None) -> Standing:
        """Who ``host`` is to a line, or to the agent as a whole."""
        if line is not None:
            return self._standing_to(host, line)
        known = self._judged.get(host)
        if known is None:
            if len(self._judged) >= MAX_JUDGED:
                self._judged.clear()
            known = self._judged[host] = self._standing_to_any(host)
        return known

    def _standing_to(self, host: str, line: Line) -> Standing:
        sources = line.sources
        if line.reaches(host) or self._allowed.names(host) or (sources is not None and sources.names(host)):
            return Standing.KNOWN
        if self._allowed.anyone or (sources is not None and sources.anyone):
            return Standing.ANYONE
        # A line that registers nowhere is called by address. It is open unless somebody wrote down who may call.
        is_open = not line.registers and sources is None and not self._allowed
        return Standing.ANYONE if is_open else Standing.STRANGER

    def _standing_to_any(self, host: str) -> Standing:
        if host in self._known or self._allowed.names(host):
            return Standing.KNOWN
        best = Standing.ANYONE if self._allowed.anyone else Standing.STRANGER
        for line in self._premises.lines.values():
            match self._standing_to(host, line):
                case Standing.KNOWN:
                    return Standing.KNOWN
                case Standing.ANYONE:
                    best = Standing.ANYONE
                case Standing.STRANGER:
                    pass
        return best

    def line_for(self, request: Request, host: str) -> Line | None:
        """The line a call is for: by our Contact's mark, else by user. Namesakes are told apart by the To host, and by
        which of them knows the caller."""
        lines = self._premises.lines
        line = lines.get(request.uri.parameters.get("line") or "")
        if line is not None:
            return line
        user = request.uri.user_unescaped
        namesakes = [line for line in lines.values() if line.answers_to(user)]
        namesakes = namesakes or [line for line in lines.values() if line.takes_any]
        if len(namesakes) < 2:
            return next(iter(namesakes), None)
        by_host = [line for line in namesakes if line.address.host == request.to.uri.host]
        admitting = [line for line in (*by_host, *namesakes) if self._standing_to(host, line) is not Standing.STRANGER]
        return (admitting or by_host or namesakes)[0]

    # -- the decision ----------------------------------------------------------------------------------------------

    def refusal(self, request: Request, flow: Flow) -> Refusal | None:
        """Why a request is not taken; None where it is."""
        if request.method == "ACK" or self._premises.under_way(request):
            return None
        host = flow.remote[0]
        is_for_user = request.method in ("INVITE", "MESSAGE") and not request.to_tag
        line = self.line_for(request, host) if is_for_user else None
        standing = self.standing(host, line)
        if standing is not Standing.KNOWN and _is_scanner(request):
            self.statistics.scanners_silenced += 1
            return SILENCE
        own = self._premises.answers_itself(request.method)
        if standing is Standing.STRANGER and not own:
            return self._turned_away(request, flow, line)
        peer = peer_of(host)
        if is_for_user and not own and line is None and self._config.unknown_users == "silence":
            self.statistics.nobody_silenced += 1
            return SILENCE
        opens_call = request.method == "INVITE" and line is not None and not own
        if self._overloaded(peer) or (opens_call and self._no_room(peer)):
            self.statistics.overload_refused += 1
            return OVERLOAD
        return None

    def malformed(self, host: str, *, readable: bool) -> bool:
        """Whether a message that breaks the grammar is answered: to whom it would be if it did not."""
        self.statistics.malformed += 1
        if not readable:
            return False
        if self.standing(host) is not Standing.STRANGER:
            return True
        return self._stranger() is not SILENCE

    def _overloaded(self, peer: str) -> bool:
        total, own = self._premises.transaction_load(peer)
        return total >= self._limits.transactions or own >= self._limits.transactions_per_peer

    def _no_room(self, peer: str) -> bool:
        everyones = self._premises.dialog_count >= self._config.max_calls
        return everyones or not self._premises.has_room() or self.calls.full(peer) or self.unanswered.full(peer)

    def _turned_away(self, request: Request, flow: Flow, line: Line | None) -> Refusal:
        host = flow.remote[0]
        level = logging.DEBUG
        if line is not None and host not in self._told and len(self._told) < MAX_TOLD:
            self._told.add(host)
            level = logging.WARNING
        log.log(
            level,
            "turned away %s for %s from %s, which no account knows: allow_from lets it in",
            request.method,
            request.uri.user,
            host,
        )
        return self._stranger()

    def _stranger(self) -> Refusal:
        if self._config.strangers == "refuse":
            self.statistics.strangers_refused += 1
            return Refusal(403)
        self.statistics.strangers_silenced += 1
        return SILENCE


def _is_scanner(request: Request) -> bool:
    name = (request.headers.get("User-Agent") or "").lower()
    return bool(name) and any(scanner in name for scanner in SCANNERS)
