"""Comfort noise (RFC 3389): level, colour, where it begins and ends."""

from __future__ import annotations

import numpy as np
import pytest

from rtp.comfort_noise import LOOP, ComfortNoise, noise_of
from rtp.jitter import FRAME, insert
from rtp.sequence import follow
from tests.rtp.kit import Rows, tone


def level_of(samples: np.ndarray[tuple[int, ...], np.dtype[np.int16]]) -> float:
    """dB below overload."""
    return float(-20 * np.log10(np.sqrt((samples.astype(float) ** 2).mean()) / 32768))


@pytest.mark.parametrize("level", [20, 40, 60, 78])
def test_noise_has_the_level_that_was_announced(level: int) -> None:
    """§3.1: -level dBov."""
    assert level_of(noise_of(bytes((level,)), np.random.default_rng(1))) == pytest.approx(level, abs=1.5)


def test_the_top_bit_is_reserved_and_silence_is_silent() -> None:
    rng = np.random.default_rng(1)
    assert level_of(noise_of(bytes((0x80 | 50,)), rng)) == pytest.approx(50, abs=1.5)
    assert np.abs(noise_of(bytes((127,)), rng)).max() == 0


@pytest.mark.parametrize(("number", "low_is_louder"), [(40, True), (214, False)])
def test_reflection_coefficients_colour_it(number: int, low_is_louder: bool) -> None:
    """§3.2: k = 258 (N - 127) / 32768; a negative first coefficient is a low-pass."""
    noise = noise_of(bytes((40, number)), np.random.default_rng(1))
    spectrum = np.abs(np.fft.rfft(noise.astype(float))) ** 2
    half = len(spectrum) // 2
    assert (spectrum[:half].sum() > 4 * spectrum[half:].sum()) == low_is_louder
    assert level_of(noise) == pytest.approx(40, abs=1.5)


@pytest.mark.parametrize("number", [40, 214])
def test_a_wide_row_gets_the_same_colour(number: int) -> None:
    """§4: the coefficients are those of 8,000 Hz, so the same ones lie at the same Hz, and nothing above 4 kHz."""
    rng = np.random.default_rng(1)
    narrow, wide = (
        np.mean([np.abs(np.fft.rfft(noise_of(bytes((40, number)), rng, wide=wide))) ** 2 for _ in range(20)], axis=0)
        for wide in (False, True)
    )
    band = LOOP // 8  # bins: a kHz of what is 300 ms at 8,000 Hz, and half of them of 150 ms at 16,000
    of_narrow = [float(narrow[low : low + band].sum() / narrow.sum()) for low in range(0, 4 * band, band)]
    of_wide = [float(wide[low : low + band // 2].sum() / wide.sum()) for low in range(0, 4 * band // 2, band // 2)]
    assert of_wide == pytest.approx(of_narrow, abs=0.03)
    assert wide[LOOP // 4 + 1 :].sum() < 0.001 * wide.sum()
    assert level_of(noise_of(bytes((40, number)), rng, wide=True)) == pytest.approx(40, abs=1.5)


@pytest.mark.parametrize("payload", [b"\x28" + b"\xff" * 200, b"\x00" * 40, bytes(range(256))])
def test_no_payload_does_harm(payload: bytes) -> None:
    noise = noise_of(payload, np.random.default_rng(1))
    assert np.isfinite(noise).all()


class Quiet:
    """A row of which audio came up to frame 3, then an announcement of noise at frame 4."""

    def __init__(self) -> None:
        self.rows = Rows(1)
        for number in range(4):
            self.arrive(number)

    def arrive(self, number: int) -> None:
        rows = self.rows
        packets, forward = follow(
            rows.reception, rows.ring, rows.counters, rows.packets(0, number, number * FRAME, tone(FRAME))
        )
        insert(rows.ring, rows.delay, rows.counters, packets, forward)
        if rows.noise.active:
            rows.noise.interrupt(packets, rows.ring.position[packets.rows])

    def play(self, count: int) -> list[float]:
        """Levels of the next frames, dB below overload."""
        levels = []
        for _ in range(count):
            frames = self.rows.play(0)
            self.rows.conceal(frames, 0)
            levels.append(level_of(frames[0]) if frames[0].any() else 99.0)
        return levels


def test_from_its_timestamp_on_noise_stands_in_for_audio_until_audio_comes_again() -> None:
    line = Quiet()
    line.rows.noise.describe(0, 7 * FRAME, bytes((50,)))
    levels = line.play(12)
    assert levels[:3] == [99.0] * 3  # the first delay
    assert all(level < 20 for level in levels[3:7])
    assert all(46 < level < 54 for level in levels[7:])
    line.arrive(12)
    levels = line.play(4)
    assert all(46 < level < 54 for level in levels[:3])
    assert levels[3] < 20
    assert line.rows.counters.concealed[0] == line.rows.counters.underruns[0] == 0
    assert line.play(1)[0] < 25  # what is missing now is lost, not silent
    assert line.rows.counters.concealed[0] == 1


def test_the_level_may_change_in_the_middle_of_a_silence() -> None:
    line = Quiet()
    line.rows.noise.describe(0, 7 * FRAME, bytes((60,)))
    line.play(10)
    line.rows.noise.describe(0, 11 * FRAME, bytes((40,)))
    assert line.play(3)[-1] == pytest.approx(40, abs=4)


def test_an_empty_description_says_nothing() -> None:
    noise = ComfortNoise(1)
    noise.describe(0, 0, b"")
    assert not noise.active
