"""Holds and resumes have an outcome (RFC 3261 §14.1, RFC 3264 §8.4)."""

from __future__ import annotations

import pytest

from sipcore.errors import HoldRejected, NoOngoingCall
from sipcore.protocol.invite_session import InviteSession
from sipcore.protocol.reoffer import MAX_ATTEMPTS
from sipcore.protocol.session_events import SessionMediaChanged, SessionOfferSettled
from sipcore.protocol.wire import Request
from tests.flows.scene import ALICE, BOB, Scene
from tests.kit.raw_peer import SDP_OFFER, RawPeer

PEER = ("192.0.2.9", 5060)
BOB_URI = "sip:bob@192.0.2.2"


class Held:
    """Alice has called Raw and asks for a hold, whose re-INVITE has arrived."""

    def __init__(self) -> None:
        self.scene = Scene()
        self.peer = RawPeer(self.scene.network, PEER, ALICE)
        self.session: InviteSession = self.scene.alice.call("sip:raw@192.0.2.9")
        self.run(0.05)
        self.peer.respond(self.peer.heard("INVITE")[0], 200, body=SDP_OFFER)
        self.offer = self.session.reoffer.offer("sendonly", self.scene.network.now)
        self.run(0.05)

    def run(self, seconds: float) -> None:
        """Lets time pass."""
        self.scene.network.run(self.scene.network.now + seconds)

    @property
    def reinvites(self) -> list[Request]:
        """Re-INVITEs so far, without repetitions."""
        return list({each.cseq.number: each for each in self.peer.heard("INVITE")}.values())[1:]

    @property
    def settled(self) -> list[SessionOfferSettled]:
        """Outcomes so far."""
        return self.scene.alice.happened(self.session, SessionOfferSettled)


@pytest.fixture
def held() -> Held:
    return Held()


def test_a_hold_that_is_taken(held: Held) -> None:
    answer = SDP_OFFER + "a=recvonly\r\n"
    held.peer.respond(held.reinvites[0], 200, body=answer)
    (settled,) = held.settled
    assert (settled.offer, settled.error) == (held.offer, None)


@pytest.mark.parametrize("status", [403, 488, 500, 603])
def test_a_hold_that_is_refused(held: Held, status: int) -> None:
    """§14.1: the session goes on as it was."""
    held.peer.respond(held.reinvites[0], status)
    (settled,) = held.settled
    assert isinstance(settled.error, HoldRejected)
    assert settled.error.code == status
    assert str(status) in str(settled.error)
    assert held.session.connected


@pytest.mark.parametrize("body", ["", "garbage", SDP_OFFER.replace("m=audio 50000", "m=audio 0")])
def test_a_hold_whose_answer_cannot_be_used(held: Held, body: str) -> None:
    held.peer.respond(held.reinvites[0], 200, body=body)
    (settled,) = held.settled
    assert isinstance(settled.error, HoldRejected)
    assert held.session.connected
    assert len(held.peer.heard("ACK")) == 2


@pytest.mark.parametrize(("status", "extra"), [(491, ""), (500, "Retry-After: 3\n"), (503, "Retry-After: 2 (busy)\n")])
def test_a_hold_that_comes_at_a_bad_time_is_made_again(held: Held, status: int, extra: str) -> None:
    """§14.1 with §14.2: 491 waits 2.1 to 4 s (the Call-ID is ours), 500 as long as it says."""
    held.peer.respond(held.reinvites[0], status, extra=extra)
    held.run(1.8)
    assert len(held.reinvites) == 1
    held.run(3)
    assert len(held.reinvites) == 2
    held.peer.respond(held.reinvites[1], 200, body=SDP_OFFER)
    (settled,) = held.settled
    assert settled.error is None


def test_a_far_end_that_is_never_ready_is_believed_in_the_end(held: Held) -> None:
    for _ in range(3 * MAX_ATTEMPTS):
        held.peer.respond(held.reinvites[-1], 491)
        held.run(5)
    (settled,) = held.settled
    assert isinstance(settled.error, HoldRejected)
    assert settled.error.code == 491
    assert len(held.reinvites) == MAX_ATTEMPTS


