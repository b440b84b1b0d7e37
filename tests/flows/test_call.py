"""Calls from INVITE to BYE between two stacks (RFC 3261 §12-15; flows of RFC 3665 §3)."""

from __future__ import annotations

import pytest

from sipcore.errors import CallCancelled, CallRejected, CallTimeout, MediaNotAcceptable, ServerUnreachable
from sipcore.events import EndCause, Party
from sipcore.protocol.invite_session import SessionState
from sipcore.protocol.session_events import SessionEstablished, SessionProvisional
from tests.flows.scene import ALICE, BOB, Scene
from tests.kit.network import Conditions


def test_a_call_is_set_up_talks_and_is_hung_up_by_the_caller() -> None:
    """RFC 3665 §3.1 with the caller's BYE."""
    scene = Scene()
    here, there = scene.connect()
    (established,) = scene.alice.happened(here, SessionEstablished)
    assert (established.media.codec, established.media.remote_port) == ("PCMU", 40002)
    (other,) = scene.bob.happened(there, SessionEstablished)
    assert (other.media.codec, other.media.remote_port) == ("PCMU", 40000)
    assert [event.code for event in scene.alice.happened(here, SessionProvisional)] == [180]
    scene.alice.hang_up(here)
    assert here.state is SessionState.ENDING
    ended = scene.alice.end_of(here)
    assert (ended.cause, ended.by, ended.code, ended.error) == (EndCause.HANGUP, Party.LOCAL, 200, None)
    assert scene.bob.end_of(there).by is Party.REMOTE
    scene.settle()


def test_the_callee_hangs_up() -> None:
    """BYE against the direction of the INVITE takes the route set the other way (§12.2.1.1)."""
    scene = Scene()
    here, there = scene.connect()
    scene.bob.hang_up(there)
    ended = scene.alice.end_of(here)
    assert (ended.cause, ended.by) == (EndCause.HANGUP, Party.REMOTE)
    assert ended.description == "Hung up by sip:bob@192.0.2.2 (Q.850 16 Normal call clearing)"
    scene.settle()


def test_both_hang_up_at_once() -> None:
    """Crossing BYEs are both answered 200 (§15.1.2)."""
    scene = Scene()
    here, there = scene.connect()
    scene.alice.hang_up(here)
    scene.bob.hang_up(there)
    scene.alice.end_of(here)
    scene.bob.end_of(there)
    assert scene.sent("BYE") == 2
    assert scene.sent("SIP/2.0 481") == 0
    scene.settle()


@pytest.mark.parametrize("code", [302, 404, 480, 486, 503, 600, 603])
def test_a_refused_call_says_who_refused_it_and_how(code: int) -> None:
    """§13.2.2.2-3."""
    scene = Scene()
    here = scene.alice.call("sip:bob@192.0.2.2")
    there = scene.bob.await_call()
    there.hang_up(scene.network.now, code=code)
    ended = scene.alice.end_of(here)
    assert (ended.cause, ended.by, ended.code) == (EndCause.REJECTED, Party.REMOTE, code)
    assert isinstance(ended.error, CallRejected)
    assert ended.error.code == code
    assert ended.description.startswith(f"{code} ")
    assert ended.description.endswith(" from sip:bob@192.0.2.2")
    scene.settle()


def test_a_call_to_nobody_gets_404() -> None:
    scene = Scene()
    here = scene.alice.call("sip:carol@192.0.2.2")
    assert scene.alice.end_of(here).code == 404
    scene.settle()


def test_nobody_answers_within_the_ring_time() -> None:
    """The caller's own patience: CANCEL, and the far end hears 487 (§9.1)."""
    scene = Scene()
    here = scene.alice.call("sip:bob@192.0.2.2", ring_timeout=5)
    there = scene.bob.await_call()
    ended = scene.alice.end_of(here)
    assert isinstance(ended.error, CallTimeout)
    assert (ended.cause, ended.by, ended.code) == (EndCause.TIMEOUT, Party.LOCAL, 408)
    assert ended.description == "No answer from sip:bob@192.0.2.2 within 5 s"
    assert scene.bob.end_of(there).cause is EndCause.CANCELLED
    assert 5.0 <= scene.network.now < 6.0
    scene.settle()


def test_a_dead_server_is_reported_after_timer_b() -> None:
    """§17.1.1.2: 64 x T1; seven transmissions."""
    scene = Scene()
    scene.network.leave(BOB)
    here = scene.alice.call("sip:bob@192.0.2.2")
    ended = scene.alice.end_of(here)
    assert isinstance(ended.error, CallTimeout)
    assert (ended.cause, ended.by, ended.code) == (EndCause.TIMEOUT, Party.NETWORK, 408)
    assert scene.network.now == pytest.approx(32.0)
    assert scene.sent("INVITE") == 7


def test_a_refused_port_is_reported_at_once() -> None:
    """§8.1.3.1: a transport error counts as 503."""
    scene = Scene()
    scene.network.refusing.add(BOB)
    here = scene.alice.call("sip:bob@192.0.2.2")
    ended = scene.alice.end_of(here)
    assert isinstance(ended.error, ServerUnreachable)
    assert (ended.cause, ended.code) == (EndCause.UNREACHABLE, 503)
    assert scene.network.now < 1


def test_the_caller_gives_up_while_it_rings() -> None:
    scene = Scene()
    here = scene.alice.call("sip:bob@192.0.2.2")
    there = scene.bob.await_call()
    scene.network.run(scene.network.now + 1)
    scene.alice.hang_up(here)
    ended = scene.alice.end_of(here)
    assert isinstance(ended.error, CallCancelled)
    assert (ended.cause, ended.by, ended.code) == (EndCause.CANCELLED, Party.LOCAL, 487)
    assert scene.bob.end_of(there).by is Party.REMOTE
    scene.settle()


