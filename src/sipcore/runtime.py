"""What the handles of a user agent (registration, call, transfer) need of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from sipcore.call import Call
    from sipcore.config import UserAgentConfig
    from sipcore.media import CallMedia
    from sipcore.protocol.exchange import Exchange
    from sipcore.protocol.invite_session import InviteSession
    from sipcore.protocol.stack import Stack
    from sipcore.protocol.values import Uri
    from sipcore.protocol.wire import Response
    from sipcore.registration import Registration

__all__ = ["Runtime"]


class Runtime(Protocol):
    """The running user agent, as its handles see it."""

    config: UserAgentConfig

    @property
    def stack(self) -> Stack:
        """The protocol core."""

    def now(self) -> float:
        """The loop's clock, seconds."""

    def pump(self) -> None:
        """Sends what the stack has to send; to be called after every wish told to it."""

    def require_room(self) -> None:
        """Before a call is placed.

        Raises:
            AtCapacity: calls that are up would suffer from another one.
        """

    def open_media(self) -> CallMedia:
        """A new RTP stream.

        Raises:
            AtCapacity: no RTP port is free.
        """

    def adopt(self, call: Call) -> None:
        """Events of the call's session go to the call from now on."""

    def call_of(self, session: InviteSession) -> Call | None:
        """The call whose session this is; None once it is over."""

    def forget(self, call: Call) -> None:
        """The call is over."""

    async def outcome(self, exchange: Exchange) -> Response:
        """Waits for the final response of a request; see :meth:`sipcore.requests.Outcomes.wait`."""

    def resolve_callee(self, to: str, registration: Registration, *, field: str, refer: bool = False) -> Uri:
        """A name as a caller writes it, as a URI.

        Raises:
            InvalidAddress: it is none; ``field`` is what the message calls it.
        """

    def forget_registration(self, registration: Registration) -> None:
        """The account takes and places no more calls."""
