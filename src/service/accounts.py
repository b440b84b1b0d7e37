"""All accounts of the server: which one a request is about, and the use cases by name.

Each method here is one RPC in terms of this package: it finds the account, checks what does not depend on its
state, and hands over to :mod:`service.calls`, ``transfers``, ``playback`` or ``sessions``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from service import calls, media_control, playback, sessions, transfers
from service.audio_streams import AudioRequest, AudioStreams, Send, first_config, first_request
from service.errors import CallControlUnauthenticated, NoSession, ServerStopping
from service.journal import AccountAdded, AccountRemoved, Journal
from service.levels import MediaRequest
from service.line import Line, LineOptions
from service.media_control import UNAUTHENTICATED
from service.ongoing import EndReason
from service.operation import Operation, Operations
from service.status import AmdResult, History, Status, StatusType
from service.stream_places import AudioLimits, StreamPlaces
from sipcore.config import Account
from sipcore.errors import AccountNotRegistered, CallError, InvalidRequest, NoOngoingCall
from sipcore.protocol.addresses import AccountAddress, parse_account, parse_callee
from sipcore.protocol.builder import check_extension_headers

if TYPE_CHECKING:
    from service.archive import Archive
    from sipcore.useragent import UserAgent

__all__ = ["Accounts", "Scope"]

logger = logging.getLogger(__name__)

NOWHERE = parse_account("nobody@account.invalid")
"""Stands in for the account when a callee is checked for its syntax and no account is there (RFC 2606)."""

Remaining = Callable[[], float | None]
"""Seconds to the deadline of a request, None without one."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What the metadata of a request say it is about."""

    account: str | None = None
    """``x-sip-account``; None: the active account."""
    call_id: str | None = None
    """``x-ondewo-expected-call-id``; None: whatever call is ongoing."""
    token: str | None = field(default=None, repr=False)
    """``x-ondewo-sip-call-control-token``."""


