"""Keys as tones in the audio, by the limits of ITU-T Q.24; random phases, seeded."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from rtp.engine import MediaEngine
from rtp.g711 import Law, decode, encode
from rtp.inband import InbandKeys, finish_key, hear_keys
from rtp.sources import ArraySource
from rtp.stream import RtpStream
from rtp.tones import KEY_HERTZ, amplitude, countries, key_tones, tone_source
from rtp.wav import load_wav
from service import demo

RATE = 8000
FRAME = 160
KEYS = "0123456789*#ABCD"
SOME = 48
"""Tries of each case: every key three times."""

Wave = NDArray[np.float64]
Told = list[tuple[str, int]]


def pressed(
    key: str,
    milliseconds: float,
    rng: np.random.Generator,
    *,
    off: tuple[float, float] = (0.0, 0.0),
    dbm0: float = -10.0,
    twist: float = 0.0,
) -> Wave:
    """A key; ``off``: how far the frequencies are from nominal, ``twist``: dB by which the high one is louder."""
    time = np.arange(int(milliseconds * 8)) / RATE
    wave = np.zeros(len(time))
    for hertz, share, level in zip(KEY_HERTZ[key], off, (dbm0, dbm0 + twist), strict=True):
        wave += amplitude(level) * np.sin(2 * np.pi * hertz * (1 + share) * time + rng.uniform(0, 2 * np.pi))
    return wave


def silence(milliseconds: float) -> Wave:
    return np.zeros(int(milliseconds * 8))


def heard(*signals: Wave) -> list[Told]:
    """What is heard of each, in a row of its own, all at once and through G.711."""
    length = -(-max(len(signal) for signal in signals) // FRAME) * FRAME + 10 * FRAME
    samples = np.zeros((len(signals), length))
    for number, signal in enumerate(signals):
        samples[number, : len(signal)] = signal
    coded = decode(encode(np.clip(samples, -32768, 32767).astype(np.int16), Law.PCMU), Law.PCMU)
    keys, rows = InbandKeys(len(signals)), np.arange(len(signals))
    told: list[Told] = [[] for _ in signals]
    for start in range(0, length, FRAME):
        for row, key, lasted in hear_keys(keys, rows, coded[:, start : start + FRAME]):
            told[row].append((key, lasted))
    return told


def digits(told: Told) -> str:
    return "".join(key for key, _ in told)


def cases(make: Callable[[str, np.random.Generator], Wave], seed: int = 1) -> list[tuple[str, str]]:
    """Each key some times, beginning anywhere in a frame: which, and what was heard."""
    rng = np.random.default_rng(seed)
    keys = [KEYS[number % len(KEYS)] for number in range(SOME)]
    signals = [np.concatenate([np.zeros(400 + int(rng.integers(FRAME))), make(key, rng)]) for key in keys]
    return [(key, digits(told)) for key, told in zip(keys, heard(*signals), strict=True)]


def all_heard(found: list[tuple[str, str]], times: int = 1) -> bool:
    return all(told == key * times for key, told in found)


def none_heard(found: list[tuple[str, str]]) -> bool:
    return not any(told for _, told in found)


@pytest.mark.parametrize("milliseconds", [40, 45, 50, 100, 300])
def test_keys_of_40_ms_and_more_are_heard_once(milliseconds: int) -> None:
    assert all_heard(cases(lambda key, rng: pressed(key, milliseconds, rng)))


@pytest.mark.parametrize("milliseconds", [5, 10, 20, 25])
def test_shorter_sounds_are_no_keys(milliseconds: int) -> None:
    assert none_heard(cases(lambda key, rng: pressed(key, milliseconds, rng)))


@pytest.mark.parametrize("twist", [0.0, 4.0, -8.0])
def test_frequencies_within_1_5_percent_are_taken(twist: float) -> None:
    def make(key: str, rng: np.random.Generator) -> Wave:
        return pressed(
            key, 40, rng, off=(float(rng.choice([-0.015, 0, 0.015])), float(rng.choice([-0.015, 0.015]))), twist=twist
        )

    assert all_heard(cases(make))


@pytest.mark.parametrize("twist", [0.0, 4.0, -2.0, -8.0])
@pytest.mark.parametrize("off", [0.035, 0.04, 0.05])
def test_frequencies_off_by_3_5_percent_are_not(off: float, twist: float) -> None:
    """One of the two is enough."""

    def make(key: str, rng: np.random.Generator) -> Wave:
        far, near = float(rng.choice([-off, off])), float(rng.choice([-0.015, 0.015]))
        return pressed(key, 60, rng, off=(far, near) if rng.random() < 0.5 else (near, far), twist=twist)

    assert none_heard(cases(make))


@pytest.mark.parametrize("twist", [-8.0, -4.0, 4.0])
def test_twist_from_minus_8_to_4_db_is_taken(twist: float) -> None:
    assert all_heard(cases(lambda key, rng: pressed(key, 50, rng, twist=twist)))


@pytest.mark.parametrize("twist", [-11.0, 7.0])
def test_more_twist_is_not(twist: float) -> None:
    assert none_heard(cases(lambda key, rng: pressed(key, 100, rng, twist=twist)))


@pytest.mark.parametrize(("gap", "times"), [(10, 1), (40, 2), (60, 2)])
def test_a_pause_of_40_ms_parts_keys_and_a_gap_of_10_does_not(gap: int, times: int) -> None:
    def make(key: str, rng: np.random.Generator) -> Wave:
        return np.concatenate([pressed(key, 60, rng), silence(gap), pressed(key, 60, rng)])

    assert all_heard(cases(make), times)


@pytest.mark.parametrize("dbm0", [-30.0, -20.0, 0.0])
def test_loud_and_soft_keys(dbm0: float) -> None:
    assert all_heard(cases(lambda key, rng: pressed(key, 60, rng, dbm0=dbm0)))


def test_a_whisper_is_no_key() -> None:
    assert none_heard(cases(lambda key, rng: pressed(key, 100, rng, dbm0=-40.0)))


def test_noise_15_db_below_does_no_harm() -> None:
    def make(key: str, rng: np.random.Generator) -> Wave:
        wave = pressed(key, 50, rng, off=(0.01, -0.01))
        return wave + rng.normal(0, np.sqrt((wave**2).mean()) * 10 ** (-15 / 20), len(wave))

    assert all_heard(cases(make))


def test_all_keys_in_a_row_with_their_lengths() -> None:
    told = heard(np.concatenate([silence(100), key_tones(KEYS, milliseconds=100, pause=60).astype(float)]))[0]
    assert digits(told) == KEYS
    assert all(abs(lasted - 100) <= 20 for _, lasted in told)


def test_keys_without_a_pause_are_told_apart() -> None:
    rng = np.random.default_rng(5)
    told = heard(np.concatenate([silence(33), pressed("1", 80, rng), pressed("6", 80, rng), pressed("D", 80, rng)]))
    assert digits(told[0]) == "16D"


def test_one_frequency_alone_is_no_key() -> None:
    time = np.arange(RATE) / RATE
    assert heard(*(8000 * np.sin(2 * np.pi * hertz * time) for hertz in (697, 852, 941, 1209, 1477, 1633))) == [[]] * 6


def voices(count: int, seconds: int) -> list[Wave]:
    """Something like vowels: harmonics of a gliding pitch through three moving resonances, in syllables."""
    rng = np.random.default_rng(11)
    time = np.arange(seconds * RATE) / RATE
    syllables = np.arange(0, seconds + 0.2, 0.15)

    def moving(low: float, high: float) -> Wave:
        return np.asarray(np.interp(time, syllables, rng.uniform(low, high, len(syllables))))

    found = []
    for _ in range(count):
        pitch = rng.uniform(100, 260) * moving(0.8, 1.25)
        phase = 2 * np.pi * np.cumsum(pitch) / RATE
        formants = (moving(300, 900), moving(900, 2200), moving(2200, 3000))
        wave = np.zeros(len(time))
        for harmonic in range(1, 34):
            hertz = pitch * harmonic
            weight = np.sum([1 / np.sqrt(1 + ((hertz - formant) / 60) ** 2) for formant in formants], axis=0)
            wave += np.where(hertz < 3600, weight, 0) * np.sin(harmonic * phase) / harmonic**0.5
        found.append(wave / np.abs(wave).max() * 25_000 * (np.sin(2 * np.pi * 3.1 * time) > -0.6))
    return found


def test_talk_off() -> None:
    """What is no key: voices, noise, the tones of all countries, the demo's announcement, a chord."""
    rng = np.random.default_rng(3)
    tones = [
        tone_source(name, country).read(4 * RATE).astype(float)
        for country in countries()
        for name in ("ring", "busy", "congestion", "dial")
    ]
    time = np.arange(2 * RATE) / RATE
    chord = 3000 * np.sin(2 * np.pi * np.array([[698.5], [880.0], [1174.7], [1480.0]]) * time).sum(axis=0)
    announcement = load_wav(Path(demo.__file__).parent / "assets" / "welcome.wav").astype(float)
    sounds = [*voices(8, 6), rng.normal(0, 6000, 4 * RATE), *tones, announcement, chord]
    assert [told for told in heard(*sounds) if told] == []


