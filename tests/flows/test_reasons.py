"""Why calls end: Reason header fields out and in (RFC 3326)."""

from __future__ import annotations

import pytest

from sipcore.errors import CallRejected
from sipcore.events import EndCause, Party, Reason
from sipcore.protocol.session_events import SessionEnded
from tests.flows.scene import ALICE, BOB, Scene
from tests.kit.raw_peer import SDP_OFFER, RawPeer

CLEARED = 'Q.850;cause=16;text="Normal call clearing"'
URI = "sip:bob@192.0.2.2"


def _answered(scene: Scene) -> tuple[RawPeer, str]:
    """Raw has called Bob, who has answered; Bob's tag."""
    peer = RawPeer(scene.network, ("192.0.2.9", 5060), BOB)
    peer.request("INVITE", URI, body=SDP_OFFER)
    scene.bob.answer(scene.bob.await_call())
    scene.network.run(scene.network.now + 0.1)
    tag = peer.final().to_tag
    peer.request("ACK", URI, branch="ack", to_tag=tag)
    return peer, tag


def test_a_bye_of_ours_says_why() -> None:
    """RFC 6432: normal clearing where nothing else is said."""
    scene = Scene()
    peer, _ = _answered(scene)
    there = scene.bob.incoming[0]
    scene.bob.hang_up(there)
    scene.network.run(scene.network.now + 0.1)
    (bye,) = peer.heard("BYE")
    assert bye.headers.get_all("Reason") == [CLEARED]
    peer.respond(bye, 200)
    assert scene.bob.end_of(there).reasons == (Reason("Q.850", 16, "Normal call clearing"),)


def test_a_bye_of_ours_says_what_it_is_told_to() -> None:
    scene = Scene()
    peer, _ = _answered(scene)
    there = scene.bob.incoming[0]
    there.hang_up(scene.network.now, reasons=(Reason("SIP", 408, "Session timer expired"),))
    scene.network.run(scene.network.now + 0.1)
    assert peer.heard("BYE")[0].headers.get("Reason") == 'SIP;cause=408;text="Session timer expired"'


def test_a_call_that_is_broken_off_says_why_in_its_bye() -> None:
    scene = Scene()
    peer, _ = _answered(scene)
    there = scene.bob.incoming[0]
    reasons = (Reason("SIP", 408, "Media timeout"),)
    there.break_off(SessionEnded(EndCause.SILENCE, Party.LOCAL, 0, "No RTP", None, reasons), scene.network.now)
    scene.network.run(scene.network.now + 0.1)
    assert peer.heard("BYE")[0].headers.get("Reason") == 'SIP;cause=408;text="Media timeout"'


@pytest.mark.parametrize(
    ("line", "reasons", "description"),
    [
        (
            'Reason: Q.850;cause=16;text="Normal call clearing"\n',
            (Reason("Q.850", 16, "Normal call clearing"),),
            "Hung up by sip:raw@192.0.2.9 (Q.850 16 Normal call clearing)",
        ),
        ("Reason: ;;=,\n", (), "Hung up by sip:raw@192.0.2.9"),
        ("", (), "Hung up by sip:raw@192.0.2.9"),
    ],
)
def test_a_bye_of_the_far_end_says_why(line: str, reasons: tuple[Reason, ...], description: str) -> None:
    scene = Scene()
    peer, tag = _answered(scene)
    peer.request("BYE", URI, cseq=2, branch="bye", to_tag=tag, extra=line)
    ended = scene.bob.end_of(scene.bob.incoming[0])
    assert (ended.by, ended.reasons, ended.description) == (Party.REMOTE, reasons, description)


def test_a_cancel_because_another_telephone_took_the_call() -> None:
    """RFC 3326 §3.1."""
    scene = Scene()
    peer = RawPeer(scene.network, ("192.0.2.9", 5060), BOB)
    peer.request("INVITE", URI, body=SDP_OFFER)
    there = scene.bob.await_call()
    peer.request("CANCEL", URI, extra='Reason: SIP ;cause=200 ;text="Call completed elsewhere"\n')
    ended = scene.bob.end_of(there)
    assert (ended.cause, ended.code) == (EndCause.CANCELLED, 487)
    assert ended.reasons == (Reason("SIP", 200, "Call completed elsewhere"),)
    assert ended.description.endswith("before the answer (SIP 200 Call completed elsewhere)")


def test_a_cancel_of_ours_says_why() -> None:
    """Given up, and rung for too long."""
    for patience, line in ((60.0, CLEARED), (5.0, 'Q.850;cause=19;text="No answer from user"')):
        scene = Scene()
        peer = RawPeer(scene.network, ("192.0.2.9", 5060), ALICE)
        here = scene.alice.call("sip:raw@192.0.2.9", ring_timeout=patience)
        scene.network.run(scene.network.now + 0.1)
        peer.respond(peer.heard("INVITE")[0], 180)
        if patience == 60.0:
            scene.alice.hang_up(here)
        scene.network.run(scene.network.now + 6)
        assert peer.heard("CANCEL")[0].headers.get_all("Reason") == [line]


def test_a_refusal_says_what_the_telephone_network_said() -> None:
    """FIELD 21: code, phrase, who, and the Q.850 cause in one sentence, and each for itself."""
    scene = Scene()
    peer = RawPeer(scene.network, ("192.0.2.9", 5060), ALICE)
    here = scene.alice.call("sip:raw@192.0.2.9")
    scene.network.run(scene.network.now + 0.1)
    peer.respond(peer.heard("INVITE")[0], 486, extra='Reason: Q.850;cause=17;text="User busy"\n')
    ended = scene.alice.end_of(here)
    assert (ended.cause, ended.by, ended.code) == (EndCause.REJECTED, Party.REMOTE, 486)
    assert ended.reasons == (Reason("Q.850", 17, "User busy"),)
    assert ended.description == "486 Reason from sip:raw@192.0.2.9 (Q.850 17 User busy)"
    assert isinstance(ended.error, CallRejected)
    assert str(ended.error) == ended.description
