"""SipSetCallMediaControl on one account (CONTRACT §4), and the secret that it asks for."""

from __future__ import annotations

import hmac
from dataclasses import replace
from typing import TYPE_CHECKING

from service.errors import CallScopeMismatch, TransferInProgress
from service.status import Status, StatusType
from sipcore.errors import CallError, NoOngoingCall

if TYPE_CHECKING:
    from service.levels import MediaRequest
    from service.line import Line
    from service.ongoing import OngoingCall

__all__ = ["UNAUTHENTICATED", "ControlToken", "controllable_call", "refused", "set_media_control"]


UNAUTHENTICATED = "the metadata x-ondewo-sip-call-control-token are missing or wrong"


class ControlToken:
    """The secret that control of somebody else's call asks for; empty: nobody is asked."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    def admits(self, given: str | None) -> bool:
        """Whether a request may go on. Takes the same time wherever the first difference is."""
        return not self._secret or hmac.compare_digest((given or "").encode(), self._secret)


def controllable_call(line: Line, what: str, expected_call_id: str | None) -> OngoingCall | CallError:
    """The connected call, where the request names it; else the error that says why ``what`` cannot be done."""
    ongoing = line.ongoing
    if ongoing is None:
        return NoOngoingCall(f"{what}: {line.name} has no ongoing call")
    if expected_call_id is None:
        return CallScopeMismatch(f"{what} must name its call in the metadata x-ondewo-expected-call-id")
    if (mismatch := line.scope_mismatch(expected_call_id)) is not None:
        return mismatch
    return line.connected_call(what)


def set_media_control(line: Line, request: MediaRequest, expected_call_id: str | None) -> Status:
    """Sets the levels of one owner in the connected call.

    Returns:
        The live status with the levels; a refusal has ``exception``. Nothing is recorded.
    """
    ongoing = controllable_call(line, "SipSetCallMediaControl", expected_call_id)
    if isinstance(ongoing, CallError):
        return line.refuse(StatusType.NO_ONGOING_CALL, ongoing, line.ongoing.identity if line.ongoing else None)
    if request.marks_participants and (ongoing.transferring or ongoing.transferred):
        return refused(line, TransferInProgress("A transfer of this call is in flight"))
    try:
        ongoing.set_levels(ongoing.levels.after(request))
    except NoOngoingCall as error:  # it is ending at this moment
        return line.refuse(StatusType.NO_ONGOING_CALL, error, ongoing.identity)
    return _about_call(line)


def refused(line: Line, error: CallError) -> Status:
    """The live status with the reason why nothing was changed."""
    return replace(_about_call(line), description=str(error), exception=type(error).__name__)


def _about_call(line: Line) -> Status:
    """The live status without the outcome of whatever request it came from."""
    call_id = line.ongoing.identity.call_id if line.ongoing is not None else ""
    return replace(line.live(), call_id=call_id, description="", exception="", traceback="")
