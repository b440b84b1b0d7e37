"""A user agent without a network: registrations and calls that a test steers by hand.

The classes have the parts of :class:`sipcore.UserAgent`, ``Registration``, ``Call``, ``Transfer`` and
``Playback`` that the service uses. What the far end does is a method here (``answer_by_far_end`` …), what
this side was told to do is a list entry (``call.did``).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from rtp.ears import Ears
from rtp.listener import Listener
from rtp.talker import Talker
from sipcore.config import Account
from sipcore.errors import (
    CallCancelled,
    NoOngoingCall,
    SipError,
    TalkInProgress,
    TransferRejected,
    TransferTimeout,
)
from sipcore.events import (
    CallEnded,
    EndCause,
    Party,
    Registered,
    RegistrationEvent,
    RegistrationFailed,
    TransferProgress,
    Unregistered,
)

__all__ = ["FakeAgent", "FakeCall", "FakePlayback", "FakeRegistration", "FakeTransfer"]

Hearing = TypeVar("Hearing", bound=Listener)


class FakeAgent:
    """Accepts every REGISTER at once, unless ``registrar`` says otherwise."""

    def __init__(self) -> None:
        self.registrar: SipError | str = "accepts"
        """``accepts``, ``silent``, or the error that a REGISTER ends with."""
        self.registrations: list[FakeRegistration] = []

    def add_account(self, account: Account) -> FakeRegistration:
        registration = FakeRegistration(self, account)
        self.registrations.append(registration)
        registration.attempt()
        return registration

    async def drop(self, registration: FakeRegistration) -> None:
        registration.did.append("drop")
        registration.end()


class FakeRegistration:
    """One account."""

    def __init__(self, agent: FakeAgent, account: Account) -> None:
        self.agent = agent
        self.account = account
        self.registered = False
        self.screen: Any = None
        self.did: list[str] = []
        self.calls: list[FakeCall] = []
        self.place_error: SipError | None = None
        self._events: asyncio.Queue[RegistrationEvent | None] = asyncio.Queue()
        self._incoming: asyncio.Queue[FakeCall | None] = asyncio.Queue()
        self._settled = asyncio.Event()
        self._error: SipError | None = None

    @property
    def call(self) -> FakeCall:
        """The newest call placed."""
        return self.calls[-1]

    def attempt(self) -> None:
        """One REGISTER, answered as the agent's registrar does."""
        self.did.append("register")
        if isinstance(self.agent.registrar, SipError):
            self.fail(self.agent.registrar)
        elif self.agent.registrar == "accepts":
            self.succeed()

    def succeed(self) -> None:
        self.registered = True
        self._error = None
        self._settled.set()
        self._events.put_nowait(Registered(600))

    def fail(self, error: SipError) -> None:
        self.registered = False
        self._error = error
        self._settled.set()
        self._events.put_nowait(RegistrationFailed(error, 30.0))

    def end(self) -> None:
        self.registered = False
        self._events.put_nowait(None)
        self._incoming.put_nowait(None)

    async def events(self) -> AsyncIterator[RegistrationEvent]:
        while (event := await self._events.get()) is not None:
            yield event

    async def incoming(self) -> AsyncIterator[FakeCall]:
        while (call := await self._incoming.get()) is not None:
            yield call

    async def refresh(self) -> None:
        self._settled.clear()
        self.attempt()
        await self._settled.wait()
        if self._error is not None:
            raise self._error

    async def unregister(self) -> None:
        self.did.append("unregister")
        self._events.put_nowait(Unregistered())
        await asyncio.sleep(0.01)
        self.end()

    def place(self, to: str, *, headers: Mapping[str, str] | None = None) -> FakeCall:
        if self.place_error is not None:
            raise self.place_error
        call = FakeCall("outgoing", to, dict(headers or {}))
        self.calls.append(call)
        return call

    def invite(
        self, caller: str, headers: Mapping[str, str] | None = None, *, replaces: FakeCall | None = None
    ) -> FakeCall | int:
        """The far end calls: the call that now rings, or the code it was refused with.

        Args:
            caller: the far end.
            headers: of its INVITE.
            replaces: the call in whose place it comes: answered at once, the other is over.
        """
        call = FakeCall("incoming", caller, dict(headers or {}))
        call.replaces = replaces
        refusal: int | None = self.screen(call) if self.screen is not None else None
        if refusal is not None:
            return refusal
        self.calls.append(call)
        if replaces is not None:
            call.answer_by_far_end()
            replaces.finish(CallEnded(EndCause.REPLACED, Party.LOCAL, 0, f"Replaced by a call from {caller}"))
        self._incoming.put_nowait(call)
        return call


