"""What a call can play: files, samples, tones, and two of them at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rtp.files import Part, open_source
from rtp.mixing import Chain, Ending, Gain, Mix
from rtp.rates import NARROW, WIDE, at_rate, doubled
from rtp.sources import ArraySource, AudioSource
from rtp.tones import cadence, key_tones, tone_source
from sipcore.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["AudioInput", "AudioSource", "KeyTones", "Mixed", "Samples", "Tone", "needs_reading", "open_sounds"]


@dataclass(frozen=True, slots=True)
class Tone:
    """A tone of the telephone network.

    Raises:
        InvalidRequest: there is no such tone.
    """

    name: Literal["ring", "busy", "congestion", "dial"]
    country: str = "US"
    """ISO 3166: AT, CH, DE, ES, FR, GB (or UK), IT or US."""
    seconds: float | None = None
    """None: until the playback is cancelled."""

    def __post_init__(self) -> None:
        try:
            cadence(self.name, self.country)
        except ValueError as error:
            raise InvalidRequest(f"tone: {error}", field="tone") from None
        if self.seconds is not None and self.seconds <= 0:
            raise InvalidRequest(f"seconds: {self.seconds} is not positive", field="seconds")


@dataclass(frozen=True, slots=True)
class KeyTones:
    """Keys as tones in the audio (ITU-T Q.23), for far ends that take neither telephone-events nor INFO.

    Raises:
        InvalidRequest: no digit, another character, or a length that nobody would recognise (ITU-T Q.24).
    """

    digits: str
    duration_ms: int = 100
    gap_ms: int = 100

    def __post_init__(self) -> None:
        if not self.digits or set(self.digits.upper()) - set("0123456789*#ABCD"):
            raise InvalidRequest(f"digits: {self.digits!r} may hold 0-9, *, #, A-D only", field="digits")
        for name in ("duration_ms", "gap_ms"):
            if not 40 <= getattr(self, name) <= 5000:
                raise InvalidRequest(f"{name}: {getattr(self, name)} is not 40-5000", field=name)


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Samples at a rate of their own.

    Raises:
        InvalidRequest: another rate.
    """

    samples: NDArray[np.int16]
    """int16 (n,)."""
    rate: int = WIDE
    """8,000 or 16,000 a second."""

    def __post_init__(self) -> None:
        if self.rate not in (NARROW, WIDE):
            raise InvalidRequest(f"rate: {self.rate} is neither {NARROW} nor {WIDE}", field="rate")


@dataclass(frozen=True, slots=True)
class Mixed:
    """Two at once: speech over music, which makes room for it."""

    background: AudioInput
    foreground: AudioInput
    background_db: float = 0.0
    """Louder or softer, in decibels."""
    foreground_db: float = 0.0
    ducking_db: float = -12.0
    """How much softer the background is while the foreground sounds; 0: not at all."""
    loop_background: bool = False
    """Again and again."""
    ends_with: Ending = "foreground"
    """The end of the whole."""


AudioInput: TypeAlias = "str | Path | bytes | NDArray[np.int16] | Samples | Tone | KeyTones | Mixed | AudioSource"
"""A path, the bytes of a file that libsndfile reads, int16 samples (n,) at 8,000 Hz, samples at a rate of their own, a
tone, keys, two at once, or anything with the methods of :class:`AudioSource`: at 8,000 Hz, or at 16,000 where its
``sample_rate`` says so."""

LONG_SAMPLES = 80_000
"""Converting more takes milliseconds."""


def needs_reading(source: AudioInput, rate: int = NARROW) -> bool:
    """Whether opening it for a call of that rate waits for a disk, or computes for long."""
    if isinstance(source, Mixed):
        return needs_reading(source.background, rate) or needs_reading(source.foreground, rate)
    if isinstance(source, np.ndarray):
        return rate != NARROW and len(source) > LONG_SAMPLES
    return isinstance(source, str | Path | bytes)


def open_sounds(
    sources: Sequence[AudioInput], *, loop: bool = False, gain_db: float = 0.0, rate: int = NARROW
) -> AudioSource:
    """All of them one behind the other as one source of that rate. Blocks where one of them `needs_reading`.

    Raises:
        rtp.wav.AudioError: a file holds no audio.
        InvalidRequest: what cannot be repeated shall be.
        ValueError: an array that is not int16 (n,).
    """
    opened: list[AudioSource] = []
    parts: list[Part] = []
    for source in sources:
        if isinstance(source, str | Path | bytes | np.ndarray):
            parts.append(_part(source, rate))
            continue
        if loop:
            raise InvalidRequest("loop: only files and arrays can be played again and again", field="loop")
        if parts:
            opened.append(open_source(parts, rate=rate))
            parts = []
        opened.append(at_rate(_open(source, rate), rate))
    if parts:
        opened.append(open_source(parts, loop=loop, rate=rate))
    if not opened:
        opened.append(ArraySource(np.zeros(0, np.int16), rate))
    whole = opened[0] if len(opened) == 1 else Chain(opened)
    return Gain(whole, gain_db) if gain_db else whole


def _part(source: str | Path | bytes | NDArray[np.int16], rate: int) -> Part:
    """Samples of an array are at 8,000 Hz."""
    if isinstance(source, np.ndarray) and rate != NARROW and source.dtype == np.int16 and source.ndim == 1:
        return doubled(source)
    return source


def _open(source: Samples | Tone | KeyTones | Mixed | AudioSource, rate: int) -> AudioSource:
    match source:
        case Samples(samples, own_rate):
            return ArraySource(samples, own_rate)
        case Tone(name, country, seconds):
            return tone_source(name, country, seconds=seconds)
        case KeyTones(digits, duration, gap):
            return ArraySource(key_tones(digits, milliseconds=duration, pause=gap))
        case Mixed():
            background = open_sounds(
                [source.background], loop=source.loop_background, gain_db=source.background_db, rate=rate
            )
            foreground = open_sounds([source.foreground], gain_db=source.foreground_db, rate=rate)
            return Mix(background, foreground, ducking_db=source.ducking_db, ends_with=source.ends_with)
        case _:
            return source
