"""Digest authentication, the server's half (RFC 7616, RFC 8760): challenges, and the check of what answers them.

For the embedded registrar and for test peers. Left out: userhash, ``domain`` and Authentication-Info.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from sipcore.protocol.digest import (
    Credentials,
    canonical_algorithm,
    digest_response,
    parse_credentials,
    quoted,
    spelled_algorithm,
)

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    from sipcore.protocol.wire import Request

__all__ = ["DigestVerifier", "Verdict", "Verification"]

MAX_NONCES = 1024
"""Nonces remembered; beyond, the oldest is forgotten and its holder asked anew with ``stale=true``."""
NONCE_LIFETIME = 300.0
"""Seconds a nonce is good for."""
COUNT_WINDOW = 64
"""Nonce counts below the highest that may still come: UDP reorders."""


class Verdict(Enum):
    """What a request's credentials are worth."""

    OK = "ok"
    STALE = "stale"
    """The password is right, but the nonce, or its count, is used up: challenge again with ``stale=true``."""
    REFUSED = "refused"
    """No credentials for the realm, or wrong ones."""


@dataclass(frozen=True, slots=True)
class Verification:
    """The outcome for one request."""

    outcome: Verdict
    username: str = ""
    """The digest user name where the password was right, else empty."""


@dataclass(slots=True)
class _Nonce:
    """A nonce that was given out, and which of its counts came back."""

    issued_at: float
    highest: int = 0
    window: int = 0
    """Bit n set: the count ``highest - n`` was used."""

    def take(self, count: int) -> bool:
        """Uses up a nonce count; False where it was used before or is too far behind to know (RFC 7616 §3.4, nc)."""
        behind = self.highest - count
        if behind < 0:
            self.window = (self.window << min(-behind, COUNT_WINDOW) | 1) & ((1 << COUNT_WINDOW) - 1)
            self.highest = count
            return True
        if behind >= COUNT_WINDOW or self.window >> behind & 1:
            return False
        self.window |= 1 << behind
        return True


@dataclass(slots=True)
class DigestVerifier:
    """Guards one realm.

    Args:
        realm: the protection space that challenges name.
        passwords: the password of a digest user name, None where there is no such user.
        rng: source of nonces; a ``random.SystemRandom`` makes them unguessable.
        algorithms: one challenge each, strongest first.
        qop: qualities of protection offered; none makes challenges of RFC 2069.
    """

    realm: str
    passwords: Callable[[str], str | None] = field(repr=False)
    rng: random.Random = field(repr=False)
    algorithms: Sequence[str] = ("SHA-256", "MD5")
    qop: Sequence[str] = ("auth",)
    _nonces: dict[str, _Nonce] = field(default_factory=dict, repr=False, init=False)
    """Oldest first."""

    def challenge(self, now: float, *, stale: bool = False) -> list[str]:
        """Values for WWW-Authenticate or Proxy-Authenticate, one a header line (RFC 8760 §2.4); all share a nonce."""
        self._forget_old(now)
        nonce = f"{self.rng.getrandbits(128):032x}"
        self._nonces[nonce] = _Nonce(now)
        if len(self._nonces) > MAX_NONCES:
            del self._nonces[next(iter(self._nonces))]
        offered = f", qop={quoted(','.join(self.qop))}" if self.qop else ""
        tail = f"{offered}, stale=true" if stale else offered
        return [
            f"Digest realm={quoted(self.realm)}, nonce={quoted(nonce)}, algorithm={spelled_algorithm(algorithm)}{tail}"
            for algorithm in self.algorithms
        ]

    def verify(self, request: Request, header: str = "Authorization", *, now: float) -> Verification:
        """Judges the credentials of ``request`` for this realm, and uses up their nonce count.

        Args:
            request: as it arrived.
            header: ``Authorization``, or ``Proxy-Authorization`` for a proxy.
            now: seconds.
        """
        given = next((found for found in parse_credentials(request, header) if found.get("realm") == self.realm), None)
        if given is None or not self._matches(request, given):
            return Verification(Verdict.REFUSED)
        username = given.get("username", "")
        self._forget_old(now)
        known = self._nonces.get(given.get("nonce", ""))
        # Without qop there is no count (RFC 2069): such a nonce is good once.
        if known is None or not known.take(_count(given) or 1):
            return Verification(Verdict.STALE, username)
        return Verification(Verdict.OK, username)

    def _matches(self, request: Request, given: dict[str, str]) -> bool:
        algorithm = canonical_algorithm(given.get("algorithm", "MD5"))
        if algorithm not in {canonical_algorithm(offered) for offered in self.algorithms}:
            return False
        qop = given.get("qop", "").lower()
        if qop not in (self.qop or ("",)) or (qop and not (_count(given) and given.get("cnonce"))):
            return False
        # The request URI itself is hashed: credentials made for another one do not fit (RFC 7616 §3.4.6).
        if given.get("uri") != str(request.uri):
            return False
        username = given.get("username", "")
        password = self.passwords(username)
        expected = digest_response(
            Credentials(username, password or ""),
            algorithm=algorithm,
            realm=self.realm,
            nonce=given.get("nonce", ""),
            method=request.method,
            uri=str(request.uri),
            qop=qop,
            nonce_count=_count(given) or 0,
            cnonce=given.get("cnonce", ""),
            body=request.body,
        )
        right = hmac.compare_digest(expected.encode(), given.get("response", "").lower().encode("utf-8", "replace"))
        return right and password is not None

    def _forget_old(self, now: float) -> None:
        while self._nonces:
            oldest = next(iter(self._nonces))
            if now - self._nonces[oldest].issued_at < NONCE_LIFETIME:
                return
            del self._nonces[oldest]


def _count(given: dict[str, str]) -> int | None:
    """The nonce count, eight hex digits; None where there is none."""
    text = given.get("nc", "")
    try:
        return int(text, 16) if len(text) == 8 and text.isalnum() else None
    except ValueError:
        return None
