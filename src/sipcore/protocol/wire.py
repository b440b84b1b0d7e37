"""Messages between bytes and objects: tolerant of what comes in, strict in what goes out (RFC 3261 §7, §25)."""

from __future__ import annotations

import re

from sipcore.protocol.headers import Headers
from sipcore.protocol.message import METHODS, Message, Request, Response
from sipcore.protocol.params import legible
from sipcore.protocol.redaction import redact
from sipcore.protocol.values import MalformedValue, Uri

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
_NUL = re.compile(r"(?<!\\)\0")
"""NUL may stand in a quoted pair only (§25.1; RFC 4475 §3.1.1.2)."""
_NO_URI = Uri("invalid")
"""Stands for a request URI that cannot be understood, until the request is refused."""


class MalformedMessage(ValueError):
    """A message that breaks the grammar or a limit."""

    def __init__(self, detail: str, *, status: int = 400, request: Request | None = None) -> None:
        super().__init__(detail)
        self.status = status
        """What to answer (§8.2, §21.4, §21.5): 400, 413, 501, 505."""
        self.request = request
        """Enough of the request to answer it; None where it must be dropped."""


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
    first_line, *lines = text.split("\n")
    message = _start_line(first_line)
    if "\r" in text or ("\0" in text and _NUL.search(text)):
        # To be refused, and the answer copies some lines (§8.2.6.2): it gets none with such a character in it.
        message.headers.fill([line for line in lines[:MAX_HEADERS] if "\r" not in line and "\0" not in line])
        defect = "a lone CR, or NUL"
    else:
        defect = message.headers.fill(lines[:MAX_HEADERS])
        if len(lines) > MAX_HEADERS:
            defect = f"more than {MAX_HEADERS} header lines"
    _check(message, first_line, defect)
    message.body = _body(message, message.headers.get("Content-Length"), body)
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
        return Response(int(code), legible(" ".join(pieces[2:])))
    if len(pieces) < 3 or not pieces[-1].upper().startswith("SIP/") or not _TOKEN.match(pieces[0]):
        raise MalformedMessage("neither a request nor a response")
    uri = " ".join(pieces[1:-1]).strip()
    try:
        return Request(pieces[0], _request_uri(uri))
    except MalformedValue:
        return Request(pieces[0], _NO_URI)


def _request_uri(text: str) -> Uri:
    """Brackets around it are passed over (RFC 4475 §3.1.2.7); white space in it is not (§3.1.2.8)."""
    uri = Uri.parse(text.strip("<>") if " " not in text else "")
    if ":" in uri.host and "[" not in text:
        raise MalformedValue("an IPv6 address without brackets: where does the port begin? (RFC 5118 §4.2)")
    return uri


def _check(message: Request | Response, first_line: str, defect: str) -> None:
    """Refuses a message that lacks what every message has (§8.1.1), as far as it can still be answered."""
    request = message if isinstance(message, Request) else None
    try:
        via = message.via  # parsing is the check
        message.from_  # noqa: B018
        message.to  # noqa: B018
        if not message.call_id:
            raise MalformedValue("Call-ID is missing")
        cseq = message.cseq
    except MalformedValue as error:
        answerable = request if request is not None and _answerable(request) else None
        raise MalformedMessage(str(error), request=answerable) from None
    if request is not None:
        if not first_line.rstrip().upper().endswith(" SIP/2.0"):
            raise MalformedMessage("only SIP/2.0 is spoken here", status=505, request=request)
        if request.uri is _NO_URI:
            raise MalformedMessage("the request URI is malformed", request=request)
        if cseq.method != request.method:
            status = 400 if request.method in METHODS else 501
            raise MalformedMessage("the CSeq method is not the request's", status=status, request=request)
        if request.via_count > 1 and not all(text[:3].upper() == "SIP" for text in request.via_texts):
            raise MalformedMessage("a separator in Via separates nothing", request=request)
    if via.version != "2.0":
        raise MalformedMessage("Via is of another version than the message", request=request)
    if defect:
        raise MalformedMessage(defect, request=request)


def _answerable(request: Request) -> bool:
    """Whether a response finds its way, and its transaction there (§17.1.3). It copies what there is: what the request
    lacks is what it is refused for (RFC 4475 §3.3.1)."""
    try:
        request.via  # noqa: B018 - parsing is the check
    except MalformedValue:
        return False
    return "CSeq" in request.headers


def _body(message: Request | Response, length_text: str | None, rest: bytes) -> bytes:
    """§18.3: the datagram ends the body unless Content-Length ends it earlier; too long a length is an error."""
    if length_text is None:
        return rest
    request = message if isinstance(message, Request) else None
    if not (length_text.isascii() and length_text.isdigit()) or len(length_text) > 9:
        raise MalformedMessage("Content-Length is no number", request=request)
    length = int(length_text)
    if length > len(rest):
        status = 413 if length > MAX_MESSAGE else 400
        raise MalformedMessage("Content-Length is more than there is", status=status, request=request)
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
    if not text.count("\r") == text.count("\n") == len(lines) - 1 or ("\0" in text and _NUL.search(text)):
        raise ValueError("A header field may not hold CR, LF or NUL")
    return text.encode("utf-8", "surrogateescape") + b"\r\n\r\n" + message.body
