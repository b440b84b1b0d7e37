"""Values of header fields, exact: what a peer wrote is sent back as it was (RFC 3261 §19.1, §20, §25).

Each type keeps the text it was parsed from and prints it again; one that was built prints itself strictly.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import cast
from urllib.parse import unquote

from sipcore.protocol.flows import Transport
from sipcore.protocol.params import NO_PARAMS, Params, quoted, split_list, unquoted

__all__ = ["CSeq", "MalformedValue", "NameAddr", "Params", "Uri", "Via", "split_list"]


class MalformedValue(ValueError):
    """A header field value, or a URI, that cannot be understood."""


_TOKEN = re.compile(r"[A-Za-z0-9\-.!%*_+`'~]+\Z")
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.\-]*[A-Za-z0-9_.])?\Z")
_IPV6 = re.compile(r"[0-9A-Fa-f:.]+\Z")
_VERSION = re.compile(r"[0-9]+\.[0-9]+\Z")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*\Z")
_USER = re.compile(r"(?:[A-Za-z0-9\-_.!~*'()&=+$,;?/#\[\]^|{}`\"\x80-\U0010ffff ]|%[0-9A-Fa-f]{2})*\Z")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SIMPLE_URI = re.compile(
    r"(sips?):(?:((?:[A-Za-z0-9\-_.!~*'()&=+$,]|%[0-9A-Fa-f]{2})+)@)?"
    r"([A-Za-z0-9](?:[A-Za-z0-9_.\-]*[A-Za-z0-9])?)(?::([0-9]{1,5}))?(;[^?@<>\x00-\x20\x7f]*)?\Z"
)
"""What nearly all URIs look like; the others take the long way."""
_SIMPLE_NAME_ADDR = re.compile(r"""(?:"([^"\\]*)"[ \t]*|([^"<>;,:]*))<([^<>]+)>[ \t]*(;.*)?\Z""")
_SIMPLE_VIA = re.compile(
    r"SIP/2\.0/([A-Z]+) ([A-Za-z0-9_](?:[A-Za-z0-9_.\-]*[A-Za-z0-9_.])?)(?::([1-9][0-9]{0,4}))?(;.*)?\Z", re.DOTALL
)
"""What nearly all Via values look like; the others take the long way."""
_CACHE_SIZE = 4096
"""URIs and name-addrs remembered: those of a call come again in each of its messages."""
_CACHED_LENGTH = 256
"""Longer ones are parsed each time, so that nobody can fill the memory with them."""


@dataclass(frozen=True, slots=True)
class Uri:
    """A ``sip:``, ``sips:`` or ``tel:`` URI (RFC 3261 §19.1, RFC 3966); other schemes keep it all in ``user``."""

    scheme: str
    user: str | None = None
    """As written, escapes kept; for ``tel:`` the number."""
    host: str = ""
    """In lower case; IPv6 without brackets; empty for ``tel:``."""
    port: int | None = None
    parameters: Params = NO_PARAMS
    headers: tuple[tuple[str, str], ...] = ()
    """What follows ``?``, as written."""
    password: str | None = field(default=None, repr=False)
    text: str = field(default="", compare=False, repr=False)
    """What it was parsed from; empty where it was built."""

    @classmethod
    def parse(cls, text: str) -> Uri:
        """Parses a URI.

        Raises:
            MalformedValue: it is none.
        """
        return _parse_uri(text) if len(text) <= _CACHED_LENGTH else cls._parse(text)

    @classmethod
    def _parse(cls, text: str) -> Uri:
        simple = _SIMPLE_URI.match(text)
        if simple is not None:
            scheme, user, host, port, parameters = simple.groups()
            if port is None or 0 < int(port) < 65536:
                number = int(port) if port else None
                return cls(scheme, user, host.lower(), number, Params.parse(parameters or "", escaped=True), text=text)
        scheme, colon, rest = text.strip().partition(":")
        scheme = scheme.lower()
        if not colon or not _SCHEME.match(scheme) or not rest:
            raise MalformedValue("not a URI")
        if _CONTROL.search(rest):
            raise MalformedValue("a URI holds no control characters")
        if scheme not in ("sip", "sips"):
            subscriber, semicolon, parameters = rest.partition(";")
            params = Params.parse(semicolon + parameters, escaped=True)
            return cls(scheme, subscriber, parameters=params, text=text.strip())
        # The user part may hold ';' and '?', so '@' is looked for first (§25.1); the host part holds none.
        userinfo, at, where = rest.rpartition("@")
        user, password = None, None
        if at:
            name, has_password, secret = userinfo.partition(":")
            if not name or not _USER.match(name):
                raise MalformedValue("the user part is malformed")
            user, password = name, (secret if has_password else None)
        where, question, header_text = where.partition("?")
        hostport, semicolon, parameters = where.partition(";")
        host, port = _host_port(hostport)
        pairs = (part.partition("=") for part in header_text.split("&"))
        headers = tuple((name, value) for name, _, value in pairs if name)
        return cls(
            scheme,
            user,
            host,
            port,
            Params.parse(semicolon + parameters, escaped=True),
            headers if question else (),
            password,
            text.strip(),
        )

    @property
    def hostport(self) -> str:
        """``host``, ``host:port``, IPv6 in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"

    @property
    def transport(self) -> Transport | None:
        """The ``transport`` parameter; ``tls`` for ``sips:``; None where it is missing or not one of ours."""
        if self.scheme == "sips":
            return "tls"
        named = (self.parameters.get("transport") or "").lower()
        return cast("Transport", named) if named in ("udp", "tcp", "tls") else None

    @property
    def user_unescaped(self) -> str:
        """The user part with ``%XX`` decoded; empty where there is none."""
        return unquote(self.user) if self.user else ""

    def without_headers(self) -> Uri:
        """The URI as a request line may hold it: no headers, no ``method`` parameter (§19.1.1, table 1)."""
        return replace(self, headers=(), parameters=self.parameters.without("method"), text="")

    def without_parameters(self) -> Uri:
        """The bare URI."""
        return replace(self, headers=(), parameters=NO_PARAMS, text="")

    def equivalent(self, other: Uri) -> bool:
        """Whether two URIs mean the same resource (§19.1.4)."""
        if (self.scheme, self.host, self.port) != (other.scheme, other.host, other.port):
            return False
        if (self.user is None) != (other.user is None) or self.user_unescaped != other.user_unescaped:
            return False
        if self.password != other.password or sorted(self.headers) != sorted(other.headers):
            return False
        for name in {*self.parameters, *other.parameters}:
            if name in self.parameters and name in other.parameters:
                if (self.parameters[name] or "").lower() != (other.parameters[name] or "").lower():
                    return False
            elif name in ("user", "ttl", "method", "maddr", "transport"):
                return False
        return True

    def __str__(self) -> str:
        if self.text:
            return self.text
        if self.scheme not in ("sip", "sips"):
            return f"{self.scheme}:{self.user or ''}{self.parameters}"
        user = ""
        if self.user is not None:
            user = self.user + (f":{self.password}" if self.password is not None else "") + "@"
        headers = "?" + "&".join(f"{name}={value}" for name, value in self.headers) if self.headers else ""
        return f"{self.scheme}:{user}{self.hostport}{self.parameters}{headers}"


