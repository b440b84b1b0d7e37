"""Requests and responses, their header values typed (RFC 3261 §7.1, §7.2, §20)."""

from __future__ import annotations

import re
from typing import TypeVar, cast

from sipcore.protocol.headers import Headers, canonical_name
from sipcore.protocol.redaction import without_password
from sipcore.protocol.values import CSeq, MalformedValue, NameAddr, Uri, Via, split_list

__all__ = ["METHODS", "Message", "Request", "Response"]

MOST_VALUES = 1024
"""Values of one header that are looked at: a datagram of commas holds 30,000, which would cost as much as a hundred
honest messages."""
_WANTS_RPORT = re.compile(r"([^;,\"<]*[^;,\"<\s](?:;branch=[^;,\"\s]+)?);rport((?:;branch=[^;,\"\s]+)?)\Z")
"""A Via value that holds nothing but a branch and an empty ``rport``: what nearly all peers send."""
METHODS = frozenset(
    {
        "ACK",
        "BYE",
        "CANCEL",
        "INFO",
        "INVITE",
        "MESSAGE",
        "NOTIFY",
        "OPTIONS",
        "PRACK",
        "PUBLISH",
        "REFER",
        "REGISTER",
        "SUBSCRIBE",
        "UPDATE",
    }
)
"""All methods there are (IANA). One of them that is not taken gets 405 (RFC 3261 §8.2.1), any other 501 (§21.5.2)."""


