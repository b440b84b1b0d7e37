"""Recordings that clients ask for: wav files in one folder of the server's, and those that are streamed to a client."""

from __future__ import annotations

import re
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.v1.errors import (
    RecordingExists,
    RecordingLimit,
    RecordingNotFound,
    RecordingNotWritable,
    RecordingsDisabled,
)
from sipcore.errors import InvalidRequest, NoOngoingCall

if TYPE_CHECKING:
    from pathlib import Path

    from service.ongoing import OngoingCall
    from service.recording_streams import RecordingConfig
    from sipcore.media import Recording, RecordingStream

__all__ = ["RecordingView", "Recordings"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,123}\.wav\Z", re.ASCII)
"""What a file may be called: nothing that leads out of the folder, hides, or means something to a shell."""
MOST_PER_CALL = 16


@dataclass(frozen=True, slots=True)
class RecordingView:
    """A recording as of one moment."""

    recording_id: str
    call_id: str
    file_name: str
    seconds: float
    paused: bool
    ended: bool
    error: str


@dataclass(slots=True)
class _Known:
    call: OngoingCall
    recording: Recording | RecordingStream
    file_name: str
    stopped: bool = False


class Recordings:
    """All of calls that are not over.

    Args:
        folder: where the files go; None: nothing is recorded.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._known: dict[str, _Known] = {}

    def start(self, ongoing: OngoingCall, file_name: str, *, mono: bool) -> RecordingView:
        """Records from now on.

        Raises:
            InvalidRequest: that is no name for a file.
            RecordingsDisabled, RecordingExists, RecordingNotWritable, RecordingLimit: it cannot be.
            NoOngoingCall: the call is not connected.
        """
        if self._folder is None:
            raise RecordingsDisabled("The server has no folder for recordings (--recordings)")
        name = file_name or _name_for(ongoing.identity.call_id)
        if not NAME.match(name):
            raise InvalidRequest("must be letters, digits, '.', '_', '-', up to 128, ending in .wav", field="file_name")
        if not ongoing.connected or ongoing.over.done():
            raise NoOngoingCall(f"The call {ongoing.identity.call_id} is not connected")
        self._require_room(ongoing)
        try:
            recording = ongoing.call.record(self._folder / name, stereo=not mono, replace=False)
        except FileExistsError:
            raise RecordingExists(f"There is a file {name} already") from None
        except OSError as error:
            raise RecordingNotWritable(f"{name} cannot be written: {error.strerror or error}") from error
        self._known[name] = _Known(ongoing, recording, name)
        ongoing.over.add_done_callback(lambda _: self._known.pop(name, None))
        return self._view(name)

    def stream(self, ongoing: OngoingCall, config: RecordingConfig) -> tuple[str, RecordingStream]:
        """Records from now on, for a client; its id, and what is recorded. Known until it is forgotten.

        Raises:
            RecordingLimit, NoOngoingCall: it cannot be.
        """
        self._require_room(ongoing)
        recording = ongoing.call.record_stream(
            stereo=not config.mono, chunk_ms=config.chunk_ms, max_seconds=config.max_behind_ms / 1000
        )
        recording_id = str(uuid.uuid4())
        self._known[recording_id] = _Known(ongoing, recording, "")
        return recording_id, recording

    def was_stopped(self, recording_id: str) -> bool:
        """Whether a client has asked for the end of it."""
        return self._find(recording_id).stopped

    def forget(self, recording_id: str) -> None:
        """Nobody asks for it any more."""
        self._known.pop(recording_id, None)

    def pause(self, recording_id: str, *, paused: bool) -> RecordingView:
        """Silence from now on, or the call again.

        Raises:
            RecordingNotFound: there is none such.
        """
        recording = self._find(recording_id).recording
        if paused:
            recording.pause()
        else:
            recording.resume()
        return self._view(recording_id)

    async def stop(self, recording_id: str) -> RecordingView:
        """Ends it, and waits until the file is complete.

        Raises:
            RecordingNotFound: there is none such.
        """
        known = self._find(recording_id)
        known.stopped = not known.recording.closed
        recording = known.recording
        recording.close()
        view = self._view(recording_id)
        await recording.wait_closed()
        return view if recording.error is None else self._failed(view, recording.error)

    def _require_room(self, ongoing: OngoingCall) -> None:
        if sum(known.call is ongoing for known in self._known.values()) >= MOST_PER_CALL:
            raise RecordingLimit(f"A call has {MOST_PER_CALL} recordings at most")

    def _find(self, recording_id: str) -> _Known:
        found = self._known.get(recording_id)
        if found is None:
            raise RecordingNotFound(f"There is no recording {recording_id!r}, or its call is over")
        return found

    def _view(self, recording_id: str) -> RecordingView:
        known = self._known[recording_id]
        recording = known.recording
        view = RecordingView(
            recording_id=recording_id,
            call_id=known.call.identity.call_id,
            file_name=known.file_name,
            seconds=recording.seconds,
            paused=recording.paused,
            ended=recording.closed,
            error="",
        )
        return view if recording.error is None else self._failed(view, recording.error)

    @staticmethod
    def _failed(view: RecordingView, error: OSError) -> RecordingView:
        return RecordingView(
            view.recording_id, view.call_id, view.file_name, view.seconds, view.paused, True, str(error)
        )


def _name_for(call_id: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9-]", "_", call_id, flags=re.ASCII).lstrip("_-")[:80] or "call"
    stamp = time.time_ns() // 1_000_000
    return f"{plain}-{time.strftime('%Y%m%dT%H%M%S', time.gmtime(stamp // 1000))}-{stamp % 1000:03d}.wav"
