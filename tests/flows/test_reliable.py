"""Reliable provisional responses and PRACK, both roles (RFC 3262); offers before the answer (RFC 3311, RFC 6337)."""

from __future__ import annotations

import pytest

from sipcore.config import CallPolicy
from sipcore.events import EndCause
from sipcore.protocol.invite_session import InviteSession, SessionState
from sipcore.protocol.session_events import (
    SessionEnded,
    SessionEstablished,
    SessionMediaChanged,
    SessionProvisional,
)
from sipcore.protocol.wire import Request, Response
from tests.flows.scene import ALICE, BOB, Scene
from tests.kit.network import Conditions
from tests.kit.raw_peer import SDP_OFFER, RawPeer

PEER = ("192.0.2.9", 5060)
BOB_URI = "sip:bob@192.0.2.2"


def _reliable(number: int) -> str:
    return f"Require: 100rel\nRSeq: {number}\n"


# -- calling -------------------------------------------------------------------------------------------------------


class Calling:
    """Alice calls Raw, whose INVITE has arrived."""

    def __init__(self, *, delayed: bool = False, policy: CallPolicy | None = None, password: str = "") -> None:
        self.scene = Scene(alice=policy, password=password)
        self.peer = RawPeer(self.scene.network, PEER, ALICE)
        self.session: InviteSession = self.scene.alice.call("sip:raw@192.0.2.9", delayed=delayed)
        self.scene.network.run(self.scene.network.now + 0.05)
        (self.invite,) = self.peer.heard("INVITE")

    @property
    def pracks(self) -> list[Request]:
        """PRACKs so far, without repetitions."""
        return list({each.via.branch: each for each in self.peer.heard("PRACK")}.values())

    @property
    def provisionals(self) -> list[SessionProvisional]:
        """What the shell heard."""
        return self.scene.alice.happened(self.session, SessionProvisional)

    def ring(self, number: int, status: int = 180, *, tag: str = "peer", body: str = "") -> None:
        """A reliable response."""
        self.peer.respond(self.invite, status, to_tag=tag, extra=_reliable(number), body=body)

    def update(self, *, tag: str = "peer", body: str = SDP_OFFER) -> Response:
        """Raw sends UPDATE before it has answered."""
        self.peer.request(
            "UPDATE",
            "sip:alice@192.0.2.1",
            branch=f"u{tag}",
            call_id=self.invite.call_id,
            from_tag=tag,
            to_tag=self.invite.from_tag,
            body=body,
        )
        return self.peer.final()


def test_each_reliable_response_is_acknowledged() -> None:
    """§4: RAck names RSeq, CSeq number and method; the PRACK has the next CSeq of that early dialog."""
    calling = Calling()
    assert "100rel" in calling.invite.list_of("Supported")
    calling.ring(7)
    calling.ring(8, 183)
    one, two = calling.pracks
    cseq = calling.invite.cseq.number
    assert [each.headers.get("RAck") for each in (one, two)] == [f"7 {cseq} INVITE", f"8 {cseq} INVITE"]
    assert [each.cseq.number for each in (one, two)] == [cseq + 1, cseq + 2]
    assert [each.to_tag for each in (one, two)] == ["peer", "peer"]
    assert [each.code for each in calling.provisionals] == [180, 183]


def test_repetitions_and_gaps_are_passed_over() -> None:
    """§4: what is out of order is not acknowledged, and comes again."""
    calling = Calling()
    calling.ring(7)
    calling.ring(7)
    calling.ring(9)
    assert len(calling.pracks) == len(calling.provisionals) == 1
    calling.ring(8)
    calling.ring(9)
    assert len(calling.pracks) == len(calling.provisionals) == 3


def test_each_branch_counts_for_itself() -> None:
    calling = Calling()
    calling.ring(7, tag="a")
    calling.ring(900, tag="b")
    calling.ring(8, tag="a")
    assert [each.to_tag for each in calling.pracks] == ["a", "b", "a"]


@pytest.mark.parametrize("extra", ["RSeq: 7\n", "Require: 100rel\n", "Require: 100rel\nRSeq: x\n"])
def test_what_is_not_reliable_gets_no_prack(extra: str) -> None:
    calling = Calling()
    calling.peer.respond(calling.invite, 180, extra=extra)
    assert not calling.peer.heard("PRACK")
    assert len(calling.provisionals) == 1


