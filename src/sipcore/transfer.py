"""Handles of a transfer, both roles: :class:`Transfer` for a REFER we sent, :class:`ReferRequest` for one we got."""

from __future__ import annotations

import asyncio
from types import MappingProxyType
from typing import TYPE_CHECKING

from sipcore.errors import InvalidRequest, NoOngoingCall, SipError, TransferRejected, TransferTimeout
from sipcore.events import CallAnswered, CallEnded, CallRinging, TransferProgress
from sipcore.protocol.builder import extension_headers, reason_phrase
from sipcore.protocol.params import legible
from sipcore.protocol.values import MalformedValue, NameAddr

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sipcore.call import Call
    from sipcore.events import CallEvent
    from sipcore.protocol.refer import IncomingRefer, Sipfrag
    from sipcore.protocol.wire import Request
    from sipcore.runtime import Runtime

__all__ = ["ReferRequest", "Transfer", "referred_by"]


class Transfer:
    """A REFER on its way (RFC 3515). The call itself goes on until somebody hangs it up."""

    def __init__(self, target: str) -> None:
        self.target = target
        """The URI that the far end is asked to call."""
        self.progress: list[TransferProgress] = []
        """What NOTIFYs have reported so far, oldest first; at most the newest 32."""
        loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[int] = loop.create_future()
        self._outcome: asyncio.Future[TransferProgress] = loop.create_future()
        for future in (self._answer, self._outcome):
            # Nobody has to wait for either; an error nobody fetched is not worth a warning.
            future.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def accepted(self) -> int:
        """Waits for the answer to the REFER and returns its 2xx status code.

        Raises:
            TransferRejected: a final response of 300-699; ``code`` is its status.
            TransferTimeout: no answer within timer F.
            NoOngoingCall: the call ended first.
        """
        return await asyncio.shield(self._answer)

    async def finished(self) -> TransferProgress:
        """Waits for the final status of the call that the far end placed, as NOTIFY reports it.

        A far end is free never to send one; wait with a timeout.

        Raises:
            TransferRejected: the REFER itself was refused.
            TransferTimeout: the REFER itself was not answered, or no reports are wanted (RFC 4488).
            NoOngoingCall: the call ended first.
        """
        return await asyncio.shield(self._outcome)

    # -- told by the call ------------------------------------------------------------------------------------------

    def on_answer(self, code: int, reason: str, *, subscribed: bool = True) -> None:
        """The REFER got a final response."""
        if code < 300:
            if not self._answer.done():
                self._answer.set_result(code)
            if not subscribed and not self._outcome.done():
                self._outcome.set_exception(TransferTimeout("The far end was asked not to report on the transfer"))
            return
        self._fail(TransferRejected(f"REFER refused: {code} {reason}", code=code))

    def on_failure(self, detail: str) -> None:
        """The REFER got none."""
        self._fail(TransferTimeout(detail))

    def on_notify(self, fragment: Sipfrag | None) -> None:
        """A NOTIFY arrived. It also proves that the REFER was accepted, should its 2xx be late (RFC 3515 §2.4.4)."""
        if fragment is None:
            return
        step = TransferProgress(fragment.status, fragment.reason)
        self.progress.append(step)
        del self.progress[:-32]
        if fragment.status >= 200 and not self._outcome.done():
            self._outcome.set_result(step)

    def on_call_ended(self, ended: CallEnded) -> None:
        """The call is over: nobody needs to wait for an answer any more."""
        self._fail(NoOngoingCall(f"The call ended before the transfer was decided: {ended.description}"))

    def _fail(self, error: TransferRejected | TransferTimeout | NoOngoingCall) -> None:
        for future in (self._answer, self._outcome):
            if not future.done():
                future.set_exception(error)


class ReferRequest:
    """The far end asks this side to call somebody. One of :meth:`follow`, :meth:`accept` and :meth:`refuse` must be
    called at once."""

    def __init__(self, call: Call, refer: IncomingRefer, runtime: Runtime) -> None:
        self._call = call
        self._session = call.session
        self._refer = refer
        self._runtime = runtime
        self.target = legible(str(refer.target))
        """The URI to call, as the far end wrote it."""
        self.headers: Mapping[str, str] = MappingProxyType(extension_headers(refer.request))

    @property
    def attended(self) -> bool:
        """The new call is to take the place of one that the target has with somebody else (RFC 3891)."""
        return self._refer.replaces is not None

    @property
    def referred_by(self) -> str:
        """Who asks, as the far end says: the URI of Referred-By (RFC 3892); empty where it does not."""
        return referred_by(self._refer.request)

    def follow(self, *, headers: Mapping[str, str] | None = None, timeout: float | None = None) -> Call:
        """Accepts, calls the target with the same account, and reports to the far end how that goes, to its final
        status (RFC 3515 §2.4.5). The call with the far end goes on until somebody hangs it up.

        Args:
            headers: extension headers of the INVITE; Replaces and Referred-By are added as the REFER has them.
            timeout: seconds it may ring; default the agent's ``ring_timeout``.

        Returns:
            The new call, which :meth:`Call.connected` waits for.

        Raises:
            InvalidAddress, InvalidHeader: the target or a header cannot be sent; the REFER was refused.
            AtCapacity: no RTP port is free; the REFER was refused.
        """
        extra = dict(headers or {})
        if self._refer.replaces is not None:
            extra["Replaces"] = str(self._refer.replaces)
        if (sender := self._refer.request.headers.get("Referred-By")) is not None:
            extra.setdefault("Referred-By", sender)
        try:
            target = str(self._refer.target.without_headers())
            call = self._call.registration.place(target, headers=extra, timeout=timeout)
        except InvalidRequest:
            self.refuse(400)
            raise
        except SipError:
            self.refuse(503)
            raise
        self.accept()
        call.watch(self._report)
        return call

    def _report(self, event: CallEvent) -> None:
        match event:
            case CallRinging(code, reason):
                self.notify(code, reason)
            case CallAnswered():
                self.notify(200, "OK")
            case CallEnded(code=code):
                status = code if code >= 300 else 487
                self.notify(status, reason_phrase(status))

    def accept(self) -> None:
        """202 and the first NOTIFY, ``100 Trying``; whoever calls this reports on by :meth:`notify`."""
        self._session.refers.accept(self._refer, self._runtime.now())
        self._runtime.pump()

    def refuse(self, code: int = 603) -> None:
        """A final refusal, 300-699."""
        self._session.refers.refuse(self._refer, code, self._runtime.now())
        self._runtime.pump()

    def notify(self, code: int, reason: str) -> None:
        """Reports the referred call's status; 200 and above ends the subscription. Nothing is sent to a far end that
        wants no reports (RFC 4488)."""
        self._session.refers.notify(self._refer, code, reason, self._runtime.now())
        self._runtime.pump()

    @property
    def answered(self) -> bool:
        """Whether it was accepted or refused."""
        return self._refer.answered


def referred_by(request: Request) -> str:
    """The URI of a request's Referred-By (RFC 3892 §3); empty where there is none that can be understood."""
    try:
        return legible(str(NameAddr.parse(request.headers.get("Referred-By") or "").uri))
    except MalformedValue:
        return ""