def test_a_later_wish_overtakes_one_that_waits(held: Held) -> None:
    """The newest wish counts; whoever asked for the older one is told."""
    held.peer.respond(held.reinvites[0], 491)
    resume = held.session.reoffer.offer("sendrecv", held.scene.network.now)
    held.run(0.5)
    (overtaken,) = held.settled
    assert overtaken.offer is held.offer
    assert isinstance(overtaken.error, HoldRejected)
    assert len(held.reinvites) == 1
    held.run(4)
    held.peer.respond(held.reinvites[1], 200, body=SDP_OFFER)
    assert [each.offer for each in held.settled] == [held.offer, resume]
    assert held.settled[1].error is None


def test_a_call_that_ends_settles_its_hold(held: Held) -> None:
    held.scene.alice.hang_up(held.session)
    held.run(0.05)
    held.peer.respond(held.peer.heard("BYE")[0], 200)
    (settled,) = held.settled
    assert isinstance(settled.error, NoOngoingCall)


@pytest.mark.parametrize(
    ("lines", "send", "receive"),
    [
        (("a=sendonly",), False, True),
        (("a=inactive",), False, False),
        (("c=IN IP4 0.0.0.0",), False, True),
        (("c=IN IP4 0.0.0.0", "a=sendonly"), False, True),
        (("c=IN IP4 0.0.0.0", "a=inactive"), False, False),
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
def test_the_far_end_holds_in_every_spelling(method: str, lines: tuple[str, ...], send: bool, receive: bool) -> None:
    """FIELD 13: sendonly is answered recvonly, inactive inactive; 0.0.0.0 is the hold of RFC 2543."""
    scene = Scene()
    peer = RawPeer(scene.network, PEER, BOB)
    peer.request("INVITE", BOB_URI, body=SDP_OFFER)
    there = scene.bob.await_call()
    scene.bob.answer(there)
    scene.network.run(scene.network.now + 0.1)
    tag = peer.final().to_tag
    peer.request("ACK", BOB_URI, branch="ack", to_tag=tag)
    body = SDP_OFFER
    for line in lines:
        body = body.replace("c=IN IP4 192.0.2.9", line) if line.startswith("c=") else f"{body}{line}\r\n"
    peer.request(method, BOB_URI, cseq=2, branch="2", to_tag=tag, body=body)
    assert peer.final().status == 200
    (changed,) = scene.bob.happened(there, SessionMediaChanged)
    assert (changed.media.remote_hold, changed.media.send, changed.media.receive) == (True, send, receive)
    wanted = {"a=sendonly": b"a=recvonly", "a=inactive": b"a=inactive"}.get(lines[-1], b"a=sendrecv")
    assert wanted in peer.final().body
    assert changed.media.remote_host == "192.0.2.9"


def test_an_ack_with_an_answer_that_cannot_be_used_leaves_the_call_as_it_was() -> None:
    """FIELD 13: an empty re-INVITE broke calls. What was settled before holds."""
    scene = Scene()
    peer = RawPeer(scene.network, PEER, BOB)
    peer.request("INVITE", BOB_URI, body=SDP_OFFER)
    there = scene.bob.await_call()
    scene.bob.answer(there)
    scene.network.run(scene.network.now + 0.1)
    tag = peer.final().to_tag
    peer.request("ACK", BOB_URI, branch="ack", to_tag=tag)
    assert there.offer_answer is not None
    before = there.offer_answer.current
    peer.request("INVITE", BOB_URI, cseq=2, branch="2", to_tag=tag)
    assert b"m=audio" in peer.final().body
    peer.request("ACK", BOB_URI, cseq=2, branch="ack2", to_tag=tag, body="garbage")
    assert there.connected
    assert there.offer_answer.current is before
