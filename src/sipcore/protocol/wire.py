"""Messages between bytes and objects: tolerant of what comes in, strict in what goes out (RFC 3261 §7, §25).

The one door to :mod:`sipmessage`: its tables of compact names and its media types are used here. Its ``Message.parse`` and
typed accessors are not: they refuse folded headers, ``Contact: *``, white space before a colon, hosts such as ``pbx1``
and status lines without a reason, and they spell parameters anew, while a user agent must echo what its peer wrote.
"""

from __future__ import annotations

import re
from typing import TypeVar, cast

from sipmessage import MediaType
from sipmessage.message import COMPACT_FORMS

from sipcore.protocol.values import CSeq, MalformedValue, NameAddr, Uri, Via, split_list

__all__ = [
    "MAX_HEADERS",
    "MAX_MESSAGE",
    "Headers",
    "MalformedMessage",
    "Message",
    "Request",
    "Response",
    "parse_message",
    "redact",
    "serialize",
]

MAX_MESSAGE = 65_535
"""Bytes of a whole message; what UDP can carry."""
MAX_HEADERS = 256
"""Header field lines of a message."""

_TOKEN = re.compile(r"[A-Za-z0-9\-.!%*_+`'~]+\Z")
_FOLD = re.compile(r"\r?\n[ \t]+")
_FORBIDDEN = re.compile(r"[\r\n\x00]")
_CANONICAL = {name.lower(): name for name in COMPACT_FORMS.values()} | {
    name.lower(): name
    for name in (
        "Accept",
        "Allow",
        "Authorization",
        "CSeq",
        "Expires",
        "Max-Forwards",
        "Min-Expires",
        "P-Asserted-Identity",
        "Proxy-Authenticate",
        "Proxy-Authorization",
        "Reason",
        "Record-Route",
        "Require",
        "Retry-After",
        "Route",
        "Server",
        "Subscription-State",
        "Unsupported",
        "User-Agent",
        "WWW-Authenticate",
        "Warning",
    )
}
_COMPACT = {short: long.lower() for short, long in COMPACT_FORMS.items()}
_MANDATORY = ("via", "from", "to", "call-id", "cseq")
_SINGLE = frozenset({"from", "to", "call-id", "cseq", "max-forwards", "content-length"})
_SECRET = re.compile(
    r"^((?:proxy-)?authorization[ \t]*:[ \t]*\w+[ \t]*).*$", re.IGNORECASE | re.MULTILINE
)

T = TypeVar("T")


class MalformedMessage(ValueError):
    """A message that breaks the grammar or a limit."""

    def __init__(self, detail: str, *, status: int = 400, request: Request | None = None) -> None:
        super().__init__(detail)
        self.status = status
        """What to answer (§8.2, §21.4): 400, 413, 416, 505."""
        self.request = request
        """Enough of the request to answer it; None where it must be dropped."""


class Headers:
    """Header fields in order: a multi-map that ignores case and knows the compact names."""

    __slots__ = ("_cache", "_items")

    def __init__(self) -> None:
        self._items: list[tuple[str, str, str]] = []
        """Key in lower case, name as written, value."""
        self._cache: dict[str, object] = {}

    @staticmethod
    def key(name: str) -> str:
        """The long name in lower case."""
        lower = name.lower()
        return _COMPACT.get(lower, lower)

    def get(self, name: str, default: str | None = None) -> str | None:
        """The first value."""
        key = self.key(name)
        return next((value for known, _, value in self._items if known == key), default)

    def get_all(self, name: str) -> list[str]:
        """All values, one per line of the message."""
        key = self.key(name)
        return [value for known, _, value in self._items if known == key]

    def add(self, name: str, value: str) -> None:
        """Appends a line."""
        key = self.key(name)
        self._items.append((key, _CANONICAL.get(key, name), value))
        self._cache.clear()

    def prepend(self, name: str, value: str) -> None:
        """Puts a line before all others."""
        key = self.key(name)
        self._items.insert(0, (key, _CANONICAL.get(key, name), value))
        self._cache.clear()

    def set(self, name: str, value: str) -> None:
        """Replaces all lines of a name by one, at the place of the first."""
        key = self.key(name)
        for position, (known, _, _) in enumerate(self._items):
            if known == key:
                rest = [item for item in self._items[position + 1 :] if item[0] != key]
                self._items[position:] = [(key, _CANONICAL.get(key, name), value), *rest]
                self._cache.clear()
                return
        self.add(name, value)

    def remove(self, name: str) -> None:
        """Removes all lines of a name."""
        key = self.key(name)
        self._items = [item for item in self._items if item[0] != key]
        self._cache.clear()

    def items(self) -> list[tuple[str, str]]:
        """Name and value of each line."""
        return [(name, value) for _, name, value in self._items]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name) is not None

    def __len__(self) -> int:
        return len(self._items)

    def copy(self) -> Headers:
        """An independent copy."""
        clone = Headers()
        clone._items = self._items.copy()  # noqa: SLF001 - same class
        return clone

    def cached(self, name: str, value: T) -> T:
        """Remembers a typed value until any line changes."""
        self._cache[name] = value
        return value

    def recall(self, name: str) -> object | None:
        """A typed value remembered by :meth:`cached`."""
        return self._cache.get(name)


