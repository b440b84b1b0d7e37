"""Names as people write them: accounts, outbound proxies, callees (RFC 3261 §19.1, RFC 3966)."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import TYPE_CHECKING
from urllib.parse import quote

from sipcore.errors import InvalidAddress
from sipcore.protocol.values import MalformedValue, Params, Uri

if TYPE_CHECKING:
    from sipcore.protocol.flows import Transport

__all__ = [
    "AccountAddress",
    "escaped_user",
    "parse_account",
    "parse_callee",
    "parse_name_server",
    "parse_outbound_proxy",
]

MAX_NAME = 1024
"""Characters of a name; longer ones are no names."""
MAX_HOST = 253
"""Characters of a domain name (RFC 1035 §2.3.4)."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SCHEME = re.compile(r"(sips?|tel):", re.IGNORECASE)
_FOREIGN_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*):(?://|[^@]*@)")
_NUMBER = re.compile(r"[+(]?[0-9*#][0-9*#\s.()\-]*\Z")
_SEPARATORS = re.compile(r"[\s.()\-]")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_\-]{0,61}[a-z0-9_])?\Z")
_URI_TAIL = re.compile(r"[!$%&'()*+,\-./0-9:;=?@A-Z\[\]_a-z~]*\Z")
"""What may stand behind the host: parameters and headers, escaped as §25.1 has it."""
_USER_SAFE = "-_.!~*'()&=+$,;?/"
"""Characters of a user part that need no escape (§25.1 unreserved and user-unreserved), beside letters and digits."""
_PLAIN_USER = re.compile(r"[A-Za-z0-9\-_.!~*'()&=+$,;?/]*\Z")
"""The same, as a whole."""
_ESCAPED = re.compile(r"%[0-9A-Fa-f]{2}")
_PASSWORD = re.compile(r"\A((?>\s*(?:sips?:)?)[^:@]*):.*@", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class AccountAddress:
    """An account's address, taken apart."""

    user: str
    """As written, escapes kept."""
    host: str
    """Domain, IPv4, or IPv6 without brackets; lower case."""
    port: int | None
    transport: Transport | None
    """As written; None leaves it to DNS, which is UDP where DNS says nothing (RFC 3263 §4.1)."""
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
        plain = self.transport in (None, "udp") or self.secure
        parameters = Params() if plain else Params({"transport": self.transport})
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
    uri = _sip_uri(_clean(text, field), text, field)
    if not uri.user:
        raise InvalidAddress(f"{field}: {_shown(text)} has no user part; write user@host", field=field)
    if uri.headers:
        raise InvalidAddress(f"{field}: {_shown(text)} has header fields; an account has none", field=field)
    return AccountAddress(uri.user, uri.host, uri.port, uri.transport, uri.scheme == "sips", text)


def parse_outbound_proxy(text: str, *, field: str = "outbound_proxy") -> Uri:
    """``host[:port]``, or a ``sip:``/``sips:`` URI with parameters; always with ``;lr`` (§19.1.1).

    Raises:
        InvalidAddress: it is none; the message starts with ``field``.
    """
    value = _clean(text, field)
    uri = _sip_uri(value, text, field)
    if uri.user is not None and not _SCHEME.match(value):
        raise InvalidAddress(f"{field}: {_shown(text)} names a user; write host[:port] or a sip: URI", field=field)
    parameters = uri.parameters if "lr" in uri.parameters else uri.parameters.with_(lr=None)
    return replace(uri, parameters=parameters, headers=(), text="")


def parse_name_server(text: str, *, field: str = "nameservers") -> tuple[str, int]:
    """``HOST``, ``HOST:PORT``, ``[HOST]:PORT``, where HOST is an IP address; the port is 53 unless given.

    Raises:
        InvalidAddress: it is none; the message starts with ``field``.
    """
    value = text.strip()
    host, _, port = (value, "", "53") if value.count(":") > 1 and "]" not in value else value.rpartition(":")
    if not host or host.endswith(("[", ":")) or (value.endswith("]") and value.startswith("[")):
        host, port = value, "53"
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if not (_is_ipv4(host) or (":" in host and _is_host(host))) or not re.fullmatch(r"\d{1,5}", port):
        raise InvalidAddress(f"{field}: {_shown(text)} is not HOST or HOST:PORT with an IP address", field=field)
    if not 0 < int(port) <= 65535:
        raise InvalidAddress(f"{field}: {_shown(text)} has no port between 1 and 65535", field=field)
    return host, int(port)


def parse_callee(text: str, account: AccountAddress | None, *, field: str = "callee_id", refer: bool = False) -> Uri:
    """Whom to call: a ``sip:``/``sips:``/``tel:`` URI, ``user@host[:port]``, or a bare user or number.

    What names no host is dialled at the account's own domain: a bare name, and a ``tel:`` URI too, as §19.1.6 turns
    one into a SIP URI. In something that is plainly a phone number visual separators are dropped (RFC 3966 §5.1.1);
    a SIP URI is taken as it is written. Header fields in it (``?Subject=Hello``) are for Refer-To alone, so ``refer``:
    a request line may hold none (§19.1.1, table 1).

    Raises:
        InvalidAddress: it is none; the message starts with ``field``.
    """
    value = _clean(text, field)
    scheme = _SCHEME.match(value)
    if scheme is None and "@" in value:
        user, _, rest = value.rpartition("@")
        uri = _sip_uri(f"{_dialled(user)}@{rest}", text, field)
    elif scheme is None:
        if re.search(r"[\s<>\":]", _dialled(value)):
            raise InvalidAddress(f"{field}: {_shown(text)} is neither a user, a number nor a URI", field=field)
        return _at_home(_dialled(value), account, text, field)
    elif scheme.group(1).lower() == "tel":
        return _telephone(value[4:], account, text, field)
    else:
        uri = _sip_uri(value, text, field)
    if uri.user == "":
        raise InvalidAddress(f"{field}: {_shown(text)} has no user part", field=field)
    if uri.headers and not refer:
        raise InvalidAddress(
            f"{field}: {_shown(text)} has header fields; give them as headers of the call", field=field
        )
    return uri


def _dialled(user: str) -> str:
    """A user part; without its visual separators where it is plainly a phone number."""
    if not _NUMBER.match(user) or _is_ipv4(user):
        return user
    return _SEPARATORS.sub("", user)


def _at_home(user: str, account: AccountAddress | None, text: str, field: str) -> Uri:
    if account is None:
        raise InvalidAddress(f"{field}: {_shown(text)} needs a domain; write user@host", field=field)
    return Uri("sips" if account.secure else "sip", escaped_user(user), account.host, account.port)


def _telephone(rest: str, account: AccountAddress | None, text: str, field: str) -> Uri:
    """§19.1.6: the number and its parameters become the user part, with ``user=phone``.

    ``phone-context`` (RFC 3966 §5.1.5) goes: the account's domain is the context of a local number.
    """
    subscriber, _, parameters = rest.partition(";")
    number = _SEPARATORS.sub("", subscriber)
    if not re.fullmatch(r"\+[0-9]+|[0-9A-Fa-f*#]+", number):
        raise InvalidAddress(f"{field}: {_shown(text)} is not a tel: URI with a number", field=field)
    kept = [each for each in parameters.split(";") if each and not each.lower().startswith("phone-context=")]
    if any(not _URI_TAIL.match(each) for each in kept):
        raise InvalidAddress(f"{field}: {_shown(text)} has a malformed parameter", field=field)
    home = _at_home(";".join((number, *kept)), account, text, field)
    return replace(home, parameters=Params({"user": "phone"}))


def _sip_uri(value: str, text: str, field: str) -> Uri:
    """Parses ``value``, with ``sip:`` put before it where no scheme is; ``text`` is what the caller wrote."""
    foreign = None if _SCHEME.match(value) else _FOREIGN_SCHEME.match(value)
    if foreign is not None and "@" in value and not value.startswith("["):
        raise InvalidAddress(
            f"{field}: {_shown(text)} has ':' before the '@': a password, or a scheme other than sip and sips",
            field=field,
        )
    scheme, _, rest = (value if _SCHEME.match(value) else f"sip:{value}").partition(":")
    user, at, where = rest.rpartition("@")
    if "@" in user:
        raise InvalidAddress(f"{field}: {_shown(text)} has more than one '@'; write %40 in a user part", field=field)
    try:
        uri = Uri.parse(f"{scheme.lower()}:{escaped_user(user)}{at}{where}")
    except MalformedValue as error:
        raise InvalidAddress(f"{field}: {_shown(text)} is not an address: {error}", field=field) from None
    if uri.password is not None:
        raise InvalidAddress(f"{field}: {_shown(text)} holds a password, which no address may", field=field)
    if re.search(r"\s", value) or not _URI_TAIL.match(where) or not _is_host(uri.host):
        raise InvalidAddress(f"{field}: {_shown(text)} is not a SIP address", field=field)
    named = uri.parameters.get("transport", "udp") or ""
    if named.lower() not in ("udp", "tcp", "tls"):
        raise InvalidAddress(f"{field}: transport {_shown(named)} is not one of udp, tcp, tls", field=field)
    return uri


def escaped_user(user: str) -> str:
    """The user part as §19.1.2 has it on the wire: reserved characters escaped, escapes that are there kept."""
    if _PLAIN_USER.match(user):
        return user
    pieces = []
    position = 0
    for escape in _ESCAPED.finditer(user):
        pieces += [quote(user[position : escape.start()], safe=_USER_SAFE + ":"), escape.group()]
        position = escape.end()
    return "".join((*pieces, quote(user[position:], safe=_USER_SAFE + ":")))


@lru_cache(1024)
def _is_host(host: str) -> bool:
    """Whether it can be a domain name (RFC 1035 §2.3.1, ``_`` tolerated) or an address."""
    if ":" in host:
        try:
            IPv6Address(host)
        except AddressValueError:
            return False
        return True
    name = host.removesuffix(".")
    if re.fullmatch(r"[0-9.]+", name):
        return _is_ipv4(name)
    return len(name) <= MAX_HOST and all(_LABEL.match(label) for label in name.split("."))


def _is_ipv4(text: str) -> bool:
    try:
        IPv4Address(text)
    except AddressValueError:
        return False
    return True


def _clean(text: str, field: str) -> str:
    if not text.strip():
        raise InvalidAddress(f"{field}: is empty", field=field)
    if len(text) > MAX_NAME:
        raise InvalidAddress(f"{field}: {len(text)} characters, at most {MAX_NAME} are allowed", field=field)
    if _CONTROL.search(text):
        raise InvalidAddress(f"{field}: {_shown(text)} holds CR, LF, NUL or another control character", field=field)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidAddress(f"{field}: {_shown(text)} is not valid Unicode", field=field) from None
    return text.strip()


def _shown(text: str) -> str:
    """The text for an error message, cut where it is long, without what may be a password."""
    masked = _PASSWORD.sub(r"\1:***@", text, count=1)
    return ascii(masked if len(masked) <= 80 else masked[:77] + "...")
