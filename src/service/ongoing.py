"""The one ongoing call of an account, as the service sees it: a sipcore call and what clients said."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING

from service.levels import MediaLevels
from service.status import AmdAction, AmdResult, AmdVerdict, Status, StatusType, utc_microseconds
from sipcore.events import Party

if TYPE_CHECKING:
    from sipcore.call import Call
    from sipcore.events import CallEnded

__all__ = ["CALL_ID_HEADER", "CallIdentity", "EndReason", "OngoingCall", "call_id_for"]

CALL_ID_HEADER = "X-ondewo-vtsi-caller-call-id"
"""Header of an outgoing call whose value becomes its ``call_id``."""


class EndReason(IntEnum):
    """Why the client ends the call; the wire's numbers (``SipEndCallRequest.EndCallReason``)."""

    UNSPECIFIED = 0
    ANSWERING_MACHINE = 1
    ANSWERING_MACHINE_VOICE_MESSAGE_LEFT = 2
    TRANSFERRED = 3


TRANSFERRED = "Call transferred"
_DESCRIPTIONS = {
    EndReason.ANSWERING_MACHINE: "Answering machine detected with hang up",
    EndReason.ANSWERING_MACHINE_VOICE_MESSAGE_LEFT: ("Answering machine detected with left voice message and hang up"),
    EndReason.TRANSFERRED: TRANSFERRED,
}
"""Fixed terminal descriptions of CONTRACT §4."""

MACHINE_HUNG_UP = "Answering machine detected, call ended by the answering machine"
AFTER_A_MESSAGE = " after leaving a voice message"


def call_id_for(headers: Mapping[str, str]) -> str:
    """The id of a new call: what the client put into :data:`CALL_ID_HEADER`, else a random UUID."""
    for name, value in headers.items():
        if name.lower() == CALL_ID_HEADER.lower() and value.strip():
            return value.strip()
    return str(uuid.uuid4())


def _future() -> asyncio.Future[Status]:
    return asyncio.get_running_loop().create_future()


@dataclass(frozen=True, slots=True)
class CallIdentity:
    """What every status of one call says about it."""

    outgoing: bool
    call_id: str
    callee: str
    """The far end: as the client wrote it, or the caller's URI."""
    headers: Mapping[str, str]
    """Extension headers sent with the call; of an incoming call, those of the far end."""

    @property
    def initiated_type(self) -> StatusType:
        """First transition of such a call."""
        return StatusType.OUTGOING_CALL_INITIATED if self.outgoing else StatusType.INCOMING_CALL_INITIATED

    @property
    def connected_type(self) -> StatusType:
        """Transition when it was answered."""
        return StatusType.OUTGOING_CALL_CONNECTED if self.outgoing else StatusType.INCOMING_CALL_CONNECTED

    @property
    def failed_type(self) -> StatusType:
        """Terminal transition when it was never answered."""
        return StatusType.OUTGOING_CALL_FAILED if self.outgoing else StatusType.INCOMING_CALL_FAILED

    @property
    def finished_type(self) -> StatusType:
        """Terminal transition of a call that was connected, or that the client ended."""
        return StatusType.OUTGOING_CALL_FINISHED if self.outgoing else StatusType.INCOMING_CALL_FINISHED


@dataclass(slots=True, eq=False)
class OngoingCall:
    """From OUTGOING_/INCOMING_CALL_INITIATED to the terminal status."""

    identity: CallIdentity
    call: Call = field(repr=False)
    connected: bool = False
    ending: bool = False
    """The client asked to end it: the terminal status is *_CALL_FINISHED, even before the answer."""
    cancelled: bool = False
    """The client cancelled SipStartCall while it rang."""
    end_reason: EndReason = EndReason.UNSPECIFIED
    amd: AmdResult | None = None
    """The newest result that the client reported; on the terminal status."""
    machine_reported: bool = False
    """SipReportAnsweringMachineDetected said that no human answered."""
    levels: MediaLevels = field(default_factory=MediaLevels)
    """Who mutes the bot and who pauses its listening; gone with the call."""
    transfer_target: str = ""
    """Target of the newest transfer, as the client wrote it; on the terminal status of a transferred call."""
    transferring: bool = False
    """The outcome of a transfer is being waited for."""
    transferred: bool = False
    """A transfer was accepted: this leg ends as ``Call transferred``."""
    on_levels: Callable[[MediaLevels, MediaLevels], object] | None = None
    """Called with the levels before and after a change."""
    held: bool = False
    """This side holds it (``HoldCall``)."""
    consultation: OngoingCall | None = None
    """The call that asks whether this one may be transferred (``StartConsultation``), until it is over."""
    consulting: bool = False
    """A consultation is about to be placed."""
    consultation_for: str = ""
    """``call_id`` of the call that this one is a consultation for."""
    begun_us: int = field(default_factory=utc_microseconds)
    """When it began, microseconds since 1970."""
    answered_us: int = 0
    """When it was answered; 0 before."""
    confirm_transfer: Callable[[], object] | None = None
    """Set while a transfer is accepted but not yet recorded; called if the call ends just then."""
    settled: asyncio.Future[Status] = field(default_factory=_future, repr=False)
    """*_CALL_CONNECTED, or the status that says why it never will be."""
    over: asyncio.Future[Status] = field(default_factory=_future, repr=False)
    """The terminal status."""

    def finished_description(self, ended: CallEnded) -> str:
        """The fixed text of CONTRACT §4 where there is one, else who ended the call and why."""
        if self.transferred:
            return TRANSFERRED
        if self.end_reason in _DESCRIPTIONS:
            return _DESCRIPTIONS[self.end_reason]
        if self.machine_reported and ended.by is Party.REMOTE:
            return MACHINE_HUNG_UP + (AFTER_A_MESSAGE if self.left_message else "")
        return ended.description

    def report_machine(self, amd: AmdResult) -> None:
        """The client's answering machine detection has come to a verdict."""
        self.amd = amd
        self.machine_reported = amd.verdict != AmdVerdict.HUMAN

    def set_levels(self, levels: MediaLevels) -> None:
        """From the next frame on.

        Raises:
            NoOngoingCall: the call is ending; nothing was changed.
        """
        if levels.playback_silent:
            self.call.mute()
        else:
            self.call.unmute()
        if levels.listening_paused:
            self.call.pause_listening()
        else:
            self.call.resume_listening()
        before, self.levels = self.levels, levels
        if self.on_levels is not None and levels != before:
            self.on_levels(before, levels)

    @property
    def left_message(self) -> bool:
        """Whether the client left a voice message on the machine."""
        return self.amd is not None and self.amd.action_taken == AmdAction.LEFT_VOICE_MESSAGE

    @property
    def is_transferred(self) -> bool:
        """Whether the terminal status names a transfer target."""
        return self.transferred or self.end_reason is EndReason.TRANSFERRED
