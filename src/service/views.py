"""Accounts, sessions and calls as of one moment: frozen, and holding on to nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from service.levels import MediaLevels
from sipcore.call import CallState

if TYPE_CHECKING:
    from service.line import Line
    from service.ongoing import OngoingCall

__all__ = [
    "AccountView",
    "Binding",
    "CallView",
    "SessionView",
    "Silence",
    "Unbound",
    "account_view",
    "call_view",
    "session_view",
]


@dataclass(frozen=True, slots=True)
class Binding:
    """What became of a REGISTER."""

    registered: bool
    code: int = 0
    """SIP status code of the refusal."""
    description: str = ""
    error: str = ""
    """Stable name of what went wrong; empty: nothing."""
    retry_in: float | None = None
    """Seconds until the agent tries again."""


@dataclass(frozen=True, slots=True)
class Unbound:
    """The binding was removed at our request, and no other is asked for."""


@dataclass(frozen=True, slots=True)
class AccountView:
    """One account."""

    account: str
    """Key of its address."""
    binding: Binding | Unbound | None
    """The newest; None while the first REGISTER is under way."""
    session_open: bool
    call_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SessionView:
    """One open session."""

    account: str
    auto_answer_interval: int
    call_id: str
    """Empty: no call."""


@dataclass(frozen=True, slots=True)
class Silence:
    """Who silences this side, and who keeps it from hearing."""

    microphone: bool = False
    bot: bool = False
    listening: bool = False

    @classmethod
    def of(cls, levels: MediaLevels) -> Silence:
        """What the levels of a call come to."""
        return cls(levels.microphone_muted, levels.bot_muted, levels.listening_paused)


@dataclass(frozen=True, slots=True)
class CallView:
    """One call."""

    call_id: str
    account: str
    outgoing: bool
    state: CallState
    remote: str
    sip_call_id: str
    begun_us: int
    answered_us: int
    headers: Mapping[str, str] = field(repr=False)
    codec: str
    held: bool
    held_by_remote: bool
    silence: Silence
    consultation_for: str


def account_view(line: Line) -> AccountView:
    """An account as of now."""
    return AccountView(line.address.key, line.binding, line.session_open, tuple(c.identity.call_id for c in line.calls))


def session_view(line: Line) -> SessionView:
    """An open session as of now."""
    call_id = line.ongoing.identity.call_id if line.ongoing is not None else ""
    return SessionView(line.address.key, line.auto_answer_interval, call_id)


def call_view(line: Line, ongoing: OngoingCall) -> CallView:
    """A call as of now."""
    about, call = ongoing.identity, ongoing.call
    return CallView(
        call_id=about.call_id,
        account=line.address.key,
        outgoing=about.outgoing,
        state=call.state,
        remote=about.callee,
        sip_call_id=call.call_id,
        begun_us=ongoing.begun_us,
        answered_us=ongoing.answered_us,
        headers=about.headers,
        codec=call.codec,
        held=ongoing.held,
        held_by_remote=call.held_by_remote,
        silence=Silence.of(ongoing.levels),
        consultation_for=ongoing.consultation_for,
    )
