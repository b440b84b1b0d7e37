"""StreamRecording: a call recorded to a client, piece by piece (``sipcore.v1.CallAudio``).

One task writes; the clock only queues, up to what the client asked for. A client that is slower than that is sent what
waits, and is let go.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, TypeAlias

from rtp.recording_stream import LONGEST_CHUNK_MS
from service.errors import ClientGone
from sipcore.errors import InvalidRequest, NoOngoingCall

if TYPE_CHECKING:
    from service.ongoing import OngoingCall
    from service.recordings import Recordings
    from service.stream_places import StreamPlaces
    from sipcore.media import RecordingStream

__all__ = [
    "Chunk",
    "EndOfRecording",
    "Ended",
    "RecordingConfig",
    "RecordingResponse",
    "RecordingStreams",
    "Started",
]

logger = logging.getLogger(__name__)

TICK_MS = 20
LAST_WORDS_SECONDS = 10.0
"""For a slow client to take what is queued, and ``ended``."""


class EndOfRecording(IntEnum):
    """Why it is over; the wire's numbers (``RecordingEnded.Reason``)."""

    STOPPED = 1
    CALL_ENDED = 2
    STALLED = 3


@dataclass(frozen=True, slots=True)
class RecordingConfig:
    """The request, as the wire has it or as :meth:`checked` completed it."""

    call_id: str = ""
    mono: bool = False
    chunk_ms: int = 0
    max_behind_ms: int = 0

    def checked(self) -> RecordingConfig:
        """With the defaults filled in.

        Raises:
            InvalidRequest: the field says which.
        """
        if self.chunk_ms % TICK_MS or self.chunk_ms > LONGEST_CHUNK_MS:
            raise InvalidRequest(f"{self.chunk_ms} is no multiple of 20 up to 1000", field="chunk_ms")
        if self.max_behind_ms and not 1000 <= self.max_behind_ms <= 60_000:
            raise InvalidRequest(f"{self.max_behind_ms} is not 1000 to 60000", field="max_behind_ms")
        return RecordingConfig(self.call_id, self.mono, self.chunk_ms or 200, self.max_behind_ms or 10_000)


@dataclass(frozen=True, slots=True)
class Started:
    """The recording has begun."""

    recording_id: str
    config: RecordingConfig
    rate: int = 8000


@dataclass(frozen=True, slots=True)
class Chunk:
    """The next piece, LINEAR16 little-endian, the channels in turn."""

    pcm: bytes
    position: int


@dataclass(frozen=True, slots=True)
class Ended:
    """The last response."""

    reason: EndOfRecording
    detail: str
    seconds: float


RecordingResponse: TypeAlias = Started | Chunk | Ended
Send: TypeAlias = Callable[[RecordingResponse], Awaitable[None]]


class RecordingStreams:
    """Every streamed recording of the server."""

    def __init__(self, places: StreamPlaces, recordings: Recordings) -> None:
        self._places = places
        self._recordings = recordings

    async def run(self, ongoing: OngoingCall, config: RecordingConfig, send: Send) -> None:
        """One of them, from ``started`` to ``ended``.

        Args:
            ongoing: the call.
            config: checked.
            send: hands a response to the client, as fast as the client takes them.

        Raises:
            AudioStreamLimit, RecordingLimit: too many.
            NoOngoingCall: the call is not connected.
            ClientGone: nobody takes responses any more.
        """
        if not ongoing.connected or ongoing.over.done():
            raise NoOngoingCall(f"The call {ongoing.identity.call_id} is not connected")
        with self._places.take(ongoing):
            recording_id, recording = self._recordings.stream(ongoing, config)
            about = f"recording {recording_id} of call {ongoing.identity.call_id}"
            logger.info("%s: streamed to a client", about)
            writing = asyncio.create_task(self._write(ongoing, recording_id, recording, config, send))
            try:
                await _until_over(writing, recording)
            finally:
                recording.close()
                writing.cancel()
                await asyncio.gather(writing, return_exceptions=True)
                self._recordings.forget(recording_id)
                logger.info("%s: over, %.1f s", about, recording.seconds)

    async def _write(
        self, ongoing: OngoingCall, recording_id: str, recording: RecordingStream, config: RecordingConfig, send: Send
    ) -> None:
        await send(Started(recording_id, config, recording.rate))
        position = 0
        async for samples in recording:
            await send(Chunk(samples.astype("<i2", copy=False).tobytes(), position))
            position += len(samples)
        if recording.error is not None:
            reason, detail = EndOfRecording.STALLED, "the client reads too slowly"
        elif self._recordings.was_stopped(recording_id):
            reason, detail = EndOfRecording.STOPPED, "stopped by a request"
        else:
            await asyncio.wait({ongoing.over})
            reason, detail = EndOfRecording.CALL_ENDED, "the call is over"
        await send(Ended(reason, detail, recording.seconds))


async def _until_over(writing: asyncio.Task[None], recording: RecordingStream) -> None:
    """Waits for the last response; once nothing is recorded any more, not for ever.

    Raises:
        ClientGone: nobody took it.
    """
    closed = asyncio.create_task(recording.wait_closed())
    try:
        await asyncio.wait({writing, closed}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        closed.cancel()
    done, _ = await asyncio.wait({writing}, timeout=LAST_WORDS_SECONDS)
    if not done:
        raise ClientGone("the recording is over and nobody took the last messages")
    writing.result()
