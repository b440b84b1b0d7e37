"""A call's audio: the only room that names both what SDP agreed on and the RTP engine."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rtp.audio_stream import AudioStream
from rtp.listener import Listener
from rtp.quality import mean_opinion, rating
from rtp.recording import Recording
from rtp.recording_stream import RecordingStream
from rtp.sinks import Gate
from rtp.sources import close_source
from rtp.speech import Mark
from rtp.srtp import MasterKey
from rtp.statistics import StreamStatistics
from rtp.stream import AlreadyTalking, PlaybackResult
from rtp.talker import Talker
from rtp.wav import AudioError
from sipcore.errors import InvalidAudio, InvalidRequest, NoOngoingCall, TalkInProgress
from sipcore.events import DtmfReceived, MediaQuality
from sipcore.sounds import AudioInput, needs_reading, open_sounds

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from rtp.engine import MediaEngine
    from rtp.sources import AudioSource
    from rtp.stream import Playback as StreamPlayback
    from sipcore.protocol.offer_answer import NegotiatedMedia
    from sipcore.protocol.sdes import SrtpKeys

__all__ = [
    "AudioInput",
    "AudioStream",
    "CallMedia",
    "Mark",
    "Playback",
    "Recording",
    "RecordingStream",
    "checked_digits",
]

log = logging.getLogger(__name__)

FRAME_MS = 20
"""What a packet of the far end usually holds, and waited for."""

DIGITS = frozenset("0123456789*#ABCD")


class Playback:
    """Audio that was asked for: being decoded, queued, playing, or done. ``await`` it for the end."""

    def __init__(self) -> None:
        self._queued: StreamPlayback | None = None
        self._preparing: asyncio.Task[None] | None = None
        self._cancelled = False

    def __await__(self) -> Generator[None, None, PlaybackResult]:
        return self._wait().__await__()

    async def _wait(self) -> PlaybackResult:
        if self._preparing is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.shield(self._preparing)
        if self._queued is None:
            return PlaybackResult(played_seconds=0.0, completed=False)
        return await self._queued.wait()

    def cancel(self) -> None:
        """Stops at the next frame; what was queued behind it plays on. Idempotent."""
        self._cancelled = True
        if self._queued is not None:
            self._queued.cancel()

    @property
    def played_seconds(self) -> float:
        """Seconds of audio sent so far."""
        return self._queued.played_seconds if self._queued is not None else 0.0

    @property
    def total_seconds(self) -> float:
        """Seconds of audio in all; 0 while it is being decoded."""
        return (self._queued.total_seconds or 0.0) if self._queued is not None else 0.0

    # -- told by CallMedia -----------------------------------------------------------------------------------------

    def queue(self, playback: StreamPlayback) -> None:
        """It stands in the stream's queue."""
        self._queued = playback
        if self._cancelled:
            playback.cancel()

    def prepare(self, work: asyncio.Task[None]) -> None:
        """It has to be decoded first."""
        self._preparing = work


