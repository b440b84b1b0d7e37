"""401 and 407 on every kind of request (RFC 3261 §22, RFC 8760)."""

from __future__ import annotations

import pytest

from sipcore.errors import AuthenticationFailed
from sipcore.events import EndCause
from sipcore.protocol.invite_session import InviteSession, SessionState
from sipcore.protocol.session_events import SessionEnded, SessionReferAnswered
from sipcore.protocol.wire import Request
from tests.flows.scene import ALICE, Scene
from tests.kit.raw_peer import SDP_OFFER, RawPeer

PEER = ("192.0.2.9", 5060)
CHALLENGE = 'Proxy-Authenticate: Digest realm="pbx", nonce="n1", qop="auth,auth-int", algorithm=MD5\n'
STRONGER = 'Proxy-Authenticate: Digest realm="pbx", nonce="n2", qop="auth", algorithm=SHA-256\n'


def _dial() -> tuple[Scene, RawPeer, InviteSession]:
    scene = Scene(password="secret")
    peer = RawPeer(scene.network, PEER, ALICE)
    session = scene.alice.call("sip:raw@192.0.2.9")
    scene.network.run(scene.network.now + 0.05)
    return scene, peer, session


def _last(peer: RawPeer, method: str) -> Request:
    return peer.heard(method)[-1]


def _connect() -> tuple[Scene, RawPeer, InviteSession]:
    scene, peer, session = _dial()
    peer.respond(_last(peer, "INVITE"), 200, body=SDP_OFFER)
    return scene, peer, session


def test_an_invite_is_sent_again_with_credentials() -> None:
    """§22.2: same Call-ID, From tag and To, CSeq one higher, a new branch; the 407 is ACKed (§17.1.1.3)."""
    _, peer, session = _dial()
    first = _last(peer, "INVITE")
    peer.respond(first, 407, extra=CHALLENGE)
    second = _last(peer, "INVITE")
    assert len(peer.heard("ACK")) == 1
    assert (second.call_id, second.from_tag, second.to_tag) == (first.call_id, first.from_tag, "")
    assert second.cseq.number == first.cseq.number + 1
    assert second.via.branch != first.via.branch
    assert len(second.vias) == 1
    credentials = second.headers.get("Proxy-Authorization") or ""
    assert 'username="alice"' in credentials
    assert "qop=auth," in credentials
    assert "nc=00000001" in credentials
    peer.respond(second, 200, body=SDP_OFFER)
    assert session.state is SessionState.CONNECTED
    # §22.1: the ACK to the 2xx carries the INVITE's credentials.
    assert _last(peer, "ACK").headers.get("Proxy-Authorization") == credentials


def test_the_strongest_challenge_is_answered() -> None:
    """RFC 8760 §2.4."""
    _, peer, _ = _dial()
    peer.respond(_last(peer, "INVITE"), 407, extra=CHALLENGE + STRONGER)
    credentials = _last(peer, "INVITE").headers.get("Proxy-Authorization") or ""
    assert "algorithm=SHA-256" in credentials
    assert 'nonce="n2"' in credentials


def test_401_then_407_are_both_met() -> None:
    """§22.3: a registrar and a proxy in the path each want their own; the first credentials stay."""
    _, peer, session = _dial()
    peer.respond(_last(peer, "INVITE"), 401, extra=CHALLENGE.replace("Proxy-Auth", "WWW-Auth").replace("pbx", "home"))
    peer.respond(_last(peer, "INVITE"), 407, extra=CHALLENGE)
    third = _last(peer, "INVITE")
    assert 'realm="home"' in (third.headers.get("Authorization") or "")
    assert 'realm="pbx"' in (third.headers.get("Proxy-Authorization") or "")
    peer.respond(third, 200, body=SDP_OFFER)
    assert session.state is SessionState.CONNECTED


def test_a_wrong_password_is_tried_once() -> None:
    scene, peer, session = _dial()
    peer.respond(_last(peer, "INVITE"), 407, extra=CHALLENGE)
    peer.respond(_last(peer, "INVITE"), 407, extra=CHALLENGE.replace("n1", "n9"))
    (ended,) = scene.alice.happened(session, SessionEnded)
    assert (ended.cause, ended.code) == (EndCause.AUTHENTICATION, 407)
    assert isinstance(ended.error, AuthenticationFailed)
    assert "secret" not in repr(ended)
    assert len({invite.via.branch for invite in peer.heard("INVITE")}) == 2


