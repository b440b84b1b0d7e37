"""Tones of the telephone network as audio: ringing, busy, congestion and dial tone by country, and keys."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from typing import TYPE_CHECKING

import numpy as np

from rtp.sources import LoopedSource

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["KEY_HERTZ", "Segment", "amplitude", "cadence", "countries", "key_tones", "tone_source"]

RATE = 8000

FULL_SCALE_DBM0 = 3.14
"""Level of the loudest sine that G.711 µ-law can carry (ITU-T G.711 §5)."""
PROGRESS_LEVEL = -13.0
"""dBm0 of each frequency of a progress tone."""
KEY_LEVELS = (-11.0, -9.0)
"""dBm0 of the low and of the high frequency of a key: the high one loses more on the way (ITU-T Q.23)."""
FADE = 20
"""Samples in which a tone begins and ends: 2.5 ms, against clicks."""

LOW_HERTZ = (697, 770, 852, 941)
HIGH_HERTZ = (1209, 1336, 1477, 1633)
KEY_HERTZ: Mapping[str, tuple[int, int]] = {
    key: (LOW_HERTZ[number // 4], HIGH_HERTZ[number % 4]) for number, key in enumerate("123A456B789C*0#D")
}
"""The two frequencies of each key (ITU-T Q.23)."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a cadence."""

    hertz: tuple[int, ...]
    """They sound together; none: silence."""
    milliseconds: int | None
    """None: it does not stop."""


@cache
def _table() -> Mapping[str, Mapping[str, str]]:
    text = resources.files("rtp").joinpath("tones.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def countries() -> tuple[str, ...]:
    """Whose tones are known, as ISO 3166 has it."""
    return tuple(sorted(_table()))


def cadence(name: str, country: str) -> tuple[Segment, ...]:
    """One period of a tone.

    Args:
        name: ``ring``, ``busy``, ``congestion`` or ``dial``.
        country: one of `countries`.

    Raises:
        ValueError: no such tone.
    """
    tones = _table().get({"UK": "GB"}.get(country.upper(), country.upper()))
    if tones is None:
        raise ValueError(f"{country!r} is not a country whose tones are known: {', '.join(countries())}")
    if name not in tones:
        raise ValueError(f"{name!r} is not a tone: {', '.join(sorted(tones))}")
    return tuple(_segment(part) for part in tones[name].split(","))


def tone_source(name: str, country: str, *, seconds: float | None = None) -> LoopedSource:
    """A tone as a source; without ``seconds`` it does not end by itself.

    Raises:
        ValueError: no such tone.
    """
    return LoopedSource(_period(name, country.upper()), None if seconds is None else round(seconds * RATE))


def key_tones(keys: str, *, milliseconds: int = 100, pause: int = 100) -> NDArray[np.int16]:
    """Keys as the two tones each (ITU-T Q.23), with a pause behind each.

    Args:
        keys: of ``0-9 * # A-D``.
        milliseconds: how long each sounds.
        pause: milliseconds between them.

    Raises:
        ValueError: another character.
    """
    silence = np.zeros(pause * RATE // 1000, np.int16)
    parts: list[NDArray[np.int16]] = []
    for key in keys.upper():
        if key not in KEY_HERTZ:
            raise ValueError(f"{key!r} is not a DTMF digit (0-9, *, #, A-D)")
        parts += [_sines(KEY_HERTZ[key], KEY_LEVELS, milliseconds * RATE // 1000, fade=True), silence]
    return np.concatenate(parts) if parts else silence[:0]


def amplitude(dbm0: float) -> float:
    """Of a sine of that level, in int16 steps."""
    return float(32768 * 10 ** ((dbm0 - FULL_SCALE_DBM0) / 20))


@lru_cache(maxsize=64)
def _period(name: str, country: str) -> NDArray[np.int16]:
    """Of all calls that hear it, read-only."""
    parts = []
    for segment in cadence(name, country):
        levels = (PROGRESS_LEVEL,) * len(segment.hertz)
        if segment.milliseconds is None:  # whole hertz fit into a second without a seam
            parts.append(_sines(segment.hertz, levels, RATE, fade=False))
        else:
            parts.append(_sines(segment.hertz, levels, segment.milliseconds * RATE // 1000, fade=True))
    samples = np.concatenate(parts)
    samples.flags.writeable = False
    return samples


def _segment(text: str) -> Segment:
    hertz, _, milliseconds = text.strip().partition("/")
    return Segment(tuple(int(one) for one in hertz.split("+") if int(one)), int(milliseconds) if milliseconds else None)


def _sines(hertz: tuple[int, ...], levels: tuple[float, ...], samples: int, *, fade: bool) -> NDArray[np.int16]:
    time = np.arange(samples) / RATE
    wave = np.zeros(samples)
    for one, level in zip(hertz, levels, strict=True):
        wave += amplitude(level) * np.sin(2 * np.pi * one * time)
    if fade and hertz:
        slope = np.sin(np.linspace(0, np.pi / 2, FADE)) ** 2
        wave[:FADE] *= slope[: len(wave)]
        wave[-FADE:] *= slope[::-1][-len(wave) :]
    return np.rint(wave).astype(np.int16)
