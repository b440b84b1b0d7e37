"""Names as people write them: accounts, outbound proxies, callees (RFC 3261 §19.1, RFC 3966)."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import quote

from sipcore.errors import InvalidAddress
from sipcore.protocol.values import MalformedValue, Params, Uri

if TYPE_CHECKING:
    from sipcore.protocol.flows import Transport

__all__ = ["AccountAddress", "parse_account", "parse_callee", "parse_outbound_proxy"]

MAX_NAME = 1024
"""Characters of a name; longer ones are no names."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SCHEME = re.compile(r"(sips?|tel):", re.IGNORECASE)
_PHONE = re.compile(r"\+?[0-9*#]?[0-9*#\s.()\-]*[0-9*#][\s.()\-]*\Z")
_SEPARATORS = re.compile(r"[\s.()\-]")
_USER_SAFE = "-_.!~*'()&=+$,;?/%"
"""Characters of a user part that need no escape (§25.1 unreserved and user-unreserved); ``%`` keeps escapes that are there."""


@dataclass(frozen=True, slots=True)
class AccountAddress:
    """An account's address, taken apart."""

    user: str
    """As written, escapes kept."""
    host: str
    """Domain, IPv4, or IPv6 without brackets; lower case."""
    port: int | None
    transport: Transport
    secure: bool
    """Written with ``sips:``."""
    text: str
    """As the caller wrote it."""

    @property
    def aor(self) -> Uri:
        """The address of record: no port other than a written one, no transport (§10.2)."""
        return Uri("sips" if self.secure else "sip", self.user, self.host, self.port)

    @property
    def registrar(self) -> Uri:
        """Where to register: the address without its user part (§10.2)."""
        parameters = Params() if self.transport == "udp" or self.secure else Params({"transport": self.transport})
        return Uri("sips" if self.secure else "sip", None, self.host, self.port, parameters)

    @property
    def key(self) -> str:
        """The same for all spellings of one account."""
        return f"{self.aor.user_unescaped}@{self.aor.hostport}"


def parse_account(text: str, *, field: str = "account_name") -> AccountAddress:
    """``user@host[:port]``, with or without ``sip:``/``sips:`` and ``;transport=udp|tcp|tls``.

    Raises:
        InvalidAddress: it is none; the message starts with ``field``.
    """
    uri = _sip_uri(text, field)
    if not uri.user:
        raise InvalidAddress(f"{field}: {_shown(text)} has no user part; write user@host", field=field)
    if uri.password is not None:
        raise InvalidAddress(f"{field}: a password does not belong into an address", field=field)
    transport = uri.transport or "udp"
    return AccountAddress(uri.user, uri.host, uri.port, transport, uri.scheme == "sips", text)


def parse_outbound_proxy(text: str, *, field: str = "outbound_proxy") -> Uri:
    """``host[:port]``, or a ``sip:``/``sips:`` URI with parameters; always with ``;lr`` (§19.1.1).

    Raises:
        InvalidAddress: it is none; the message starts with ``field``.
    """
    uri = _sip_uri(text, field)
    if uri.user is not None:
        raise InvalidAddress(f"{field}: {_shown(text)} names a user; write host[:port]", field=field)
    return replace(uri, parameters=uri.parameters.with_(lr=None), headers=(), text="")


def parse_callee(text: str, account: AccountAddress | None, *, field: str = "callee_id") -> Uri:
    """Whom to call: a ``sip:``/``sips:``/``tel:`` URI, ``user@host[:port]``, or a bare user or number at the account's domain.

    In something that is plainly a phone number visual separators are dropped (RFC 3966 §5.1.1). A ``tel:`` URI is dialled
    at the account's domain as well, as RFC 3261 §19.1.6 turns one into the other.

    Raises:
        InvalidAddress: it is none; the message starts with ``field``.
    """
    value = _clean(text, field)
    scheme = _SCHEME.match(value)
    if scheme is not None and scheme.group(1).lower() == "tel":
        return _telephone(value[4:], account, text, field)
    if scheme is None and "@" not in value:
        if account is None:
            raise InvalidAddress(f"{field}: {_shown(text)} needs a domain; write user@host", field=field)
        if _PHONE.match(value):
            value = _SEPARATORS.sub("", value)
        elif re.search(r"[\s<>\"@:]", value):
            raise InvalidAddress(f"{field}: {_shown(text)} is neither a user, a number nor a URI", field=field)
        return _at_home(quote(value, safe=_USER_SAFE), account)
    if scheme is None:
        user, _, host = value.rpartition("@")
        if _PHONE.match(user):
            user = _SEPARATORS.sub("", user)
        value = f"{user.replace('#', '%23')}@{host}"
    uri = _sip_uri(value, field)
    if not uri.user and scheme is None:
        raise InvalidAddress(f"{field}: {_shown(text)} has no user part", field=field)
    return uri if scheme is not None else replace(uri, text="")


def _at_home(user: str, account: AccountAddress) -> Uri:
    return Uri("sips" if account.secure else "sip", user, account.host, account.port)


def _telephone(rest: str, account: AccountAddress | None, text: str, field: str) -> Uri:
    number = _SEPARATORS.sub("", rest.partition(";")[0])
    if not re.fullmatch(r"\+?[0-9A-Fa-f*#]+", number):
        raise InvalidAddress(f"{field}: {_shown(text)} is not a tel: URI with a number", field=field)
    if account is None:
        return Uri("tel", number)
    home = _at_home(quote(number, safe=_USER_SAFE), account)
    return replace(home, parameters=Params({"user": "phone"}))


def _sip_uri(text: str, field: str) -> Uri:
    value = _clean(text, field)
    if not _SCHEME.match(value):
        value = f"sip:{value}"
    try:
        uri = Uri.parse(value)
    except MalformedValue as error:
        raise InvalidAddress(f"{field}: {_shown(text)} is not an address: {error}", field=field) from None
    if uri.scheme not in ("sip", "sips") or re.search(r"\s", value):
        raise InvalidAddress(f"{field}: {_shown(text)} is not a SIP address", field=field)
    named = uri.parameters.get("transport")
    if named is not None and named.lower() not in ("udp", "tcp", "tls"):
        raise InvalidAddress(f"{field}: transport {_shown(named)} is not one of udp, tcp, tls", field=field)
    return uri


def _clean(text: str, field: str) -> str:
    if not text.strip():
        raise InvalidAddress(f"{field}: is empty", field=field)
    if len(text) > MAX_NAME:
        raise InvalidAddress(f"{field}: {len(text)} characters, at most {MAX_NAME} are allowed", field=field)
    if _CONTROL.search(text):
        raise InvalidAddress(f"{field}: {_shown(text)} holds CR, LF, NUL or another control character", field=field)
    return text.strip()


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")
