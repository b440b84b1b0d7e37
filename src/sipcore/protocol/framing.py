"""Messages in a byte stream (RFC 3261 §18.3) and the keep-alives between them (RFC 5626 §4.4.1)."""

from __future__ import annotations

import re
from enum import Enum

from sipcore.protocol.wire import MAX_MESSAGE

__all__ = ["FramingError", "KeepAlive", "StreamFramer"]

_CONTENT_LENGTH = re.compile(rb"^(?:content-length|l)[ \t]*:(.*)$", re.IGNORECASE | re.MULTILINE)
_FOLD = re.compile(rb"\r?\n[ \t]+")
_LENGTH = re.compile(rb"[0-9]{1,9}\Z")
MAX_HEAD = 32_768
"""Bytes of start line and headers."""


class FramingError(ValueError):
    """The stream cannot be cut into messages any more; the connection is of no further use."""

    def __init__(self, detail: str, head: bytes = b"") -> None:
        super().__init__(detail)
        self.head = head
        """The header that says something impossible of its body, to be refused (RFC 4475 §3.1.2.3); else empty."""
        self.complete: list[bytes | KeepAlive] = []
        """What came whole before it."""


class KeepAlive(Enum):
    """What may stand between messages."""

    PING = b"\r\n\r\n"
    """To be answered with :attr:`PONG`."""
    PONG = b"\r\n"


class StreamFramer:
    """Cuts a stream into messages, however its bytes arrive."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._body_end = 0
        """Where the message at the start of the buffer ends; 0 while its head is incomplete."""
        self._searched = 0
        self._half_ping = False
        """The last thing was a lone CRLF."""

    @property
    def pending(self) -> int:
        """Bytes of a message that has begun and is not complete."""
        return 0 if self._buffer == b"\r" else len(self._buffer)

    def feed(self, data: bytes) -> list[bytes | KeepAlive]:
        """What is complete after ``data``, in order.

        Raises:
            FramingError: a head without one Content-Length (mandatory on streams, §20.14), or beyond the limits.
        """
        self._buffer += data
        complete: list[bytes | KeepAlive] = []
        try:
            while (item := self._next()) is not None:
                complete.append(item)
        except FramingError as error:
            error.complete = complete
            raise
        return complete

    def _next(self) -> bytes | KeepAlive | None:
        buffer = self._buffer
        if not self._body_end:
            if buffer.startswith(b"\r\n"):
                return self._keep_alive()
            end = buffer.find(b"\r\n\r\n", max(0, self._searched - 3))
            if end < 0:
                self._searched = len(buffer)
                self._half_ping = self._half_ping and len(buffer) < 2
                if len(buffer) > MAX_HEAD:
                    raise FramingError(f"more than {MAX_HEAD} bytes of headers")
                return None
            if end > MAX_HEAD:
                raise FramingError(f"more than {MAX_HEAD} bytes of headers")
            self._body_end = end + 4 + _content_length(bytes(buffer[: end + 4]))
        if len(buffer) < self._body_end:
            return None
        message = bytes(buffer[: self._body_end])
        del buffer[: self._body_end]
        self._body_end = self._searched = 0
        self._half_ping = False
        return message

    def _keep_alive(self) -> KeepAlive:
        """Two CRLFs are a ping, one is a pong; a second one that comes later may have been the rest of a ping.

        Taking two pongs in a row for a ping costs a CRLF that the peer passes over; the reverse would cost the
        connection.
        """
        if self._half_ping:
            del self._buffer[:2]
            self._half_ping = False
            return KeepAlive.PING
        if self._buffer.startswith(b"\r\n\r\n"):
            del self._buffer[:4]
            return KeepAlive.PING
        del self._buffer[:2]
        self._half_ping = len(self._buffer) < 2
        return KeepAlive.PONG


def _content_length(head: bytes) -> int:
    """What the header says of the body (§18.3, §20.14).

    Raises:
        FramingError: nothing, nothing usable, several things, or more than a message may have.
    """
    unfolded = _FOLD.sub(b" ", head) if b"\n " in head or b"\n\t" in head else head
    found = {value.strip() for value in _CONTENT_LENGTH.findall(unfolded)}
    if not found:
        raise FramingError("no Content-Length on a stream")
    if len(found) > 1 or not _LENGTH.match(value := found.pop()):
        raise FramingError("no usable Content-Length on a stream", head)
    length = int(value)
    if len(head) + length > MAX_MESSAGE:
        raise FramingError(f"a message of more than {MAX_MESSAGE} bytes", head)
    return length