def test_the_answer_in_a_reliable_183_counts() -> None:
    """§5: early media, and the SDP of the 200 is no second answer (RFC 3261 §13.2.1)."""
    calling = Calling()
    calling.ring(7, 183, body=SDP_OFFER)
    (heard,) = calling.provisionals
    assert heard.media is not None
    calling.peer.respond(calling.pracks[0], 200)
    calling.peer.respond(calling.invite, 200, body=SDP_OFFER.replace("50000", "50010"))
    (established,) = calling.scene.alice.happened(calling.session, SessionEstablished)
    assert established.media.remote_port == 50000


def test_each_branch_negotiates_for_itself() -> None:
    calling = Calling()
    calling.ring(7, 183, tag="a", body=SDP_OFFER)
    calling.ring(7, 183, tag="b", body=SDP_OFFER.replace("50000", "50010"))
    calling.peer.respond(calling.invite, 200, to_tag="a")
    (established,) = calling.scene.alice.happened(calling.session, SessionEstablished)
    assert established.media.remote_port == 50000


def test_an_offer_in_a_reliable_response_is_answered_in_the_prack() -> None:
    """§5, for an INVITE without an offer."""
    calling = Calling(delayed=True)
    assert not calling.invite.body
    calling.ring(7, 183, body=SDP_OFFER)
    assert b"m=audio 40000" in calling.pracks[0].body
    assert calling.pracks[0].content_type == "application/sdp"
    calling.peer.respond(calling.pracks[0], 200)
    calling.peer.respond(calling.invite, 200)
    assert calling.session.connected
    assert not calling.peer.heard("ACK")[0].body


def test_an_offer_in_the_200_is_answered_in_the_ack() -> None:
    """RFC 3261 §13.2.1; each copy of the 200 gets the same ACK."""
    calling = Calling(delayed=True)
    calling.peer.respond(calling.invite, 180)
    calling.peer.respond(calling.invite, 200, body=SDP_OFFER)
    calling.peer.respond(calling.invite, 200, body=SDP_OFFER)
    one, two = calling.peer.heard("ACK")
    assert b"m=audio 40000" in one.body
    assert one.body == two.body
    (established,) = calling.scene.alice.happened(calling.session, SessionEstablished)
    assert established.media.remote_port == 50000


@pytest.mark.parametrize("body", ["", "garbage"])
def test_an_offer_that_cannot_be_used_is_acknowledged_and_hung_up(body: str) -> None:
    calling = Calling(delayed=True)
    calling.peer.respond(calling.invite, 200, body=body)
    assert len(calling.peer.heard("ACK")) == len(calling.peer.heard("BYE")) == 1
    (ended,) = calling.scene.alice.happened(calling.session, SessionEnded)
    assert ended.cause is EndCause.MEDIA


def test_update_before_the_answer() -> None:
    """RFC 3311 §5.2: 491 while our offer is open, an answer once a reliable response has settled it."""
    calling = Calling()
    calling.ring(7)
    assert calling.update().status == 491
    calling = Calling()
    calling.ring(7, 183, body=SDP_OFFER)
    answer = calling.update(body=SDP_OFFER.replace("50000", "50020"))
    assert answer.status == 200
    assert b"m=audio 40000" in answer.body
    (changed,) = calling.scene.alice.happened(calling.session, SessionMediaChanged)
    assert changed.media.remote_port == 50020
    calling.peer.respond(calling.invite, 200)
    (established,) = calling.scene.alice.happened(calling.session, SessionEstablished)
    assert established.media.remote_port == 50020


@pytest.mark.parametrize(("status", "header"), [(401, "WWW-Authenticate"), (407, "Proxy-Authenticate")])
def test_a_prack_is_challenged(status: int, header: str) -> None:
    """RFC 3261 §22: once more with credentials, next CSeq, the same RAck."""
    calling = Calling(password="secret")
    calling.ring(7)
    calling.peer.respond(calling.pracks[0], status, extra=f'{header}: Digest realm="r", nonce="n", qop="auth"\n')
    one, two = calling.pracks
    assert two.cseq.number == one.cseq.number + 1
    assert two.headers.get("RAck") == one.headers.get("RAck")
    assert "Authorization" in two.headers or "Proxy-Authorization" in two.headers