class Message:
    """What requests and responses share. Typed values are parsed when first read and kept until a line changes.

    The properties of mandatory headers are safe on messages from :func:`parse_message`, which has read them all.
    """

    __slots__ = ("body", "headers")

    def __init__(self, headers: Headers | None = None, body: bytes = b"") -> None:
        self.headers = headers if headers is not None else Headers()
        self.body = body

    @property
    def vias(self) -> tuple[Via, ...]:
        """Via values, topmost first (§20.42)."""
        known = self.headers.recall("vias")
        if known is not None:
            return cast("tuple[Via, ...]", known)
        values = tuple(via for line in self.headers.get_all("Via") for via in Via.parse_many(line))
        return self.headers.cached("vias", values)

    @property
    def via(self) -> Via:
        """The topmost Via."""
        known = self.headers.recall("via")
        if known is not None:
            return cast("Via", known)
        values = split_list(self._mandatory("Via"))
        if not values:
            raise MalformedValue("Via is empty")
        return self.headers.cached("via", Via.parse(values[0]))

    @property
    def from_(self) -> NameAddr:
        """From (§20.20)."""
        return self._name_addr("From")

    @property
    def to(self) -> NameAddr:
        """To (§20.39)."""
        return self._name_addr("To")

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
        return self._name_addrs("Contact")

    @property
    def contact(self) -> NameAddr | None:
        """The first Contact."""
        contacts = self.contacts
        return contacts[0] if contacts else None

    @property
    def routes(self) -> tuple[NameAddr, ...]:
        """Route values (§20.34)."""
        return self._name_addrs("Route")

    @property
    def record_routes(self) -> tuple[NameAddr, ...]:
        """Record-Route values, in message order (§20.30)."""
        return self._name_addrs("Record-Route")

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
        """Media type in lower case without parameters, e.g. ``application/sdp``; empty where there is none."""
        value = self.headers.get("Content-Type")
        if not value:
            return ""
        try:
            return MediaType.parse(value).mime_type.lower()
        except ValueError:
            return value.partition(";")[0].strip().lower()

    def _number(self, name: str) -> int | None:
        value = (self.headers.get(name) or "").strip()
        return int(value) if value.isascii() and value.isdigit() and len(value) <= 10 else None

    def _mandatory(self, name: str) -> str:
        value = self.headers.get(name)
        if value is None:
            raise MalformedValue(f"{name} is missing")
        return value

    def _name_addr(self, name: str) -> NameAddr:
        known = self.headers.recall(name)
        if known is not None:
            return cast("NameAddr", known)
        return self.headers.cached(name, NameAddr.parse(self._mandatory(name)))

    def _name_addrs(self, name: str) -> tuple[NameAddr, ...]:
        known = self.headers.recall(name)
        if known is not None:
            return cast("tuple[NameAddr, ...]", known)
        values: list[NameAddr] = []
        for line in self.headers.get_all(name):
            for part in split_list(line):
                try:
                    values.append(NameAddr.parse(part))
                except MalformedValue:
                    continue
        return self.headers.cached(name, tuple(values))


class Request(Message):
    """A request (§7.1)."""

    __slots__ = ("method", "uri")

    def __init__(self, method: str, uri: Uri, headers: Headers | None = None, body: bytes = b"") -> None:
        super().__init__(headers, body)
        self.method = method
        self.uri = uri

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.uri} {self.headers.get('Call-ID')}>"

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


def parse_message(data: bytes) -> Request | Response:
    """Parses one whole message.

    Raises:
        MalformedMessage: and nothing else, whatever ``data`` is.
    """
    if len(data) > MAX_MESSAGE:
        raise MalformedMessage(f"more than {MAX_MESSAGE} bytes", status=413)
    head, body = _split(data)
    # surrogateescape: bytes that are not UTF-8 come out again as they were.
    lines = _FOLD.sub(" ", head.decode("utf-8", "surrogateescape")).replace("\r\n", "\n").split("\n")
    message = _start_line(lines[0])
    headers = message.headers
    if len(lines) - 1 > MAX_HEADERS:
        raise MalformedMessage(f"more than {MAX_HEADERS} header lines")
    broken = ""
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        name = name.rstrip()
        if not colon or not _TOKEN.match(name):
            broken = broken or "a header line without a name"
            continue
        headers.add(name, value.strip())
    _check(message, lines[0], broken)
    message.body = _body(message, body)
    return message


