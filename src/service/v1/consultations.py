"""A second call beside the first: whether its far end would take over, and the transfer to it (RFC 5589 §7)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from service.errors import ParticipantsPresent, TransferInProgress
from service.ongoing import CallIdentity, OngoingCall, call_id_for
from service.status import StatusType, utc_microseconds
from service.v1.calls import carried_on, set_hold
from service.v1.errors import ConsultationInProgress, NoConsultation
from service.v1.lookup import Found
from sipcore.errors import InvalidRequest, NoOngoingCall
from sipcore.events import CallAnswered, CallEnded, EndCause
from sipcore.protocol.addresses import parse_callee
from sipcore.protocol.builder import check_extension_headers

if TYPE_CHECKING:
    from service.line import Line
    from sipcore.events import CallEvent

__all__ = ["start_consultation", "transfer_to_consultation"]

DEFAULT_TIMEOUT_MS = 10_000
LONGEST_TIMEOUT_MS = 60_000
ACCEPTED = 202


async def start_consultation(found: Found, callee: str, headers: Mapping[str, str], *, hold: bool) -> Found:
    """Puts the call on hold, unless ``hold`` is False, calls ``callee`` and waits for the answer.

    Raises:
        InvalidRequest: nothing was sent.
        NoOngoingCall: the first call is not connected, or ended meanwhile.
        ConsultationInProgress: it has one already, or is one.
        HoldRejected: the far end cannot be put on hold; nobody was called.
        SipError: the consultation came to nothing; the first call is still on hold.
        asyncio.CancelledError: the ringing call is given up.
    """
    line, first = found.line, found.call
    parse_callee(callee, line.address, field="callee")
    check_extension_headers(headers)
    _require_connected(first)
    if found.is_consultation or first.consultation is not None or first.consulting:
        raise ConsultationInProgress(f"Call {first.identity.call_id} is, or has, a consultation already")
    first.consulting = True
    try:
        if hold:
            await set_hold(found, True)
        _require_connected(first)
        second = _place(line, first, callee, headers)
    finally:
        first.consulting = False
    try:
        await second.call.connected()
    except asyncio.CancelledError:
        second.call.hangup_now()
        raise
    return Found(line, second)


def _place(line: Line, first: OngoingCall, callee: str, headers: Mapping[str, str]) -> OngoingCall:
    if line.registration is None:
        raise NoOngoingCall(f"{line.name} is being removed")
    call = line.registration.place(callee, headers=headers)
    about = CallIdentity(True, call_id_for(headers), callee, dict(headers))
    second = OngoingCall(about, call, consultation_for=first.identity.call_id)
    first.consultation = second

    def on_event(event: CallEvent) -> None:
        match event:
            case CallAnswered():
                second.connected = True
                second.answered_us = utc_microseconds()
            case CallEnded():
                first.consultation = None
                line.chronicle.over(second)
            case _:
                pass

    line.chronicle.follow(line, second)
    call.watch(on_event, replay=True)
    return second


async def transfer_to_consultation(found: Found, headers: Mapping[str, str], timeout_ms: int) -> None:
    """Connects the two far ends with each other, and leaves both calls.

    Raises:
        InvalidRequest: nothing was sent.
        NoConsultation: it has none that was answered.
        NoOngoingCall: one of the calls is not, or no longer, connected.
        TransferInProgress, ParticipantsPresent: the call may not be transferred now.
        TransferRejected, TransferTimeout: both calls go on.
    """
    check_extension_headers(headers, refer=True)
    if timeout_ms > LONGEST_TIMEOUT_MS:
        raise InvalidRequest(f"timeout_ms: {timeout_ms} is more than {LONGEST_TIMEOUT_MS}", field="timeout_ms")
    first, second = found.call, found.call.consultation
    _require_connected(first)
    if second is None or not second.call.is_connected:
        raise NoConsultation(f"Call {first.identity.call_id} has no consultation that was answered")
    if first.transferring or first.transferred:
        raise TransferInProgress("Another transfer of this call is in flight")
    if first.levels.participants_present:
        raise ParticipantsPresent("People have joined the call")
    timeout = (timeout_ms or DEFAULT_TIMEOUT_MS) / 1000
    first.transferring = True
    await carried_on(found.line, _transfer(found.line, first, second, dict(headers), timeout))
    await asyncio.shield(first.over)


async def _transfer(
    line: Line, first: OngoingCall, second: OngoingCall, headers: Mapping[str, str], timeout: float
) -> None:
    def confirm() -> None:
        """The first call is over: if by the transfer, the account's history says so."""
        ended = first.call.ended
        if ended is not None and ended.cause is EndCause.TRANSFERRED:
            first.transferred = True
            first.transfer_target = second.identity.callee
            initiated = line.status(
                StatusType.TRANSFER_CALL_INITIATED,
                first.identity,
                transfer_target=first.transfer_target,
                headers=headers,
                code=ACCEPTED,
            )
            line.record(initiated)

    first.confirm_transfer = confirm
    try:
        await first.call.attended_transfer(second.call, headers=headers, timeout=timeout)
    except BaseException:
        if first.call.ended is None:
            first.confirm_transfer = None
        else:  # nobody is left to ask for
            second.call.hangup_now()
        raise
    finally:
        first.transferring = False


def _require_connected(call: OngoingCall) -> None:
    if not call.call.is_connected:
        raise NoOngoingCall(f"Call {call.identity.call_id} is not connected")