class FakeCall:
    """One call."""

    def __init__(self, direction: str, remote: str, headers: Mapping[str, str]) -> None:
        self.direction = direction
        self.remote = remote
        self.headers = headers
        self.did: list[str] = []
        self.replaces: FakeCall | None = None
        self.muted = False
        self.listening_paused = False
        self.ended: CallEnded | None = None
        self.bye_delay = 0.01
        """Seconds until the far end answers BYE or CANCEL."""
        self.playbacks: list[FakePlayback] = []
        self.listeners: list[Listener] = []
        self.ears = Ears()
        self.ticks = 0
        self.transfers: list[FakeTransfer] = []
        self.answer_error: SipError | None = None
        self._connected = False
        self._settled = asyncio.Event()
        self._over = asyncio.Event()

    # -- the far end

    def answer_by_far_end(self) -> None:
        self._connected = True
        self._settled.set()

    def refuse_by_far_end(self, error: SipError, description: str) -> None:
        self.finish(CallEnded(EndCause.REJECTED, Party.REMOTE, error.code, description, error))

    def hang_up_by_far_end(self) -> None:
        error = None if self._connected else CallCancelled("Cancelled by the caller", code=487)
        self.finish(CallEnded(EndCause.HANGUP, Party.REMOTE, 0, f"Hung up by {self.remote}", error))

    def finish(self, ended: CallEnded) -> None:
        if self.ended is not None:
            return
        self.ended = ended
        for listener in self.listeners:
            listener.close()
        for playback in self.playbacks:
            playback.end(completed=False)
        for transfer in self.transfers:
            transfer.on_call_ended()
        self._settled.set()
        self._over.set()

    # -- this side

    @property
    def is_connected(self) -> bool:
        return self._connected and self.ended is None

    async def connected(self) -> None:
        await self._settled.wait()
        if self.ended is not None and self.ended.error is not None:
            raise self.ended.error

    async def answer(self) -> None:
        self.did.append("answer")
        if self.answer_error is not None:
            raise self.answer_error
        self._connected = True
        self._settled.set()

    async def hangup(self, *, code: int = 603, cause: EndCause | None = None) -> CallEnded:
        self.did.append("hangup")
        await asyncio.sleep(self.bye_delay)
        error = None if self._connected else CallCancelled("Given up before the answer", code=487)
        self.finish(CallEnded(cause or EndCause.HANGUP, Party.LOCAL, 0, "Hung up by this side", error))
        assert self.ended is not None
        return self.ended

    def hangup_now(self, *, code: int = 603, cause: EndCause = EndCause.HANGUP) -> None:
        self.did.append("hangup_now")
        error = None if self._connected else NoOngoingCall("Hung up by this side before the answer")
        self.finish(CallEnded(cause, Party.LOCAL, 0, "Hung up by this side at once", error))

    async def wait_ended(self) -> CallEnded:
        await self._over.wait()
        assert self.ended is not None
        return self.ended

    def mute(self) -> None:
        self._need_connected()
        self.muted = True

    def unmute(self) -> None:
        self._need_connected()
        self.muted = False

    def pause_listening(self) -> None:
        self._need_connected()
        self.listening_paused = True

    def resume_listening(self) -> None:
        self._need_connected()
        self.listening_paused = False

    def play(self, *sources: Any) -> FakePlayback:
        self._need_connected()
        playback = FakePlayback(sum(len(samples) for samples in sources) / 8000)
        if not self.playbacks or self.playbacks[-1].done:
            playback.start()
        self.playbacks.append(playback)
        return playback

    def listen(self, *, rate: int = 8000) -> Listener:
        self._need_connected()
        return self._listening(Listener(rate=rate))

    def talk(self, *, rate: int = 8000) -> Talker:
        self._need_connected()
        if any(isinstance(one, Talker) and not one.closed for one in self.listeners):
            raise TalkInProgress("somebody talks")
        return self._listening(Talker(rate=rate))

    def _listening(self, one: Hearing) -> Hearing:
        self.listeners.append(one)
        self.ears.add(one)
        one.on_close = lambda: self.ears.remove(one)
        return one

    def tick(self, value: int = 0) -> None:
        """The clock of the call: the far end says a frame of this value."""
        self.ticks += 1
        self.ears.hear(self.ticks, np.full(160, value, np.int16))

    def refer(self, to: str, *, headers: Mapping[str, str] | None = None) -> FakeTransfer:
        self._need_connected()
        self.did.append(f"refer {to}")
        transfer = FakeTransfer()
        self.transfers.append(transfer)
        return transfer

    def _need_connected(self) -> None:
        if not self.is_connected:
            raise NoOngoingCall("The call is not connected")


class FakeTransfer:
    """A REFER on its way."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[int] = loop.create_future()
        self._outcome: asyncio.Future[TransferProgress] = loop.create_future()

    def accept(self) -> None:
        self._answer.set_result(202)

    def refuse(self, code: int) -> None:
        self._answer.set_exception(TransferRejected(f"REFER refused: {code}", code=code))

    def time_out(self) -> None:
        self._answer.set_exception(TransferTimeout("no answer"))

    def notify(self, code: int) -> None:
        self._outcome.set_result(TransferProgress(code, ""))

    def on_call_ended(self) -> None:
        for future in (self._answer, self._outcome):
            if not future.done():
                future.set_exception(NoOngoingCall("The call ended"))
                future.exception()

    async def accepted(self) -> int:
        return await asyncio.shield(self._answer)

    async def finished(self) -> TransferProgress:
        return await asyncio.shield(self._outcome)


@dataclass(frozen=True)
class FakeResult:
    """How a playback ended."""

    played_seconds: float
    completed: bool


class FakePlayback:
    """Audio that plays in the loop's time."""

    def __init__(self, seconds: float) -> None:
        self.total_seconds = seconds
        self.cancelled = False
        self._loop = asyncio.get_running_loop()
        self._started: float | None = None
        self._result: asyncio.Future[FakeResult] = self._loop.create_future()
        self._stopped_at = 0.0

    def start(self) -> None:
        self._started = self._loop.time()
        self._loop.call_later(self.total_seconds, self.end)

    def end(self, completed: bool = True) -> None:
        if not self._result.done():
            self._stopped_at = self.played_seconds
            self._result.set_result(FakeResult(self._stopped_at, completed))

    @property
    def done(self) -> bool:
        return self._result.done()

    @property
    def played_seconds(self) -> float:
        if self._result.done():
            return self._stopped_at
        if self._started is None:
            return 0.0
        return min(self.total_seconds, self._loop.time() - self._started)

    def cancel(self) -> None:
        self.cancelled = True
        self.end(completed=False)

    def __await__(self) -> Generator[Any, None, FakeResult]:
        return asyncio.shield(self._result).__await__()