def test_cancel_waits_for_a_provisional_response() -> None:
    """§9.1: nothing is cancelled that the far end has not confirmed to know."""
    scene = Scene()
    here = scene.alice.call("sip:bob@192.0.2.2")
    scene.alice.hang_up(here)
    assert scene.sent("CANCEL") == 0
    scene.bob.await_call()
    scene.alice.end_of(here)
    assert scene.sent("CANCEL") >= 1
    scene.settle()


def test_200_crosses_the_cancel() -> None:
    """§15, RFC 3665 §3.9's race: the 2xx is ACKed and the dialog hung up with BYE."""
    scene = Scene(conditions=Conditions(delay=(0.1, 0.1)))
    here = scene.alice.call("sip:bob@192.0.2.2")
    there = scene.bob.await_call()
    scene.network.run(scene.network.now + 1)
    scene.alice.hang_up(here)
    scene.bob.answer(there)
    ended = scene.alice.end_of(here)
    assert ended.cause is EndCause.CANCELLED
    assert scene.bob.end_of(there).cause is EndCause.HANGUP
    assert scene.sent("ACK", by=ALICE) == 1
    assert scene.sent("BYE", by=ALICE) == 1
    scene.settle()


def test_a_lost_ack_is_sent_again_for_each_copy_of_the_200() -> None:
    """§13.2.2.4 and §13.3.1.4."""
    scene = Scene()
    lost: list[str] = []

    def first_two_acks(packet: object) -> bool:
        line = getattr(packet, "start_line")  # noqa: B009 - Packet
        if line.startswith("ACK") and len(lost) < 2:
            lost.append(line)
            return True
        return False

    scene.network.drop = first_two_acks
    here, there = scene.connect()
    assert scene.sent("ACK") == 3
    assert here.state is there.state is SessionState.CONNECTED
    scene.alice.hang_up(here)
    scene.alice.end_of(here)
    scene.settle()


def test_an_ack_that_never_comes_ends_the_call() -> None:
    """§13.3.1.4: after 64 x T1 the callee sends BYE."""
    scene = Scene()
    scene.network.drop = lambda packet: packet.start_line.startswith("ACK")
    scene.alice.call("sip:bob@192.0.2.2")
    there = scene.bob.await_call()
    scene.bob.answer(there)
    ended = scene.bob.end_of(there)
    assert (ended.cause, ended.code) == (EndCause.TIMEOUT, 408)
    assert ended.description == "No ACK from sip:alice@192.0.2.1"
    assert scene.sent("BYE", by=BOB) >= 1
    # T1, 2 T1, 4 T1, then every T2 until 64 T1: 11 transmissions (§13.3.1.4).
    assert scene.sent("SIP/2.0 200 OK", by=BOB) >= 10


def test_a_callee_that_hangs_up_before_the_ack_waits_for_it() -> None:
    """§15: no BYE before the ACK of the 2xx."""
    scene = Scene()
    here = scene.alice.call("sip:bob@192.0.2.2")
    there = scene.bob.await_call()
    scene.bob.answer(there)
    scene.bob.hang_up(there)
    scene.alice.end_of(here)
    lines = [packet.start_line.split()[0] for packet in scene.network.packets]
    assert lines.index("ACK") < lines.index("BYE")
    scene.settle()


def test_a_call_outlives_every_transaction_timer() -> None:
    """Complaint 1 of the field: calls that die after 32 s."""
    scene = Scene()
    here, there = scene.connect()
    scene.network.run(scene.network.now + 600)
    assert here.state is there.state is SessionState.CONNECTED
    scene.bob.hang_up(there)
    scene.alice.end_of(here)
    scene.settle()


def test_a_ringing_call_repeats_its_180() -> None:
    """§13.3.1.1: once a minute, against timer C of proxies."""
    scene = Scene()
    here = scene.alice.call("sip:bob@192.0.2.2", ring_timeout=200)
    scene.bob.await_call()
    scene.network.run(scene.network.now + 130)
    assert len(scene.alice.happened(here, SessionProvisional)) == 3
    scene.alice.hang_up(here)
    scene.alice.end_of(here)
    scene.settle()


def test_an_offer_without_a_known_codec_gets_488() -> None:
    """§13.3.1.3 with RFC 3264 §6."""
    scene = Scene()
    scene.alice.stack.codecs = ("PCMA",)
    scene.bob.stack.codecs = ("PCMU",)
    here = scene.alice.call("sip:bob@192.0.2.2")
    scene.bob.await_call()
    ended = scene.alice.end_of(here)
    assert isinstance(ended.error, MediaNotAcceptable)
    assert (ended.cause, ended.code) == (EndCause.MEDIA, 488)
    scene.settle()


@pytest.mark.parametrize("seed", range(20))
def test_twenty_percent_loss_each_way_harms_no_call(seed: int) -> None:
    """Retransmissions carry every call through loss, duplication and reordering."""
    conditions = Conditions(delay=(0.005, 0.15), loss=0.2, duplication=0.1)
    scene = Scene(seed=seed, conditions=conditions)
    here = scene.alice.call("sip:bob@192.0.2.2")
    there = scene.bob.await_call()
    scene.network.run(scene.network.now + 3)
    scene.bob.answer(there)
    scene.network.run_until(lambda: here.state is SessionState.CONNECTED and there.answers.pending is None)
    scene.network.run(scene.network.now + 20)
    scene.alice.hang_up(here)
    scene.alice.end_of(here)
    scene.bob.end_of(there)
    scene.settle()
