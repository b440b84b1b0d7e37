"""A wish at every instant of a call: after each packet of it, on either side (RFC 3261 §9, §15, RFC 5407)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sipcore.protocol.invite_session import InviteSession, SessionState
from sipcore.protocol.session_events import SessionEnded, SessionEstablished, SessionReferReceived
from tests.flows.scene import Phone, Scene
from tests.kit.network import Conditions

INSTANTS = 19
"""The script below takes 18 packets when nobody interferes."""


def _hang_up(scene: Scene, phone: Phone, session: InviteSession) -> None:
    session.hang_up(scene.network.now)


def _hang_up_twice(scene: Scene, phone: Phone, session: InviteSession) -> None:
    session.hang_up(scene.network.now, code=486)
    session.hang_up(scene.network.now)


def _hold_and_hang_up(scene: Scene, phone: Phone, session: InviteSession) -> None:
    if session.connected:
        session.reoffer.offer("sendonly", scene.network.now)
    session.hang_up(scene.network.now)


def _refer_and_hang_up(scene: Scene, phone: Phone, session: InviteSession) -> None:
    if session.connected:
        session.refers.refer("sip:carol@192.0.2.3", (), scene.network.now)
    session.hang_up(scene.network.now)


def _hold(scene: Scene, phone: Phone, session: InviteSession) -> None:
    if session.connected:
        session.reoffer.offer("sendonly", scene.network.now)


def _answer(scene: Scene, phone: Phone, session: InviteSession) -> None:
    if session.callee is not None:
        session.callee.answer(scene.network.now)


def _hang_up_both(scene: Scene, phone: Phone, session: InviteSession) -> None:
    session.hang_up(scene.network.now)
    for other in (scene.alice, scene.bob):
        for incoming in other.incoming:
            incoming.hang_up(scene.network.now)


WISHES: dict[str, Callable[[Scene, Phone, InviteSession], None]] = {
    "hang up": _hang_up,
    "hang up twice": _hang_up_twice,
    "hang up on both sides": _hang_up_both,
    "hold, then hang up": _hold_and_hang_up,
    "transfer, then hang up": _refer_and_hang_up,
    "hold": _hold,
    "answer": _answer,
}


class Script:
    """Alice calls Bob, who rings and answers; she holds, resumes and transfers, he hangs up."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self.here: InviteSession | None = None
        self._done: set[str] = set()

    @property
    def there(self) -> InviteSession | None:
        """Bob's side, once he knows of it."""
        return self._scene.bob.incoming[0] if self._scene.bob.incoming else None

    def _once(self, name: str) -> bool:
        fresh = name not in self._done
        self._done.add(name)
        return fresh

    def step(self) -> None:
        """Does what is next, as far as the call has come."""
        now = self._scene.network.now
        here, there = self.here, self.there
        if here is None:
            self.here = self._scene.alice.call("sip:bob@192.0.2.2")
            return
        if there is None:
            return
        assert there.callee is not None
        if self._once("ring"):
            there.callee.ring(40002, now)
        if now > 0.2 and self._once("answer"):
            there.callee.answer(now)
        if here.connected and now > 0.4 and self._once("hold"):
            here.reoffer.offer("sendonly", now)
        if here.connected and now > 0.6 and self._once("resume"):
            here.reoffer.offer("sendrecv", now)
        if here.connected and now > 0.8 and self._once("refer"):
            here.refers.refer("sip:carol@192.0.2.3", (), now)
        for event in self._scene.bob.happened(there, SessionReferReceived):
            if there.connected:
                there.refers.accept(event.refer, now)
            if now > 1.2:
                there.refers.notify(event.refer, 200, "OK", now)
        if now > 1.6 and self._once("hang up"):
            there.hang_up(now)

    def run(self, until: Callable[[], bool]) -> None:
        """In steps of 10 ms, so that a wish falls between any two packets."""
        while not until() and self._scene.network.now < 120:
            self.step()
            self._scene.network.run(self._scene.network.now + 0.01)


def _check(scene: Scene, script: Script) -> None:
    for phone, session in ((scene.alice, script.here), (scene.bob, script.there)):
        if session is None:
            continue
        assert session.state is SessionState.ENDED, phone.address
        assert len(phone.happened(session, SessionEnded)) == 1
        assert len(phone.happened(session, SessionEstablished)) <= 1
    scene.settle()


@pytest.mark.parametrize("instant", range(INSTANTS))
@pytest.mark.parametrize("side", ["alice", "bob"])
@pytest.mark.parametrize("wish", WISHES)
def test_a_wish_at_any_instant_leaves_nothing_behind(wish: str, side: str, instant: int) -> None:
    """Both sides end, each says so once, and no transaction, dialog or deadline stays."""
    scene = Scene(conditions=Conditions(delay=(0.02, 0.02)))
    script = Script(scene)
    script.run(lambda: len(scene.network.packets) >= instant)
    phone = scene.alice if side == "alice" else scene.bob
    session = script.here if side == "alice" else script.there
    if session is not None:
        WISHES[wish](scene, phone, session)
        scene.network.flush()
    script.run(
        lambda: all(each is not None and each.state is SessionState.ENDED for each in (script.here, script.there))
    )
    _check(scene, script)
