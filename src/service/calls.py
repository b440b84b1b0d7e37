"""SipStartCall, SipEndCall, SipMute and SipUnMute on one account."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from service.errors import NoSession
from service.line import Line
from service.ongoing import CallIdentity, EndReason, OngoingCall, call_id_for
from service.operation import Operation
from service.status import AmdResult, Status, StatusType
from sipcore.errors import AtCapacity, CallInProgress, CallRejected, InvalidRequest, NoOngoingCall, SipError
from sipcore.protocol.identity import ACCOUNT_ITSELF, Caller

if TYPE_CHECKING:
    from sipcore.events import Reason

__all__ = ["end_call", "hang_up", "place_call", "report_machine", "set_muted", "start_call"]


def place_call(
    line: Line,
    callee: str,
    headers: Mapping[str, str],
    *,
    timeout: float | None = None,
    caller: Caller = ACCOUNT_ITSELF,
) -> OngoingCall:
    """Calls ``callee``; returns as soon as the INVITE is on its way, with OUTGOING_CALL_INITIATED recorded.

    Args:
        line: the account.
        callee: as ``callee_id`` of SipStartCall.
        headers: extension headers of the INVITE.
        timeout: seconds it may ring; None: the server's.
        caller: who the call is from, where it is not who the account says.

    Raises:
        NoSession, CallInProgress, AtCapacity: not now.
        SipError: InvalidRequest among them. In each case nothing was sent, and nothing is recorded.
    """
    if not line.session_open:
        raise NoSession(f"No session is open for {line.name}")
    if line.busy or line.registration is None:
        raise CallInProgress(f"{line.name} already has an ongoing call")
    about = CallIdentity(True, call_id_for(headers), callee, dict(headers))
    return line.begin(line.registration.place(callee, headers=headers, timeout=timeout, caller=caller), about)


async def start_call(line: Line, callee: str, headers: Mapping[str, str], operation: Operation) -> Status:
    """Calls ``callee`` and waits for the answer.

    Returns:
        OUTGOING_CALL_CONNECTED, OUTGOING_CALL_FAILED, or NO_SESSION.

    Raises:
        InvalidRequest: nothing was sent or recorded.
        asyncio.CancelledError: the ringing call is being CANCELled and OUTGOING_CALL_FAILED is recorded.
    """
    if (refusal := line.no_session()) is not None:
        return refusal
    try:
        ongoing = place_call(line, callee, headers)
    except CallInProgress as error:
        return line.refuse(StatusType.OUTGOING_CALL_FAILED, error)
    except InvalidRequest:
        raise
    except SipError as refused:
        about = CallIdentity(True, call_id_for(headers), callee, dict(headers))
        # Clients know the names of CONTRACT §4; a server that is full is one of those who reject.
        told = CallRejected(str(refused), code=refused.code) if isinstance(refused, AtCapacity) else refused
        operation.reached(line.record(line.status(about.initiated_type, about)))
        return line.record(line.status(about.failed_type, about, error=told))
    operation.reached(line.snapshot())
    try:
        return await asyncio.shield(ongoing.settled)
    except asyncio.CancelledError:
        if not ongoing.settled.done():
            ongoing.cancelled = True
            ongoing.call.hangup_now()
        raise


async def end_call(
    line: Line,
    *,
    hard: bool,
    reason: EndReason,
    amd: AmdResult | None,
    operation: Operation,
) -> Status:
    """Ends the ongoing call, whatever its state, and waits until it is over.

    Returns:
        OUTGOING_/INCOMING_CALL_FINISHED, NO_ONGOING_CALL (recorded), or NO_SESSION.
    """
    if (refusal := line.no_session()) is not None:
        return refusal
    if line.ongoing is None:
        error = NoOngoingCall(f"SipEndCall: {line.name} has no ongoing call")
        return line.record(line.status(StatusType.NO_ONGOING_CALL, error=error))
    ongoing = line.ongoing
    if reason is not EndReason.UNSPECIFIED:
        ongoing.end_reason = reason
    if amd is not None:
        ongoing.amd = amd
    return await hang_up(line, ongoing, hard=hard, operation=operation)


async def hang_up(
    line: Line, ongoing: OngoingCall, *, hard: bool, operation: Operation, reason: Reason | None = None
) -> Status:
    """Hangs up and waits for the terminal status. A second soft request joins the first.

    Args:
        line: the account.
        ongoing: its ongoing call.
        hard: do not wait for the far end.
        operation: what has been reached.
        reason: what a soft hang-up tells the far end (RFC 3326).
    """
    about = ongoing.identity
    if hard:
        ongoing.ending = True
        operation.reached(line.record(line.status(StatusType.HARD_HANGUP_INITIATED, about)))
        ongoing.call.hangup_now()
    elif not ongoing.ending:
        ongoing.ending = True
        operation.reached(line.record(line.status(StatusType.SOFT_HANGUP_INITIATED, about)))
        line.spawn(ongoing.call.hangup(reason=reason))
    # A client that no longer waits does not take the hang-up back.
    return await asyncio.shield(ongoing.over)


def set_muted(line: Line, muted: bool) -> Status:
    """Silence instead of audio, or audio again; the same request twice changes nothing the second time.

    Unmuting takes back SipMute only: what an owner of media control mutes stays muted.

    Returns:
        MICROPHONE_MUTED / MICROPHONE_UNMUTED, NO_ONGOING_CALL (recorded), or NO_SESSION.
    """
    if (refusal := line.no_session()) is not None:
        return refusal
    ongoing = line.connected_call("SipMute" if muted else "SipUnMute")
    if isinstance(ongoing, NoOngoingCall):
        return line.record(line.status(StatusType.NO_ONGOING_CALL, error=ongoing))
    try:
        ongoing.set_levels(replace(ongoing.levels, microphone_muted=muted))
    except NoOngoingCall as error:  # it is ending at this moment
        return line.record(line.status(StatusType.NO_ONGOING_CALL, ongoing.identity, error=error))
    type_ = StatusType.MICROPHONE_MUTED if muted else StatusType.MICROPHONE_UNMUTED
    return line.record(line.status(type_, ongoing.identity))


def report_machine(line: Line, amd: AmdResult) -> Status:
    """Notes who answered the connected outgoing call; it stays up, and its terminal status carries the result.

    Returns:
        OUTGOING_CALL_ANSWERING_MACHINE_DETECTED, or NO_ONGOING_CALL (not recorded).
    """
    ongoing = line.connected_call("SipReportAnsweringMachineDetected")
    if isinstance(ongoing, NoOngoingCall):
        return line.refuse(StatusType.NO_ONGOING_CALL, ongoing, line.ongoing.identity if line.ongoing else None)
    if not ongoing.identity.outgoing:
        error = NoOngoingCall("SipReportAnsweringMachineDetected: the ongoing call is an incoming one")
        return line.refuse(StatusType.NO_ONGOING_CALL, error, ongoing.identity)
    ongoing.report_machine(amd)
    detected = StatusType.OUTGOING_CALL_ANSWERING_MACHINE_DETECTED
    return line.record(line.status(detected, ongoing.identity, amd=amd))
