"""What a callee may say before it answers, and forks that answer together (RFC 3261 §12.1.2, §13.2.2, RFC 3311)."""

from __future__ import annotations

import pytest

from sipcore.events import EndCause, Party
from sipcore.protocol.invite_session import InviteSession, SessionState
from sipcore.protocol.late_answers import MAX_FORKS
from sipcore.protocol.session_events import SessionEnded, SessionEstablished, SessionProvisional
from tests.flows.scene import ALICE, Scene
from tests.kit.raw_peer import SDP_OFFER, RawPeer

PEER = ("192.0.2.9", 5060)
URI = "sip:alice@192.0.2.1"


class Ringing:
    """Alice calls Raw, whose INVITE has arrived."""

    def __init__(self) -> None:
        self.scene = Scene()
        self.peer = RawPeer(self.scene.network, PEER, ALICE)
        self.session: InviteSession = self.scene.alice.call("sip:raw@192.0.2.9")
        self.scene.network.run(self.scene.network.now + 0.05)
        (self.invite,) = self.peer.heard("INVITE")

    def request(self, method: str, *, tag: str = "peer", cseq: int = 1, body: str = "", extra: str = "") -> int:
        """Raw sends a request in the dialog of ``tag``; the status of its answer."""
        self.peer.request(
            method,
            URI,
            cseq=cseq,
            branch=f"{method}{tag}{cseq}",
            call_id=self.invite.call_id,
            from_tag=tag,
            to_tag=self.invite.from_tag,
            body=body,
            extra=extra,
        )
        return self.peer.final().status


@pytest.fixture
def ringing() -> Ringing:
    return Ringing()


@pytest.mark.parametrize(
    ("method", "body", "status"),
    [
        ("UPDATE", "", 200),
        ("UPDATE", SDP_OFFER, 491),
        ("INVITE", SDP_OFFER, 491),
        ("OPTIONS", "", 200),
        ("INFO", "", 200),
        ("REFER", "", 603),
        ("NOTIFY", "", 481),
    ],
)
def test_requests_in_an_early_dialog(ringing: Ringing, method: str, body: str, status: int) -> None:
    """§12.2.2: a 481 would have the callee end a call that rings. RFC 3311 §5.2: 491, since our offer is open."""
    ringing.peer.respond(ringing.invite, 180)
    assert ringing.request(method, body=body) == status
    assert ringing.session.setting_up
    ringing.peer.respond(ringing.invite, 200, body=SDP_OFFER)
    assert ringing.session.connected


def test_only_known_tags_open_an_early_dialog(ringing: Ringing) -> None:
    assert ringing.request("UPDATE") == 481
    ringing.peer.respond(ringing.invite, 180)
    assert ringing.request("UPDATE", tag="other") == 481
    assert ringing.request("UPDATE", cseq=2) == 200
    assert ringing.request("OPTIONS", cseq=1) == 500


def test_a_bye_before_the_answer_closes_that_dialog_only(ringing: Ringing) -> None:
    """§15 forbids it; the other branches may still answer."""
    ringing.peer.respond(ringing.invite, 180, to_tag="a")
    ringing.peer.respond(ringing.invite, 180, to_tag="b")
    assert ringing.request("BYE", tag="a") == 200
    assert ringing.request("OPTIONS", tag="a", cseq=2) == 481
    ringing.peer.respond(ringing.invite, 200, to_tag="b", body=SDP_OFFER)
    assert ringing.session.connected


def test_the_numbers_of_an_early_dialog_go_on(ringing: Ringing) -> None:
    """§12.1.2: the 2xx confirms the early dialog; it does not make another."""
    ringing.peer.respond(ringing.invite, 180)
    assert ringing.request("UPDATE", cseq=7) == 200
    ringing.peer.respond(ringing.invite, 200, body=SDP_OFFER)
    assert ringing.request("OPTIONS", cseq=6) == 500
    assert ringing.request("BYE", cseq=8) == 200
    ringing.scene.settle()


