"""Comfort noise (RFC 3389): what the far end's room sounds like while nobody speaks and nothing is sent.

A packet of it (a silence insertion descriptor) tells the level below overload and, if it likes, the colour as
reflection coefficients. From its timestamp on that noise stands in for audio, until audio comes again. Rows without pay
nothing.

The coefficients are those of a filter at the clock rate of CN, 8,000 Hz (§4), also beside a codec that samples at
16,000: there the noise is made at 8,000 Hz, too, and has nothing above 4 kHz.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from rtp.bank import Column, Columns

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from rtp.receive import Packets

__all__ = ["LOOP", "ComfortNoise", "noise_of"]

LOOP = 2400
"""Samples of noise of a row; each frame begins at another place of it."""

MAX_ORDER = 12
"""Coefficients that are looked at; more say nothing at 8 kHz."""

NEVER = 1 << 62
OVERLOAD = 32768.0


class ComfortNoise(Columns):
    """Positions as in `rtp.jitter`."""

    loop: NDArray[np.int16]
    """(rows, `LOOP`)."""
    begin: NDArray[np.int64]
    """From here on noise stands in for what has not come,"""
    end: NDArray[np.int64]
    """up to here."""

    LAYOUT: ClassVar[Mapping[str, Column]] = {
        "loop": Column(np.int16, (LOOP,)),
        "begin": Column(np.int64, (), NEVER),
        "end": Column(np.int64, (), NEVER),
    }

    def __init__(self, capacity: int) -> None:
        super().__init__(capacity)
        self.active = False
        """Some row has been told to play noise."""
        self._rng = np.random.default_rng(0x3389)  # noise that nobody need not predict

    def describe(self, row: int, position: int, payload: bytes, *, wide: bool = False) -> None:
        """The far end's silence begins, or goes on, at ``position`` and sounds like this. ``wide``: in a row that is
        played at 16,000 Hz."""
        if not payload:
            return
        self.active = True
        self.loop[row] = noise_of(payload, self._rng, wide=wide)
        if self.end[row] != NEVER or self.begin[row] == NEVER:
            self.begin[row] = position
        self.end[row] = NEVER

    def interrupt(self, packets: Packets, positions: NDArray[np.int64]) -> None:
        """Audio was placed at these positions; behind the beginning of a silence it ends it."""
        rows = packets.rows
        ending = (self.end[rows] == NEVER) & (positions > self.begin[rows])
        self.end[rows[ending]] = positions[ending]

    def render(
        self,
        rows: NDArray[np.int64],
        positions: NDArray[np.int64],
        frames: NDArray[np.int16],
        places: NDArray[np.intp],
        gone: NDArray[np.bool_],
    ) -> NDArray[np.bool_]:
        """Fills what is ``gone`` of ``frames[places]`` where silence is announced. Returns bool (n,): was it."""
        silent = (positions >= self.begin[rows]) & (positions < self.end[rows])
        if silent.any():
            chosen, target = rows[silent], places[silent]
            length = frames.shape[1]
            start = self._rng.integers(0, LOOP - length, len(chosen))
            noise = self.loop[chosen[:, None], start[:, None] + np.arange(length)]
            frames[target] = np.where(gone[silent], noise, frames[target])
        return silent


def noise_of(payload: bytes, rng: np.random.Generator, *, wide: bool = False) -> NDArray[np.int16]:
    """int16 (`LOOP`,): noise of the level (§3.1) and colour (§3.2) that a payload of at least one byte names; to be
    played at 8,000 Hz, or ``wide``: at 16,000."""
    level = OVERLOAD * 10 ** (-(payload[0] & 0x7F) / 20)
    noise = rng.standard_normal(2 * LOOP)
    response = _impulse_response(payload[1 : 1 + MAX_ORDER])
    shaped = np.convolve(noise, response)[LOOP : 2 * LOOP]
    if wide:  # half of it lasts as long at twice the rate
        shaped = np.fft.irfft(np.fft.rfft(shaped[: LOOP // 2]), LOOP)
    power = np.sqrt(np.mean(shaped * shaped))
    return np.asarray(np.clip(shaped * (level / power), -32767, 32767), np.int16)


def _impulse_response(quantized: bytes) -> NDArray[np.float64]:
    """Of the all-pole filter with these reflection coefficients, as far as it matters (32 ms)."""
    predictor = np.zeros(0)
    for number in quantized:
        # §3.2: k = 258 (N - 127) / 32768, within ±1 for N of 0..254; a coefficient of 1 would ring for ever.
        coefficient = float(np.clip(258 * (number - 127) / 32768, -0.95, 0.95))
        predictor = np.append(predictor + coefficient * predictor[::-1], coefficient)
    response = np.zeros(256)
    for index in range(256):
        count = min(index, len(predictor))
        past = response[index - count : index][::-1]
        response[index] = (index == 0) - float(np.dot(predictor[:count], past))
    return response
