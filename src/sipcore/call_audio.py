"""What a call's handle does with audio: play, mute, hear, record, and let people listen and talk live."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Literal

from sipcore.errors import NoOngoingCall
from sipcore.events import RecordingFailed

if TYPE_CHECKING:
    from pathlib import Path

    from rtp.audio_stream import AudioStream
    from rtp.listener import Listener
    from rtp.recording import Recording
    from rtp.recording_stream import RecordingStream
    from rtp.statistics import StreamStatistics
    from rtp.talker import Talker
    from sipcore.events import CallEvent
    from sipcore.media import AudioInput, CallMedia, Playback

__all__ = ["CallAudio"]


class CallAudio(ABC):
    """The part of :class:`sipcore.Call` that is about its RTP stream."""

    def __init__(self) -> None:
        self._media: CallMedia | None = None
        self._srtp = ""

    @abstractmethod
    def _flowing_media(self) -> CallMedia:
        """The stream of the call that is up, or has early media of ours.

        Raises:
            NoOngoingCall: it is not connected.
        """

    @abstractmethod
    def _publish(self, event: CallEvent) -> None:
        """Tells the readers of the call's events."""

    # -- what the far end hears ------------------------------------------------------------------------------------

    def play(self, *sources: AudioInput, loop: bool = False, gain_db: float = 0.0) -> Playback:
        """Queues audio behind whatever is playing, gap-free; ``await`` the result for the end.

        Args:
            sources: paths or bytes of anything libsndfile reads, decoded while it plays when it is long; int16 arrays
                (samples,) at 8,000 Hz; :class:`~sipcore.Samples` at a rate of their own; :class:`~sipcore.Tone`,
                :class:`~sipcore.KeyTones`, :class:`~sipcore.Mixed`; or anything with the methods of
                :class:`~sipcore.AudioSource`. They play one behind the other. What has another rate than the call's
                `sample_rate` is converted.
            loop: again and again, until the result is cancelled: files and arrays only.
            gain_db: louder or softer, in decibels; what would be too loud is clipped.

        Raises:
            NoOngoingCall: the call is not connected.
            InvalidAudio: when awaited: a source holds no audio.
            InvalidRequest: at once, or when awaited: what cannot be repeated shall be.
        """
        return self._flowing_media().play(*sources, loop=loop, gain_db=gain_db)

    @property
    def sample_rate(self) -> int:
        """Samples a second of the call's audio: 16,000 with a wideband codec, else 8,000; a re-INVITE may change it."""
        return self._media.rate if self._media is not None else 8000

    def mute(self) -> None:
        """Sends silence instead of what is played; RTP goes on. Idempotent."""
        self._flowing_media().mute()

    def unmute(self) -> None:
        """Undoes :meth:`mute`. Idempotent."""
        self._flowing_media().unmute()

    @property
    def muted(self) -> bool:
        """Whether this side is muted."""
        return self._media is not None and self._media.muted

    def pause_listening(self) -> None:
        """Readers of :meth:`audio` get silence from the next frame on; recordings and keys go on. Idempotent."""
        self._flowing_media().pause_listening(paused=True)

    def resume_listening(self) -> None:
        """Undoes :meth:`pause_listening`. Idempotent."""
        self._flowing_media().pause_listening(paused=False)

    @property
    def listening_paused(self) -> bool:
        """Whether readers of :meth:`audio` get silence."""
        return self._media is not None and self._media.listening_paused

    def audio(
        self,
        *,
        rate: int = 8000,
        frame_ms: int = 20,
        max_frames: int = 250,
        patience: int | None = None,
        max_seconds: float = 30.0,
        both: bool = False,
    ) -> AudioStream:
        """A live conversation of a program with the far end, until it is closed or the call ends.

        Iterate it for what the far end says: int16 arrays (rate * frame_ms / 1000,), silence included. ``await
        audio.write(samples)`` says something, ``audio.clear()`` stops at once, ``audio.mark()`` tells what was played.

        Args:
            rate: 8000 or 16000 Hz, both ways; where it is the call's own, nothing is converted.
            frame_ms: length of the frames heard, a multiple of 20 up to 500.
            max_frames: ticks of 20 ms kept for a slow reader; beyond, the oldest are dropped.
            patience: ticks after which a reader that is always behind has ``stalled`` and is let go; None: never.
            max_seconds: most that waits to be said; ``write`` waits for room.
            both: this side is heard, too, mixed.

        Raises:
            NoOngoingCall: the call has no media.
            ValueError: another rate, or another length of frames.
        """
        if self._media is None:
            raise NoOngoingCall("The call has no media")
        return self._media.audio(
            rate=rate, frame_ms=frame_ms, max_frames=max_frames, patience=patience, max_seconds=max_seconds, both=both
        )

    def listen(self, *, rate: int = 8000, max_frames: int = 50) -> Listener:
        """What is heard on the call, both sides mixed: int16 frames of 20 ms, until the call ends or it is closed.

        Args:
            rate: 8000 or 16000 Hz.
            max_frames: frames kept for a slow reader; one that loses frames for five seconds on end has ``stalled``.

        Raises:
            NoOngoingCall: the call is not connected.
            ValueError: another rate.
        """
        return self._flowing_media().listen(rate, max_frames)

    def talk(self, *, rate: int = 8000, max_frames: int = 50) -> Talker:
        """Somebody talks in place of what is played, which goes on silently; yields the far end's frames, unmixed.

        Raises:
            NoOngoingCall: the call is not connected.
            TalkInProgress: somebody else talks already.
            ValueError: another rate.
        """
        return self._flowing_media().talk(rate, max_frames)

    def record(self, path: str | Path, *, stereo: bool = False, replace: bool = True) -> Recording:
        """Writes the call to a wav file from now to the end of the call, or until it is closed.

        The file has 16 bit, at the `sample_rate` that the call has now, to its end. It is as long as the time that it
        took: what was lost is silence in it. When it cannot go on, a full disk for instance, the call gets
        a :class:`~sipcore.events.RecordingFailed` and goes on.

        Args:
            path: the file.
            replace: a file that is there already is emptied; else it is refused (``FileExistsError``).
            stereo: the far end left, what is sent to it right; else the far end alone.

        Returns:
            The recording, to ``pause``, ``resume`` and ``close``; ``wait_closed`` waits until the file is complete.

        Raises:
            NoOngoingCall: the call has no media.
            OSError: the file cannot be written.
        """
        if self._media is None:
            raise NoOngoingCall("The call has no media")
        return self._media.record(path, self._on_recording_failed, stereo=stereo, replace=replace)

    def record_stream(self, *, stereo: bool = True, chunk_ms: int = 200, max_seconds: float = 10.0) -> RecordingStream:
        """The call as :meth:`record` would write it, for a program to take piece by piece, to the end of the call.

        Iterate it: int16 arrays (n, channels) at its ``rate``, which is the `sample_rate` that the call has now, the
        far end in column 0 and what is sent to it in column 1.
        A reader that is ``max_seconds`` behind ends it, with its ``error``; what waits then is whole, and can be read.

        Args:
            stereo: both sides; else the far end alone.
            chunk_ms: length of the pieces, a multiple of 20 up to 1000.
            max_seconds: most that waits to be read.

        Returns:
            The recording, to ``pause``, ``resume`` and ``close``.

        Raises:
            NoOngoingCall: the call has no media.
            ValueError: another length.
        """
        if self._media is None:
            raise NoOngoingCall("The call has no media")
        return self._media.record_stream(stereo=stereo, chunk_ms=chunk_ms, max_seconds=max_seconds)

    def _on_recording_failed(self, recording: Recording, error: OSError) -> None:
        self._publish(RecordingFailed(str(recording.path), recording.seconds, error))

    @property
    def srtp(self) -> str:
        """The SRTP suite that its audio is encrypted with at present; empty: it is in the clear."""
        return self._srtp

    def statistics(self) -> StreamStatistics:
        """Counters of the RTP stream so far (RFC 3550 §6.4, §A)."""
        if self._media is None:
            raise NoOngoingCall("The call has no media")
        return self._media.statistics()

    def detect_keys(self, which: Literal["events", "inband", "both"]) -> None:
        """Which keys of the far end are heard in this call, from now on; see ``Account.dtmf_detection``.

        Raises:
            NoOngoingCall: the call has no media.
        """
        if self._media is None:
            raise NoOngoingCall("The call has no media")
        self._media.detect_keys(which)

    def report_quality(self) -> None:
        """Told by the user agent: it is time for a :class:`~sipcore.events.MediaQuality`."""
        if self._media is not None:
            self._publish(self._media.quality())
