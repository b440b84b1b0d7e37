"""What the tests of the RTP engine share: packets by hand, rounds of datagrams, a far end on a real socket."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

import numpy as np

from rtp.bank import Bank
from rtp.comfort_noise import ComfortNoise
from rtp.concealment import Concealment, conceal
from rtp.datagrams import SLOT_BYTES, Datagrams
from rtp.delay import Delay
from rtp.endpoint import endpoint_of
from rtp.g711 import Law, encode
from rtp.jitter import FRAME, JitterRing
from rtp.receive import Kind, Packets, Routes
from rtp.sequence import Reception
from rtp.statistics import Counters

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["FarEnd", "Live", "Rows", "packet", "tone"]

FAR = ("192.0.2.7", 40000)


def packet(
    sequence: int = 0,
    timestamp: int = 0,
    payload: bytes = b"\xff" * FRAME,
    *,
    payload_type: int = 0,
    ssrc: int = 0x5EED,
    marker: bool = False,
    first: int = 0x80,
) -> bytes:
    """An RTP packet (RFC 3550 §5.1); ``first`` is its first byte."""
    second = payload_type | (0x80 if marker else 0)
    return struct.pack("!BBHII", first, second, sequence & 0xFFFF, timestamp & 0xFFFFFFFF, ssrc) + payload


def tone(samples: int, *, hertz: float = 440.0, amplitude: int = 8000) -> NDArray[np.int16]:
    """A sine at 8,000 Hz, int16 (samples,)."""
    return (amplitude * np.sin(2 * np.pi * hertz * np.arange(samples) / 8000)).astype(np.int16)


class Live:
    """A source that has what was written to it, until it ends."""

    total_samples = None

    def __init__(self) -> None:
        self._samples = np.zeros(0, np.int16)
        self._ended = False

    @property
    def exhausted(self) -> bool:
        return self._ended and not len(self._samples)

    def write(self, samples: NDArray[np.int16]) -> None:
        self._samples = np.concatenate((self._samples, samples))

    def end(self) -> None:
        self._ended = True

    def read(self, samples: int) -> NDArray[np.int16]:
        piece, self._samples = self._samples[:samples], self._samples[samples:]
        return piece


class Rows:
    """The receiving columns of a small bank, all rows set up for PCMU 0, PCMA 8, events 101 from `FAR`."""

    def __init__(self, count: int = 4, *, minimum: int = 3 * FRAME, maximum: int = 3 * FRAME) -> None:
        self.routes = Routes(count)
        self.reception = Reception(count)
        self.ring = JitterRing(count)
        self.counters = Counters(count)
        self.delay = Delay(count, minimum=minimum, maximum=maximum)
        self.concealment = Concealment(count)
        self.noise = ComfortNoise(count)
        self.bank = Bank(
            self.routes,
            self.reception,
            self.ring,
            self.delay,
            self.concealment,
            self.noise,
            self.counters,
            capacity=count,
        )
        endpoint = endpoint_of(FAR)
        for row in range(count):
            self.routes.expect(row, endpoint)
            self.routes.receiving[row] = True
            self.routes.kinds[row, [0, 8, 101]] = (Kind.PCMU, Kind.PCMA, Kind.EVENT)

    def play(self, *rows: int) -> NDArray[np.int16]:
        """What the clock takes out of the rings at a tick."""
        return self.delay.play(self.ring, self.counters, np.array(rows))

    def conceal(self, frames: NDArray[np.int16], *rows: int) -> None:
        """Fills the gaps in place."""
        conceal(self.concealment, self.ring, self.noise, self.counters, np.array(rows), frames)

    @staticmethod
    def datagrams(
        *received: tuple[int, bytes], source: tuple[str, int] = FAR, arrivals: Sequence[float] | None = None
    ) -> Datagrams:
        """One round: ``(row, bytes)`` each."""
        count = len(received)
        data = np.zeros((count, SLOT_BYTES), np.uint8)
        for slot, (_, content) in enumerate(received):
            data[slot, : len(content)] = np.frombuffer(content, np.uint8)
        return Datagrams(
            np.array([row for row, _ in received], np.int64),
            np.array([len(content) for _, content in received], np.int64),
            np.tile(endpoint_of(source).words, (count, 1)),
            np.array(arrivals if arrivals is not None else [100.0] * count, np.float64),
            data,
        )

    @staticmethod
    def packets(
        row: int,
        sequence: int,
        timestamp: int,
        samples: NDArray[np.int16],
        *,
        ssrc: int = 0x5EED,
        arrival: float = 100.0,
        kind: Kind = Kind.PCMU,
    ) -> Packets:
        """A round of one audio packet."""
        law = Law.PCMA if kind == Kind.PCMA else Law.PCMU
        data = np.zeros((1, SLOT_BYTES), np.uint8)
        data[0, 12 : 12 + len(samples)] = encode(samples, law)
        return Packets(
            rows=np.array([row]),
            slots=np.array([0]),
            sequence=np.array([sequence & 0xFFFF]),
            timestamp=np.array([timestamp & 0xFFFFFFFF]),
            ssrc=np.array([ssrc]),
            kind=np.array([kind], np.uint8),
            marker=np.array([False]),
            lengths=np.array([len(samples)]),
            arrivals=np.array([arrival]),
            data=data,
        )


class FarEnd:
    """A UDP socket on the loopback that speaks RTP by hand; a context manager."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.bind((host, 0))
        self.socket.settimeout(2.0)
        self.address: tuple[str, int] = self.socket.getsockname()[:2]

    def __enter__(self) -> FarEnd:
        return self

    def __exit__(self, *exception: object) -> None:
        self.socket.close()

    def send(self, datagram: bytes, port: int) -> None:
        """To a port of the same host."""
        self.socket.sendto(datagram, (self.address[0], port))

    def receive(self) -> tuple[int, int, int, int, int, bytes]:
        """The next packet: marker, payload type, sequence, timestamp, SSRC, payload."""
        data = self.socket.recv(2048)
        first, second, sequence, timestamp, ssrc = struct.unpack_from("!BBHII", data)
        assert first == 0x80
        return second >> 7, second & 0x7F, sequence, timestamp, ssrc, data[12:]

    def waiting(self) -> int:
        """How many packets lie in the socket; reads them."""
        self.socket.setblocking(False)
        count = 0
        try:
            while True:
                self.socket.recv(2048)
                count += 1
        except BlockingIOError:
            return count
        finally:
            self.socket.settimeout(2.0)
