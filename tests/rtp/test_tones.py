"""Progress tones by country, and keys."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from rtp.tones import KEY_HERTZ, Segment, amplitude, cadence, countries, key_tones, tone_source

RATE = 8000


def loudest(samples: NDArray[np.int16], count: int) -> list[int]:
    """The strongest frequencies, Hz, of a second that is an even number of periods."""
    spectrum = np.abs(np.fft.rfft(samples, RATE))
    return sorted(int(hertz) for hertz in np.argsort(spectrum)[-count:])


def runs(samples: NDArray[np.int16]) -> list[tuple[bool, int]]:
    """Sound or silence, and for how many ms; frames of 5 ms."""
    sounding = np.abs(samples.reshape(-1, 40)).max(axis=1) > 500
    edges = [0, *(np.flatnonzero(np.diff(sounding)) + 1).tolist(), len(sounding)]
    return [(bool(sounding[start]), (end - start) * 5) for start, end in pairwise(edges)]


@pytest.mark.parametrize(
    ("country", "name", "expected"),
    [
        ("US", "ring", [((440, 480), 2000), ((), 4000)]),
        ("us", "busy", [((480, 620), 500), ((), 500)]),
        ("DE", "busy", [((425,), 480), ((), 480)]),
        ("DE", "congestion", [((425,), 240), ((), 240)]),
        ("UK", "ring", [((400, 450), 400), ((), 200), ((400, 450), 400), ((), 2000)]),
        ("GB", "congestion", [((400,), 400), ((), 350), ((400,), 225), ((), 525)]),
        ("AT", "dial", [((420,), None)]),
    ],
)
def test_cadences(country: str, name: str, expected: list[tuple[tuple[int, ...], int | None]]) -> None:
    assert cadence(name, country) == tuple(Segment(*each) for each in expected)


@pytest.mark.parametrize("country", countries())
@pytest.mark.parametrize("name", ["ring", "busy", "congestion", "dial"])
def test_every_country_has_every_tone_and_they_sound_as_written(country: str, name: str) -> None:
    segments = cadence(name, country)
    length = sum(segment.milliseconds or 1000 for segment in segments)
    samples = tone_source(name, country).read(length * 8)
    wanted = [(bool(segment.hertz), segment.milliseconds or 1000) for segment in segments]
    assert len(runs(samples)) == len(wanted)
    for (sounds, lasts), (shall_sound, shall_last) in zip(runs(samples), wanted, strict=True):
        assert sounds == shall_sound
        assert abs(lasts - shall_last) <= 5
    hertz = segments[0].hertz
    first = (segments[0].milliseconds or 1000) * 8
    found = loudest(samples[: min(first, RATE)], len(hertz))
    assert all(abs(one - two) <= 2 for one, two in zip(found, sorted(hertz), strict=True))


def test_other_tones_are_refused() -> None:
    with pytest.raises(ValueError, match="not a country"):
        cadence("ring", "XX")
    with pytest.raises(ValueError, match="not a tone"):
        cadence("fax", "DE")


def test_a_dial_tone_goes_on_without_a_seam() -> None:
    samples = tone_source("dial", "DE").read(3 * RATE)
    expected = amplitude(-13.0) * np.sin(2 * np.pi * 425 * np.arange(3 * RATE) / RATE)
    assert np.abs(samples - expected).max() <= 1


def test_a_tone_of_some_seconds_ends() -> None:
    source = tone_source("busy", "DE", seconds=1.5)
    assert source.total_samples == 12_000
    assert len(source.read(20_000)) == 12_000
    assert source.exhausted


@pytest.mark.parametrize("key", "0123456789*#ABCD")
def test_keys_are_two_tones(key: str) -> None:
    samples = key_tones(key, milliseconds=100, pause=50)
    assert len(samples) == 1200
    assert not samples[800:].any()
    spectrum = np.abs(np.fft.rfft(samples[:800], RATE))
    low, high = KEY_HERTZ[key]
    assert abs(int(np.argmax(spectrum[600:1000])) + 600 - low) <= 3
    assert abs(int(np.argmax(spectrum[1100:1700])) + 1100 - high) <= 3


def test_other_keys_are_refused() -> None:
    assert len(key_tones("")) == 0
    with pytest.raises(ValueError, match="not a DTMF digit"):
        key_tones("1E")
