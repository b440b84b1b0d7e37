"""Instant messages in pager mode: what of a MESSAGE reaches an application, and what refuses it (RFC 3428)."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from sipcore.events import MessageReceived
from sipcore.protocol.builder import extension_headers
from sipcore.protocol.params import legible
from sipcore.protocol.values import Params

if TYPE_CHECKING:
    from sipcore.protocol.wire import Request

__all__ = ["MAX_BODY", "message_of", "refusal_of_body"]

MAX_BODY = 8192
"""Bytes of a MESSAGE's or INFO's body that are taken; RFC 3428 §8 has senders stop at 1,300 in all."""

Refusal = tuple[int, tuple[tuple[str, str], ...]]
"""Status and headers."""


def refusal_of_body(request: Request) -> Refusal | None:
    """413 for what is too long to keep (RFC 3261 §21.4.11), 415 for what is encoded; None where it can be read."""
    if len(request.body) > MAX_BODY:
        return 413, ()
    encodings = [coding for coding in request.list_of("Content-Encoding") if coding.lower() != "identity"]
    return (415, (("Accept-Encoding", "identity"),)) if encodings else None


def message_of(request: Request) -> MessageReceived:
    """The message in a MESSAGE request."""
    sender = request.from_
    return MessageReceived(
        sender=legible(str(sender.uri)),
        display_name=legible(sender.display_name),
        content_type=legible(request.content_type) or "text/plain",
        body=request.body,
        text=_decoded(request),
        headers=MappingProxyType(extension_headers(request)),
    )


def _decoded(request: Request) -> str:
    """RFC 3428 §9 with RFC 2046 §4.1.2: UTF-8 unless another character set is named that we know."""
    _, semicolon, parameters = (request.headers.get("Content-Type") or "").partition(";")
    charset = (Params.parse(semicolon + parameters).get("charset") or "utf-8").strip().lower()
    known = charset if charset in ("utf-8", "us-ascii", "iso-8859-1", "iso-8859-15", "windows-1252") else "utf-8"
    return request.body.decode(known, "replace")
