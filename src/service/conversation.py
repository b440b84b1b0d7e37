"""One program's live conversation with the far end of a call, from its config to its end (``sipcore.v1.CallAudio``).

Three tasks: one reads requests, one writes what is heard, one writes what became of marks. The call waits for none of
them: what is heard is bounded by frames, what is to be said by seconds, and a client that is too slow is let go.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, TypeAlias

from rtp.listener import PATIENCE_FRAMES
from service.audio_streams import LINEAR16
from service.errors import ClientGone
from sipcore.errors import InvalidRequest, NoOngoingCall

if TYPE_CHECKING:
    from service.ongoing import OngoingCall
    from service.stream_places import StreamPlaces
    from sipcore.media import Mark

__all__ = [
    "Clear",
    "Cleared",
    "Conversations",
    "ConverseConfig",
    "ConverseRequest",
    "ConverseResponse",
    "EndOfConversation",
    "Ended",
    "Heard",
    "MarkReached",
    "Say",
    "SetMark",
    "Started",
    "Stats",
]

logger = logging.getLogger(__name__)

CONFIG_SECONDS = 2.0
"""In which the first request has to come."""
LAST_WORDS_SECONDS = 10.0
"""For a slow client to take what is queued, and ``ended``."""
LONGEST_NAME = 128
MOST_UNTOLD = 5000
"""Marks and clears that a client has not read yet."""
TICK_MS = 20


class EndOfConversation(IntEnum):
    """Why it is over; the wire's numbers (``ConverseEnded.Reason``)."""

    CLIENT_CLOSED = 1
    CALL_ENDED = 2
    STALLED = 3


@dataclass(frozen=True, slots=True)
class ConverseConfig:
    """The first request, as the wire has it or as :meth:`checked` completed it."""

    call_id: str = ""
    rate: int = 0
    frame_ms: int = 0
    both: bool = False
    max_queue_ms: int = 0

    def checked(self) -> ConverseConfig:
        """With the defaults filled in.

        Raises:
            InvalidRequest: the field says which.
        """
        if self.rate not in (0, 8000, 16000):
            raise InvalidRequest(f"{self.rate} is neither 8000 nor 16000", field="config.sample_rate_hz")
        if self.frame_ms % TICK_MS or self.frame_ms > 500:
            raise InvalidRequest(f"{self.frame_ms} is no multiple of 20 up to 500", field="config.frame_ms")
        if self.max_queue_ms and not 100 <= self.max_queue_ms <= 120_000:
            raise InvalidRequest(f"{self.max_queue_ms} is not 100 to 120000", field="config.max_queue_ms")
        return ConverseConfig(
            self.call_id, self.rate or 16000, self.frame_ms or TICK_MS, self.both, self.max_queue_ms or 30_000
        )


@dataclass(frozen=True, slots=True)
class Say:
    """Samples to say, LINEAR16 little-endian."""

    pcm: bytes


@dataclass(frozen=True, slots=True)
class Clear:
    """Barge-in."""


@dataclass(frozen=True, slots=True)
class SetMark:
    """A mark behind the audio so far."""

    name: str


@dataclass(frozen=True, slots=True)
class Started:
    """The conversation is open."""

    config: ConverseConfig


@dataclass(frozen=True, slots=True)
class Heard:
    """A frame that was heard."""

    pcm: bytes
    sequence: int


@dataclass(frozen=True, slots=True)
class MarkReached:
    """A mark was played, or thrown away."""

    name: str
    cleared: bool
    position: int


@dataclass(frozen=True, slots=True)
class Cleared:
    """What a clear has done."""

    thrown_away_ms: int
    position: int


@dataclass(frozen=True, slots=True)
class Stats:
    """Counters since the start."""

    sent: int
    dropped: int
    position: int
    queued_ms: int
    underruns: int


@dataclass(frozen=True, slots=True)
class Ended:
    """The last response."""

    reason: EndOfConversation
    detail: str


ConverseRequest: TypeAlias = ConverseConfig | Say | Clear | SetMark
ConverseResponse: TypeAlias = Started | Heard | MarkReached | Cleared | Stats | Ended
Send: TypeAlias = Callable[[ConverseResponse], Awaitable[None]]


class Conversations:
    """Every conversation of the server."""

    def __init__(self, places: StreamPlaces) -> None:
        self._places = places

    async def first(self, requests: AsyncIterator[ConverseRequest]) -> ConverseRequest | None:
        """What it begins with; None when nothing came in time. To be awaited ahead of a refusal as well: see
        :func:`service.audio_streams.first_request`."""
        try:
            return await asyncio.wait_for(anext(requests, None), CONFIG_SECONDS)
        except TimeoutError:
            return None

    async def run(
        self, ongoing: OngoingCall, config: ConverseConfig, requests: AsyncIterator[ConverseRequest], send: Send
    ) -> None:
        """One conversation, from ``started`` to ``ended``.

        Args:
            ongoing: the call.
            config: checked.
            requests: those behind it.
            send: hands a response to the client, as fast as the client takes them.

        Raises:
            AudioStreamLimit: too many live streams.
            NoOngoingCall: the call is not connected.
            InvalidRequest: a later request is wrong.
            ClientGone: nobody takes responses any more.
        """
        if not ongoing.connected or ongoing.over.done():
            raise NoOngoingCall(f"The call {ongoing.identity.call_id} is not connected")
        with self._places.take(ongoing):
            about = f"conversation with call {ongoing.identity.call_id}"
            conversation = _Conversation(ongoing, config, requests, send)
            logger.info("%s: opened, %d Hz", about, config.rate)
            try:
                reason = await conversation.run()
            finally:
                logger.info("%s: closed, %s", about, conversation.counters())
            logger.info("%s: %s", about, reason.name)


