"""The next server of a name (RFC 3263 §4.3), in virtual time."""

from __future__ import annotations

import random

import pytest

from sipcore.config import Account, UserAgentConfig
from sipcore.errors import RegistrationRejected, RegistrationTimeout, ServerUnreachable
from sipcore.events import Registered, RegistrationEvent, RegistrationFailed
from sipcore.protocol.builder import make_response
from sipcore.protocol.flows import Flow
from sipcore.protocol.stack import RegistrationOccurred, Stack
from sipcore.protocol.wire import Request, parse_message, serialize
from tests.kit.network import Address, Network, StackNode

FIRST, SECOND = ("192.0.2.11", 5060), ("192.0.2.12", 5060)
CHALLENGE = ("WWW-Authenticate", 'Digest realm="example.com", nonce="n1", qop="auth", algorithm=MD5')


class Server:
    """Answers every request with one status, challenges first where it is told to, or says nothing at all."""

    def __init__(self, status: int, *, challenge: bool = False, headers: tuple[tuple[str, str], ...] = ()) -> None:
        self._status, self._challenge, self._headers = status, challenge, headers
        self.requests: list[Request] = []
        self._outbox: list[tuple[Flow, bytes]] = []

    def receive(self, data: bytes, flow: Flow, now: float) -> None:
        message = parse_message(data)
        if not isinstance(message, Request) or message.method == "ACK":
            return
        self.requests.append(message)
        if self._challenge and message.headers.get("Authorization") is None:
            self._outbox.append((flow, serialize(make_response(message, 401, to_tag="t", headers=(CHALLENGE,)))))
        elif self._status:
            answer = make_response(message, self._status, to_tag="t", headers=self._headers)
            self._outbox.append((flow, serialize(answer)))

    def handle_timer(self, now: float) -> None:
        """It has none."""

    def next_deadline(self) -> float | None:
        return None

    def flow_closed(self, flow: Flow, detail: str, now: float) -> None:
        """It does not care."""

    def transmits(self) -> list[tuple[Flow, bytes]]:
        drained, self._outbox = self._outbox, []
        return drained


class World:
    """An account of example.com, which has two servers."""

    def __init__(self, first: Server | None, second: Server | None) -> None:
        self.network = Network(random.Random(1))
        self.network.servers["example.com"] = [FIRST, SECOND]
        for address, server in ((FIRST, first), (SECOND, second)):
            if server is None:
                self.network.refusing.add(address)
            else:
                self.network.join(address, server)
        self.stack = Stack(UserAgentConfig(), rng=random.Random(1), user_agent="test")
        self.node: StackNode = self.network.add_stack(("192.0.2.1", 5060), self.stack)
        self.line = self.stack.add_line(Account("alice@example.com", password="secret"))

    def register(self) -> RegistrationEvent:
        """Its outcome."""
        self.stack.register(self.line, self.network.now)
        self.network.run_until(lambda: bool(self.outcomes))
        return self.outcomes[0]

    @property
    def outcomes(self) -> list[RegistrationEvent]:
        return [event.event for event in self.node.events if isinstance(event, RegistrationOccurred)]

    def asked(self, address: Address) -> int:
        return sum(packet.flow.remote == address for packet in self.network.packets)


@pytest.mark.parametrize(("first", "after"), [(Server(503), 1.0), (None, 1.0), (Server(0), 33.0)])
def test_a_server_that_is_busy_refusing_or_silent_is_followed_by_the_next(first: Server | None, after: float) -> None:
    """503, ICMP, and timer F: there is no shorter time-out in the RFCs than 64 T1."""
    second = Server(200)
    world = World(first, second)
    assert isinstance(world.register(), Registered)
    assert world.network.now <= after
    assert world.asked(FIRST) >= 1
    (request,) = second.requests
    earlier = parse_message(next(packet.data for packet in world.network.packets if packet.flow.remote == FIRST))
    assert isinstance(earlier, Request)
    assert (request.call_id, request.cseq, request.from_tag) == (earlier.call_id, earlier.cseq, earlier.from_tag)
    assert request.via.branch != earlier.via.branch


def test_other_failures_are_answers() -> None:
    """A 500 is the server's last word."""
    second = Server(200)
    event = World(Server(500), second).register()
    assert isinstance(event, RegistrationFailed)
    assert event.error.code == 500
    assert second.requests == []


@pytest.mark.parametrize(
    ("first", "second", "error", "code"),
    [
        (Server(503), Server(503), RegistrationRejected, 503),
        (None, None, ServerUnreachable, 503),
        (Server(503), Server(0), RegistrationTimeout, 408),
    ],
)
def test_the_last_server_has_the_last_word(
    first: Server | None, second: Server | None, error: type[Exception], code: int
) -> None:
    event = World(first, second).register()
    assert isinstance(event, RegistrationFailed)
    assert isinstance(event.error, error)
    assert event.error.code == code


def test_a_challenge_and_its_answer_stay_on_one_server() -> None:
    """A nonce is its server's own."""
    first, second = Server(503), Server(200, challenge=True)
    world = World(first, second)
    assert isinstance(world.register(), Registered)
    plain, signed = second.requests
    assert signed.headers.get("Authorization") is not None
    assert signed.cseq.number == plain.cseq.number + 1
    assert len(first.requests) == 1


def test_refreshes_stay_on_the_server_that_holds_the_binding() -> None:
    first, second = Server(503), Server(200, headers=(("Expires", "60"),))
    world = World(first, second)
    world.register()
    world.network.run(world.network.now + 200)
    assert len(second.requests) >= 3
    assert len(first.requests) == 1


def test_what_rings_already_is_not_sent_elsewhere() -> None:
    """A provisional response, then silence: the call may be ringing there."""
    first, second = Server(180), Server(200)
    world = World(first, second)
    session = world.stack.invite(
        world.line, world.line.address.aor, headers=(), media_port=4000, ring_timeout=60, now=0.0
    )
    world.network.run(200)
    assert not session.setting_up
    assert second.requests == []


def test_a_cancelled_call_goes_nowhere_else() -> None:
    first, second = Server(0), Server(200)
    world = World(first, second)
    session = world.stack.invite(
        world.line, world.line.address.aor, headers=(), media_port=4000, ring_timeout=60, now=0.0
    )
    world.network.run(5)
    session.hang_up(world.network.now)
    world.network.run(200)
    assert second.requests == []
    assert world.stack.idle
