"""How the core answers what peers may send (RFC 3261 §8.2, §9.2, §11, §12.2.2, §21)."""

from __future__ import annotations

import pytest

from sipcore.events import EndCause, Party
from sipcore.protocol.invite_session import SessionState
from sipcore.protocol.session_events import SessionEnded, SessionEstablished, SessionMediaChanged
from tests.flows.scene import BOB, Scene
from tests.kit.raw_peer import SDP_OFFER, RawPeer

URI = "sip:bob@192.0.2.2"


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.fixture
def peer(scene: Scene) -> RawPeer:
    return RawPeer(scene.network, ("192.0.2.9", 5060), BOB)


def _connected(scene: Scene, peer: RawPeer, body: str = SDP_OFFER) -> str:
    """Raw calls Bob, who answers; Bob's tag."""
    peer.request("INVITE", URI, body=body)
    there = scene.bob.await_call()
    scene.network.run(scene.network.now + 0.1)
    scene.bob.answer(there)
    scene.network.run(scene.network.now + 0.1)
    answer = peer.final()
    assert answer.status == 200
    return answer.to_tag


def _acknowledge(peer: RawPeer, tag: str, *, cseq: int = 1, body: str = "") -> None:
    peer.request("ACK", URI, cseq=cseq, branch=f"ack{cseq}", to_tag=tag, body=body)


@pytest.mark.parametrize(
    ("method", "status"),
    [
        ("OPTIONS", 200),
        ("PUBLISH", 405),
        ("REGISTER", 405),
        ("FOO", 501),
        ("BYE", 481),
        ("UPDATE", 481),
        ("REFER", 481),
        ("INFO", 481),
    ],
)
def test_requests_outside_a_dialog(peer: RawPeer, method: str, status: int) -> None:
    """§8.2.1: 405 names what is allowed, §21.5.2: 501 for what nobody knows; §12.2.2: 481 for what needs a dialog."""
    peer.request(method, URI)
    assert peer.final().status == status
    if status in (200, 405):
        assert "INVITE" in peer.final().list_of("Allow")


def test_options_says_what_we_can_do(peer: RawPeer) -> None:
    """§11.2."""
    peer.request("OPTIONS", URI)
    assert peer.final().list_of("Accept") == ("application/sdp", "text/plain")
    assert peer.final().to_tag


def test_an_unknown_extension_gets_420(peer: RawPeer) -> None:
    """§8.2.2.3."""
    peer.request("INVITE", URI, extra="Require: 100rel, nothing-we-know, precondition\n", body=SDP_OFFER)
    assert peer.final().status == 420
    assert peer.final().list_of("Unsupported") == ("nothing-we-know", "precondition")


def test_a_body_that_is_no_sdp_gets_415(peer: RawPeer) -> None:
    """§8.2.3."""
    peer.request("INVITE", URI, extra="Content-Type: text/plain\n", body="hello")
    assert peer.final().status == 415
    assert peer.final().headers.get("Accept") == "application/sdp"


def test_garbage_as_sdp_gets_488(scene: Scene, peer: RawPeer) -> None:
    peer.request("INVITE", URI, body="\x01\x02nonsense")
    scene.bob.await_call()
    scene.network.run(scene.network.now + 0.1)
    assert peer.final().status == 488


def test_an_invite_without_contact_gets_400(peer: RawPeer) -> None:
    """§8.1.1.8: without it no dialog can be."""
    peer.send(
        f"INVITE {URI} SIP/2.0\nVia: SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bKx\nFrom: <sip:raw@192.0.2.9>;tag=1\n"
        f"To: <{URI}>\nCall-ID: x\nCSeq: 1 INVITE\nMax-Forwards: 70\n\n"
    )
    assert peer.final().status == 400


def test_a_foreign_scheme_gets_416(peer: RawPeer) -> None:
    """§8.2.2.1."""
    peer.request("INVITE", "mailto:bob@192.0.2.2", body=SDP_OFFER)
    assert peer.final().status == 416


def test_a_merged_request_gets_482(scene: Scene, peer: RawPeer) -> None:
    """§8.2.2.2: the same request on a second path."""
    peer.request("INVITE", URI, body=SDP_OFFER)
    scene.bob.await_call()
    peer.request("INVITE", URI, branch="other", body=SDP_OFFER)
    assert 482 in [response.status for response in peer.responses]
    assert len(scene.bob.incoming) == 1


