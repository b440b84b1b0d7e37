"""One request and its final response, for methods that need no machinery of their own: INFO, MESSAGE, OPTIONS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sipcore.protocol.uac import UacFailure, UacRequest
    from sipcore.protocol.wire import Response

__all__ = ["Exchange"]


@dataclass(slots=True, eq=False)
class Exchange:
    """A request of ours, on its way or done; a :class:`~sipcore.protocol.uac.UacHandler`.

    Args:
        method: for people.
        peer: whom it was sent to, for people.
        done: told once, when ``response`` or ``failure`` is there.
    """

    method: str
    peer: str
    done: Callable[[Exchange, float], None] = field(repr=False)
    response: Response | None = None
    """The final one."""
    failure: UacFailure | None = None
    """Why there will be none."""

    def on_provisional(self, request: UacRequest, response: Response, now: float) -> None:
        """100 says nothing."""

    def on_final(self, request: UacRequest, response: Response, now: float) -> None:
        """Any final response is an outcome."""
        self.response = response
        self.done(self, now)

    def on_failure(self, request: UacRequest, failure: UacFailure, now: float) -> None:
        """No response is one too."""
        self.failure = failure
        self.done(self, now)
