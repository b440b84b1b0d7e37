"""What the tests of the use cases start from: accounts over a fake agent, and requests without gRPC."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Mapping
from typing import Any, ClassVar, TypeVar, cast

import numpy as np
import soundfile

from service.accounts import Accounts, Scope
from service.audio_streams import AudioRequest, AudioResponse
from service.journal import Journal
from service.levels import MediaRequest
from service.line import LineOptions
from service.ongoing import EndReason
from service.status import AmdResult, Status, StatusType
from service.stream_places import AudioLimits
from tests.kit.fake_agent import FakeAgent, FakeCall, FakeRegistration

__all__ = ["ALICE", "BOB", "Bench", "Stream", "settle", "wav"]

Response = TypeVar("Response")

ALICE = "alice@example.com"
BOB = "sip:bob@example.com"


def wav(seconds: float, rate: int = 8000, channels: int = 1) -> bytes:
    """A wav file of a quiet tone."""
    count = int(seconds * rate)
    tone = (1000 * np.sin(np.arange(count) * 0.3)).astype(np.int16)
    buffer = io.BytesIO()
    soundfile.write(buffer, np.repeat(tone[:, None], channels, axis=1), rate, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


class Bench:
    """One server's accounts, with the requests as methods."""

    _open: ClassVar[list[Bench]] = []

    def __init__(
        self,
        options: LineOptions | None = None,
        *,
        wav_limit: int = 1_000_000,
        control_token: str = "",
        audio_limits: AudioLimits | None = None,
        journal_size: int = 1000,
    ) -> None:
        Bench._open.append(self)
        self.agent = FakeAgent()
        self.accounts = Accounts(
            cast("Any", self.agent),
            options or LineOptions(),
            wav_limit=wav_limit,
            control_token=control_token,
            audio_limits=audio_limits or AudioLimits(),
            journal=Journal(journal_size),
        )

    @classmethod
    async def close_all(cls) -> None:
        """Closes every bench, as the server closes its accounts."""
        while cls._open:
            await cls._open.pop().accounts.close()

    @property
    def registration(self) -> FakeRegistration:
        """The newest one."""
        return self.agent.registrations[-1]

    @property
    def call(self) -> FakeCall:
        """The newest call."""
        return self.registration.call

    # -- requests

    async def register(self, name: str = ALICE, password: str = "secret", deadline: float | None = None) -> Status:
        return await self.accounts.register_account(name, password, "", "", self._until(deadline))

    async def start(self, name: str = ALICE, auto_answer: int = 0, deadline: float | None = None) -> Status:
        return await self.accounts.start_session(name, auto_answer, self._until(deadline))

    async def end_session(self, account: str | None = None) -> Status:
        return await self.accounts.end_session(Scope(account), self._until(None))

    async def dial(
        self,
        callee: str = BOB,
        headers: Mapping[str, str] | None = None,
        account: str | None = None,
        deadline: float | None = None,
    ) -> Status:
        return await self.accounts.start_call(Scope(account), callee, headers or {}, self._until(deadline))

    async def hang_up(
        self,
        *,
        hard: bool = False,
        reason: EndReason = EndReason.UNSPECIFIED,
        amd: AmdResult | None = None,
        call_id: str | None = None,
        deadline: float | None = None,
    ) -> Status:
        scope = Scope(call_id=call_id)
        return await self.accounts.end_call(scope, hard=hard, reason=reason, amd=amd, remaining=self._until(deadline))

    async def transfer(
        self,
        target: str = "carol",
        headers: Mapping[str, str] | None = None,
        outcome_ms: int = 0,
        call_id: str | None = None,
        deadline: float | None = None,
    ) -> Status:
        return await self.accounts.transfer_call(
            Scope(call_id=call_id), target, headers or {}, outcome_ms, self._until(deadline)
        )

    async def play(self, *files: bytes, call_id: str | None = None, deadline: float | None = None) -> Status:
        return await self.accounts.play_wav_files(Scope(call_id=call_id), files, self._until(deadline))

    def mute(self, muted: bool = True, call_id: str | None = None) -> Status:
        return self.accounts.set_muted(Scope(call_id=call_id), muted)

    def control(
        self, request: MediaRequest, call_id: str | None = "", token: str | None = None, account: str | None = None
    ) -> Status:
        """SipSetCallMediaControl; by default about the ongoing call."""
        if call_id == "":
            call_id = self.current.call_id
        return self.accounts.set_media_control(Scope(account, call_id, token), request)

    def report(self, amd: AmdResult, call_id: str | None = None) -> Status:
        return self.accounts.report_machine(Scope(call_id=call_id), amd)

    def stream(self, *requests: AudioRequest, call_id: str | None = "", token: str | None = None) -> Stream:
        """SipStreamCallAudio, begun; by default about the ongoing call."""
        if call_id == "":
            call_id = self.current.call_id
        return Stream(self.accounts, Scope(call_id=call_id, token=token), requests)

    # -- states

    async def session(self, auto_answer: int = 0) -> None:
        """Registered, with an open session."""
        await self.register()
        assert (await self.start(auto_answer=auto_answer)).type is StatusType.READY

    async def connected(self, headers: Mapping[str, str] | None = None) -> FakeCall:
        """In an outgoing call that was answered."""
        if not self.agent.registrations:
            await self.session()
        dialling = asyncio.create_task(self.dial(headers=headers))
        await settle()
        self.call.answer_by_far_end()
        assert (await dialling).type is StatusType.OUTGOING_CALL_CONNECTED
        return self.call

    # -- what was recorded

    def statuses(self, account: str | None = None) -> tuple[Status, ...]:
        return self.accounts.history(Scope(account))

    def types(self, account: str | None = None) -> list[str]:
        return [status.type.name for status in self.statuses(account)]

    @property
    def current(self) -> Status:
        return self.accounts.status(Scope())

    def _until(self, deadline: float | None) -> Any:
        if deadline is None:
            return lambda: None
        loop = asyncio.get_running_loop()
        end = loop.time() + deadline
        return lambda: end - loop.time()


class Stream:
    """A client of SipStreamCallAudio."""

    def __init__(self, accounts: Accounts, scope: Scope, requests: tuple[AudioRequest, ...]) -> None:
        self.responses: list[AudioResponse] = []
        self.reads = asyncio.Event()
        """Cleared, the client takes no response."""
        self.reads.set()
        self._requests: asyncio.Queue[AudioRequest | None] = asyncio.Queue()
        for request in requests:
            self.ask(request)
        self.task = asyncio.create_task(accounts.stream_audio(scope, self._iterate(), self._send))

    def ask(self, request: AudioRequest | None) -> None:
        """The client sends a request; None: it closes its side."""
        self._requests.put_nowait(request)

    def of(self, kind: type[Response]) -> list[Response]:
        """The responses of one kind."""
        return [response for response in self.responses if isinstance(response, kind)]

    async def _iterate(self) -> AsyncIterator[AudioRequest]:
        while (request := await self._requests.get()) is not None:
            yield request

    async def _send(self, response: AudioResponse) -> None:
        await self.reads.wait()
        self.responses.append(response)


async def settle() -> None:
    """Lets everything run that is ready to."""
    for _ in range(20):
        await asyncio.sleep(0)
