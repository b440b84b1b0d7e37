"""SipStreamCallAudio: one client's live stream of one call, from its config to its end (CONTRACT §4).

Two tasks a stream: one reads requests, one writes what is heard. Whatever ends the stream first says why. The call
never waits for any of it: :class:`rtp.listener.Listener` and :class:`rtp.talker.Voice` are bounded on both sides.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from rtp.talker import Talker
from service.errors import ClientGone, report_bug
from sipcore.errors import InvalidRequest

if TYPE_CHECKING:
    from rtp.listener import Listener
    from service.ongoing import OngoingCall
    from service.stream_places import StreamPlace, StreamPlaces

__all__ = [
    "AgentMuted",
    "AudioConfig",
    "AudioFrame",
    "AudioMode",
    "AudioRequest",
    "AudioResponse",
    "AudioStreams",
    "EndOfStream",
    "Ended",
    "Send",
    "Started",
    "Stats",
    "first_config",
    "first_request",
]

logger = logging.getLogger(__name__)

FRAME_MS = 20
CONFIG_SECONDS = 2.0
"""In which the first request has to come."""
DEFAULT_SECONDS = 3600
"""``max_duration_s`` where the client names none."""
FRAMES_PER_STATS = 50
LINEAR16 = np.dtype("<i2")
LAST_WORDS_SECONDS = 10.0
"""For a slow client to take what is queued, and ``ended``."""
LONGEST_STREAM_ID = 128


class AudioMode(IntEnum):
    """The wire's numbers (``SipCallAudioMode``)."""

    UNSPECIFIED = 0
    LISTEN = 1
    TALK = 2


class EndOfStream(IntEnum):
    """Why a stream ended; the wire's numbers (``SipCallAudioEndReason``)."""

    CLIENT_CLOSED = 1
    CALL_ENDED = 2
    CALL_TRANSFERRED = 3
    MAX_DURATION = 4
    STALLED = 5
    INTERNAL = 6


@dataclass(frozen=True, slots=True)
class AudioConfig:
    """The first request, as the wire has it or as :func:`checked` completed it."""

    mode: int = AudioMode.UNSPECIFIED
    rate: int = 0
    frame_ms: int = 0
    take_over: bool = False
    stream_id: str = ""
    max_duration_s: int = 0


@dataclass(frozen=True, slots=True)
class AudioFrame:
    """One frame, in either direction."""

    pcm: bytes
    sequence: int


@dataclass(frozen=True, slots=True)
class AgentMuted:
    """The agent's mute switch."""

    muted: bool


@dataclass(frozen=True, slots=True)
class Started:
    """The stream is open."""

    config: AudioConfig


@dataclass(frozen=True, slots=True)
class Stats:
    """Counters since the start."""

    sent: int
    dropped: int
    received: int
    underruns: int
    discarded: int


@dataclass(frozen=True, slots=True)
class Ended:
    """The last response."""

    reason: EndOfStream
    detail: str = ""


AudioRequest: TypeAlias = AudioConfig | AudioFrame | AgentMuted
AudioResponse: TypeAlias = Started | AudioFrame | Stats | Ended
Send: TypeAlias = Callable[[AudioResponse], Awaitable[None]]


async def first_request(requests: AsyncIterator[AudioRequest]) -> AudioRequest | None:
    """What a stream begins with; None when nothing came within `CONFIG_SECONDS`, or the client has nothing to say.

    To be awaited before a refusal as well: clients of gRPC up to 1.76 take the end of a call that they are about to
    write to for an internal error, and never see its code.
    """
    try:
        return await asyncio.wait_for(anext(requests, None), CONFIG_SECONDS)
    except TimeoutError:
        return None


def first_config(first: AudioRequest | None) -> AudioConfig:
    """The configuration that a stream begins with, checked and complete.

    Raises:
        InvalidRequest: it did not come in time, was something else, or is wrong.
    """
    if not isinstance(first, AudioConfig):
        raise InvalidRequest(f"must be the first request, within {CONFIG_SECONDS:g} s", field="config")
    return checked(first)


def checked(config: AudioConfig) -> AudioConfig:
    """The configuration with its defaults filled in.

    Raises:
        InvalidRequest: the field says which.
    """
    mode = config.mode or AudioMode.LISTEN
    if mode not in (AudioMode.LISTEN, AudioMode.TALK):
        raise InvalidRequest(f"{mode} is neither LISTEN nor TALK", field="config.mode")
    if mode == AudioMode.TALK and not config.take_over:
        raise InvalidRequest("must be set to talk: the bot is muted meanwhile", field="config.take_over")
    if config.rate not in (0, 8000, 16000):
        raise InvalidRequest(f"{config.rate} is neither 8000 nor 16000", field="config.sample_rate_hz")
    if config.frame_ms not in (0, FRAME_MS):
        raise InvalidRequest(f"{config.frame_ms} is not {FRAME_MS}", field="config.frame_ms")
    if config.max_duration_s < 0:
        raise InvalidRequest(f"{config.max_duration_s} is negative", field="config.max_duration_s")
    if len(config.stream_id) > LONGEST_STREAM_ID or not config.stream_id.isprintable():
        raise InvalidRequest(f"must be up to {LONGEST_STREAM_ID} printable characters", field="config.stream_id")
    return AudioConfig(
        mode=AudioMode(mode),
        rate=config.rate or 16000,
        frame_ms=FRAME_MS,
        take_over=config.take_over,
        stream_id=config.stream_id or str(uuid.uuid4()),
        max_duration_s=config.max_duration_s or DEFAULT_SECONDS,
    )