def test_cancel_of_a_ringing_call(scene: Scene, peer: RawPeer) -> None:
    """§9.2: 200 to the CANCEL, 487 to the INVITE."""
    peer.request("INVITE", URI, body=SDP_OFFER)
    there = scene.bob.await_call()
    peer.request("CANCEL", URI)
    assert {(response.status, response.cseq.method) for response in peer.responses[-2:]} == {
        (200, "CANCEL"),
        (487, "INVITE"),
    }
    (ended,) = scene.bob.happened(there, SessionEnded)
    assert (ended.cause, ended.by, ended.code) == (EndCause.CANCELLED, Party.REMOTE, 487)


@pytest.mark.parametrize(("extra", "seconds", "status"), [("Expires: 20\n", 20, 487), ("", 300, 480)])
def test_nobody_takes_the_call_in_time(scene: Scene, peer: RawPeer, extra: str, seconds: int, status: int) -> None:
    """§13.3.1: the Expires of the INVITE, else five minutes."""
    peer.request("INVITE", URI, body=SDP_OFFER, extra=extra)
    there = scene.bob.await_call()
    scene.network.run(scene.network.now + seconds - 1)
    assert there.setting_up
    scene.network.run(scene.network.now + 2)
    assert peer.final().status == status
    assert scene.bob.end_of(there).code == status


def test_cancel_of_nothing_gets_481(peer: RawPeer) -> None:
    """§9.2."""
    peer.request("CANCEL", URI)
    assert peer.final().status == 481


def test_cancel_after_the_answer_changes_nothing(scene: Scene, peer: RawPeer) -> None:
    """§9.2: a final response has been sent; the CANCEL still gets its 200."""
    tag = _connected(scene, peer)
    peer.request("CANCEL", URI)
    assert (200, "CANCEL") in [(response.status, response.cseq.method) for response in peer.responses]
    _acknowledge(peer, tag)
    assert scene.bob.incoming[0].state is SessionState.CONNECTED


def test_bye_of_a_ringing_call(scene: Scene, peer: RawPeer) -> None:
    """§15: the caller may send BYE on an early dialog."""
    peer.request("INVITE", URI, body=SDP_OFFER)
    there = scene.bob.await_call()
    scene.network.run(scene.network.now + 0.1)
    tag = peer.final().to_tag
    peer.request("BYE", URI, cseq=2, branch="bye", to_tag=tag)
    assert {(response.status, response.cseq.method) for response in peer.responses[-2:]} == {
        (200, "BYE"),
        (487, "INVITE"),
    }
    assert there.state is SessionState.ENDED


def test_a_delayed_offer_is_answered_in_the_ack(scene: Scene, peer: RawPeer) -> None:
    """§13.2.1: no SDP in the INVITE, our offer in the 200, the answer in the ACK."""
    tag = _connected(scene, peer, body="")
    there = scene.bob.incoming[0]
    assert b"m=audio 40002 RTP/AVP 0 8 101" in peer.final().body
    assert not scene.bob.happened(there, SessionEstablished)
    _acknowledge(peer, tag, body=SDP_OFFER)
    (established,) = scene.bob.happened(there, SessionEstablished)
    assert established.media.remote_port == 50000


def test_a_delayed_offer_that_is_not_answered_ends_the_call(scene: Scene, peer: RawPeer) -> None:
    tag = _connected(scene, peer, body="")
    _acknowledge(peer, tag)
    assert len(peer.heard("BYE")) == 1
    assert scene.bob.end_of(scene.bob.incoming[0]).cause is EndCause.MEDIA


def test_an_ack_with_another_number_is_a_stray(scene: Scene, peer: RawPeer) -> None:
    """§13.2.2.4: the ACK's CSeq number is its INVITE's."""
    tag = _connected(scene, peer)
    _acknowledge(peer, tag, cseq=7)
    assert scene.bob.incoming[0].answers.pending is not None
    _acknowledge(peer, tag)
    assert scene.bob.incoming[0].answers.pending is None


