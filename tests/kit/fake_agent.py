"""A user agent without a network: registrations and calls that a test steers by hand.

The classes have the parts of :class:`sipcore.UserAgent`, ``Registration``, ``Call``, ``Transfer`` and
``Playback`` that the service uses. What the far end does is a method here (``answer_by_far_end`` …), what
this side was told to do is a list entry (``call.did``).
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from rtp.audio_stream import AudioStream
from rtp.listener import Listener
from rtp.recording import Recording
from rtp.recording_stream import RecordingStream
from rtp.statistics import StreamStatistics
from rtp.talker import Talker
from sipcore.call import CallState
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
    CallAnswered,
    CallEnded,
    CallEvent,
    CallHeld,
    CallResumed,
    EndCause,
    Party,
    Reason,
    Registered,
    RegistrationEvent,
    RegistrationFailed,
    TransferProgress,
    Unregistered,
)
from sipcore.protocol.identity import ACCOUNT_ITSELF, Caller
from tests.kit.lone_ears import LoneEars

__all__ = ["FakeAgent", "FakeCall", "FakePlayback", "FakeRegistration", "FakeTransfer"]

Hearing = TypeVar("Hearing", bound=Listener)
_NUMBERS = itertools.count(1)


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

    def place(
        self,
        to: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        caller: Caller = ACCOUNT_ITSELF,
    ) -> FakeCall:
        if self.place_error is not None:
            raise self.place_error
        call = FakeCall("outgoing", to, dict(headers or {}))
        call.settings = {"timeout": timeout, "caller": caller}
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
        self.ears = LoneEars()
        self.speakers: list[AudioStream] = []
        self.recordings: list[Recording] = []
        self.recording_streams: list[RecordingStream] = []
        self.spoken: list[NDArray[np.int16]] = []
        self.ticks = 0
        self.transfers: list[FakeTransfer] = []
        self.answer_error: SipError | None = None
        self.hold_error: SipError | None = None
        self.call_id = f"sip-{next(_NUMBERS)}"
        self.codec = ""
        self.held_by_remote = False
        self.events: list[CallEvent] = []
        self._watchers: list[Callable[[CallEvent], None]] = []
        self._connected = False
        self._settled = asyncio.Event()
        self._over = asyncio.Event()

    # -- the far end

    def answer_by_far_end(self) -> None:
        self._connected = True
        self.codec = "PCMU"
        self.happen(CallAnswered(self.codec))
        self._settled.set()

    def happen(self, event: CallEvent) -> None:
        """The call tells of something."""
        if isinstance(event, (CallHeld, CallResumed)):
            self.held_by_remote = isinstance(event, CallHeld)
        self.events.append(event)
        for watcher in self._watchers:
            watcher(event)

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
        for recording in self.recordings:
            recording.join()
        for streamed in self.recording_streams:
            streamed.close()
        for playback in self.playbacks:
            playback.end(completed=False)
        for transfer in self.transfers:
            transfer.on_call_ended()
        self.happen(ended)
        self._settled.set()
        self._over.set()

    # -- this side

    def watch(self, watcher: Callable[[CallEvent], None], *, replay: bool = False) -> None:
        for event in self.events if replay else ():
            watcher(event)
        self._watchers.append(watcher)

    sample_rate = 8000

    @property
    def state(self) -> CallState:
        if self.ended is not None:
            return CallState.ENDED
        return CallState.CONNECTED if self._connected else CallState.RINGING

    def statistics(self) -> StreamStatistics:
        return StreamStatistics(packets_sent=3, packets_received=9, lost=1, jitter_ms=1.5, round_trip_ms=20.0, mos=4.1)

    def reject(self, code: int = 603, reason: str = "") -> None:
        self.did.append(f"reject {code} {reason}".strip())
        error = CallCancelled("Refused by this side", code=code)
        self.finish(CallEnded(EndCause.REJECTED, Party.LOCAL, code, "Refused by this side", error))

    async def hold(self) -> None:
        await self._offer("hold")

    async def resume(self) -> None:
        await self._offer("resume")

    async def _offer(self, what: str) -> None:
        self._need_connected()
        self.did.append(what)
        await asyncio.sleep(0.01)
        if self.hold_error is not None:
            raise self.hold_error

    async def send_dtmf(self, digits: str, *, method: str = "auto", duration_ms: int = 160) -> None:
        self._need_connected()
        self.did.append(f"dtmf {digits} {method} {duration_ms}")

    async def attended_transfer(
        self, consultation: FakeCall, *, headers: Mapping[str, str] | None = None, timeout: float = 10.0
    ) -> None:
        self._need_connected()
        self.did.append(f"transfer to {consultation.remote} {dict(headers or {})} {timeout:g}")
        transfer = FakeTransfer()
        self.transfers.append(transfer)
        try:
            await asyncio.wait_for(transfer.accepted(), timeout)
        except TimeoutError:
            raise TransferTimeout("no answer") from None
        for call in (self, consultation):
            await call.hangup(cause=EndCause.TRANSFERRED)

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
        self.answer_by_far_end()

    async def hangup(
        self, *, code: int = 603, cause: EndCause | None = None, reason: Reason | None = None
    ) -> CallEnded:
        self.did.append("hangup")
        await asyncio.sleep(self.bye_delay)
        error = None if self._connected else CallCancelled("Given up before the answer", code=487)
        reasons = (reason,) if reason is not None else ()
        self.finish(CallEnded(cause or EndCause.HANGUP, Party.LOCAL, 0, "Hung up by this side", error, reasons))
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

    def audio(self, **settings: Any) -> AudioStream:
        self._need_connected()
        self.settings = settings
        stream = AudioStream(**settings)
        self.speakers.append(stream)
        return self._listening(stream)

    def record(self, path: Path, *, stereo: bool, replace: bool) -> Recording:
        self._need_connected()
        recording = Recording(path, stereo=stereo, replace=replace)
        self.ears.add_taker(recording)
        self.recordings.append(recording)
        return recording

    def record_stream(self, *, stereo: bool, chunk_ms: int, max_seconds: float) -> RecordingStream:
        self._need_connected()
        recording = RecordingStream(stereo=stereo, chunk_ms=chunk_ms, max_seconds=max_seconds)
        self.ears.add_taker(recording)
        recording.on_close = lambda: self.ears.remove(recording)
        self.recording_streams.append(recording)
        return recording

    def _listening(self, one: Hearing) -> Hearing:
        self.listeners.append(one)
        self.ears.add(one)
        one.on_close = lambda: self.ears.remove(one)
        return one

    def tick(self, value: int = 0) -> None:
        """The clock of the call: the far end says a frame of this value."""
        self.ticks += 1
        self.spoken = [speaker.speech.read(160) for speaker in self.speakers]
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
