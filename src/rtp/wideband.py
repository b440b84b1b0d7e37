"""Rows with 16,000 samples a second, and those whose codec remembers what came before.

A packet of such a codec cannot be decoded before those ahead of it, so its payload is kept as it is, the jitter ring
holds its number in the place of samples, and it is decoded when the clock comes to it. Everything else that the ring
and its delay do, counted in ticks of 8,000 Hz, is the same for all rows. What comes out is at 16,000 Hz, whatever it
came as: a far end that answers G.722 with G.711 is heard, too.

While packets are missing the decoder stands still, and the samples are filled in as they are for all rows
(`rtp.concealment`). Those without such a codec pay nothing; there is no `Wideband` before one has it.
"""

from __future__ import annotations

import logging
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np

from rtp.bank import Column, Columns
from rtp.codecs import CODECS, is_wide
from rtp.concealment import WideConcealment, conceal
from rtp.delay import FADE_IN, is_quiet
from rtp.inband import hear_keys
from rtp.jitter import FRAME, MISSING
from rtp.rates import WIDE
from rtp.resample import Downsampler

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from rtp.codecs import Decoder, Encoder
    from rtp.comfort_noise import ComfortNoise
    from rtp.delay import Delay
    from rtp.inband import InbandKeys
    from rtp.jitter import JitterRing
    from rtp.receive import Packets
    from rtp.statistics import Counters

__all__ = ["WIDE_FRAME", "Coders", "Wideband", "is_coded"]

logger = logging.getLogger(__name__)

WIDE_FRAME = WIDE // 50
"""Samples of a frame: 20 ms."""

SAMPLES_PER_TICK = 2

KEPT = 256
"""Payloads kept of a row, its latest: a ring full of packets of 5 ms. Shorter ones may be forgotten unheard."""

WIDE_FADE_IN = np.repeat(FADE_IN, SAMPLES_PER_TICK)
SILENCE = np.zeros(WIDE_FRAME, np.int16)


class _Packet(NamedTuple):
    """A payload that waits to be decoded."""

    position: int
    kind: int
    payload: bytes


class Coders:
    """What one stream is encoded and decoded with."""

    def __init__(self) -> None:
        self.codec = ""
        """What is sent."""
        self.silence = np.zeros(0, np.uint8)
        """The payload of a silent frame that is the first one."""
        self._encoder: Encoder | None = None
        self._decoders: dict[int, Decoder] = {}
        self._kept: list[_Packet | None] = [None] * KEPT
        self._next = 0
        self._decoded = 0
        """The number of the packet that was decoded last,"""
        self._packet: _Packet | None = None
        """it,"""
        self._samples = np.zeros(0, np.int16)
        """and what it holds."""
        self._halve = Downsampler()

    def agree(self, codec: str, receive: Iterable[str]) -> None:
        """What is sent and what may come from now on; coders that are still of use go on.

        Raises:
            ImportError: the package of a codec is not there.
        """
        if codec != self.codec:
            silent = CODECS[codec].encoder().encode(SILENCE)
            self._encoder, self.codec = CODECS[codec].encoder(), codec
            self.silence = np.frombuffer(silent, np.uint8)
        known = {CODECS[name].kind: CODECS[name] for name in receive if name in CODECS}
        self._decoders = {kind: self._decoders.get(kind) or codec.decoder() for kind, codec in known.items()}

    def encode(self, frame: NDArray[np.int16] | None) -> bytes:
        """The payload of a frame, int16 (320,); None: silence."""
        assert self._encoder is not None
        return self._encoder.encode(SILENCE if frame is None else frame)

    def halved(self, frame: NDArray[np.int16]) -> NDArray[np.int16]:
        """A frame that was heard, at 8,000 Hz: each one in turn."""
        return self._halve(frame)

    def keep(self, position: int, kind: int, payload: bytes) -> int:
        """A packet was placed. Returns the number that stands for it in the ring."""
        number = self._next
        self._kept[number] = _Packet(position, kind, payload)
        self._next = (number + 1) % KEPT
        return number

    def samples(self, number: int, position: int, ticks: int, out: NDArray[np.int16]) -> None:
        """What a packet holds from a position on, into int16 (2 ticks,); what it does not is left as it is."""
        packet = self._kept[number]
        if packet is None:
            return
        if packet is not self._packet:
            if self._packet is self._kept[self._decoded]:
                self._kept[self._decoded] = None  # it has been heard
            self._decoded, self._packet, self._samples = number, packet, self._decode(packet)
        start = SAMPLES_PER_TICK * (position - packet.position)
        if start >= 0:
            found = self._samples[start : start + SAMPLES_PER_TICK * ticks]
            np.maximum(found, MISSING + 1, out=out[: len(found)])

    def _decode(self, packet: _Packet) -> NDArray[np.int16]:
        decoder = self._decoders.get(packet.kind)
        if decoder is None:  # agreed on no more since it came
            return self._samples[:0]
        try:
            return decoder.decode(packet.payload)
        except ValueError as error:
            logger.debug("a packet could not be decoded: %s", error)
            return self._samples[:0]


