"""Whose datagrams are taken, and what becomes of the others."""

from __future__ import annotations

import numpy as np
import pytest

from rtp.receive import TAKEOVER_SILENCE, Kind, SymmetricRtp, classify
from tests.rtp.kit import FAR, Rows, packet

OTHER_PORT = (FAR[0], FAR[1] + 2)
OTHER_HOST = ("192.0.2.8", FAR[1])


def test_a_packet_of_the_far_end_is_taken_apart() -> None:
    """RFC 3550 §5.1."""
    rows = Rows()
    content = packet(0xFFFE, 0xFFFFFF00, b"\x01\x02", payload_type=8, ssrc=0xDEADBEEF, marker=True)
    packets, latched = classify(rows.datagrams((2, content)), rows.routes, rows.counters, 1.0)
    assert packets.rows.tolist() == [2]
    assert packets.sequence.tolist() == [0xFFFE]
    assert packets.timestamp.tolist() == [0xFFFFFF00]
    assert packets.ssrc.tolist() == [0xDEADBEEF]
    assert packets.kind.tolist() == [Kind.PCMA]
    assert packets.marker.tolist() == [True]
    assert packets.payload(0) == b"\x01\x02"
    assert latched == []
    assert rows.routes.settled[2]
    assert rows.routes.last_heard[2] == 1.0


def test_padding_csrc_and_extension_are_taken_off_on_the_way() -> None:
    rows = Rows()
    odd = packet(7, 80, bytes(4) + b"audio" + b"\0\0\x03", first=0xA1)
    packets, _ = classify(rows.datagrams((0, packet(1)), (1, odd)), rows.routes, rows.counters, 1.0)
    assert packets.rows.tolist() == [0, 1]
    assert packets.payload(1) == b"audio"


@pytest.mark.parametrize("content", [b"", b"hello", packet(first=0x00), packet(first=0xC0), packet(first=0xBF)])
def test_what_is_no_rtp_is_malformed(content: bytes) -> None:
    rows = Rows()
    packets, _ = classify(rows.datagrams((0, content), (1, packet())), rows.routes, rows.counters, 1.0)
    assert packets.rows.tolist() == [1]
    assert rows.counters.malformed[:2].tolist() == [1, 0]


def test_unknown_payload_types_and_rtcp_on_the_same_port_are_discarded() -> None:
    """RFC 5761 §4: an RTCP sender report reads as payload type 72."""
    rows = Rows()
    report = bytes((0x80, 200)) + bytes(26)
    packets, _ = classify(rows.datagrams((0, packet(payload_type=18)), (1, report)), rows.routes, rows.counters, 1.0)
    assert len(packets) == 0
    assert rows.counters.discarded[:2].tolist() == [1, 1]


def test_nothing_is_taken_while_nothing_is_to_be_received() -> None:
    """RFC 3264 §5.1: our direction is sendonly or inactive."""
    rows = Rows()
    rows.routes.receiving[0] = False
    packets, _ = classify(rows.datagrams((0, packet())), rows.routes, rows.counters, 1.0)
    assert len(packets) == 0
    assert rows.counters.discarded[0] == 1


def test_another_host_is_a_stranger() -> None:
    rows = Rows()
    packets, latched = classify(rows.datagrams((0, packet()), source=OTHER_HOST), rows.routes, rows.counters, 1.0)
    assert (len(packets), latched) == (0, [])
    assert rows.counters.strangers[0] == 1
    assert not rows.routes.settled[0]


def test_another_port_of_the_host_takes_over_before_the_sdp_address_was_heard() -> None:
    """Symmetric RTP, RFC 4961."""
    rows = Rows()
    packets, latched = classify(rows.datagrams((0, packet()), source=OTHER_PORT), rows.routes, rows.counters, 1.0)
    assert (len(packets), latched) == (1, [(0, 0)])
    packets, latched = classify(rows.datagrams((0, packet(1)), source=OTHER_PORT), rows.routes, rows.counters, 1.02)
    assert (len(packets), latched) == (1, [])
    assert rows.counters.strangers[0] == 0


@pytest.mark.parametrize("content", [b"no rtp", packet(payload_type=99)])
def test_only_a_well_formed_packet_with_an_agreed_payload_type_takes_over(content: bytes) -> None:
    rows = Rows()
    _, latched = classify(rows.datagrams((0, content), source=OTHER_PORT), rows.routes, rows.counters, 1.0)
    assert latched == []
    assert not rows.routes.settled[0]


