"""G.711 companding by table, bit-exact against ITU-T G.711 as its reference software G.191 (``g711.c``) computes it.

16-bit linear samples, left-justified: the lowest two bits (µ-law, 14 bit) or three bits (A-law, 13 bit) carry no
information. A negative sample's magnitude is its one's complement (``~x``), as in G.191, so the halves of the scale are
mirror images about -0.5: a sample that lies exactly on a negative decision value belongs to the smaller magnitude.
Implementations that negate instead differ in those 127 samples of µ-law (see tests/vectors/g711).
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["DECODE", "ENCODE", "SILENCE", "Law", "decode", "encode"]

SAMPLES = np.arange(65536, dtype=np.uint16).view(np.int16).astype(np.int32)
CODES = np.arange(256, dtype=np.int32)

MU_BIAS = 33
MU_CLIP = 0x1FFF


class Law(IntEnum):
    """Which of the two laws; the index into `ENCODE`, `DECODE` and `SILENCE`."""

    PCMU = 0
    PCMA = 1


def _magnitudes() -> NDArray[np.int32]:
    return np.where(SAMPLES < 0, ~SAMPLES, SAMPLES)


def _mu_law_encode() -> NDArray[np.uint8]:
    magnitude = np.minimum((_magnitudes() >> 2) + MU_BIAS, MU_CLIP)
    segment = np.floor(np.log2(magnitude)).astype(np.int32) - 5  # the highest bit set: 5..12
    code = (segment << 4) | ((magnitude >> (segment + 1)) & 0xF)
    sign = np.where(SAMPLES < 0, 0x80, 0)
    return np.asarray(~(code | sign) & 0xFF, np.uint8)


def _mu_law_decode() -> NDArray[np.int16]:
    code = ~CODES & 0xFF
    segment, step = (code >> 4) & 7, code & 0xF
    magnitude = ((((step << 1) + MU_BIAS) << segment) - MU_BIAS) << 2
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.int16)


def _a_law_encode() -> NDArray[np.uint8]:
    magnitude = _magnitudes() >> 4
    segment = np.where(magnitude > 15, np.floor(np.log2(np.maximum(magnitude, 1))).astype(np.int32) - 3, 0)
    step = np.where(segment > 0, (magnitude >> np.maximum(segment - 1, 0)) - 16, magnitude)
    code = (segment << 4) | step
    sign = np.where(SAMPLES >= 0, 0x80, 0)
    return ((code | sign) ^ 0x55).astype(np.uint8)


def _a_law_decode() -> NDArray[np.int16]:
    code = CODES ^ 0x55
    segment, step = (code >> 4) & 7, code & 0xF
    halved = (step << 4) + 8  # the middle of the interval
    magnitude = np.where(segment > 0, (halved + 0x100) << np.maximum(segment - 1, 0), halved)
    return np.where(code & 0x80, magnitude, -magnitude).astype(np.int16)


ENCODE: NDArray[np.uint8] = np.stack([_mu_law_encode(), _a_law_encode()])
"""(2, 65536): a law's code by the sample's two's complement bits."""

DECODE: NDArray[np.int16] = np.stack([_mu_law_decode(), _a_law_decode()])
"""(2, 256): the sample by law and code; never -32,768."""

SILENCE = (0xFF, 0xD5)
"""The code of a zero sample, by law."""


def encode(samples: NDArray[np.int16], law: Law) -> NDArray[np.uint8]:
    """Codes of int16 samples, in the same shape."""
    codes: NDArray[np.uint8] = ENCODE[law][samples.view(np.uint16)]
    return codes


def decode(codes: NDArray[np.uint8], law: Law) -> NDArray[np.int16]:
    """int16 samples of codes, in the same shape."""
    samples: NDArray[np.int16] = DECODE[law][codes]
    return samples
