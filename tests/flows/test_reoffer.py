"""Offers inside a dialog (RFC 3261 §14, RFC 3311, RFC 3264 §8)."""

from __future__ import annotations

from sipcore.events import EndCause, Party
from sipcore.protocol.invite_session import SessionState
from sipcore.protocol.session_events import SessionMediaChanged, SessionOfferSettled
from tests.flows.scene import ALICE, BOB, Scene
from tests.kit.network import Conditions
from tests.kit.raw_peer import SDP_OFFER, RawPeer


def test_hold_and_resume() -> None:
    """RFC 3264 §8.4: sendonly is answered recvonly, and the far end knows that it is held."""
    scene = Scene()
    here, there = scene.connect()
    here.reoffer.offer("sendonly", scene.network.now)
    scene.network.run(scene.network.now + 1)
    (held,) = scene.bob.happened(there, SessionMediaChanged)
    assert (held.media.remote_hold, held.media.send, held.media.receive) == (True, False, True)
    (holding,) = scene.alice.happened(here, SessionMediaChanged)
    assert (holding.media.send, holding.media.receive) == (True, False)
    here.reoffer.offer("sendrecv", scene.network.now)
    scene.network.run(scene.network.now + 1)
    resumed = scene.bob.happened(there, SessionMediaChanged)[-1]
    assert (resumed.media.remote_hold, resumed.media.send, resumed.media.receive) == (False, True, True)
    assert scene.sent("ACK", by=ALICE) == 3
    scene.alice.hang_up(here)
    scene.alice.end_of(here)
    scene.settle()


def test_the_callee_may_offer_too() -> None:
    scene = Scene()
    here, there = scene.connect()
    there.reoffer.offer("sendonly", scene.network.now)
    scene.network.run(scene.network.now + 1)
    (held,) = scene.alice.happened(here, SessionMediaChanged)
    assert held.media.remote_hold
    scene.bob.hang_up(there)
    scene.bob.end_of(there)
    scene.settle()


def test_offers_that_collide_are_both_made_in_the_end() -> None:
    """§14.1: 491 both ways, then random waits that differ by who owns the Call-ID."""
    scene = Scene(conditions=Conditions(delay=(0.05, 0.05)))
    here, there = scene.connect()
    here.reoffer.offer("sendonly", scene.network.now)
    there.reoffer.offer("sendonly", scene.network.now)
    scene.network.run(scene.network.now + 10)
    assert scene.sent("SIP/2.0 491") == 2
    assert scene.bob.happened(there, SessionMediaChanged)
    assert scene.alice.happened(here, SessionMediaChanged)
    assert here.state is there.state is SessionState.CONNECTED
    scene.alice.hang_up(here)
    scene.alice.end_of(here)
    scene.settle()


def test_a_reinvite_to_a_far_end_that_forgot_the_call_ends_it() -> None:
    """§14.1 with §12.2.1.2: 481 means that the dialog is gone."""
    scene = Scene()
    here, there = scene.connect()
    dialog_id = there.dialog_id()
    assert dialog_id is not None
    scene.bob.stack.remove_dialog(dialog_id)
    here.reoffer.offer("sendonly", scene.network.now)
    ended = scene.alice.end_of(here)
    assert (ended.cause, ended.by, ended.code) == (EndCause.HANGUP, Party.REMOTE, 481)
    assert ended.description.startswith("481 ")
    assert "to our re-INVITE from sip:bob@192.0.2.2: the far end knows no such call any more" in ended.description


def test_a_reinvite_that_a_proxy_gives_up_ends_the_call() -> None:
    """§14.1 with §12.2.1.2: 408 says that nobody answers there; whoever asked for the offer hears of it, too."""
    scene = Scene()
    peer = RawPeer(scene.network, ("192.0.2.9", 5060), ALICE)
    here = scene.alice.call("sip:raw@192.0.2.9")
    scene.network.run(scene.network.now + 0.05)
    peer.respond(peer.heard("INVITE")[0], 200, body=SDP_OFFER)
    here.reoffer.offer("sendonly", scene.network.now)
    scene.network.run(scene.network.now + 0.05)
    peer.respond(peer.heard("INVITE")[-1], 408)
    ended = scene.alice.end_of(here)
    assert (ended.cause, ended.by, ended.code) == (EndCause.TIMEOUT, Party.NETWORK, 408)
    assert "to our re-INVITE from sip:raw@192.0.2.9: the far end is not reached any more" in ended.description
    (settled,) = scene.alice.happened(here, SessionOfferSettled)
    assert settled.error is not None
    assert settled.error.code == 408


def test_a_refused_offer_changes_nothing() -> None:
    """§14.1: the session goes on as if the re-INVITE had never been sent."""
    scene = Scene()
    here, there = scene.connect()
    assert there.offer_answer is not None
    before = there.offer_answer.current
    there.context.codecs = ()
    scene.bob.stack.codecs = ()
    there.offer_answer._codecs = ()
    here.reoffer.offer("sendonly", scene.network.now)
    scene.network.run(scene.network.now + 2)
    assert scene.sent("SIP/2.0 488", by=BOB) == 1
    assert there.offer_answer.current is before
    assert here.state is SessionState.CONNECTED
    scene.alice.hang_up(here)
    scene.alice.end_of(here)
    scene.settle()
