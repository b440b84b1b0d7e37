"""Random calls over a bad network: whatever both sides wish and whenever, nothing is left of it in the end."""

from __future__ import annotations

import random

import pytest

from sipcore.protocol.invite_session import InviteSession, SessionState
from sipcore.protocol.session_events import SessionEnded, SessionEstablished, SessionReferReceived
from tests.flows.scene import Phone, Scene
from tests.kit.network import Conditions

SCRIPTS = 150
SECONDS = 40.0
"""How long a script goes on; then both sides hang up."""
QUIET = 120.0
"""Seconds after which everything must be idle: the longest chain is 2xx, BYE and its own 64*T1 after a CANCEL's."""
LINES = ("sip:bob@192.0.2.2", "sip:nobody@192.0.2.2", "sip:bob@192.0.2.77")


class _Chance:
    """Does random things at random times with the calls of one phone."""

    def __init__(self, scene: Scene, phone: Phone, rng: random.Random) -> None:
        self._scene = scene
        self.phone = phone
        self._rng = rng
        self.placed: list[InviteSession] = []

    @property
    def sessions(self) -> list[InviteSession]:
        return [*self.placed, *self.phone.incoming]

    def act(self) -> None:
        now = self._scene.network.now
        if self._rng.random() < 0.3 and len(self.placed) < 5:
            line = self._rng.choice(LINES) if self.phone is self._scene.alice else "sip:alice@192.0.2.1"
            self.placed.append(self.phone.call(line, ring_timeout=self._rng.choice([0.1, 2, 60])))
        if not self.sessions:
            return
        session = self._rng.choice(self.sessions)
        match self._rng.randrange(9):
            case 0:
                session.hang_up(now, code=self._rng.choice([486, 603]))
            case 1 | 2 if session.callee is not None:
                session.callee.ring(40002, now)
            case 3 | 4 if session.callee is not None:
                session.callee.answer(now)
            case 5 if session.connected:
                session.reoffer.offer(self._rng.choice(["sendonly", "sendrecv", "inactive"]), now)
            case 6 if session.connected:
                session.refers.refer("sip:carol@192.0.2.3", (), now, subscribe=self._rng.random() < 0.7)
            case 7 if session.connected:
                session.in_dialog.send(self._rng.choice(["INFO", "MESSAGE"]), "text/plain", b"hello", (), now)
            case _:
                self._decide_refers(session, now)
        self._scene.network.flush()

    def _decide_refers(self, session: InviteSession, now: float) -> None:
        for event in self.phone.happened(session, SessionReferReceived):
            match self._rng.randrange(4):
                case 0:
                    session.refers.accept(event.refer, now)
                case 1:
                    session.refers.refuse(event.refer, 603, now)
                case _:
                    session.refers.notify(event.refer, self._rng.choice([100, 180, 200, 486]), "Reason", now)

    def hang_up_all(self) -> None:
        for session in self.sessions:
            session.hang_up(self._scene.network.now)
        self._scene.network.flush()


@pytest.mark.parametrize("seed", range(SCRIPTS))
def test_after_any_script_everything_is_idle(seed: int) -> None:
    """No transaction, dialog, call or deadline outlives its call; each session ends once and is established once."""
    rng = random.Random(seed)
    conditions = Conditions(
        delay=(0.005, rng.choice([0.005, 0.2, 1.0])),
        loss=rng.choice([0.0, 0.1, 0.3]),
        duplication=rng.choice([0.0, 0.2]),
    )
    scene = Scene(seed=seed, conditions=conditions)
    both = [_Chance(scene, phone, rng) for phone in (scene.alice, scene.bob)]
    while scene.network.now < SECONDS:
        scene.network.run(scene.network.now + rng.choice([0.01, 0.1, 0.5, 3.0]))
        rng.choice(both).act()
    if rng.random() < 0.2:
        scene.network.drop = lambda packet: True
    for _ in range(10):
        # Again and again: what was on its way still arrives.
        for chance in both:
            chance.hang_up_all()
        scene.network.run(scene.network.now + 0.5)
    scene.network.run(scene.network.now + QUIET)
    for chance in both:
        assert chance.phone.stack.idle, f"left behind at {chance.phone.address}"
        for session in chance.sessions:
            assert session.state is SessionState.ENDED
            assert len(chance.phone.happened(session, SessionEnded)) == 1
            assert len(chance.phone.happened(session, SessionEstablished)) <= 1
