"""Louder, softer, two at once, one behind the other."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from rtp.mixing import ATTACK, RELEASE, Chain, Ending, Gain, Mix
from rtp.sources import ArraySource, AudioSource, LoopedSource
from tests.rtp.kit import Live

FRAME = 160


def level(value: int, samples: int) -> ArraySource:
    return ArraySource(np.full(samples, value, np.int16))


def read_all(source: AudioSource) -> NDArray[np.int16]:
    heard = []
    while not source.exhausted:
        heard.append(source.read(FRAME))
    return np.concatenate(heard)


class Closing(ArraySource):
    closed = 0

    def close(self) -> None:
        self.closed += 1


def test_gain_is_exact_and_clips() -> None:
    assert read_all(Gain(level(1000, 200), -20.0)).tolist() == [100] * 200
    assert read_all(Gain(level(30_000, 10), 6.0)).tolist() == [32_767] * 10
    assert read_all(Gain(level(-30_000, 10), 6.0)).tolist() == [-32_768] * 10
    assert Gain(level(1, 5), 3.0).total_samples == 5


def test_a_gain_that_changes_ramps_over_a_frame() -> None:
    source = Gain(LoopedSource(np.full(8, 10_000, np.int16)), 0.0)
    assert source.read(FRAME).tolist() == [10_000] * FRAME
    source.decibels = -40.0
    ramp = source.read(FRAME)
    assert (ramp[0], ramp[-1]) == (10_000, 100)
    assert np.abs(np.diff(ramp.astype(int))).max() < 70
    assert source.read(FRAME).tolist() == [100] * FRAME


def test_two_at_once_are_added_and_clipped() -> None:
    assert read_all(Mix(level(100, 300), level(50, 300))).tolist() == [150] * 300
    assert read_all(Mix(level(30_000, 10), level(30_000, 10))).tolist() == [32_767] * 10


@pytest.mark.parametrize(
    ("ends_with", "expected"),
    [
        ("foreground", [11] * 250),
        ("background", [11] * 250 + [1] * 150),
        ("both", [11] * 250 + [1] * 150),
    ],
)
def test_a_mix_ends_with_what_it_is_told_to(ends_with: Ending, expected: list[int]) -> None:
    mix = Mix(level(1, 400), level(10, 250), ends_with=ends_with)
    assert mix.total_samples == len(expected)
    assert read_all(mix).tolist() == expected


def test_speech_over_endless_music() -> None:
    endless = LoopedSource(np.full(7, 100, np.int16))
    assert Mix(endless, level(1, 500)).total_samples == 500
    assert Mix(endless, level(1, 500), ends_with="both").total_samples is None
    assert len(read_all(Mix(endless, level(1, 500)))) == 500


def test_music_makes_room_for_speech_and_comes_back() -> None:
    music = LoopedSource(np.full(8, 10_000, np.int16))
    speech = Live()
    mix = Mix(music, speech, ducking_db=-20.0, ends_with="both")
    assert mix.read(FRAME).tolist() == [10_000] * FRAME
    speech.write(np.zeros(10 * FRAME, np.int16))
    down = np.concatenate([mix.read(FRAME) for _ in range(10)]).astype(int)
    up = np.concatenate([mix.read(FRAME) for _ in range(30)]).astype(int)
    assert down[ATTACK:].tolist() == [1000] * (10 * FRAME - ATTACK)
    assert (np.diff(down) <= 0).all()
    assert (np.diff(up) >= 0).all()
    assert up[RELEASE - FRAME] < 10_000
    assert up[RELEASE:].tolist() == [10_000] * (30 * FRAME - RELEASE)


def test_a_chain_has_no_gap_and_closes_what_is_over() -> None:
    first, last = Closing(np.full(250, 1, np.int16)), Closing(np.full(90, 3, np.int16))
    chain = Chain([first, level(2, 10), last])
    assert chain.total_samples == 350
    assert chain.read(FRAME).tolist() == [1] * FRAME
    assert first.closed == 0
    assert read_all(chain).tolist() == [1] * 90 + [2] * 10 + [3] * 90
    assert (first.closed, last.closed) == (1, 1)
    chain.close()
    assert last.closed == 1
    assert Chain([Live(), level(1, 5)]).total_samples is None


def test_a_live_source_in_a_chain_is_waited_for() -> None:
    live = Live()
    chain = Chain([live, level(7, 3)])
    live.write(np.full(5, 1, np.int16))
    assert chain.read(FRAME).tolist() == [1] * 5
    live.end()
    assert chain.read(FRAME).tolist() == [7] * 3
    assert chain.exhausted


def test_closing_reaches_the_sources_within() -> None:
    sources = [Closing(np.zeros(4, np.int16)) for _ in range(3)]
    chain = Chain([Gain(Mix(sources[0], sources[1]), 3.0), sources[2]])
    chain.close()
    assert [source.closed for source in sources] == [1, 1, 1]
