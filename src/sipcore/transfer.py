"""Handles of a transfer, both roles: :class:`Transfer` for a REFER we sent, :class:`ReferRequest` for one we got."""

from __future__ import annotations

import asyncio
from types import MappingProxyType
from typing import TYPE_CHECKING

from sipcore.errors import NoOngoingCall, TransferRejected, TransferTimeout
from sipcore.events import TransferProgress
from sipcore.protocol.builder import extension_headers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sipcore.events import CallEnded
    from sipcore.protocol.invite_session import InviteSession
    from sipcore.protocol.refer import IncomingRefer, Sipfrag

__all__ = ["ReferRequest", "Transfer"]


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
            TransferTimeout: the REFER itself was not answered.
            NoOngoingCall: the call ended first.
        """
        return await asyncio.shield(self._outcome)

    # -- told by the call ------------------------------------------------------------------------------------------

    def on_answer(self, code: int, reason: str) -> None:
        """The REFER got a final response."""
        if code < 300:
            if not self._answer.done():
                self._answer.set_result(code)
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
    """The far end asks this side to call somebody. One of :meth:`accept` and :meth:`refuse` must be called at once."""

    def __init__(
        self, session: InviteSession, refer: IncomingRefer, clock: Callable[[], float], pump: Callable[[], None]
    ) -> None:
        self._session = session
        self._refer = refer
        self._clock = clock
        self._pump = pump
        self.target = refer.target
        """The URI to call, as the far end wrote it."""
        self.headers: Mapping[str, str] = MappingProxyType(extension_headers(refer.request))

    def accept(self) -> None:
        """202 and the first NOTIFY, ``100 Trying``."""
        self._session.refers.accept(self._refer, self._clock())
        self._pump()

    def refuse(self, code: int = 603) -> None:
        """A final refusal, 300-699."""
        self._session.refers.refuse(self._refer, code, self._clock())
        self._pump()

    def notify(self, code: int, reason: str) -> None:
        """Reports the referred call's status; 200 and above ends the subscription."""
        self._session.refers.notify(self._refer, code, reason, self._clock())
        self._pump()

    @property
    def answered(self) -> bool:
        """Whether it was accepted or refused."""
        return self._refer.answered
