"""Recordings that a program takes piece by piece: all samples, and no more memory than agreed."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from numpy.typing import NDArray

from rtp.recording_stream import RecordingStream
from tests.kit.virtual_time import run_virtual

FRAME = 160


def frame(value: int) -> NDArray[np.int16]:
    return np.full(FRAME, value, np.int16)


async def pieces(recording: RecordingStream) -> list[NDArray[np.int16]]:
    return [piece async for piece in recording]


def values(piece: NDArray[np.int16]) -> list[list[int]]:
    """The first sample of each tick, by channel."""
    return [[int(value) for value in tick] for tick in piece[::FRAME]]


async def test_both_sides_come_in_pieces_of_the_agreed_length() -> None:
    recording = RecordingStream(chunk_ms=40)
    reading = asyncio.create_task(pieces(recording))
    for number in range(1, 6):
        recording.take(0, frame(number), frame(-number) if number % 2 else None)
        await asyncio.sleep(0)
    recording.close()
    got = await reading
    assert [piece.shape for piece in got] == [(320, 2), (320, 2), (160, 2)]
    assert [values(piece) for piece in got] == [[[1, -1], [2, 0]], [[3, -3], [4, 0]], [[5, -5]]]
    assert recording.seconds == 0.1
    assert recording.error is None


async def test_mono_is_the_far_end_alone() -> None:
    recording = RecordingStream(stereo=False, chunk_ms=20)
    recording.take(0, frame(7), frame(9))
    recording.close()
    (piece,) = await pieces(recording)
    assert piece.shape == (160, 1)
    assert (piece == 7).all()


async def test_ticks_that_are_missing_are_silence_across_pieces() -> None:
    recording = RecordingStream(stereo=False, chunk_ms=60)
    recording.take(0, frame(1), None)
    recording.take(4, frame(2), None)
    recording.take(2, frame(3), None)
    recording.close()
    got = await pieces(recording)
    assert [[value for (value,) in values(piece)] for piece in got] == [[1, 0, 0], [0, 0, 2], [0, 0, 3]]
    assert recording.samples == 9 * FRAME


async def test_a_pause_is_silence_and_keeps_in_step() -> None:
    recording = RecordingStream(chunk_ms=20)
    for number, paused in enumerate((False, True, False), 1):
        (recording.pause if paused else recording.resume)()
        recording.take(0, frame(number), frame(number))
    recording.close()
    recording.take(0, frame(4), None)
    assert [values(piece) for piece in await pieces(recording)] == [[[1, 1]], [[0, 0]], [[3, 3]]]


async def test_a_reader_that_is_too_slow_ends_it_and_gets_what_waits() -> None:
    recording = RecordingStream(stereo=False, chunk_ms=20, max_seconds=1.0)
    taken_off = []
    recording.on_close = lambda: taken_off.append(True)
    for number in range(60):
        recording.take(0, frame(number), None)
    assert recording.closed
    assert taken_off == [True]
    assert str(recording.error) == "the reader is too slow"
    got = await pieces(recording)
    assert [values(piece)[0][0] for piece in got] == list(range(50))


def test_the_reader_sleeps_until_a_piece_is_whole() -> None:
    async def main() -> None:
        recording = RecordingStream(chunk_ms=100)
        reading = asyncio.ensure_future(anext(recording))
        for _ in range(4):
            recording.take(0, frame(1), None)
        await asyncio.sleep(1)
        assert not reading.done()
        recording.take(0, frame(1), None)
        assert len(await reading) == 800
        waiting = asyncio.ensure_future(anext(recording))
        await asyncio.sleep(1)
        with pytest.raises(RuntimeError, match="two tasks"):
            await anext(recording)
        recording.close()
        with pytest.raises(StopAsyncIteration):
            await waiting
        await recording.wait_closed()

    run_virtual(main())


@pytest.mark.parametrize("length", [0, 10, 30, 1020])
def test_lengths_that_cannot_be(length: int) -> None:
    with pytest.raises(ValueError, match="multiple of 20"):
        RecordingStream(chunk_ms=length)
