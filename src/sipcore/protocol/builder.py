"""The one place that assembles header blocks (RFC 3261 §8.1.1, §8.2.6, §9.1, §17.1.1.3)."""

from __future__ import annotations

import http
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from sipcore.errors import InvalidHeader
from sipcore.protocol.params import legible
from sipcore.protocol.values import MalformedValue
from sipcore.protocol.wire import Headers, Message, Request, Response

if TYPE_CHECKING:
    from sipcore.protocol.values import Uri

__all__ = [
    "MAX_EXTENSION_BYTES",
    "MAX_EXTENSION_HEADERS",
    "OWNED_HEADERS",
    "check_extension_headers",
    "extension_headers",
    "make_cancel",
    "make_failure_ack",
    "make_request",
    "make_response",
    "reason_phrase",
]

OWNED_HEADERS = frozenset(
    {
        "via",
        "from",
        "to",
        "call-id",
        "cseq",
        "contact",
        "route",
        "record-route",
        "max-forwards",
        "content-length",
        "content-type",
        "authorization",
        "proxy-authorization",
        # There may be one of each (§7.3.1), and the session timer (RFC 4028) goes by what it has written.
        "session-expires",
        "min-se",
        # Of the body, which is the stack's.
        "content-encoding",
    }
)
"""Headers that the stack writes itself; callers may not."""
MAX_EXTENSION_HEADERS = 64
MAX_EXTENSION_BYTES = 8192
"""Names and values together, UTF-8."""

_STANDARD = OWNED_HEADERS | {
    "accept",
    "accept-encoding",
    "accept-language",
    "allow",
    "allow-events",
    "date",
    "event",
    "expires",
    "min-expires",
    "proxy-authenticate",
    "proxy-require",
    "rack",
    "refer-to",
    "require",
    "retry-after",
    "rseq",
    "server",
    "subscription-state",
    "supported",
    "timestamp",
    "unsupported",
    "user-agent",
    "www-authenticate",
}
"""Headers that carry the protocol itself and tell an application nothing."""
_TOKEN = re.compile(r"[A-Za-z0-9\-.!%*_+`'~]+\Z")
_FORBIDDEN = re.compile(r"[\r\n\x00]")
_PHRASES = {
    100: "Trying",
    180: "Ringing",
    181: "Call Is Being Forwarded",
    182: "Queued",
    183: "Session Progress",
    200: "OK",
    202: "Accepted",
    300: "Multiple Choices",
    301: "Moved Permanently",
    302: "Moved Temporarily",
    305: "Use Proxy",
    380: "Alternative Service",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    407: "Proxy Authentication Required",
    408: "Request Timeout",
    413: "Request Entity Too Large",
    415: "Unsupported Media Type",
    416: "Unsupported URI Scheme",
    420: "Bad Extension",
    421: "Extension Required",
    422: "Session Interval Too Small",
    423: "Interval Too Brief",
    480: "Temporarily Unavailable",
    481: "Call/Transaction Does Not Exist",
    482: "Loop Detected",
    483: "Too Many Hops",
    484: "Address Incomplete",
    486: "Busy Here",
    487: "Request Terminated",
    488: "Not Acceptable Here",
    489: "Bad Event",
    469: "Bad Info Package",
    491: "Request Pending",
    500: "Server Internal Error",
    501: "Not Implemented",
    503: "Service Unavailable",
    504: "Server Time-out",
    505: "Version Not Supported",
    513: "Message Too Large",
    600: "Busy Everywhere",
    603: "Decline",
    604: "Does Not Exist Anywhere",
    606: "Not Acceptable",
}


def reason_phrase(status: int) -> str:
    """The usual phrase of a status code (§21); HTTP's, or none, where SIP has none."""
    phrase = _PHRASES.get(status)
    if phrase is not None:
        return phrase
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return ""


def make_request(
    method: str,
    uri: Uri,
    *,
    from_: str,
    to: str,
    call_id: str,
    cseq: int,
    routes: Sequence[str] = (),
    contact: str = "",
    headers: Sequence[tuple[str, str]] = (),
    body: bytes = b"",
    content_type: str = "",
    user_agent: str = "",
    max_forwards: int = 70,
) -> Request:
    """A request without Via, which the transaction layer puts on top (§8.1.1.7).

    ``from_``, ``to``, ``routes`` and ``contact`` are header values as they shall appear on the wire.
    """
    block = Headers()
    for route in routes:
        block.add("Route", route)
    block.add("Max-Forwards", str(max_forwards))
    block.add("From", from_)
    block.add("To", to)
    block.add("Call-ID", call_id)
    block.add("CSeq", f"{cseq} {method}")
    if contact:
        block.add("Contact", contact)
    if user_agent and not any(Headers.key(name) == "user-agent" for name, _ in headers):
        block.add("User-Agent", user_agent)
    for name, value in headers:
        block.add(name, value)
    if body:
        block.add("Content-Type", content_type)
    return Request(method, uri, block, body)


