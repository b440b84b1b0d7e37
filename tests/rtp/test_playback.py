"""Sources play one behind the other without a gap, and each handle tells how it went."""

from __future__ import annotations

import asyncio
import logging

import numpy as np
import pytest
from numpy.typing import NDArray

from rtp.playback import PlaybackQueue, PlaybackResult
from rtp.sources import ArraySource
from tests.rtp.kit import Live

FRAME = 160


def numbers(first: int, count: int) -> NDArray[np.int16]:
    return np.arange(first, first + count, dtype=np.int16)


def frames(queue: PlaybackQueue, count: int) -> NDArray[np.int16]:
    out = np.full((count, FRAME), -1, np.int16)
    for frame in out:
        if not queue.fill(frame):
            frame[:] = 0
    return out.reshape(-1)


async def test_files_play_back_to_back_to_the_sample() -> None:
    queue = PlaybackQueue(8000)
    first = queue.add(ArraySource(numbers(1, 250)))
    second = queue.add(ArraySource(numbers(251, 1)))
    third = queue.add(ArraySource(numbers(252, 300)))
    heard = frames(queue, 5)
    assert np.array_equal(heard[:551], numbers(1, 551))
    assert not heard[551:].any()
    for playback, samples in ((first, 250), (second, 1), (third, 300)):
        assert await playback == PlaybackResult(samples / 8000, completed=True)
    assert not queue


async def test_the_last_frame_is_padded_with_silence() -> None:
    queue = PlaybackQueue(8000)
    queue.add(ArraySource(numbers(1, 10)))
    assert frames(queue, 1)[10:].tolist() == [0] * 150


async def test_a_playback_is_done_with_its_last_frame_and_not_before() -> None:
    queue = PlaybackQueue(8000)
    playback = queue.add(ArraySource(numbers(0, 2 * FRAME)))
    frames(queue, 1)
    assert not playback.done
    assert playback.played_seconds == 0.02
    assert playback.total_seconds == 0.04
    frames(queue, 1)
    assert playback.done


async def test_cancelling_stops_at_the_next_frame_and_the_next_file_begins() -> None:
    queue = PlaybackQueue(8000)
    first = queue.add(ArraySource(numbers(1, 1000)))
    second = queue.add(ArraySource(numbers(5000, FRAME)))
    frames(queue, 2)
    first.cancel()
    assert first.cancelled
    assert np.array_equal(frames(queue, 1), numbers(5000, FRAME))
    assert await first == PlaybackResult(0.04, completed=False)
    assert (await second).completed
    first.cancel()
    second.cancel()
    assert not second.cancelled


async def test_cancelling_what_waits_takes_it_out_of_the_queue() -> None:
    queue = PlaybackQueue(8000)
    queue.add(ArraySource(numbers(1, 200)))
    waiting = queue.add(ArraySource(numbers(5000, 200)))
    waiting.cancel()
    assert np.max(frames(queue, 3)) == 200
    assert waiting.played_samples == 0


async def test_clearing_cancels_everything() -> None:
    queue = PlaybackQueue(8000)
    playbacks = [queue.add(ArraySource(numbers(1, 1000))) for _ in range(3)]
    frames(queue, 1)
    queue.clear()
    assert not queue
    assert [(await playback).completed for playback in playbacks] == [False] * 3
    assert not frames(queue, 1).any()


async def test_whoever_waits_may_stop_waiting_without_stopping_the_playback() -> None:
    queue = PlaybackQueue(8000)
    playback = queue.add(ArraySource(numbers(1, FRAME)))
    waiter = asyncio.ensure_future(playback.wait())
    await asyncio.sleep(0)
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    frames(queue, 1)
    assert (await playback).completed


async def test_a_live_source_that_runs_dry_is_padded_and_goes_on() -> None:
    queue = PlaybackQueue(8000)
    live = Live()
    playback = queue.add(live)
    live.write(numbers(1, 100))
    assert frames(queue, 2)[100:].tolist() == [0] * 220
    live.write(numbers(101, 60))
    live.end()
    assert frames(queue, 1)[:60].tolist() == list(range(101, 161))
    assert await playback == PlaybackResult(0.02, completed=True)


class Broken:
    total_samples = None
    exhausted = False

    def read(self, samples: int) -> NDArray[np.int16]:
        raise RuntimeError("disk on fire")


class TooMuch(Broken):
    def read(self, samples: int) -> NDArray[np.int16]:
        return np.zeros(samples + 1, np.int16)


@pytest.mark.parametrize("source", [Broken(), TooMuch()], ids=["raises", "returns too much"])
async def test_a_source_that_fails_is_dropped_and_the_next_one_plays(
    source: Broken, caplog: pytest.LogCaptureFixture
) -> None:
    queue = PlaybackQueue(8000)
    broken = queue.add(source)
    queue.add(ArraySource(numbers(1, FRAME)))
    with caplog.at_level(logging.ERROR):
        assert np.array_equal(frames(queue, 1), numbers(1, FRAME))
    assert not (await broken).completed
    assert "audio source failed" in caplog.text


@pytest.mark.parametrize("fails", [False, True])
def test_a_source_may_clear_the_queue_that_reads_it(fails: bool) -> None:
    """A bot hangs up when its last sample was taken: that must not reach the tick, which serves other calls as well."""
    queue = PlaybackQueue(8000)

    class Last(ArraySource):
        def read(self, samples: int) -> NDArray[np.int16]:
            queue.clear()
            if fails:
                raise RuntimeError("over")
            return super().read(samples)

    playback = queue.add(Last(np.ones(FRAME, np.int16)))
    queue.read(FRAME)
    assert playback.done
    assert len(queue) == 0
