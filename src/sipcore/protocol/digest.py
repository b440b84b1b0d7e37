"""Digest authentication, the client's half (RFC 7616, RFC 8760, RFC 3261 §22), and what it shares with the server's.

Left out: ``username*`` (RFC 7616 §3.4), the check of ``rspauth`` (§3.5), ``domain`` (§3.3: SIP has no use for it).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from sipcore.protocol.values import split_list

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sipcore.protocol.ids import Ids
    from sipcore.protocol.wire import Request, Response

__all__ = [
    "ALGORITHMS",
    "Challenge",
    "Credentials",
    "DigestClient",
    "canonical_algorithm",
    "digest_response",
    "parse_challenges",
    "parse_credentials",
    "quoted",
    "spelled_algorithm",
]

ALGORITHMS = tuple(
    name
    for name in ("SHA-512-256", "SHA-512-256-SESS", "SHA-256", "SHA-256-SESS", "MD5", "MD5-SESS")
    if not name.startswith("SHA-512") or "sha512_256" in hashlib.algorithms_available
)
"""Strongest first; a ``-sess`` variant is no stronger than its base and comes after it. Python may lack SHA-512/256."""

_SCHEME = re.compile(r"\s*([A-Za-z0-9!#$%&'*+.^_`|~\-]+)\s+(?=[A-Za-z0-9\-]+\s*=)")
_QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user name and a password that never shows."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Challenge:
    """One digest challenge (RFC 7616 §3.3)."""

    realm: str
    nonce: str = field(repr=False)
    algorithm: str = "MD5"
    """In upper case."""
    qop: tuple[str, ...] = ()
    """Offered qualities of protection in lower case; empty where the server knows none (RFC 2069)."""
    opaque: str | None = field(default=None, repr=False)
    stale: bool = False
    userhash: bool = False
    """The user name shall come as a hash (RFC 7616 §3.4.4)."""
    proxy: bool = False
    """From Proxy-Authenticate; answered in Proxy-Authorization."""

    @property
    def supported(self) -> bool:
        """Whether this client can answer it."""
        return self.algorithm in ALGORITHMS and (not self.qop or "auth" in self.qop or "auth-int" in self.qop)


def canonical_algorithm(name: str) -> str:
    """An algorithm name as :data:`ALGORITHMS` has it."""
    return name.upper()


def spelled_algorithm(name: str) -> str:
    """An algorithm name as RFC 7616 §6.1 registers it."""
    return name.upper().replace("-SESS", "-sess")


def quoted(text: str) -> str:
    """A quoted-string (RFC 3261 §25.1)."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _parameters(text: str) -> dict[str, str]:
    """``name=value`` pairs of a challenge or of credentials, names in lower case, quoted values unquoted."""
    found: dict[str, str] = {}
    for part in split_list(text):
        name, equals, value = part.partition("=")
        if not equals:
            continue
        value = value.strip()
        if len(value) >= 2 and value[0] == value[-1] == '"':
            value = _QUOTED_PAIR.sub(r"\1", value[1:-1])
        found.setdefault(name.strip().lower(), value)
    return found


def _split_schemes(lines: Iterable[str]) -> list[tuple[str, str]]:
    """Scheme and parameters of each challenge; several may stand on one line (RFC 9110 §11.6.1)."""
    challenges: list[tuple[str, list[str]]] = []
    for line in lines:
        for part in split_list(line):
            started = _SCHEME.match(part)
            if started is not None:
                challenges.append((started.group(1).lower(), [part[started.end() :]]))
            elif challenges:
                challenges[-1][1].append(part)
    return [(scheme, ", ".join(parts)) for scheme, parts in challenges]


