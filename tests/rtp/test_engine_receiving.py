"""What the engine hears, tick by tick: order, loss, latching on to where audio comes from."""

from __future__ import annotations

import numpy as np
import pytest

from rtp.engine import MediaEngine
from rtp.g711 import Law, decode, encode
from rtp.receive import TAKEOVER_SILENCE
from rtp.sources import ArraySource
from tests.rtp.by_hand import FRAME, HOST, PREFETCH, Ear, configure, configured, tick
from tests.rtp.kit import FarEnd, packet, tone


async def test_two_streams_hear_each_other_to_the_sample(engine: MediaEngine) -> None:
    one, two = engine.open_stream(HOST), engine.open_stream(HOST)
    configure(one, (HOST, two.local_port), codec="PCMA", payload_type=8)
    configure(two, (HOST, one.local_port))
    ears = [Ear(), Ear()]
    one.add_sink(ears[0])
    two.add_sink(ears[1])
    said = [tone(20 * FRAME, hertz=500.0), tone(20 * FRAME, hertz=900.0)]
    one.play(ArraySource(said[0]))
    two.play(ArraySource(said[1]))
    tick(engine, 25)
    for ear, samples, law in ((ears[1], said[0], Law.PCMA), (ears[0], said[1], Law.PCMU)):
        expected = decode(encode(samples, law), law)
        assert np.array_equal(ear.heard[PREFETCH * FRAME :][: 20 * FRAME], expected)
    statistics = two.statistics()
    assert (statistics.packets_sent, statistics.packets_received) == (25, 25)
    assert (statistics.lost, statistics.late, statistics.duplicates, statistics.concealed) == (0, 0, 0, 0)


async def test_every_tick_gives_every_sink_one_frame(engine: MediaEngine, far: FarEnd) -> None:
    """A recording is as long as the call by the clock, whatever came."""
    stream = engine.open_stream(HOST)
    ears = [Ear(), Ear()]
    stream.add_sink(ears[0])
    tick(engine, 2)
    configure(stream, far.address)
    stream.add_sink(ears[1])
    for number in (0, 1, 4, 5):
        far.send(packet(number, number * FRAME), stream.local_port)
        tick(engine)
    configure(stream, far.address, receive=False)
    tick(engine, 3)
    assert [len(ear.frames) for ear in ears] == [9, 7]


async def test_loss_is_counted_and_concealed(engine: MediaEngine, far: FarEnd) -> None:
    stream = configured(engine, far.address)
    ear = Ear()
    stream.add_sink(ear)
    code = int(encode(np.array([4000], np.int16), Law.PCMU)[0])
    for number in range(12):
        if number not in (5, 6):
            far.send(packet(number, number * FRAME, bytes([code]) * FRAME), stream.local_port)
        tick(engine)
    statistics = stream.statistics()
    assert (statistics.lost, statistics.concealed) == (2, 2)
    level = [int(np.max(frame)) for frame in ear.frames]
    assert level[PREFETCH + 5] == level[PREFETCH + 4]
    assert 0 < level[PREFETCH + 6] < level[PREFETCH + 5]
    assert level[PREFETCH + 7] == level[PREFETCH + 4]


async def test_duplicates_strangers_and_rubbish_are_counted(engine: MediaEngine, far: FarEnd) -> None:
    stream = configured(engine, far.address)
    with FarEnd() as stranger:
        far.send(packet(0), stream.local_port)
        tick(engine)
        stranger.send(packet(1), stream.local_port)
        far.send(packet(0), stream.local_port)
        far.send(b"hello", stream.local_port)
        far.send(packet(1, payload_type=77), stream.local_port)
        tick(engine)
    statistics = stream.statistics()
    assert (statistics.packets_received, statistics.duplicates) == (2, 1)
    assert (statistics.strangers, statistics.malformed, statistics.discarded) == (1, 1, 1)


