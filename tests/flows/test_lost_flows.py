"""Flows that are not found, and connections that die (RFC 3261 §8.1.3.1, §13.2.2.4, §18.4)."""

from __future__ import annotations

import random

from sipcore.config import Account, UserAgentConfig
from sipcore.events import EndCause, Party
from sipcore.protocol.addresses import parse_callee
from sipcore.protocol.builder import make_response
from sipcore.protocol.invite_session import InviteSession
from sipcore.protocol.session_events import SessionEnded, SessionEstablished, SessionEvent
from sipcore.protocol.stack import FlowWanted, SessionOccurred, Stack
from sipcore.protocol.wire import Request, Response, parse_message, serialize
from tests.flows.scene import ALICE, Scene
from tests.kit.network import Network
from tests.kit.raw_peer import SDP_OFFER, RawPeer

PEER = ("192.0.2.9", 5060)


class Bench:
    """One stack whose wishes for flows the test grants by hand."""

    def __init__(self) -> None:
        self.stack = Stack(UserAgentConfig(), rng=random.Random(1), user_agent="test")
        self.line = self.stack.add_line(Account("sip:alice@192.0.2.1", password="secret"))
        self.wanted: list[FlowWanted] = []
        self.happened: list[SessionEvent] = []
        self.flow = Network.flow(ALICE, PEER)
        self.now = 0.0

    def call(self, *, ring_timeout: float = 60) -> InviteSession:
        session = self.stack.invite(
            self.line,
            parse_callee("sip:raw@callee.example", self.line.address),
            headers=(),
            media_port=40000,
            ring_timeout=ring_timeout,
            now=self.now,
        )
        self.drain()
        return session

    def drain(self) -> None:
        for event in self.stack.events():
            if isinstance(event, FlowWanted):
                self.wanted.append(event)
            elif isinstance(event, SessionOccurred):
                self.happened.append(event.event)

    def found(self) -> list[Request]:
        """Grants the oldest wish; what is sent for it."""
        self.stack.flow_ready(self.wanted.pop(0).id, self.flow, self.now)
        self.drain()
        return self.sent()

    def not_found(self) -> None:
        self.stack.flow_failed(self.wanted.pop(0).id, "no such name", self.now)
        self.drain()

    def sent(self) -> list[Request]:
        messages = [parse_message(data) for _, data in self.stack.transmits()]
        return [message for message in messages if isinstance(message, Request)]

    def answer(self, invite: Request) -> None:
        response: Response = make_response(
            invite,
            200,
            to_tag="peer",
            contact="<sip:raw@contact.example>",
            body=SDP_OFFER.encode(),
            content_type="application/sdp",
        )
        self.stack.receive(serialize(response), self.flow, self.now)
        self.drain()

    def wait(self, seconds: float) -> None:
        end = self.now + seconds
        while (deadline := self.stack.next_deadline()) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            self.stack.handle_timer(self.now)
            self.drain()
        self.now = end


def test_a_copy_of_the_2xx_is_no_fork_when_the_ack_had_nowhere_to_go() -> None:
    """§13.2.2.4: each copy of the 2xx tries the ACK anew, and the call stays up."""
    bench = Bench()
    session = bench.call()
    (invite,) = bench.found()
    bench.answer(invite)
    assert bench.wanted[0].target.host == "contact.example"
    bench.not_found()
    bench.answer(invite)
    assert [request.method for request in bench.found()] == ["ACK"]
    assert session.connected
    bench.wait(100)
    assert session.connected
    assert [type(event) for event in bench.happened] == [SessionEstablished]


def test_while_a_flow_for_the_ack_is_looked_for_copies_of_the_2xx_wait() -> None:
    bench = Bench()
    session = bench.call()
    (invite,) = bench.found()
    for _ in range(5):
        bench.answer(invite)
    assert len(bench.wanted) == 1
    assert [request.method for request in bench.found()] == ["ACK"]
    assert session.connected


def test_a_call_whose_ack_never_leaves_is_over() -> None:
    """The far end gives up after 64 T1 without an ACK (§13.3.1.4), and so does this one."""
    bench = Bench()
    bench.call()
    (invite,) = bench.found()
    for _ in range(3):
        bench.answer(invite)
        bench.not_found()
    bench.wait(33)
    ended = bench.happened[-1]
    assert isinstance(ended, SessionEnded)
    assert (ended.cause, ended.by, ended.code) == (EndCause.UNREACHABLE, Party.NETWORK, 503)
    assert "Contact cannot be reached" in ended.description
    assert bench.wanted, "a BYE is tried all the same"
    bench.not_found()
    bench.wait(100)
    assert bench.stack.idle