class AudioStreams:
    """Every live stream of the server."""

    def __init__(self, places: StreamPlaces) -> None:
        self._places = places

    async def run(
        self, ongoing: OngoingCall, config: AudioConfig, requests: AsyncIterator[AudioRequest], send: Send
    ) -> None:
        """One stream, from ``started`` to ``ended``.

        Args:
            ongoing: the connected call.
            config: as :func:`first_config` returned it.
            requests: those behind it.
            send: hands a response to the client, as fast as the client takes them.

        Raises:
            AudioStreamLimit: too many streams.
            TalkInProgress: somebody talks already.
            NoOngoingCall: the call is ending.
            InvalidRequest: a later request is wrong.
            ClientGone: nobody takes responses any more.
        """
        with self._places.take(ongoing) as place:
            stream = _Stream(ongoing, config, requests, send, place)
            about = f"{AudioMode(config.mode).name} stream {config.stream_id} of call {ongoing.identity.call_id}"
            logger.info("%s: opened, %d Hz", about, config.rate)
            try:
                reason = await stream.run()
            finally:
                stream.release()
                logger.info("%s: closed, %s", about, stream.counters())
        logger.info("%s: %s", about, reason.name)


class _Stream:
    """One of them."""

    def __init__(
        self,
        ongoing: OngoingCall,
        config: AudioConfig,
        requests: AsyncIterator[AudioRequest],
        send: Send,
        place: StreamPlace,
    ) -> None:
        self._ongoing = ongoing
        self._config = config
        self._requests = requests
        self._send = send
        self._sent = 0
        self._unused = 0  # frames of a client that only listens
        self._place = place
        call = ongoing.call
        talks = config.mode == AudioMode.TALK
        self._listener: Listener = call.talk(rate=config.rate) if talks else call.listen(rate=config.rate)
        self._talker = self._listener if isinstance(self._listener, Talker) else None
        if talks:
            place.talk()

    def release(self) -> None:
        """The call has one listener less, and its bot back where this stream had taken over."""
        self._listener.close()
        self._place.leave_call()

    def counters(self) -> Stats:
        """As of now."""
        voice = self._talker.voice if self._talker is not None else None
        return Stats(
            sent=self._sent,
            dropped=self._listener.dropped,
            received=voice.received if voice else self._unused,
            underruns=voice.underruns if voice else 0,
            discarded=voice.discarded if voice else self._unused,
        )

    async def run(self) -> EndOfStream:
        """Until something ends it."""
        reading = asyncio.create_task(self._read())
        writing = asyncio.create_task(self._write())
        closed = asyncio.create_task(self._listener.wait_closed())
        try:
            ways: set[asyncio.Future[Any]] = {reading, writing, closed, self._ongoing.over}
            await asyncio.wait(ways, timeout=self._config.max_duration_s, return_when=asyncio.FIRST_COMPLETED)
            ended = await self._why(reading, writing)
            self.release()
            await self._say_goodbye(writing, ended)
        finally:
            for task in (reading, writing, closed):
                task.cancel()
            await asyncio.gather(reading, writing, closed, return_exceptions=True)
        return ended.reason

    async def _why(self, reading: asyncio.Task[None], writing: asyncio.Task[None]) -> Ended:
        if self._listener.stalled:
            return Ended(EndOfStream.STALLED, "reader-too-slow")
        if self._listener.closed or self._ongoing.over.done():
            await asyncio.wait({self._ongoing.over})
            if self._ongoing.is_transferred:
                return Ended(EndOfStream.CALL_TRANSFERRED, "call-transferred")
            return Ended(EndOfStream.CALL_ENDED, "call-ended")
        for task in (writing, reading):
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                if isinstance(error, (InvalidRequest, ClientGone)):
                    raise error
                return Ended(EndOfStream.INTERNAL, report_bug(error))
        if reading.done():
            return Ended(EndOfStream.CLIENT_CLOSED, "client-closed")
        return Ended(EndOfStream.MAX_DURATION, "max-duration")

    async def _say_goodbye(self, writing: asyncio.Task[None], ended: Ended) -> None:
        """What is queued, the last counters, and why: for a client that takes them in time.

        Raises:
            ClientGone: it did not.
        """
        try:
            async with asyncio.timeout(LAST_WORDS_SECONDS):
                await asyncio.wait({writing})
                await self._send(self.counters())
                await self._send(ended)
        except TimeoutError:
            raise ClientGone(f"the stream ended ({ended.reason.name}) and nobody took the last messages") from None

    async def _write(self) -> None:
        await self._send(Started(self._config))
        while (samples := await self._listener.read()) is not None:
            await self._send(AudioFrame(samples.astype(LINEAR16, copy=False).tobytes(), self._sent))
            self._sent += 1
            if self._sent % FRAMES_PER_STATS == 0:
                await self._send(self.counters())

    async def _read(self) -> None:
        talker, size = self._talker, self._config.rate // 50 * 2
        async for request in self._requests:
            match request:
                case AudioFrame(pcm):
                    if len(pcm) != size:
                        raise InvalidRequest(f"a frame has {size} bytes, not {len(pcm)}", field="audio.pcm_s16le")
                    if talker is None:
                        self._unused += 1
                    else:
                        talker.say(np.frombuffer(pcm, "<i2"))
                case AgentMuted(muted):
                    if talker is not None:
                        talker.muted = muted
                case AudioConfig():
                    raise InvalidRequest("is the first request, and only that", field="config")
