"""Keys as telephone-events (RFC 4733) out of the engine and into it, tick by tick."""

from __future__ import annotations

import logging
import struct

import numpy as np
import pytest

from rtp.engine import MediaEngine
from rtp.g711 import Law, decode, encode
from rtp.sources import ArraySource
from tests.rtp.by_hand import FRAME, HOST, PREFETCH, Ear, configure, configured, tick
from tests.rtp.kit import FarEnd, packet, tone


async def test_digits_go_out_and_come_in_and_the_wav_waits(engine: MediaEngine) -> None:
    """RFC 4733: events share the audio's numbers; the wav is not cut."""
    one, two = engine.open_stream(HOST), engine.open_stream(HOST)
    configure(one, (HOST, two.local_port))
    configure(two, (HOST, one.local_port))
    digits: list[tuple[str, int]] = []
    two.on_dtmf = lambda digit, duration: digits.append((digit, duration))
    ear = Ear()
    two.add_sink(ear)
    samples = tone(6 * FRAME)
    playback = one.play(ArraySource(samples))
    tick(engine, 3)
    keys = one.send_dtmf("4#", duration_ms=100, gap_ms=60)
    tick(engine, 40)
    assert digits == [("4", 100), ("#", 100)]
    assert (await keys).completed
    assert keys.total_seconds == keys.played_seconds == 2 * (0.1 + 0.04 + 0.06)
    assert (await playback).completed
    expected = decode(encode(samples, Law.PCMU), Law.PCMU)
    heard = ear.heard[PREFETCH * FRAME :]
    assert np.array_equal(heard[: 3 * FRAME], expected[: 3 * FRAME])
    assert np.array_equal(heard[23 * FRAME : 26 * FRAME], expected[3 * FRAME :])
    assert two.statistics().lost == 0
    assert two.statistics().concealed <= 8


async def test_cancelled_digits_end_properly(engine: MediaEngine, far: FarEnd) -> None:
    stream = configured(engine, far.address)
    keys = stream.send_dtmf("123", duration_ms=400)
    tick(engine, 3)
    keys.cancel()
    tick(engine, 10)
    packets = [far.receive() for _ in range(13)]
    events = [entry for entry in packets if entry[1] == 101]
    assert len({entry[3] for entry in events}) == 1
    assert [bool(entry[5][1] & 0x80) for entry in events] == [False] * 3 + [True] * 3
    assert not (await keys).completed
    assert [(entry[2] - packets[0][2]) & 0xFFFF for entry in packets] == list(range(13))


async def test_digits_are_sent_while_muted(engine: MediaEngine, far: FarEnd) -> None:
    stream = configured(engine, far.address)
    stream.mute()
    stream.send_dtmf("1")
    tick(engine)
    assert far.receive()[1] == 101


@pytest.mark.parametrize(("digits", "message"), [("", "no digit"), ("12x", "not a DTMF digit")])
async def test_bad_digits_are_refused(engine: MediaEngine, far: FarEnd, digits: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        configured(engine, far.address).send_dtmf(digits)


async def test_without_telephone_events_no_digit_can_be_sent(engine: MediaEngine, far: FarEnd) -> None:
    stream = configured(engine, far.address, dtmf_payload_type=None)
    with pytest.raises(ValueError, match="telephone events"):
        stream.send_dtmf("1")


async def test_a_lost_end_of_a_digit_is_told_by_the_clock(engine: MediaEngine, far: FarEnd) -> None:
    stream = configured(engine, far.address)
    digits: list[str] = []
    stream.on_dtmf = lambda digit, duration: digits.append(digit)
    far.send(packet(0, 0, struct.pack("!BBH", 8, 10, 160), payload_type=101), stream.local_port)
    tick(engine, 20)
    assert digits == ["8"]


async def test_a_digit_without_its_end_is_told_when_the_stream_is_closed(engine: MediaEngine, far: FarEnd) -> None:
    """Pressed right before the call ended, its last packets lost."""
    stream = configured(engine, far.address)
    digits: list[tuple[str, int]] = []
    stream.on_dtmf = lambda digit, duration: digits.append((digit, duration))
    far.send(packet(0, 0, struct.pack("!BBH", 8, 10, 320), payload_type=101), stream.local_port)
    tick(engine, 2)
    assert digits == []
    stream.close()
    stream.close()
    assert digits == [("8", 40)]


async def test_a_dtmf_handler_that_fails_is_logged(
    engine: MediaEngine, far: FarEnd, caplog: pytest.LogCaptureFixture
) -> None:
    stream = configured(engine, far.address)

    def fail(digit: str, duration: int) -> None:
        raise RuntimeError("no")

    stream.on_dtmf = fail
    far.send(packet(0, 0, struct.pack("!BBH", 8, 0x80, 160), payload_type=101), stream.local_port)
    with caplog.at_level(logging.ERROR):
        tick(engine, 2)
    assert "DTMF handler failed" in caplog.text
