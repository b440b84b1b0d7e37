"""A stack under fire: calls that an attacker has with it, registrations it answers, and one call it knows nothing of.

Virtual time, no sockets. One world is one episode; the same seed gives the same episode.
"""

from __future__ import annotations

import random
import types
from collections import Counter, deque
from typing import TYPE_CHECKING

from sipcore.config import Account
from sipcore.protocol.addresses import parse_callee
from sipcore.protocol.flows import Flow
from sipcore.protocol.framing import FramingError, StreamFramer
from sipcore.protocol.session_events import SessionMediaChanged, SessionReferReceived
from sipcore.protocol.stack import SessionIncoming, SessionOccurred
from tests.flows.scene import ALICE, BOB, Scene
from tests.fuzz.attacker import Attacker

if TYPE_CHECKING:
    from sipcore.protocol.invite_session import InviteSession
    from sipcore.protocol.refer import IncomingRefer

__all__ = ["World", "weight"]

ATTACKERS = (("198.51.100.1", 5060), ("198.51.100.2", 40000))
LONGEST = 2400.0
"""Virtual seconds after which nothing may be left of a world that was told to end."""
REMEMBERED = 12
"""Messages kept to be printed when something goes wrong."""


class World:
    """Alice and Bob of a scene; Bob is the victim."""

    def __init__(self, seed: str) -> None:
        self.rng = random.Random(seed)
        self.scene = Scene(seed=self.rng.getrandbits(32))
        self.stack = self.scene.bob.stack
        self.recent: deque[tuple[str, bytes]] = deque(maxlen=REMEMBERED)
        """What was said to the victim last, and on which transport."""
        self.sessions: list[InviteSession] = []
        """The victim's calls with attackers."""
        self.kinds: Counter[str] = Counter()
        """How many messages of each kind the victim sent to attackers: that something is reached at all."""
        self._refers: deque[tuple[InviteSession, IncomingRefer]] = deque(maxlen=16)
        self._framers: dict[tuple[str, int], StreamFramer] = {}
        victim = f"{BOB[0]}:{BOB[1]}"
        self.attackers = [Attacker(address, victim, self.rng) for address in ATTACKERS]
        for attacker in self.attackers:
            self.scene.network.join(attacker.address, attacker)
        account = Account(f"sip:caller@{ATTACKERS[0][0]}", password="secret", expires=60)
        self.line = self.stack.add_line(account)
        self._held = 0
        self.here, self.there = self._protected_call()

    @property
    def now(self) -> float:
        """Virtual time."""
        return self.scene.network.now

    # -- a call that nobody may touch ------------------------------------------------------------------------------

    def _protected_call(self) -> tuple[InviteSession, InviteSession]:
        here = self.scene.alice.call("sip:bob@192.0.2.2")
        there: list[InviteSession] = []

        def arrived() -> bool:
            there.extend(self._handle_events(protect=here.call_id))
            return bool(there)

        self.scene.network.run_until(arrived, limit=60)
        self.scene.network.run(self.now + 1)
        assert here.connected, "a call of a third party does not come about"
        assert there[0].connected, "a call of a third party does not come about"
        return here, there[0]

    def check(self) -> None:
        """The protected call can be held and resumed, ended, and made anew."""
        for direction in ("sendonly", "sendrecv"):
            self._held = 0
            self.here.reoffer.offer(direction, self.now)
            self.scene.network.run(self.now + 2)
            self._handle_events()
            assert self._held, f"the far end does not hear of {direction}"
        assert self.here.connected, "the call of a third party was lost"
        assert self.there.connected, "the call of a third party was lost"
        self.scene.alice.hang_up(self.here)
        self.scene.network.run(self.now + 2)
        assert not self.there.connected, "a BYE was not heard"
        self.here, self.there = self._protected_call()

    # -- the attack ------------------------------------------------------------------------------------------------

    def step(self) -> None:
        """One message, or one thing that the victim's program does, and a little time."""
        rng = self.rng
        if rng.random() < 0.06:
            self._program_acts()
        else:
            self._attack(rng.choice(self.attackers))
        self.scene.network.flush()
        self._handle_events()
        pause = rng.choice((0.0, 0.0, 0.001, 0.02, 0.3, rng.expovariate(0.5)))
        if rng.random() < 0.003:
            pause = 40.0
        self.scene.network.run(self.now + pause)
        self._handle_events()
        self._forget_packets()

    def _attack(self, attacker: Attacker) -> None:
        rng = self.rng
        data = attacker.next_message()
        remote = attacker.address if rng.random() < 0.95 else rng.choice((ALICE, ("203.0.113.1", 1024)))
        if rng.random() < 0.85:
            self.recent.append(("udp", data))
            self.stack.receive(data, Flow("udp", BOB, remote, advertised=BOB), self.now)
            return
        flow = Flow("tcp", BOB, remote, 7, advertised=BOB)
        self.recent.append(("tcp", data))
        framer = self._framers.setdefault(remote, StreamFramer())
        if rng.random() < 0.5:  # what the segment before left open would swallow it
            framer = self._framers[remote] = StreamFramer()
        try:
            items = framer.feed(data)
        except FramingError as error:
            del self._framers[remote]
            items = [*error.complete, error.head] if error.head else error.complete
        assert framer.pending < 200_000, "a framer holds on to too much"
        for item in items:
            if isinstance(item, bytes):
                self.stack.receive(item, flow, self.now)
        if remote not in self._framers or rng.random() < 0.05:
            self.stack.flow_closed(flow, "closed by the peer", self.now)

    def _program_acts(self) -> None:
        """What an application may do at any time."""
        rng, now = self.rng, self.now
        match rng.randrange(7):
            case 0:
                host, port = rng.choice(ATTACKERS)
                uri = parse_callee(f"sip:attack@{host}:{port}", self.line.address)
                session = self.stack.invite(
                    self.line, uri, headers=(), media_port=41000, ring_timeout=rng.choice((5.0, 60.0)), now=now
                )
                self.sessions.append(session)
            case 1 if self.line.registrar is None:
                self.stack.register(self.line, now)
            case 2 if self.line.registrar is not None:
                self.line.registrar.refresh(now)
            case 3 if self._refers:
                session, refer = self._refers.popleft()
                if session.connected and rng.random() < 0.6:
                    session.refers.accept(refer, now)
                    session.refers.notify(refer, 200, "OK", now)
                else:
                    session.refers.refuse(refer, 603, now)
            case _:
                self._use_a_call()

    def _use_a_call(self) -> None:
        rng, now = self.rng, self.now
        up = [session for session in self.sessions if session.connected or session.setting_up]
        if not up:
            return
        session = rng.choice(up)
        if not session.connected:
            if rng.random() < 0.3:
                session.hang_up(now, code=rng.choice((480, 486, 603)))
            return
        match rng.randrange(4):
            case 0:
                session.hang_up(now)
            case 1:
                session.reoffer.offer(rng.choice(("sendonly", "sendrecv", "inactive")), now)
            case 2:
                session.refers.refer("sip:carol@192.0.2.3", (), now)
            case _:
                session.in_dialog.send("INFO", "application/dtmf-relay", b"Signal=1\r\n", (), now)

    def _handle_events(self, protect: str = "") -> list[InviteSession]:
        """Plays the victim's program: rings, answers, refuses, or forgets about a call.

        Returns:
            The session whose Call-ID is ``protect``.
        """
        found = []
        for node in (self.scene.alice.node, self.scene.bob.node):
            events, node.events = node.events, []
            for event in events:
                match event:
                    case SessionIncoming() if event.session.call_id == protect:
                        self._answer(event.session)
                        found.append(event.session)
                    case SessionIncoming():
                        self._meet(event.session)
                    case SessionOccurred(session, SessionReferReceived() as received) if session in self.sessions:
                        self._refers.append((session, received.refer))
                    case SessionOccurred(session, SessionMediaChanged()) if node is self.scene.bob.node:
                        self._held += session is self.there
                    case _:
                        pass
        self.sessions = [session for session in self.sessions if session.connected or session.setting_up]
        self.scene.network.flush()
        return found

    def _meet(self, session: InviteSession) -> None:
        self.sessions.append(session)
        fate = self.rng.random()
        if fate < 0.6:
            self._answer(session)
        elif fate < 0.7 and session.callee is not None:
            session.callee.ring(42000, self.now)
        elif fate < 0.85:
            session.hang_up(self.now, code=486)

    def _answer(self, session: InviteSession) -> None:
        if session.callee is not None and session.callee.ring(42000, self.now):
            session.callee.answer(self.now)

    def _forget_packets(self) -> None:
        packets = self.scene.network.packets
        for packet in packets:
            if packet.flow.local == BOB and packet.flow.remote[0].startswith("198."):
                self.kinds[packet.start_line.partition(" ")[0] if packet.start_line[:3] != "SIP" else "SIP"] += 1
        packets.clear()

    # -- the end ---------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Everything is told to end; then nothing may be left."""
        self.check()
        self.scene.alice.hang_up(self.here)
        for session in tuple(self.stack._dialogs.values()):
            session.hang_up(self.now)
        for session in self.sessions:
            session.hang_up(self.now)
        if self.line.registrar is not None:
            self.line.registrar.abandon(self.now)
        self.stack.remove_line(self.line)
        end = self.now + LONGEST
        while not (self.stack.idle and self.scene.alice.stack.idle) and self.now < end:
            self.scene.network.run(self.now + 20)
            self._handle_events()
            self._forget_packets()
        assert self.scene.alice.stack.idle, "something is left at the third party"
        assert self.stack.idle, f"something is left: {_leftovers(self.stack)}"


def _leftovers(stack: object) -> str:
    held = {name: value for name, value in vars(stack).items() if isinstance(value, dict) and value}
    layer = vars(stack)["layer"]
    return f"{held} {layer._clients} {layer._servers} {stack.next_deadline()}"  # type: ignore[attr-defined]


def weight(root: object) -> int:
    """How many objects hang on ``root``: what an idle stack still holds on to."""
    import gc

    skipped = (types.ModuleType, types.FunctionType, types.BuiltinFunctionType, types.CodeType, type)
    seen = {id(root)}
    waiting = [root]
    while waiting:
        for thing in gc.get_referents(waiting.pop()):
            if id(thing) not in seen and not isinstance(thing, skipped):
                seen.add(id(thing))
                waiting.append(thing)
    return len(seen)