async def test_a_far_end_that_sends_from_another_port_is_answered_there(engine: MediaEngine, far: FarEnd) -> None:
    """Symmetric RTP (RFC 4961): the first packet from the same host latches, once."""
    with FarEnd() as natted:
        stream = configured(engine, far.address)
        tick(engine)
        assert far.waiting() == 1
        natted.send(packet(0), stream.local_port)
        tick(engine, 2)
        assert far.waiting() == 1
        assert natted.waiting() == 1
        with FarEnd() as third:
            third.send(packet(1), stream.local_port)
            tick(engine)
        assert stream.statistics().strangers == 1
        configure(stream, far.address, send=True)
        tick(engine)
        assert natted.waiting() == 2
        with FarEnd() as moved:
            configure(stream, moved.address)
            tick(engine)
            assert moved.waiting() == 1


async def test_silence_of_the_source_opens_the_latch_again(
    engine: MediaEngine, far: FarEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("rtp.engine.time.monotonic", lambda: now)
    with FarEnd() as other:
        stream = configured(engine, far.address)
        far.send(packet(0), stream.local_port)
        tick(engine)
        now += TAKEOVER_SILENCE + 0.1
        assert stream.seconds_since_received() == pytest.approx(TAKEOVER_SILENCE + 0.1)
        other.send(packet(1), stream.local_port)
        tick(engine, 2)
        assert stream.seconds_since_received() == 0.0
        assert other.waiting() == 1


async def test_a_flood_on_one_stream_does_not_hold_a_tick_up(engine: MediaEngine, far: FarEnd) -> None:
    stream = configured(engine, far.address)
    for number in range(100):
        far.send(packet(number, number * FRAME), stream.local_port)
    tick(engine)
    assert stream.statistics().packets_received == 16


async def test_a_new_source_is_heard_at_once(engine: MediaEngine, far: FarEnd) -> None:
    """RFC 3550 §8: the SSRC changes when an announcement gives way to a person."""
    stream = configured(engine, far.address)
    ear = Ear()
    stream.add_sink(ear)
    loud = bytes([int(encode(np.array([9000], np.int16), Law.PCMU)[0])]) * FRAME
    for number in range(6):
        far.send(packet(number, number * FRAME, ssrc=1), stream.local_port)
        tick(engine)
    for number in range(8):
        far.send(packet(500 + number, 123456 + number * FRAME, loud, ssrc=2), stream.local_port)
        tick(engine)
    assert [bool(np.max(frame) > 8000) for frame in ear.frames] == [False] * (6 + PREFETCH) + [True] * (8 - PREFETCH)
    assert stream.statistics().lost == 0


async def test_announced_silence_is_heard_as_noise_and_concealed_as_nothing(engine: MediaEngine, far: FarEnd) -> None:
    """RFC 3389: payload type 13, agreed on or not."""
    stream = configured(engine, far.address)
    ear = Ear()
    stream.add_sink(ear)
    for number in range(5):
        far.send(packet(number, number * FRAME), stream.local_port)
        tick(engine)
    far.send(packet(5, 5 * FRAME, bytes((45,)), payload_type=13), stream.local_port)
    tick(engine, 20)
    noise = np.concatenate(ear.frames[PREFETCH + 6 :]).astype(float)
    assert -20 * np.log10(np.sqrt((noise**2).mean()) / 32768) == pytest.approx(45, abs=1)
    statistics = stream.statistics()
    assert (statistics.concealed, statistics.underruns, statistics.lost, statistics.discarded) == (0, 0, 0, 0)


async def test_the_jitter_buffer_is_set_by_the_engine_and_told_in_the_statistics(far: FarEnd) -> None:
    for bounds, expected in (((20, 200), 60.0), ((100, 100), 100.0), ((20, 40), 40.0)):
        engine = MediaEngine(ports=(20000, 59999), jitter_min_ms=bounds[0], jitter_max_ms=bounds[1])
        stream = configured(engine, far.address)
        far.send(packet(), stream.local_port)
        tick(engine)
        assert stream.statistics().delay_ms == stream.statistics().target_delay_ms == expected
        await engine.close()
