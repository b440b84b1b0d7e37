"""A registrar in memory (RFC 3261 §10.3) with digest authentication (§22, RFC 8760), for one domain.

It is pure: the user agent that it sits in hands requests over and sends the responses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sipcore.protocol.builder import make_response
from sipcore.protocol.digest_server import DigestVerifier, Verdict

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

    from sipcore.protocol.transaction import ServerTransaction
    from sipcore.protocol.values import NameAddr, Uri
    from sipcore.protocol.wire import Request, Response

__all__ = ["Binding", "Registrar"]

LONGEST_REFUSABLE = 3600
"""Seconds: shorter lifetimes may be refused with 423, longer ones never (§10.3, 7)."""


@dataclass(frozen=True, slots=True)
class Binding:
    """Where a user can be reached."""

    contact: Uri
    expires_at: float
    """On the clock of the ``now`` arguments."""
    call_id: str
    cseq: int


class Registrar:
    """Keeps bindings of the users of one realm.

    Args:
        realm: what challenges name.
        passwords: password by user name; others get 404.
        rng: source of nonces and tags.
        default_expires: granted where the request asks for nothing.
        min_expires: shorter requests get 423.
        max_expires: longer requests get this.
    """

    def __init__(
        self,
        realm: str,
        passwords: Mapping[str, str],
        *,
        rng: random.Random,
        default_expires: int = 600,
        min_expires: int = 30,
        max_expires: int = 3600,
    ) -> None:
        self._passwords = passwords
        self._rng = rng
        self._verifier = DigestVerifier(realm, passwords.get, rng)
        self.default_expires = default_expires
        self.min_expires = min_expires
        self.max_expires = max_expires
        self._bindings: dict[str, list[Binding]] = {}

    def bindings(self, user: str, now: float) -> tuple[Binding, ...]:
        """The user's bindings that have not run out, oldest first."""
        return tuple(binding for binding in self._bindings.get(user, ()) if binding.expires_at > now)

    def handle(self, request: Request, transaction: ServerTransaction, now: float) -> Response:
        """The final response to a REGISTER; for ``UserAgent.handle``."""
        required = request.list_of("Require")
        if required:
            return self._answer(request, 420, ("Unsupported", ", ".join(required)))
        verdict = self._verifier.verify(request, now=now)
        if verdict.outcome is not Verdict.OK:
            challenges = self._verifier.challenge(now, stale=verdict.outcome is Verdict.STALE)
            return self._answer(request, 401, *(("WWW-Authenticate", value) for value in challenges))
        user = request.to.uri.user_unescaped
        if user not in self._passwords:
            return self._answer(request, 404)
        if verdict.username != user:
            return self._answer(request, 403)
        return self._register(request, user, now)

    def _register(self, request: Request, user: str, now: float) -> Response:
        """Steps 6 to 8 of §10.3, after authentication; all contacts are taken or none."""
        if any(line.strip() == "*" for line in request.headers.get_all("Contact")):
            if request.expires != 0 or request.contacts:
                return self._answer(request, 400)
            self._bindings[user] = []
            return self._answer(request, 200)
        updated = list(self.bindings(user, now))
        for contact in request.contacts:
            lifetime = self._lifetime(request, contact)
            if 0 < lifetime < min(self.min_expires, LONGEST_REFUSABLE):
                return self._answer(request, 423, ("Min-Expires", str(self.min_expires)))
            for known in [binding for binding in updated if binding.contact.equivalent(contact.uri)]:
                if known.call_id == request.call_id and known.cseq >= request.cseq.number:
                    return self._answer(request, 400)
                updated.remove(known)
            if lifetime > 0:
                expires_at = now + min(lifetime, self.max_expires)
                updated.append(Binding(contact.uri, expires_at, request.call_id, request.cseq.number))
        self._bindings[user] = updated
        contacts = (
            ("Contact", f"<{binding.contact}>;expires={round(binding.expires_at - now)}") for binding in updated
        )
        return self._answer(request, 200, *contacts)

    def _lifetime(self, request: Request, contact: NameAddr) -> int:
        """Seconds asked for: the contact's own parameter, else the header, else the default."""
        own = contact.params.get("expires") or ""
        if own.isascii() and own.isdigit() and len(own) <= 10:
            return int(own)
        return self.default_expires if request.expires is None else request.expires

    def _answer(self, request: Request, status: int, *headers: tuple[str, str]) -> Response:
        return make_response(request, status, to_tag=f"{self._rng.getrandbits(64):016x}", headers=headers)