def test_early_dialogs_are_bounded_and_go_with_the_call(ringing: Ringing) -> None:
    for number in range(3 * MAX_FORKS):
        ringing.peer.respond(ringing.invite, 180, to_tag=f"t{number}")
    assert len(ringing.scene.alice.stack._dialogs) == MAX_FORKS
    ringing.peer.respond(ringing.invite, 486, to_tag="t0")
    assert ringing.session.state is SessionState.ENDED
    assert not ringing.scene.alice.stack._dialogs


def test_several_branches_ring_and_two_answer(ringing: Ringing) -> None:
    """§13.2.2.4: the first 2xx makes the call, the second is acknowledged and hung up."""
    for tag in ("a", "b", "c"):
        ringing.peer.respond(ringing.invite, 180, to_tag=tag)
    assert len(ringing.scene.alice.happened(ringing.session, SessionProvisional)) == 3
    ringing.peer.respond(ringing.invite, 200, to_tag="b", body=SDP_OFFER)
    ringing.peer.respond(ringing.invite, 200, to_tag="c", body=SDP_OFFER)
    assert [ack.to_tag for ack in ringing.peer.heard("ACK")] == ["b", "c"]
    (bye,) = ringing.peer.heard("BYE")
    assert bye.to_tag == "c"
    assert bye.cseq.number == ringing.invite.cseq.number + 1
    ringing.peer.respond(bye, 200)
    # Copies of both are acknowledged again, and nothing more is hung up.
    ringing.peer.respond(ringing.invite, 200, to_tag="c", body=SDP_OFFER)
    ringing.peer.respond(ringing.invite, 200, to_tag="b", body=SDP_OFFER)
    assert [ack.to_tag for ack in ringing.peer.heard("ACK")] == ["b", "c", "c", "b"]
    assert len({bye.via.branch for bye in ringing.peer.heard("BYE")}) == 1
    assert ringing.session.connected


def test_every_branch_of_a_cancelled_call_is_hung_up(ringing: Ringing) -> None:
    """§15 and §9.1: two 2xx that overtook the CANCEL."""
    ringing.peer.respond(ringing.invite, 180)
    ringing.scene.alice.hang_up(ringing.session)
    ringing.peer.respond(ringing.invite, 200, to_tag="a", body=SDP_OFFER)
    ringing.peer.respond(ringing.invite, 200, to_tag="b", body=SDP_OFFER)
    assert [ack.to_tag for ack in ringing.peer.heard("ACK")] == ["a", "b"]
    assert {bye.to_tag for bye in ringing.peer.heard("BYE")} == {"a", "b"}
    (ended,) = ringing.scene.alice.happened(ringing.session, SessionEnded)
    assert ended.cause is EndCause.CANCELLED


def test_an_answer_without_sdp_repeats_the_one_of_its_183(ringing: Ringing) -> None:
    """§13.2.1: the first session description in a response is the answer."""
    ringing.peer.respond(ringing.invite, 183, body=SDP_OFFER)
    ringing.peer.respond(ringing.invite, 200)
    (established,) = ringing.scene.alice.happened(ringing.session, SessionEstablished)
    assert established.media.remote_port == 50000


def test_early_sdp_of_one_branch_is_not_the_answer_of_another(ringing: Ringing) -> None:
    ringing.peer.respond(ringing.invite, 183, to_tag="a", body=SDP_OFFER)
    ringing.peer.respond(ringing.invite, 200, to_tag="b")
    assert len(ringing.peer.heard("ACK")) == 1
    assert len(ringing.peer.heard("BYE")) == 1
    (ended,) = ringing.scene.alice.happened(ringing.session, SessionEnded)
    assert (ended.cause, ended.by) == (EndCause.MEDIA, Party.LOCAL)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "garbage",
        SDP_OFFER.replace("m=audio 50000", "m=audio 0"),
        SDP_OFFER.replace("RTP/AVP 0 101", "RTP/AVP 18").replace("rtpmap:0 PCMU", "rtpmap:18 G729"),
        SDP_OFFER.replace("c=IN IP4 192.0.2.9", "c=IN IP4 media.example"),
        SDP_OFFER.replace("c=IN IP4 192.0.2.9", "c=IN IP6 2001:db8::9"),
    ],
    ids=["none", "garbage", "refused", "codec", "host name", "other family"],
)
def test_an_answer_that_cannot_be_used_is_acknowledged_and_hung_up(ringing: Ringing, body: str) -> None:
    """§13.2.2.4: the 2xx gets its ACK whatever it holds; then BYE."""
    ringing.peer.respond(ringing.invite, 200, body=body)
    assert len(ringing.peer.heard("ACK")) == 1
    (bye,) = ringing.peer.heard("BYE")
    ringing.peer.respond(bye, 200)
    (ended,) = ringing.scene.alice.happened(ringing.session, SessionEnded)
    assert (ended.cause, ended.by) == (EndCause.MEDIA, Party.LOCAL)
    assert "no usable media" in ended.description
    ringing.scene.settle()


