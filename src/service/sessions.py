"""SipRegisterAccount, SipStartSession and SipEndSession on one account."""

from __future__ import annotations

import asyncio

from service.calls import hang_up
from service.errors import NoSession, RegistrationCancelled
from service.line import Line
from service.operation import Operation
from service.status import Phase, Status, StatusType
from sipcore.config import Account
from sipcore.errors import AccountNotRegistered, CallInProgress, SipError

__all__ = ["end_session", "register_account", "remove_account", "start_session"]

EVENT_PATIENCE = 1.0
"""Seconds to wait for the event that reports a failure which was already raised."""


async def register_account(line: Line, account: Account, operation: Operation) -> Status:
    """Registers the account, anew where it was registered before, and keeps its binding fresh.

    Returns:
        REGISTERED, or SESSION_REGISTRATION_FAILED; the agent goes on trying then.

    Raises:
        asyncio.CancelledError: a first registration is given up, which SESSION_REGISTRATION_FAILED records.
    """
    async with line.lock:
        if line.removed:
            return _removed(line)
        if account != line.account and line.registration is not None:
            if line.busy:
                error = CallInProgress(f"The settings of {line.name} cannot change during its call")
                return line.refuse(StatusType.SESSION_REGISTRATION_FAILED, error)
            await _drop(line)
        line.account = account
        line.name = account.address
        try:
            return operation.reached(await _register(line))
        except asyncio.CancelledError:
            if not line.bound and line.ongoing is None:
                await _drop(line)
                line.registration_failed(
                    RegistrationCancelled("The client cancelled the request before the registrar answered")
                )
            raise


async def start_session(line: Line, name: str, auto_answer_interval: int, operation: Operation) -> Status:
    """Opens the account for calls, after registering it where its binding is gone.

    Args:
        line: the account.
        name: the account as the request wrote it.
        auto_answer_interval: seconds of ringing before an incoming call is answered; negative: never.

    Returns:
        READY, or NO_SESSION.
    """
    async with line.lock:
        if line.removed:
            return _removed(line)
        line.name = name
        if line.registration is None or not line.registration.registered:
            outcome = await _register(line)
            if outcome.type is not StatusType.REGISTERED:
                error = AccountNotRegistered(f"{name} is not registered: {outcome.description}", code=outcome.sip_code)
                return line.refuse(StatusType.NO_SESSION, error)
        line.session_open = True
        line.had_session = True
        line.auto_answer_interval = auto_answer_interval
        operation.reached(line.record(line.status(StatusType.SESSION_STARTED)))
        return operation.reached(line.record(line.status(StatusType.READY)))


async def end_session(line: Line, operation: Operation) -> Status:
    """Ends the ongoing call, removes the binding and closes the session.

    A client that no longer waits stops nothing.

    Returns:
        SESSION_ENDED, or NO_SESSION (recorded where a session had been open before).
    """
    if line.session_end is not None:
        await asyncio.wait({line.session_end})  # one that is under way comes first
    if not line.session_open:
        error = NoSession(f"No session is open for {line.name}")
        # A server that stops closes sessions without SESSION_ENDED; nothing is a repetition then.
        if line.had_session and line.history.phase is Phase.CLOSED:
            return line.record(line.status(StatusType.NO_SESSION, error=error))
        return line.refuse(StatusType.NO_SESSION, error)
    line.session_open = False  # from here on: no new call in either direction
    ended: asyncio.Future[Status] = asyncio.get_running_loop().create_future()
    line.session_end = ended
    line.spawn(_end_session(line, operation, ended))
    return await asyncio.shield(ended)


async def _end_session(line: Line, operation: Operation, ended: asyncio.Future[Status]) -> None:
    async with line.lock:
        try:
            ongoing = line.ongoing
            if ongoing is not None:
                soft = asyncio.create_task(hang_up(line, ongoing, hard=False, operation=operation))
                await asyncio.wait({soft}, timeout=line.options.hangup_patience)
                if not ongoing.over.done():
                    ongoing.call.hangup_now()
                await soft
            await _drop(line)
            ended.set_result(operation.reached(line.record(line.status(StatusType.SESSION_ENDED))))
        except BaseException as error:
            if not ended.done():
                ended.set_exception(error)
            raise


async def remove_account(line: Line) -> None:
    """Ends its session with its call, and takes the account from the agent; its binding is removed."""
    line.removed = True
    if line.session_open:
        await end_session(line, Operation(line.snapshot()))
    async with line.lock:
        await _drop(line)


def _removed(line: Line) -> Status:
    """The refusal of a request that waited while the account was removed."""
    return line.refuse(StatusType.NO_SESSION, AccountNotRegistered(f"{line.name} was removed meanwhile"))


async def _register(line: Line) -> Status:
    """One REGISTER, of a new registration or of the one there is; the transition that it led to."""
    outcome = line.registration_outcome()
    if line.registration is None:
        line.attach(line.agent.add_account(line.account))
        return await outcome
    try:
        await line.registration.refresh()
    except SipError as error:
        await asyncio.wait({outcome}, timeout=EVENT_PATIENCE)
        return outcome.result() if outcome.done() else line.registration_failed(error)
    return outcome.result() if outcome.done() else line.registered()


async def _drop(line: Line) -> None:
    """Removes the account from the agent: its binding at the registrar if there is one, and our handle."""
    registration = line.registration
    line.detach()
    if registration is None:
        return
    if registration.registered:
        await registration.unregister()
    else:
        await line.agent.drop(registration)
    line.unregistered()
