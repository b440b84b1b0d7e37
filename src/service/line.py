"""One account with its history, its registration, its session and its one ongoing call."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from service.chronicle import Chronicle
from service.errors import CallScopeMismatch, NoSession
from service.levels import MediaLevels
from service.ongoing import CallIdentity, OngoingCall, call_id_for
from service.status import AmdResult, History, IllegalTransition, Status, StatusType, utc_microseconds
from service.views import Binding, Unbound
from sipcore.broadcast import Lost
from sipcore.config import CallPolicy
from sipcore.errors import AccountNotRegistered, CallCancelled, NoOngoingCall, SipError
from sipcore.events import Registered, RegistrationFailed, Unregistered
from sipcore.protocol.params import legible

if TYPE_CHECKING:
    from service.journal import Journal
    from service.profiles import Profile
    from sipcore.call import Call
    from sipcore.config import Account
    from sipcore.events import RegistrationEvent
    from sipcore.protocol.addresses import AccountAddress
    from sipcore.registration import Registration
    from sipcore.useragent import UserAgent

__all__ = ["Line", "LineOptions"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LineOptions:
    """What the server's settings say about every line."""

    history_size: int = 1000
    """Transitions kept per account."""
    tracebacks: bool = True
    """Whether statuses carry Python tracebacks."""
    register_expires: int = 600
    """Registration lifetime asked for, seconds."""
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    """What the server's file says about accounts, by the keys of their addresses."""
    calls: CallPolicy = field(default_factory=CallPolicy)
    """How calls are set up and kept."""
    transfer_grace: float = 0.5
    """Seconds that an accepted transfer waits for a NOTIFY with 404."""
    refer_grace: float = 0.2
    """Seconds that a transfer without outcome leaves for a challenge to the REFER before its BYE."""
    hangup_patience: float = 4.0
    """Seconds that SipEndSession waits for the answer to its BYE before it ends the call hard."""


