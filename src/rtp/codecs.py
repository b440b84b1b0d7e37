"""Codecs: what is known of each, and the coders of those that are no table.

PCMU and PCMA are tables over all rows at once (`rtp.g711`). The others remember what came before: each stream has an
encoder and a decoder of its own, which take and give frames at 16,000 Hz (`rtp.wideband`).

The clock of G.722 is said to be 8,000 Hz, by a mistake that RFC 3551 §4.5.2 made a rule, though it samples at 16,000.
A byte is two samples, so packets of 20 ms have 160 bytes and 160 ticks, as those of G.711 have. The coders are those of
the package G722 (``sipcore[g722]``), 16 microseconds a frame each. Rows at once by numpy would be no help: each sample
needs the one before it, and 160 steps of a hundred operations are 15 ms, for one row as for a hundred.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from rtp.g711 import DECODE, ENCODE, Law
from rtp.receive import Kind
from rtp.resample import Downsampler, Upsampler

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

__all__ = ["CODECS", "Codec", "Decoder", "Encoder", "is_wide"]


class Encoder(Protocol):
    """One direction of one stream."""

    def encode(self, samples: NDArray[np.int16]) -> bytes:
        """The payload of a frame, int16 (320,)."""


class Decoder(Protocol):
    """The other direction."""

    def decode(self, payload: bytes) -> NDArray[np.int16]:
        """What a packet holds, int16 (n,) at 16,000 Hz: two samples for each tick of 8,000 Hz.

        Raises:
            ValueError: nothing that can be decoded.
        """


@dataclass(frozen=True, slots=True)
class Codec:
    """A codec as streams know it."""

    kind: Kind
    wide: bool
    """It carries more than 4 kHz."""
    encoder: Callable[[], Encoder]
    decoder: Callable[[], Decoder]


class _TableEncoder:
    """G.711 of a stream that is wide in other respects."""

    def __init__(self, law: Law) -> None:
        self._table = ENCODE[law]
        self._halve = Downsampler()

    def encode(self, samples: NDArray[np.int16]) -> bytes:
        """See `Encoder`."""
        codes: NDArray[np.uint8] = self._table[self._halve(samples).view(np.uint16)]
        return codes.tobytes()


class _TableDecoder:
    """Likewise."""

    def __init__(self, law: Law) -> None:
        self._table = DECODE[law]
        self._double = Upsampler()

    def decode(self, payload: bytes) -> NDArray[np.int16]:
        """See `Decoder`."""
        return self._double(self._table[np.frombuffer(payload, np.uint8)])


G722_BITS = 64000
"""Bits a second; RTP knows no other mode (RFC 3551 §4.5.2)."""


class _G722Encoder:
    def __init__(self) -> None:
        self._coder = importlib.import_module("G722").G722(16000, G722_BITS)

    def encode(self, samples: NDArray[np.int16]) -> bytes:
        """See `Encoder`."""
        payload: bytes = self._coder.encode(samples)
        return payload


class _G722Decoder:
    def __init__(self) -> None:
        self._coder = importlib.import_module("G722").G722(16000, G722_BITS)

    def decode(self, payload: bytes) -> NDArray[np.int16]:
        """See `Decoder`."""
        return np.frombuffer(self._coder.decode(payload), np.int16)


CODECS: Mapping[str, Codec] = {
    "PCMU": Codec(Kind.PCMU, False, lambda: _TableEncoder(Law.PCMU), lambda: _TableDecoder(Law.PCMU)),
    "PCMA": Codec(Kind.PCMA, False, lambda: _TableEncoder(Law.PCMA), lambda: _TableDecoder(Law.PCMA)),
    "G722": Codec(Kind.G722, True, _G722Encoder, _G722Decoder),
}
"""By their names in SDP, in upper case."""


def is_wide(codec: str) -> bool:
    """Whether a stream with this codec has 16,000 samples a second."""
    return codec in CODECS and CODECS[codec].wide