def parse_challenges(response: Response) -> list[Challenge]:
    """All digest challenges of a 401 or 407, in order. Malformed ones and other schemes are left out; never raises."""
    found: list[Challenge] = []
    for name, proxy in (("WWW-Authenticate", False), ("Proxy-Authenticate", True)):
        for scheme, text in _split_schemes(response.headers.get_all(name)):
            parameters = _parameters(text)
            if scheme != "digest" or "nonce" not in parameters:
                continue
            found.append(
                Challenge(
                    realm=parameters.get("realm", ""),
                    nonce=parameters["nonce"],
                    algorithm=canonical_algorithm(parameters.get("algorithm", "MD5")),
                    qop=tuple(token.strip().lower() for token in parameters.get("qop", "").split(",") if token.strip()),
                    opaque=parameters.get("opaque"),
                    stale=parameters.get("stale", "").lower() == "true",
                    userhash=parameters.get("userhash", "").lower() == "true",
                    proxy=proxy,
                )
            )
    return found


def parse_credentials(request: Request, header: str) -> list[dict[str, str]]:
    """Parameters of each digest credentials value in ``Authorization`` or ``Proxy-Authorization``; never raises."""
    values = (value.strip().partition(" ") for value in request.headers.get_all(header))
    return [_parameters(text) for scheme, _, text in values if scheme.lower() == "digest"]


def _hash(algorithm: str, data: str | bytes) -> str:
    # surrogateescape: a realm or nonce that is not UTF-8 is hashed as the bytes it came in.
    raw = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data
    match algorithm.removesuffix("-SESS"):
        case "SHA-512-256":
            return hashlib.new("sha512_256", raw).hexdigest()
        case "SHA-256":
            return hashlib.sha256(raw).hexdigest()
        case _:
            # RFC 3261 §22.4 demands it; it protects nothing but the password on the wire.
            return hashlib.md5(raw, usedforsecurity=False).hexdigest()


def digest_response(
    credentials: Credentials,
    *,
    algorithm: str,
    realm: str,
    nonce: str,
    method: str,
    uri: str,
    qop: str = "",
    nonce_count: int = 0,
    cnonce: str = "",
    body: bytes = b"",
) -> str:
    """The ``response`` value (RFC 7616 §3.4.1-3; without ``qop`` that of RFC 2069).

    Args:
        algorithm: one of :data:`ALGORITHMS`.
        qop: ``auth``, ``auth-int``, or empty.
    """
    secret = _hash(algorithm, f"{credentials.username}:{realm}:{credentials.password}")
    if algorithm.endswith("-SESS"):
        secret = _hash(algorithm, f"{secret}:{nonce}:{cnonce}")
    request = f"{method}:{uri}"
    if qop == "auth-int":
        request = f"{request}:{_hash(algorithm, body)}"
    digest = _hash(algorithm, request)
    if not qop:
        return _hash(algorithm, f"{secret}:{nonce}:{digest}")
    return _hash(algorithm, f"{secret}:{nonce}:{nonce_count:08x}:{cnonce}:{qop}:{digest}")


@dataclass(slots=True)
class _Session:
    """What is remembered of a protection space: the newest challenge and how often its nonce was used."""

    challenge: Challenge
    host: str
    """Host of the request URI that was challenged."""
    cnonce: str
    """Of the first use: a ``-sess`` key is made from it and stays (RFC 7616 §3.4.2)."""
    uses: int = 0

    def covers(self, request: Request) -> bool:
        """Whether a new request may carry these credentials unasked.

        A user agent server's realm ends at its host. A proxy's lies on the way of all that has a route; what goes
        straight to a stranger's host takes no hash of our password along.
        """
        return request.uri.host == self.host or (self.challenge.proxy and "Route" in request.headers)


