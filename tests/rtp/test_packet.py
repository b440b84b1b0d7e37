"""Packets with padding, CSRC list and header extension (RFC 3550 §5.1, §5.3.1)."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtp.packet import flatten
from tests.rtp.kit import packet

PAYLOAD = bytes(range(160))
EXTENSION = struct.pack("!HH", 0xBEDE, 1) + b"\x10\xff\x00\x00"


def test_padding_is_taken_off() -> None:
    assert flatten(packet(payload=PAYLOAD + b"\0\0\0\x04", first=0xA0)) == packet(payload=PAYLOAD)


def test_a_csrc_list_is_taken_off() -> None:
    assert flatten(packet(payload=bytes(8) + PAYLOAD, first=0x82)) == packet(payload=PAYLOAD)


def test_a_header_extension_is_taken_off() -> None:
    assert flatten(packet(payload=EXTENSION + PAYLOAD, first=0x90)) == packet(payload=PAYLOAD)


def test_all_three_at_once_and_the_marker_stays() -> None:
    odd = packet(payload=bytes(4) + EXTENSION + PAYLOAD + b"\x01", first=0xB1, marker=True, payload_type=8)
    assert flatten(odd) == packet(payload=PAYLOAD, marker=True, payload_type=8)


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"\x80" * 11,
        packet(first=0x40),
        packet(payload=b"", first=0x8F),
        packet(payload=b"\0", first=0x90),
        packet(payload=struct.pack("!HH", 0xBEDE, 9), first=0x90),
        packet(payload=b"\x09", first=0xA0),
        packet(payload=b"\x00", first=0xA0),
    ],
    ids=["empty", "short", "version 1", "no room for CSRC", "cut extension", "long extension", "padding", "padding 0"],
)
def test_what_is_no_packet_is_none(broken: bytes) -> None:
    assert flatten(broken) is None


@given(st.binary(max_size=64))
def test_nothing_a_peer_sends_raises(datagram: bytes) -> None:
    flat = flatten(datagram)
    assert flat is None or (flat[0] == 0x80 and 12 <= len(flat) <= len(datagram))
