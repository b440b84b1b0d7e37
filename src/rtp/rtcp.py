"""RTCP packets (RFC 3550 §6): what is reported, as values and as bytes.

Compound packets are written strictly and read tolerantly: unknown packet types, profile-specific extensions and padding
are passed over, and whatever bytes a peer sends, nothing is raised.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

__all__ = ["Received", "ReportBlock", "SenderInfo", "compound", "middle_of", "ntp_time", "parse"]

VERSION = 0x80
SENDER_REPORT, RECEIVER_REPORT, SOURCE_DESCRIPTION, GOODBYE = 200, 201, 202, 203
KINDS = range(200, 214)
CNAME = 1
NTP_EPOCH = 2_208_988_800
"""1970 in seconds since 1900."""
LOST_LEAST, LOST_MOST = -(1 << 23), (1 << 23) - 1
_BLOCK = struct.Struct("!IB3sIIII")
_SENDER = struct.Struct("!QIII")


@dataclass(frozen=True, slots=True)
class ReportBlock:
    """How one source is received (§6.4.1)."""

    ssrc: int
    fraction_lost: int
    """Of 256, since the report before."""
    lost: int
    """In all; below zero where duplicates outnumber losses."""
    highest_sequence: int
    """With its cycles, 32 bits."""
    jitter: int
    """In units of the timestamps."""
    last_report: int
    """Middle 32 bits of the NTP time of the last sender report that came; 0 when none did."""
    since_last_report: int
    """Time since it came, in units of 1/65,536 s."""

    def __bytes__(self) -> bytes:
        lost = max(LOST_LEAST, min(self.lost, LOST_MOST)) & 0xFFFFFF
        return _BLOCK.pack(
            self.ssrc,
            max(0, min(self.fraction_lost, 255)),
            lost.to_bytes(3),
            self.highest_sequence & 0xFFFFFFFF,
            min(self.jitter, 0xFFFFFFFF),
            self.last_report,
            min(self.since_last_report, 0xFFFFFFFF),
        )


@dataclass(frozen=True, slots=True)
class SenderInfo:
    """What a sender has sent, and when that is on both its clocks (§6.4.1)."""

    ntp: int
    """64 bits."""
    timestamp: int
    packets: int
    octets: int

    def __bytes__(self) -> bytes:
        return _SENDER.pack(self.ntp, self.timestamp & 0xFFFFFFFF, self.packets & 0xFFFFFFFF, self.octets & 0xFFFFFFFF)


@dataclass(frozen=True, slots=True)
class Received:
    """What a compound packet says of its sender."""

    ssrc: int
    sender: SenderInfo | None
    blocks: tuple[ReportBlock, ...]
    cname: bytes = b""
    goodbye: bool = False


def ntp_time(seconds: float) -> int:
    """Seconds since 1970 as 64 bits of NTP time (§4)."""
    return int((seconds + NTP_EPOCH) * (1 << 32)) & 0xFFFFFFFFFFFFFFFF


def middle_of(ntp: int) -> int:
    """The middle 32 bits: 16 of seconds, 16 of their fraction."""
    return ntp >> 16 & 0xFFFFFFFF


def compound(
    ssrc: int, sender: SenderInfo | None, blocks: tuple[ReportBlock, ...], cname: bytes, *, goodbye: bool = False
) -> bytes:
    """A sender or receiver report, the CNAME, and BYE at the end (§6.1)."""
    body = struct.pack("!I", ssrc) + (bytes(sender) if sender is not None else b"") + b"".join(map(bytes, blocks))
    report = _packet(SENDER_REPORT if sender is not None else RECEIVER_REPORT, len(blocks), body)
    chunk = struct.pack("!IBB", ssrc, CNAME, len(cname)) + cname + b"\0"
    described = _packet(SOURCE_DESCRIPTION, 1, chunk + bytes(-len(chunk) % 4))
    return report + described + (_packet(GOODBYE, 1, struct.pack("!I", ssrc)) if goodbye else b"")


def _packet(kind: int, count: int, body: bytes) -> bytes:
    return struct.pack("!BBH", VERSION | count, kind, len(body) // 4) + body


def parse(data: bytes) -> Received | None:
    """A datagram of one or more RTCP packets; None when it is none.

    It need not begin with a report, as §6.1 wants it to: reduced-size ones (RFC 5506) do not, nor do the lone APP
    packets with which some open their NAT.
    """
    packets = _split(data)
    if not packets or packets[0][0] not in KINDS or len(packets[0][2]) < 4:
        return None
    ssrc = int.from_bytes(packets[0][2][:4])
    sender: SenderInfo | None = None
    blocks: list[ReportBlock] = []
    cname = b""
    goodbye = False
    for kind, count, body in packets:
        if kind in (SENDER_REPORT, RECEIVER_REPORT):
            head = 4 + (_SENDER.size if kind == SENDER_REPORT else 0)
            if len(body) < head + count * _BLOCK.size:
                return None
            own = int.from_bytes(body[:4])
            if own != ssrc:
                continue  # a mixer's report of another source
            if kind == SENDER_REPORT:
                sender = SenderInfo(*_SENDER.unpack_from(body, 4))
            blocks += [_block(body, head + number * _BLOCK.size) for number in range(count)]
        elif kind == SOURCE_DESCRIPTION:
            cname = cname or _cname(body, ssrc)
        elif kind == GOODBYE:
            goodbye |= any(body[at : at + 4] == ssrc.to_bytes(4) for at in range(0, 4 * count, 4))
    return Received(ssrc, sender, tuple(blocks), cname, goodbye)


def _split(data: bytes) -> list[tuple[int, int, bytes]]:
    """Type, count and body of each packet; none where the lengths do not add up."""
    packets = []
    at = 0
    while at < len(data):
        if len(data) - at < 4:
            return []
        first, kind, words = struct.unpack_from("!BBH", data, at)
        end = at + 4 + 4 * words
        if first >> 6 != 2 or end > len(data):
            return []
        body = data[at + 4 : end]
        if first & 0x20:  # padding, of the last packet only (§6.4.1)
            if not body or not 0 < body[-1] <= len(body) or end != len(data):
                return []
            body = body[: -body[-1]]
        packets.append((kind, first & 0x1F, body))
        at = end
    return packets


def _block(body: bytes, at: int) -> ReportBlock:
    ssrc, fraction, lost, highest, jitter, last, since = _BLOCK.unpack_from(body, at)
    return ReportBlock(ssrc, fraction, int.from_bytes(lost, signed=True), highest, jitter, last, since)


def _cname(body: bytes, ssrc: int) -> bytes:
    """Of the chunk of ``ssrc``, where that comes first; empty where there is none (§6.5)."""
    if body[:4] != ssrc.to_bytes(4):
        return b""
    at = 4
    while at + 1 < len(body) and body[at]:
        kind, length = body[at], body[at + 1]
        if kind == CNAME:
            return body[at + 2 : at + 2 + length]
        at += 2 + length
    return b""