def test_another_port_is_a_stranger_while_the_source_is_alive() -> None:
    rows = Rows()
    classify(rows.datagrams((0, packet())), rows.routes, rows.counters, 1.0)
    alive = 1.0 + TAKEOVER_SILENCE - 0.01
    packets, latched = classify(rows.datagrams((0, packet(1)), source=OTHER_PORT), rows.routes, rows.counters, alive)
    assert (len(packets), latched) == (0, [])
    assert rows.counters.strangers[0] == 1


def test_another_port_takes_over_from_a_source_that_fell_silent() -> None:
    rows = Rows()
    classify(rows.datagrams((0, packet())), rows.routes, rows.counters, 1.0)
    silent = 1.0 + TAKEOVER_SILENCE
    packets, latched = classify(rows.datagrams((0, packet(1)), source=OTHER_PORT), rows.routes, rows.counters, silent)
    assert (len(packets), latched) == (1, [(0, 0)])
    third = rows.datagrams((0, packet(2)), source=("192.0.2.7", 40004))
    packets, _ = classify(third, rows.routes, rows.counters, silent + 0.02)
    assert len(packets) == 0
    assert rows.counters.strangers[0] == 1


def test_the_sdp_address_has_its_stream_back_from_a_port_that_was_heard_first() -> None:
    """What was heard first were the last packets of the call that had this port before."""
    rows = Rows()
    classify(rows.datagrams((0, packet(900)), source=OTHER_PORT), rows.routes, rows.counters, 1.0)
    packets, latched = classify(rows.datagrams((0, packet())), rows.routes, rows.counters, 1.02)
    assert (len(packets), latched) == (1, [(0, 0)])
    packets, latched = classify(rows.datagrams((0, packet(901)), source=OTHER_PORT), rows.routes, rows.counters, 1.04)
    assert (len(packets), latched) == (0, [])
    packets, latched = classify(rows.datagrams((0, packet(1))), rows.routes, rows.counters, 1.06)
    assert (len(packets), latched) == (1, [])
    assert rows.counters.strangers[0] == 1


def test_by_the_strict_rule_no_other_port_is_ever_taken() -> None:
    rows = Rows()
    rows.routes.rule = "strict"
    for now in (1.0, 100.0):
        packets, latched = classify(rows.datagrams((0, packet()), source=OTHER_PORT), rows.routes, rows.counters, now)
        assert (len(packets), latched) == (0, [])
    packets, _ = classify(rows.datagrams((0, packet())), rows.routes, rows.counters, 101.0)
    assert len(packets) == 1
    assert rows.counters.strangers[0] == 2


def test_by_the_open_rule_any_port_of_the_host_is_taken_and_no_other_host() -> None:
    rows = Rows()
    rows.routes.rule = "any-port"
    classify(rows.datagrams((0, packet())), rows.routes, rows.counters, 1.0)
    packets, latched = classify(rows.datagrams((0, packet(1)), source=OTHER_PORT), rows.routes, rows.counters, 1.02)
    assert (len(packets), latched) == (1, [(0, 0)])
    packets, _ = classify(rows.datagrams((0, packet(2)), source=OTHER_HOST), rows.routes, rows.counters, 1.04)
    assert len(packets) == 0
    assert rows.counters.strangers[0] == 1


@pytest.mark.parametrize("rule", ["auto", "strict", "any-port"])
def test_nobody_at_another_host_takes_a_call_over_whatever_he_knows(rule: SymmetricRtp) -> None:
    """With the right SSRC, payload type and next sequence number, before, during and long after the far end's audio."""
    rows = Rows()
    rows.routes.rule = rule
    before = rows.routes.source[0].copy()
    for number, now in enumerate((1.0, 2.0, 60.0)):
        forged = rows.datagrams((0, packet(number + 1, marker=True)), source=OTHER_HOST)
        packets, latched = classify(forged, rows.routes, rows.counters, now)
        assert (len(packets), latched) == (0, [])
        classify(rows.datagrams((0, packet(number))), rows.routes, rows.counters, now + 0.5)
        assert np.array_equal(rows.routes.source[0], before)
    assert rows.counters.strangers[0] == 3


def test_a_read_that_brought_nothing_is_nothing() -> None:
    rows = Rows()
    datagrams = rows.datagrams((0, b""))
    datagrams.lengths[0] = -1
    packets, _ = classify(datagrams, rows.routes, rows.counters, 1.0)
    assert len(packets) == 0
    assert rows.counters.malformed[0] == rows.counters.strangers[0] == 0


def test_before_it_is_configured_a_stream_takes_nothing() -> None:
    rows = Rows()
    rows.routes.reset([0])
    packets, _ = classify(rows.datagrams((0, packet())), rows.routes, rows.counters, 1.0)
    assert len(packets) == 0
    assert np.array_equal(rows.counters.strangers[:2], [1, 0])
