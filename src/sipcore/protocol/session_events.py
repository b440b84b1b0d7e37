"""What an INVITE session tells the shell: frozen, in order, drained from the stack after each input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sipcore.errors import SipError
    from sipcore.events import DtmfReceived, EndCause, InfoReceived, MessageReceived, Party, Reason
    from sipcore.protocol.offer_answer import NegotiatedMedia
    from sipcore.protocol.refer import IncomingRefer, OutgoingRefer, Sipfrag
    from sipcore.protocol.reoffer import Offer

__all__ = [
    "SessionEarlyMedia",
    "SessionEnded",
    "SessionEstablished",
    "SessionEvent",
    "SessionHeard",
    "SessionMediaChanged",
    "SessionOfferSettled",
    "SessionProvisional",
    "SessionReferAnswered",
    "SessionReferFailed",
    "SessionReferNotified",
    "SessionReferReceived",
]


@dataclass(frozen=True, slots=True)
class SessionProvisional:
    """A response of 101-199 to our INVITE; ``media`` where it carried a usable answer (early media)."""

    code: int
    reason: str
    media: NegotiatedMedia | None


@dataclass(frozen=True, slots=True)
class SessionEarlyMedia:
    """Our 183 with an answer is out, or need not hold one any more: audio may flow before the call is answered."""

    media: NegotiatedMedia


@dataclass(frozen=True, slots=True)
class SessionEstablished:
    """2xx and, where this side offered in the 2xx, the ACK with the answer: media may flow."""

    media: NegotiatedMedia
    headers: tuple[tuple[str, str], ...]
    """Header fields of the far end's INVITE or 2xx, as received."""


@dataclass(frozen=True, slots=True)
class SessionMediaChanged:
    """A later offer/answer exchange, of either side, has changed the media."""

    media: NegotiatedMedia


@dataclass(frozen=True, slots=True)
class SessionOfferSettled:
    """An offer of this side has been answered (``error`` is None), or will not be; the call goes on as it was."""

    offer: Offer
    error: SipError | None


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """The last event of a session."""

    cause: EndCause
    by: Party
    code: int
    description: str
    error: SipError | None
    reasons: tuple[Reason, ...] = ()
    """Of the message that ended it; what this side breaks off, it says in its BYE."""


@dataclass(frozen=True, slots=True)
class SessionHeard:
    """The peer said something inside the dialog that changes nothing in it; answered already."""

    event: DtmfReceived | InfoReceived | MessageReceived


@dataclass(frozen=True, slots=True)
class SessionReferReceived:
    """The peer asks us to call somebody; must be accepted or refused at once."""

    refer: IncomingRefer


@dataclass(frozen=True, slots=True)
class SessionReferAnswered:
    """The peer gave the final answer to our REFER."""

    refer: OutgoingRefer
    code: int
    reason: str
    subscribed: bool = True
    """NOTIFYs will tell how it goes; not where both sides want none (RFC 4488)."""


@dataclass(frozen=True, slots=True)
class SessionReferNotified:
    """A NOTIFY about our REFER; ``fragment`` is None where its body was no status line."""

    refer: OutgoingRefer
    fragment: Sipfrag | None


@dataclass(frozen=True, slots=True)
class SessionReferFailed:
    """Our REFER got no final answer."""

    refer: OutgoingRefer
    detail: str
    timeout: bool


SessionEvent = (
    SessionProvisional
    | SessionEarlyMedia
    | SessionEstablished
    | SessionMediaChanged
    | SessionOfferSettled
    | SessionEnded
    | SessionHeard
    | SessionReferReceived
    | SessionReferAnswered
    | SessionReferNotified
    | SessionReferFailed
)