def test_giving_up_while_the_name_is_looked_up_ends_the_call_at_once() -> None:
    """Nothing was sent, so there is nothing to wait for (§9.1)."""
    bench = Bench()
    session = bench.call()
    session.hang_up(bench.now)
    bench.drain()
    (ended,) = bench.happened
    assert isinstance(ended, SessionEnded)
    assert ended.cause is EndCause.CANCELLED
    assert bench.found() == []
    bench.wait(100)
    assert len(bench.happened) == 1
    assert bench.stack.idle


def test_the_ring_time_covers_the_lookup_of_the_name() -> None:
    bench = Bench()
    bench.call(ring_timeout=3)
    bench.wait(4)
    (ended,) = bench.happened
    assert isinstance(ended, SessionEnded)
    assert (ended.cause, ended.by) == (EndCause.TIMEOUT, Party.LOCAL)
    bench.not_found()
    assert len(bench.happened) == 1
    assert bench.stack.idle


def test_giving_up_between_a_challenge_and_its_answer_sends_nothing_more() -> None:
    """§22.2: the INVITE that was challenged is over; the one with credentials waits for a flow."""
    bench = Bench()
    session = bench.call()
    (invite,) = bench.found()
    challenge = (("WWW-Authenticate", 'Digest realm="r", nonce="n", qop="auth"'),)
    bench.stack.receive(serialize(make_response(invite, 401, to_tag="t", headers=challenge)), bench.flow, bench.now)
    bench.drain()
    assert [request.method for request in bench.sent()] == ["ACK"]
    session.hang_up(bench.now)
    bench.drain()
    assert isinstance(bench.happened[-1], SessionEnded)
    assert bench.found() == []
    bench.wait(100)
    assert bench.stack.idle


def test_what_cannot_be_written_fails_instead_of_waiting_for_ever() -> None:
    """A display name with a line break passes no serialiser; the call says so."""
    bench = Bench()
    bench.line.identity = type(bench.line.identity)(address='"a\r\nb" <sip:a@b>', contact=bench.line.contact)
    bench.call()
    assert bench.found() == []
    (ended,) = bench.happened
    assert isinstance(ended, SessionEnded)
    assert ended.cause is EndCause.UNREACHABLE
    assert "INVITE cannot be sent" in ended.description
    assert bench.stack.idle


def _over_tcp() -> tuple[Scene, RawPeer, InviteSession]:
    scene = Scene(password="secret")
    peer = RawPeer(scene.network, PEER, ALICE)
    session = scene.alice.call("sip:raw@192.0.2.9;transport=tcp")
    scene.network.run(scene.network.now + 0.05)
    peer.respond(peer.heard("INVITE")[-1], 200, extra="", body=SDP_OFFER)
    assert session.connected
    assert session.flow is not None
    assert session.flow.reliable
    return scene, peer, session


def test_a_bye_on_a_connection_that_died_unseen_takes_a_new_one() -> None:
    """The first write finds out; a request with the next CSeq goes out on a new connection (RFC 3263 §4.3)."""
    scene, peer, session = _over_tcp()
    lost = scene.network.packets
    scene.network.drop = lambda packet: (
        packet.start_line.startswith("BYE") and not any(each.start_line.startswith("BYE") for each in lost)
    )
    scene.alice.hang_up(session)
    assert session.flow is not None
    scene.alice.stack.flow_closed(session.flow, "connection reset", scene.network.now)
    scene.network.run(scene.network.now + 0.1)
    (bye,) = peer.heard("BYE")
    assert bye.cseq.number == peer.heard("INVITE")[0].cseq.number + 2
    peer.respond(bye, 200)
    (ended,) = scene.alice.happened(session, SessionEnded)
    assert (ended.cause, ended.code) == (EndCause.HANGUP, 200)


def test_a_second_dead_connection_is_the_end() -> None:
    scene, _, session = _over_tcp()
    scene.network.drop = lambda packet: True
    scene.alice.hang_up(session)
    assert session.flow is not None
    for _ in range(2):
        scene.alice.stack.flow_closed(session.flow, "connection reset", scene.network.now)
        scene.network.flush()
    (ended,) = scene.alice.happened(session, SessionEnded)
    assert ended.cause is EndCause.HANGUP
    assert scene.sent("BYE") == 2
    scene.settle()


def test_a_closed_connection_harms_no_call_that_is_up() -> None:
    """§18: a dialog is not bound to a connection."""
    scene, _, session = _over_tcp()
    assert session.flow is not None
    scene.alice.stack.flow_closed(session.flow, "the far end closed it", scene.network.now)
    scene.network.run(scene.network.now + 100)
    assert session.connected
