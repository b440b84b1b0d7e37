"""The engine tick by tick: ticks are called by hand, packets cross the loopback, no clock runs."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import socket
import struct
import weakref
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rtp import kernel
from rtp.engine import MediaEngine
from rtp.g711 import SILENCE, Law, decode, encode
from rtp.incoming import PLAY_OUT_FRAMES
from rtp.outgoing import CATCH_UP_FRAMES
from rtp.ports import NoPortAvailable
from rtp.receive import TAKEOVER_SILENCE
from rtp.sinks import CallbackSink
from rtp.sources import ArraySource
from rtp.stream import RtpStream
from tests.rtp.kit import FarEnd, packet, tone

HOST = "127.0.0.1"
FRAME = 160
PREFETCH = 3

Packet = tuple[int, int, int, int, int, bytes]


@pytest.fixture(params=[True, False], ids=["kernel", "portable"])
async def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[MediaEngine]:
    if not request.param:
        monkeypatch.setattr(kernel, "AVAILABLE", False)
    elif not kernel.AVAILABLE:
        pytest.skip("this system's C library is not used")
    engine = MediaEngine(ports=(20000, 59999), rng=random.Random())
    yield engine
    await engine.close()


@pytest.fixture
def far() -> Any:
    with FarEnd() as end:
        yield end


def configured(engine: MediaEngine, remote: tuple[str, int], **changes: Any) -> RtpStream:
    stream = engine.open_stream(HOST)
    configure(stream, remote, **changes)
    return stream


def configure(stream: RtpStream, remote: tuple[str, int], **changes: Any) -> None:
    agreed: dict[str, Any] = {
        "codec": "PCMU",
        "payload_type": 0,
        "receive_payload_types": {0: "PCMU", 8: "PCMA"},
        "dtmf_payload_type": 101,
        "dtmf_receive_payload_type": 101,
    }
    stream.configure(remote, **{**agreed, **changes})


def tick(engine: MediaEngine, count: int = 1) -> None:
    for _ in range(count):
        engine.tick(1, 0.0)


class Ear:
    """A sink that remembers."""

    def __init__(self) -> None:
        self.frames: list[NDArray[np.int16]] = []
        self.closed = 0

    def write(self, pcm: NDArray[np.int16]) -> None:
        self.frames.append(pcm.copy())

    def close(self) -> None:
        self.closed += 1

    @property
    def heard(self) -> NDArray[np.int16]:
        return np.concatenate(self.frames) if self.frames else np.zeros(0, np.int16)


# ---- sending ---------------------------------------------------------------------------------------------------------


async def test_silence_goes_out_from_the_first_tick_on(engine: MediaEngine, far: FarEnd) -> None:
    configured(engine, far.address)
    tick(engine, 3)
    packets = [far.receive() for _ in range(3)]
    assert [marker for marker, *_ in packets] == [1, 0, 0]
    assert {payload for *_, payload in packets} == {bytes([SILENCE[Law.PCMU]]) * FRAME}


async def test_numbers_go_on_across_wav_silence_and_mute(engine: MediaEngine, far: FarEnd) -> None:
    """RFC 3550 §5.1: the sequence number grows by one for each packet; here the timestamp by one frame."""
    stream = configured(engine, far.address)
    tick(engine, 2)
    stream.play(ArraySource(tone(3 * FRAME)))
    tick(engine, 5)
    stream.mute()
    stream.play(ArraySource(tone(2 * FRAME)))
    tick(engine, 4)
    stream.unmute()
    tick(engine, 2)
    packets = [far.receive() for _ in range(13)]
    first = packets[0]
    for number, (marker, _, sequence, timestamp, ssrc, _) in enumerate(packets):
        assert marker == (1 if number == 0 else 0)
        assert sequence == (first[2] + number) & 0xFFFF
        assert timestamp == (first[3] + number * FRAME) & 0xFFFFFFFF
        assert ssrc == first[4]


async def test_what_plays_is_what_arrives(engine: MediaEngine, far: FarEnd) -> None:
    stream = configured(engine, far.address)
    samples = tone(10 * FRAME)
    playback = stream.play(ArraySource(samples[:777]))
    stream.play(ArraySource(samples[777:]))
    tick(engine, 10)
    sent = b"".join(far.receive()[5] for _ in range(10))
    assert sent == encode(samples, Law.PCMU).tobytes()
    assert (await playback).completed


async def test_a_muted_wav_goes_on_silently(engine: MediaEngine, far: FarEnd) -> None:
    stream = configured(engine, far.address)
    samples = tone(4 * FRAME)
    playback = stream.play(ArraySource(samples))
    tick(engine)
    stream.mute()
    assert stream.muted
    tick(engine, 2)
    stream.unmute()
    tick(engine)
    sent = [far.receive()[5] for _ in range(4)]
    said = encode(samples, Law.PCMU).reshape(4, FRAME)
    assert sent == [said[0].tobytes(), b"\xff" * FRAME, b"\xff" * FRAME, said[3].tobytes()]
    assert (await playback).completed


async def test_clearing_is_silence_from_the_next_frame_on(engine: MediaEngine, far: FarEnd) -> None:
    stream = configured(engine, far.address)
    playbacks = [stream.play(ArraySource(tone(8000))) for _ in range(2)]
    tick(engine)
    stream.clear()
    tick(engine)
    far.receive()
    assert far.receive()[5] == b"\xff" * FRAME
    assert [(await playback).played_seconds for playback in playbacks] == [0.02, 0.0]


async def test_on_hold_nothing_goes_out_and_the_wav_waits(engine: MediaEngine, far: FarEnd) -> None:
    """RFC 3264 §8.4. Timestamps follow the clock across the pause, the marker says that it is over (RFC 3551 §4.1)."""
    stream = configured(engine, far.address)
    samples = tone(2 * FRAME)
    stream.play(ArraySource(samples))
    tick(engine)
    before = far.receive()
    configure(stream, far.address, send=False)
    tick(engine, 5)
    assert far.waiting() == 0
    configure(stream, far.address)
    tick(engine)
    after = far.receive()
    assert after[0] == 1
    assert after[2] == (before[2] + 1) & 0xFFFF
    assert after[3] == (before[3] + 6 * FRAME) & 0xFFFFFFFF
    assert after[5] == encode(samples[FRAME:], Law.PCMU).tobytes()


async def test_another_codec_and_address_in_mid_call(engine: MediaEngine, far: FarEnd) -> None:
    stream = configured(engine, far.address)
    stream.play(ArraySource(tone(2 * FRAME)))
    tick(engine)
    before = far.receive()
    with FarEnd() as moved:
        configure(stream, moved.address, codec="pcma", payload_type=8)
        tick(engine)
        after = moved.receive()
    assert far.waiting() == 0
    assert after[1] == 8
    assert after[2] == (before[2] + 1) & 0xFFFF
    assert after[4] == before[4]
    assert after[5] == encode(tone(2 * FRAME)[FRAME:], Law.PCMA).tobytes()


async def test_an_unconfigured_stream_sends_nothing(engine: MediaEngine, far: FarEnd) -> None:
    stream = engine.open_stream(HOST)
    playback = stream.play(ArraySource(tone(FRAME)))
    tick(engine, 3)
    assert stream.statistics().packets_sent == 0
    assert not playback.done


async def test_what_cannot_be_sent_is_counted(engine: MediaEngine) -> None:
    stream = configured(engine, ("255.255.255.255", 5004))
    tick(engine, 2)
    assert stream.statistics().send_errors == 2
    assert stream.statistics().packets_sent == 0


# ---- stalls ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("missed", [1, CATCH_UP_FRAMES - 1])
async def test_a_short_stall_loses_no_frame(engine: MediaEngine, far: FarEnd, missed: int) -> None:
    stream = configured(engine, far.address)
    samples = tone(10 * FRAME)
    stream.play(ArraySource(samples))
    tick(engine)
    engine.tick(1 + missed, 0.0)
    packets = [far.receive() for _ in range(2 + missed)]
    assert far.waiting() == 0
    for number, entry in enumerate(packets):
        assert entry[3] == (packets[0][3] + number * FRAME) & 0xFFFFFFFF
    sent = b"".join(entry[5] for entry in packets)
    assert sent == encode(samples, Law.PCMU).tobytes()[: len(sent)]


async def test_a_long_stall_sends_no_burst_and_loses_nothing_that_plays(engine: MediaEngine, far: FarEnd) -> None:
    """Of 250 ms the last 100 go out at once; the rest is a pause in the timestamps, with a marker behind it."""
    stream = configured(engine, far.address)
    samples = tone(10 * FRAME)
    stream.play(ArraySource(samples))
    tick(engine)
    engine.tick(12, 0.0)
    packets: list[Packet] = [far.receive() for _ in range(1 + CATCH_UP_FRAMES)]
    assert far.waiting() == 0
    assert [entry[0] for entry in packets] == [1, 1] + [0] * (CATCH_UP_FRAMES - 1)
    assert [(entry[2] - packets[0][2]) & 0xFFFF for entry in packets] == list(range(1 + CATCH_UP_FRAMES))
    assert (packets[-1][3] - packets[0][3]) & 0xFFFFFFFF == 12 * FRAME
    sent = b"".join(entry[5] for entry in packets)
    assert sent == encode(samples, Law.PCMU).tobytes()[: len(sent)]


async def test_sinks_get_the_frames_of_a_stall(engine: MediaEngine, far: FarEnd) -> None:
    stream = configured(engine, far.address)
    ear = Ear()
    stream.add_sink(ear)
    samples = tone(30 * FRAME)
    codes = encode(samples, Law.PCMU).reshape(-1, FRAME)
    for number in range(10):
        far.send(packet(number, number * FRAME, codes[number].tobytes()), stream.local_port)
        tick(engine)
    for number in range(10, 22):
        far.send(packet(number, number * FRAME, codes[number].tobytes()), stream.local_port)
    engine.tick(12, 0.0)
    for number in range(22, 30):
        far.send(packet(number, number * FRAME, codes[number].tobytes()), stream.local_port)
        tick(engine)
    assert len(ear.frames) == 30
    assert np.array_equal(ear.heard[PREFETCH * FRAME :], decode(codes.reshape(-1), Law.PCMU)[: 27 * FRAME])
    assert stream.statistics().concealed == 0


async def test_after_a_very_long_stall_at_most_a_second_is_played_out(engine: MediaEngine, far: FarEnd) -> None:
    stream = configured(engine, far.address)
    ear = Ear()
    stream.add_sink(ear)
    engine.tick(100_000, 0.0)
    assert len(ear.frames) == PLAY_OUT_FRAMES


# ---- receiving -------------------------------------------------------------------------------------------------------


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


# ---- DTMF ------------------------------------------------------------------------------------------------------------


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


# ---- faults ----------------------------------------------------------------------------------------------------------


async def test_a_sink_that_fails_is_removed_and_the_others_go_on(
    engine: MediaEngine, far: FarEnd, caplog: pytest.LogCaptureFixture
) -> None:
    class Bad(Ear):
        def write(self, pcm: NDArray[np.int16]) -> None:
            raise RuntimeError("bug")

        def close(self) -> None:
            raise RuntimeError("another bug")

    stream = configured(engine, far.address)
    bad, good = Bad(), Ear()
    stream.add_sink(bad)
    stream.add_sink(good)
    with caplog.at_level(logging.ERROR):
        tick(engine, 3)
    assert caplog.text.count("audio sink failed and was removed") == 1
    assert len(good.frames) == 3
    assert far.waiting() == 3


async def test_a_sink_cannot_change_what_another_hears(engine: MediaEngine, far: FarEnd) -> None:
    def scribble(pcm: NDArray[np.int16]) -> None:
        pcm[:] = 1

    stream = configured(engine, far.address)
    ear = Ear()
    stream.add_sink(CallbackSink(scribble))
    stream.add_sink(ear)
    tick(engine, 2)
    assert not ear.heard.any()


@pytest.mark.parametrize("again", [False, True], ids=["close", "close and open"])
async def test_callbacks_may_close_and_open_streams(engine: MediaEngine, far: FarEnd, again: bool) -> None:
    streams = [configured(engine, far.address) for _ in range(3)]
    ear = Ear()

    def close_all(pcm: NDArray[np.int16]) -> None:
        for stream in streams[:2]:
            stream.close()
        if again:
            for _ in range(40):  # the bank grows in the middle of the tick
                engine.open_stream(HOST)

    streams[0].add_sink(CallbackSink(close_all))
    streams[2].add_sink(ear)
    tick(engine, 3)
    assert len(ear.frames) == 3
    assert far.waiting() == 3 + 2


async def test_a_source_may_close_its_stream(engine: MediaEngine, far: FarEnd) -> None:
    stream, other = configured(engine, far.address), configured(engine, far.address)

    class Closing(ArraySource):
        def read(self, samples: int) -> NDArray[np.int16]:
            stream.close()
            return super().read(samples)

    playback = stream.play(Closing(tone(8000)))
    tick(engine, 2)
    assert not (await playback).completed
    assert far.waiting() == 2
    assert other.statistics().packets_sent == 2


async def test_a_bug_in_a_tick_is_logged_and_the_next_one_runs(
    engine: MediaEngine, far: FarEnd, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    configured(engine, far.address)
    with caplog.at_level(logging.ERROR), monkeypatch.context() as patch:
        patch.setattr("rtp.incoming.conceal", lambda *arguments: 1 / 0)
        tick(engine)
    assert "tick of the media clock failed" in caplog.text
    tick(engine)
    assert far.waiting() == 2


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=80) | st.binary(max_size=60).map(lambda tail: b"\x80\x65" + tail), max_size=12))
async def test_nothing_a_peer_sends_raises_out_of_a_tick(
    engine: MediaEngine, caplog: pytest.LogCaptureFixture, datagrams: list[bytes]
) -> None:
    with FarEnd() as far, caplog.at_level(logging.ERROR):
        stream = configured(engine, far.address)
        for datagram in datagrams:
            far.send(datagram, stream.local_port)
        tick(engine, 2)
        statistics = stream.statistics()
        assert statistics.packets_received + statistics.malformed + statistics.discarded == len(datagrams)
        stream.close()
    assert not caplog.records


# ---- life cycle ------------------------------------------------------------------------------------------------------


async def test_a_closed_stream_gives_everything_back(engine: MediaEngine, far: FarEnd) -> None:
    stream = configured(engine, far.address)
    ear = Ear()
    stream.add_sink(ear)
    playback, keys = stream.play(ArraySource(tone(8000))), stream.send_dtmf("1")
    tick(engine, 2)
    stream.close()
    stream.close()
    assert ear.closed == 1
    assert not (await playback).completed
    assert not (await keys).completed
    assert stream.statistics().packets_sent == 2
    assert engine.statistics().streams == 0
    tick(engine, 2)
    assert far.waiting() == 2
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
        again.bind((HOST, stream.local_port))


async def test_a_closed_stream_ignores_what_is_asked_of_it(engine: MediaEngine, far: FarEnd) -> None:
    stream = configured(engine, far.address)
    stream.close()
    ear = Ear()
    stream.add_sink(ear)
    stream.remove_sink(ear)
    configure(stream, far.address)
    stream.mute()
    assert not (await stream.play(ArraySource(tone(160)))).completed
    assert not (await stream.send_dtmf("1")).completed
    assert ear.closed == 2
    tick(engine)
    assert far.waiting() == 0
    assert stream.seconds_since_received() == float("inf")


async def test_a_closed_stream_does_not_wait_for_the_collector(engine: MediaEngine, far: FarEnd) -> None:
    stream = configured(engine, far.address)
    stream.on_dtmf = lambda digit, duration, of=stream: of.clear()
    tick(engine)
    stream.close()
    tick(engine)
    gc.disable()
    try:
        gone = weakref.ref(stream)
        stream = engine.open_stream(HOST)
        assert gone() is None
    finally:
        gc.enable()


async def test_a_row_used_again_remembers_nothing(engine: MediaEngine, far: FarEnd) -> None:
    first = configured(engine, far.address)
    first.mute()
    for number in range(5):
        far.send(packet(number, number * FRAME), first.local_port)
    tick(engine, 2)
    far.waiting()
    first.close()
    while (second := engine.open_stream("127.0.0.1")).row != first.row:
        pass  # rows come again after some others
    configure(second, far.address)
    second.play(ArraySource(tone(FRAME)))
    tick(engine)
    entry = far.receive()
    assert entry[0] == 1
    assert entry[5] == encode(tone(FRAME), Law.PCMU).tobytes()
    assert second.statistics().packets_received == 0
    assert first.statistics().packets_received == 5


async def test_more_streams_than_rows_make_the_bank_grow(engine: MediaEngine, far: FarEnd) -> None:
    streams = [configured(engine, far.address) for _ in range(20)]
    tick(engine)
    streams += [configured(engine, far.address) for _ in range(20)]
    for number, stream in enumerate(streams):
        far.send(packet(number, 0), stream.local_port)
    tick(engine, 2)
    assert [stream.statistics().packets_received for stream in streams] == [1] * 40
    assert [stream.statistics().packets_sent for stream in streams] == [3] * 20 + [2] * 20
    assert engine.statistics().streams == 40


@pytest.mark.parametrize(
    ("remote", "changes", "message"),
    [
        (("example.com", 5004), {}, "example.com"),
        (("::1", 5004), {}, "address family"),
        (("127.0.0.1", 0), {}, "port 0"),
        (("127.0.0.1", 5004), {"codec": "G729"}, "G729"),
        (("127.0.0.1", 5004), {"receive_payload_types": {3: "GSM"}}, "GSM"),
    ],
)
async def test_what_cannot_be_configured_is_refused(
    engine: MediaEngine, remote: tuple[str, int], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        configured(engine, remote, **changes)


@pytest.mark.parametrize(
    "settings",
    [
        {"jitter_min_ms": 50},
        {"jitter_min_ms": -20},
        {"jitter_min_ms": 220},
        {"jitter_max_ms": 520},
        {"symmetric_rtp": "sometimes"},
        {"ports": (7, 8)},
    ],
)
def test_engine_settings_outside_their_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        MediaEngine(**settings)


async def test_a_closed_engine_opens_nothing(engine: MediaEngine) -> None:
    stream = engine.open_stream(HOST)
    await engine.close()
    assert stream.closed
    with pytest.raises(NoPortAvailable, match="closed"):
        engine.open_stream(HOST)


async def test_a_local_name_is_refused(engine: MediaEngine) -> None:
    with pytest.raises(ValueError):
        engine.open_stream("localhost")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - the clock is to run on the loop's own time
            await asyncio.sleep(0.001)


async def test_the_clock_drives_the_engine(engine: MediaEngine, far: FarEnd) -> None:
    stream = configured(engine, far.address)
    await engine.start()
    await engine.start()
    await until(lambda: stream.statistics().packets_sent >= 3)
    statistics = engine.statistics()
    assert statistics.ticks >= 3
    assert statistics.tick_ms_max >= statistics.tick_ms_p50 > 0
    assert statistics.cpu_seconds > 0
    await engine.close()
    sent = stream.statistics().packets_sent
    await asyncio.sleep(0)
    assert stream.statistics().packets_sent == sent
