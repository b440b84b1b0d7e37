"""Session descriptions (RFC 8866): parsed tolerantly, printed strictly. Only what audio calls need is understood.

Left out: everything a telephone call does without, such as bandwidth, time zones and grouping.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Direction", "MalformedSdp", "MediaDescription", "PayloadFormat", "SessionDescription", "parse_sdp"]

Direction = Literal["sendrecv", "sendonly", "recvonly", "inactive"]
"""What the side that writes it wants to do (RFC 8866 §6.7)."""

MAX_SDP = 16_384
"""Bytes; a longer description is refused."""
MAX_MEDIA = 16
"""Media sections; more are refused."""
DIRECTIONS: tuple[Direction, ...] = ("sendrecv", "sendonly", "recvonly", "inactive")

_RTPMAP = re.compile(r"([0-9]{1,3})\s+([^/\s]+)/([0-9]{1,6})(?:/([0-9]{1,3}))?(?!\S)")


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


STATIC_FORMATS = (
    PayloadFormat(0, "PCMU", 8000),
    PayloadFormat(3, "GSM", 8000),
    PayloadFormat(8, "PCMA", 8000),
    PayloadFormat(9, "G722", 8000),
    PayloadFormat(13, "CN", 8000),
    PayloadFormat(18, "G729", 8000),
)
"""Payload types that need no rtpmap (RFC 3551 table 4)."""


@dataclass(slots=True)
class MediaDescription:
    """An ``m=`` section."""

    kind: str
    """``audio``, ``video`` …, as written."""
    port: int
    protocol: str
    """``RTP/AVP`` …, as written."""
    formats: list[str]
    connection: str = ""
    """Address of the ``c=`` line that applies: its own, else the session's; empty where there is none."""
    family: str = "IP4"
    attributes: list[tuple[str, str]] = field(default_factory=list, repr=False)
    """Names in lower case, and values; keys of SRTP are among them."""
    default_direction: Direction = "sendrecv"
    """The session's, where the section says nothing."""

    def attribute(self, name: str) -> str | None:
        """The first value of an attribute; empty for a flag."""
        for known, value in self.attributes:
            if known == name:
                return value
        return None

    @property
    def is_audio(self) -> bool:
        """Audio, by whatever profile, and not switched off."""
        return self.kind.lower() == "audio" and self.port > 0

    @property
    def direction(self) -> Direction:
        """The section's direction attribute, else the session's."""
        return _direction(self.attributes, self.default_direction)

    def packet_time(self, default: int) -> int:
        """Milliseconds of audio a packet for this side's peer shall hold: ``a=ptime``, else ``default``, up to
        ``a=maxptime`` (RFC 8866 §6.4)."""
        wanted = _milliseconds(self.attribute("ptime")) or default
        return min(wanted, _milliseconds(self.attribute("maxptime")) or wanted)

    def payload_formats(self, implied: Iterable[PayloadFormat] = ()) -> list[PayloadFormat]:
        """What the section's payload types mean, in its order.

        Args:
            implied: meanings of payload types that come without rtpmap, beside :data:`STATIC_FORMATS`; what neither
                names is left out.
        """
        described = tuple(each for each in self.attributes if each[0] in ("rtpmap", "fmtp"))
        return list(_payload_formats(tuple(self.formats), described, tuple(implied)))


@lru_cache(256)
def _payload_formats(
    types: tuple[str, ...], attributes: tuple[tuple[str, str], ...], implied: tuple[PayloadFormat, ...]
) -> tuple[PayloadFormat, ...]:
    """See :meth:`MediaDescription.payload_formats`. Remembered: all calls of a far end say the same."""
    named = {each.payload_type: each for each in (*STATIC_FORMATS, *implied)}
    parameters: dict[int, str] = {}
    for name, value in attributes:
        if name == "rtpmap" and (match := _RTPMAP.match(value)):
            number = int(match[1])
            named[number] = PayloadFormat(number, match[2].upper(), int(match[3]), int(match[4] or 1))
        elif name == "fmtp":
            text, _, rest = value.partition(" ")
            parameters[_number(text, 127)] = rest.strip()
    numbers = (_number(text, 127) for text in types)
    return tuple(replace(named[each], parameters=parameters.get(each, "")) for each in numbers if each in named)


def _direction(attributes: list[tuple[str, str]], default: Direction) -> Direction:
    names = dict(attributes)
    for direction in DIRECTIONS:
        if direction in names:
            return direction
    return default


def _number(text: str, highest: int) -> int:
    """A decimal number from 0 to ``highest``; -1 where it is none."""
    if not (text.isascii() and text.isdigit()) or len(text) > 5:
        return -1
    return int(text) if int(text) <= highest else -1


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
    attributes: list[tuple[str, str]] = field(default_factory=list, repr=False)
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
            case "a":  # most lines are
                name, _, content = value.partition(":")
                (session if current is None else current).attributes.append((name.strip().lower(), content.strip()))
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
            case "m":
                if len(session.media) >= MAX_MEDIA:
                    raise MalformedSdp(f"more than {MAX_MEDIA} media sections")
                current = _media(value)
                session.media.append(current)
            case _:
                pass
    if not versioned:
        raise MalformedSdp("the body is no SDP")
    direction = _direction(session.attributes, "sendrecv")
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
    port = _number(pieces[1].partition("/")[0], 65535)
    if port < 0:
        raise MalformedSdp("an m= line without a port")
    return MediaDescription(pieces[0], port, pieces[2], pieces[3:])
