"""What happens to registrations and calls, as frozen dataclasses for ``match``."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from sipcore.errors import InvalidHeader

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sipcore.errors import SipError

__all__ = [
    "CallAnswered",
    "CallEnded",
    "CallEvent",
    "CallHeld",
    "CallReplaced",
    "CallResumed",
    "CallRinging",
    "Capabilities",
    "DtmfReceived",
    "EndCause",
    "InfoReceived",
    "MediaQuality",
    "MessageReceived",
    "Party",
    "Reason",
    "RecordingFailed",
    "Registered",
    "RegistrationEvent",
    "RegistrationFailed",
    "TransferProgress",
    "Unregistered",
]

_TOKEN = re.compile(r"[A-Za-z0-9\-.!%*_+`'~]+\Z")


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
    REPLACED = "replaced"
    """Another call has come in its place (RFC 3891): the far end was transferred to us, or picked up elsewhere."""
    SILENCE = "silence"
    """No RTP from the far end for too long."""
    EXPIRED = "expired"
    """The session timer ran out: no refresh came, or ours was not answered (RFC 4028)."""
    SHUTDOWN = "shutdown"
    """The user agent was closed."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One value of a Reason header field (RFC 3326): what was behind a BYE, a CANCEL or a refusal.

    Raises:
        InvalidHeader: ``protocol`` is no token, or ``text`` is more than one line.
    """

    protocol: str
    """``Q.850`` (a cause of ITU-T Q.850: 16 normal clearing, 17 busy …), ``SIP`` (a status code), or another token."""
    cause: int = 0
    """0 where none was given."""
    text: str = ""

    def __post_init__(self) -> None:
        if not _TOKEN.match(self.protocol):
            raise InvalidHeader(f"reason: {self.protocol!r} is not a protocol (RFC 3326 §2 token)", field="reason")
        if not 0 <= self.cause <= 9999:
            raise InvalidHeader(f"reason: {self.cause} is not a cause", field="reason")
        if any(character in self.text for character in "\r\n\0"):
            raise InvalidHeader("reason: the text holds CR, LF or NUL", field="reason")

    def __str__(self) -> str:
        return " ".join(part for part in (self.protocol, str(self.cause or ""), self.text) if part)


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


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The answer to an OPTIONS (RFC 3261 §11.2); empty where the far end does not tell."""

    code: int
    """200, or what an INVITE would get: 486, 404 … (§11.2). Whatever it is, somebody is there."""
    reason: str
    methods: tuple[str, ...] = ()
    """Allow."""
    extensions: tuple[str, ...] = ()
    """Supported."""
    content_types: tuple[str, ...] = ()
    """Accept."""


RegistrationEvent = Registered | RegistrationFailed | Unregistered


# -- call ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CallRinging:
    """A provisional response above 100 arrived (outgoing); the far end's INVITE did, or our 183 is out (incoming)."""

    code: int
    reason: str
    early_media: bool = False
    """The response carried an SDP answer: what the callee plays now is heard."""


@dataclass(frozen=True, slots=True)
class CallAnswered:
    """The call is connected: 2xx sent or received, media agreed."""

    codec: str
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Extension headers of the far end's INVITE or 2xx."""
    srtp: str = ""
    """The SRTP suite that the audio is encrypted with (RFC 4568, RFC 7714); empty: it is not."""


@dataclass(frozen=True, slots=True)
class CallHeld:
    """The far end holds the call (its offer was ``sendonly`` or ``inactive``)."""


@dataclass(frozen=True, slots=True)
class CallResumed:
    """The far end took the call off hold."""


@dataclass(frozen=True, slots=True)
class CallReplaced:
    """Another call of the account, ``Call.replaced_by``, has come in this one's place (RFC 3891); its end follows."""

    call_id: str
    """The SIP Call-ID of the other call."""


@dataclass(frozen=True, slots=True)
class DtmfReceived:
    """One digit, by RFC 4733, by INFO, or as tones in the audio; one that comes several ways at once is told once."""

    digit: str
    """One of ``0-9 * # A-D``."""
    duration_ms: int
    method: Literal["rfc4733", "info", "inband"] = "rfc4733"


@dataclass(frozen=True, slots=True)
class InfoReceived:
    """An INFO that carried no key (RFC 6086 §3): its body is of one of the agent's ``info_types``, or empty."""

    content_type: str
    """Media type in lower case without parameters; empty where there was no body."""
    body: bytes
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Extension headers."""


@dataclass(frozen=True, slots=True)
class MessageReceived:
    """A MESSAGE (RFC 3428), in a call or by itself."""

    sender: str
    """The URI of From."""
    display_name: str
    content_type: str
    """Media type in lower case without parameters."""
    body: bytes = field(repr=False)
    text: str = field(repr=False)
    """The body, decoded; what is not text in its character set is replaced."""
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Extension headers."""


@dataclass(frozen=True, slots=True)
class RecordingFailed:
    """A recording of the call stopped early, on a full disk for instance; what was written by then is a whole file."""

    path: str
    seconds: float
    """Length by then, of what was recorded; the file may be half a second shorter."""
    error: OSError


@dataclass(frozen=True, slots=True)
class MediaQuality:
    """How the call sounds, each ``UserAgentConfig.quality_interval``. Counts: of the time since the last such event."""

    received: int
    """Packets of the far end, duplicates left out."""
    lost: int
    """Packets that never came."""
    late: int
    """Packets that came after their playing time."""
    concealed: int
    """Frames of 20 ms that were filled in."""
    jitter_ms: float
    """RFC 3550 §6.4.1."""
    delay_ms: float
    """Of the jitter buffer."""
    round_trip_ms: float | None
    """By the far end's latest RTCP report; None before one tells."""
    remote_loss: float
    """Share of our packets that the far end missed, by its latest reports, 0..1."""
    mos: float
    """ITU-T G.107, estimated from this time's loss and delay: 1 bad to 4.4; 0 where nothing came."""

    @property
    def loss(self) -> float:
        """Share of the far end's packets that could not be played, 0..1."""
        expected = self.received + self.lost
        return min(1.0, (self.lost + self.late) / expected) if expected else 0.0


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
    reason: tuple[Reason, ...] = ()
    """Of the BYE, CANCEL or final response that ended it: sent where ``by`` is local, else received."""
    early_media: bool = False
    """Audio of the callee could be heard before the answer (announcements often say why a call fails)."""

    @property
    def answered_elsewhere(self) -> bool:
        """The caller gave up because another telephone took the call (RFC 3326 §3.1): not a missed one."""
        return self.by is Party.REMOTE and any(
            reason.protocol == "SIP" and reason.cause == 200 for reason in self.reason
        )


CallEvent = (
    CallRinging
    | CallAnswered
    | CallHeld
    | CallReplaced
    | CallResumed
    | DtmfReceived
    | InfoReceived
    | MediaQuality
    | MessageReceived
    | RecordingFailed
    | TransferProgress
    | CallEnded
)
