"""What happens to registrations and calls, as frozen dataclasses for ``match``."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sipcore.errors import SipError

__all__ = [
    "CallAnswered",
    "CallEnded",
    "CallEvent",
    "CallHeld",
    "CallResumed",
    "CallRinging",
    "DtmfReceived",
    "EndCause",
    "Party",
    "Registered",
    "RegistrationEvent",
    "RegistrationFailed",
    "TransferProgress",
    "Unregistered",
]


class Party(Enum):
    """Who did it."""

    LOCAL = "local"
    REMOTE = "remote"
    NETWORK = "network"


class EndCause(Enum):
    """Why a call is over."""

    HANGUP = "hangup"
    """A BYE after the call was connected."""
    REJECTED = "rejected"
    """A final response of 300-699 to the INVITE."""
    CANCELLED = "cancelled"
    """Given up before the answer."""
    TIMEOUT = "timeout"
    """Nobody answered, or the ACK never came."""
    UNREACHABLE = "unreachable"
    """The transport failed."""
    MEDIA = "media"
    """No media could be agreed on."""
    AUTHENTICATION = "authentication"
    """The credentials were refused."""
    TRANSFERRED = "transferred"
    """Hung up because a transfer succeeded."""
    SILENCE = "silence"
    """No RTP from the far end for too long."""
    SHUTDOWN = "shutdown"
    """The user agent was closed."""


# -- registration -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Registered:
    """The registrar holds our binding. Once per success after a failure; refreshes are silent."""

    expires: int
    """Seconds granted."""


@dataclass(frozen=True, slots=True)
class RegistrationFailed:
    """A REGISTER finally failed; the agent tries again in ``retry_in`` seconds while the account lives."""

    error: SipError
    retry_in: float


@dataclass(frozen=True, slots=True)
class Unregistered:
    """The binding was removed at our request."""


RegistrationEvent = Registered | RegistrationFailed | Unregistered


# -- call ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CallRinging:
    """A provisional response above 100 arrived (outgoing), or the far end's INVITE did (incoming)."""

    code: int
    reason: str
    early_media: bool = False
    """The response carried an SDP answer: what the far end plays now reaches the sinks."""


@dataclass(frozen=True, slots=True)
class CallAnswered:
    """The call is connected: 2xx sent or received, media agreed."""

    codec: str
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Extension headers of the far end's INVITE or 2xx."""


@dataclass(frozen=True, slots=True)
class CallHeld:
    """The far end holds the call (its offer was ``sendonly`` or ``inactive``)."""


@dataclass(frozen=True, slots=True)
class CallResumed:
    """The far end took the call off hold."""


@dataclass(frozen=True, slots=True)
class DtmfReceived:
    """One digit, RFC 4733."""

    digit: str
    """One of ``0-9 * # A-D``."""
    duration_ms: int


@dataclass(frozen=True, slots=True)
class TransferProgress:
    """A sipfrag of the referred call (RFC 3515 §2.4.5), or the answer to the REFER itself."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class CallEnded:
    """The last event of every call."""

    cause: EndCause
    by: Party
    code: int
    """SIP status code, 0 where none."""
    description: str
    """A sentence: who ended it and why, e.g. ``486 Busy Here from sip:bob@example.com``."""
    error: SipError | None = None
    """The error that :meth:`Call.connected` raises, where the call never connected."""


CallEvent = CallRinging | CallAnswered | CallHeld | CallResumed | DtmfReceived | TransferProgress | CallEnded