def test_a_2xx_without_contact_is_acknowledged_at_the_request_uri(ringing: Ringing) -> None:
    """§12.1.2 wants a Contact; a peer that forgets it still gets its ACK."""
    (invite,) = ringing.peer.heard("INVITE")
    head = "".join(f"{name}: {invite.headers.get(name)}\n" for name in ("Via", "From", "Call-ID", "CSeq"))
    ringing.peer.send(
        f"SIP/2.0 200 OK\n{head}To: <sip:raw@192.0.2.9>;tag=x\nContent-Type: application/sdp\n"
        f"Content-Length: {len(SDP_OFFER)}\n\n{SDP_OFFER}"
    )
    assert [str(ack.uri) for ack in ringing.peer.heard("ACK")] == ["sip:raw@192.0.2.9"]
    assert ringing.session.connected


@pytest.mark.parametrize("status", [401, 407, 408, 487])
def test_a_call_given_up_is_cancelled_whatever_stopped_the_invite(ringing: Ringing, status: int) -> None:
    ringing.peer.respond(ringing.invite, 180)
    ringing.scene.alice.hang_up(ringing.session)
    challenge = 'WWW-Authenticate: Digest realm="r", nonce="n"\n' if status == 401 else ""
    ringing.peer.respond(ringing.invite, status, extra=challenge)
    (ended,) = ringing.scene.alice.happened(ringing.session, SessionEnded)
    assert (ended.cause, ended.by) == (EndCause.CANCELLED, Party.LOCAL)


def test_the_ring_time_does_not_run_out_on_a_call_that_was_given_up() -> None:
    """Who hung up waits for the 487, and shall not hear that nobody answered."""
    scene = Scene()
    peer = RawPeer(scene.network, PEER, ALICE)
    session = scene.alice.call("sip:raw@192.0.2.9", ring_timeout=2)
    scene.network.run(scene.network.now + 0.05)
    (invite,) = peer.heard("INVITE")
    peer.respond(invite, 180)
    scene.alice.hang_up(session)
    scene.network.run(scene.network.now + 5)
    peer.respond(invite, 487)
    (ended,) = scene.alice.happened(session, SessionEnded)
    assert ended.cause is EndCause.CANCELLED


def test_a_199_closes_its_branch_and_nothing_else(ringing: Ringing) -> None:
    """RFC 6228 §4: nobody rings because of it, and the other branches may still answer."""
    ringing.peer.respond(ringing.invite, 180, to_tag="a")
    ringing.peer.respond(ringing.invite, 180, to_tag="b")
    ringing.peer.respond(ringing.invite, 199, to_tag="a")
    assert len(ringing.scene.alice.happened(ringing.session, SessionProvisional)) == 2
    assert ringing.request("OPTIONS", tag="a") == 481
    ringing.peer.respond(ringing.invite, 200, to_tag="b", body=SDP_OFFER)
    assert ringing.session.connected


def test_early_media_is_that_of_the_newest_branch(ringing: Ringing) -> None:
    for tag, port in (("a", "50000"), ("b", "50010"), ("a", "50020")):
        ringing.peer.respond(ringing.invite, 183, to_tag=tag, body=SDP_OFFER.replace("50000", port))
    heard = ringing.scene.alice.happened(ringing.session, SessionProvisional)
    assert [each.media.remote_port for each in heard if each.media is not None] == [50000, 50010, 50020]
