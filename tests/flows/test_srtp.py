"""Calls with SRTP keys (RFC 4568, RFC 8643) between two stacks, and with far ends written by hand."""

from __future__ import annotations

import itertools

import pytest

from sipcore.config import CallPolicy
from sipcore.errors import InvalidRequest, MediaNotAcceptable
from sipcore.events import EndCause
from sipcore.protocol.invite_session import InviteSession
from sipcore.protocol.sdes import SrtpKeys, SrtpUse, cryptos_of
from sipcore.protocol.sdp import parse_sdp
from sipcore.protocol.session_events import (
    SessionEnded,
    SessionEstablished,
    SessionMediaChanged,
    SessionOfferSettled,
    SessionProvisional,
)
from sipcore.protocol.wire import Request
from tests.flows.scene import ALICE, Phone, Scene
from tests.kit.raw_peer import SDP_OFFER, RawPeer

PEER = ("192.0.2.9", 5060)
ONE, TWO = "A" * 40, "B" * 40
SUITE = "AES_CM_128_HMAC_SHA1_80"
USES: tuple[SrtpUse, ...] = ("forbidden", "optional", "required")


@pytest.fixture(autouse=True)
def with_srtp(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is there: no packet is encrypted here."""
    monkeypatch.setattr("sipcore.config.has_srtp", lambda: True)


def policy(use: SrtpUse) -> CallPolicy:
    return CallPolicy(srtp=use)


def secure(key: str, *, tag: int = 1, profile: str = "RTP/SAVP") -> str:
    return SDP_OFFER.replace("RTP/AVP", profile) + f"a=crypto:{tag} {SUITE} inline:{key}\r\n"


def keys_of(phone: Phone, session: InviteSession) -> SrtpKeys | None:
    """As the shell was told of them last."""
    changed = phone.happened(session, SessionMediaChanged)
    (established,) = phone.happened(session, SessionEstablished)
    return (changed[-1] if changed else established).media.srtp


@pytest.mark.parametrize(("caller", "callee"), list(itertools.product(USES, USES)))
@pytest.mark.parametrize("delayed", [False, True])
def test_every_pair_of_settings(caller: SrtpUse, callee: SrtpUse, delayed: bool) -> None:
    """488 where one insists and the other refuses; else encrypted where both can. Both sides know the same keys."""
    scene = Scene(alice=policy(caller), bob=policy(callee))
    here = scene.alice.call("sip:bob@192.0.2.2", delayed=delayed)
    there = scene.bob.await_call()
    scene.bob.answer(there)
    scene.network.run(scene.network.now + 1)
    if {caller, callee} == {"forbidden", "required"}:
        ended = scene.alice.end_of(here)
        assert (ended.cause, ended.code) == (EndCause.MEDIA, 488) if not delayed else ended.code
        return
    ours, theirs = keys_of(scene.alice, here), keys_of(scene.bob, there)
    if "forbidden" in (caller, callee):
        assert ours is None
        assert theirs is None
        return
    assert ours is not None
    assert theirs is not None
    assert (ours.local, ours.remote) == (theirs.remote, theirs.local)
    assert ours.local != ours.remote


def test_a_refusal_says_why() -> None:
    scene = Scene(alice=policy("forbidden"), bob=policy("required"))
    here = scene.alice.call("sip:bob@192.0.2.2")
    scene.bob.await_call()
    ended = scene.alice.end_of(here)
    assert isinstance(ended.error, MediaNotAcceptable)
    (refusal,) = scene.messages("SIP/2.0 488")
    assert "SRTP is required here" in (refusal.headers.get("Warning") or "")


def test_holds_resumes_and_refreshes_of_either_side_change_no_key() -> None:
    """RFC 4568 §7.1.4."""
    scene = Scene(alice=policy("required"), bob=policy("required"))
    here, there = scene.connect()
    before = keys_of(scene.alice, here), keys_of(scene.bob, there)
    for session in (here, there):
        for direction in ("sendonly", "sendrecv"):
            session.reoffer.offer(direction, scene.network.now)
            scene.network.run(scene.network.now + 1)
        session.reoffer.refresh(scene.network.now)
        scene.network.run(scene.network.now + 1)
        outcomes = (scene.alice if session is here else scene.bob).happened(session, SessionOfferSettled)
        assert [each.error for each in outcomes] == [None, None]
    assert (keys_of(scene.alice, here), keys_of(scene.bob, there)) == before
    assert before[0] is not None


class Called:
    """Raw has called Alice, with key ONE, and been answered."""

    def __init__(self, use: SrtpUse = "required") -> None:
        self.scene = Scene(alice=policy(use))
        self.peer = RawPeer(self.scene.network, PEER, ALICE)
        self.peer.request("INVITE", "sip:alice@192.0.2.1", body=secure(ONE))
        self.session = self.scene.alice.await_call()
        self.scene.alice.answer(self.session)
        self.scene.network.run(self.scene.network.now + 0.1)
        self.tag = self.peer.final().to_tag
        self.peer.request("ACK", "sip:alice@192.0.2.1", to_tag=self.tag, branch="ack")

    def offers(self, method: str, cseq: int, body: str) -> int:
        self.peer.request(method, "sip:alice@192.0.2.1", cseq=cseq, branch=f"b{cseq}", to_tag=self.tag, body=body)
        status = self.peer.final().status
        if method == "INVITE":
            self.peer.request("ACK", "sip:alice@192.0.2.1", cseq=cseq, branch=f"a{cseq}", to_tag=self.tag)
        return status

    @property
    def keys(self) -> SrtpKeys:
        keys = keys_of(self.scene.alice, self.session)
        assert keys is not None
        return keys


@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
def test_the_far_end_changes_its_key(method: str) -> None:
    """The answer names the new offer's tag, and our key, which stays."""
    called = Called()
    before = called.keys
    assert called.offers(method, 2, secure(TWO, tag=4)) == 200
    assert called.keys.local == before.local
    assert called.keys.remote != before.remote
    (crypto,) = cryptos_of(parse_sdp(called.peer.final().body).media[0])
    assert (crypto.tag, crypto.key) == (4, before.local)


@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
@pytest.mark.parametrize("use", ["optional", "required"])
def test_the_far_end_wants_to_go_on_in_the_clear(method: str, use: SrtpUse) -> None:
    called = Called(use)
    before = called.keys
    assert called.offers(method, 2, SDP_OFFER) == (488 if use == "required" else 200)
    assert called.session.connected
    after = keys_of(called.scene.alice, called.session)
    assert after == (before if use == "required" else None)


def test_early_media_of_each_branch_has_its_own_key() -> None:
    """Two branches ring with audio, and the second one answers."""
    scene = Scene(alice=policy("required"))
    peer = RawPeer(scene.network, PEER, ALICE)
    session = scene.alice.call("sip:raw@192.0.2.9")
    scene.network.run(scene.network.now + 0.05)
    (invite,) = peer.heard("INVITE")
    peer.respond(invite, 183, to_tag="one", body=secure(ONE))
    peer.respond(invite, 183, to_tag="two", body=secure(TWO))
    early = [each.media.srtp for each in scene.alice.happened(session, SessionProvisional) if each.media is not None]
    assert len(early) == 2
    peer.respond(invite, 200, to_tag="two", body=secure(TWO))
    assert keys_of(scene.alice, session) == early[1]
    assert early[0] is not None
    assert early[1] is not None
    assert early[0].remote != early[1].remote


class Insisted:
    """Alice calls Raw, who refuses the first INVITE, as far ends do that take nothing but RTP/SAVP."""

    def __init__(self, use: SrtpUse = "optional", *, delayed: bool = False) -> None:
        self.scene = Scene(alice=policy(use))
        self.peer = RawPeer(self.scene.network, PEER, ALICE)
        self.session = self.scene.alice.call("sip:raw@192.0.2.9", delayed=delayed)
        self.scene.network.run(self.scene.network.now + 0.05)
        self.peer.respond(self.invites[0], 180, to_tag="one")
        self.peer.respond(self.invites[0], 488, to_tag="one")

    @property
    def invites(self) -> list[Request]:
        """INVITEs so far, without repetitions."""
        return list({each.via.branch: each for each in self.peer.heard("INVITE")}.values())

    @property
    def profiles(self) -> list[str]:
        """What each of them offered."""
        return [parse_sdp(each.body).media[0].protocol for each in self.invites]

    def end(self) -> SessionEnded:
        (ended,) = self.scene.alice.happened(self.session, SessionEnded)
        return ended


def test_a_far_end_that_insists_on_savp_is_asked_once_more() -> None:
    """RFC 3261 §8.1.3.5: same Call-ID, From and To, next CSeq. What is agreed on stays optional."""
    call = Insisted()
    first, second = call.invites
    assert call.profiles == ["RTP/AVP", "RTP/SAVP"]
    assert cryptos_of(parse_sdp(second.body).media[0])
    for name in ("Call-ID", "From", "To"):
        assert first.headers.get(name) == second.headers.get(name)
    assert second.cseq.number == first.cseq.number + 1
    call.peer.respond(second, 200, to_tag="two", body=secure(ONE))
    assert call.session.connected
    assert keys_of(call.scene.alice, call.session) is not None
    assert [each.cseq.number for each in call.peer.heard("ACK")] == [first.cseq.number, second.cseq.number]
    call.session.reoffer.offer("sendonly", call.scene.network.now)
    call.scene.network.run(call.scene.network.now + 0.1)
    assert call.profiles[-1] == "RTP/SAVP"
    call.peer.respond(call.invites[-1], 200, body=secure(ONE))
    peer, tag = call.peer, second.from_tag
    peer.request("INVITE", "sip:alice@192.0.2.1", call_id=second.call_id, from_tag="two", to_tag=tag, body=SDP_OFFER)
    assert peer.final().status == 200
    assert keys_of(call.scene.alice, call.session) is None


def test_who_refuses_that_too_is_not_asked_again_and_its_reason_is_told() -> None:
    for status, cause in ((488, EndCause.MEDIA), (486, EndCause.REJECTED)):
        call = Insisted()
        call.peer.respond(call.invites[1], status, to_tag="two")
        assert call.profiles == ["RTP/AVP", "RTP/SAVP"]
        assert (call.end().cause, call.end().code) == (cause, status)


def test_an_answer_without_keys_to_the_second_offer_ends_the_call() -> None:
    call = Insisted()
    call.peer.respond(call.invites[1], 200, to_tag="two", body=secure(ONE).partition("a=crypto")[0])
    assert call.end().cause is EndCause.MEDIA
    assert len(call.peer.heard("BYE")) == 1


@pytest.mark.parametrize(("use", "delayed"), [("forbidden", False), ("required", False), ("optional", True)])
def test_only_who_offered_keys_in_rtp_avp_asks_again(use: SrtpUse, delayed: bool) -> None:
    call = Insisted(use, delayed=delayed)
    assert len(call.invites) == 1
    assert call.end().code == 488


def test_who_hangs_up_meanwhile_is_not_called_again() -> None:
    """Before the refusal, and after it."""
    scene = Scene(alice=policy("optional"))
    peer = RawPeer(scene.network, PEER, ALICE)
    session = scene.alice.call("sip:raw@192.0.2.9")
    scene.network.run(scene.network.now + 0.05)
    peer.respond(peer.heard("INVITE")[0], 180)
    scene.alice.hang_up(session)
    peer.respond(peer.heard("INVITE")[0], 488)
    assert len({each.via.branch for each in peer.heard("INVITE")}) == 1
    assert len(scene.alice.happened(session, SessionEnded)) == 1

    call = Insisted()
    second = call.invites[1]
    call.peer.respond(second, 180, to_tag="two")
    call.scene.alice.hang_up(call.session)
    call.scene.network.run(call.scene.network.now + 0.1)
    assert call.peer.heard("CANCEL")[0].via.branch == second.via.branch
    call.peer.respond(second, 487, to_tag="two")
    assert call.end().cause is EndCause.CANCELLED
    assert len(call.invites) == 2
    call.scene.settle()


def test_each_address_that_a_redirection_names_is_asked_as_if_it_were_the_first() -> None:
    call = Insisted()
    call.peer.respond(call.invites[1], 302, to_tag="two", extra="Contact: <sip:other@192.0.2.9>\n")
    for number in (2, 3, 4, 5):  # the peer's own Contact stands there, too
        call.peer.respond(call.invites[number], 488, to_tag=str(number))
    assert call.profiles == ["RTP/AVP", "RTP/SAVP"] * 3
    assert call.end().code == 488


@pytest.mark.parametrize(
    "answer", [SDP_OFFER, secure(ONE, tag=9), secure(ONE[:-4]), secure(ONE, profile="RTP/AVP"), secure("", tag=1)]
)
def test_an_answer_without_a_key_for_the_offer_ends_the_call(answer: str) -> None:
    """It is acknowledged and hung up: nothing is sent in the clear."""
    scene = Scene(alice=policy("required"))
    peer = RawPeer(scene.network, PEER, ALICE)
    session = scene.alice.call("sip:raw@192.0.2.9")
    scene.network.run(scene.network.now + 0.05)
    peer.respond(peer.heard("INVITE")[0], 200, body=answer)
    (ended,) = scene.alice.happened(session, SessionEnded)
    assert ended.cause is EndCause.MEDIA
    assert len(peer.heard("ACK")) == len(peer.heard("BYE")) == 1


def test_the_setting_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is sent."""
    with pytest.raises(InvalidRequest, match="neither forbidden, optional nor required"):
        policy("perhaps")  # type: ignore[arg-type]
    monkeypatch.setattr("sipcore.config.has_srtp", lambda: False)
    for use in ("optional", "required"):
        with pytest.raises(InvalidRequest, match=r"pip install 'sipcore\[srtp\]'") as refused:
            policy(use)
        assert refused.value.field == "srtp"
    assert policy("forbidden").srtp == "forbidden"
