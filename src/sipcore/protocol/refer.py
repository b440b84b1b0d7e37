"""REFER and its implicit subscription, both roles (RFC 3515, RFC 6665 §8.2).

:class:`OutgoingRefer` follows one REFER that we sent: the answer to it, then each ``message/sipfrag`` that the peer's
NOTIFYs report about the call it placed. :class:`IncomingRefer` is a REFER that the peer sent us.

Left out: a REFER outside a dialog (RFC 3515 §2.4.1 allows it; nothing in this agent would use it), refreshing the
subscription by SUBSCRIBE (a REFER's outcome is known within the first interval).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sipcore.protocol.replaces import Replaces
    from sipcore.protocol.transaction import ServerTransaction
    from sipcore.protocol.values import Uri
    from sipcore.protocol.wire import Request, Response

__all__ = ["IncomingRefer", "OutgoingRefer", "ReferState", "Sipfrag", "declines_subscription", "parse_sipfrag"]

SUBSCRIPTION_SECONDS = 180
"""Lifetime of the implicit subscription that we grant to a transferor."""


class ReferState(Enum):
    """Where a REFER that we sent stands."""

    SENT = "sent"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    FINISHED = "finished"
    """The final NOTIFY came, or the subscription was terminated."""


def declines_subscription(message: Request | Response) -> bool:
    """Whether a REFER asks for no subscription, or its 2xx grants none: ``Refer-Sub: false`` (RFC 4488 §4)."""
    return (message.headers.get("Refer-Sub") or "").partition(";")[0].strip().lower() == "false"


@dataclass(frozen=True, slots=True)
class Sipfrag:
    """The status line of a ``message/sipfrag`` body (RFC 3420, RFC 3515 §2.4.5)."""

    status: int
    reason: str


def parse_sipfrag(body: bytes) -> Sipfrag | None:
    """The status line in a NOTIFY's body, or None where there is none. Never raises."""
    line = body.lstrip().split(b"\n", 1)[0].decode("utf-8", "replace").strip()
    version, _, rest = line.partition(" ")
    code, _, reason = rest.strip().partition(" ")
    if version.upper() != "SIP/2.0" or len(code) != 3 or not (code.isascii() and code.isdigit()):
        return None
    return Sipfrag(int(code), reason.strip())


@dataclass(slots=True, eq=False)
class OutgoingRefer:
    """A REFER of ours. ``cseq`` is the ``id`` that a NOTIFY may carry (RFC 3515 §2.4.6)."""

    target: str
    subscribe: bool = True
    """NOTIFYs are wanted; else the REFER says ``Refer-Sub: false`` (RFC 4488)."""
    state: ReferState = ReferState.SENT
    cseq: int = 0
    tried_again: bool = False
    """Sent a second time, after a 491."""
    last: Sipfrag | None = None

    def sent_as(self, cseq: int) -> None:
        """It goes out under this number; once more after a challenge."""
        self.cseq = cseq

    def answered(self, response: Response) -> None:
        """2xx opens the subscription, unless a NOTIFY overtook it or neither side wants one; all else refuses."""
        if response.status >= 300:
            self.state = ReferState.REFUSED
        elif not self.subscribe and declines_subscription(response):
            self.state = ReferState.FINISHED
        elif self.state is ReferState.SENT:
            self.state = ReferState.ACCEPTED

    def matches(self, notify: Request) -> bool:
        """Whether a NOTIFY of the dialog belongs to this subscription."""
        if self.state in (ReferState.REFUSED, ReferState.FINISHED):
            return False
        event, _, parameters = (notify.headers.get("Event") or "").partition(";")
        if event.strip().lower() != "refer":
            return False
        for parameter in parameters.split(";"):
            name, _, value = parameter.strip().partition("=")
            if name.lower() == "id":
                return value == str(self.cseq)
        return True

    def take(self, notify: Request) -> Sipfrag | None:
        """Reads a NOTIFY: keeps its status, ends the subscription where it says so or the status is final."""
        fragment = parse_sipfrag(notify.body)
        if fragment is not None:
            self.last = fragment
        state = (notify.headers.get("Subscription-State") or "").partition(";")[0].strip().lower()
        if state == "terminated" or (fragment is not None and fragment.status >= 200):
            self.state = ReferState.FINISHED
        return fragment


@dataclass(slots=True, eq=False)
class IncomingRefer:
    """A REFER of the peer, waiting for :meth:`ReferUsage.accept` or :meth:`ReferUsage.refuse`."""

    request: Request
    transaction: ServerTransaction = field(repr=False)
    target: Uri
    """The Refer-To URI."""
    replaces: Replaces | None = None
    """Its Replaces (RFC 3891)."""
    answered: bool = False
    finished: bool = False
    """The last NOTIFY is out, or nobody listens."""
    notifying: bool = False
    """A NOTIFY waits for its answer."""
    unsent: tuple[int, str] | None = None
    """The newest status, while it waits for that."""
