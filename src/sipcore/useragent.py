"""The user agent: accounts, calls and media of one asyncio program."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import logging
import random
from typing import TYPE_CHECKING

from rtp.engine import MediaEngine
from rtp.ports import NoPortAvailable
from sipcore.config import UserAgentConfig
from sipcore.errors import AtCapacity, SipError
from sipcore.events import EndCause, RegistrationFailed
from sipcore.media import CallMedia
from sipcore.net.driver import Driver
from sipcore.protocol.stack import (
    ExchangeDone,
    MessageArrived,
    RegistrationOccurred,
    SessionIncoming,
    SessionOccurred,
    Stack,
)
from sipcore.quality import QualityWatch
from sipcore.registration import Registration
from sipcore.requests import Outcomes
from sipcore.silence import SilenceWatch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType

    from sipcore.call import Call
    from sipcore.config import Account
    from sipcore.net.driver import FlowsFactory
    from sipcore.net.trace import Trace
    from sipcore.protocol.admission import TrafficStatistics
    from sipcore.protocol.exchange import Exchange
    from sipcore.protocol.invite_session import InviteSession
    from sipcore.protocol.line import Line
    from sipcore.protocol.stack import RequestHandler, StackEvent
    from sipcore.protocol.values import Uri
    from sipcore.protocol.wire import Response

__all__ = ["UserAgent"]

log = logging.getLogger(__name__)

AT_A_TIME = 5
"""Accounts that are un-registered between two looks at the clock: two milliseconds of work."""


class UserAgent:
    """Accounts and calls on one SIP port. Use as ``async with``, or :meth:`start` and :meth:`close`.

    Args:
        config: settings; the default listens on a free port of every interface.
        trace: writes every SIP message to a file.
        rng: source of tags, branches and jitter; default the system's. Seed one for tests only: tags are secrets.
        flows: builds the signalling sockets; tests put a network in memory here.
        media: an RTP engine to share between agents of one program; it is started and closed by its owner.
    """

    def __init__(
        self,
        config: UserAgentConfig | None = None,
        *,
        trace: Trace | None = None,
        rng: random.Random | None = None,
        flows: FlowsFactory | None = None,
        media: MediaEngine | None = None,
    ) -> None:
        self.config = config or UserAgentConfig()
        self._rng = rng or random.SystemRandom()
        name = self.config.user_agent or f"sipcore/{importlib.metadata.version('sipcore')}"
        self.stack = Stack(self.config, rng=self._rng, user_agent=name)
        self._driver = Driver(self.stack, self.config, on_event=self._on_event, trace=trace, flows=flows)
        self._owns_media = media is None
        self.media = (
            media
            if media is not None
            else MediaEngine(
                ports=self.config.rtp_ports,
                port_quarantine=self.config.rtp_port_quarantine,
                jitter_min_ms=self.config.jitter_min_ms,
                jitter_max_ms=self.config.jitter_max_ms,
                symmetric_rtp=self.config.symmetric_rtp,
            )
        )
        """The RTP engine: statistics of the clock."""
        self.stack.room = self._has_room
        self._registrations: dict[Line, Registration] = {}
        self._calls: dict[InviteSession, Call] = {}
        self._outcomes = Outcomes()
        self._silence = SilenceWatch(self._calls.values, self.config.rtp_timeout)
        self._quality = QualityWatch(self.config.quality_interval)
        self._started = False
        self._closed = False
        self._gone = asyncio.Event()

    async def __aenter__(self) -> UserAgent:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Binds the SIP ports (UDP and TCP; TLS where there is a certificate) and starts the media clock.

        Raises:
            OSError: a port is taken, the address is not this machine's, or a file of TLS cannot be used.
        """
        await self._driver.start()
        try:
            if self._owns_media:
                await self.media.start()
        except BaseException:  # nobody closes what did not start: its SIP ports are free again
            await self._driver.close()
            raise
        self._started = True

    async def close(self, timeout: float = 2.0) -> None:
        """Hangs up, un-registers, and frees every port and task; takes at most about ``timeout`` seconds.

        Idempotent: who calls it again waits for the first. Cancelled, it waits for no answer any more, and frees all
        the same.
        """
        if self._closed:
            await self._gone.wait()
            return
        self._closed = True
        try:
            if self._started:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(timeout * 0.4):
                        await asyncio.gather(*(call.hangup(cause=EndCause.SHUTDOWN) for call in self.calls))
                for call in self.calls:
                    call.hangup_now(cause=EndCause.SHUTDOWN)
                await self._leave(timeout * 0.4)
        finally:
            for line in self.registrations:
                line.remove()
            self._silence.close()
            self._quality.close()
            try:
                if self._owns_media:
                    await self.media.close()
                await self._driver.close()
            finally:
                self._outcomes.close()
                self._gone.set()

    async def _leave(self, timeout: float) -> None:
        """Un-registers all accounts, some at a time: a machine that is busy gets as far as it gets, and stops in time.
        Bindings that are left lapse by themselves."""
        lines = self.registrations
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                for first in range(0, len(lines), AT_A_TIME):
                    for line in lines[first : first + AT_A_TIME]:
                        line.leave()
                    self.pump()
                    await asyncio.sleep(0)  # where the time-out, and answers, get their turn
                for line in lines:
                    await line.left()
                return
        log.info("closed before all of %d accounts were un-registered", len(lines))

    # -- what it is ------------------------------------------------------------------------------------------------

    @property
    def listening(self) -> bool:
        """Whether calls can come in and be placed: started, not being closed, and a SIP socket is open."""
        return self._started and not self._closed and self._driver.flows.listening

    @property
    def sip_address(self) -> tuple[str, int]:
        """Host and port that UDP and TCP listen on."""
        return self._driver.address

    @property
    def sip_tls_address(self) -> tuple[str, int] | None:
        """Host and port that TLS listens on; None without a certificate."""
        return self._driver.flows.tls_address

    @property
    def registrations(self) -> tuple[Registration, ...]:
        """Accounts, oldest first."""
        return tuple(self._registrations.values())

    @property
    def calls(self) -> tuple[Call, ...]:
        """Calls that are not over."""
        return tuple(self._calls.values())

    def statistics(self) -> TrafficStatistics:
        """What is under way in the signalling, and what was turned away since the start."""
        return self.stack.statistics()

    # -- accounts --------------------------------------------------------------------------------------------------

    async def register(self, account: Account) -> Registration:
        """Registers an account and keeps its binding fresh. A failed first registration leaves nothing behind.

        Raises:
            AuthenticationFailed: the credentials were refused.
            RegistrationRejected: the registrar refused; ``code`` is its status code.
            RegistrationTimeout: it did not answer.
            ServerUnreachable: it could not be reached.
        """
        registration = self.add_account(account)
        try:
            await registration.wait_registered()
        except (SipError, asyncio.CancelledError):
            await self.drop(registration)
            raise
        return registration

    def add_account(self, account: Account) -> Registration:
        """Like :meth:`register` without waiting: failures are retried with backoff while the account lives."""
        registration = self.open_line(account)
        self.stack.register(registration.line, self.now())
        self.pump()
        return registration

    def open_line(self, account: Account) -> Registration:
        """An account that is not registered anywhere: takes calls sent to this agent's address, and places calls.

        Anyone may call it, unless the account's ``accept_from`` or the agent's ``allow_from`` says who.
        """
        line = self.stack.add_line(account)
        registration = Registration(self, line)
        self._registrations[line] = registration
        return registration

    async def drop(self, registration: Registration) -> None:
        """Removes an account without telling its registrar: for one that never was registered."""
        registrar = registration.line.registrar
        if registrar is not None and not registration.registered:
            registration.line.registrar = None
            registrar.abandon(self.now())
            self.pump()
        await registration.unregister()

    async def incoming(self) -> AsyncIterator[Call]:
        """Calls that ring here on any account open now, as they arrive."""
        queue: asyncio.Queue[Call] = asyncio.Queue()

        async def feed(registration: Registration) -> None:
            async for call in registration.incoming():
                queue.put_nowait(call)

        feeders = [asyncio.create_task(feed(registration)) for registration in self.registrations]
        try:
            while True:
                yield await queue.get()
        finally:
            for feeder in feeders:
                feeder.cancel()

    def handle(self, method: str, handler: RequestHandler) -> None:
        """Answers requests outside a dialog of ``method`` with ``handler`` instead of the agent's own answer."""
        self.stack.request_handlers[method] = handler

    # -- Runtime ---------------------------------------------------------------------------------------------------

    def now(self) -> float:
        """See :class:`~sipcore.runtime.Runtime`."""
        return self._driver.now()

    def pump(self) -> None:
        """See :class:`~sipcore.runtime.Runtime`."""
        self._driver.pump()

    def require_room(self) -> None:
        """See :class:`~sipcore.runtime.Runtime`."""
        if len(self._calls) >= self.config.max_calls:
            raise AtCapacity(f"No room for another call: {len(self._calls)} are up (max_calls)", code=503)
        if not self._has_room():
            raise AtCapacity("No room for another call: the media clock is too busy (max_load)", code=503)

    def _has_room(self) -> bool:
        return not self.media.overloaded(self.config.max_load)

    def open_media(self) -> CallMedia:
        """See :class:`~sipcore.runtime.Runtime`."""
        try:
            return CallMedia(self.media, self.config.sip_host)
        except NoPortAvailable as error:
            raise AtCapacity(str(error), code=503) from error

    def adopt(self, call: Call) -> None:
        """See :class:`~sipcore.runtime.Runtime`."""
        self._calls[call.session] = call
        self._silence.wake()
        self._quality.add(call, self.now)

    def call_of(self, session: InviteSession) -> Call | None:
        """See :class:`~sipcore.runtime.Runtime`."""
        return self._calls.get(session)

    def forget(self, call: Call) -> None:
        """See :class:`~sipcore.runtime.Runtime`."""
        self._calls.pop(call.session, None)
        call.registration.on_call_over(call)

    async def outcome(self, exchange: Exchange) -> Response:
        """See :class:`~sipcore.runtime.Runtime`."""
        return await self._outcomes.wait(exchange)

    def resolve_callee(self, to: str, registration: Registration, *, field: str, refer: bool = False) -> Uri:
        """See :class:`~sipcore.runtime.Runtime`."""
        return registration.line.dial(to, field=field, refer=refer)

    def forget_registration(self, registration: Registration) -> None:
        """See :class:`~sipcore.runtime.Runtime`."""
        self.stack.remove_line(registration.line)
        self._registrations.pop(registration.line, None)

    def _on_event(self, event: StackEvent) -> None:
        match event:
            case SessionOccurred(session, occurred):
                call = self._calls.get(session)
                if call is not None:
                    call.on_session_event(occurred)
            case SessionIncoming(session, line):
                registration = self._registrations.get(line)
                if registration is None or self._closed:
                    session.hang_up(self.now(), code=480)
                else:
                    registration.on_incoming(session)
            case RegistrationOccurred(line, change):
                if isinstance(change, RegistrationFailed):
                    log.info("registration of %s failed: %s", line.account.address, change.error)
                registration = self._registrations.get(line)
                if registration is not None:
                    registration.on_event(change)
            case MessageArrived(line, message):
                registration = self._registrations.get(line)
                if registration is not None:
                    registration.on_message(message)
            case ExchangeDone(exchange):
                self._outcomes.settle(exchange)
            case _:
                pass