def test_who_never_uses_it_does_not_say_so() -> None:
    calling = Calling(policy=CallPolicy(rel100="never"))
    assert "100rel" not in calling.invite.list_of("Supported")


# -- called --------------------------------------------------------------------------------------------------------


class Called:
    """Raw has called Bob, where it rings."""

    def __init__(self, extra: str = "Require: 100rel\n", *, body: str = SDP_OFFER, policy: CallPolicy | None = None):
        self.scene = Scene(bob=policy)
        self.peer = RawPeer(self.scene.network, PEER, BOB)
        self.peer.request("INVITE", BOB_URI, body=body, extra=extra)
        self.session = self.scene.bob.await_call()
        self.run(0.05)

    def run(self, seconds: float) -> None:
        """Lets time pass."""
        self.scene.network.run(self.scene.network.now + seconds)

    def answer(self) -> None:
        """Bob answers."""
        self.scene.bob.answer(self.session)
        self.run(0.05)

    def heard(self, status: int) -> list[Response]:
        """Responses to the INVITE with that status."""
        return [each for each in self.peer.responses if (each.status, each.cseq.method) == (status, "INVITE")]

    def prack(self, rack: str = "", *, cseq: int = 2, body: str = "") -> Response:
        """Raw acknowledges the newest 180."""
        ringing = self.heard(180)[-1]
        rack = rack or f"{ringing.headers.get('RSeq')} 1 INVITE"
        extra = f"RAck: {rack}\n"
        self.peer.request("PRACK", BOB_URI, cseq=cseq, branch=f"p{cseq}", to_tag=ringing.to_tag, extra=extra, body=body)
        return next(each for each in reversed(self.peer.responses) if each.cseq.number == cseq)


def test_a_caller_that_requires_it_gets_reliable_ringing() -> None:
    """§3: RSeq and Require; repeated after T1, 2 T1 … until the PRACK."""
    called = Called()
    (ringing,) = called.heard(180)
    assert ringing.list_of("Require") == ("100rel",)
    assert not ringing.body
    called.run(4)
    repeated = called.heard(180)
    assert len(repeated) == 4
    assert len({each.headers.get("RSeq") for each in repeated}) == 1
    assert called.prack().status == 200
    called.run(20)
    assert len(called.heard(180)) == 4
    called.answer()
    assert called.heard(200)[0].body


def test_ringing_goes_on_with_the_next_number() -> None:
    called = Called()
    called.prack()
    called.run(61)
    first, second = called.heard(180)[0], called.heard(180)[-1]
    assert int(second.headers.get("RSeq") or "0") == int(first.headers.get("RSeq") or "0") + 1


def test_an_answer_need_not_wait_for_a_prack_without_sdp() -> None:
    """§3; the PRACK that comes later still finds its response."""
    called = Called()
    called.answer()
    assert called.heard(200)
    assert called.prack().status == 200
    assert called.session.connected


def test_a_caller_that_never_acknowledges_is_refused() -> None:
    """§3: 5xx after 64 T1."""
    called = Called()
    called.run(40)
    assert called.heard(504)
    assert called.scene.bob.end_of(called.session).code == 504
    assert len(called.heard(180)) == 7


@pytest.mark.parametrize("rack", ["1 1 INVITE", "x", "", "4294967296 1 INVITE", "1 1 INVITE extra"])
def test_a_prack_that_matches_nothing_gets_481(rack: str) -> None:
    called = Called()
    assert called.prack(rack or "-").status == 481
    assert called.prack(cseq=3).status == 200
    assert called.prack(cseq=4).status == 481


@pytest.mark.parametrize(
    ("rel100", "extra", "reliable"),
    [
        ("off", "Supported: 100rel\n", False),
        ("supported", "Supported: 100rel\n", True),
        ("supported", "", False),
        ("off", "Require: 100rel\n", True),
    ],
)
def test_when_ringing_is_reliable(rel100: str, extra: str, reliable: bool) -> None:
    policy = CallPolicy(rel100="supported" if rel100 == "supported" else "off")
    called = Called(extra, policy=policy)
    assert ("RSeq" in called.heard(180)[0].headers) is reliable