class DigestClient:
    """Answers challenges for one account and remembers them per realm, so that later requests need no round trip.

    Args:
        credentials: of the account.
        ids: where client nonces come from.
        realm: the only realm that is answered; empty: any.
        allow_weaker: also answers a challenge weaker than what the same server once offered for the realm.
    """

    MAX_SESSIONS = 16
    """Protection spaces remembered; beyond, the one challenged longest ago is forgotten."""

    def __init__(self, credentials: Credentials, ids: Ids, *, realm: str = "", allow_weaker: bool = False) -> None:
        self._credentials = credentials
        self._ids = ids
        self._realm = realm
        self._allow_weaker = allow_weaker
        self.refusal = ""
        """Why :meth:`answer` would not answer last time, where that was this side's own decision."""
        self._offered: dict[tuple[str, bool, str], str] = {}
        """The strongest algorithm ever offered, by what :attr:`_sessions` goes by."""
        self._sessions: dict[tuple[str, bool, str], _Session] = {}
        """By realm, proxy or not, and the host of a server's realm; the newest challenge last."""

    def answer(self, request: Request, response: Response, *, repeated: bool = False) -> bool:
        """Puts credentials for every realm challenged in a 401 or 407 on ``request``, which has those it was sent with.

        Returns:
            False where trying again is useless: no challenge that can be met, no password, or credentials that were
            computed for just this challenge were refused. Those that :meth:`apply` had put on unasked may have aged:
            a fresh nonce is answered then, stale or not; and so it is where the request was ``repeated``: a server
            that keeps no transaction takes the copy, with a count that it knows, for a replay.
        """
        self.refusal = ""
        if not self._credentials.password:
            return False
        challenges = _strongest(parse_challenges(response))
        self.refusal = self._foreign(challenges) or self._downgraded(challenges, request.uri.host)
        if self.refusal or not challenges or any(_refuses(each, request, repeated) for each in challenges):
            return False
        for session in self._sessions.values():
            # What other realms were sent already needs a count of its own in each request (RFC 7616 §3.4, nc).
            if session.challenge.nonce in _nonces(request, session.challenge.proxy):
                self._put(request, session)
        for challenge in challenges:
            self._put(request, self._session(challenge, request))
        return True

    def _foreign(self, challenges: Iterable[Challenge]) -> str:
        """Why a hash of the password may not go to whoever asks: it is not the realm that the account names."""
        strangers = [challenge.realm for challenge in challenges if self._realm and challenge.realm != self._realm]
        return f"it is of realm {strangers[0][:80]!a}, not {self._realm!a}" if strangers else ""

    def _downgraded(self, challenges: Iterable[Challenge], host: str) -> str:
        """Why not: somebody on the way may have taken the stronger challenge out (RFC 7616 §5.10, RFC 8760 §4)."""
        for challenge in challenges:
            key = _space(challenge, host)
            best = self._offered.pop(key, challenge.algorithm)
            weaker = _strength(challenge.algorithm) > _strength(best)
            self._offered[key] = best if weaker else challenge.algorithm
            if len(self._offered) > self.MAX_SESSIONS:
                del self._offered[next(iter(self._offered))]
            if weaker and not self._allow_weaker:
                offer = spelled_algorithm(challenge.algorithm)
                return f"it offers {offer}, where {spelled_algorithm(best)} was offered before: a downgrade"
        return ""

    def accepted(self, request: Request, response: Response) -> None:
        """A request was answered 2xx: the nonces to use from now on (RFC 7616 §3.5, ``nextnonce``)."""
        for proxy, name in ((False, "Authentication-Info"), (True, "Proxy-Authentication-Info")):
            for value in response.headers.get_all(name):
                nonce = _parameters(value).get("nextnonce")
                used = _nonces(request, proxy)
                for session in self._sessions.values():
                    challenge = session.challenge
                    if nonce and challenge.proxy is proxy and challenge.nonce in used and nonce != challenge.nonce:
                        session.challenge = replace(challenge, nonce=nonce)
                        session.cnonce, session.uses = self._ids.cnonce(), 0

    def apply(self, request: Request) -> None:
        """Puts credentials for each remembered realm that covers a new request, with its nonce count one higher."""
        for session in self._sessions.values():
            # A nonce of RFC 2069 has no count that would tell a first use from a later one: it is used once.
            if session.challenge.qop and session.covers(request):
                self._put(request, session)

    def _session(self, challenge: Challenge, request: Request) -> _Session:
        """The session of a challenge: the one there is where the nonce is still the same, else a new one."""
        host = request.uri.host
        key = _space(challenge, host)
        known = self._sessions.pop(key, None)
        if known is None or known.challenge.nonce != challenge.nonce:
            known = _Session(challenge, host, self._ids.cnonce())
        self._sessions[key] = known
        if len(self._sessions) > self.MAX_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        return known

    def _put(self, request: Request, session: _Session) -> None:
        name = _header(session.challenge.proxy)
        others = [value for value in request.headers.get_all(name) if _realm_of(value) != session.challenge.realm]
        request.headers.remove(name)
        for value in (*others, self._value(request, session)):
            request.headers.add(name, value)

    def _value(self, request: Request, session: _Session) -> str:
        challenge = session.challenge
        session.uses += 1
        qop = "auth" if "auth" in challenge.qop else "auth-int" if challenge.qop else ""
        keyed = challenge.algorithm.endswith("-SESS")
        cnonce = session.cnonce if keyed or session.uses == 1 else self._ids.cnonce()
        uri = str(request.uri)
        response = digest_response(
            self._credentials,
            algorithm=challenge.algorithm,
            realm=challenge.realm,
            nonce=challenge.nonce,
            method=request.method,
            uri=uri,
            qop=qop,
            nonce_count=session.uses,
            cnonce=cnonce,
            body=request.body,
        )
        username = self._credentials.username
        if challenge.userhash:
            # The key is made from the plain name all the same (RFC 7616 §3.4.2).
            username = _hash(challenge.algorithm, f"{username}:{challenge.realm}")
        parts = [
            f"username={quoted(username)}",
            f"realm={quoted(challenge.realm)}",
            f"nonce={quoted(challenge.nonce)}",
            f"uri={quoted(uri)}",
            f'response="{response}"',
            f"algorithm={spelled_algorithm(challenge.algorithm)}",
        ]
        if qop or keyed:
            parts.append(f'cnonce="{cnonce}"')
        if challenge.userhash:
            parts.append("userhash=true")
        if challenge.opaque is not None:
            parts.append(f"opaque={quoted(challenge.opaque)}")
        if qop:
            # Not quoted, unlike in the challenge (RFC 7616 §3.4).
            parts += [f"qop={qop}", f"nc={session.uses:08x}"]
        return "Digest " + ", ".join(parts)


