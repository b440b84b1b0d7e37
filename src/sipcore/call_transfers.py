"""The transfers of one call: REFERs that it sends, and what comes of them (RFC 3515, RFC 5589)."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from sipcore.errors import InvalidRequest, NoOngoingCall, TransferRejected, TransferTimeout
from sipcore.events import EndCause, TransferProgress
from sipcore.protocol.builder import check_extension_headers
from sipcore.protocol.replaces import refer_target
from sipcore.protocol.session_events import (
    SessionReferAnswered,
    SessionReferFailed,
    SessionReferNotified,
    SessionReferReceived,
)
from sipcore.transfer import ReferRequest, Transfer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sipcore.call import Call
    from sipcore.events import CallEnded
    from sipcore.protocol.refer import OutgoingRefer
    from sipcore.runtime import Runtime

__all__ = ["CallTransfers", "ReferEvent"]

log = logging.getLogger(__name__)

ReferEvent = SessionReferReceived | SessionReferAnswered | SessionReferNotified | SessionReferFailed

LATE_REFUSAL = 2.0
"""Seconds for which a NOTIFY may still say that an attended transfer failed, once the consultation has ended: its far
end hung up, which it does when it was replaced, and also when it has had enough."""


class CallTransfers:
    """REFERs of and to one call.

    Args:
        call: the call.
        runtime: its user agent.
        publish: makes something an event of the call.
    """

    def __init__(self, call: Call, runtime: Runtime, publish: Callable[[TransferProgress], None]) -> None:
        self._call = call
        self._runtime = runtime
        self._publish = publish
        self._open: dict[OutgoingRefer, Transfer] = {}

    # -- ours ------------------------------------------------------------------------------------------------------

    def refer(self, to: str | Call, headers: Mapping[str, str] | None, *, subscribe: bool) -> Transfer:
        """See :meth:`sipcore.call.Call.refer`."""
        target = self._target(to)
        extra = dict(headers or {})
        check_extension_headers(extra, refer=True)
        _require_connected(self._call)
        transfer = Transfer(target)
        refer = self._call.session.refers.refer(target, tuple(extra.items()), self._runtime.now(), subscribe=subscribe)
        self._open[refer] = transfer
        self._runtime.pump()
        return transfer

    def _target(self, to: str | Call) -> str:
        if isinstance(to, str):
            return str(self._runtime.resolve_callee(to, self._call.registration, field="transfer_id", refer=True))
        if to is self._call:
            raise InvalidRequest("transfer_id: a call cannot take its own place", field="transfer_id")
        _require_connected(to)
        assert to.session.dialog is not None
        return refer_target(to.session.dialog)

    async def blind(self, to: str, headers: Mapping[str, str] | None, timeout: float) -> None:
        """See :meth:`sipcore.call.Call.transfer`."""
        await self._accepted(self.refer(to, headers, subscribe=True), timeout)
        await self._call.hangup(cause=EndCause.TRANSFERRED)

    async def attended(self, consultation: Call, headers: Mapping[str, str] | None, timeout: float) -> None:
        """See :meth:`sipcore.call.Call.attended_transfer`."""
        transfer = self.refer(consultation, headers, subscribe=True)
        started = self._runtime.now()
        await self._accepted(transfer, timeout)
        left = max(0.0, started + timeout - self._runtime.now())
        reported = asyncio.ensure_future(transfer.finished())
        replaced = asyncio.ensure_future(consultation.wait_ended())
        try:
            await asyncio.wait({reported, replaced}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if replaced.done():
                await asyncio.wait({reported}, timeout=LATE_REFUSAL)
            elif reported.done() and reported.exception() is not None:
                # The call is over, or nobody will report: the end of the consultation is the only sign left.
                await asyncio.wait({replaced}, timeout=left)
            _judge(reported, replaced, timeout)
        finally:
            reported.cancel()
            replaced.cancel()
        await asyncio.gather(
            *(call.hangup(cause=EndCause.TRANSFERRED) for call in (self._call, consultation) if call.ended is None)
        )

    async def _accepted(self, transfer: Transfer, timeout: float) -> None:
        try:
            await asyncio.wait_for(transfer.accepted(), timeout)
        except TimeoutError:
            raise TransferTimeout(f"No answer to REFER within {timeout:g} s") from None

    # -- told by the call ------------------------------------------------------------------------------------------

    def on_event(self, event: ReferEvent) -> None:
        """A REFER was answered, reported on, or came in."""
        match event:
            case SessionReferReceived(refer):
                self._on_refer(ReferRequest(self._call, refer, self._runtime))
            case SessionReferAnswered(refer, code, reason, subscribed):
                self._publish(TransferProgress(code, reason))
                self._open[refer].on_answer(code, reason, subscribed=subscribed)
            case SessionReferNotified(refer, fragment):
                if fragment is not None:
                    self._publish(TransferProgress(fragment.status, fragment.reason))
                self._open[refer].on_notify(fragment)
            case SessionReferFailed(refer, detail, _):
                self._open[refer].on_failure(detail)

    def _on_refer(self, request: ReferRequest) -> None:
        """A REFER is never left without an answer, whatever the embedder does."""
        try:
            if self._call.on_refer is not None:
                self._call.on_refer(request)
        except Exception:
            log.exception("following a REFER of %s failed; refused", self._call.remote)
            if not request.answered:
                request.refuse(500)
        if not request.answered:
            request.refuse(603)

    def on_call_ended(self, ended: CallEnded) -> None:
        """Nobody needs to wait any more."""
        for transfer in self._open.values():
            transfer.on_call_ended(ended)


def _require_connected(call: Call) -> None:
    if not call.is_connected:
        raise NoOngoingCall(f"The call with {call.remote} is not connected")


def _judge(reported: asyncio.Future[TransferProgress], replaced: asyncio.Future[CallEnded], timeout: float) -> None:
    """What a report, or the end of the consultation, says about the transfer.

    Raises:
        TransferRejected: the far end could not reach the target, or was refused by it.
        TransferTimeout: neither was heard of in time.
    """
    if reported.done() and reported.exception() is None:
        final = reported.result()
        if final.code >= 300:
            raise TransferRejected(f"The far end reports: {final.code} {final.reason}", code=final.code)
    elif not replaced.done():
        raise TransferTimeout(f"No outcome of the transfer within {timeout:g} s")