def test_who_never_uses_it_refuses_it() -> None:
    called = Called(policy=CallPolicy(rel100="never"))
    (refused,) = called.heard(420)
    assert refused.list_of("Unsupported") == ("100rel",)


def test_an_invite_without_offer_is_offered_in_the_180_and_answered_in_the_prack() -> None:
    """§5, RFC 3261 §13.2.1: the 200 waits for the PRACK, and has no SDP of its own."""
    called = Called(body="")
    assert b"m=audio 40002" in called.heard(180)[0].body
    called.answer()
    assert not called.heard(200)
    assert called.session.setting_up
    assert called.prack(body=SDP_OFFER).status == 200
    (answered,) = called.heard(200)
    assert not answered.body
    (established,) = called.scene.bob.happened(called.session, SessionEstablished)
    assert established.media.remote_port == 50000


def test_a_prack_whose_answer_cannot_be_used_ends_the_call() -> None:
    called = Called(body="")
    assert called.prack(body="garbage").status == 200
    assert called.heard(488)
    assert called.scene.bob.end_of(called.session).cause is EndCause.MEDIA


def test_update_by_the_caller_before_the_answer() -> None:
    """RFC 3311 §5.2: 500 while its own offer waits for the 200, 491 while ours waits for the PRACK, then an answer."""
    called = Called()
    called.prack()
    tag = called.heard(180)[0].to_tag
    called.peer.request("UPDATE", BOB_URI, cseq=3, branch="u", to_tag=tag, body=SDP_OFFER)
    assert called.peer.final().status == 500
    assert "Retry-After" in called.peer.final().headers
    called = Called(body="")
    tag = called.heard(180)[0].to_tag
    called.peer.request("UPDATE", BOB_URI, cseq=2, branch="u", to_tag=tag, body=SDP_OFFER)
    assert called.peer.final().status == 491
    called.prack(cseq=3, body=SDP_OFFER)
    moved = SDP_OFFER.replace("50000", "50020")
    called.peer.request("UPDATE", BOB_URI, cseq=4, branch="u2", to_tag=tag, body=moved)
    assert called.peer.final().status == 200
    called.answer()
    (established,) = called.scene.bob.happened(called.session, SessionEstablished)
    assert established.media.remote_port == 50020


def test_an_offer_in_a_later_prack_is_answered_in_its_200() -> None:
    """§5."""
    called = Called(body="")
    called.prack(body=SDP_OFFER)
    called.run(61)
    answer = called.prack(cseq=3, body=SDP_OFFER.replace("50000", "50020"))
    assert answer.status == 200
    assert b"m=audio 40002" in answer.body


def test_a_cancel_ends_a_call_whose_answer_waits() -> None:
    called = Called(body="")
    called.answer()
    called.peer.request("CANCEL", BOB_URI)
    assert called.heard(487)
    assert called.scene.bob.end_of(called.session).cause is EndCause.CANCELLED


@pytest.mark.parametrize("delayed", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_two_of_ours_over_a_bad_network(seed: int, delayed: bool) -> None:
    """A third of all datagrams lost, others doubled and overtaken: every call comes up, and nothing is left behind."""
    policy = CallPolicy(rel100="supported")
    conditions = Conditions(delay=(0.01, 0.2), loss=0.3, duplication=0.1)
    scene = Scene(seed=seed, alice=policy, bob=policy, conditions=conditions)
    here = scene.alice.call("sip:bob@192.0.2.2", delayed=delayed)
    there = scene.bob.await_call()
    scene.network.run(scene.network.now + 3)
    scene.bob.answer(there)
    scene.network.run_until(lambda: here.state is there.state is SessionState.CONNECTED)
    assert scene.sent("PRACK") >= 1
    scene.network.run(scene.network.now + 40)
    assert here.connected
    assert there.connected
    scene.network.conditions = Conditions()
    scene.alice.hang_up(here)
    scene.alice.end_of(here)
    scene.settle()