class _Conversation:
    """One of them."""

    def __init__(
        self, ongoing: OngoingCall, config: ConverseConfig, requests: AsyncIterator[ConverseRequest], send: Send
    ) -> None:
        self._ongoing = ongoing
        self._config = config
        self._requests = requests
        self._client = send
        self._turn = asyncio.Lock()
        self._sent = 0
        self._untold: deque[MarkReached | Cleared] = deque()
        self._news = asyncio.Event()
        self._last: Mark | None = None
        self._audio = ongoing.call.audio(
            rate=config.rate,
            frame_ms=config.frame_ms,
            both=config.both,
            max_seconds=config.max_queue_ms / 1000,
            max_frames=max(50, 4 * config.frame_ms // TICK_MS),
            patience=PATIENCE_FRAMES,
        )
        self._audio.speech.on_mark = self._on_mark

    def counters(self) -> Stats:
        """As of now."""
        audio = self._audio
        return Stats(self._sent, audio.dropped, audio.position, round(audio.queued_seconds * 1000), audio.underruns)

    async def run(self) -> EndOfConversation:
        """Until something ends it."""
        reading = asyncio.create_task(self._read())
        hearing = asyncio.create_task(self._hear())
        telling = asyncio.create_task(self._tell())
        closed = asyncio.create_task(self._audio.wait_closed())
        tasks = (reading, hearing, telling, closed)
        try:
            ways: set[asyncio.Future[Any]] = {*tasks, self._ongoing.over}
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            ended = self._why(reading, hearing, telling)
            self._audio.close()
            await self._say_goodbye(hearing, telling, ended)
        finally:
            self._audio.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return ended.reason

    def _why(self, *tasks: asyncio.Task[None]) -> Ended:
        for task in tasks:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error
        if self._audio.stalled or len(self._untold) > MOST_UNTOLD:
            return Ended(EndOfConversation.STALLED, "the client reads too slowly")
        if self._audio.closed or self._ongoing.over.done():
            return Ended(EndOfConversation.CALL_ENDED, "the call is over")
        return Ended(EndOfConversation.CLIENT_CLOSED, "all was played, and the client has nothing more to say")

    async def _say_goodbye(self, hearing: asyncio.Task[None], telling: asyncio.Task[None], ended: Ended) -> None:
        """What is queued, the last counters, and why: for a client that takes them in time.

        Raises:
            ClientGone: it did not.
        """
        try:
            async with asyncio.timeout(LAST_WORDS_SECONDS):
                await asyncio.sleep(0)  # marks that were cleared just now are told
                self._news.set()
                await asyncio.wait({hearing, telling})
                await self._send(self.counters())
                await self._send(ended)
        except TimeoutError:
            raise ClientGone(f"it ended ({ended.reason.name}) and nobody took the last messages") from None

    async def _send(self, response: ConverseResponse) -> None:
        async with self._turn:
            await self._client(response)

    async def _hear(self) -> None:
        await self._send(Started(self._config))
        per_stats = max(1, 1000 // self._config.frame_ms)
        while (samples := await self._audio.read()) is not None:
            await self._send(Heard(samples.astype(LINEAR16, copy=False).tobytes(), self._sent))
            self._sent += 1
            if self._sent % per_stats == 0:
                await self._send(self.counters())

    async def _tell(self) -> None:
        while True:
            while self._untold:
                await self._send(self._untold.popleft())
            if self._audio.closed:
                return
            self._news.clear()
            await self._news.wait()

    def _on_mark(self, mark: Mark) -> None:
        if mark is not self._last:
            self._report(MarkReached(mark.name, mark.cleared, mark.position))

    def _report(self, news: MarkReached | Cleared) -> None:
        self._untold.append(news)
        self._news.set()
        if len(self._untold) > MOST_UNTOLD:
            self._audio.close()

    async def _read(self) -> None:
        audio = self._audio
        async for request in self._requests:
            match request:
                case Say(pcm):
                    try:
                        await audio.write(pcm)
                    except ValueError as error:
                        raise InvalidRequest(str(error), field="audio") from None
                case Clear():
                    self._report(Cleared(round(audio.clear() * 1000), audio.position))
                case SetMark(name):
                    if len(name.encode()) > LONGEST_NAME:
                        raise InvalidRequest(f"must be up to {LONGEST_NAME} bytes", field="mark.name")
                    try:
                        audio.mark(name)
                    except ValueError as error:
                        raise InvalidRequest(str(error), field="mark") from None
                case ConverseConfig():
                    raise InvalidRequest("is the first request, and only that", field="config")
        self._last = audio.speech.last_mark()
        await self._last