_parse_uri = lru_cache(_CACHE_SIZE)(Uri._parse)  # noqa: SLF001 - same module


def _host_port(text: str) -> tuple[str, int | None]:
    text = text.strip()
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or not _IPV6.match(host) or (rest and not rest.startswith(":")):
            raise MalformedValue("the IPv6 address is malformed")
        port_text = rest[1:]
    elif text.count(":") > 1:
        # A bare IPv6 address: against the grammar, but seen (RFC 5118 §4.5).
        if not _IPV6.match(text):
            raise MalformedValue("the host is malformed")
        host, port_text = text, ""
    else:
        host, _, port_text = text.partition(":")
        host, port_text = host.strip(), port_text.strip()
        if not _HOST.match(host):
            raise MalformedValue("the host is malformed")
    if not port_text:
        return host.lower(), None
    port = _port(port_text)
    if not port:
        raise MalformedValue("the port is not a number from 1 to 65535")
    return host.lower(), port


def _port(text: str) -> int | None:
    """0-65535; leading zeros are fine, as in RFC 4475 §3.1.1.1."""
    if not (text.isascii() and text.isdigit()) or len(text) > 9 or int(text) > 65535:
        return None
    return int(text)


@dataclass(frozen=True, slots=True)
class NameAddr:
    """A value of From, To, Contact, Route and their like (§20.10)."""

    uri: Uri
    display_name: str = ""
    params: Params = NO_PARAMS
    text: str = field(default="", compare=False, repr=False)
    """What it was parsed from; empty where it was built."""

    @classmethod
    def parse(cls, text: str) -> NameAddr:
        """Parses one ``"name" <uri>;params``, or ``uri;params`` whose parameters are the header's (§20.10).

        Raises:
            MalformedValue: it is none.
        """
        return _parse_name_addr(text) if len(text) <= _CACHED_LENGTH else cls._parse(text)

    @classmethod
    def _parse(cls, text: str) -> NameAddr:
        value = text.strip()
        simple = _SIMPLE_NAME_ADDR.match(value)
        if simple is not None:
            quoted, token, address, parameters = simple.groups()
            name = quoted or (token or "").rstrip()
            return cls(Uri.parse(address), name, Params.parse(parameters or ""), value)
        display = ""
        if value.startswith('"'):
            end = _closing_quote(value)
            display = unquoted(value[: end + 1])
            rest = value[end + 1 :].lstrip()
            if not rest.startswith("<"):
                raise MalformedValue("a quoted display name needs <uri>")
        else:
            angle = value.find("<")
            if angle < 0:
                address, semicolon, parameters = value.partition(";")
                return cls(Uri.parse(address), "", Params.parse(semicolon + parameters), value)
            display, rest = value[:angle].strip(), value[angle:]
        address, bracket, parameters = rest[1:].partition(">")
        if not bracket:
            raise MalformedValue("'<' without '>'")
        parameters = parameters.strip()
        if parameters and not parameters.startswith(";"):
            raise MalformedValue("unexpected text after '>'")
        return cls(Uri.parse(address), display, Params.parse(parameters), value)

    @classmethod
    def parse_many(cls, text: str) -> list[NameAddr]:
        """Parses a comma-separated list.

        Raises:
            MalformedValue: one of them is malformed.
        """
        return [cls.parse(part) for part in split_list(text)]

    @property
    def tag(self) -> str:
        """The ``tag`` parameter; empty where there is none."""
        return self.params.get("tag") or ""

    def __str__(self) -> str:
        if self.text:
            return self.text
        name = f"{quoted(self.display_name)} " if self.display_name else ""
        return f"{name}<{self.uri}>{self.params}"