class Accounts:
    """Every account this server knows.

    Args:
        agent: the running user agent.
        options: for each account.
        wav_limit: largest sum of the sizes of the files in one SipPlayWavFiles, bytes.
        control_token: what SipSetCallMediaControl and SipStreamCallAudio ask for; empty: nothing.
        audio_limits: most live audio streams.
        archive: where the histories last beyond this process; None: nowhere. It is opened and closed by its owner.
        journal: where everything that happens is written.
    """

    def __init__(
        self,
        agent: UserAgent,
        options: LineOptions,
        *,
        wav_limit: int,
        control_token: str = "",
        audio_limits: AudioLimits = AudioLimits(),  # noqa: B008 - frozen
        archive: Archive | None = None,
        journal: Journal | None = None,
    ) -> None:
        self._agent = agent
        self._options = options
        self._wav_limit = wav_limit
        self._archive = archive
        self.places = StreamPlaces(audio_limits)
        """For live streams of all kinds."""
        self._streams = AudioStreams(self.places)
        self._token = media_control.ControlToken(control_token)
        self.journal = journal if journal is not None else Journal()
        self._lines: dict[str, Line] = {}
        self._leaving: dict[str, asyncio.Task[None]] = {}
        """Accounts that are being removed, by the keys of their addresses."""
        self._newest_registered: Line | None = None
        self._newest_session: Line | None = None
        self._operations = Operations()
        self._stopping = False

    # -- which account ---------------------------------------------------------------------------------------

    @property
    def active(self) -> Line | None:
        """The account of a request without ``x-sip-account``."""
        return self._newest_session or self._newest_registered

    @property
    def lines(self) -> tuple[Line, ...]:
        """All accounts, by the keys of their addresses."""
        return tuple(line for _, line in sorted(self._lines.items()))

    def admits(self, token: str | None) -> bool:
        """Whether a request that brings this call control token may go on."""
        return self._token.admits(token)

    def select(self, scope: Scope) -> Line | None:
        """The account that a request is about; None where there is none such.

        Raises:
            InvalidAddress: the metadata name no account.
        """
        if scope.account is None:
            return self.active
        return self.find(scope.account, field="x-sip-account")

    def find(self, name: str, *, field: str) -> Line | None:
        """The account called ``name``: an address, or a bare user that exactly one registered account has.

        Raises:
            InvalidAddress: ``name`` is neither; ``field`` is what the message calls it.
        """
        if "@" in name or not name.strip():
            return self._lines.get(parse_account(name, field=field).key)
        user = name.partition(":")[2] if name.lower().startswith(("sip:", "sips:")) else name
        parse_account(f"{user}@{NOWHERE.host}", field=field)
        having = [line for line in self._lines.values() if line.address.user == user]
        registered = [line for line in having if line.bound]
        candidates = registered or having
        return candidates[0] if len(candidates) == 1 else None

    # -- sessions --------------------------------------------------------------------------------------------

    async def register_account(
        self, name: str, password: str, auth_username: str, outbound_proxy: str, remaining: Remaining
    ) -> Status:
        """SipRegisterAccount."""
        self.check_running()
        address = parse_account(name, field="account_name")
        for name_, value in (("password", password), ("auth_username", auth_username)):
            if any(character in value for character in "\r\n\0"):
                raise InvalidRequest("a line break or NUL is not allowed", field=name_)
        account = Account(
            name,
            password=password,
            auth_username=auth_username,
            outbound_proxy=outbound_proxy,
            expires=self._options.register_expires,
            calls=self._options.calls,
        )
        profile = self._options.profiles.get(address.key)
        if profile is not None:
            account = profile.applied_to(account)
        while (leaving := self._leaving.get(address.key)) is not None:
            await asyncio.wait({leaving})
        line = self._lines.get(address.key) or await self._new_line(account, address)
        self._newest_registered = line
        return await self._run(
            line,
            lambda operation: sessions.register_account(line, account, operation),
            remaining,
            outcome=StatusType.REGISTERED,
        )

    async def _new_line(self, account: Account, address: AccountAddress) -> Line:
        """The line of an account that has none yet; its history goes on where an earlier server's ended."""
        history = None
        if self._archive is not None:
            past = await self._archive.of(address.key)
            if (made_meanwhile := self._lines.get(address.key)) is not None:
                return made_meanwhile
            self.check_running()
            keep = partial(self._archive.note, address.key)
            history = History(self._options.history_size, past=past, keep=keep)
        line = Line(self._agent, account, address, self._options, self.journal, history)
        self._lines[address.key] = line
        line.chronicle.write(AccountAdded())
        return line

    async def start_session(self, name: str, auto_answer_interval: int, remaining: Remaining) -> Status:
        """SipStartSession."""
        self.check_running()
        line = self.find(name, field="account_name")
        if line is None:
            return _no_session(name, AccountNotRegistered(f"{name} was never registered at this server"))

        async def work(operation: Operation) -> Status:
            status = await sessions.start_session(line, name, auto_answer_interval, operation)
            if status.type is StatusType.READY:
                self._newest_session = line
            return status

        return await self._run(line, work, remaining)

    async def end_session(self, scope: Scope, remaining: Remaining) -> Status:
        """SipEndSession."""
        line = self.select(scope)
        if line is None:
            return _no_account(scope)
        return await self._run(line, lambda operation: sessions.end_session(line, operation), remaining)

    async def remove(self, line: Line) -> None:
        """Forgets an account: its session and call end, its binding is removed. Goes on where its client has gone."""
        key = line.address.key
        if self._lines.get(key) is line:
            del self._lines[key]
            self._newest_session = None if self._newest_session is line else self._newest_session
            self._newest_registered = None if self._newest_registered is line else self._newest_registered
            self._leaving[key] = asyncio.create_task(self._remove(line))
        if (leaving := self._leaving.get(key)) is not None:
            await asyncio.shield(leaving)

    async def _remove(self, line: Line) -> None:
        try:
            await sessions.remove_account(line)
            await line.close()
            line.chronicle.write(AccountRemoved())
        finally:
            del self._leaving[line.address.key]

    # -- calls -----------------------------------------------------------------------------------------------

    async def start_call(self, scope: Scope, callee: str, headers: Mapping[str, str], remaining: Remaining) -> Status:
        """SipStartCall."""
        self.check_running()
        line = self.select(scope)
        parse_callee(callee, _address(line), field="callee_id")
        check_extension_headers(headers)
        if line is None:
            return _no_account(scope)
        return await self._run(line, lambda operation: calls.start_call(line, callee, headers, operation), remaining)

    async def end_call(
        self, scope: Scope, *, hard: bool, reason: EndReason, amd: AmdResult | None, remaining: Remaining
    ) -> Status:
        """SipEndCall."""
        line = self.select(scope)
        if line is None:
            return _no_account(scope)
        if (refusal := line.no_session() or line.out_of_scope(scope.call_id)) is not None:
            return refusal
        return await self._run(
            line,
            lambda operation: calls.end_call(line, hard=hard, reason=reason, amd=amd, operation=operation),
            remaining,
        )

    async def transfer_call(
        self,
        scope: Scope,
        target: str,
        headers: Mapping[str, str],
        outcome_timeout_ms: int,
        remaining: Remaining,
    ) -> Status:
        """SipTransferCall."""
        line = self.select(scope)
        parse_callee(target, _address(line), field="transfer_id", refer=True)
        check_extension_headers(headers, refer=True)
        if line is None:
            return _no_account(scope)
        if (refusal := line.no_session() or line.out_of_scope(scope.call_id)) is not None:
            return refusal
        return await self._run(
            line, lambda _: transfers.transfer_call(line, target, headers, outcome_timeout_ms), remaining
        )

    async def play_wav_files(self, scope: Scope, wav_files: Sequence[bytes], remaining: Remaining) -> Status:
        """SipPlayWavFiles."""
        playback.check_size(wav_files, self._wav_limit)
        line = self.select(scope)
        if line is None:
            await playback.decode(wav_files)
            return _no_account(scope)
        return await self._run(
            line,
            lambda _: playback.play_wav_files(line, wav_files, expected_call_id=scope.call_id),
            remaining,
            outcome=StatusType.MICROPHONE_WAV_FILES_PLAYED,
        )

    def set_muted(self, scope: Scope, muted: bool) -> Status:
        """SipMute and SipUnMute."""
        line = self.select(scope)
        if line is None:
            return _no_account(scope)
        if (refusal := line.no_session() or line.out_of_scope(scope.call_id)) is not None:
            return refusal
        return calls.set_muted(line, muted)

    def report_machine(self, scope: Scope, amd: AmdResult) -> Status:
        """SipReportAnsweringMachineDetected."""
        line = self.select(scope)
        if line is None:
            return _no_call(scope, NoOngoingCall("SipReportAnsweringMachineDetected: no account was registered for it"))
        return line.out_of_scope(scope.call_id) or calls.report_machine(line, amd)

    def set_media_control(self, scope: Scope, request: MediaRequest) -> Status:
        """SipSetCallMediaControl."""
        line = self.select(scope)
        if not self._token.admits(scope.token):
            error = CallControlUnauthenticated(UNAUTHENTICATED)
            return media_control.refused(line, error) if line is not None else _no_call(scope, error)
        if line is None:
            return _no_call(scope, NoOngoingCall("SipSetCallMediaControl: no account was registered for it"))
        return media_control.set_media_control(line, request, scope.call_id)

    async def stream_audio(self, scope: Scope, requests: AsyncIterator[AudioRequest], send: Send) -> None:
        """SipStreamCallAudio.

        Raises:
            SipError: see :meth:`service.audio_streams.AudioStreams.run`.
            CallControlUnauthenticated: the token is missing or wrong.
            CallScopeMismatch, NoOngoingCall: the request names no connected call.
        """
        first = await first_request(requests)
        if not self._token.admits(scope.token):
            raise CallControlUnauthenticated(UNAUTHENTICATED)
        line = self.select(scope)
        config = first_config(first)
        if line is None:
            raise NoOngoingCall("SipStreamCallAudio: no account was registered for it")
        ongoing = media_control.controllable_call(line, "SipStreamCallAudio", scope.call_id)
        if isinstance(ongoing, CallError):
            raise ongoing
        await self._streams.run(ongoing, config, requests, send)

    # -- status ----------------------------------------------------------------------------------------------

    def status(self, scope: Scope) -> Status:
        """SipGetSipStatus."""
        line = self.select(scope)
        return line.live() if line is not None else _no_account(scope)

    def history(self, scope: Scope) -> tuple[Status, ...]:
        """The kept transitions, oldest first; empty for an account that is not known."""
        line = self.select(scope)
        return line.history.all() if line is not None else ()

    async def lasting_history(self, scope: Scope) -> tuple[Status, ...]:
        """SipGetSipStatusHistory: :meth:`history`, also of an account that only an earlier server knew."""
        if self._archive is None or self.select(scope) is not None:
            return self.history(scope)
        if scope.account is None:
            return await self._archive.of_the_active()
        if "@" not in scope.account:
            return ()
        return await self._archive.of(parse_account(scope.account, field="x-sip-account").key)

    # -- running and stopping --------------------------------------------------------------------------------

    async def _run(
        self,
        line: Line,
        work: Callable[[Operation], Coroutine[object, object, Status]],
        remaining: Remaining,
        *,
        outcome: StatusType | None = None,
    ) -> Status:
        return await self._operations.run(work, line.pending(outcome), remaining)

    def check_running(self) -> None:
        """Told by use cases that begin something new.

        Raises:
            ServerStopping: the server takes none of it any more.
        """
        if self._stopping:
            raise ServerStopping("the server is shutting down and takes no new calls")

    def stop_taking_calls(self) -> None:
        """From now on: no new accounts, sessions or calls; incoming calls get 480."""
        self._stopping = True
        for line in self._lines.values():
            line.session_open = False

    async def close(self) -> None:
        """Lets the terminal statuses be recorded, then stops everything. The agent was closed before."""
        await asyncio.gather(*(line.close() for line in self._lines.values()))
        await self._operations.close()
        if self._leaving:
            await asyncio.wait(set(self._leaving.values()))
        self.journal.close()


def _address(line: Line | None) -> AccountAddress:
    return line.address if line is not None else NOWHERE


def _no_account(scope: Scope) -> Status:
    """NO_SESSION where the request is about no account that was ever registered."""
    if scope.account is None:
        return _no_session("", NoSession("No account was registered at this server"))
    return _no_session(scope.account, NoSession(f"{scope.account} was never registered at this server"))


def _no_call(scope: Scope, error: CallError) -> Status:
    """NO_ONGOING_CALL of an account that was never registered, where the contract asks for that name."""
    status = Status(
        StatusType.NO_ONGOING_CALL, account=scope.account or "", description=str(error), exception=type(error).__name__
    )
    return History(1).stamp(status)


def _no_session(name: str, error: NoSession | AccountNotRegistered) -> Status:
    status = Status(StatusType.NO_SESSION, account=name, description=str(error), exception=type(error).__name__)
    return History(1).stamp(status)
