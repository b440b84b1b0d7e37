"""Requests that stand for themselves, as an embedder sends them: INFO, MESSAGE, OPTIONS."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

from sipcore.errors import (
    AuthenticationFailed,
    InvalidRequest,
    NoOngoingCall,
    RequestRejected,
    RequestTimeout,
    ServerUnreachable,
)
from sipcore.protocol.builder import check_extension_headers
from sipcore.protocol.info import DTMF, DTMF_RELAY, dtmf_body, dtmf_relay_body

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sipcore.errors import SipError
    from sipcore.protocol.exchange import Exchange
    from sipcore.protocol.invite_session import InviteSession
    from sipcore.protocol.reoffer import Direction, Offer
    from sipcore.protocol.wire import Response
    from sipcore.runtime import Runtime

__all__ = ["MAX_MESSAGE_BYTES", "CallRequests", "Outcomes", "check_body", "check_headers", "require_success"]

MAX_MESSAGE_BYTES = 1300
"""A longer body is not sent (RFC 3428 §8): it belongs into a session of its own."""
KEY_PAUSE = 0.05
"""Seconds between two keys sent by INFO."""

_MEDIA_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+\-]+/[A-Za-z0-9!#$&^_.+\-]+(?:;[^\r\n\0]*)?\Z")


class Outcomes:
    """Who waits for which exchange."""

    def __init__(self) -> None:
        self._waiting: dict[Exchange, asyncio.Future[Response]] = {}
        self._closed = False

    async def wait(self, exchange: Exchange) -> Response:
        """Waits for the final response, whatever its status.

        Raises:
            RequestTimeout: none came within timer F.
            ServerUnreachable: it could not be sent.
        """
        future: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self._waiting[exchange] = future
        try:
            if exchange.response is not None or exchange.failure is not None:
                self.settle(exchange)
            elif self._closed:
                raise ServerUnreachable("The user agent was closed")
            return await future
        finally:
            self._waiting.pop(exchange, None)

    def settle(self, exchange: Exchange) -> None:
        """Told by the user agent: the exchange is over."""
        future = self._waiting.get(exchange)
        if future is None or future.done():
            return
        if exchange.response is not None:
            future.set_result(exchange.response)
        elif exchange.failure is not None:
            future.set_exception(_error_of(exchange))

    def close(self) -> None:
        """Nobody will answer any more."""
        self._closed = True
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(ServerUnreachable("The user agent was closed"))


def _error_of(exchange: Exchange) -> SipError:
    assert exchange.failure is not None
    sentence = f"{exchange.failure.detail} ({exchange.peer})"
    if exchange.failure.kind == "timeout":
        return RequestTimeout(sentence, code=408)
    return ServerUnreachable(sentence, code=503)


def require_success(response: Response, exchange: Exchange) -> None:
    """Raises unless the response is a 2xx.

    Raises:
        AuthenticationFailed: a challenge that the account's credentials do not meet.
        RequestRejected: any other final response; ``code`` is its status.
    """
    if response.status < 300:
        return
    sentence = f"{exchange.method} refused: {response.status} {response.reason} from {exchange.peer}"
    if response.status in (401, 407):
        raise AuthenticationFailed(sentence, code=response.status)
    raise RequestRejected(sentence, code=response.status)


def check_body(body: str | bytes, content_type: str) -> bytes:
    """A body as it is sent.

    Raises:
        InvalidRequest: it is too long, or ``content_type`` is no media type.
    """
    if not _MEDIA_TYPE.match(content_type):
        raise InvalidRequest(f"content_type: {content_type!r} is no media type", field="content_type")
    encoded = body.encode() if isinstance(body, str) else bytes(body)
    if len(encoded) > MAX_MESSAGE_BYTES:
        limit = f"at most {MAX_MESSAGE_BYTES} are sent (RFC 3428 §8)"
        raise InvalidRequest(f"body: {len(encoded)} bytes, {limit}", field="body")
    return encoded


def check_headers(headers: Mapping[str, str] | None) -> tuple[tuple[str, str], ...]:
    """Extension headers of a request.

    Raises:
        InvalidHeader: one may not be sent.
    """
    extra = dict(headers or {})
    check_extension_headers(extra)
    return tuple(extra.items())


class CallRequests:
    """INFO, MESSAGE and offers inside one call."""

    def __init__(self, runtime: Runtime, session: InviteSession) -> None:
        self._runtime = runtime
        self._session = session
        self._offers: dict[Offer, asyncio.Future[SipError | None]] = {}
        self._asked_at = 0.0

    def look_for_life(self, quiet: float, patience: float) -> None:
        """Asks a far end that has sent no media for ``patience`` seconds whether it is there, once in that time."""
        now = self._runtime.now()
        if quiet >= patience and now - self._asked_at >= patience:
            self._asked_at = now
            self._session.in_dialog.ask_for_life(now)
            self._runtime.pump()

    async def offer(self, direction: Direction) -> None:
        """Offers another direction of the media and waits until the far end has agreed.

        Raises:
            HoldRejected, NoOngoingCall: it has not, or the call ended meanwhile.
        """
        offer = self._session.reoffer.offer(direction, self._runtime.now())
        settled: asyncio.Future[SipError | None] = asyncio.get_running_loop().create_future()
        self._offers[offer] = settled
        self._runtime.pump()
        error = await settled
        if error is not None:
            raise error

    def on_offer_settled(self, offer: Offer, error: SipError | None) -> None:
        """Told by the call: the far end has answered, or the session has ended."""
        settled = self._offers.pop(offer, None)
        if settled is not None and not settled.done():
            settled.set_result(error)

    def on_call_ended(self) -> None:
        """Told by the call: no offer will be answered any more."""
        for offer in tuple(self._offers):
            self.on_offer_settled(offer, NoOngoingCall(f"The call with {self._session.peer} ended meanwhile"))

    async def send(self, method: str, content_type: str, body: bytes, headers: tuple[tuple[str, str], ...]) -> int:
        """Sends one and waits for its 2xx; see :func:`require_success` and :meth:`Outcomes.wait`."""
        response, exchange = await self._exchange(method, content_type, body, headers)
        require_success(response, exchange)
        return response.status

    async def _exchange(
        self, method: str, content_type: str, body: bytes, headers: tuple[tuple[str, str], ...] = ()
    ) -> tuple[Response, Exchange]:
        if not self._session.connected:
            raise NoOngoingCall(f"The call with {self._session.peer} is not connected")
        exchange = self._session.in_dialog.send(method, content_type, body, headers, self._runtime.now())
        self._runtime.pump()
        return await self._runtime.outcome(exchange), exchange

    async def send_keys(self, keys: str, milliseconds: int) -> None:
        """Sends each key by INFO, once the one before was answered; bare where the far end refuses dtmf-relay."""
        bare = False
        for position, key in enumerate(keys):
            if position:
                await asyncio.sleep(milliseconds / 1000 + KEY_PAUSE)
            if not bare:
                response, exchange = await self._exchange("INFO", DTMF_RELAY, dtmf_relay_body(key, milliseconds))
                bare = response.status == 415
            if bare:
                response, exchange = await self._exchange("INFO", DTMF, dtmf_body(key))
            require_success(response, exchange)
