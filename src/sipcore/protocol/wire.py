"""Messages between bytes and objects: tolerant of what comes in, strict in what goes out (RFC 3261 §7, §25).

The one door to :mod:`sipmessage`: its tables of compact names and its media types are used here. Its
``Message.parse`` and typed accessors are not: they refuse folded headers, ``Contact: *``, white space before a
colon, hosts such as ``pbx1`` and status lines without a reason, and they spell parameters anew, while a user agent
must echo what its peer wrote. In the tests it reads what :func:`serialize` writes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeVar, cast

from sipmessage import MediaType
from sipmessage.message import COMPACT_FORMS

from sipcore.protocol.redaction import redact, without_password
from sipcore.protocol.values import CSeq, MalformedValue, NameAddr, Params, Uri, Via, split_list

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
_NAMES = {spelling: (name.lower(), name) for name in _CANONICAL.values() for spelling in (name, name.lower())} | {
    short: (long.lower(), long) for short, long in COMPACT_FORMS.items()
}
"""Names in their usual spelling to key and canonical name; others take the long way."""
_SINGLE = frozenset({"from", "to", "call-id", "cseq", "max-forwards", "content-length"})
_NO_URI = Uri("invalid")
"""Stands for a request URI that cannot be understood, until the request is refused."""

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
        """Typed values by key."""

    @staticmethod
    def key(name: str) -> str:
        """The long name in lower case."""
        known = _NAMES.get(name)
        if known is not None:
            return known[0]
        lower = name.lower()
        return _COMPACT.get(lower, lower)

    def get(self, name: str, default: str | None = None) -> str | None:
        """The first value."""
        usual = _NAMES.get(name)
        key = usual[0] if usual is not None else self.key(name)
        for known, _, value in self._items:
            if known == key:
                return value
        return default

    def get_all(self, name: str) -> list[str]:
        """All values, one per line of the message."""
        key = self.key(name)
        return [value for known, _, value in self._items if known == key]

    def fill(self, lines: list[str]) -> tuple[dict[str, str], str]:
        """Appends lines as they came.

        Returns:
            The values of headers that may come only once, by key, and what is wrong with the lines; empty if
            nothing is.
        """
        single: dict[str, str] = {}
        defect = ""
        for line in lines:
            name, colon, value = line.partition(":")
            known = _NAMES.get(name)
            if known is None:
                name = name.rstrip()
                if not colon or not _TOKEN.match(name):
                    defect = defect or "a header line without a name"
                    continue
                key = self.key(name)
                known = (key, _CANONICAL.get(key, name))
            value = value.strip()
            self._items.append((*known, value))
            if known[0] in _SINGLE and single.setdefault(known[0], value) != value:
                defect = f"{known[1]} more than once"
        return single, defect

    def add(self, name: str, value: str) -> None:
        """Appends a line."""
        usual = _NAMES.get(name)
        if usual is None:
            key = self.key(name)
            usual = (key, _CANONICAL.get(key, name))
        self._items.append((*usual, value))
        if self._cache:
            self._cache.pop(usual[0], None)

    def prepend(self, name: str, value: str) -> None:
        """Puts a line before all others."""
        key = self.key(name)
        self._items.insert(0, (key, _CANONICAL.get(key, name), value))
        self._cache.pop(key, None)

    def set(self, name: str, value: str) -> None:
        """Replaces all lines of a name by one, at the place of the first."""
        key = self.key(name)
        for position, (known, _, _) in enumerate(self._items):
            if known == key:
                rest = [item for item in self._items[position + 1 :] if item[0] != key]
                self._items[position:] = [(key, _CANONICAL.get(key, name), value), *rest]
                self._cache.pop(key, None)
                return
        self.add(name, value)

    def replace_first(self, name: str, value: str) -> None:
        """Replaces the first line of a name, which must be there."""
        key = self.key(name)
        position = next(index for index, item in enumerate(self._items) if item[0] == key)
        self._items[position] = (key, self._items[position][1], value)
        self._cache.pop(key, None)

    def remove(self, name: str) -> None:
        """Removes all lines of a name."""
        key = self.key(name)
        self._items = [item for item in self._items if item[0] != key]
        self._cache.pop(key, None)

    @property
    def lines(self) -> Sequence[tuple[str, str, str]]:
        """Key, name and value of each line; not to be changed."""
        return self._items

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
        clone._items, clone._cache = self._items.copy(), self._cache.copy()
        return clone

    def cached(self, name: str, value: T) -> T:
        """Remembers the typed value of a header until one of its lines changes."""
        self._cache[name] = value
        return value

    def recall(self, name: str) -> object | None:
        """A typed value remembered by :meth:`cached`."""
        return self._cache.get(name)


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
        return (self.via, *_understood(Via, self._via_texts[1:]))

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
    def _via_texts(self) -> list[str]:
        return [value for line in self.headers.get_all("Via") for value in split_list(line)]

    @property
    def via_count(self) -> int:
        """How many Via values there are; a response that reaches a user agent has one (§8.1.3.3)."""
        return len(self._via_texts)

    def stamp_via(self, *, received: str | None, rport: int | None) -> None:
        """Writes where a request came from into its top Via (§18.2.1, RFC 3581 §4); the rest stays as written."""
        changes = {"received": received, "rport": None if rport is None else str(rport)}
        wanted = {name: value for name, value in changes.items() if value is not None}
        if not wanted:
            return
        lines = self.headers.get_all("Via")
        top, *others = split_list(lines[0])
        sent_by, semicolon, parameters = top.partition(";")
        stamped = sent_by.rstrip() + str(Params.parse(semicolon + parameters).with_(**wanted))
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
            raise MalformedValue(f"{_CANONICAL.get(name, name)} is missing")
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


V = TypeVar("V", NameAddr, Via)


def _understood(kind: type[V], texts: list[str]) -> list[V]:
    values: list[V] = []
    for text in texts:
        try:
            values.append(kind.parse(text))
        except MalformedValue:
            continue
    return values


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


def parse_message(data: bytes) -> Request | Response:
    """Parses one whole message.

    Raises:
        MalformedMessage: and nothing else, whatever ``data`` is.
    """
    if len(data) > MAX_MESSAGE:
        raise MalformedMessage(f"more than {MAX_MESSAGE} bytes", status=413)
    head, body = _split(data)
    # surrogateescape: bytes that are not UTF-8 come out again as they were.
    text = head.decode("utf-8", "surrogateescape").replace("\r\n", "\n")
    if "\n " in text or "\n\t" in text:
        text = _FOLD.sub(" ", text)
    if "\r" in text or "\0" in text:
        raise MalformedMessage("a lone CR, or NUL")
    first_line, *lines = text.split("\n")
    message = _start_line(first_line)
    if len(lines) > MAX_HEADERS:
        raise MalformedMessage(f"more than {MAX_HEADERS} header lines")
    single, defect = message.headers.fill(lines)
    _check(message, first_line, single, defect)
    message.body = _body(message, single.get("content-length"), body)
    return message


def _split(data: bytes) -> tuple[bytes, bytes]:
    data = data.lstrip(b"\r\n")
    for end in (b"\r\n\r\n", b"\n\n"):
        head, found, body = data.partition(end)
        if found and b"\n\n" not in head:
            return head, body
    # A missing empty line: the whole is the head (seen from sloppy UDP peers).
    return data.rstrip(b"\r\n"), b""


def _start_line(line: str) -> Request | Response:
    pieces = line.strip().split(" ")
    if pieces[0].upper() == "SIP/2.0":
        code = pieces[1] if len(pieces) > 1 else ""
        if len(code) != 3 or not (code.isascii() and code.isdigit()) or not 100 <= int(code) <= 699:
            raise MalformedMessage("the status line has no status code of 100-699")
        return Response(int(code), " ".join(pieces[2:]))
    if len(pieces) < 3 or not pieces[-1].upper().startswith("SIP/") or not _TOKEN.match(pieces[0]):
        raise MalformedMessage("neither a request nor a response")
    uri = " ".join(pieces[1:-1]).strip()
    try:
        return Request(pieces[0], Uri.parse(uri.strip("<>") if " " not in uri else ""))
    except MalformedValue:
        return Request(pieces[0], _NO_URI)


def _check(message: Request | Response, first_line: str, single: dict[str, str], defect: str) -> None:
    """Refuses a message that lacks what every message has (§8.1.1), as far as it can still be answered."""
    request = message if isinstance(message, Request) else None
    try:
        message.via  # noqa: B018 - parsing is the check
        message.from_  # noqa: B018
        message.to  # noqa: B018
        if not single.get("call-id"):
            raise MalformedValue("Call-ID is missing")
        cseq = message.cseq
    except MalformedValue as error:
        answerable = request if request is not None and _answerable(request, single) else None
        raise MalformedMessage(str(error), request=answerable) from None
    if request is not None:
        if not first_line.rstrip().upper().endswith(" SIP/2.0"):
            raise MalformedMessage("only SIP/2.0 is spoken here", status=505, request=request)
        if request.uri is _NO_URI:
            raise MalformedMessage("the request URI is malformed", request=request)
        if cseq.method != request.method:
            raise MalformedMessage("the CSeq method is not the request's", request=request)
    if defect:
        raise MalformedMessage(defect, request=request)


def _answerable(request: Request, single: dict[str, str]) -> bool:
    """Whether a response can copy what it must (§8.2.6.2) and find its way."""
    try:
        request.via  # noqa: B018 - parsing is the check
    except MalformedValue:
        return False
    return all(name in single for name in ("from", "to", "call-id", "cseq"))


def _body(message: Request | Response, length_text: str | None, rest: bytes) -> bytes:
    """§18.3: the datagram ends the body unless Content-Length ends it earlier; too long a length is an error."""
    if length_text is None:
        return rest
    request = message if isinstance(message, Request) else None
    if not (length_text.isascii() and length_text.isdigit()) or len(length_text) > 9:
        raise MalformedMessage("Content-Length is no number", request=request)
    length = int(length_text)
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
    lines += [f"{name}: {value}" for key, name, value in message.headers.lines if key != "content-length"]
    lines.append(f"Content-Length: {len(message.body)}")
    text = "\r\n".join(lines)
    if not text.count("\r") == text.count("\n") == len(lines) - 1 or "\0" in text:
        raise ValueError("A header field may not hold CR, LF or NUL")
    return text.encode("utf-8", "surrogateescape") + b"\r\n\r\n" + message.body
