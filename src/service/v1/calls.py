"""What is done with one call: place, answer, reject, hang up, hold, send keys.

What was sent to the far end is not taken back where the client does not wait for it any more: the work goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Literal, TypeVar

from service.calls import hang_up as hang_up_ongoing
from service.calls import place_call
from service.errors import ServerStopping
from service.journal import HeldByUs
from service.operation import Operation
from service.v1.errors import CallNotRinging
from service.v1.lookup import Found
from sipcore.call import CallState
from sipcore.errors import InvalidRequest
from sipcore.protocol.addresses import parse_callee
from sipcore.protocol.builder import check_extension_headers

if TYPE_CHECKING:
    from service.line import Line
    from sipcore.events import CallEnded, Reason
    from sipcore.protocol.identity import Caller

__all__ = ["answer", "carried_on", "hang_up", "place", "reject", "send_dtmf", "set_hold"]

DECLINE = 603
MOST_DIGITS = 64
"""In one SendDtmf: a minute of keys."""
LONGEST_PHRASE = 200
"""Characters of a reason phrase."""
LONGEST_RINGING_MS = 3_600_000
"""An hour, as for the server's own setting."""

Result = TypeVar("Result")


async def carried_on(line: Line, work: Coroutine[object, object, Result]) -> Result:
    """Awaits ``work``, which goes on where nobody waits for it any more."""
    done: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
    done.add_done_callback(lambda it: it.cancelled() or it.exception())  # seen, also where nobody waits

    async def run() -> None:
        try:
            result = await work
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError):
                done.set_exception(ServerStopping("the account, or the server, is going"))
                raise
            done.set_exception(error)
        else:
            done.set_result(result)

    line.spawn(run())
    return await asyncio.shield(done)


def place(line: Line, callee: str, headers: Mapping[str, str], ring_timeout_ms: int, caller: Caller) -> Found:
    """Calls ``callee``; returns as soon as the INVITE is on its way.

    Raises:
        InvalidRequest, NoSession, CallInProgress, AtCapacity: nothing was sent, and nothing is recorded.
    """
    parse_callee(callee, line.address, field="callee")
    check_extension_headers(headers)
    if ring_timeout_ms > LONGEST_RINGING_MS:
        raise InvalidRequest(
            f"ring_timeout_ms: {ring_timeout_ms} is more than {LONGEST_RINGING_MS}", field="ring_timeout_ms"
        )
    timeout = ring_timeout_ms / 1000 or None
    return Found(line, place_call(line, callee, headers, timeout=timeout, caller=caller))


async def answer(found: Found) -> None:
    """Answers an incoming call that rings; returns once it is connected and recorded so.

    Raises:
        CallNotRinging: it does not ring here.
        SipError: the answer came to nothing.
    """
    call = found.call
    _require_ringing(found, "answered")
    await carried_on(found.line, call.call.answer())
    await asyncio.shield(call.settled)


async def reject(found: Found, code: int, phrase: str) -> CallEnded:
    """Refuses an incoming call that rings.

    Raises:
        InvalidRequest: no final response has this code or phrase.
        CallNotRinging: it does not ring here.
    """
    code = code or DECLINE
    if not 300 <= code <= 699:
        raise InvalidRequest(f"sip_code: {code} refuses no call; 300 to 699 do", field="sip_code")
    if len(phrase) > LONGEST_PHRASE or not (phrase.isprintable() or not phrase):
        raise InvalidRequest(
            "reason_phrase: it is too long, or holds a character that cannot be sent", field="reason_phrase"
        )
    _require_ringing(found, "rejected")
    found.call.call.reject(code, phrase)
    if found.call.call.ended is None:  # it was answered at this moment
        raise CallNotRinging(f"Call {found.call.identity.call_id} was answered already")
    return await _ended(found)


async def hang_up(found: Found, reason: Reason | None) -> CallEnded:
    """Ends a call in any state, and waits until it is over."""
    call = found.call
    if found.is_consultation:
        await carried_on(found.line, call.call.hangup(reason=reason))
    else:
        operation = Operation(found.line.snapshot())
        await hang_up_ongoing(found.line, call, hard=False, operation=operation, reason=reason)
    return await _ended(found)


async def set_hold(found: Found, held: bool) -> None:
    """Puts a call on hold, or takes it off; nothing is sent where it is so already.

    Raises:
        HoldRejected: the far end does not agree.
        NoOngoingCall: the call is not connected.
    """
    await carried_on(found.line, _set_hold(found, held))


async def _set_hold(found: Found, held: bool) -> None:
    call = found.call
    if call.held == held and call.call.is_connected:
        return
    await (call.call.hold() if held else call.call.resume())
    if call.held != held:
        call.held = held
        found.line.chronicle.write(HeldByUs(held), call.identity.call_id)


async def send_dtmf(found: Found, digits: str, method: Literal["auto", "rfc4733", "info"], duration_ms: int) -> None:
    """Sends keys, and waits until they are out.

    Raises:
        InvalidRequest: a character that is no key, too many of them, or another duration than 40-5000 ms.
        NoOngoingCall: the call is not connected, or its far end takes no telephone-event.
        RequestRejected, RequestTimeout, AuthenticationFailed, ServerUnreachable: INFO did not get through.
    """
    if len(digits) > MOST_DIGITS:
        raise InvalidRequest(f"digits: {len(digits)} are more than {MOST_DIGITS}", field="digits")
    await found.call.call.send_dtmf(digits, method=method, duration_ms=duration_ms or 160)


def _require_ringing(found: Found, what: str) -> None:
    call = found.call
    if call.identity.outgoing or call.call.state not in (CallState.TRYING, CallState.RINGING):
        raise CallNotRinging(f"Call {call.identity.call_id} is no incoming call that rings: it cannot be {what}")


async def _ended(found: Found) -> CallEnded:
    """The end of the call, once it is recorded."""
    ended = await found.call.call.wait_ended()
    if not found.is_consultation:
        await asyncio.shield(found.call.over)
    return ended