def test_a_key_that_is_still_pressed_is_told_at_the_end() -> None:
    keys, rows = InbandKeys(2), np.arange(1)
    wave = pressed("7", 200, np.random.default_rng(1)).astype(np.int16)
    for start in range(0, len(wave), FRAME):
        assert not list(hear_keys(keys, rows, wave[None, start : start + FRAME]))
    told = finish_key(keys, 0)
    assert told is not None
    assert told[0] == "7"
    assert abs(told[1] - 200) <= 20
    assert finish_key(keys, 0) is None


# -- in the engine, over real sockets ------------------------------------------------------------------------------


def two(engine: MediaEngine) -> tuple[RtpStream, RtpStream]:
    streams = engine.open_stream("127.0.0.1"), engine.open_stream("127.0.0.1")
    for stream, other in (streams, streams[::-1]):
        stream.configure(
            ("127.0.0.1", other.local_port),
            codec="PCMA",
            payload_type=8,
            receive_payload_types={8: "PCMA"},
            dtmf_payload_type=101,
            dtmf_receive_payload_type=101,
        )
    return streams


async def test_keys_cross_a_call_as_tones_as_events_or_as_both() -> None:
    engine = MediaEngine(ports=(20000, 59999), rng=random.Random(9))
    one, other = two(engine)
    inband: list[str] = []
    events: list[str] = []
    other.on_inband_dtmf = lambda key, duration: inband.append(key)
    other.on_dtmf = lambda key, duration: events.append(key)

    def press() -> None:
        inband.clear()
        events.clear()
        one.play(ArraySource(key_tones("159#")))
        for _ in range(60):
            engine.tick(1, 0.0)
        one.send_dtmf("2")
        for _ in range(40):
            engine.tick(1, 0.0)

    press()
    assert (inband, events) == ([], ["2"])
    other.detect_keys(events=True, inband=True)
    press()
    assert (inband, events) == (["1", "5", "9", "#"], ["2"])
    other.detect_keys(events=False, inband=True)
    press()
    assert (inband, events) == (["1", "5", "9", "#"], [])
    other.detect_keys()
    press()
    assert (inband, events) == ([], ["2"])
    await engine.close()


async def test_a_key_at_the_end_of_a_call_is_told_and_its_row_is_clean_for_the_next() -> None:
    engine = MediaEngine(ports=(20000, 59999), rng=random.Random(9))
    one, other = two(engine)
    told: list[str] = []
    other.on_inband_dtmf = lambda key, duration: told.append(key)
    other.detect_keys(inband=True)
    one.play(ArraySource(key_tones("8", milliseconds=400)))
    for _ in range(15):
        engine.tick(1, 0.0)
    assert told == []
    other.close()
    assert told == ["8"]
    # Rows that were given back come again when there are enough of them to be made fresh together.
    later = [engine.open_stream("127.0.0.1") for _ in range(32)]
    again = next(stream for stream in later if stream.row == other.row)
    again.on_inband_dtmf = lambda key, duration: told.append(key)
    for _ in range(10):
        engine.tick(1, 0.0)
    again.close()
    assert told == ["8"]
    await engine.close()
