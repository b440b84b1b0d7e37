"""Messages in a byte stream (RFC 3261 §18.3) and the keep-alives between them (RFC 5626 §4.4.1)."""

from __future__ import annotations

import re
from enum import Enum

from sipcore.protocol.wire import MAX_MESSAGE

__all__ = ["FramingError", "KeepAlive", "StreamFramer"]

_CONTENT_LENGTH = re.compile(rb"^(?:content-length|l)[ \t]*:[ \t]*(\d{1,9})[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
MAX_HEAD = 32_768
"""Bytes of start line and headers."""


class FramingError(ValueError):
    """The stream cannot be cut into messages any more; the connection is of no further use."""


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
            FramingError: a head without Content-Length (mandatory on streams, §20.14), or beyond the limits.
        """
        self._buffer += data
        complete: list[bytes | KeepAlive] = []
        while (item := self._next()) is not None:
            complete.append(item)
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
            found = _CONTENT_LENGTH.search(bytes(buffer[:end]))
            if found is None:
                raise FramingError("no Content-Length on a stream")
            self._body_end = end + 4 + int(found.group(1))
            if self._body_end > MAX_MESSAGE:
                raise FramingError(f"a message of more than {MAX_MESSAGE} bytes")
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
