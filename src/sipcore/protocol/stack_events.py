"""What the stack asks of the shell, and tells it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sipcore.events import MessageReceived, RegistrationEvent
    from sipcore.protocol.exchange import Exchange
    from sipcore.protocol.flows import Flow, Target
    from sipcore.protocol.invite_session import InviteSession
    from sipcore.protocol.line import Line
    from sipcore.protocol.session_events import SessionEvent

__all__ = [
    "ExchangeDone",
    "FlowKept",
    "FlowWanted",
    "HostsWanted",
    "MessageArrived",
    "RegistrationOccurred",
    "SessionIncoming",
    "SessionOccurred",
    "StackEvent",
]


@dataclass(frozen=True, slots=True)
class FlowWanted:
    """The shell shall find a flow to ``target`` and say :meth:`Stack.flow_ready` or :meth:`Stack.flow_failed`."""

    id: int
    target: Target
    prefer: Flow | None
    avoid: tuple[Flow, ...] = ()
    """Flows to servers of ``target`` that failed: another one is wanted (RFC 3263 §4.3)."""
    rest: float = 0.0
    """Seconds for which the last of them asked to be left alone."""


@dataclass(frozen=True, slots=True)
class FlowKept:
    """``line`` is registered over ``flow``, which the shell shall keep open (RFC 5626 §4.4); None: not any more."""

    line: Line
    flow: Flow | None
    every: float | None = None
    """Seconds between keep-alives that the registrar asked for (Flow-Timer); it answers them."""


@dataclass(frozen=True, slots=True)
class HostsWanted:
    """The shell shall look up every address of ``target`` and say :meth:`Stack.hosts_found`: calls for ``line`` may
    come from each of them."""

    line: Line
    target: Target


@dataclass(frozen=True, slots=True)
class SessionIncoming:
    """An INVITE for ``line`` arrived; the shell shall ring or refuse ``session``."""

    session: InviteSession
    line: Line


@dataclass(frozen=True, slots=True)
class SessionOccurred:
    """Something happened in a session."""

    session: InviteSession
    event: SessionEvent


@dataclass(frozen=True, slots=True)
class RegistrationOccurred:
    """Something happened to a line's registration."""

    line: Line
    event: RegistrationEvent


@dataclass(frozen=True, slots=True)
class MessageArrived:
    """A MESSAGE outside any call, answered already."""

    line: Line
    message: MessageReceived


@dataclass(frozen=True, slots=True)
class ExchangeDone:
    """A request of ours that stands for itself has its final response, or will have none."""

    exchange: Exchange


StackEvent = (
    FlowWanted
    | FlowKept
    | HostsWanted
    | SessionIncoming
    | SessionOccurred
    | RegistrationOccurred
    | MessageArrived
    | ExchangeDone
)
