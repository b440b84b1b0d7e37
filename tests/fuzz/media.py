"""RTP under fire: random and half-right datagrams into a stream of a real engine, whose clock the fuzzer turns."""

from __future__ import annotations

import logging
import random
import socket
import struct
from typing import TYPE_CHECKING

import numpy as np

from rtp.engine import MediaEngine
from rtp.g711 import Law, encode

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Media"]

FRAME = 160


class _Failures(logging.Handler):
    """An engine's tick never raises; it logs."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps it."""
        self.records.append(record)


class _Ear:
    """A sink."""

    def __init__(self) -> None:
        self.loudness = 0.0
        self.frames = 0

    def write(self, frame: NDArray[np.int16]) -> None:
        """Listens."""
        self.frames += 1
        self.loudness = float(np.abs(frame.astype(np.int32)).mean())

    def close(self) -> None:
        """No more."""


class Media:
    """Two streams: one is fired at, the other has a good far end throughout."""

    def __init__(self, seed: str) -> None:
        self.rng = random.Random(seed)
        self.recent: list[bytes] = []
        self._failures = _Failures()
        logging.getLogger("rtp").addHandler(self._failures)
        self._engine = MediaEngine(rng=random.Random(seed), capacity=2)
        self._far = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
        self._streams = []
        self._ears = [_Ear(), _Ear()]
        for far, ear in zip(self._far, self._ears, strict=True):
            far.bind(("127.0.0.1", 0))
            stream = self._engine.open_stream("127.0.0.1")
            stream.configure(
                far.getsockname(),
                codec="PCMU",
                payload_type=0,
                receive_payload_types={0: "PCMU", 8: "PCMA"},
                dtmf_payload_type=101,
                dtmf_receive_payload_type=101,
            )
            stream.on_dtmf = self._heard
            stream.add_sink(ear)
            self._streams.append(stream)
        samples = 8000 * np.sin(2 * np.pi * 440 * np.arange(FRAME) / 8000)
        self._good = bytes(encode(samples.astype(np.int16), Law.PCMU))
        self._sent = [0, 0]
        self._source = 1000
        self.keys = 0

    def _heard(self, digit: str, milliseconds: int) -> None:
        assert digit in "0123456789*#ABCD"
        self.keys += 1

    def close(self) -> None:
        """Frees the sockets."""
        for stream in self._streams:
            stream.close()
        self._engine._incoming.close()
        for far in self._far:
            far.close()
        logging.getLogger("rtp").removeHandler(self._failures)

    def step(self) -> None:
        """One tick: a few bad datagrams to one stream, one good packet to the other."""
        rng = self.rng
        self.recent = [self._datagram() for _ in range(rng.randrange(6))]
        for datagram in self.recent:
            self._far[0].sendto(datagram, ("127.0.0.1", self._streams[0].local_port))
        self._sent[0] += 1  # where a far end would be
        self._send_good(1)
        self._engine.tick(rng.choice((1, 1, 1, 2, 60)), 0.0)
        assert not self._failures.records, self._failures.records[0].getMessage()

    def check(self) -> None:
        """Both streams play what their far ends say."""
        # A source that was left a moment ago is taken for a straggler, and all this takes no time at all.
        self._source += 1
        for number in range(2):
            for _ in range(150):
                self._send_good(number)
                if number == 0:
                    self._send_good(1)
                self._engine.tick(1, 0.0)
            assert self._ears[number].loudness > 1000, f"stream {number} does not play what it gets"
        assert not self._failures.records, self._failures.records[0].getMessage()

    def _send_good(self, number: int) -> None:
        self._sent[number] += 1
        count = self._sent[number]
        source = 7 if number else self._source
        head = struct.pack("!BBHII", 0x80, 0, count & 0xFFFF, count * FRAME & 0xFFFFFFFF, source)
        self._far[number].sendto(head + self._good, ("127.0.0.1", self._streams[number].local_port))

    def _datagram(self) -> bytes:
        rng = self.rng
        if rng.random() < 0.1:
            return rng.randbytes(rng.choice((0, 1, 11, 12, 13, 100, 1500)))
        first = rng.choice((0x80, 0x80, 0x80, 0x90, 0xA0, 0xB0, 0x8F, 0x9F, 0xBF, 0x40, 0x00, rng.randrange(256)))
        second = rng.choice((0, 8, 101, 0x80, 101 | 0x80, 13, rng.randrange(256)))
        sequence = rng.choice((rng.randrange(65536), self._sent[0] & 0xFFFF, 0, 65535))
        timestamp = rng.choice((rng.randrange(2**32), self._sent[0] * FRAME & 0xFFFFFFFF, 0, 2**32 - 1, 2**31))
        ssrc = rng.choice((7, 7, 0, 2**32 - 1, rng.randrange(2**32)))
        payload = (
            rng.randbytes(4)
            if second & 0x7F == 101 and rng.random() < 0.7
            else rng.randbytes(rng.choice((0, 1, 4, 80, 159, 160, 161, 320, 1400)))
        )
        packet = struct.pack("!BBHII", first, second, sequence, timestamp, ssrc) + payload
        return packet if rng.random() < 0.9 else packet[: rng.randrange(len(packet) + 1)]
