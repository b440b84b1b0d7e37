"""A stack with one account against a scripted registrar, in virtual time."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from sipcore.config import Account, UserAgentConfig
from sipcore.errors import SipError
from sipcore.events import RegistrationEvent, RegistrationFailed
from sipcore.protocol.builder import make_response
from sipcore.protocol.digest_server import DigestVerifier, Verdict
from sipcore.protocol.registrar_client import RegistrarClient
from sipcore.protocol.stack import RegistrationOccurred, Stack
from sipcore.protocol.wire import Request, Response, parse_message, serialize
from tests.kit.network import Conditions, Network

if TYPE_CHECKING:
    from sipcore.protocol.flows import Flow

__all__ = [
    "PASSWORD",
    "SERVER",
    "Answer",
    "Desk",
    "Headers",
    "ScriptedRegistrar",
    "always",
    "bound",
    "guarded",
    "reply",
    "seen_from",
]

HERE = ("192.0.2.1", 5060)
SERVER = ("192.0.2.53", 5060)
PASSWORD = "wonderland"
Headers = tuple[tuple[str, str], ...]
Answer = Callable[[Request, float], "Response | None"]


class ScriptedRegistrar:
    """Answers REGISTER with what ``answer`` makes of it; retransmissions get the same again."""

    def __init__(self, network: Network, answer: Answer) -> None:
        self.answer = answer
        self.network = network
        self.registers: list[tuple[float, Request]] = []
        """Each transaction once."""
        self._answered: dict[str, bytes | None] = {}
        self._outbox: list[tuple[Flow, bytes]] = []
        network.join(SERVER, self)

    def receive(self, data: bytes, flow: Flow, now: float) -> None:
        """See :class:`~tests.kit.network.Node`."""
        request = parse_message(data)
        assert isinstance(request, Request)
        assert request.method == "REGISTER"
        branch = request.via.branch
        if branch not in self._answered:
            self.registers.append((now, request))
            response = self.answer(request, now)
            self._answered[branch] = None if response is None else serialize(response)
        sent = self._answered[branch]
        if sent is not None:
            self._outbox.append((flow, sent))

    def say_later(self, response: Response, delay: float) -> None:
        """Sends a response on its own, after ``delay`` seconds."""
        flow = Network.flow(SERVER, HERE)
        self.network.call_at(self.network.now + delay, lambda now: self._outbox.append((flow, serialize(response))))

    def handle_timer(self, now: float) -> None:
        """See :class:`~tests.kit.network.Node`."""

    def next_deadline(self) -> float | None:
        """See :class:`~tests.kit.network.Node`."""
        return None

    def flow_closed(self, flow: Flow, detail: str, now: float) -> None:
        """See :class:`~tests.kit.network.Node`."""

    def transmits(self) -> list[tuple[Flow, bytes]]:
        """See :class:`~tests.kit.network.Node`."""
        sent = self._outbox.copy()
        self._outbox.clear()
        return sent


def reply(request: Request, status: int, *headers: tuple[str, str], reason: str = "") -> Response:
    """A response of the registrar."""
    return make_response(request, status, reason, to_tag="r", headers=headers)


def bound(request: Request, expires: int | None = None) -> Response:
    """§10.3 step 8: 200 with the binding and what is left of it; what was asked for where ``expires`` is None."""
    granted = int(request.headers.get("Expires") or "0") if expires is None else expires
    contact = request.headers.get("Contact")
    assert contact is not None
    return reply(request, 200, *((("Contact", f"{contact};expires={granted}"),) if granted else ()))


def seen_from(request: Request, *headers: tuple[str, str], place: tuple[str, int] = ("203.0.113.7", 1024)) -> Response:
    """200 of a registrar that saw the request come from ``place`` (RFC 3581)."""
    response = reply(request, 200, *headers)
    response.stamp_via(received=place[0], rport=place[1])
    return response


def always(status: int, *headers: tuple[str, str]) -> Answer:
    """A registrar that knows one answer."""
    return lambda request, now: reply(request, status, *headers)


def guarded(password: str = PASSWORD, *, proxy: bool = False, seed: int = 5) -> Answer:
    """A registrar that asks for a password."""
    verifier = DigestVerifier("example.com", {"alice": password}.get, random.Random(seed))
    name = "Proxy-Authorization" if proxy else "Authorization"

    def answer(request: Request, now: float) -> Response:
        outcome = verifier.verify(request, name, now=now).outcome
        if outcome is Verdict.OK:
            return bound(request)
        challenges = verifier.challenge(now, stale=outcome is Verdict.STALE)
        return reply(
            request,
            407 if proxy else 401,
            *(("Proxy-Authenticate" if proxy else "WWW-Authenticate", value) for value in challenges),
        )

    return answer


class Desk:
    """A stack with one account, and what its registration said."""

    def __init__(self, answer: Answer = lambda request, now: bound(request), *, account: Account | None = None) -> None:
        self.network = Network(random.Random(1), Conditions(delay=(0.01, 0.01)))
        self.registrar = ScriptedRegistrar(self.network, answer)
        self.stack = Stack(UserAgentConfig(), rng=random.Random(2), user_agent="test")
        self.node = self.network.add_stack(HERE, self.stack)
        self.line = self.stack.add_line(account or Account(f"alice@{SERVER[0]}", password=PASSWORD))

    @property
    def client(self) -> RegistrarClient:
        """The machine under test."""
        assert self.line.registrar is not None
        return self.line.registrar

    def register(self) -> Desk:
        """Starts, and waits for the first outcome."""
        self.stack.register(self.line, self.network.now)
        self.network.run_until(lambda: bool(self.events))
        return self

    def tell(self, what: Callable[[float], None]) -> None:
        """Calls a method of the client now."""
        what(self.network.now)
        self.network.flush()

    def run(self, seconds: float) -> None:
        """Lets time pass."""
        self.network.run(self.network.now + seconds)

    @property
    def events(self) -> list[RegistrationEvent]:
        """What happened so far."""
        return [each.event for each in self.node.events if isinstance(each, RegistrationOccurred)]

    @property
    def failure(self) -> SipError:
        """The error of the newest event, which is a failure."""
        event = self.events[-1]
        assert isinstance(event, RegistrationFailed)
        return event.error

    @property
    def requests(self) -> list[Request]:
        """REGISTER requests that reached the registrar."""
        return [request for _, request in self.registrar.registers]

    @property
    def times(self) -> list[float]:
        """When they did."""
        return [at for at, _ in self.registrar.registers]