def test_reinvite_moves_the_media(scene: Scene, peer: RawPeer) -> None:
    """§14.2: answered, ACKed, and the shell hears the new address."""
    tag = _connected(scene, peer)
    _acknowledge(peer, tag)
    moved = SDP_OFFER.replace("50000", "50010").replace("o=- 1 1", "o=- 1 2")
    peer.request("INVITE", URI, cseq=2, branch="re", to_tag=tag, body=moved)
    assert (peer.final().status, peer.final().content_type) == (200, "application/sdp")
    _acknowledge(peer, tag, cseq=2)
    (changed,) = scene.bob.happened(scene.bob.incoming[0], SessionMediaChanged)
    assert changed.media.remote_port == 50010
    scene.network.run(scene.network.now + 40)
    assert scene.bob.incoming[0].state is SessionState.CONNECTED


def test_reinvite_without_sdp_gets_our_offer(scene: Scene, peer: RawPeer) -> None:
    """§14.2: what some PBXs send to learn what they may use."""
    tag = _connected(scene, peer)
    _acknowledge(peer, tag)
    peer.request("INVITE", URI, cseq=2, branch="re", to_tag=tag)
    assert b"m=audio" in peer.final().body
    _acknowledge(peer, tag, cseq=2, body=SDP_OFFER.replace("50000", "50020"))
    (changed,) = scene.bob.happened(scene.bob.incoming[0], SessionMediaChanged)
    assert changed.media.remote_port == 50020


def test_reinvite_before_the_ack_gets_500(scene: Scene, peer: RawPeer) -> None:
    """§14.2: with Retry-After of 0 to 10 s."""
    tag = _connected(scene, peer)
    peer.request("INVITE", URI, cseq=2, branch="re", to_tag=tag, body=SDP_OFFER)
    refusal = next(response for response in peer.responses if response.cseq.number == 2)
    assert refusal.status == 500
    assert 0 <= int(refusal.headers.get("Retry-After") or "-1") <= 10


def test_reinvite_that_cannot_be_met_gets_488(scene: Scene, peer: RawPeer) -> None:
    tag = _connected(scene, peer)
    _acknowledge(peer, tag)
    video = "v=0\no=- 1 2 IN IP4 192.0.2.9\ns=-\nc=IN IP4 192.0.2.9\nt=0 0\nm=video 50000 RTP/AVP 96\n"
    peer.request("INVITE", URI, cseq=2, branch="re", to_tag=tag, body=video)
    assert peer.final().status == 488
    assert scene.bob.incoming[0].state is SessionState.CONNECTED


def test_update_with_and_without_an_offer(scene: Scene, peer: RawPeer) -> None:
    """RFC 3311 §5.2."""
    tag = _connected(scene, peer)
    _acknowledge(peer, tag)
    peer.request("UPDATE", URI, cseq=2, branch="u1", to_tag=tag)
    assert (peer.final().status, peer.final().body) == (200, b"")
    held = SDP_OFFER + "a=sendonly\r\n"
    peer.request("UPDATE", URI, cseq=3, branch="u2", to_tag=tag, body=held)
    assert b"a=recvonly" in peer.final().body
    (changed,) = scene.bob.happened(scene.bob.incoming[0], SessionMediaChanged)
    assert changed.media.remote_hold


def test_requests_out_of_order_get_500(scene: Scene, peer: RawPeer) -> None:
    """§12.2.2."""
    tag = _connected(scene, peer)
    _acknowledge(peer, tag)
    peer.request("OPTIONS", URI, cseq=9, branch="o1", to_tag=tag)
    assert peer.final().status == 200
    peer.request("OPTIONS", URI, cseq=5, branch="o2", to_tag=tag)
    assert peer.final().status == 500


@pytest.mark.parametrize(
    ("method", "status"),
    [("PUBLISH", 405), ("SUBSCRIBE", 405), ("FOO", 501), ("NOTIFY", 481), ("REFER", 400)],
)
def test_other_requests_in_a_dialog(scene: Scene, peer: RawPeer, method: str, status: int) -> None:
    """405 and 501 for what we do not have, 481 for a NOTIFY nobody asked for, 400 for a REFER without Refer-To."""
    tag = _connected(scene, peer)
    _acknowledge(peer, tag)
    peer.request(method, URI, cseq=2, branch="x", to_tag=tag)
    assert peer.final().status == status
    assert scene.bob.incoming[0].state is SessionState.CONNECTED


