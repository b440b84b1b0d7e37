"""One account inside the stack: how it names itself, where its requests go, and its registration."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sipcore.protocol.addresses import parse_account, parse_outbound_proxy
from sipcore.protocol.digest import Credentials, DigestClient
from sipcore.protocol.invite_session import LocalIdentity
from sipcore.protocol.routing import target_of
from sipcore.protocol.sources import parse_sources
from sipcore.protocol.values import NameAddr

if TYPE_CHECKING:
    from sipcore.config import Account
    from sipcore.protocol.flows import Flow, Target
    from sipcore.protocol.ids import Ids
    from sipcore.protocol.registrar_client import RegistrarClient
    from sipcore.protocol.values import Uri

__all__ = ["Line"]

MAX_HOSTS = 64
"""Addresses of registrar and proxy that are remembered; the oldest is forgotten first."""


class Line:
    """An account as the stack uses it. ``token`` marks its Contact, so that calls find it among namesakes."""

    def __init__(self, account: Account, ids: Ids) -> None:
        self.account = account
        self.address = parse_account(account.address)
        self.token = ids.tag()
        self.digest = DigestClient(
            Credentials(account.auth_username or self.address.aor.user_unescaped, account.password),
            ids,
            realm=account.realm,
            allow_weaker=account.allow_weaker_digest,
        )
        self.identity = LocalIdentity(
            address=str(NameAddr(self.address.aor, account.display_name)),
            contact=self.contact,
            digest=self.digest,
            policy=account.calls,
        )
        self.registrar: RegistrarClient | None = None
        self.registers = False
        """Whether it was ever to be registered."""
        self.sources = None if account.accept_from is None else parse_sources(account.accept_from, field="accept_from")
        self._hosts: dict[str, None] = {}
        proxy = parse_outbound_proxy(account.outbound_proxy) if account.outbound_proxy else None
        self._proxy = proxy
        self.routes = (f"<{proxy}>",) if proxy is not None else ()
        """Pre-loaded Route of every request that opens a dialog (RFC 3261 §8.1.2)."""

    def __repr__(self) -> str:
        return f"<Line {self.address.aor}>"

    def answers_to(self, user: str) -> bool:
        """Whether a call for ``user``, without escapes, is for this account."""
        return self.address.aor.user_unescaped == user

    # -- its registrar and proxy -----------------------------------------------------------------------------------

    def reached(self, host: str) -> None:
        """The registrar or the outbound proxy is, also, at ``host``."""
        self._hosts.pop(host, None)
        self._hosts[host] = None
        if len(self._hosts) > MAX_HOSTS:
            del self._hosts[next(iter(self._hosts))]

    def reaches(self, host: str) -> bool:
        """Whether ``host`` is its registrar's or outbound proxy's."""
        return host in self._hosts

    @property
    def homes(self) -> tuple[Target, ...]:
        """Where its calls may come from, by name: registrar and outbound proxy."""
        registrar = target_of(self.address.registrar)
        return (registrar,) if self._proxy is None else (target_of(self._proxy), registrar)

    # -- its requests ----------------------------------------------------------------------------------------------

    def contact(self, flow: Flow) -> str:
        """Contact value for requests and responses on ``flow`` (RFC 3261 §8.1.1.8)."""
        if self.address.secure:
            return self.secure_contact(flow)
        transport = "" if flow.transport == "udp" else f";transport={flow.transport}"
        return f"<sip:{self._user_at(flow)}{transport};line={self.token}>"

    def secure_contact(self, flow: Flow) -> str:
        """The same as a ``sips:`` URI, which says of itself that it is reached over TLS (§26.2.2)."""
        return f"<sips:{self._user_at(flow)};line={self.token}>"

    def _user_at(self, flow: Flow) -> str:
        host, port = flow.advertised
        where = f"[{host}]" if ":" in host else host
        return f"{self.address.aor.user}@{where}:{port}"

    def identity_in(self, *, secure: bool) -> LocalIdentity:
        """How the account presents itself in a session; with a ``sips:`` Contact where the session is secure."""
        return replace(self.identity, contact=self.secure_contact) if secure else self.identity

    def target(self, uri: Uri) -> Target:
        """Where a request for ``uri`` that opens a dialog goes: the outbound proxy, else the URI itself.

        A URI at the account's own host and port that names no transport takes the account's.
        """
        if self._proxy is not None:
            return target_of(self._proxy)
        home = self.address.registrar
        at_home = uri.host == home.host and uri.port == home.port
        return target_of(uri, transport=self.address.transport if at_home else None)
