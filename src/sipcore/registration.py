"""An account as an embedder holds it: its registration, and the calls placed and taken with it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from sipcore.broadcast import Broadcast
from sipcore.call import Call
from sipcore.errors import AccountNotRegistered, CallError, SipError
from sipcore.events import (
    Capabilities,
    MessageReceived,
    Registered,
    RegistrationEvent,
    RegistrationFailed,
    Unregistered,
)
from sipcore.protocol.identity import ACCOUNT_ITSELF, Caller
from sipcore.requests import check_body, check_headers, require_success

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from sipcore.broadcast import Subscription
    from sipcore.config import Account
    from sipcore.protocol.addresses import AccountAddress
    from sipcore.protocol.invite_session import InviteSession
    from sipcore.protocol.line import Line
    from sipcore.runtime import Runtime

__all__ = ["Registration"]

log = logging.getLogger(__name__)

MAX_WAITING_CALLS = 64
"""Incoming calls that ring for :meth:`Registration.incoming` and were not fetched yet; more get 486."""
KEPT_MESSAGES = 64
"""MESSAGEs kept for late readers, and for each reader that is slow."""
UNREGISTER_PATIENCE = 2.0
"""Seconds to wait for the answer to an un-REGISTER."""


class Registration:
    """One account of a user agent. Made by ``UserAgent.register``, ``add_account`` or ``open_line``."""

    def __init__(self, runtime: Runtime, line: Line) -> None:
        self._runtime = runtime
        self._line = line
        self.last_error: SipError | None = None
        """Why the newest REGISTER failed; None while all is well."""
        self.screen: Callable[[Call], int | None] | None = None
        """Called for each INVITE before it rings; a status code (300-699) refuses the call, None lets it ring."""
        self._calls: set[Call] = set()
        self._events: Broadcast[RegistrationEvent] = Broadcast()
        self._messages: Broadcast[MessageReceived] = Broadcast(history=KEPT_MESSAGES, buffer=KEPT_MESSAGES)
        self._incoming: asyncio.Queue[Call | None] = asyncio.Queue()
        self._registered = False
        self._closed = False
        self._warned_of_keys = False
        self._outcome = asyncio.Event()
        self._unbound = asyncio.Event()
        self._gone = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Registration {self._line.address.aor} {'registered' if self.registered else 'not registered'}>"

    # -- what it is ------------------------------------------------------------------------------------------------

    @property
    def account(self) -> Account:
        """The account."""
        return self._line.account

    @property
    def address(self) -> AccountAddress:
        """Its parsed address."""
        return self._line.address

    @property
    def registered(self) -> bool:
        """Whether the registrar holds our binding."""
        return self._registered

    @property
    def calls(self) -> tuple[Call, ...]:
        """Calls that are not over."""
        return tuple(self._calls)

    @property
    def line(self) -> Line:
        """The account inside the protocol core."""
        return self._line

    def events(self, *, replay: bool = True) -> Subscription[RegistrationEvent]:
        """Changes of the registration, from the first one kept if ``replay``; ends when the account is removed."""
        return self._events.subscribe(replay=replay)

    def on_keys(self, transport: str) -> None:
        """Keys of SRTP went over this transport. Said once: what TLS does not protect, encryption hides from few."""
        if transport != "tls" and not self._warned_of_keys:
            self._warned_of_keys = True
            log.warning(
                "%s: the keys of SRTP go over %s in the clear: whoever reads the signalling can read the audio."
                " Use transport=tls",
                self._line.address.text,
                transport.upper(),
            )

    # -- registering -----------------------------------------------------------------------------------------------

    async def wait_registered(self) -> None:
        """Waits for the outcome of the registration that is under way, if it is not registered already.

        Raises:
            AuthenticationFailed, RegistrationRejected, RegistrationTimeout, ServerUnreachable: it failed; the agent
                goes on trying.
        """
        await self._outcome.wait()
        if not self._registered and self.last_error is not None:
            raise self.last_error

    async def refresh(self) -> None:
        """Registers now instead of when it is due, and waits for the outcome; see :meth:`wait_registered`."""
        registrar = self._line.registrar
        if registrar is None or self._closed:
            raise AccountNotRegistered(f"{self._line.address.text} is not registered")
        self._outcome.clear()
        self._registered = False
        registrar.refresh(self._runtime.now())
        self._runtime.pump()
        await self.wait_registered()

    async def unregister(self) -> None:
        """Ends the calls, removes the binding (expires 0) and the account. Returns when the registrar has answered or
        has not for two seconds; idempotent. Cancelled, it does not wait, and the account is removed all the same."""
        if self._closed:
            await self._gone.wait()
            return
        try:
            self.leave()
            self._runtime.pump()
            async with asyncio.timeout(UNREGISTER_PATIENCE):
                await self._unbound.wait()
        except TimeoutError:
            log.info("no answer to the un-REGISTER of %s", self._line.address.text)
        finally:
            self.remove()

    # -- told by the user agent that is closed, with all its accounts ----------------------------------------------

    def leave(self) -> None:
        """Ends the calls and asks the registrar to remove the binding; nothing is sent before the next pump."""
        self._closed = True
        for call in self.calls:
            call.hangup_now()
        registrar = self._line.registrar
        if registrar is not None:
            registrar.stop(self._runtime.now())
        else:
            self._unbound.set()

    async def left(self) -> None:
        """The registrar has answered."""
        await self._unbound.wait()

    def remove(self) -> None:
        """Removes the account, whatever the registrar knows of it. Idempotent."""
        if self._gone.is_set():
            return
        self._closed = True
        self._runtime.forget_registration(self)
        self._registered = False
        self._incoming.put_nowait(None)
        self._events.close()
        self._messages.close()
        self._gone.set()

    # -- told by the protocol core ---------------------------------------------------------------------------------

    def on_event(self, event: RegistrationEvent) -> None:
        """Told by the user agent: the registration changed."""
        match event:
            case Registered():
                self._registered = True
                self.last_error = None
                self._outcome.set()
            case RegistrationFailed(error, _):
                self._registered = False
                self.last_error = error
                self._outcome.set()
            case Unregistered():
                self._registered = False
                self._unbound.set()
        self._events.publish(event)

    # -- messages and questions ------------------------------------------------------------------------------------

    async def send_message(
        self,
        to: str,
        text: str | bytes,
        content_type: str = "text/plain",
        *,
        headers: Mapping[str, str] | None = None,
    ) -> int:
        """Sends a MESSAGE (RFC 3428) and waits until it was taken; returns the 2xx status code.

        Args:
            to: a URI, ``user@host[:port]``, or a bare user or number at the account's own domain.
            text: at most 1,300 bytes.
            content_type: its media type.
            headers: extension headers.

        Raises:
            InvalidAddress, InvalidHeader, InvalidRequest: nothing was sent.
            AccountNotRegistered: the account was removed.
            RequestRejected, RequestTimeout, AuthenticationFailed, ServerUnreachable: it did not get through.
        """
        uri = self._runtime.resolve_callee(to, self, field="to")
        checked, extra = check_body(text, content_type), check_headers(headers)
        self._require_open()
        exchange = self._runtime.stack.standalone.send(
            self._line,
            "MESSAGE",
            uri,
            headers=extra,
            body=checked,
            content_type=content_type,
            now=self._runtime.now(),
        )
        self._runtime.pump()
        response = await self._runtime.outcome(exchange)
        require_success(response, exchange)
        return response.status

    def messages(self, *, replay: bool = True) -> Subscription[MessageReceived]:
        """Messages for this account outside of calls, from the oldest kept (of 64) if ``replay``; any number of
        readers. They are answered with 200 when they arrive."""
        return self._messages.subscribe(replay=replay)

    def on_message(self, message: MessageReceived) -> None:
        """Told by the user agent: a MESSAGE for this account arrived."""
        self._messages.publish(message)

    async def probe(self, to: str = "") -> Capabilities:
        """Asks by OPTIONS who is there and what it can do (RFC 3261 §11). Any final response is an answer.

        Args:
            to: as for :meth:`send_message`; empty: the account's own server.

        Raises:
            InvalidAddress: nothing was sent.
            AccountNotRegistered: the account was removed.
            RequestTimeout, ServerUnreachable: nobody answered.
        """
        uri = self._runtime.resolve_callee(to, self, field="to") if to else self._line.address.registrar
        self._require_open()
        exchange = self._runtime.stack.standalone.send(
            self._line,
            "OPTIONS",
            uri,
            headers=(("Accept", "application/sdp"),),
            contact=True,
            now=self._runtime.now(),
        )
        self._runtime.pump()
        response = await self._runtime.outcome(exchange)
        return Capabilities(
            code=response.status,
            reason=response.reason,
            methods=response.list_of("Allow"),
            extensions=response.list_of("Supported"),
            content_types=response.list_of("Accept"),
        )

    def _require_open(self) -> None:
        if self._closed:
            raise AccountNotRegistered(f"{self._line.address.text} was removed")

    # -- calls -----------------------------------------------------------------------------------------------------

    def place(
        self,
        to: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        caller: Caller = ACCOUNT_ITSELF,
        delayed_offer: bool = False,
    ) -> Call:
        """Sends an INVITE and returns at once; :meth:`Call.connected` waits for the answer.

        Args:
            to: a URI, ``user@host[:port]``, or a bare user or number at the account's own domain.
            headers: extension headers of the INVITE; they win over the account's of the same name.
            timeout: seconds it may ring; default the agent's ``ring_timeout``.
            caller: who the call is from, where it is not who the account says.
            delayed_offer: the INVITE says nothing of media; the far end offers, and this side answers (RFC 3264 §5).

        Raises:
            InvalidAddress, InvalidHeader, InvalidRequest: nothing was sent.
            AtCapacity: the agent has no room for another call, or no RTP port.
        """
        uri = self._runtime.resolve_callee(to, self, field="callee_id")
        extra = check_headers(headers)
        self._require_open()
        self._runtime.require_room()
        media = self._runtime.open_media()
        session = self._runtime.stack.invite(
            self._line,
            uri,
            headers=extra,
            media_port=media.port,
            ring_timeout=self._runtime.config.ring_timeout if timeout is None else timeout,
            caller=caller,
            delayed_offer=delayed_offer,
            now=self._runtime.now(),
        )
        call = Call(self._runtime, self, session)
        call.attach(media)
        self._calls.add(call)
        self._runtime.adopt(call)
        self._runtime.pump()
        return call

    async def call(
        self,
        to: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        from_user: str | None = None,
        display_name: str | None = None,
        privacy: Sequence[str] | None = None,
        anonymous: bool | None = None,
    ) -> Call:
        """Places a call and waits for the answer. Cancelling the wait cancels the call.

        Args:
            to: see :meth:`place`.
            headers: see :meth:`place`.
            timeout: see :meth:`place`.
            from_user: instead of the account's, like those that follow.
            display_name: of From.
            privacy: tokens of RFC 3323.
            anonymous: whether From hides who calls.

        Raises:
            InvalidAddress, InvalidHeader, InvalidRequest: nothing was sent.
            CallRejected, CallTimeout, CallCancelled, MediaNotAcceptable, AuthenticationFailed, ServerUnreachable:
                no call came of it; ``code`` is the SIP status code.
        """
        tokens = None if privacy is None else tuple(privacy)
        caller = Caller(from_user=from_user, display_name=display_name, privacy=tokens, anonymous=anonymous)
        call = self.place(to, headers=headers, timeout=timeout, caller=caller)
        try:
            await call.connected()
        except asyncio.CancelledError:
            call.hangup_now()
            raise
        return call

    async def incoming(self) -> AsyncIterator[Call]:
        """Calls that ring here, as they arrive, until the account is removed. Each goes to one reader."""
        while (call := await self._incoming.get()) is not None:
            if call.ended is None:
                yield call
        self._incoming.put_nowait(None)

    def on_incoming(self, session: InviteSession) -> None:
        """Told by the user agent: an INVITE for this account arrived. Screens it, and lets it ring."""
        now = self._runtime.now()
        call = Call(self._runtime, self, session)
        self._calls.add(call)
        self._runtime.adopt(call)
        # Its call may have ended just now, after the stack has found its dialog.
        refusal = 603 if session.replaces is not None and call.replaces is None else self._screened(call)
        if refusal is None and self._incoming.qsize() >= MAX_WAITING_CALLS:
            refusal = 486
        if refusal is not None:
            session.hang_up(now, code=refusal)
            return
        try:
            media = self._runtime.open_media()
        except CallError as error:
            log.warning("refused a call from %s: %s", session.peer, error)
            session.hang_up(now, code=503)
            return
        call.attach(media)
        assert session.callee is not None
        if session.callee.ring(media.port, now):
            call.on_ringing()
            if call.replaces is not None:
                session.callee.answer(now)
                call.replaces.on_replaced(call)
            self._incoming.put_nowait(call)

    def _screened(self, call: Call) -> int | None:
        if self._closed:
            return 404
        if self.screen is None:
            return None
        try:
            return self.screen(call)
        except Exception:
            log.exception("screening a call from %s failed; refused", call.remote)
            return 500

    def on_call_over(self, call: Call) -> None:
        """Told by the user agent: a call of this account is over."""
        self._calls.discard(call)
