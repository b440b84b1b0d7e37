"""A media engine without clock or sockets: what a call tells its stream is written down."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from rtp.playback import Playback
from rtp.ports import NoPortAvailable
from rtp.statistics import StreamStatistics
from rtp.stream import AlreadyTalking
from rtp.talker import Talker

if TYPE_CHECKING:
    from rtp.engine import MediaEngine
    from rtp.sources import AudioSource

__all__ = ["SilentEngine", "SilentStream"]


@dataclass(eq=False)
class SilentStream:
    """Stands in for an :class:`~rtp.stream.RtpStream`."""

    local_port: int
    settings: list[dict[str, Any]] = field(default_factory=list)
    """Arguments of each ``configure``."""
    playing: list[Playback] = field(default_factory=list)
    event_payload_type: int | None = None
    rate: int = 8000
    muted: bool = False
    closed: bool = False
    on_dtmf: Callable[[str, int], None] | None = None
    on_inband_dtmf: Callable[[str, int], None] | None = None
    detecting: tuple[bool, bool] = (True, False)
    """Events, tones."""
    sinks: list[Any] = field(default_factory=list)
    silent_since: float | None = None
    """When the far end fell silent, on the loop's clock; None: it speaks."""

    def seconds_since_life(self) -> float:
        return 0.0 if self.silent_since is None else asyncio.get_running_loop().time() - self.silent_since

    refused_since: float | None = None
    """Since when ICMP says that the far end's port is closed; None: it does not."""

    def seconds_refused(self) -> float:
        return 0.0 if self.refused_since is None else asyncio.get_running_loop().time() - self.refused_since

    counted: StreamStatistics = field(default_factory=StreamStatistics)

    def detect_keys(self, *, events: bool, inband: bool) -> None:
        self.detecting = (events, inband)

    def statistics(self) -> StreamStatistics:
        return self.counted

    def configure(self, remote: tuple[str, int], **settings: Any) -> None:
        self.settings.append({"remote": remote, **settings})
        self.event_payload_type = settings["dtmf_payload_type"]

    def play(self, source: AudioSource) -> Playback:
        """Takes as long as the audio lasts."""
        playback = Playback(source.total_samples, 8000)
        self.playing.append(playback)
        if source.total_samples is None:
            return playback
        total = source.total_samples

        def finish() -> None:
            if not playback.done:
                playback.advance(total)
                playback.finish(completed=True)

        asyncio.get_running_loop().call_later(total / 8000, finish)
        return playback

    def clear(self) -> None:
        for playback in self.playing:
            playback.cancel()

    def mute(self) -> None:
        self.muted = True

    def unmute(self) -> None:
        self.muted = False

    def listen(self, listener: Any) -> None:
        self.sinks.append(listener)

    def converse(self, audio: Any) -> None:
        self.sinks.append(audio)

    def record(self, recording: Any) -> None:
        self.sinks.append(recording)

    def talk(self, talker: Any) -> None:
        if any(isinstance(sink, Talker) and not sink.closed for sink in self.sinks):
            raise AlreadyTalking
        self.sinks.append(talker)

    def add_sink(self, sink: Any) -> None:
        self.sinks.append(sink)

    def close(self) -> None:
        self.clear()
        self.closed = True
        for sink in self.sinks:
            sink.close()
        self.on_dtmf = self.on_inband_dtmf = None


class SilentEngine:
    """Stands in for a :class:`~rtp.engine.MediaEngine`."""

    def __init__(self, *, ports: int = 1000) -> None:
        self.streams: list[SilentStream] = []
        self._ports = ports
        self.busy = False
        """Its clock cannot follow any more."""

    def as_engine(self) -> MediaEngine:
        """For ``UserAgent(media=…)``."""
        return cast("MediaEngine", self)

    def overloaded(self, limit: float) -> bool:
        return self.busy

    def open_stream(self, local_host: str) -> SilentStream:
        if len([stream for stream in self.streams if not stream.closed]) >= self._ports:
            raise NoPortAvailable("no port is free")
        stream = SilentStream(40000 + 2 * len(self.streams))
        self.streams.append(stream)
        return stream

    @property
    def open_streams(self) -> int:
        """Streams nobody has closed."""
        return sum(not stream.closed for stream in self.streams)