class Message:
    """What requests and responses share. Typed values are parsed when first read, kept until a line changes.

    The properties of mandatory headers are safe on messages from :func:`parse_message`, which has checked them.
    """

    __slots__ = ("body", "headers")

    def __init__(self, headers: Headers | None = None, body: bytes = b"") -> None:
        self.headers = headers if headers is not None else Headers()
        self.body = body

    @property
    def vias(self) -> tuple[Via, ...]:
        """Via values, topmost first (§20.42); lower ones that cannot be understood are left out."""
        return (self.via, *_understood(Via, self.via_texts[1:]))

    @property
    def via(self) -> Via:
        """The topmost Via."""
        known = self.headers.recall("via")
        if known is not None:
            return cast("Via", known)
        line = self._mandatory("Via")
        values = split_list(line) if "," in line else [line]
        if not values:
            raise MalformedValue("Via is empty")
        return self.headers.cached("via", Via.parse(values[0]))

    @property
    def via_texts(self) -> list[str]:
        """Via values as written, topmost first."""
        return [value for line in self.headers.get_all("Via") for value in split_list(line)]

    @property
    def via_count(self) -> int:
        """How many Via values there are; a response that reaches a user agent has one (§8.1.3.3)."""
        lines = self.headers.get_all("Via")
        return 1 if len(lines) == 1 and "," not in lines[0] else len(self.via_texts)

    def stamp_via(self, *, received: str | None, rport: int | None) -> None:
        """Writes where a request came from into its top Via (§18.2.1, RFC 3581 §4); the rest stays as written."""
        wanted: dict[str, str | None] = {}
        if received is not None:
            wanted["received"] = received
        if rport is not None:
            wanted["rport"] = str(rport)
        if not wanted:
            return
        line = self._mandatory("Via")
        plain = _WANTS_RPORT.match(line)
        if plain is not None and received is not None and rport is not None:
            self.headers.replace_first("Via", f"{plain[1]}{plain[2]};received={received};rport={rport}")
            return
        top, *others = split_list(line)
        stamped = top.partition(";")[0].rstrip() + str(self.via.params.with_(**wanted))
        self.headers.replace_first("Via", ", ".join((stamped, *others)))

    @property
    def from_(self) -> NameAddr:
        """From (§20.20)."""
        return self._name_addr("from")

    @property
    def to(self) -> NameAddr:
        """To (§20.39)."""
        return self._name_addr("to")

    @property
    def from_tag(self) -> str:
        """The tag of From; empty where there is none (RFC 2543 peers)."""
        return self.from_.tag

    @property
    def to_tag(self) -> str:
        """The tag of To; empty outside a dialog."""
        return self.to.tag

    @property
    def call_id(self) -> str:
        """Call-ID (§20.8)."""
        return self._mandatory("Call-ID")

    @property
    def cseq(self) -> CSeq:
        """CSeq (§20.16)."""
        known = self.headers.recall("cseq")
        if known is not None:
            return cast("CSeq", known)
        return self.headers.cached("cseq", CSeq.parse(self._mandatory("CSeq")))

    @property
    def contacts(self) -> tuple[NameAddr, ...]:
        """Contact values that can be understood; ``*`` gives none (§20.10)."""
        return self._name_addrs("contact")

    @property
    def contact(self) -> NameAddr | None:
        """The first Contact."""
        contacts = self.contacts
        return contacts[0] if contacts else None

    @property
    def routes(self) -> tuple[NameAddr, ...]:
        """Route values (§20.34)."""
        return self._name_addrs("route")

    @property
    def record_routes(self) -> tuple[NameAddr, ...]:
        """Record-Route values, in message order (§20.30)."""
        return self._name_addrs("record-route")

    @property
    def service_routes(self) -> tuple[NameAddr, ...]:
        """Service-Route values, in message order (RFC 3608 §5)."""
        return self._name_addrs("service-route")

    def list_of(self, name: str) -> tuple[str, ...]:
        """Comma-separated tokens over all lines of a name: Allow, Supported, Require …"""
        return tuple(token for line in self.headers.get_all(name) for token in split_list(line))

    @property
    def expires(self) -> int | None:
        """Expires (§20.19); None where there is none or it is no number."""
        return self._number("Expires")

    @property
    def max_forwards(self) -> int | None:
        """Max-Forwards (§20.22); None where there is none or it is no number."""
        return self._number("Max-Forwards")

    @property
    def content_type(self) -> str:
        """Media type in lower case without parameters, ``application/sdp``; empty where there is none."""
        media_type = (self.headers.get("Content-Type") or "").partition(";")[0]
        return "/".join(part.strip() for part in media_type.split("/")).lower()

    def _number(self, name: str) -> int | None:
        value = (self.headers.get(name) or "").strip()
        return int(value) if value.isascii() and value.isdigit() and len(value) <= 10 else None

    def _mandatory(self, name: str) -> str:
        value = self.headers.get(name)
        if value is None:
            raise MalformedValue(f"{canonical_name(name)} is missing")
        return value

    def _name_addr(self, key: str) -> NameAddr:
        known = self.headers.recall(key)
        if known is not None:
            return cast("NameAddr", known)
        return self.headers.cached(key, NameAddr.parse(self._mandatory(key)))

    def _name_addrs(self, key: str) -> tuple[NameAddr, ...]:
        known = self.headers.recall(key)
        if known is not None:
            return cast("tuple[NameAddr, ...]", known)
        texts = [value for line in self.headers.get_all(key) for value in split_list(line)]
        return self.headers.cached(key, tuple(_understood(NameAddr, texts)))


class Request(Message):
    """A request (§7.1)."""

    __slots__ = ("method", "uri")

    def __init__(self, method: str, uri: Uri, headers: Headers | None = None, body: bytes = b"") -> None:
        super().__init__(headers, body)
        self.method = method
        self.uri = uri

    def __repr__(self) -> str:
        return f"<Request {self.method} {without_password(str(self.uri))} {self.headers.get('Call-ID')}>"

    def copy(self) -> Request:
        """An independent copy."""
        return Request(self.method, self.uri, self.headers.copy(), self.body)


class Response(Message):
    """A response (§7.2)."""

    __slots__ = ("reason", "status")

    def __init__(self, status: int, reason: str, headers: Headers | None = None, body: bytes = b"") -> None:
        super().__init__(headers, body)
        self.status = status
        self.reason = reason

    def __repr__(self) -> str:
        return f"<Response {self.status} {self.reason} {self.headers.get('Call-ID')}>"

    def copy(self) -> Response:
        """An independent copy."""
        return Response(self.status, self.reason, self.headers.copy(), self.body)


V = TypeVar("V", NameAddr, Via)


def _understood(kind: type[V], texts: list[str]) -> list[V]:
    values: list[V] = []
    for text in texts[:MOST_VALUES]:
        try:
            values.append(kind.parse(text))
        except MalformedValue:
            continue
    return values