def make_response(
    request: Request,
    status: int,
    reason: str = "",
    *,
    to_tag: str = "",
    contact: str = "",
    headers: Sequence[tuple[str, str]] = (),
    body: bytes = b"",
    content_type: str = "",
    server: str = "",
) -> Response:
    """A response with what §8.2.6.2 has it copy.

    ``to_tag`` is added where the request's To has none and the status is above 100; Record-Route is copied into
    every response that makes or confirms a dialog (§12.1.1).
    """
    block = Headers()
    for value in request.headers.get_all("Via"):
        block.add("Via", value)
    for name in ("From", "To", "Call-ID", "CSeq"):
        copied = request.headers.get(name)
        if copied is None:  # a request that is refused for it
            continue
        if name == "To" and to_tag and status > 100 and not _has_tag(request):
            copied = f"{copied};tag={to_tag}"
        block.add(name, copied)
    if 100 < status < 300:
        for value in request.headers.get_all("Record-Route"):
            block.add("Record-Route", value)
    if status == 100:
        for value in request.headers.get_all("Timestamp"):
            block.add("Timestamp", value)
    if contact:
        block.add("Contact", contact)
    if server:
        block.add("Server", server)
    for name, value in headers:
        block.add(name, value)
    if body:
        block.add("Content-Type", content_type)
    return Response(status, reason or reason_phrase(status), block, body)


def _has_tag(request: Request) -> bool:
    try:
        return bool(request.to_tag)
    except MalformedValue:  # a request that is refused for it
        return ";tag=" in (request.headers.get("To") or "").lower()


def make_cancel(invite: Request, headers: Sequence[tuple[str, str]] = ()) -> Request:
    """CANCEL of an INVITE as sent: its request URI, top Via, From, To, Call-ID, CSeq number and Route (§9.1)."""
    return _in_same_transaction(invite, "CANCEL", invite.headers.get("To") or "", headers)


def make_failure_ack(invite: Request, response: Response) -> Request:
    """ACK to a 300-699 response: a part of the INVITE transaction, To as in the response (§17.1.1.3)."""
    return _in_same_transaction(invite, "ACK", response.headers.get("To") or "", ())


def _in_same_transaction(invite: Request, method: str, to: str, headers: Sequence[tuple[str, str]]) -> Request:
    block = Headers()
    block.add("Via", str(invite.via))
    for route in invite.headers.get_all("Route"):
        block.add("Route", route)
    block.add("Max-Forwards", "70")
    block.add("From", invite.headers.get("From") or "")
    block.add("To", to)
    block.add("Call-ID", invite.call_id)
    block.add("CSeq", f"{invite.cseq.number} {method}")
    for name, value in headers:
        block.add(name, value)
    return Request(method, invite.uri, block)


def check_extension_headers(headers: Mapping[str, str], *, refer: bool = False, field: str = "headers") -> None:
    """Whether a caller may add these headers to a request.

    Raises:
        InvalidHeader: a name that is no token, a header that the stack owns, CR, LF or NUL in a value, or too
            many of them.
    """
    if len(headers) > MAX_EXTENSION_HEADERS:
        limit = f"at most {MAX_EXTENSION_HEADERS} are allowed"
        raise InvalidHeader(f"{field}: {len(headers)} headers, {limit}", field=field)
    size = sum(len(name.encode()) + len(value.encode()) for name, value in headers.items())
    if size > MAX_EXTENSION_BYTES:
        raise InvalidHeader(f"{field}: {size} bytes, at most {MAX_EXTENSION_BYTES} are allowed", field=field)
    for name, value in headers.items():
        if not _TOKEN.match(name):
            raise InvalidHeader(f"{field}: {name!r} is not a header name (RFC 3261 §25.1 token)", field=field)
        key = Headers.key(name)
        if key in OWNED_HEADERS or (refer and key == "refer-to"):
            raise InvalidHeader(f"{field}: {name} is written by the SIP stack and cannot be set", field=field)
        if _FORBIDDEN.search(value):
            raise InvalidHeader(f"{field}: the value of {name} holds CR, LF or NUL", field=field)


def extension_headers(source: Message | Iterable[tuple[str, str]]) -> dict[str, str]:
    """Headers of a message that an application may care for: all but those that carry the protocol itself.

    Several lines of one name are joined by a comma (§7.3.1). Credentials are never among them.
    """
    items = source.headers.items() if isinstance(source, Message) else source
    found: dict[str, str] = {}
    for name, value in items:
        if Headers.key(name) in _STANDARD:
            continue
        found[name] = f"{found[name]}, {legible(value)}" if name in found else legible(value)
    return found