_parse_name_addr = lru_cache(_CACHE_SIZE)(NameAddr._parse)  # noqa: SLF001 - same module


def _closing_quote(text: str) -> int:
    position = 1
    while position < len(text):
        if text[position] == "\\":
            position += 1
        elif text[position] == '"':
            return position
        position += 1
    raise MalformedValue("a quoted string does not end")


@dataclass(frozen=True, slots=True)
class Via:
    """A Via value (§20.42)."""

    transport: str
    """In upper case: ``UDP``, ``TCP``, ``TLS`` …"""
    host: str
    port: int | None = None
    params: Params = NO_PARAMS
    version: str = "2.0"

    @classmethod
    def parse(cls, text: str) -> Via:
        """Parses one ``SIP/2.0/UDP host:port;params``; LWS around the slashes is fine (RFC 4475 §3.1.1.1).

        Another version is taken too: what came by it can be answered (RFC 4475 §3.1.2.16).

        Raises:
            MalformedValue: it is none.
        """
        simple = _SIMPLE_VIA.match(text)
        if simple is not None:
            transport, host, digits, parameters = simple.groups()
            port = int(digits) if digits else None
            if port is None or port < 65536:
                return cls(transport, host.lower(), port, Params.parse(parameters or ""))
        protocol, semicolon, parameters = text.partition(";")
        pieces = [piece.strip() for piece in protocol.split("/", 2)]
        if len(pieces) != 3 or pieces[0].upper() != "SIP" or not _VERSION.match(pieces[1]):
            raise MalformedValue("Via does not start with SIP/2.0/")
        transport, _, sent_by = pieces[2].replace("\t", " ").partition(" ")
        if not _TOKEN.match(transport):
            raise MalformedValue("the transport of Via is no token")
        host, port = _host_port(sent_by)
        return cls(transport.upper(), host, port, Params.parse(semicolon + parameters), pieces[1])

    @classmethod
    def parse_many(cls, text: str) -> list[Via]:
        """Parses a comma-separated list.

        Raises:
            MalformedValue: one of them is malformed.
        """
        return [cls.parse(part) for part in split_list(text)]

    @property
    def branch(self) -> str:
        """The ``branch`` parameter; empty where there is none."""
        return self.params.get("branch") or ""

    @property
    def received(self) -> str:
        """The ``received`` parameter; empty where there is none."""
        return self.params.get("received") or ""

    @property
    def rport(self) -> int | None:
        """The value of ``rport`` (RFC 3581); None where there is none or it is empty."""
        return _port(self.params.get("rport") or "")

    @property
    def sent_by(self) -> str:
        """``host`` or ``host:port``, as transactions are matched by (§17.2.3)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"SIP/{self.version}/{self.transport} {self.sent_by}{self.params}"


@dataclass(frozen=True, slots=True)
class CSeq:
    """A CSeq value (§20.16)."""

    number: int
    method: str

    @classmethod
    def parse(cls, text: str) -> CSeq:
        """Parses ``4711 INVITE``.

        Raises:
            MalformedValue: it is none, or the number is 2**31 or more (§8.1.1.5).
        """
        pieces = text.split()
        if len(pieces) != 2 or not _TOKEN.match(pieces[1]):
            raise MalformedValue("CSeq is not a number and a method")
        digits, method = pieces
        if not (digits.isascii() and digits.isdigit()):
            raise MalformedValue("CSeq is not a number and a method")
        if len(digits) > 10 or int(digits) >= 2**31:
            raise MalformedValue("the CSeq number is 2**31 or more")
        return cls(int(digits), method)

    def __str__(self) -> str:
        return f"{self.number} {self.method}"
