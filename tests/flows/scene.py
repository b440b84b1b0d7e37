"""Two user agents on a network in virtual time."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, TypeVar

from sipcore.config import Account, CallPolicy, UserAgentConfig
from sipcore.protocol.addresses import parse_callee
from sipcore.protocol.session_events import SessionEnded, SessionEvent
from sipcore.protocol.stack import RegistrationOccurred, SessionIncoming, SessionOccurred, Stack
from sipcore.protocol.wire import parse_message
from tests.kit.network import Conditions, Network, StackNode

if TYPE_CHECKING:
    from sipcore.events import RegistrationEvent
    from sipcore.protocol.invite_session import InviteSession
    from sipcore.protocol.line import Line
    from sipcore.protocol.message import Message

__all__ = ["ALICE", "BOB", "Phone", "Scene"]

ALICE = ("192.0.2.1", 5060)
BOB = ("192.0.2.2", 5060)
E = TypeVar("E", bound=SessionEvent)


class Phone:
    """One stack with one line, and what happened to it."""

    def __init__(
        self,
        scene: Scene,
        name: str,
        address: tuple[str, int],
        *,
        password: str = "",
        calls: CallPolicy | None = None,
    ) -> None:
        self._scene = scene
        self.address = address
        self.stack = Stack(UserAgentConfig(), rng=random.Random(f"{name}{scene.seed}"), user_agent="test")
        self.node: StackNode = scene.network.add_stack(address, self.stack)
        self.line: Line = self.stack.add_line(
            Account(f"sip:{name}@{address[0]}", password=password, calls=calls or CallPolicy())
        )

    def call(
        self, to: str, *, ring_timeout: float = 60.0, headers: tuple[tuple[str, str], ...] = (), delayed: bool = False
    ) -> InviteSession:
        """Places a call."""
        session = self.stack.invite(
            self.line,
            parse_callee(to, self.line.address),
            headers=headers,
            media_port=40000,
            ring_timeout=ring_timeout,
            delayed_offer=delayed,
            now=self._scene.network.now,
        )
        self._scene.network.flush()
        return session

    @property
    def incoming(self) -> list[InviteSession]:
        """Sessions that INVITEs have opened here, oldest first."""
        return [event.session for event in self.node.events if isinstance(event, SessionIncoming)]

    def await_call(self, number: int = 1) -> InviteSession:
        """Lets time pass until the ``number``-th call has arrived; rings it."""
        self._scene.network.run_until(lambda: len(self.incoming) >= number)
        session = self.incoming[number - 1]
        assert session.callee is not None
        session.callee.ring(40002, self._scene.network.now)
        self._scene.network.flush()
        return session

    def answer(self, session: InviteSession) -> None:
        """Answers a ringing call."""
        assert session.callee is not None
        session.callee.answer(self._scene.network.now)
        self._scene.network.flush()

    def hang_up(self, session: InviteSession) -> None:
        """Ends a call."""
        session.hang_up(self._scene.network.now)
        self._scene.network.flush()

    def happened(self, session: InviteSession, kind: type[E]) -> list[E]:
        """Events of one kind in a session."""
        return [
            event.event
            for event in self.node.events
            if isinstance(event, SessionOccurred) and event.session is session and isinstance(event.event, kind)
        ]

    def end_of(self, session: InviteSession) -> SessionEnded:
        """Lets time pass until the session is over; its last event."""
        self._scene.network.run_until(lambda: bool(self.happened(session, SessionEnded)))
        (ended,) = self.happened(session, SessionEnded)
        return ended

    @property
    def registrations(self) -> list[RegistrationEvent]:
        """What happened to the registration."""
        return [event.event for event in self.node.events if isinstance(event, RegistrationOccurred)]


class Scene:
    """A network with Alice and Bob."""

    def __init__(
        self,
        *,
        seed: int = 1,
        conditions: Conditions | None = None,
        password: str = "",
        alice: CallPolicy | None = None,
        bob: CallPolicy | None = None,
    ) -> None:
        self.seed = seed
        self.network = Network(random.Random(seed), conditions)
        self.alice = Phone(self, "alice", ALICE, password=password, calls=alice)
        self.bob = Phone(self, "bob", BOB, calls=bob)

    def sent(self, start: str, *, by: tuple[str, int] | None = None) -> int:
        """How many packets begin with ``start`` so far."""
        return sum(
            packet.start_line.startswith(start) and (by is None or packet.flow.local == by)
            for packet in self.network.packets
        )

    def messages(self, start: str, *, by: tuple[str, int] | None = None) -> list[Message]:
        """The packets that :meth:`sent` counts, parsed, oldest first."""
        return [
            parse_message(packet.data)
            for packet in self.network.packets
            if packet.start_line.startswith(start) and (by is None or packet.flow.local == by)
        ]

    def connect(self) -> tuple[InviteSession, InviteSession]:
        """Alice calls Bob, who answers; both sides of the call."""
        here = self.alice.call("sip:bob@192.0.2.2")
        there = self.bob.await_call()
        self.answer_and_settle(there)
        return here, there

    def answer_and_settle(self, there: InviteSession) -> None:
        """Bob answers, and the ACK arrives."""
        self.bob.answer(there)
        self.network.run_until(lambda: there.answers.pending is None)

    def settle(self) -> None:
        """Lets every transaction run out; nothing may be left on either side."""
        self.network.run(self.network.now + 120)
        for phone in (self.alice, self.bob):
            assert phone.stack.idle, f"left behind at {phone.address}: {phone.stack!r}"
