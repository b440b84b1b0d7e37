"""What a call can be told to play."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from rtp.rates import rate_of
from rtp.sources import AudioSource
from sipcore.errors import InvalidAudio, InvalidRequest
from sipcore.sounds import AudioInput, KeyTones, Mixed, Samples, Tone, needs_reading, open_sounds
from tests.kit.pair import pair
from tests.kit.virtual_time import virtual_time

RATE = 8000


def heard(source: AudioSource, samples: int) -> list[int]:
    return [int(sample) for sample in source.read(samples)]


def test_everything_plays_behind_everything(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.full(10, 5, np.int16), RATE)
    ones = np.ones(4, np.int16)
    source = open_sounds([str(path), ones, Mixed(ones, path, ducking_db=0.0), KeyTones("1"), path.read_bytes()])
    assert source.total_samples == 10 + 4 + 10 + 1600 + 10
    assert heard(source, 24) == [5] * 10 + [1] * 4 + [6] * 4 + [5] * 6
    source.read(1600)
    assert heard(source, 20) == [5] * 10
    assert source.exhausted


def test_music_is_softer_under_speech_and_begins_again() -> None:
    music, speech = np.full(50, 1000, np.int16), np.full(4000, 7, np.int16)
    mixed = Mixed(music, speech, background_db=-20.0, ducking_db=-20.0, loop_background=True)
    samples = open_sounds([mixed]).read(4000)
    assert len(samples) == 4000
    assert samples[-1] == 10 + 7


def test_louder_and_softer() -> None:
    assert heard(open_sounds([np.full(3, 100, np.int16)], gain_db=20.0), 9) == [1000] * 3


def test_nothing_is_over_at_once() -> None:
    assert open_sounds([]).exhausted


def test_files_are_read_in_a_thread_and_nothing_else_is() -> None:
    array = np.zeros(3, np.int16)
    quick: list[AudioInput] = [
        array,
        Tone("busy"),
        KeyTones("1"),
        Mixed(array, Tone("ring", "UK")),
        open_sounds([array]),
    ]
    assert not any(needs_reading(source) for source in quick)
    slow: list[AudioInput] = ["a.wav", Path("a.wav"), b"RIFF", Mixed(array, Mixed("a.wav", array))]
    assert all(needs_reading(source) for source in slow)


@pytest.mark.parametrize(
    ("build", "field"),
    [
        (lambda: Tone("fax"), "tone"),  # type: ignore[arg-type]
        (lambda: Tone("ring", "Atlantis"), "tone"),
        (lambda: Tone("ring", seconds=0), "seconds"),
        (lambda: KeyTones(""), "digits"),
        (lambda: KeyTones("12E"), "digits"),
        (lambda: KeyTones("1", duration_ms=39), "duration_ms"),
        (lambda: KeyTones("1", gap_ms=5001), "gap_ms"),
        (lambda: open_sounds([Tone("ring")], loop=True), "loop"),
    ],
)
def test_nonsense_is_refused(build: object, field: str) -> None:
    assert callable(build)
    with pytest.raises(InvalidRequest) as caught:
        build()
    assert caught.value.field == field


@virtual_time
async def test_a_call_plays_them(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(RATE, np.int16), RATE)
    async with pair() as scene:
        call, _ = await scene.connect()
        assert (await call.play(Tone("busy", "DE", seconds=2), KeyTones("12"), gain_db=-6)).played_seconds == 2.4
        assert (await call.play(path, Tone("congestion", seconds=0.5))).played_seconds == 1.5
        music = call.play(path, loop=True)
        ringing = call.play(Tone("ring"))
        music.cancel()
        ringing.cancel()
        assert not (await music).completed
        assert not (await ringing).completed
        with pytest.raises(InvalidRequest, match="loop"):
            call.play(Tone("ring"), loop=True)
        with pytest.raises(InvalidAudio):
            await call.play(tmp_path / "missing.wav", loop=True)
        await call.hangup()


def test_sounds_of_a_wide_call_have_its_rate() -> None:
    ones = np.full(4000, 1000, np.int16)
    together: list[list[AudioInput]] = [
        [ones, ones],
        [Tone("busy"), ones],
        [Samples(ones, 8000)],
        [Mixed(ones, Samples(ones))],
        [],
    ]
    for sources in together:
        source = open_sounds(sources, rate=16000, gain_db=6.0)
        assert rate_of(source) == 16000
    assert open_sounds([ones, Samples(ones)], rate=16000).total_samples == 12_000
    assert open_sounds([ones, Samples(ones)], rate=8000).total_samples == 6000
    assert heard(open_sounds([ones], loop=True, rate=16000), 16000)[1000:7000] == [1000] * 6000


def test_long_samples_are_converted_in_a_thread() -> None:
    long = np.zeros(100_000, np.int16)
    assert needs_reading(long, 16000)
    assert not needs_reading(long, 8000)
    assert not needs_reading(long[:800], 16000)


def test_samples_of_another_rate_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="44100"):
        Samples(np.zeros(1, np.int16), 44100)
