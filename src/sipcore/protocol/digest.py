"""Digest authentication, the client's half (RFC 7616, RFC 8760, RFC 3261 §22)."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sipcore.protocol.values import split_list

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sipcore.protocol.ids import Ids
    from sipcore.protocol.wire import Request, Response

__all__ = ["ALGORITHMS", "Challenge", "Credentials", "DigestClient", "digest_response", "parse_challenges", "parse_parameters"]

ALGORITHMS = ("SHA-512-256", "SHA-512-256-SESS", "SHA-256", "SHA-256-SESS", "MD5", "MD5-SESS")
"""Strongest first; a ``-sess`` variant is no stronger than its base and comes after it."""

_SCHEME = re.compile(r"\s*([A-Za-z0-9!#$%&'*+.^_`|~\-]+)\s+(?=[A-Za-z0-9\-]+\s*=)")


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
    proxy: bool = False
    """From Proxy-Authenticate; answered in Proxy-Authorization."""

    @property
    def supported(self) -> bool:
        """Whether this client can answer it."""
        return self.algorithm in ALGORITHMS and (not self.qop or "auth" in self.qop or "auth-int" in self.qop)


def parse_parameters(text: str) -> dict[str, str]:
    """``name=value`` pairs of a challenge or of credentials, names in lower case, quoted values unquoted."""
    found: dict[str, str] = {}
    for part in split_list(text):
        name, equals, value = part.partition("=")
        if not equals:
            continue
        value = value.strip()
        if len(value) >= 2 and value[0] == value[-1] == '"':
            value = re.sub(r"\\(.)", r"\1", value[1:-1])
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
            parameters = parse_parameters(text)
            if scheme != "digest" or "nonce" not in parameters:
                continue
            found.append(
                Challenge(
                    realm=parameters.get("realm", ""),
                    nonce=parameters["nonce"],
                    algorithm=parameters.get("algorithm", "MD5").upper(),
                    qop=tuple(token.strip().lower() for token in parameters.get("qop", "").split(",") if token.strip()),
                    opaque=parameters.get("opaque"),
                    stale=parameters.get("stale", "").lower() == "true",
                    proxy=proxy,
                )
            )
    return found


def _hash(algorithm: str, data: str | bytes) -> str:
    raw = data.encode() if isinstance(data, str) else data
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
    uses: int = 0


class DigestClient:
    """Answers challenges for one account and remembers them per realm, so that later requests need no round trip."""

    MAX_REALMS = 16
    """Protection spaces remembered; a server that invents more loses the oldest."""

    def __init__(self, credentials: Credentials, ids: Ids) -> None:
        self._credentials = credentials
        self._ids = ids
        self._sessions: dict[tuple[str, bool], _Session] = {}

    def answer(self, request: Request, response: Response) -> bool:
        """Puts credentials for every realm challenged in a 401 or 407 on ``request``, which still has those it was sent with.

        Returns:
            False where trying again is useless: no challenge that can be met, no password, or the same credentials were
            refused already (a challenge repeats the nonce that was answered, or a fresh nonce comes without ``stale``
            after an answer that was computed for this very request).
        """
        if not self._credentials.password:
            return False
        best: dict[tuple[str, bool], Challenge] = {}
        for challenge in parse_challenges(response):
            key = (challenge.realm, challenge.proxy)
            if challenge.supported and (
                key not in best or ALGORITHMS.index(challenge.algorithm) < ALGORITHMS.index(best[key].algorithm)
            ):
                best[key] = challenge
        if not best:
            return False
        for (realm, proxy), challenge in best.items():
            sent = self._sent(request, realm, proxy=proxy)
            if sent is None:
                continue
            session = self._sessions.get((realm, proxy))
            first_use = session is None or session.challenge.nonce != sent.get("nonce") or session.uses <= 1
            if sent.get("nonce") == challenge.nonce or (first_use and not challenge.stale):
                # Refused although the nonce was new: the password is wrong (RFC 7616 §3.3, stale).
                return False
        for (realm, proxy), challenge in best.items():
            if (realm, proxy) not in self._sessions and len(self._sessions) >= self.MAX_REALMS:
                self._sessions.pop(next(iter(self._sessions)))
            session = self._sessions[realm, proxy] = _Session(challenge)
            self._put(request, session)
        return True

    def apply(self, request: Request) -> None:
        """Puts credentials for every remembered realm on a new request, each with its nonce count one higher."""
        for session in self._sessions.values():
            self._put(request, session)

    def _put(self, request: Request, session: _Session) -> None:
        challenge = session.challenge
        name = "Proxy-Authorization" if challenge.proxy else "Authorization"
        others = [
            value
            for value in request.headers.get_all(name)
            if parse_parameters(value.partition(" ")[2]).get("realm") != challenge.realm
        ]
        request.headers.remove(name)
        for value in [*others, self._credentials_value(request, session)]:
            request.headers.add(name, value)

    def _credentials_value(self, request: Request, session: _Session) -> str:
        challenge = session.challenge
        session.uses += 1
        qop = "auth" if "auth" in challenge.qop else "auth-int" if challenge.qop else ""
        cnonce = self._ids.cnonce() if qop or challenge.algorithm.endswith("-SESS") else ""
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
        parts = [
            f"username={_quoted(self._credentials.username)}",
            f"realm={_quoted(challenge.realm)}",
            f"nonce={_quoted(challenge.nonce)}",
            f"uri={_quoted(uri)}",
            f'response="{response}"',
            f"algorithm={_ALGORITHM_NAMES[challenge.algorithm]}",
        ]
        if cnonce:
            parts.append(f'cnonce="{cnonce}"')
        if challenge.opaque is not None:
            parts.append(f"opaque={_quoted(challenge.opaque)}")
        if qop:
            parts.append(f"qop={qop}")
            parts.append(f"nc={session.uses:08x}")
        return "Digest " + ", ".join(parts)

    @staticmethod
    def _sent(request: Request, realm: str, *, proxy: bool) -> dict[str, str] | None:
        for value in request.headers.get_all("Proxy-Authorization" if proxy else "Authorization"):
            parameters = parse_parameters(value.partition(" ")[2])
            if parameters.get("realm") == realm:
                return parameters
        return None


_ALGORITHM_NAMES = {name: name.replace("-SESS", "-sess") for name in ALGORITHMS}


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