class Wideband(Columns):
    """All such rows."""

    coded: NDArray[np.bool_]
    quiet: NDArray[np.bool_]
    """Nothing was said in the frame that was played last."""

    LAYOUT: ClassVar[Mapping[str, Column]] = {"coded": Column(np.bool_), "quiet": Column(np.bool_)}

    def __init__(self, capacity: int) -> None:
        super().__init__(capacity)
        self._concealment = WideConcealment(capacity)
        self._coders: dict[int, Coders] = {}
        self._come: dict[int, tuple[int, bytes]] = {}
        """Of each row the packet of the present round."""
        self.rows = np.zeros(0, np.int64)

    def grow(self, capacity: int) -> None:
        """See `Columns`."""
        super().grow(capacity)
        self._concealment.grow(capacity)

    def add(self, row: int, coders: Coders) -> None:
        """The row is one of these from now on."""
        self.reset([row])
        self._concealment.reset([row])
        self.coded[row] = True
        self._coders[row] = coders
        self.rows = np.array(sorted(self._coders), np.int64)

    def remove(self, row: int) -> None:
        """It is none any more; nothing happens where it was none."""
        if self._coders.pop(row, None) is not None:
            self.coded[row] = False
            self.rows = np.array(sorted(self._coders), np.int64)

    # ---- as packets come ---------------------------------------------------------------------------------------------

    def take(self, packets: Packets) -> None:
        """A round of audio packets, at most one a row, before they are placed."""
        self._come.clear()
        for index in np.flatnonzero(self.coded[packets.rows]).tolist():
            self._come[int(packets.rows[index])] = (int(packets.kind[index]), packets.payload(index))

    def keep(self, row: int, position: int) -> int:
        """The row's packet of this round was placed. Returns what stands for it in the ring."""
        return self._coders[row].keep(position, *self._come[row])

    # ---- as the clock comes to them ----------------------------------------------------------------------------------

    def play(
        self, delay: Delay, ring: JitterRing, noise: ComfortNoise, counters: Counters, rows: NDArray[np.int64]
    ) -> NDArray[np.int16]:
        """The frame that is due of each of these rows, int16 (n, 320); of one that was removed, silence."""
        numbers, merging, coming = delay.play_coded(ring, counters, rows, self.quiet[rows])
        end = ring.play[rows]
        frames = self._decoded(rows, numbers, end - FRAME * (1 + merging))
        if len(coming):
            next_ones = self._decoded(rows[merging], coming, end[merging] - FRAME)
            frames[merging] = (frames[merging] * (1 - WIDE_FADE_IN) + next_ones * WIDE_FADE_IN).astype(np.int16)
        conceal(self._concealment, ring, noise, counters, rows, frames)
        self.quiet[rows] = is_quiet(frames)
        return frames

    def _decoded(
        self, rows: NDArray[np.int64], numbers: NDArray[np.int16], positions: NDArray[np.int64]
    ) -> NDArray[np.int16]:
        frames = np.full((len(rows), WIDE_FRAME), MISSING, np.int16)
        whole = (numbers == numbers[:, :1]).all(axis=1).tolist()
        places = zip(rows.tolist(), numbers, positions.tolist(), whole, frames, strict=True)
        for row, found, position, is_whole, frame in places:
            coders = self._coders.get(row)
            if coders is None:
                continue
            if not is_whole:
                _pieces(coders, found, position, frame)
            elif found[0] != MISSING:
                coders.samples(int(found[0]), position, FRAME, frame)
        return frames

    def hear_keys(
        self, inband: InbandKeys, rows: NDArray[np.int64], frames: NDArray[np.int16]
    ) -> Iterable[tuple[int, str, int]]:
        """Keys as tones in the frames just played: see `rtp.inband.hear_keys`."""
        wanted = np.flatnonzero(inband.enabled[rows] & self.coded[rows])
        if not len(wanted):
            return ()
        narrow = np.stack([self._coders[int(rows[index])].halved(frames[index]) for index in wanted.tolist()])
        return hear_keys(inband, rows[wanted], narrow)


def _pieces(coders: Coders, numbers: NDArray[np.int16], position: int, frame: NDArray[np.int16]) -> None:
    """A frame of which several packets, or none, hold parts."""
    seams = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(numbers)]
    for start, end in pairwise(seams):
        if numbers[start] != MISSING:
            out = frame[SAMPLES_PER_TICK * start : SAMPLES_PER_TICK * end]
            coders.samples(int(numbers[start]), position + start, end - start, out)


def is_coded(codec: str, receive: Iterable[str]) -> bool:
    """Whether a stream with these codecs is one of these rows."""
    return is_wide(codec) or any(is_wide(name) for name in receive)
