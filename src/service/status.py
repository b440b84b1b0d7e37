"""What an account's clients are told: the status types, the table of their order, and the bounded history.

Nothing here knows protobuf or SIP. The numbers of :class:`StatusType` are those of the wire
(``ondewo.sip.SipStatus.StatusType``); a test compares them.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, IntEnum
from types import MappingProxyType

__all__ = [
    "TRANSITIONS",
    "AmdAction",
    "AmdResult",
    "AmdVerdict",
    "History",
    "IllegalTransition",
    "Phase",
    "Status",
    "StatusType",
    "utc_microseconds",
]


class StatusType(IntEnum):
    """What happened."""

    NO_SESSION = 0
    REGISTERED = 1
    READY = 2
    INCOMING_CALL_INITIATED = 3
    OUTGOING_CALL_INITIATED = 4
    OUTGOING_CALL_CONNECTED = 5
    INCOMING_CALL_CONNECTED = 6
    TRANSFER_CALL_INITIATED = 7
    SOFT_HANGUP_INITIATED = 8
    HARD_HANGUP_INITIATED = 9
    INCOMING_CALL_FAILED = 10
    OUTGOING_CALL_FAILED = 11
    INCOMING_CALL_FINISHED = 12
    OUTGOING_CALL_FINISHED = 13
    SESSION_REGISTRATION_FAILED = 14
    SESSION_STARTED = 15
    SESSION_ENDED = 16
    TRANSFER_CALL_FAILED = 17
    MICROPHONE_MUTED = 18
    MICROPHONE_UNMUTED = 19
    MICROPHONE_WAV_FILES_PLAYED = 20
    NO_ONGOING_CALL = 21
    OUTGOING_CALL_ANSWERING_MACHINE_DETECTED = 22


class AmdVerdict(IntEnum):
    """The verdicts that change what the server says (``AnsweringMachineDetectionResult.Verdict``)."""

    HUMAN = 1


class AmdAction(IntEnum):
    """The actions that change what the server says (``AnsweringMachineDetectionResult.ActionTaken``)."""

    LEFT_VOICE_MESSAGE = 4


@dataclass(frozen=True, slots=True)
class AmdResult:
    """What the client says about who answered; the numbers of the wire, passed through also where unknown here."""

    verdict: int = 0
    cause: int = 0
    confidence: float = 0.0
    decision_ms: int = 0
    rule_id: str = ""
    matched_cue_ids: tuple[str, ...] = ()
    action_taken: int = 0
    call_id: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    """One transition of an account, or a refusal that was only returned."""

    type: StatusType
    account: str = ""
    """The account as the request that named it wrote it."""
    timestamp_us: int = 0
    """Microseconds since 1970, UTC."""
    callee: str = ""
    """The far end, in both directions."""
    transfer_target: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    description: str = ""
    exception: str = ""
    """Stable name of what went wrong; empty: nothing."""
    traceback: str = ""
    amd: AmdResult | None = None
    call_id: str = ""
    sip_code: int = 0
    bot_muted: bool = False
    """An owner of media control mutes the bot, or somebody talks in its place; not SipMute."""
    listening_paused: bool = False
    """An owner of media control pauses its listening, or somebody talks in its place."""
    audio_streams: int = 0
    """Live audio streams of the call that are open."""


class Phase(Enum):
    """Where an account stands, as far as the order of its transitions goes."""

    CLOSED = "no session"
    OPEN = "session, no call"
    CALLING = "outgoing call, not answered"
    RINGING = "incoming call, not answered"
    OUTGOING = "outgoing call, connected"
    INCOMING = "incoming call, connected"


def _table() -> dict[tuple[Phase, StatusType], Phase]:
    """CONTRACT §3 as (phase, transition) → phase after it. What is not in it must never be recorded."""
    s, p = StatusType, Phase
    table: dict[tuple[Phase, StatusType], Phase] = {}
    for phase in Phase:
        # The binding lives on its own, beside sessions and calls; SipStartSession may be repeated any time.
        for type_ in (s.REGISTERED, s.SESSION_REGISTRATION_FAILED):
            table[phase, type_] = phase
        table[phase, s.SESSION_STARTED] = p.OPEN if phase is p.CLOSED else phase
        # A refusal of SipEndCall, SipMute, SipUnMute or SipPlayWavFiles. While CLOSED: a wav cut short by the
        # end of the session may say so after SESSION_ENDED.
        table[phase, s.NO_ONGOING_CALL] = phase
        if phase is not p.CLOSED:
            table[phase, s.READY] = phase
    table[p.CLOSED, s.NO_SESSION] = p.CLOSED  # a repeated SipEndSession
    table[p.OPEN, s.SESSION_ENDED] = p.CLOSED
    table[p.OPEN, s.OUTGOING_CALL_INITIATED] = p.CALLING
    table[p.OPEN, s.INCOMING_CALL_INITIATED] = p.RINGING
    for ringing, connected, done, failed, finished in (
        (p.CALLING, p.OUTGOING, s.OUTGOING_CALL_CONNECTED, s.OUTGOING_CALL_FAILED, s.OUTGOING_CALL_FINISHED),
        (p.RINGING, p.INCOMING, s.INCOMING_CALL_CONNECTED, s.INCOMING_CALL_FAILED, s.INCOMING_CALL_FINISHED),
    ):
        table[ringing, done] = connected
        table[ringing, failed] = p.OPEN
        for phase in (ringing, connected):
            table[phase, s.SOFT_HANGUP_INITIATED] = phase
            table[phase, s.HARD_HANGUP_INITIATED] = phase
            table[phase, finished] = p.OPEN
        for type_ in (
            s.TRANSFER_CALL_INITIATED,
            s.TRANSFER_CALL_FAILED,
            s.MICROPHONE_MUTED,
            s.MICROPHONE_UNMUTED,
            s.MICROPHONE_WAV_FILES_PLAYED,
        ):
            table[connected, type_] = connected
    table[p.OUTGOING, s.OUTGOING_CALL_ANSWERING_MACHINE_DETECTED] = p.OUTGOING
    return table


TRANSITIONS: Mapping[tuple[Phase, StatusType], Phase] = MappingProxyType(_table())
"""CONTRACT §3: which transition may follow in which phase, and the phase after it."""


class IllegalTransition(AssertionError):
    """A transition was recorded that cannot follow: a bug in this package, never the client's fault."""