def _split(data: bytes) -> tuple[bytes, bytes]:
    data = data.lstrip(b"\r\n")
    for end in (b"\r\n\r\n", b"\n\n"):
        head, found, body = data.partition(end)
        if found:
            return head, body
    # A missing empty line: the whole is the head (seen from sloppy UDP peers).
    return data.rstrip(b"\r\n"), b""


def _start_line(line: str) -> Request | Response:
    pieces = line.strip().split(" ")
    if pieces[0].upper() == "SIP/2.0":
        if len(pieces) < 2 or not (pieces[1].isascii() and pieces[1].isdigit()) or not 100 <= int(pieces[1][:4]) <= 699:
            raise MalformedMessage("the status line has no status code of 100-699")
        return Response(int(pieces[1]), " ".join(pieces[2:]))
    version = pieces[-1].upper()
    if len(pieces) < 3 or not version.startswith("SIP/") or not _TOKEN.match(pieces[0]):
        raise MalformedMessage("neither a request nor a response")
    try:
        uri = Uri.parse("".join(pieces[1:-1]).strip("<>"))
    except MalformedValue:
        uri = Uri("invalid", "invalid")
    return Request(pieces[0], uri)


def _check(message: Request | Response, first_line: str, broken: str) -> None:
    """Refuses a message that lacks what every message has (§8.1.1), as far as it can still be answered."""
    request = message if isinstance(message, Request) else None
    try:
        message.vias  # noqa: B018 - parsing is the check
        message.via  # noqa: B018
        message.from_  # noqa: B018
        message.to  # noqa: B018
        message.call_id  # noqa: B018
        cseq = message.cseq
    except MalformedValue as error:
        answerable = request if request is not None and _answerable(request) else None
        raise MalformedMessage(str(error), request=answerable) from None
    for name in _SINGLE:
        if len(set(message.headers.get_all(name))) > 1:
            raise MalformedMessage(f"{name} more than once", request=request)
    if request is not None and cseq.method != request.method:
        raise MalformedMessage("the CSeq method is not the request's", request=request)
    if request is not None:
        pieces = first_line.strip().split(" ")
        if pieces[-1].upper() != "SIP/2.0":
            raise MalformedMessage("only SIP/2.0 is spoken here", status=505, request=request)
        if request.uri.scheme == "invalid" or len(pieces) != 3:
            raise MalformedMessage("the request URI is malformed", request=request)
    if broken:
        raise MalformedMessage(broken, request=request)


def _answerable(request: Request) -> bool:
    try:
        request.via  # noqa: B018 - parsing is the check
    except MalformedValue:
        return False
    return all(name in request.headers for name in _MANDATORY)


def _body(message: Request | Response, rest: bytes) -> bytes:
    """§18.3: over UDP the datagram ends the body unless Content-Length ends it earlier; too long a length is an error."""
    text = message.headers.get("Content-Length")
    if text is None:
        return rest
    request = message if isinstance(message, Request) else None
    stripped = text.strip()
    if not (stripped.isascii() and stripped.isdigit()) or len(stripped) > 9:
        raise MalformedMessage("Content-Length is no number", request=request)
    length = int(stripped)
    if length > len(rest):
        raise MalformedMessage("Content-Length is more than there is", request=request)
    return rest[:length]


def serialize(message: Request | Response) -> bytes:
    """The bytes of a message, with the right Content-Length.

    Raises:
        ValueError: a line would hold CR, LF or NUL.
    """
    first = (
        f"{message.method} {message.uri} SIP/2.0"
        if isinstance(message, Request)
        else f"SIP/2.0 {message.status} {message.reason}"
    )
    lines = [first]
    lines += [f"{name}: {value}" for name, value in message.headers.items() if name != "Content-Length"]
    lines.append(f"Content-Length: {len(message.body)}")
    if any(_FORBIDDEN.search(line) for line in lines):
        raise ValueError("A header field may not hold CR, LF or NUL")
    return "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + message.body


def redact(data: bytes) -> str:
    """A message as text for people, without credentials."""
    text = data.decode("utf-8", "replace")
    head, separator, body = text.partition("\r\n\r\n")
    return _SECRET.sub(r"\1***", _FOLD.sub(" ", head)).replace("\r\n", "\n") + ("\n\n" + body if separator else "")