def test_a_stale_nonce_is_replaced() -> None:
    """RFC 7616 §3.3: stale=true says that the password was right."""
    _, peer, session = _dial()
    peer.respond(_last(peer, "INVITE"), 407, extra=CHALLENGE)
    peer.respond(_last(peer, "INVITE"), 407, extra=CHALLENGE.replace("n1", "n9").replace("qop", "stale=true, qop"))
    assert 'nonce="n9"' in (_last(peer, "INVITE").headers.get("Proxy-Authorization") or "")
    peer.respond(_last(peer, "INVITE"), 200, body=SDP_OFFER)
    assert session.state is SessionState.CONNECTED


def test_a_cancelled_call_does_not_answer_a_challenge() -> None:
    scene, peer, session = _dial()
    peer.respond(_last(peer, "INVITE"), 180)
    scene.alice.hang_up(session)
    peer.respond(_last(peer, "INVITE"), 407, extra=CHALLENGE)
    assert len({invite.via.branch for invite in peer.heard("INVITE")}) == 1
    assert session.state is SessionState.ENDED


@pytest.mark.parametrize("method", ["BYE", "REFER", "INVITE"])
def test_requests_inside_the_dialog_are_answered_for_too(method: str) -> None:
    """§22.3; the CSeq goes on rising within the dialog (§12.2.1.1)."""
    scene, peer, session = _connect()
    match method:
        case "BYE":
            scene.alice.hang_up(session)
        case "REFER":
            session.refers.refer("sip:carol@192.0.2.3", (), scene.network.now)
        case _:
            session.reoffer.offer("sendonly", scene.network.now)
    scene.network.run(scene.network.now + 0.05)
    before = _last(peer, method)
    peer.respond(before, 407, extra=CHALLENGE)
    after = _last(peer, method)
    assert after.cseq.number == before.cseq.number + 1
    assert 'nonce="n1"' in (after.headers.get("Proxy-Authorization") or "")
    peer.respond(after, 202 if method == "REFER" else 200, body=SDP_OFFER if method == "INVITE" else "")
    match method:
        case "BYE":
            assert session.state is SessionState.ENDED
        case "REFER":
            assert scene.alice.happened(session, SessionReferAnswered)[0].code == 202
        case _:
            assert session.offer_answer is not None
            assert session.offer_answer.current is not None
            assert not session.offer_answer.current.receive


def test_later_requests_carry_credentials_at_once() -> None:
    """§22.3: the nonce is used again with its count one higher, and no round trip is lost."""
    scene, peer, session = _dial()
    peer.respond(_last(peer, "INVITE"), 407, extra=CHALLENGE)
    peer.respond(_last(peer, "INVITE"), 200, body=SDP_OFFER)
    scene.alice.hang_up(session)
    scene.network.run(scene.network.now + 0.05)
    assert "nc=00000002" in (_last(peer, "BYE").headers.get("Proxy-Authorization") or "")


def test_a_copy_that_was_taken_for_a_replay_is_no_wrong_password() -> None:
    """The 200 to the first copy was lost, and the server keeps no transactions: it knows the second one's nonce count
    (RFC 7616 §3.4, nc) and asks anew, without ``stale``. A first copy that is refused is refused for good."""
    scene, peer, session = _dial()
    peer.respond(_last(peer, "INVITE"), 407, extra=CHALLENGE)
    scene.network.run(scene.network.now + 0.6)
    assert len(peer.heard("INVITE")) == 3
    peer.respond(_last(peer, "INVITE"), 407, extra=CHALLENGE.replace("n1", "n2"))
    assert 'nonce="n2"' in (_last(peer, "INVITE").headers.get("Proxy-Authorization") or "")
    peer.respond(_last(peer, "INVITE"), 407, extra=CHALLENGE.replace("n1", "n3"))
    assert isinstance(scene.alice.end_of(session).error, AuthenticationFailed)
