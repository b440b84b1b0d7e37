"""Listeners and talkers, by themselves and on a stream of the engine, tick by tick."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from rtp.engine import MediaEngine
from rtp.g711 import SILENCE, Law, decode, encode
from rtp.listener import Listener
from rtp.sinks import Gate
from rtp.sources import ArraySource
from rtp.stream import AlreadyTalking, RtpStream
from rtp.talker import MAX_FRAMES, PREFETCH_FRAMES, TRIM_FRAMES, Talker, Voice
from tests.kit.lone_ears import LoneEars
from tests.rtp.kit import FarEnd, packet, tone

FRAME = 160
PREFETCH = 3
SILENT = bytes([SILENCE[Law.PCMU]]) * FRAME


def frame(value: int, samples: int = FRAME) -> NDArray[np.int16]:
    return np.full(samples, value, np.int16)


async def heard(listener: Listener, count: int) -> list[int]:
    """The first sample of each of the next frames."""
    return [int((await anext(listener))[0]) for _ in range(count)]


# ---- listener --------------------------------------------------------------------------------------------------------


def ears(*listeners: Listener) -> LoneEars:
    """Those of a stream that they listen to."""
    made = LoneEars()
    for listener in listeners:
        made.add(listener)
    return made


async def test_both_sides_are_mixed_and_saturate() -> None:
    listener = Listener()
    heard_by = ears(listener)
    for tick, (sent, far) in enumerate(((None, 5), (7, 5), (30000, 5000), (-30000, -5000))):
        if sent is not None:
            heard_by.sent(tick, frame(sent))
        heard_by.hear(tick, frame(far))
    assert await heard(listener, 4) == [5, 12, 32767, -32768]


async def test_a_tick_that_makes_up_for_others_pairs_frames_by_their_ticks() -> None:
    listener = Listener()
    heard_by = ears(listener)
    for tick in (11, 12):
        heard_by.sent(tick, frame(tick))
    for tick in (10, 11, 12, 13):
        heard_by.hear(tick, frame(100))
    assert await heard(listener, 4) == [100, 111, 112, 100]


async def test_what_was_sent_at_a_tick_that_heard_nothing_is_left_out() -> None:
    listener = Listener()
    heard_by = ears(listener)
    heard_by.sent(1, frame(1))
    heard_by.sent(3, frame(3))
    heard_by.hear(2, frame(20))
    heard_by.hear(3, frame(30))
    assert await heard(listener, 2) == [20, 33]


async def test_at_16000_hertz_a_frame_has_320_samples() -> None:
    listener = Listener(rate=16000)
    heard_by = ears(listener)
    for tick in range(3):
        heard_by.hear(tick, frame(1000))
    frames = [await anext(listener) for _ in range(3)]
    assert {len(one) for one in frames} == {320}
    assert np.all(np.abs(frames[-1] - 1000) <= 1)
    with pytest.raises(ValueError, match="44100"):
        Listener(rate=44100)


async def test_each_listener_hears_at_its_rate_and_what_it_asked_for() -> None:
    kinds = [(rate, both) for rate in (8000, 16000) for both in (False, True)]
    listeners = [Listener(rate=rate, both=both) for rate, both in kinds for _ in range(2)]
    heard_by = ears(*listeners)
    for tick in range(3):
        heard_by.sent(tick, frame(500))
        heard_by.hear(tick, frame(1000))
    for listener in listeners:
        frames = [await anext(listener) for _ in range(3)]
        assert len(frames[2]) == listener.rate // 50
        assert np.all(np.abs(frames[2] - (1500 if listener.both else 1000)) <= 1)


async def test_what_is_heard_is_a_copy_and_the_readers_own() -> None:
    first, second = Listener(both=False), Listener(both=False)
    heard_by = ears(first, second)
    shared = frame(3)
    heard_by.hear(0, shared)
    shared[:] = 9
    mine = await anext(first)
    mine[:] = 7
    assert await heard(second, 1) == [3]


async def test_longer_frames_come_as_a_whole_and_the_last_as_it_is() -> None:
    listener = Listener(frame_ms=60)
    heard_by = ears(listener)
    for tick in range(3):
        heard_by.hear(tick, frame(tick))
    assert (await anext(listener))[::FRAME].tolist() == [0, 1, 2]
    waiting = asyncio.ensure_future(anext(listener))
    await asyncio.sleep(0)
    for tick in range(3, 5):
        heard_by.hear(tick, frame(tick))
    await asyncio.sleep(0)
    assert not waiting.done()
    listener.close()
    assert (await waiting)[::FRAME].tolist() == [3, 4]
    for length in (0, 30, 520):
        with pytest.raises(ValueError, match="multiple of 20"):
            Listener(frame_ms=length)


async def test_behind_a_shut_gate_there_is_silence() -> None:
    gate = Gate()
    shut, other = Listener(gate=gate), Listener()
    heard_by = ears(shut, other)
    for tick, closed in enumerate((False, True, False)):
        gate.shut = closed
        heard_by.hear(tick, frame(7))
    assert await heard(shut, 3) == [7, 0, 7]
    assert await heard(other, 3) == [7, 7, 7]


async def test_one_task_reads_a_listener() -> None:
    listener = Listener()
    waiting = asyncio.ensure_future(anext(listener))
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="two tasks"):
        await anext(listener)
    listener.close()
    with pytest.raises(StopAsyncIteration):
        await waiting


async def test_a_slow_reader_loses_the_oldest_and_is_forgiven_once_it_has_caught_up() -> None:
    listener = Listener(max_frames=2, patience=5)
    for far in range(4):
        listener.hear(frame(far))
    assert (listener.dropped, listener.stalled) == (2, False)
    assert await heard(listener, 2) == [2, 3]
    for far in range(6):
        listener.hear(frame(far))
    assert (listener.dropped, listener.stalled, listener.closed) == (6, False, False)


async def test_a_reader_that_never_catches_up_has_stalled() -> None:
    listener = Listener(max_frames=2, patience=5)
    closed: list[bool] = []
    listener.on_close = lambda: closed.append(True)
    for far in range(20):
        listener.hear(frame(far))
        if far % 2:  # it reads, but half of what comes
            assert not listener.closed or listener.stalled
            await anext(listener, None)
    assert listener.stalled
    assert closed == [True]
    await listener.wait_closed()
    dropped = listener.dropped
    listener.hear(frame(0))
    assert listener.dropped == dropped


async def test_closing_ends_the_iteration_behind_what_is_queued() -> None:
    async with Listener() as listener:
        waiting = asyncio.ensure_future(anext(listener))
        await asyncio.sleep(0)
        listener.hear(frame(1))
        assert (await waiting)[0] == 1
        listener.hear(frame(2))
    assert [int(one[0]) async for one in listener] == [2]
    waiting = asyncio.ensure_future(anext(listener, frame(-1)))
    assert (await waiting)[0] == -1


# ---- voice -----------------------------------------------------------------------------------------------------------


def spoken(voice: Voice, count: int) -> Iterator[int]:
    for _ in range(count):
        out = voice.read()
        yield 0 if out is None else int(out[0])


def test_some_frames_are_collected_before_the_first_goes_out() -> None:
    voice = Voice(rate=8000)
    assert list(spoken(voice, 2)) == [0, 0]
    for value in range(1, 6):
        voice.write(frame(value))
        (said,) = spoken(voice, 1)
        assert said == max(0, value - PREFETCH_FRAMES)
    assert list(spoken(voice, 2)) == [4, 5]
    assert (voice.received, voice.underruns, voice.discarded) == (5, 0, 0)


def test_running_dry_is_silence_counted_once_and_collects_anew() -> None:
    voice = Voice(rate=8000)
    for value in (1, 2, 3):
        voice.write(frame(value))
    assert list(spoken(voice, 6)) == [1, 2, 3, 0, 0, 0]
    assert voice.underruns == 1
    voice.write(frame(4))  # too few to be enough, but nothing else comes
    assert list(spoken(voice, 4)) == [0, 0, 4, 0]
    assert voice.underruns == 2


def test_more_than_can_wait_pushes_the_oldest_out() -> None:
    voice = Voice(rate=8000)
    for value in range(1, MAX_FRAMES + 4):
        voice.write(frame(value))
    assert voice.discarded == 3
    assert next(spoken(voice, 1)) == 4


def test_delay_that_is_never_needed_goes_away() -> None:
    voice = Voice(rate=8000)
    for value in range(MAX_FRAMES):
        voice.write(frame(value))
    for value in range(20 * TRIM_FRAMES):
        list(spoken(voice, 1))
        voice.write(frame(value % 100))
    assert voice.underruns == 0
    assert voice.discarded == MAX_FRAMES - 1 - PREFETCH_FRAMES


def test_muting_throws_away_and_plays_nothing_of_it_later() -> None:
    voice = Voice(rate=8000, prefetch=0)
    voice.write(frame(1))
    voice.muted = True
    voice.write(frame(2))
    assert list(spoken(voice, 2)) == [0, 0]
    voice.muted = False
    voice.write(frame(3))
    assert list(spoken(voice, 1)) == [3]
    assert (voice.received, voice.underruns, voice.discarded) == (3, 0, 0)


def test_a_frame_of_another_size_is_refused() -> None:
    for rate in (8000, 16000):
        voice = Voice(rate=rate)
        for samples in (0, rate // 50 - 1, rate // 50 + 1):
            with pytest.raises(ValueError, match=str(rate // 50)):
                voice.write(frame(1, samples))
        assert voice.received == 0


# ---- on a stream -----------------------------------------------------------------------------------------------------


@pytest.fixture
async def engine() -> AsyncIterator[MediaEngine]:
    engine = MediaEngine(ports=(20000, 59999), rng=random.Random())
    yield engine
    await engine.close()


@pytest.fixture
def far() -> Iterator[FarEnd]:
    with FarEnd() as end:
        yield end


@pytest.fixture
def stream(engine: MediaEngine, far: FarEnd) -> RtpStream:
    stream = engine.open_stream("127.0.0.1")
    stream.configure(far.address, codec="PCMU", payload_type=0, receive_payload_types={0: "PCMU"})
    return stream


def tick(engine: MediaEngine, count: int = 1) -> None:
    for _ in range(count):
        engine.tick(1, 0.0)


def coded(samples: NDArray[np.int16]) -> NDArray[np.int16]:
    return decode(encode(samples, Law.PCMU), Law.PCMU)


async def test_a_listener_hears_both_sides(engine: MediaEngine, far: FarEnd, stream: RtpStream) -> None:
    listener = Listener()
    stream.listen(listener)
    voice = coded(tone(4 * FRAME, hertz=700))
    for number in range(4):
        payload = encode(voice[number * FRAME :][:FRAME], Law.PCMU).tobytes()
        far.send(packet(number, number * FRAME, payload), stream.local_port)
    played = tone(10 * FRAME)
    stream.play(ArraySource(played))
    tick(engine, 10)
    stream.close()
    both = np.concatenate([one async for one in listener])
    assert len(both) == 10 * FRAME
    expected = played.astype(np.int32)
    expected[PREFETCH * FRAME : (PREFETCH + 4) * FRAME] += voice
    assert np.array_equal(both[: 7 * FRAME], expected[: 7 * FRAME])


async def test_a_muted_side_is_not_heard(engine: MediaEngine, stream: RtpStream) -> None:
    listener = Listener()
    stream.listen(listener)
    stream.play(ArraySource(frame(1000, 3 * FRAME)))
    stream.mute()
    tick(engine)
    stream.unmute()
    tick(engine)
    assert await heard(listener, 2) == [0, 1000]


async def test_who_talks_is_heard_instead_of_what_plays_which_goes_on(
    engine: MediaEngine, far: FarEnd, stream: RtpStream
) -> None:
    listener, talker = Listener(), Talker()
    stream.listen(listener)
    playback = stream.play(ArraySource(tone(6 * FRAME)))
    stream.mute()  # the bot's, not the talker's
    stream.talk(talker)
    said = coded(tone(3 * FRAME, hertz=900))
    for number in range(3):
        talker.say(said[number * FRAME :][:FRAME])
    tick(engine, 3)
    sent = [far.receive()[-1] for _ in range(3)]
    assert np.array_equal(decode(np.frombuffer(b"".join(sent), np.uint8), Law.PCMU), said)
    assert playback.played_samples == 3 * FRAME
    assert np.array_equal(np.concatenate([await anext(listener) for _ in range(3)]), said)
    assert await heard(talker, 3) == [0, 0, 0]  # the far end alone
    talker.close()
    assert stream.muted
    tick(engine)
    assert far.receive()[-1] == SILENT  # still muted
    stream.unmute()
    tick(engine)
    expected = encode(tone(6 * FRAME)[4 * FRAME : 5 * FRAME], Law.PCMU).tobytes()
    assert far.receive()[-1] == expected


async def test_one_talks_at_a_time(stream: RtpStream) -> None:
    first = Talker()
    stream.talk(first)
    with pytest.raises(AlreadyTalking):
        stream.talk(Talker())
    first.close()
    second = Talker()
    stream.talk(second)
    assert stream.talker is second


async def test_closing_either_end_leaves_nothing_behind(engine: MediaEngine, stream: RtpStream) -> None:
    listeners = [Listener() for _ in range(10)]
    talker = Talker(rate=16000)
    for listener in listeners:
        stream.listen(listener)
    stream.talk(talker)
    tick(engine)
    listeners[0].close()
    tick(engine)
    assert len([one async for one in listeners[0]]) == 1
    stream.close()
    assert (stream.ears.open, stream.ears.both, stream.talker) == (False, False, None)
    for listener in (*listeners[1:], talker):
        assert listener.closed
        assert len([one async for one in listener]) == 2
    late = Listener()
    stream.listen(late)
    assert late.closed


async def test_a_stalled_listener_is_dropped_from_the_clock(engine: MediaEngine, stream: RtpStream) -> None:
    listener = Listener(max_frames=2, patience=3)
    stream.listen(listener)
    tick(engine, 8)
    assert listener.stalled
    assert (stream.ears.open, stream.ears.both) == (False, False)


async def test_while_on_hold_a_listener_hears_nothing_and_a_talker_is_not_read(
    engine: MediaEngine, far: FarEnd, stream: RtpStream
) -> None:
    listener, talker = Listener(), Talker()
    stream.listen(listener)
    stream.talk(talker)
    stream.configure(far.address, codec="PCMU", payload_type=0, receive_payload_types={0: "PCMU"}, send=False)
    for _ in range(MAX_FRAMES + 1):
        talker.say(frame(5))
    tick(engine, 3)
    assert await heard(listener, 3) == [0, 0, 0]
    assert talker.voice.discarded == 1
    assert far.waiting() == 0