def _space(challenge: Challenge, host: str) -> tuple[str, bool, str]:
    """The protection space of a challenge: a server's realm is its host's own, a proxy's lies on the way."""
    return challenge.realm, challenge.proxy, "" if challenge.proxy else host


def _strength(algorithm: str) -> int:
    """0 is best; a ``-sess`` variant is as strong as its base."""
    return ALGORITHMS.index(algorithm.removesuffix("-SESS"))


def _strongest(challenges: Iterable[Challenge]) -> list[Challenge]:
    """Of each realm the challenge with the best algorithm (RFC 8760 §2.4)."""
    best: dict[tuple[str, bool], Challenge] = {}
    for challenge in challenges:
        if not challenge.supported:
            continue
        known = best.setdefault((challenge.realm, challenge.proxy), challenge)
        if ALGORITHMS.index(challenge.algorithm) < ALGORITHMS.index(known.algorithm):
            best[challenge.realm, challenge.proxy] = challenge
    return list(best.values())


def _refuses(challenge: Challenge, request: Request, repeated: bool) -> bool:
    """Whether a challenge says that the credentials on ``request`` are wrong, not only old (RFC 7616 §3.3, stale)."""
    for sent in parse_credentials(request, _header(challenge.proxy)):
        if sent.get("realm") == challenge.realm:
            answered = int(sent.get("nc", "1"), 16) == 1 and not repeated
            return sent.get("nonce") == challenge.nonce or (answered and not challenge.stale)
    return False


def _header(proxy: bool) -> str:
    return "Proxy-Authorization" if proxy else "Authorization"


def _nonces(request: Request, proxy: bool) -> set[str]:
    return {sent.get("nonce", "") for sent in parse_credentials(request, _header(proxy))}


def _realm_of(value: str) -> str | None:
    return _parameters(value.strip().partition(" ")[2]).get("realm")
