"""What an account's line writes into the journal: its transitions, its binding, and what happens in its calls."""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePath
from typing import TYPE_CHECKING

from service.journal import LONGEST_TEXT, CallBegan, CallOver, Happening, RecordingBroken, Written
from service.views import Silence, call_view
from sipcore.events import (
    CallAnswered,
    CallHeld,
    CallReplaced,
    CallResumed,
    CallRinging,
    DtmfReceived,
    InfoReceived,
    MediaQuality,
    MessageReceived,
    RecordingFailed,
    TransferProgress,
)

if TYPE_CHECKING:
    from service.journal import Journal
    from service.levels import MediaLevels
    from service.line import Line
    from service.ongoing import OngoingCall
    from service.status import Status
    from sipcore.events import CallEvent

__all__ = ["Chronicle"]

TOLD = (CallRinging, CallAnswered, CallHeld, CallResumed, DtmfReceived, MediaQuality, TransferProgress, CallReplaced)
"""Events of a call that are written as they are."""


class Chronicle:
    """The journal, as one line writes it."""

    def __init__(self, journal: Journal, account: str) -> None:
        self._journal = journal
        self._account = account

    def write(self, what: Happening, call_id: str = "") -> None:
        """Something happened to the account, or in one of its calls."""
        self._journal.write(self._account, call_id, what)

    def transition(self, status: Status) -> None:
        """A transition was recorded; what events do not tell is not kept twice."""
        if status.traceback or status.headers:
            status = replace(status, traceback="", headers={})
        self.write(status, status.call_id)

    def follow(self, line: Line, ongoing: OngoingCall) -> None:
        """A call began: writes that, what has happened in it until now, and what will; but for its end."""
        call_id = ongoing.identity.call_id

        def on_levels(before: MediaLevels, after: MediaLevels) -> None:
            if Silence.of(before) != Silence.of(after):
                self.write(Silence.of(after), call_id)

        self.write(CallBegan(call_view(line, ongoing)), call_id)
        ongoing.on_levels = on_levels
        ongoing.call.watch(lambda event: self._on_event(call_id, event), replay=True)

    def over(self, ongoing: OngoingCall) -> None:
        """A call is over."""
        self.write(CallOver.of(ongoing), ongoing.identity.call_id)

    def _on_event(self, call_id: str, event: CallEvent) -> None:
        if isinstance(event, TOLD):
            self.write(event, call_id)
        elif isinstance(event, RecordingFailed):
            said = event.error.strerror or str(event.error)
            self.write(RecordingBroken(PurePath(event.path).name, event.seconds, said), call_id)
        elif isinstance(event, (InfoReceived, MessageReceived)):
            method = "INFO" if isinstance(event, InfoReceived) else "MESSAGE"
            text = Written(method, event.content_type, event.body[:LONGEST_TEXT], len(event.body))
            self.write(text, call_id)
