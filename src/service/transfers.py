"""SipTransferCall on one account: REFER with and without waiting for its outcome (CONTRACT §4)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

from service.errors import ParticipantsPresent, TransferCancelled, TransferInProgress
from service.line import Line
from service.ongoing import OngoingCall
from service.status import Status, StatusType
from sipcore.errors import NoOngoingCall, SipError, TransferRejected, TransferTimeout
from sipcore.events import EndCause
from sipcore.transfer import Transfer

__all__ = ["LONGEST_OUTCOME_TIMEOUT_MS", "transfer_call"]

LONGEST_OUTCOME_TIMEOUT_MS = 10_000
"""``outcome_timeout_ms`` is clamped to this."""

REJECTED = "reason=refer-rejected"
TIMEOUT = "reason=refer-timeout"
CANCELLED = "reason=refer-cancelled"
IN_PROGRESS = "reason=transfer-in-progress"
PARTICIPANTS = "reason=participants-present"


async def transfer_call(line: Line, target: str, headers: Mapping[str, str], outcome_timeout_ms: int) -> Status:
    """Hands the far end of the ongoing call over to ``target``.

    Returns:
        TRANSFER_CALL_INITIATED (this leg ends), TRANSFER_CALL_FAILED (the call goes on), NO_ONGOING_CALL,
        NO_SESSION.

    Raises:
        InvalidRequest: nothing was sent or recorded.
        asyncio.CancelledError: the call goes on, which TRANSFER_CALL_FAILED records; a REFER cannot be taken
            back, so a late acceptance still ends this leg.
    """
    if (refusal := line.no_session()) is not None:
        return refusal
    ongoing = line.connected_call("SipTransferCall")
    if isinstance(ongoing, NoOngoingCall):
        return line.refuse(StatusType.NO_ONGOING_CALL, ongoing, line.ongoing.identity if line.ongoing else None)
    attempt = _Attempt(line, ongoing, target, headers)
    if ongoing.transferring or ongoing.transferred:
        return attempt.failed(TransferInProgress("Another transfer of this call is in flight"), IN_PROGRESS)
    if ongoing.levels.participants_present:
        return attempt.failed(ParticipantsPresent("People have joined the call"), PARTICIPANTS)
    try:
        transfer = ongoing.call.refer(target, headers=headers)
    except NoOngoingCall as error:
        return line.refuse(StatusType.NO_ONGOING_CALL, error, ongoing.identity)
    ongoing.transfer_target = target
    if outcome_timeout_ms == 0:
        return attempt.leave(transfer)
    return await attempt.outcome(transfer, min(outcome_timeout_ms, LONGEST_OUTCOME_TIMEOUT_MS) / 1000)


class _Attempt:
    """One transfer of one call."""

    def __init__(self, line: Line, ongoing: OngoingCall, target: str, headers: Mapping[str, str]) -> None:
        self._line = line
        self._ongoing = ongoing
        self._target = target
        self._headers = dict(headers)
        self._recorded: Status | None = None

    def failed(self, error: SipError, description: str) -> Status:
        """TRANSFER_CALL_FAILED, returned only: the shared status is untouched."""
        return self._line.history.stamp(self._failed_status(error, description))

    def _failed_status(self, error: SipError, description: str) -> Status:
        return self._line.status(
            StatusType.TRANSFER_CALL_FAILED,
            self._ongoing.identity,
            description=description,
            error=error,
            transfer_target=self._target,
            headers=self._headers,
        )

    def _initiated(self, code: int) -> Status:
        """Records TRANSFER_CALL_INITIATED: from here on this leg ends as transferred."""
        self._ongoing.confirm_transfer = None
        self._ongoing.transferred = True
        status = self._line.status(
            StatusType.TRANSFER_CALL_INITIATED,
            self._ongoing.identity,
            transfer_target=self._target,
            headers=self._headers,
            code=code,
        )
        self._recorded = self._line.record(status)
        return self._recorded

    # -- without outcome -------------------------------------------------------------------------------------

    def leave(self, transfer: Transfer) -> Status:
        """The REFER is on its way: records that, and hangs up behind it."""
        initiated = self._initiated(0)
        self._line.spawn(self._hang_up_behind(transfer))
        return initiated

    async def _hang_up_behind(self, transfer: Transfer) -> None:
        # A BYE ends the dialog: a challenge to the REFER could not be answered any more, and over UDP the BYE
        # could overtake it.
        with contextlib.suppress(SipError, TimeoutError):
            await asyncio.wait_for(transfer.accepted(), self._line.options.refer_grace)
        await self._ongoing.call.hangup(cause=EndCause.TRANSFERRED)

    # -- with outcome ----------------------------------------------------------------------------------------

    async def outcome(self, transfer: Transfer, timeout: float) -> Status:
        """Keeps the call until the far end has accepted or refused, at most ``timeout`` seconds."""
        ongoing = self._ongoing
        ongoing.transferring = True
        accepted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        decided = asyncio.create_task(self._decide(transfer, accepted))
        try:
            known: set[asyncio.Future[Any]] = {accepted, decided}
            await asyncio.wait(known, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if accepted.done():
                await asyncio.wait({decided})
        except asyncio.CancelledError:
            if not ongoing.over.done() and not ongoing.transferred:
                error = TransferCancelled("The client cancelled the request before the outcome was known")
                self._line.record(self._failed_status(error, CANCELLED))
            raise
        finally:
            if not decided.done():
                self._line.spawn(_finish(decided))
        if decided.done():
            return decided.result()
        return self.failed(TransferTimeout(f"No answer to REFER within {timeout:g} s"), TIMEOUT)

    async def _decide(self, transfer: Transfer, accepted: asyncio.Future[None]) -> Status:
        """Waits for the answer to the REFER, however long it takes, and hangs up when it is an acceptance."""
        ongoing = self._ongoing
        try:
            code = await transfer.accepted()
            if not accepted.done():
                accepted.set_result(None)
            ongoing.confirm_transfer = lambda: self._initiated(code)
            await self._grace(transfer)
        except TransferRejected as error:
            ongoing.confirm_transfer = None
            return self.failed(error, REJECTED)
        except TransferTimeout as error:
            return self.failed(error, TIMEOUT)
        except NoOngoingCall as error:
            return self._line.refuse(StatusType.NO_ONGOING_CALL, error, ongoing.identity)
        finally:
            ongoing.transferring = False
        if self._recorded is not None:  # the call ended during the grace
            return self._recorded
        initiated = self._initiated(code)
        self._line.spawn(ongoing.call.hangup(cause=EndCause.TRANSFERRED))
        return initiated

    async def _grace(self, transfer: Transfer) -> None:
        """Holds the hang-up: a final NOTIFY with 404 still counts as refused, any other as accepted.

        Raises:
            TransferRejected: it was a 404.
        """
        try:
            final = await asyncio.wait_for(transfer.finished(), self._line.options.transfer_grace)
        except (TimeoutError, NoOngoingCall):
            return
        if final.code == 404:
            raise TransferRejected(f"The far end reports: {final.code} {final.reason}", code=404)


async def _finish(task: asyncio.Task[Status]) -> None:
    await task
