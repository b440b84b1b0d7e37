"""Session descriptions (RFC 8866): parsed tolerantly, printed strictly. Only what audio calls need is understood."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

__all__ = ["MalformedSdp", "MediaDescription", "PayloadFormat", "SessionDescription", "parse_sdp"]

MAX_SDP = 16_384
"""Bytes; a longer description is refused."""
MAX_MEDIA = 16
"""Media sections; more are refused."""
DIRECTIONS = ("sendrecv", "sendonly", "recvonly", "inactive")

_STATIC = {0: ("PCMU", 8000), 8: ("PCMA", 8000), 9: ("G722", 8000), 13: ("CN", 8000), 18: ("G729", 8000), 3: ("GSM", 8000)}
"""Payload types that need no rtpmap (RFC 3551 table 4)."""
_RTPMAP = re.compile(r"(\d{1,3})\s+([^/\s]+)/(\d{1,6})(?:/(\d+))?")


class MalformedSdp(ValueError):
    """A body that is no session description."""


@dataclass(frozen=True, slots=True)
class PayloadFormat:
    """One format of a media section: payload type and what it means there."""

    payload_type: int
    name: str
    """In upper case."""
    clock_rate: int
    channels: int = 1
    parameters: str = ""
    """The value of ``a=fmtp``."""


@dataclass(slots=True)
class MediaDescription:
    """An ``m=`` section."""

    kind: str
    port: int
    protocol: str
    formats: list[str]
    connection: str = ""
    """Address of the ``c=`` line that applies: its own, else the session's."""
    family: str = "IP4"
    attributes: list[tuple[str, str]] = field(default_factory=list)
    default_direction: str = "sendrecv"
    """The session's, where the section says nothing."""

    def attribute(self, name: str) -> str | None:
        """The first value of an attribute; empty for a flag."""
        return next((value for known, value in self.attributes if known == name), None)

    @property
    def direction(self) -> str:
        """One of :data:`DIRECTIONS` (RFC 8866 §6.7)."""
        return next((name for name, _ in self.attributes if name in DIRECTIONS), self.default_direction)

    @property
    def ptime(self) -> int | None:
        """``a=ptime`` in milliseconds, limited by ``a=maxptime``; None where nothing sensible is said."""
        values = [_milliseconds(self.attribute(name)) for name in ("ptime", "maxptime")]
        given = [value for value in values if value is not None]
        return min(given) if values[0] is not None and given else None

    @property
    def payload_formats(self) -> list[PayloadFormat]:
        """What the section's payload types mean, in its order; dynamic ones without rtpmap are left out."""
        named: dict[int, tuple[str, int, int]] = {}
        parameters: dict[int, str] = {}
        for name, value in self.attributes:
            if name == "rtpmap" and (match := _RTPMAP.match(value)):
                named[int(match[1])] = (match[2].upper(), int(match[3]), int(match[4] or 1))
            elif name == "fmtp":
                payload_type, _, rest = value.partition(" ")
                if payload_type.isascii() and payload_type.isdigit():
                    parameters[int(payload_type)] = rest.strip()
        found: list[PayloadFormat] = []
        for text in self.formats:
            if not (text.isascii() and text.isdigit()) or int(text) > 127:
                continue
            number = int(text)
            if number in named:
                name, rate, channels = named[number]
            elif number in _STATIC:
                (name, rate), channels = _STATIC[number], 1
            else:
                continue
            found.append(PayloadFormat(number, name, rate, channels, parameters.get(number, "")))
        return found


def _milliseconds(text: str | None) -> int | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return int(value) if 1 <= value <= 1000 else None


@dataclass(slots=True)
class SessionDescription:
    """A session description."""

    origin: str = "- 0 0 IN IP4 0.0.0.0"
    connection: str = ""
    family: str = "IP4"
    attributes: list[tuple[str, str]] = field(default_factory=list)
    media: list[MediaDescription] = field(default_factory=list)

    def __bytes__(self) -> bytes:
        lines = ["v=0", f"o={self.origin}", "s=-"]
        if self.connection:
            lines.append(f"c=IN {self.family} {self.connection}")
        lines.append("t=0 0")
        lines += [_attribute_line(name, value) for name, value in self.attributes]
        for media in self.media:
            lines.append(f"m={media.kind} {media.port} {media.protocol} {' '.join(media.formats)}")
            if media.connection and media.connection != self.connection:
                lines.append(f"c=IN {media.family} {media.connection}")
            lines += [_attribute_line(name, value) for name, value in media.attributes]
        return ("\r\n".join(lines) + "\r\n").encode("utf-8", "surrogateescape")


def _attribute_line(name: str, value: str) -> str:
    return f"a={name}:{value}" if value else f"a={name}"


def parse_sdp(body: bytes) -> SessionDescription:
    """Parses a description; unknown lines are passed over, lines may end in LF, and order is not insisted on.

    Raises:
        MalformedSdp: no ``v=`` line, an unusable ``m=`` line, or beyond the limits.
    """
    if len(body) > MAX_SDP:
        raise MalformedSdp(f"more than {MAX_SDP} bytes of SDP")
    session = SessionDescription()
    current: MediaDescription | None = None
    versioned = False
    for line in body.decode("utf-8", "surrogateescape").replace("\r", "\n").split("\n"):
        kind, equals, value = line.partition("=")
        value = value.strip()
        if not equals:
            continue
        match kind.strip():
            case "v":
                versioned = True
            case "o":
                session.origin = value
            case "c":
                family, address = _connection(value)
                if current is None:
                    session.family, session.connection = family, address
                else:
                    current.family, current.connection = family, address
            case "a":
                name, _, content = value.partition(":")
                (session if current is None else current).attributes.append((name.strip().lower(), content.strip()))
            case "m":
                if len(session.media) >= MAX_MEDIA:
                    raise MalformedSdp(f"more than {MAX_MEDIA} media sections")
                current = _media(value)
                session.media.append(current)
            case _:
                pass
    if not versioned:
        raise MalformedSdp("the body is no SDP")
    direction = next((name for name, _ in session.attributes if name in DIRECTIONS), "sendrecv")
    for media in session.media:
        media.default_direction = direction
        if not media.connection:
            media.family, media.connection = session.family, session.connection
    return session


def _connection(value: str) -> tuple[str, str]:
    pieces = value.split()
    if len(pieces) < 3:
        return "IP4", ""
    # "/ttl" and "/count" belong to multicast and mean nothing here.
    return pieces[1].upper(), pieces[2].partition("/")[0]


def _media(value: str) -> MediaDescription:
    pieces = value.split()
    if len(pieces) < 4:
        raise MalformedSdp("an m= line with fewer than four fields")
    port = pieces[1].partition("/")[0]
    if not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise MalformedSdp("an m= line without a port")
    return MediaDescription(pieces[0].lower(), int(port), pieces[2].upper(), pieces[3:])