class CallMedia:
    """One call's RTP stream, from the port in our SDP to its end.

    Raises:
        rtp.ports.NoPortAvailable: none in the configured range is free.
    """

    def __init__(self, engine: MediaEngine, local_host: str) -> None:
        self._stream = engine.open_stream(local_host)
        self._last: asyncio.Task[None] | None = None
        """The newest decoding; later audio queues behind it."""
        self._closed = False
        self._expected_since: float | None = None
        """When audio of the far end began to be expected, on the loop's clock; None while it is not."""
        self._ears = Gate()
        self._told = StreamStatistics()

    @property
    def port(self) -> int:
        """The UDP port RTP arrives at."""
        return self._stream.local_port

    def apply(self, media: NegotiatedMedia) -> None:
        """Sends and receives as an offer/answer exchange has settled; the stream's clock and sequence go on."""
        try:
            self._stream.configure(
                (media.remote_host, media.remote_port),
                codec=media.codec,
                payload_type=media.payload_type,
                receive_payload_types=media.receive_payload_types,
                dtmf_payload_type=media.dtmf_payload_type,
                dtmf_receive_payload_type=media.dtmf_receive_payload_type,
                rtcp=media.remote_rtcp,
                rtcp_mux=media.rtcp_mux,
                ptime_ms=media.ptime,
                srtp=_master_keys(media.srtp),
                send=media.send,
                receive=media.receive,
            )
        except (ValueError, ImportError) as error:
            log.warning("no media with %s:%s: %s", media.remote_host, media.remote_port, error)

    def expect(self, media: NegotiatedMedia | None, now: float) -> None:
        """Whether the far end's audio is expected from now on: in a call that is up, and not on hold by either side."""
        if media is None or not (media.send and media.receive) or media.remote_hold:
            self._expected_since = None
        elif self._expected_since is None:
            self._expected_since = now

    def seconds_of_silence(self, now: float) -> float:
        """For how long audio has been expected and nothing came; 0 while it is not expected."""
        if self._expected_since is None:
            return 0.0
        return min(now - self._expected_since, self._stream.seconds_since_life())

    def seconds_since_life(self) -> float:
        """For how long nothing has come, expected or not."""
        return self._stream.seconds_since_life()

    def seconds_refused(self) -> float:
        """For how long all that was sent has been refused (ICMP)."""
        return self._stream.seconds_refused()

    @property
    def rate(self) -> int:
        """Samples a second of what is sent and heard: 16,000 with a wideband codec, else 8,000."""
        return self._stream.rate

    # -- out -------------------------------------------------------------------------------------------------------

    def play(self, *sources: AudioInput, loop: bool = False, gain_db: float = 0.0) -> Playback:
        """Queues audio; what is there already at once, files as soon as their beginning is decoded (off the loop's
        thread), in this order."""
        playback, rate = Playback(), self._stream.rate
        waiting = self._last is not None and not self._last.done()
        if not waiting and not any(needs_reading(source, rate) for source in sources):
            playback.queue(self._stream.play(open_sounds(sources, loop=loop, gain_db=gain_db, rate=rate)))
        else:
            opening = partial(open_sounds, sources, loop=loop, gain_db=gain_db, rate=rate)
            self._last = asyncio.create_task(self._open(playback, opening, self._last if waiting else None))
            playback.prepare(self._last)
        return playback

    async def _open(
        self, playback: Playback, opening: Callable[[], AudioSource], before: asyncio.Task[None] | None
    ) -> None:
        try:
            source = await asyncio.to_thread(opening)
        except AudioError as error:
            raise InvalidAudio(str(error), field="sources") from error
        except OSError as error:
            raise InvalidAudio(f"cannot be read: {error.strerror or error}", field="sources") from error
        finally:
            if before is not None:
                await asyncio.wait({before})
        if self._closed:
            close_source(source)
        else:
            playback.queue(self._stream.play(source))

    def mute(self) -> None:
        """Sends silence instead."""
        self._stream.mute()

    def unmute(self) -> None:
        """Undoes :meth:`mute`."""
        self._stream.unmute()

    @property
    def muted(self) -> bool:
        """Whether silence is sent instead of what is played."""
        return self._stream.muted

    @property
    def takes_events(self) -> bool:
        """Whether the far end takes telephone-events (RFC 4733)."""
        return self._stream.event_payload_type is not None

    async def send_dtmf(self, digits: str) -> None:
        """Sends telephone-events (RFC 4733) and waits until they are out. The digits are checked ones."""
        if not self.takes_events:
            raise NoOngoingCall("The far end takes no telephone-event")
        await self._stream.send_dtmf(digits).wait()

    # -- in --------------------------------------------------------------------------------------------------------

    def on_dtmf(self, heard: Callable[[DtmfReceived], None]) -> None:
        """Calls ``heard`` with each key of the far end, whether an event or tones."""
        self._stream.on_dtmf = lambda digit, duration: heard(DtmfReceived(digit, duration))
        self._stream.on_inband_dtmf = lambda digit, duration: heard(DtmfReceived(digit, duration, "inband"))

    def detect_keys(self, which: Literal["events", "inband", "both"]) -> None:
        """Which keys are heard."""
        self._stream.detect_keys(events=which != "inband", inband=which != "events")

    @property
    def listening_paused(self) -> bool:
        """Whether `audio` yields silence instead of what the far end says."""
        return self._ears.shut

    def pause_listening(self, *, paused: bool) -> None:
        """Silence for the readers of `audio`, or the far end again; recordings go on."""
        self._ears.shut = paused

    def audio(
        self, *, rate: int, frame_ms: int, max_frames: int, patience: int | None, max_seconds: float, both: bool
    ) -> AudioStream:
        """The far end's audio, and a way to answer it, until it or the stream closes."""
        audio = AudioStream(
            rate=rate,
            line=self._stream.rate,
            frame_ms=frame_ms,
            max_frames=max_frames,
            patience=patience,
            max_seconds=max_seconds,
            both=both,
            gate=self._ears,
        )
        self._stream.converse(audio)
        return audio

    def listen(self, rate: int, max_frames: int) -> Listener:
        """Both sides mixed, until the listener or the stream closes."""
        listener = Listener(rate=rate, max_frames=max_frames)
        self._stream.listen(listener)
        return listener

    def talk(self, rate: int, max_frames: int) -> Talker:
        """Sends what is said instead of what plays, until the talker or the stream closes."""
        talker = Talker(rate=rate, line=self._stream.rate, max_frames=max_frames)
        try:
            self._stream.talk(talker)
        except AlreadyTalking:
            raise TalkInProgress("Somebody else talks into the call already") from None
        return talker

    def record(
        self, path: str | Path, failed: Callable[[Recording, OSError], None], *, stereo: bool, replace: bool
    ) -> Recording:
        """Writes a wav file until the stream closes."""
        recording = Recording(Path(path), stereo=stereo, replace=replace, sample_rate=self._stream.rate)
        recording.on_failed = lambda error: failed(recording, error)
        self._stream.record(recording)
        return recording

    def record_stream(self, *, stereo: bool, chunk_ms: int, max_seconds: float) -> RecordingStream:
        """The same samples, piece by piece, until the stream closes."""
        recording = RecordingStream(
            stereo=stereo, chunk_ms=chunk_ms, max_seconds=max_seconds, sample_rate=self._stream.rate
        )
        self._stream.record(recording)
        return recording

    def statistics(self) -> StreamStatistics:
        """The stream's counters."""
        return self._stream.statistics()

    def quality(self) -> MediaQuality:
        """How it has sounded since the last time that somebody asked."""
        before, now = self._told, self._stream.statistics()
        self._told = now
        received = now.packets_received - now.duplicates - before.packets_received + before.duplicates
        lost = max(0, now.lost - before.lost)  # one that came in the end is not lost any more
        late = now.late - before.late
        share = (lost + late) / max(received + lost, 1)
        one_way = (now.round_trip_ms or 0.0) / 2 + FRAME_MS + now.delay_ms
        return MediaQuality(
            received=received,
            lost=lost,
            late=late,
            concealed=now.concealed - before.concealed,
            jitter_ms=now.jitter_ms,
            delay_ms=now.delay_ms,
            round_trip_ms=now.round_trip_ms,
            remote_loss=now.remote_loss,
            mos=mean_opinion(rating(share, one_way)) if received + lost else 0.0,
        )

    # -- end -------------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Drops what is queued: from the next frame on silence is sent."""
        self._stream.clear()

    def close(self) -> None:
        """Frees the ports and ends the sinks. Idempotent; statistics stay readable."""
        if self._closed:
            return
        self._closed = True
        self._stream.close()


def checked_digits(digits: str) -> str:
    """Keys in upper case.

    Raises:
        InvalidRequest: there is none, or a character other than ``0-9 * # A-D``.
    """
    wanted = digits.upper()
    if not wanted or set(wanted) - DIGITS:
        raise InvalidRequest(f"digits: {digits!r} may hold 0-9, *, #, A-D only", field="digits")
    return wanted


def _master_keys(keys: SrtpKeys | None) -> tuple[MasterKey, MasterKey] | None:
    if keys is None:
        return None
    local, remote = (MasterKey(key.suite, key.material, key.mki) for key in (keys.local, keys.remote))
    return local, remote
