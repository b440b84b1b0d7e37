"""RTCP packets: vectors by hand from RFC 3550's figures, and whatever else peers send."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtp.control import LEAST_INTERVAL, interval
from rtp.quality import mean_opinion, rating
from rtp.rtcp import ReportBlock, SenderInfo, compound, middle_of, ntp_time, parse

BLOCK = ReportBlock(0xCAFE, 64, -3, 0x0001FFFE, 88, 0x12345678, 65536)
SENDER = SenderInfo(0xDEADBEEF_01234567, 160000, 1000, 160000)

VECTOR = bytes.fromhex(
    "81c8000c 0000beef deadbeef01234567 00027100 000003e8 00027100"  # §6.4.1: SR, one block, 13 words
    "0000cafe 40fffffd 0001fffe 00000058 12345678 00010000"
    "81ca0003 0000beef 01036162 63000000"  # §6.5: SDES, one chunk, CNAME "abc"
    "81cb0001 0000beef"  # §6.6: BYE
)


def test_a_sender_report_with_cname_and_bye_is_what_the_figures_say() -> None:
    """RFC 3550 §6.1, §6.4.1, §6.5, §6.6."""
    assert compound(0xBEEF, SENDER, (BLOCK,), b"abc", goodbye=True) == VECTOR


def test_and_is_read_back() -> None:
    received = parse(VECTOR)
    assert received is not None
    assert (received.ssrc, received.sender, received.blocks) == (0xBEEF, SENDER, (BLOCK,))
    assert (received.cname, received.goodbye) == (b"abc", True)


def test_a_receiver_report_without_blocks() -> None:
    """§6.4.2: an empty RR heads a compound packet of who neither sent nor heard anything."""
    content = compound(7, None, (), b"x" * 16)
    assert content[:8] == bytes.fromhex("80c9000100000007")
    assert len(content) % 4 == 0
    received = parse(content)
    assert received is not None
    assert (received.ssrc, received.sender, received.blocks, received.goodbye) == (7, None, (), False)


def test_extensions_padding_unknown_types_and_other_sources_are_passed_over() -> None:
    """§6.4.3 profile-specific extensions; §6.4.1 padding; RFC 3611 extended reports (207)."""
    body = struct.pack("!I", 5) + bytes(BLOCK) + b"more"
    extended = struct.pack("!BBH", 0x81, 201, len(body) // 4) + body
    unknown = struct.pack("!BBHI", 0x80, 207, 1, 5)
    mixed = struct.pack("!BBHI", 0x80, 201, 1, 6)
    padded = struct.pack("!BBHI", 0xA1, 203, 2, 5) + b"\0\0\0\x04"
    received = parse(extended + unknown + mixed + padded)
    assert received is not None
    assert (received.ssrc, received.blocks, received.goodbye) == (5, (BLOCK,), True)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80",
        VECTOR[:-1],
        VECTOR[:30],
        b"\x80\xc8\x00\x00",  # nobody's
        struct.pack("!BBHI", 0x80, 99, 1, 5),  # no type of RTCP
        b"\x00" + VECTOR[1:],  # version 0
        b"\x9f" + VECTOR[1:],  # 31 blocks in 13 words
        struct.pack("!BBHI", 0xA0, 201, 1, 255),  # padding longer than the packet
    ],
)
def test_what_is_no_compound_packet_is_none(data: bytes) -> None:
    assert parse(data) is None


def test_a_report_need_not_come_first() -> None:
    """RFC 5506; baresip opens its NAT with a lone APP packet (§6.7)."""
    received = parse(VECTOR[52:])
    assert received is not None
    assert (received.ssrc, received.cname, received.blocks) == (0xBEEF, b"abc", ())
    received = parse(struct.pack("!BBHI", 0x80, 204, 2, 7) + b"PING")
    assert received is not None
    assert received.ssrc == 7


@given(st.binary(max_size=120) | st.binary(max_size=100).map(lambda tail: VECTOR[:4] + tail))
def test_no_bytes_raise(data: bytes) -> None:
    parse(data)
    parse(VECTOR[:52] + data)


def test_numbers_beyond_their_fields_are_cut() -> None:
    block = ReportBlock(1, 999, 1 << 30, 1 << 40, 1 << 40, 0, 1 << 40)
    received = parse(compound(1, SenderInfo(0, 1 << 33, 1 << 32, 5), (block,), b""))
    assert received is not None
    assert received.blocks[0].lost == (1 << 23) - 1
    assert received.blocks[0].fraction_lost == 255
    assert received.sender == SenderInfo(0, 0, 0, 5)


def test_ntp_time() -> None:
    """§4: seconds since 1900, as 32 and 32 bits."""
    assert ntp_time(0.5) == 2_208_988_800 << 32 | 1 << 31
    assert middle_of(0x11112222_33334444) == 0x22223333


def test_the_interval_is_random_and_five_seconds_in_the_mean() -> None:
    """§6.3.1: 0.5 to 1.5 times, divided by e - 3/2; half at first."""
    rng = random.Random(1)
    values = [interval(rng, first=False) for _ in range(4000)]
    compensation = 2.71828 - 1.5
    assert min(values) >= 0.5 * LEAST_INTERVAL / compensation - 0.001
    assert max(values) <= 1.5 * LEAST_INTERVAL / compensation + 0.001
    assert len(set(values)) > 3900
    assert max(interval(rng, first=True) for _ in range(1000)) <= 0.75 * LEAST_INTERVAL / compensation + 0.001


def test_the_estimate_of_quality() -> None:
    """ITU-T G.107: 93.2 is 4.41; G.113 App. I: with Bpl 25.1, 5 % loss costs 15.8 points of R."""
    assert mean_opinion(rating(0.0, 0.0)) == pytest.approx(4.41, abs=0.01)
    assert rating(0.0, 0.0) - rating(0.05, 0.0) == pytest.approx(15.8, abs=0.1)
    assert rating(0.0, 177.3) - rating(0.0, 277.3) == pytest.approx(2.4 + 11, abs=0.01)
    scale = [mean_opinion(rating(loss / 100, 100)) for loss in (0, 1, 3, 10, 30, 100)]
    assert scale == sorted(scale, reverse=True)
    assert mean_opinion(rating(1.0, 2000)) == 1.0
