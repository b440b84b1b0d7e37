"""What comes for an INVITE after its first 2xx, and what a call that is over leaves (RFC 3261 §13.2.2.4, RFC 6026)."""

from __future__ import annotations

import gc
import random
import weakref

import pytest

from sipcore.config import Account, UserAgentConfig
from sipcore.protocol.builder import make_response
from sipcore.protocol.flows import Flow
from sipcore.protocol.invite_session import InviteSession, SessionState
from sipcore.protocol.session_events import SessionEstablished
from sipcore.protocol.stack import FlowWanted, SessionOccurred, Stack
from sipcore.protocol.values import Uri
from sipcore.protocol.wire import Request, parse_message, serialize
from tests.flows.scene import ALICE, Scene
from tests.kit.raw_peer import SDP_OFFER, RawPeer

PEER = ("192.0.2.9", 5060)


@pytest.mark.parametrize("delayed", [False, True])
def test_after_the_call_a_copy_gets_its_ack_and_a_fork_is_hung_up(delayed: bool) -> None:
    scene = Scene()
    peer = RawPeer(scene.network, PEER, ALICE)
    session = scene.alice.call("sip:raw@192.0.2.9", delayed=delayed)
    scene.network.run(scene.network.now + 0.05)
    (invite,) = peer.heard("INVITE")
    peer.respond(invite, 200, to_tag="first", body=SDP_OFFER)
    scene.alice.hang_up(session)
    scene.network.run(scene.network.now + 0.05)
    (bye,) = peer.heard("BYE")
    peer.respond(bye, 200)
    assert session.state is SessionState.ENDED
    assert not scene.alice.stack._dialogs

    peer.respond(invite, 200, to_tag="first", body=SDP_OFFER)
    peer.respond(invite, 200, to_tag="second", body=SDP_OFFER)
    scene.network.run(scene.network.now + 0.05)
    first, again, second = peer.heard("ACK")
    assert (again.via.branch, again.body) == (first.via.branch, first.body)
    assert (second.to_tag, second.cseq.number, bool(second.body)) == ("second", invite.cseq.number, delayed)
    hung_up, *_ = [request for request in peer.heard("BYE") if request.to_tag == "second"]
    assert (hung_up.call_id, hung_up.cseq.number) == (invite.call_id, invite.cseq.number + 1)
    peer.respond(hung_up, 200)

    peer.respond(invite, 200, to_tag="second", body=SDP_OFFER)
    scene.network.run(scene.network.now + 0.05)
    assert [ack.to_tag for ack in peer.heard("ACK")] == ["first", "first", "second", "second"]
    scene.network.run(scene.network.now + 120)
    assert scene.alice.stack.idle


class Calls:
    """A stack that calls, and somebody who takes every call; of each no more is kept than the stack keeps."""

    def __init__(self) -> None:
        self.stack = Stack(UserAgentConfig(), rng=random.Random(1), user_agent="test")
        self._line = self.stack.add_line(Account("sip:alice@192.0.2.1"))
        self._flow = Flow("udp", ALICE, PEER, advertised=ALICE)
        self._up: InviteSession | None = None

    def call(self) -> weakref.ref[InviteSession]:
        """One call from INVITE to the 200 of its BYE."""
        uri = Uri.parse("sip:raw@192.0.2.9")
        self.stack.invite(self._line, uri, headers=(), media_port=40000, ring_timeout=60.0, now=0.0)
        self._settle()
        assert self._up is not None
        self._up.hang_up(0.0)
        session, self._up = weakref.ref(self._up), None
        self._settle()
        return session

    def _settle(self) -> None:
        while True:
            events, sent = self.stack.events(), self.stack.transmits()
            if not events and not sent:
                return
            for event in events:
                match event:
                    case FlowWanted():
                        self.stack.flow_ready(event.id, self._flow, 0.0)
                    case SessionOccurred(session, SessionEstablished()):
                        self._up = session
            for _, data in sent:
                self._answer(parse_message(data))

    def _answer(self, request: Request | object) -> None:
        if isinstance(request, Request) and request.method != "ACK":
            contact, body = "<sip:raw@192.0.2.9>", SDP_OFFER.encode() if request.method == "INVITE" else b""
            content = "application/sdp" if body else ""
            answer = make_response(request, 200, to_tag="peer", contact=contact, body=body, content_type=content)
            self.stack.receive(serialize(answer), self._flow, 0.0)


def test_a_call_that_is_over_leaves_little() -> None:
    """Its INVITE transaction lives on for 32 s: at 500 calls a second that is 16,000 of them. Its session does not."""
    calls = Calls()
    sessions = [calls.call() for _ in range(3)]
    assert calls.stack.layer.active_count == 6
    gc.collect()
    assert [session() for session in sessions] == [None] * 3