def test_options_in_a_dialog_says_what_we_can_do(scene: Scene, peer: RawPeer) -> None:
    """§11.2: as many PBXs ask to see whether a call is still there."""
    tag = _connected(scene, peer)
    _acknowledge(peer, tag)
    peer.request("OPTIONS", URI, cseq=2, branch="o", to_tag=tag)
    answer = peer.final()
    assert answer.status == 200
    assert {"INVITE", "REFER", "INFO", "MESSAGE"} <= set(answer.list_of("Allow"))
    assert {"application/sdp", "message/sipfrag", "application/dtmf-relay", "text/plain"} <= set(
        answer.list_of("Accept")
    )
    assert answer.headers.get("Supported") is not None


def test_a_request_with_a_foreign_tag_gets_481(scene: Scene, peer: RawPeer) -> None:
    """§12.2.2: half of a dialog's name does not open it."""
    tag = _connected(scene, peer)
    _acknowledge(peer, tag)
    peer.request("BYE", URI, cseq=2, branch="b1", to_tag="guessed")
    assert peer.final().status == 481
    peer.request("BYE", URI, cseq=2, branch="b2", to_tag=tag, from_tag="guessed")
    assert peer.final().status == 481
    assert scene.bob.incoming[0].state is SessionState.CONNECTED


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\r\n\r\n",
        "garbage",
        "INVITE\n\n",
        "INVITE sip:bob@192.0.2.2 SIP/2.0\n\n",
        "SIP/2.0 200 OK\n\n",
        "SIP/2.0 999 What\nVia: x\n\n",
        "ACK sip:bob@192.0.2.2 SIP/2.0\nVia: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK1\n\n",
    ],
)
def test_garbage_is_dropped_and_harms_nobody(scene: Scene, peer: RawPeer, text: str) -> None:
    peer.send(text)
    here, _ = scene.connect()
    scene.alice.hang_up(here)
    scene.alice.end_of(here)


@pytest.mark.parametrize(
    ("start_line", "cseq", "status"),
    [
        ("OPTIONS sip:bob@192.0.2.2 SIP/7.0", "1 OPTIONS", 505),
        ("OPTIONS sip:bob@192.0.2.2 SIP/2.0", "1 INVITE", 400),
        ("OPTIONS sip:[bad SIP/2.0", "1 OPTIONS", 400),
        ("OPTIONS sip:bob@192.0.2.2 SIP/2.0", "9999999999 OPTIONS", 400),
    ],
)
def test_a_malformed_request_is_refused_without_a_trace(
    scene: Scene, peer: RawPeer, start_line: str, cseq: str, status: int
) -> None:
    """§8.2.7 and RFC 4475: answered statelessly."""
    peer.send(
        f"{start_line}\nVia: SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bKm\nFrom: <sip:raw@192.0.2.9>;tag=1\n"
        f"To: <sip:bob@192.0.2.2>\nCall-ID: m\nCSeq: {cseq}\nMax-Forwards: 70\n\n"
    )
    assert [line.split()[1] for line in peer.start_lines] == [str(status)]
    assert scene.bob.stack.layer.active_count == 0


HEAD = (
    "OPTIONS sip:bob@192.0.2.2 SIP/2.0\nVia: SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bK{branch}\n"
    "From: <sip:raw@192.0.2.9>;tag=1\nTo: <sip:bob@192.0.2.2>\nCall-ID: {call_id}\nCSeq: 1 OPTIONS\nMax-Forwards: 70\n"
)


@pytest.mark.parametrize(
    ("head", "answered"),
    [
        (HEAD.format(branch="m", call_id="m") + "X: 1\n" * 300, True),
        (HEAD.format(branch="m", call_id="m") + "Subject: a\0b\n", True),
        (HEAD.format(branch="m", call_id="m") + "Subject: a\rb\n", True),
        (HEAD.format(branch="m", call_id="m\0"), True),
        (HEAD.format(branch="m\rVia: SIP/2.0/UDP 198.51.100.1", call_id="m"), False),
    ],
)
def test_too_many_lines_nul_and_lone_cr_get_400_where_the_answer_can_do_without_them(
    scene: Scene, peer: RawPeer, head: str, answered: bool
) -> None:
    """§21.4.1. What the answer copies (§8.2.6.2) never leaves this side with a NUL or a CR in it; without Via there is
    nobody to answer."""
    peer.send(head + "\n")
    assert [line.split()[1] for line in peer.start_lines] == ["400"] * answered
    assert scene.bob.stack.layer.active_count == 0
