"""One account inside the stack: how it names itself, where its requests go, and its registration."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from sipcore.protocol.addresses import escaped_user, parse_account, parse_callee, parse_outbound_proxy
from sipcore.protocol.dialling import DialPlan
from sipcore.protocol.digest import Credentials, DigestClient
from sipcore.protocol.identity import ACCOUNT_ITSELF, from_value, identity_headers, is_anonymous
from sipcore.protocol.invite_client import Way
from sipcore.protocol.invite_session import LocalIdentity
from sipcore.protocol.routing import is_address, is_same_address, target_of
from sipcore.protocol.security_agreement import SecurityAgreement
from sipcore.protocol.sources import parse_sources
from sipcore.protocol.values import NameAddr

if TYPE_CHECKING:
    from sipcore.config import Account
    from sipcore.protocol.flows import Flow, Target
    from sipcore.protocol.identity import Caller
    from sipcore.protocol.ids import Ids
    from sipcore.protocol.registrar_client import RegistrarClient
    from sipcore.protocol.values import Uri, Via

__all__ = ["Line"]

log = logging.getLogger(__name__)

MAX_SERVICE_ROUTES = 8
"""Values of one Service-Route; networks have one or two."""
MAX_HOSTS = 64
"""Addresses of registrar and proxy that are remembered; the oldest is forgotten first."""


class Line:
    """An account as the stack uses it. ``token`` marks its Contact, so that calls find it among namesakes."""

    def __init__(self, account: Account, ids: Ids) -> None:
        self.account = account
        address = parse_account(account.address)
        self.address = replace(address, transport=account.transport) if account.transport else address
        self._plan = DialPlan(account.country_code, account.national_prefix, account.international_prefix)
        own = (self.address.aor.user_unescaped, account.contact_user, *account.numbers)
        self._users = {self._plan.e164(user) for user in own if user}
        self.token = ids.tag()
        self.digest = DigestClient(
            Credentials(account.auth_username or self.address.aor.user_unescaped, account.password),
            ids,
            realm=account.realm,
            allow_weaker=account.allow_weaker_digest,
        )
        self.agreement = SecurityAgreement() if account.mediasec else None
        self.identity = LocalIdentity(
            address=from_value(account, self.address),
            contact=self.contact,
            digest=self.digest,
            agreement=self.agreement,
            policy=account.calls,
            codecs=account.codecs,
        )
        self.registered_address = str(NameAddr(self.address.aor, account.display_name))
        """From and To of REGISTER: always the address of record (§10.2)."""
        self.registrar: RegistrarClient | None = None
        self.address_is_set = False
        """Whether the user has said which address to name (``advertise``)."""
        self._public: tuple[Flow, tuple[str, int]] | None = None
        """The address that the far end of a flow sees us at, where a NAT makes it another one."""
        self.registers = False
        """Whether it was ever to be registered."""
        self.sources = None if account.accept_from is None else parse_sources(account.accept_from, field="accept_from")
        self._hosts: dict[str, None] = {}
        proxy = parse_outbound_proxy(account.outbound_proxy) if account.outbound_proxy else None
        self._proxy = proxy
        self.register_routes = (f"<{proxy}>",) if proxy is not None else ()
        """Pre-loaded Route of REGISTER (RFC 3261 §8.1.2)."""
        self._service_route: tuple[NameAddr, ...] = ()

    def __repr__(self) -> str:
        return f"<Line {self.address.aor}>"

    def answers_to(self, user: str) -> bool:
        """Whether a call for ``user``, without escapes, is for this account, by a name of its own."""
        return user in self._users or self._plan.e164(user) in self._users

    @property
    def takes_any(self) -> bool:
        """Whether calls that no account has a name for are for this one."""
        return "*" in self.account.numbers

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
        return (registrar,) if self._proxy is None else (self._to_proxy(self._proxy), registrar)

    def _to_proxy(self, proxy: Uri) -> Target:
        return target_of(proxy, transport=self.account.transport or None)

    @property
    def routes(self) -> tuple[str, ...]:
        """Pre-loaded Route of every other request outside a dialog: the outbound proxy (RFC 3261 §8.1.2), then what the
        registrar wants requests to go through (RFC 3608 §6.1), which often begins with that proxy."""
        service, proxy = self._service_route, self._proxy
        if proxy is not None and service and target_of(service[0].uri) == target_of(proxy):
            return tuple(str(each) for each in service)
        return (*self.register_routes, *(str(each) for each in service))

    def served_by(self, service_route: tuple[NameAddr, ...]) -> None:
        """The Service-Route of a 2xx to REGISTER, which replaces that of the last one; empty: none (RFC 3608 §6.1)."""
        loose = all(each.uri.scheme in ("sip", "sips") and "lr" in each.uri.parameters for each in service_route)
        if not loose or len(service_route) > MAX_SERVICE_ROUTES:
            log.warning("%s: a Service-Route of %d that cannot be followed", self.address.aor, len(service_route))
            service_route = ()
        self._service_route = service_route

    # -- its requests ----------------------------------------------------------------------------------------------

    def contact(self, flow: Flow) -> str:
        """Contact value for requests and responses on ``flow`` (RFC 3261 §8.1.1.8)."""
        return self._contact(self._contact_user, self.address.secure, flow)

    @property
    def _contact_user(self) -> str:
        return escaped_user(self.account.contact_user) or self.address.aor.user or ""

    def _contact(self, user: str, secure: bool, flow: Flow) -> str:
        """A ``sips:`` URI says of itself that it is reached over TLS (§26.2.2)."""
        known = self._public
        host, port = known[1] if known is not None and known[0] == flow else flow.advertised
        where = f"[{host}]" if ":" in host else host
        scheme = "sips" if secure else "sip"
        transport = "" if secure or flow.transport == "udp" else f";transport={flow.transport}"
        return f"<{scheme}:{user}@{where}:{port}{transport};line={self.token}>"

    def seen_as(self, flow: Flow, via: Via) -> None:
        """A response of the registrar tells which address it sees us at (RFC 3581 §4): that of the NAT between.

        Only what names a port counts: with a wrong one, a registrar could neither reach us nor see that there is a NAT.
        """
        host, port = via.received or via.host, via.rport
        if self.address_is_set or port is None or not is_address(host):
            return
        own = (flow.local[0].partition("%")[0], flow.local[1])
        same = port == own[1] and is_same_address(host, own[0])
        self._public = None if same else (flow, (host, port))

    def identity_in(self, *, secure: bool, caller: Caller = ACCOUNT_ITSELF) -> LocalIdentity:
        """How the account presents itself in a session; with a ``sips:`` Contact where the session is secure."""
        hidden = is_anonymous(self.account, caller)
        if caller == ACCOUNT_ITSELF and not secure and not hidden:
            return self.identity
        user = "anonymous" if hidden else self._contact_user
        contact = partial(self._contact, user, secure or self.address.secure)
        return replace(self.identity, address=from_value(self.account, self.address, caller), contact=contact)

    def invite_headers(
        self, given: tuple[tuple[str, str], ...], caller: Caller = ACCOUNT_ITSELF
    ) -> tuple[tuple[str, str], ...]:
        """Header fields of an INVITE that opens a call: those ``given``, and the account's."""
        return identity_headers(self.account, self.address, given, caller)

    def dial(self, to: str, *, field: str, refer: bool = False) -> Uri:
        """Whom to call, or to refer to, as somebody wrote it, by the account's dial plan.

        Raises:
            InvalidAddress: it is no name; the message starts with ``field``.
        """
        uri = parse_callee(self._plan.expanded(to), self.address, field=field, refer=refer)
        is_number = uri.user_unescaped.lstrip("+").isdigit() and uri.host == self.address.host
        if self.account.user_phone and is_number and "user" not in uri.parameters:
            return replace(uri, parameters=uri.parameters.with_(user="phone"), text="")
        return uri

    def way(self, uri: Uri, *, caller: Caller = ACCOUNT_ITSELF) -> Way:
        """How to call an address; a ``tel:`` one is dialled at the account's own domain (§19.1.6)."""
        if uri.scheme == "tel":
            uri = parse_callee(str(uri), self.address)
        target = self.target(uri)
        # §8.1.1.8: a sips: URI in the request line, or in the top Route, asks for one in Contact.
        identity = self.identity_in(secure=target.secure or uri.scheme == "sips", caller=caller)
        return Way(uri, target, identity, self.flow_to(target))

    def flow_to(self, target: Target) -> Flow | None:
        """The flow that the account is registered over, where ``target`` is what it was found for: the way through a
        NAT that is open already, to the server that knows us."""
        registrar = self.registrar
        flow = registrar.flow if registrar is not None else None
        if flow is None or target == self.registrar_target:
            return flow
        port = target.port or (5061 if target.secure else 5060)
        there = is_same_address(target.host, flow.remote[0]) if is_address(target.host) else False
        return flow if there and (port, target.transport or "udp") == (flow.remote[1], flow.transport) else None

    @property
    def registrar_target(self) -> Target:
        """Where REGISTER goes: the outbound proxy, else the registrar."""
        return self._to_proxy(self._proxy) if self._proxy is not None else self._target(self.address.registrar)

    def target(self, uri: Uri) -> Target:
        """Where a request for ``uri`` outside a dialog goes: the outbound proxy, else the first of the registrar's
        Service-Route, else the URI itself.

        A URI at the account's own host and port that names no transport takes the account's.
        """
        if self._proxy is not None:
            return self._to_proxy(self._proxy)
        return self._target(self._service_route[0].uri if self._service_route else uri)

    def _target(self, uri: Uri) -> Target:
        home = self.address.registrar
        at_home = uri.host == home.host and uri.port == home.port
        return target_of(uri, transport=self.address.transport if at_home else None)
