"""Speaking into a stream live: room, marks, clearing, and what the far end's socket gets of it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from rtp.audio_stream import AudioStream
from rtp.engine import MediaEngine
from rtp.g711 import Law, decode
from rtp.sources import ArraySource
from rtp.speech import FADE, MAX_MARKS, Mark, Speech
from rtp.stream import RtpStream
from tests.rtp.kit import FarEnd, tone

FRAME = 160


def said(speech: Speech, frames: int = 1) -> list[list[int]]:
    """What the next ticks send, without the silence behind it."""
    return [speech.read(FRAME).tolist() for _ in range(frames)]


def numbers(count: int, first: int = 1) -> NDArray[np.int16]:
    return np.arange(first, first + count, dtype=np.int16)


async def settle() -> None:
    """Lets whoever was woken run."""
    for _ in range(5):
        await asyncio.sleep(0)


# ---- what is written -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("piece", [1, 7, 160, 333, 2000])
async def test_pieces_of_any_length_are_played_in_full_and_in_order(piece: int) -> None:
    speech = Speech()
    samples = numbers(2000)
    for start in range(0, 2000, piece):
        assert await speech.write(samples[start : start + piece])
    assert np.concatenate(said(speech, 13)).tolist() == samples.tolist()
    assert speech.position == 2000
    assert speech.queued_seconds == 0


async def test_bytes_are_samples_too() -> None:
    speech = Speech(prefetch_ms=0)
    assert await speech.write(np.array([1, -2, 300], "<i2").tobytes())
    assert said(speech) == [[1, -2, 300]]
    with pytest.raises(ValueError, match="whole samples"):
        await speech.write(b"abc")
    with pytest.raises(ValueError, match="float32"):
        speech.write_nowait(np.zeros(3, np.float32))


async def test_what_is_written_is_copied() -> None:
    speech = Speech(prefetch_ms=0)
    mine = numbers(3)
    await speech.write(mine)
    mine[:] = 9
    assert said(speech) == [[1, 2, 3]]


@pytest.mark.parametrize("piece", [1, 2, 33, 320, 3200])
async def test_16000_hertz_come_out_the_same_however_they_are_cut(piece: int) -> None:
    wave = (8000 * np.sin(2 * np.pi * 440 * np.arange(3200) / 16000)).astype(np.int16)
    speech = Speech(rate=16000)
    for start in range(0, 3200, piece):
        await speech.write(wave[start : start + piece])
    out = np.concatenate([speech.read(FRAME) for _ in range(10)])
    assert len(out) == 1600
    expected = tone(1600)
    lag = 15  # samples that the filter takes
    assert np.abs(out[200:1500].astype(int) - expected[200 - lag : 1500 - lag]).max() < 80
    assert speech.position == 3200


async def test_small_pieces_are_collected_before_the_first_goes_out() -> None:
    speech = Speech(prefetch_ms=40)
    await speech.write(numbers(160))
    assert said(speech) == [[]]
    await speech.write(numbers(160, 161))
    assert said(speech, 2) == [numbers(160).tolist(), numbers(160, 161).tolist()]


async def test_a_single_piece_waits_no_longer_than_more_would_have() -> None:
    speech = Speech(prefetch_ms=40)
    await speech.write(numbers(100))
    assert said(speech, 3) == [[], [], numbers(100).tolist()]


async def test_a_mark_behind_it_says_that_it_is_whole() -> None:
    speech = Speech(prefetch_ms=40)
    await speech.write(numbers(100))
    mark = speech.mark("all")
    assert said(speech) == [numbers(100).tolist()]
    assert await mark


# ---- room ------------------------------------------------------------------------------------------------------------


async def test_ten_seconds_at_once_wait_for_room_and_are_played_in_full() -> None:
    speech = Speech(max_seconds=1)
    samples = np.arange(80_000).astype(np.int16)
    writing = asyncio.ensure_future(speech.write(samples))
    out = []
    await settle()
    assert speech.queued_seconds == 1
    for _ in range(500):
        assert speech.queued_seconds <= 1
        out.append(speech.read(FRAME))
        await settle()
    assert await writing
    assert np.array_equal(np.concatenate(out), samples)


async def test_writers_take_turns() -> None:
    speech = Speech(max_seconds=0.1)
    writing = [asyncio.ensure_future(speech.write(np.full(1600, value, np.int16))) for value in (1, 2)]
    await settle()
    assert speech.write_nowait(numbers(5)) == 0
    out = []
    for _ in range(20):
        out.append(speech.read(FRAME))
        await settle()
    assert await asyncio.gather(*writing) == [True, True]
    assert np.concatenate(out).tolist() == [1] * 1600 + [2] * 1600


async def test_without_waiting_what_fits_is_taken() -> None:
    for rate in (8000, 16000):
        speech = Speech(rate=rate, max_seconds=0.5)
        assert speech.write_nowait(np.zeros(rate, np.int16)) == rate // 2
        assert speech.write_nowait(np.zeros(rate, np.int16)) == 0


async def test_a_cancelled_write_leaves_room_for_the_next() -> None:
    speech = Speech(max_seconds=0.1)
    writing = asyncio.ensure_future(speech.write(np.ones(1600, np.int16)))
    await settle()
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    said(speech, 5)
    assert await asyncio.wait_for(speech.write(numbers(10)), 1)


# ---- marks -----------------------------------------------------------------------------------------------------------


async def test_marks_are_told_in_order_when_what_was_before_them_has_gone_out() -> None:
    speech = Speech()
    told: list[Mark] = []
    speech.on_mark = told.append
    await speech.write(numbers(400))
    first = speech.mark("first")
    second = speech.mark("second")
    await speech.write(numbers(400))
    speech.mark("third")
    both = ["first", "second"]
    for expected in ([], [], both, both, [*both, "third"]):
        said(speech)
        await settle()
        assert [mark.name for mark in told] == expected
    assert (first.position, first.seconds) == (400, 0.05)
    assert await second
    assert [mark.position for mark in told] == [400, 400, 800]
    assert all(mark.at > 0 and not mark.cleared for mark in told)


async def test_a_mark_in_front_of_everything_is_told_at_once() -> None:
    speech = Speech()
    assert await speech.mark("now")


async def test_positions_count_samples_at_the_rate_of_the_writer() -> None:
    speech = Speech(rate=16000)
    await speech.write(np.zeros(16000, np.int16))
    mark = speech.mark()
    said(speech, 51)
    assert await mark
    assert (mark.position, mark.seconds) == (16000, 1.0)


async def test_marks_are_bounded() -> None:
    speech = Speech()
    await speech.write(numbers(10))
    for _ in range(MAX_MARKS):
        speech.mark()
    with pytest.raises(ValueError, match="marks"):
        speech.mark()
    speech.clear()
    speech.mark()


# ---- barge-in --------------------------------------------------------------------------------------------------------


async def test_cleared_speech_is_gone_and_fades_out() -> None:
    speech = Speech()
    await speech.write(np.full(8000, 10000, np.int16))
    mark = speech.mark("end")
    said(speech, 10)
    assert speech.clear() == 0.8
    fade = speech.read(FRAME)
    assert len(fade) == FADE
    assert np.all(np.diff(fade) < 0)
    assert np.abs(np.diff(np.concatenate(([10000], fade, [0])))).max() <= 10000 // FADE + 1
    assert speech.exhausted
    assert said(speech) == [[]]
    assert not await mark
    assert mark.cleared
    assert (mark.position, speech.position) == (1600, 1600)


async def test_clearing_what_has_not_begun_to_play_makes_no_sound() -> None:
    speech = Speech()
    await speech.write(np.full(8000, 10000, np.int16))
    speech.clear()
    assert said(speech) == [[]]
    await speech.write(numbers(400))
    assert said(speech) == [numbers(160).tolist()]


async def test_what_is_written_after_a_clear_follows_the_fade() -> None:
    speech = Speech()
    await speech.write(np.full(8000, 4000, np.int16))
    said(speech)
    speech.clear()
    await speech.write(numbers(400))
    (out,) = said(speech)
    assert out[FADE:] == numbers(FRAME - FADE).tolist()
    assert speech.position == FRAME + FRAME - FADE


async def test_a_clear_frees_who_waits_and_voids_what_it_waits_with() -> None:
    speech = Speech(max_seconds=0.1)
    writing = [asyncio.ensure_future(speech.write(np.ones(1600, np.int16))) for _ in range(3)]
    await settle()
    speech.clear()
    assert await asyncio.gather(*writing) == [False] * 3
    assert await speech.write(numbers(400))
    assert said(speech) == [numbers(160).tolist()]


async def test_the_end_of_the_call_frees_who_waits() -> None:
    speech = Speech(max_seconds=0.1)
    writing = asyncio.ensure_future(speech.write(np.ones(1600, np.int16)))
    await settle()
    mark = speech.mark()
    speech.finish()
    assert not await writing
    assert not await mark
    assert not await speech.write(numbers(4))
    assert speech.write_nowait(numbers(4)) == 0
    assert not await speech.mark()


# ---- underruns -------------------------------------------------------------------------------------------------------


async def test_only_gaps_inside_speech_are_underruns() -> None:
    now = 0.0
    speech = Speech(prefetch_ms=0, clock=lambda: now)
    for _ in range(5):  # in step with the clock: never dry
        await speech.write(numbers(FRAME))
        said(speech)
    assert speech.underruns == 0
    said(speech)
    now = 0.5
    await speech.write(numbers(FRAME))
    assert speech.underruns == 1
    said(speech, 2)
    now = 9.0  # another sentence
    await speech.write(numbers(FRAME))
    assert speech.underruns == 1
    speech.mark()
    said(speech, 2)
    await speech.write(numbers(FRAME))  # the one before had ended
    said(speech)
    speech.clear()
    await speech.write(numbers(FRAME))
    assert speech.underruns == 1


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


def heard(engine: MediaEngine, far: FarEnd, ticks: int) -> NDArray[np.int16]:
    """What the far end gets meanwhile."""
    frames = []
    for _ in range(ticks):
        engine.tick(1, 0.0)
        frames.append(np.frombuffer(far.receive()[-1], np.uint8))
    return decode(np.concatenate(frames), Law.PCMU)


async def test_the_far_end_hears_silence_within_forty_milliseconds_of_a_clear(
    engine: MediaEngine, far: FarEnd, stream: RtpStream
) -> None:
    audio = AudioStream()
    stream.converse(audio)
    await audio.write(tone(8000))
    assert np.abs(heard(engine, far, 5)).max() > 7000
    audio.clear()
    after = heard(engine, far, 2)
    assert not np.any(after[2 * FADE :])
    assert np.abs(np.diff(after.astype(int))).max() < 3000  # no step beyond the tone's own
    assert audio.position == 5 * FRAME


async def test_speech_and_files_queue_in_the_order_they_came(
    engine: MediaEngine, far: FarEnd, stream: RtpStream
) -> None:
    audio = AudioStream()
    stream.converse(audio)
    stream.play(ArraySource(np.full(2 * FRAME, 1000, np.int16)))
    await audio.write(np.full(2 * FRAME, 2000, np.int16))
    stream.play(ArraySource(np.full(FRAME, 3000, np.int16)))
    out = heard(engine, far, 6)
    assert [round(int(value), -2) for value in out[80::FRAME]] == [1000, 1000, 2000, 2000, 3000, 0]
    await audio.write(np.full(3 * FRAME, 4000, np.int16))
    assert round(int(heard(engine, far, 1)[80]), -3) == 4000


async def test_hanging_up_and_closing_clear_and_tell(engine: MediaEngine, far: FarEnd, stream: RtpStream) -> None:
    audio, other = AudioStream(), AudioStream()
    for one in (audio, other):
        stream.converse(one)
        await one.write(tone(8000))
    marks = [one.mark() for one in (audio, other)]
    other.close()
    assert not await marks[1]
    heard(engine, far, 3)
    stream.clear()
    assert not await marks[0]
    assert not np.any(heard(engine, far, 1))
    await audio.write(tone(800))
    assert np.any(heard(engine, far, 2))
    stream.close()
    assert audio.closed
    assert not await audio.write(tone(800))
    assert not await audio.drain()


async def test_a_stream_that_is_over_takes_nothing(stream: RtpStream) -> None:
    stream.close()
    audio = AudioStream()
    stream.converse(audio)
    assert audio.closed
    assert not await audio.write(tone(800))
