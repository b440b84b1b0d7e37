"""The one door to aiortp: RTP packets that are not the plain twelve-byte-header kind (RFC 3550 §5.1, §5.3.1)."""

from __future__ import annotations

from aiortp.packet import RtpPacket

__all__ = ["HEADER_LENGTH", "flatten"]

HEADER_LENGTH = 12
"""Bytes of an RTP header without CSRC list and extension."""


def flatten(datagram: bytes) -> bytes | None:
    """The same packet without padding, CSRC list and header extension; None when it is not a well-formed RTP packet.

    Whatever bytes a peer sends, nothing is raised.
    """
    try:
        packet = RtpPacket.parse(datagram)
    except Exception:
        return None
    return bytes((0x80,)) + datagram[1:HEADER_LENGTH] + packet.payload