def utc_microseconds() -> int:
    """Since 1970."""
    return time.time_ns() // 1000


class History:
    """The transitions of one account: bounded (oldest dropped first), timestamps strictly increasing.

    Args:
        size: transitions kept, at least 1.
        clock: microseconds since 1970; read once for each status.
        past: transitions from before the server was started, oldest first. They are history and nothing more: none of
            them is the current one.
        keep: gets each transition as recorded.
    """

    def __init__(
        self,
        size: int,
        clock: Callable[[], int] = utc_microseconds,
        *,
        past: Sequence[Status] = (),
        keep: Callable[[Status], None] | None = None,
    ) -> None:
        self._kept: deque[Status] = deque(past, maxlen=size)
        self._clock = clock
        self._keep = keep
        self._last_us = self._kept[-1].timestamp_us if self._kept else 0
        self._current: Status | None = None
        self.phase = Phase.CLOSED

    @property
    def current(self) -> Status | None:
        """The newest transition since the start; None before the first."""
        return self._current

    def all(self) -> tuple[Status, ...]:
        """All kept transitions, oldest first."""
        return tuple(self._kept)

    def stamp(self, status: Status) -> Status:
        """``status`` with the time of now, not recorded: for what is only returned."""
        return replace(status, timestamp_us=max(self._clock(), self._last_us))

    def record(self, status: Status) -> Status:
        """Append one transition with the time of now; returns it as recorded.

        A clock that stands still or was set back does not break the order: each timestamp is at least one
        microsecond after the last.

        Raises:
            IllegalTransition: it cannot follow in this phase (a bug); nothing was recorded.
        """
        phase = TRANSITIONS.get((self.phase, status.type))
        if phase is None:
            raise IllegalTransition(f"{status.type.name} cannot follow in phase {self.phase.name}")
        self.phase = phase
        self._last_us = max(self._clock(), self._last_us + 1)
        recorded = replace(status, timestamp_us=self._last_us)
        self._kept.append(recorded)
        self._current = recorded
        if self._keep is not None:
            self._keep(recorded)
        return recorded
