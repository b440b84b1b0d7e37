"""Early media of the callee: 183 with the answer, reliable and not (RFC 3261 §13.3.1.1, RFC 3262 §5, RFC 3960)."""

from __future__ import annotations

import pytest

from sipcore.errors import MediaNotAcceptable
from sipcore.events import EndCause
from sipcore.protocol.session_events import SessionEarlyMedia, SessionEstablished, SessionMediaChanged
from sipcore.protocol.wire import Response
from tests.flows.scene import Scene
from tests.flows.test_reliable import BOB_URI, Called
from tests.kit.raw_peer import SDP_OFFER


class Early(Called):
    """Raw has called Bob, where it rings; Bob may let him hear something."""

    def progress(self) -> None:
        """Bob does."""
        assert self.session.callee is not None
        self.session.callee.progress(self.scene.network.now)
        self.run(0.05)

    @property
    def flowing(self) -> list[SessionEarlyMedia]:
        """What the shell heard."""
        return self.scene.bob.happened(self.session, SessionEarlyMedia)

    def acknowledge(self, ringing: Response, cseq: int, *, body: str = "") -> Response:
        """PRACK for that response."""
        return self.prack(f"{ringing.headers.get('RSeq')} 1 INVITE", cseq=cseq, body=body)


def test_the_183_holds_the_answer_and_the_200_the_same() -> None:
    """RFC 3261 §13.2.1: one answer, however often it is sent."""
    early = Early("")
    early.progress()
    (progress,) = early.heard(183)
    assert b"m=audio 40002" in progress.body
    assert "RSeq" not in progress.headers
    assert early.flowing[0].media.remote_port == 50000
    early.progress()
    assert len(early.heard(183)) == len(early.flowing) == 1
    early.answer()
    (answered,) = early.heard(200)
    assert answered.body == progress.body
    assert answered.to_tag == progress.to_tag
    (established,) = early.scene.bob.happened(early.session, SessionEstablished)
    assert established.media == early.flowing[0].media


def test_it_is_repeated_each_minute_with_the_answer() -> None:
    """§13.3.1.1; a caller whose 183 was lost hears the next one."""
    early = Early("")
    early.progress()
    early.run(61)
    assert [bool(each.body) for each in early.heard(183)] == [True, True]
    assert len(early.heard(180)) == 1


def test_a_reliable_183_waits_for_the_prack_of_the_180_and_the_200_has_no_sdp() -> None:
    """RFC 3262 §3: one at a time; §5: with its PRACK the offer of the INVITE is answered for good."""
    early = Early()
    early.progress()
    assert not early.heard(183)
    assert not early.flowing
    early.acknowledge(early.heard(180)[0], 2)
    early.run(0.05)
    (progress,) = early.heard(183)
    assert b"m=audio 40002" in progress.body
    assert len(early.flowing) == 1
    early.answer()
    assert not early.heard(200), "§3: it waits for the PRACK of what holds a session description"
    early.acknowledge(progress, 3)
    early.run(0.05)
    (answered,) = early.heard(200)
    assert not answered.body
    assert early.session.connected


def test_an_update_after_the_reliable_183_moves_the_early_media() -> None:
    """RFC 3311 §5.2: once the exchange is complete, the caller may begin another; not before."""
    early = Early()
    early.acknowledge(early.heard(180)[0], 2)
    early.progress()
    (progress,) = early.heard(183)
    moved = SDP_OFFER.replace("50000", "50020")
    early.peer.request("UPDATE", BOB_URI, cseq=3, branch="u3", to_tag=progress.to_tag, body=moved)
    assert early.peer.final().status == 500
    early.acknowledge(progress, 4)
    early.peer.request("UPDATE", BOB_URI, cseq=5, branch="u5", to_tag=progress.to_tag, body=moved)
    assert early.peer.final().status == 200
    (changed,) = early.scene.bob.happened(early.session, SessionMediaChanged)
    assert changed.media.remote_port == 50020
    early.answer()
    (established,) = early.scene.bob.happened(early.session, SessionEstablished)
    assert established.media.remote_port == 50020


def test_the_183_after_an_offer_in_the_180_needs_no_sdp() -> None:
    """RFC 3262 §5: our offer was in the 180, the answer in its PRACK."""
    early = Early(body="")
    early.progress()
    early.acknowledge(early.heard(180)[0], 2, body=SDP_OFFER)
    early.run(0.05)
    (progress,) = early.heard(183)
    assert not progress.body
    assert early.flowing[0].media.remote_port == 50000


def test_without_an_offer_and_reliable_responses_there_is_none() -> None:
    early = Early("", body="")
    with pytest.raises(MediaNotAcceptable, match="no early media"):
        early.progress()
    early.answer()
    assert early.heard(200)


def test_a_reliable_183_that_nobody_acknowledges_ends_the_call() -> None:
    """RFC 3262 §3."""
    early = Early()
    early.acknowledge(early.heard(180)[0], 2)
    early.progress()
    early.run(40)
    assert early.heard(504)
    assert early.scene.bob.end_of(early.session).code == 504


def test_a_cancel_ends_early_media() -> None:
    early = Early("")
    early.progress()
    early.peer.request("CANCEL", BOB_URI)
    assert early.heard(487)
    assert early.scene.bob.end_of(early.session).cause is EndCause.CANCELLED
    early.progress()
    assert len(early.heard(183)) == 1


def test_nothing_is_left_of_a_call_that_was_refused_after_an_announcement() -> None:
    """By two of ours: the caller hears 183 with SDP, then the refusal."""
    scene = Scene()
    here = scene.alice.call("sip:bob@192.0.2.2")
    there = scene.bob.await_call()
    assert there.callee is not None
    there.callee.progress(scene.network.now)
    scene.network.run(scene.network.now + 3)
    there.hang_up(scene.network.now, code=404)
    assert scene.alice.end_of(here).code == 404
    scene.settle()
