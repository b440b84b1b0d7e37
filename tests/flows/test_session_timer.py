"""Session timers in both roles (RFC 4028)."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from sipcore.config import CallPolicy
from sipcore.errors import InvalidRequest
from sipcore.events import EndCause, Party
from sipcore.protocol.invite_session import InviteSession, SessionState
from sipcore.protocol.session_events import SessionEnded
from sipcore.protocol.wire import Request
from tests.flows.scene import ALICE, BOB, Scene
from tests.kit.raw_peer import SDP_OFFER, RawPeer

PEER = ("192.0.2.9", 5060)
BOB_URI = "sip:bob@192.0.2.2"
ALLOW_UPDATE = "Allow: INVITE, ACK, BYE, UPDATE\n"
TIMER = "Supported: timer\n"


# -- both sides are ours -------------------------------------------------------------------------------------------


def test_a_call_is_refreshed_by_update_for_as_long_as_it_lasts() -> None:
    """FIELD 12: calls were cut at 15 or 30 minutes. §7.4: UPDATE at half of the interval."""
    scene = Scene()
    here, there = scene.connect()
    scene.network.run(scene.network.now + 2 * 3600)
    assert here.state is there.state is SessionState.CONNECTED
    assert scene.sent("UPDATE") == 7
    assert scene.sent("INVITE") == 1
    (invite,) = scene.messages("INVITE")
    assert invite.headers.get("Session-Expires") == "1800"
    assert "timer" in invite.list_of("Supported")
    answer = next(each for each in scene.messages("SIP/2.0 200", by=BOB) if each.cseq.method == "INVITE")
    assert answer.headers.get("Session-Expires") == "1800;refresher=uas"
    assert "timer" in answer.list_of("Require")
    scene.alice.hang_up(here)
    scene.alice.end_of(here)
    scene.settle()


@pytest.mark.parametrize("vanished", ["alice", "bob"])
def test_whoever_is_left_hangs_up_before_the_interval_is_over(vanished: str) -> None:
    """§10: BYE with a Reason, a third of the interval or 32 s before its end."""
    scene = Scene(alice=CallPolicy(session_expires=300))
    here, there = scene.connect()
    began = scene.network.now
    phone, session = (scene.bob, there) if vanished == "alice" else (scene.alice, here)
    scene.network.leave(ALICE if vanished == "alice" else BOB)
    ended = phone.end_of(session)
    assert (ended.cause, ended.by) == (EndCause.EXPIRED, Party.NETWORK)
    assert "session timer ran out" in ended.description
    # Bob refreshes: his UPDATE times out after half of the time. Alice waits for a refresh until 32 s before the end.
    assert scene.network.now - began == pytest.approx(150 + 32 if vanished == "alice" else 300 - 32, abs=1)
    (bye, *_) = scene.messages("BYE")
    assert "Session timer expired" in (bye.headers.get("Reason") or "")


def test_no_timer_where_neither_side_asks() -> None:
    scene = Scene(alice=CallPolicy(session_expires=0), bob=CallPolicy(session_expires=0))
    here, there = scene.connect()
    scene.network.run(scene.network.now + 7200)
    assert here.timer.interval == there.timer.interval == 0
    assert not scene.sent("UPDATE")


def test_the_callee_asks_where_the_caller_only_can() -> None:
    """§9: a 2xx may begin what the request did not."""
    scene = Scene(alice=CallPolicy(session_expires=0), bob=CallPolicy(session_expires=600))
    here, there = scene.connect()
    assert (here.timer.interval, here.timer.refreshing) == (600, False)
    assert (there.timer.interval, there.timer.refreshing) == (600, True)


def test_an_interval_that_is_too_small_is_raised() -> None:
    """§6, §7.3: 422 with Min-SE; again with it, same Call-ID, next CSeq, Min-SE told to all who come after."""
    scene = Scene(alice=CallPolicy(session_expires=100), bob=CallPolicy(session_expires=600, min_se=300))
    here = scene.alice.call("sip:bob@192.0.2.2")
    first = scene.bob.await_call()
    assert scene.bob.end_of(first).code == 422
    there = scene.bob.await_call(2)
    scene.answer_and_settle(there)
    one, two = scene.messages("INVITE")
    assert (one.call_id, one.from_tag, one.cseq.number + 1) == (two.call_id, two.from_tag, two.cseq.number)
    assert two.headers.get("Session-Expires") == "300"
    assert two.headers.get("Min-SE") == "300"
    assert here.connected
    assert here.timer.interval == there.timer.interval == 300


def test_a_hold_refreshes_too_and_keeps_the_parts() -> None:
    """§7.4: each re-INVITE is a session refresh request, and says who refreshes."""
    scene = Scene(alice=CallPolicy(session_expires=200))
    here, there = scene.connect()
    scene.network.run(scene.network.now + 50)
    here.reoffer.offer("sendonly", scene.network.now)
    scene.network.run(scene.network.now + 60)
    invite = scene.messages("INVITE")[-1]
    assert invite.headers.get("Session-Expires") == "200;refresher=uas"
    assert not scene.sent("UPDATE")
    assert there.timer.refreshing
    assert not here.timer.refreshing
    scene.network.run(scene.network.now + 50)
    assert scene.sent("UPDATE") == 1


@pytest.mark.parametrize(("expires", "least"), [(-1, 90), (100, 0)])
def test_settings_that_make_no_sense_are_refused(expires: int, least: int) -> None:
    with pytest.raises(InvalidRequest):
        CallPolicy(session_expires=expires, min_se=least)


# -- calling a scripted far end ------------------------------------------------------------------------------------


class Calling:
    """Alice calls Raw, who answers."""

    def __init__(self, extra: str, *, password: str = "") -> None:
        self.scene = Scene(password=password)
        self.peer = RawPeer(self.scene.network, PEER, ALICE)
        self.session: InviteSession = self.scene.alice.call("sip:raw@192.0.2.9")
        self.run(0.05)
        (self.invite,) = self.peer.heard("INVITE")
        self.peer.respond(self.invite, 200, body=SDP_OFFER, extra=extra)

    def run(self, seconds: float) -> None:
        """Lets time pass."""
        self.scene.network.run(self.scene.network.now + seconds)

    def refreshes(self, method: str) -> list[Request]:
        """Requests of that method since the call began, oldest first, without repetitions."""
        heard = {each.cseq.number: each for each in self.peer.heard(method)}
        heard.pop(self.invite.cseq.number, None)
        return list(heard.values())


def test_the_caller_refreshes_where_it_is_told_to() -> None:
    calling = Calling(f"Session-Expires: 120;refresher=uac\nRequire: timer\n{ALLOW_UPDATE}")
    calling.run(59)
    assert not calling.refreshes("UPDATE")
    calling.run(2)
    (update,) = calling.refreshes("UPDATE")
    assert update.headers.get("Session-Expires") == "120;refresher=uac"
    assert not update.body
    calling.peer.respond(update, 200, extra="Session-Expires: 120;refresher=uac\n")
    calling.run(80)
    assert calling.session.connected


def test_a_far_end_without_update_is_refreshed_by_reinvite() -> None:
    """§7.4; the offer is the one before (RFC 3264 §8: the same version)."""
    calling = Calling("Session-Expires: 120;refresher=uac\nAllow: INVITE, ACK, BYE\n")
    calling.run(61)
    (again,) = calling.refreshes("INVITE")
    assert again.headers.get("Session-Expires") == "120;refresher=uac"
    assert _origin(again.body) == _origin(calling.invite.body)
    calling.peer.respond(again, 200, body=SDP_OFFER, extra="Session-Expires: 120;refresher=uac\n")
    calling.run(80)
    assert calling.session.connected
    assert len({each.cseq.number for each in calling.refreshes("INVITE")}) == 2


def _origin(body: bytes) -> bytes:
    return next(line for line in body.splitlines() if line.startswith(b"o="))


def test_an_update_that_is_not_known_after_all_becomes_a_reinvite() -> None:
    calling = Calling(f"Session-Expires: 120;refresher=uac\n{ALLOW_UPDATE}")
    calling.run(61)
    calling.peer.respond(calling.refreshes("UPDATE")[0], 405)
    (again,) = calling.refreshes("INVITE")
    calling.peer.respond(again, 200, body=SDP_OFFER, extra="Session-Expires: 120;refresher=uac\n")
    calling.run(70)
    assert calling.session.connected


def test_a_refresh_that_is_too_small_is_raised() -> None:
    """§7.3, for a refresh."""
    calling = Calling(f"Session-Expires: 120;refresher=uac\n{ALLOW_UPDATE}")
    calling.run(61)
    calling.peer.respond(calling.refreshes("UPDATE")[0], 422, extra="Min-SE: 500\n")
    again = calling.refreshes("UPDATE")[-1]
    assert again.headers.get("Session-Expires") == "500;refresher=uac"
    calling.peer.respond(again, 200, extra="Session-Expires: 500;refresher=uac\n")
    assert calling.session.timer.interval == 500


@pytest.mark.parametrize("status", [500, 491, 488, 503])
def test_a_refused_refresh_is_tried_again_until_the_time_is_over(status: int) -> None:
    """§10: the session ends when no refresh got through, not when one did not."""
    calling = Calling(f"Session-Expires: 120;refresher=uac\n{ALLOW_UPDATE}")
    calling.run(61)
    calling.peer.respond(calling.refreshes("UPDATE")[0], status)
    assert calling.session.connected
    calling.run(15)
    numbers = {each.cseq.number for each in calling.refreshes("UPDATE")}
    assert len(numbers) > 1
    assert calling.session.connected
    calling.run(20)
    (ended,) = calling.scene.alice.happened(calling.session, SessionEnded)
    assert ended.cause is EndCause.EXPIRED


@pytest.mark.parametrize(("status", "header"), [(401, "WWW-Authenticate"), (407, "Proxy-Authenticate")])
@pytest.mark.parametrize("method", ["UPDATE", "INVITE"])
def test_a_refresh_is_challenged(method: str, status: int, header: str) -> None:
    """RFC 3261 §22, for requests within a call."""
    allow = ALLOW_UPDATE if method == "UPDATE" else ""
    calling = Calling(f"Session-Expires: 120;refresher=uac\n{allow}", password="secret")
    calling.run(61)
    challenge = f'{header}: Digest realm="r", nonce="n", qop="auth"\n'
    calling.peer.respond(calling.refreshes(method)[0], status, extra=challenge)
    one, two = calling.refreshes(method)
    assert two.cseq.number == one.cseq.number + 1
    assert "Authorization" in two.headers or "Proxy-Authorization" in two.headers
    body = SDP_OFFER if method == "INVITE" else ""
    calling.peer.respond(two, 200, extra="Session-Expires: 120;refresher=uac\n", body=body)
    calling.run(50)
    assert calling.session.connected


def test_a_refresh_of_a_forgotten_call_ends_it() -> None:
    """§10 with RFC 3261 §12.2.1.2."""
    calling = Calling(f"Session-Expires: 120;refresher=uac\n{ALLOW_UPDATE}")
    calling.run(61)
    calling.peer.respond(calling.refreshes("UPDATE")[0], 481)
    (ended,) = calling.scene.alice.happened(calling.session, SessionEnded)
    assert (ended.cause, ended.by, ended.code) == (EndCause.HANGUP, Party.REMOTE, 481)
    assert calling.peer.heard("BYE")


def test_the_caller_hangs_up_when_the_far_end_does_not_refresh() -> None:
    calling = Calling("Session-Expires: 90;refresher=uas\nRequire: timer\n")
    calling.run(59)
    assert calling.session.connected
    calling.run(2)
    (ended,) = calling.scene.alice.happened(calling.session, SessionEnded)
    assert ended.cause is EndCause.EXPIRED
    assert "no refresh came" in ended.description
    (bye, *_) = calling.peer.heard("BYE")
    assert "Reason" in bye.headers


@pytest.mark.parametrize("extra", ["", "Session-Expires: nonsense\n", "Session-Expires: 0\n"])
def test_an_answer_without_session_expires_means_no_timer(extra: str) -> None:
    """§7.2."""
    calling = Calling(extra)
    calling.run(7200)
    assert calling.session.connected
    assert calling.session.timer.interval == 0


def test_an_answer_to_a_refresh_without_session_expires_ends_the_timer() -> None:
    """§7.2: it can be turned off in mid-call."""
    calling = Calling(f"Session-Expires: 120;refresher=uac\n{ALLOW_UPDATE}")
    calling.run(61)
    calling.peer.respond(calling.refreshes("UPDATE")[0], 200)
    calling.run(3600)
    assert calling.session.connected
    assert len({each.cseq.number for each in calling.refreshes("UPDATE")}) == 1


def test_a_far_end_that_raises_the_interval_for_ever_is_left() -> None:
    """§7.3 sets no limit; one that is not kept to is a loop."""
    scene = Scene()
    peer = RawPeer(scene.network, PEER, ALICE)
    session = scene.alice.call("sip:raw@192.0.2.9")
    for number in range(20):
        scene.network.run(scene.network.now + 0.05)
        peer.respond(peer.heard("INVITE")[-1], 422, extra=f"Min-SE: {2000 + 100 * number}\n")
    (ended,) = scene.alice.happened(session, SessionEnded)
    assert ended.code == 422
    assert len({each.cseq.number for each in peer.heard("INVITE")}) == 6


@pytest.mark.parametrize("minimum", ["", "Min-SE: 90\n", "Min-SE: x\n"])
def test_a_422_that_asks_for_nothing_more_is_final(minimum: str) -> None:
    scene = Scene()
    peer = RawPeer(scene.network, PEER, ALICE)
    session = scene.alice.call("sip:raw@192.0.2.9")
    scene.network.run(scene.network.now + 0.05)
    peer.respond(peer.heard("INVITE")[0], 422, extra=minimum)
    (ended,) = scene.alice.happened(session, SessionEnded)
    assert (ended.code, ended.cause) == (422, EndCause.REJECTED)


# -- called by a scripted far end ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """What an INVITE says, and what its 2xx shall say (§9, table 2)."""

    extra: str
    answer: str | None
    required: bool = False


@pytest.mark.parametrize(
    "row",
    [
        Row("Session-Expires: 600\n", "600;refresher=uas"),
        Row("Session-Expires: 600;refresher=uac\n", "600;refresher=uac"),
        Row(f"Session-Expires: 600;refresher=uac\n{TIMER}", "600;refresher=uac", required=True),
        Row(f"Session-Expires: 600;refresher=uas\n{TIMER}", "600;refresher=uas", required=True),
        Row(f"Session-Expires: 600\n{TIMER}", "600;refresher=uas", required=True),
        Row("x: 600;refresher=uac\nk: timer\n", "600;refresher=uac", required=True),
        Row(f"Session-Expires: 9999\n{TIMER}", "1800;refresher=uas", required=True),
        Row(f"Session-Expires: 9999\nMin-SE: 3000\n{TIMER}", "3000;refresher=uas", required=True),
        Row(f"Require: timer\n{TIMER}Session-Expires: 90\n", "90;refresher=uas", required=True),
        Row(TIMER, "1800;refresher=uas", required=True),
        Row("", None),
        Row("Session-Expires: 20\n", "20;refresher=uas"),
    ],
    ids=str,
)
def test_who_refreshes(row: Row) -> None:
    """Table 2; FIELD 12: a far end is answered even where it never advertised the extension."""
    scene = Scene()
    peer = RawPeer(scene.network, PEER, BOB)
    _answered(scene, peer, row.extra)
    final = peer.final()
    assert final.headers.get("Session-Expires") == row.answer
    assert ("timer" in final.list_of("Require")) is row.required
    assert "timer" in final.list_of("Supported")


def _answered(scene: Scene, peer: RawPeer, extra: str) -> InviteSession:
    """Raw calls Bob, who answers; the ACK is sent."""
    peer.request("INVITE", BOB_URI, body=SDP_OFFER, extra=extra)
    there = scene.bob.await_call()
    scene.bob.answer(there)
    scene.network.run(scene.network.now + 0.1)
    peer.request("ACK", BOB_URI, branch="ack1", to_tag=peer.final().to_tag)
    return there


def test_an_invite_whose_interval_is_too_small_gets_422() -> None:
    """§9; only a caller that knows the extension (``Supported: timer``) can make something of it."""
    scene = Scene()
    peer = RawPeer(scene.network, PEER, BOB)
    peer.request("INVITE", BOB_URI, body=SDP_OFFER, extra=f"Session-Expires: 60\n{TIMER}")
    there = scene.bob.await_call()
    scene.network.run(scene.network.now + 0.1)
    assert peer.final().status == 422
    assert peer.final().headers.get("Min-SE") == "90"
    assert scene.bob.end_of(there).code == 422


@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
def test_a_refresh_of_the_far_end_is_answered_and_counts(method: str) -> None:
    """FIELD 12: the far end refreshes without ever having advertised the extension."""
    scene = Scene(bob=CallPolicy(session_expires=0))
    peer = RawPeer(scene.network, PEER, BOB)
    there = _answered(scene, peer, "")
    tag = peer.final().to_tag
    for number in range(2, 8):
        scene.network.run(scene.network.now + 50)
        body = SDP_OFFER if method == "INVITE" else ""
        extra = "Session-Expires: 90;refresher=uac\n"
        peer.request(method, BOB_URI, cseq=number, branch=f"r{number}", to_tag=tag, body=body, extra=extra)
        assert peer.final().status == 200
        assert peer.final().headers.get("Session-Expires") == "90;refresher=uac"
        if method == "INVITE":
            peer.request("ACK", BOB_URI, cseq=number, branch=f"a{number}", to_tag=tag)
    assert there.connected
    assert scene.bob.end_of(there).cause is EndCause.EXPIRED


@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
def test_a_refresh_that_is_too_small_gets_422_and_changes_nothing(method: str) -> None:
    scene = Scene()
    peer = RawPeer(scene.network, PEER, BOB)
    there = _answered(scene, peer, f"Session-Expires: 600;refresher=uac\n{TIMER}")
    tag = peer.final().to_tag
    extra = f"Session-Expires: 30;refresher=uac\n{TIMER}"
    peer.request(method, BOB_URI, cseq=2, branch="2", to_tag=tag, body=SDP_OFFER, extra=extra)
    assert (peer.final().status, peer.final().headers.get("Min-SE")) == (422, "90")
    assert there.timer.interval == 600


def test_a_reinvite_without_timer_ends_the_timer() -> None:
    """§9: no Session-Expires in the 2xx, and the session does not expire any more."""
    scene = Scene(bob=CallPolicy(session_expires=0))
    peer = RawPeer(scene.network, PEER, BOB)
    there = _answered(scene, peer, f"Session-Expires: 600;refresher=uac\n{TIMER}")
    tag = peer.final().to_tag
    peer.request("INVITE", BOB_URI, cseq=2, branch="2", to_tag=tag, body=SDP_OFFER)
    assert "Session-Expires" not in peer.final().headers
    peer.request("ACK", BOB_URI, cseq=2, branch="a2", to_tag=tag)
    scene.network.run(scene.network.now + 3600)
    assert there.connected


def test_a_reinvite_that_leaves_the_choice_keeps_the_parts() -> None:
    scene = Scene()
    peer = RawPeer(scene.network, PEER, BOB)
    there = _answered(scene, peer, f"Session-Expires: 600;refresher=uac\n{TIMER}")
    tag = peer.final().to_tag
    peer.request("INVITE", BOB_URI, cseq=2, branch="2", to_tag=tag, body=SDP_OFFER, extra=TIMER)
    assert peer.final().headers.get("Session-Expires") == "600;refresher=uac"
    assert not there.timer.refreshing


def test_the_call_is_refreshed_after_a_refresh_met_another_exchange() -> None:
    """One exchange at a time: the refresh waits for it, and comes if it failed."""
    calling = Calling(f"Session-Expires: 120;refresher=uac\n{ALLOW_UPDATE}")
    calling.run(59)
    calling.session.reoffer.offer("sendonly", calling.scene.network.now)
    calling.run(1.5)
    (hold,) = calling.refreshes("INVITE")
    assert not calling.refreshes("UPDATE")
    calling.peer.respond(hold, 488)
    calling.run(2)
    assert calling.refreshes("UPDATE")
