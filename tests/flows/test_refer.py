"""Transfers (RFC 3515)."""

from __future__ import annotations

import pytest

from sipcore.protocol.refer import IncomingRefer, OutgoingRefer, ReferState, parse_sipfrag
from sipcore.protocol.session_events import (
    SessionReferAnswered,
    SessionReferFailed,
    SessionReferNotified,
    SessionReferReceived,
)
from tests.flows.scene import BOB, Scene


def _refer(scene: Scene) -> tuple[OutgoingRefer, IncomingRefer]:
    here, there = scene.connect()
    outgoing = here.refers.refer("sip:carol@192.0.2.3", (("X-Why", "because"),), scene.network.now)
    scene.network.run_until(lambda: bool(scene.bob.happened(there, SessionReferReceived)))
    (received,) = scene.bob.happened(there, SessionReferReceived)
    return outgoing, received.refer


def test_an_accepted_refer_reports_how_the_new_call_goes() -> None:
    """202, NOTIFY 100 at once, then what the transferee says (§2.4.4-5)."""
    scene = Scene()
    outgoing, incoming = _refer(scene)
    here, there = next(iter(scene.alice.stack._dialogs.values())), scene.bob.incoming[0]
    assert incoming.target == "sip:carol@192.0.2.3"
    assert incoming.request.headers.get("X-Why") == "because"
    there.refers.accept(incoming, scene.network.now)
    scene.network.run(scene.network.now + 1)
    (answered,) = scene.alice.happened(here, SessionReferAnswered)
    assert (answered.refer, answered.code) == (outgoing, 202)
    there.refers.notify(incoming, 200, "OK", scene.network.now)
    scene.network.run(scene.network.now + 1)
    codes = [event.fragment.status for event in scene.alice.happened(here, SessionReferNotified) if event.fragment]
    assert codes == [100, 200]
    assert outgoing.state is ReferState.FINISHED
    scene.alice.hang_up(here)
    scene.alice.end_of(here)
    scene.settle()


def test_a_refused_refer_leaves_the_call() -> None:
    scene = Scene()
    outgoing, incoming = _refer(scene)
    here, there = next(iter(scene.alice.stack._dialogs.values())), scene.bob.incoming[0]
    there.refers.refuse(incoming, 603, scene.network.now)
    scene.network.run(scene.network.now + 1)
    (answered,) = scene.alice.happened(here, SessionReferAnswered)
    assert answered.code == 603
    assert outgoing.state is ReferState.REFUSED
    scene.alice.hang_up(here)
    scene.alice.end_of(here)
    scene.settle()


def test_a_refer_that_nobody_answers_times_out() -> None:
    """Timer F (RFC 3261 §17.1.2.2)."""
    scene = Scene()
    here, _ = scene.connect()
    scene.network.leave(BOB)
    here.refers.refer("sip:carol@192.0.2.3", (), scene.network.now)
    scene.network.run_until(lambda: bool(scene.alice.happened(here, SessionReferFailed)))
    (failed,) = scene.alice.happened(here, SessionReferFailed)
    assert failed.timeout
    assert failed.detail == "No answer to REFER"


def test_notify_after_the_bye_is_still_taken() -> None:
    """RFC 5057 §4.2: the subscription outlives the INVITE usage."""
    scene = Scene()
    _, incoming = _refer(scene)
    here, there = next(iter(scene.alice.stack._dialogs.values())), scene.bob.incoming[0]
    there.refers.accept(incoming, scene.network.now)
    scene.network.run(scene.network.now + 1)
    scene.alice.hang_up(here)
    scene.alice.end_of(here)
    there.refers.notify(incoming, 200, "OK", scene.network.now)
    scene.network.run(scene.network.now + 1)
    assert scene.sent("SIP/2.0 481") == 0
    scene.settle()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"SIP/2.0 200 OK\r\n", 200),
        (b"SIP/2.0 404 Not Found", 404),
        (b"\r\nSIP/2.0 100 Trying\nVia: x", 100),
        (b"SIP/2.0 99", None),
        (b"HTTP/1.1 200 OK", None),
        (b"", None),
        (b"\xff\xfe", None),
    ],
)
def test_sipfrag(body: bytes, status: int | None) -> None:
    """RFC 3420; garbage is no status."""
    fragment = parse_sipfrag(body)
    assert (fragment.status if fragment else None) == status