class Line:
    """State and recording; the use cases are in ``calls``, ``transfers``, ``playback`` and ``sessions``."""

    def __init__(
        self,
        agent: UserAgent,
        account: Account,
        address: AccountAddress,
        options: LineOptions,
        journal: Journal,
        history: History | None = None,
    ) -> None:
        self.agent = agent
        self.account = account
        self.address = address
        self.options = options
        self.name = account.address
        """As the newest request that named the account wrote it."""
        self.history = history or History(options.history_size)
        self.chronicle = Chronicle(journal, address.key)
        self.registration: Registration | None = None
        self.bound = False
        """The newest transition about the binding was REGISTERED."""
        self.binding: Binding | Unbound | None = None
        """What became of the newest REGISTER; None before that is known."""
        self.removed = False
        """The account is being removed, or was: nothing new begins."""
        self.session_open = False
        self.had_session = False
        self.session_end: asyncio.Future[Status] | None = None
        """The newest SipEndSession that had a session to end; done with its SESSION_ENDED."""
        self.auto_answer_interval = 0
        self.ongoing: OngoingCall | None = None
        self.lock = asyncio.Lock()
        """Held by SipRegisterAccount, SipStartSession and SipEndSession: one at a time."""
        self.playback_lock = asyncio.Lock()
        """Held while wav files are decoded and queued, so that requests queue in the order they came."""
        self._screened: Call | None = None
        self._registration_outcomes: list[asyncio.Future[Status]] = []
        self._watchers: list[asyncio.Task[None]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    # -- statuses --------------------------------------------------------------------------------------------

    def status(
        self,
        type_: StatusType,
        about: CallIdentity | None = None,
        *,
        description: str = "",
        error: BaseException | None = None,
        code: int | None = None,
        transfer_target: str = "",
        headers: Mapping[str, str] | None = None,
        amd: AmdResult | None = None,
    ) -> Status:
        """A status of this account, neither stamped nor recorded; ``description`` defaults to the error's."""
        levels = self.ongoing.levels if self.ongoing is not None and self.ongoing.identity is about else MediaLevels()
        return Status(
            type=type_,
            account=self.name,
            callee=about.callee if about else "",
            transfer_target=transfer_target,
            headers=headers if headers is not None else (about.headers if about else {}),
            description=legible(description or (str(error) if error is not None else "")),
            exception=type(error).__name__ if error is not None else "",
            traceback=self._traceback(error),
            amd=amd,
            call_id=about.call_id if about else "",
            sip_code=code if code is not None else (error.code if isinstance(error, SipError) else 0),
            bot_muted=levels.bot_muted,
            listening_paused=levels.listening_paused,
            audio_streams=levels.streams,
        )

    def record(self, status: Status) -> Status:
        """Appends a transition to the history and logs it; returns it as recorded."""
        recorded = self.history.record(status)
        self.chronicle.transition(recorded)
        logger.info(
            "%s %s%s%s",
            recorded.account,
            recorded.type.name,
            f" call {recorded.call_id} with {recorded.callee}" if recorded.call_id else "",
            f": {recorded.description}" if recorded.description else "",
        )
        return recorded

    def refuse(self, type_: StatusType, error: SipError, about: CallIdentity | None = None) -> Status:
        """A refusal that is only returned."""
        return self.history.stamp(self.status(type_, about, error=error))

    def live(self) -> Status:
        """What SipGetSipStatus returns: the newest transition, with the media levels of the ongoing call as of now."""
        status = self.snapshot()
        if self.ongoing is None:
            return status
        levels = self.ongoing.levels
        return replace(
            status,
            bot_muted=levels.bot_muted,
            listening_paused=levels.listening_paused,
            audio_streams=levels.streams,
        )

    def snapshot(self) -> Status:
        """The newest transition, or NO_SESSION before the first."""
        return self.history.current or self._no_outcome()

    def pending(self, outcome: StatusType | None) -> Status:
        """The answer to a request whose deadline comes before any transition of its own: the newest one.

        Unless that says ``outcome``, which an earlier request brought about: then the call as it was answered, or
        that the registration has no outcome yet.
        """
        current = self.snapshot()
        if outcome is None or current.type is not outcome:
            return current
        if self.ongoing is not None:
            return self.history.stamp(self.status(self.ongoing.identity.connected_type, self.ongoing.identity))
        return self._no_outcome()

    def _no_outcome(self) -> Status:
        return self.refuse(
            StatusType.NO_SESSION, AccountNotRegistered(f"The registration of {self.name} has no outcome yet")
        )

    def _traceback(self, error: BaseException | None) -> str:
        if error is None or error.__traceback__ is None or not self.options.tracebacks:
            return ""
        return "".join(traceback.format_exception(error))

    # -- what most requests must check -----------------------------------------------------------------------

    def no_session(self) -> Status | None:
        """The refusal while no session is open; None while one is."""
        if self.session_open:
            return None
        return self.refuse(StatusType.NO_SESSION, NoSession(f"No session is open for {self.name}"))

    def out_of_scope(self, expected_call_id: str | None) -> Status | None:
        """The refusal of a request meant for another call than the ongoing one; None where it fits."""
        error = self.scope_mismatch(expected_call_id)
        if error is None:
            return None
        return self.refuse(StatusType.NO_ONGOING_CALL, error, self.ongoing.identity if self.ongoing else None)

    def scope_mismatch(self, expected_call_id: str | None) -> CallScopeMismatch | None:
        """Why a request is not meant for the ongoing call; None where it fits, or names no call."""
        about = self.ongoing.identity if self.ongoing else None
        if expected_call_id is None or (about is not None and about.call_id == expected_call_id):
            return None
        actual = f"the ongoing call is {about.call_id}" if about else "there is no ongoing call"
        return CallScopeMismatch(f"The request is meant for call {expected_call_id}, but {actual}")

    def connected_call(self, what: str) -> OngoingCall | NoOngoingCall:
        """The connected call, or the error that says why ``what`` cannot be done now."""
        if self.ongoing is None:
            return NoOngoingCall(f"{what}: {self.name} has no ongoing call")
        if not self.ongoing.connected:
            return NoOngoingCall(f"{what}: the call with {self.ongoing.identity.callee} is not connected yet")
        return self.ongoing

    # -- registration ----------------------------------------------------------------------------------------

    def attach(self, registration: Registration) -> None:
        """Follows a new registration instead of the old one: its events and its incoming calls."""
        self.detach()
        self.registration = registration
        registration.screen = self.screen
        self._watchers = [
            asyncio.create_task(self._follow_registration(registration)),
            asyncio.create_task(self._follow_incoming(registration)),
        ]

    def detach(self) -> None:
        """Stops following the registration."""
        for watcher in self._watchers:
            watcher.cancel()
        self._watchers = []
        if self.registration is not None:
            self.registration.screen = lambda _: 480
        self.registration = None
        self.bound = False

    def registration_outcome(self) -> asyncio.Future[Status]:
        """Done with the next REGISTERED or SESSION_REGISTRATION_FAILED that is recorded."""
        outcome: asyncio.Future[Status] = asyncio.get_running_loop().create_future()
        self._registration_outcomes.append(outcome)
        return outcome

    def registered(self) -> Status:
        """Records REGISTERED."""
        self.bound = True
        return self._registration_settled(self.status(StatusType.REGISTERED), Binding(registered=True))

    def registration_failed(self, error: SipError, retry_in: float | None = None) -> Status:
        """Records SESSION_REGISTRATION_FAILED."""
        self.bound = False
        description = str(error)
        failed = Binding(False, error.code, description, type(error).__name__, retry_in)
        if retry_in is not None:
            description += f"; trying again in {retry_in:.0f} s"
        return self._registration_settled(
            self.status(StatusType.SESSION_REGISTRATION_FAILED, description=description, error=error), failed
        )

    def unregistered(self) -> None:
        """The binding was removed at our request, or is not asked for any more."""
        self.bound = False
        self.binding = Unbound()
        self.chronicle.write(self.binding)

    def _registration_settled(self, status: Status, binding: Binding) -> Status:
        recorded = self.record(status)
        self.binding = binding
        self.chronicle.write(binding)
        outcomes, self._registration_outcomes = self._registration_outcomes, []
        for outcome in outcomes:
            if not outcome.done():
                outcome.set_result(recorded)
        return recorded

    async def _follow_registration(self, registration: Registration) -> None:
        async for event in registration.events():
            self._on_registration(event)

    def _on_registration(self, event: RegistrationEvent | Lost) -> None:
        match event:
            case Registered():
                if not self.bound:
                    self.registered()
            case RegistrationFailed(error, retry_in):
                self.registration_failed(error, retry_in)
            case Unregistered():
                self.unregistered()
            case Lost():
                logger.warning("%s: %d registration events were missed", self.name, event.count)

    # -- calls -----------------------------------------------------------------------------------------------

    def screen(self, call: Call) -> int | None:
        """Decides about an INVITE before it rings: 480 without a session, 486 during another call.

        One that takes the place of the ongoing call (RFC 3891: its far end hands us over) is not a second one.
        """
        if not self.session_open:
            return 480
        if self._screened is not None and self._screened.ended is not None:
            self._screened = None
        in_its_place = self.ongoing is not None and call.replaces is self.ongoing.call
        if (self.ongoing is not None and not in_its_place) or self._screened is not None:
            return 486
        self._screened = call  # holds the line until the call is picked up below
        return None

    @property
    def calls(self) -> tuple[OngoingCall, ...]:
        """Those that are not over: the ongoing one, and its consultation."""
        if self.ongoing is None:
            return ()
        return (self.ongoing,) if self.ongoing.consultation is None else (self.ongoing, self.ongoing.consultation)

    @property
    def busy(self) -> bool:
        """Whether a call is ongoing, or an incoming one is about to be."""
        return self.ongoing is not None or (self._screened is not None and self._screened.ended is None)

    async def _follow_incoming(self, registration: Registration) -> None:
        async for call in registration.incoming():
            if self.ongoing is not None:  # the call that this one replaces: its end is recorded first
                await asyncio.wait({self.ongoing.over})
            self._screened = None
            try:
                about = CallIdentity(False, call_id_for({}), call.remote, dict(call.headers))
                ongoing = self.begin(call, about)
            except Exception:
                logger.exception("internal error on %s: dropped a call from %s", self.name, call.remote)
                call.hangup_now(code=500)
            else:
                self.spawn(self._answer(ongoing, self.auto_answer_interval))

    async def _answer(self, ongoing: OngoingCall, interval: int) -> None:
        """Answers an incoming call after ``interval`` seconds of ringing; never, if it is negative."""
        if interval < 0:
            return
        if interval > 0:
            await asyncio.wait({ongoing.over}, timeout=interval)
        if ongoing.over.done() or ongoing.ending:
            return
        try:
            await ongoing.call.answer()
        except SipError as error:
            logger.info("%s: incoming call %s could not be answered: %s", self.name, ongoing.identity.call_id, error)

    def begin(self, call: Call, about: CallIdentity) -> OngoingCall:
        """Makes ``call`` the ongoing one, records *_CALL_INITIATED and follows the call to its end."""
        self.record(self.status(about.initiated_type, about))
        self.ongoing = ongoing = OngoingCall(about, call)
        self.chronicle.follow(self, ongoing)
        self.spawn(self._follow_call(ongoing))
        return ongoing

    async def _follow_call(self, ongoing: OngoingCall) -> None:
        """Records how the call goes on. The only writer of *_CALL_CONNECTED, _FAILED and _FINISHED."""
        error: BaseException | None = None
        try:
            await ongoing.call.connected()
            ongoing.connected = True
            ongoing.answered_us = utc_microseconds()
            connected = self.record(self.status(ongoing.identity.connected_type, ongoing.identity))
            ongoing.settled.set_result(connected)
            await ongoing.call.wait_ended()
        except SipError as failure:
            error = failure
        except Exception as bug:
            logger.exception("internal error on %s: following call %s", self.name, ongoing.identity.call_id)
            ongoing.call.hangup_now()
            error = bug
        finally:
            self._call_over(ongoing, error)

    def _call_over(self, ongoing: OngoingCall, error: BaseException | None) -> None:
        if ongoing.confirm_transfer is not None:
            ongoing.confirm_transfer()
        if self.ongoing is ongoing:
            self.ongoing = None
        if ongoing.consultation is not None and not ongoing.transferring:
            ongoing.consultation.call.hangup_now()
        terminal = self._terminal_status(ongoing, error)
        try:
            terminal = self.record(terminal)
        except IllegalTransition:  # a bug: whoever waits for the end of the call must still get an answer
            logger.exception("internal error on %s", self.name)
            terminal = self.history.stamp(terminal)
        if ongoing.call.ended is not None:
            self.chronicle.over(ongoing)
        ongoing.over.set_result(terminal)
        if not ongoing.settled.done():
            # SipStartCall still waits: it is told that its call failed, also where the terminal transition is
            # *_CALL_FINISHED because SipEndCall asked for it.
            if terminal.type is not ongoing.identity.failed_type:
                cancelled = CallCancelled("The call was given up before the answer", code=487)
                terminal = self.refuse(ongoing.identity.failed_type, cancelled, ongoing.identity)
            ongoing.settled.set_result(terminal)

    def _terminal_status(self, ongoing: OngoingCall, error: BaseException | None) -> Status:
        about, ended = ongoing.identity, ongoing.call.ended
        if ongoing.cancelled:
            error = CallCancelled("The client cancelled the request before the answer", code=487)
            return self.status(about.failed_type, about, error=error, amd=ongoing.amd)
        description = ended.description if ended is not None else ""
        if ongoing.connected or ongoing.ending:
            return self.status(
                about.finished_type,
                about,
                description=ongoing.finished_description(ended) if ended is not None else "",
                error=error if ended is None else None,
                transfer_target=ongoing.transfer_target if ongoing.is_transferred else "",
                amd=ongoing.amd,
            )
        if error is None:
            error = CallCancelled(description)
        code = ended.code if ended is not None and ended.code else None
        return self.status(about.failed_type, about, description=description, error=error, code=code, amd=ongoing.amd)

    # -- tasks -----------------------------------------------------------------------------------------------

    def spawn(self, work: Coroutine[object, object, object]) -> None:
        """Runs work that no request waits for; its exceptions are logged."""
        task = asyncio.create_task(self._supervised(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _supervised(self, work: Coroutine[object, object, object]) -> None:
        try:
            await work
        except SipError as error:
            logger.info("%s: %s", self.name, error)
        except Exception:
            logger.exception("internal error on %s", self.name)

    async def close(self) -> None:
        """Stops following anything. The user agent has ended calls and registration before."""
        self.detach()
        tasks = list(self._tasks)
        if tasks:
            await asyncio.wait(tasks, timeout=0.5)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
