"""What a call's handle does with audio: play, mute, hear, record, and let people listen and talk live."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from sipcore.errors import NoOngoingCall

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from rtp.listener import Listener
    from rtp.sinks import WavSink
    from rtp.statistics import StreamStatistics
    from rtp.talker import Talker
    from sipcore.media import AudioInput, CallMedia, Playback

__all__ = ["CallAudio"]


class CallAudio(ABC):
    """The part of :class:`sipcore.Call` that is about its RTP stream."""

    def __init__(self) -> None:
        self._media: CallMedia | None = None

    @abstractmethod
    def _flowing_media(self) -> CallMedia:
        """The stream of the call that is up, or has early media of ours.

        Raises:
            NoOngoingCall: it is not connected.
        """

    # -- what the far end hears ------------------------------------------------------------------------------------

    def play(self, *sources: AudioInput, loop: bool = False, gain_db: float = 0.0) -> Playback:
        """Queues audio behind whatever is playing, gap-free; ``await`` the result for the end.

        Args:
            sources: paths or bytes of anything libsndfile reads, decoded while it plays when it is long; int16 arrays
                (samples,) at 8,000 Hz; :class:`~sipcore.Tone`, :class:`~sipcore.KeyTones`, :class:`~sipcore.Mixed`;
                or anything with the methods of :class:`~sipcore.AudioSource`. They play one behind the other.
            loop: again and again, until the result is cancelled: files and arrays only.
            gain_db: louder or softer, in decibels; what would be too loud is clipped.

        Raises:
            NoOngoingCall: the call is not connected.
            InvalidAudio: when awaited: a source holds no audio.
            InvalidRequest: at once, or when awaited: what cannot be repeated shall be.
        """
        return self._flowing_media().play(*sources, loop=loop, gain_db=gain_db)

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

    def audio(self, *, max_frames: int = 250) -> AsyncIterator[NDArray[np.int16]]:
        """The far end's audio: int16 arrays (160,) at 8,000 Hz, one per 20 ms, until the call ends.

        Args:
            max_frames: frames kept for a slow reader; beyond, the oldest are dropped.
        """
        if self._media is None:
            raise NoOngoingCall("The call has no media")
        return self._media.audio(max_frames)

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

    def record(self, path: str | Path) -> WavSink:
        """Writes the far end's audio to a wav file (16 bit, 8,000 Hz, mono) from now to the end of the call.

        Returns:
            The recording; its ``wait_closed`` waits until the file is complete.

        Raises:
            NoOngoingCall: the call has no media.
            OSError: the file cannot be written.
        """
        if self._media is None:
            raise NoOngoingCall("The call has no media")
        return self._media.record(path)

    def statistics(self) -> StreamStatistics:
        """Counters of the RTP stream so far (RFC 3550 §6.4, §A)."""
        if self._media is None:
            raise NoOngoingCall("The call has no media")
        return self._media.statistics()
