"""The engine by hand: ticks are called, packets cross the loopback, no clock runs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtp.engine import MediaEngine
from rtp.stream import RtpStream

__all__ = ["FRAME", "HOST", "PREFETCH", "Ear", "Packet", "configure", "configured", "tick"]

HOST = "127.0.0.1"
FRAME = 160
PREFETCH = 3
"""Frames that the jitter buffer waits for at first."""

Packet = tuple[int, int, int, int, int, bytes]


def configured(engine: MediaEngine, remote: tuple[str, int], **changes: Any) -> RtpStream:
    stream = engine.open_stream(HOST)
    configure(stream, remote, **changes)
    return stream


def configure(stream: RtpStream, remote: tuple[str, int], **changes: Any) -> None:
    agreed: dict[str, Any] = {
        "codec": "PCMU",
        "payload_type": 0,
        "receive_payload_types": {0: "PCMU", 8: "PCMA"},
        "dtmf_payload_type": 101,
        "dtmf_receive_payload_type": 101,
    }
    stream.configure(remote, **{**agreed, **changes})


def tick(engine: MediaEngine, count: int = 1) -> None:
    for _ in range(count):
        engine.tick(1, 0.0)


class Ear:
    """A sink that remembers."""

    def __init__(self) -> None:
        self.frames: list[NDArray[np.int16]] = []
        self.closed = 0

    def write(self, pcm: NDArray[np.int16]) -> None:
        self.frames.append(pcm.copy())

    def close(self) -> None:
        self.closed += 1

    @property
    def heard(self) -> NDArray[np.int16]:
        return np.concatenate(self.frames) if self.frames else np.zeros(0, np.int16)
