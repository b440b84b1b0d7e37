"""Sources at another rate than the stream's."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from rtp.mixing import Chain, Gain, Mix
from rtp.playback import PlaybackQueue
from rtp.rates import AtRate, at_rate, doubled, rate_of
from rtp.sources import ArraySource, AudioSource, LoopedSource
from rtp.speech import Speech
from tests.rtp.kit import Live

PIECES = (1, 160, 320, 7, 640, 33)


def chirp(samples: int, rate: int) -> NDArray[np.int16]:
    """From 300 to 3,000 Hz over its length, the same at each rate."""
    time = np.arange(samples) / rate
    return (8000 * np.sin(2 * np.pi * (300 * time + 1350 * time**2 * rate / samples))).astype(np.int16)


def whole(source: AudioSource) -> NDArray[np.int16]:
    """All of it, in pieces of many lengths."""
    parts = []
    for number in range(10_000):
        if source.exhausted:
            break
        parts.append(source.read(PIECES[number % len(PIECES)]))
    return np.concatenate(parts)


def error(one: NDArray[np.int16], other: NDArray[np.int16]) -> float:
    """The greatest difference, edges aside."""
    assert len(one) == len(other)
    return float(np.abs(one.astype(np.int32) - other)[100:-100].max())


def test_what_has_an_end_is_in_step_and_twice_as_long() -> None:
    source = AtRate(ArraySource(chirp(4000, 8000)), 16000)
    assert source.total_samples == 8000
    assert error(whole(source), chirp(8000, 16000)) < 20
    assert error(doubled(chirp(4000, 8000)), chirp(8000, 16000)) < 20


def test_what_has_an_end_is_in_step_and_half_as_long() -> None:
    source = AtRate(ArraySource(chirp(8000, 16000), 16000), 8000)
    assert source.total_samples == 4000
    assert error(whole(source), chirp(4000, 8000)) < 20
    assert len(whole(AtRate(ArraySource(chirp(8001, 16000), 16000), 8000))) == 4000


def test_what_is_live_comes_out_at_once() -> None:
    """A frame for a frame, and 2 ms late; a source that ran dry goes on where it was."""
    live = Live()
    source = AtRate(live, 16000)
    said = chirp(8000, 8000)
    heard = []
    for start in range(0, 8000, 160):
        assert len(source.read(320)) == 0
        live.write(said[start : start + 160])
        heard.append(source.read(320))
    assert {len(frame) for frame in heard} == {320}
    assert error(np.concatenate(heard)[32:], chirp(16000, 16000)[:-32]) < 20
    live.end()
    source.read(0)
    assert not source.exhausted
    assert len(source.read(320)) == 32
    assert source.exhausted


def test_a_source_of_the_right_rate_is_left_alone() -> None:
    source = LoopedSource(chirp(100, 16000), sample_rate=16000)
    assert at_rate(source, 16000) is source
    assert rate_of(Live()) == 8000


def test_other_rates_are_refused() -> None:
    with pytest.raises(ValueError, match="44100"):
        PlaybackQueue(16000).add(ArraySource(np.zeros(1, np.int16), 44100))


def test_sources_made_of_sources_have_their_rate() -> None:
    wide, narrow = ArraySource(chirp(640, 16000), 16000), ArraySource(chirp(640, 8000))
    assert rate_of(Gain(wide, 3.0)) == rate_of(Chain([wide])) == rate_of(Mix(wide, wide)) == 16000
    assert rate_of(Chain([])) == rate_of(Gain(narrow, 3.0)) == 8000
    with pytest.raises(ValueError, match="mixed"):
        Mix(wide, narrow)


def test_a_source_is_closed_through_its_converter() -> None:
    class Closing(Live):
        closed = False

        def close(self) -> None:
            self.closed = True

    source = Closing()
    queue = PlaybackQueue(16000)
    queue.add(source)
    queue.clear()
    assert source.closed


def test_a_queue_whose_rate_changes_counts_in_seconds() -> None:
    queue = PlaybackQueue(8000)
    playback = queue.add(ArraySource(chirp(8000, 8000)))
    queue.read(4000)
    queue.rerate(16000)
    assert (playback.played_seconds, playback.total_seconds) == (0.5, 1.0)
    queue.read(4000)
    assert playback.played_seconds == 0.75
    queue.rerate(8000)
    while queue.read(160) is not None:
        assert playback.played_seconds <= 1.0
    assert playback.done


async def test_speech_follows_the_rate_of_its_stream() -> None:
    """What is queued is converted, marks keep their places, and positions are those of what was written."""
    speech = Speech(rate=16000, line=8000, prefetch_ms=0)
    said = chirp(16000, 16000)
    speech.write_nowait(said)
    mark = speech.mark()
    first = speech.read(4000)
    assert (speech.sample_rate, speech.position, speech.queued_seconds) == (8000, 8000, 0.5)
    speech.follow(16000)
    assert (speech.sample_rate, speech.position, speech.queued_seconds) == (16000, 8000, 0.5)
    second = speech.read(8000)
    assert error(first[15:], chirp(8000, 8000)[: 4000 - 15]) < 20
    assert error(second, np.concatenate((np.zeros(30, np.int16), said))[8000:16000]) < 20
    assert await mark
    assert mark.position == 16000
    speech.follow(8000)
    speech.write_nowait(said[:320])
    assert len(speech.read(160)) == 160


def test_speech_written_at_8_khz_is_read_at_8_khz() -> None:
    assert Speech(rate=8000, line=16000).sample_rate == 8000
