"""A call's audio: the only room that names both what SDP agreed on and the RTP engine."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rtp.sinks import QueueSink, WavSink
from rtp.sources import ArraySource
from rtp.wav import AudioError, load_wav
from sipcore.errors import InvalidAudio, InvalidRequest, NoOngoingCall

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator

    from numpy.typing import NDArray

    from rtp.engine import MediaEngine
    from rtp.stream import Playback as QueuedPlayback
    from rtp.stream import StreamStatistics
    from sipcore.protocol.offer_answer import NegotiatedMedia

__all__ = ["AudioInput", "CallMedia", "Playback"]

AudioInput = "str | Path | bytes | NDArray[np.int16]"


class Playback:
    """Audio that was asked for: being decoded, queued, playing, or done. ``await`` it for the end."""

    def __init__(self, media: CallMedia, sources: tuple[str | Path | bytes | NDArray[np.int16], ...]) -> None:
        self._media = media
        self._queued: list[QueuedPlayback] = []
        self._cancelled = False
        self._task = asyncio.ensure_future(self._play(sources))

    async def _play(self, sources: tuple[str | Path | bytes | NDArray[np.int16], ...]) -> bool:
        return False
