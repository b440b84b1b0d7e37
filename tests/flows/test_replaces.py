"""Which INVITE may take whose place (RFC 3891 §3)."""

from __future__ import annotations

import pytest

from sipcore.config import Account
from sipcore.protocol.invite_session import InviteSession
from sipcore.protocol.stack import REMEMBERED_DIALOGS
from tests.flows.scene import ALICE, BOB, Scene
from tests.kit.raw_peer import SDP_OFFER, RawPeer

URI = "sip:bob@192.0.2.2"


class Place:
    """Alice and Bob talk; a third one wants Alice's place."""

    def __init__(self) -> None:
        self.scene = Scene()
        self.here, self.there = self.scene.connect()
        self.third = RawPeer(self.scene.network, ("192.0.2.9", 5060), BOB)
        self._number = 0

    def value(self, session: InviteSession, flags: str = "") -> str:
        """Names a session of Bob's."""
        assert session.dialog is not None
        dialog = session.dialog.id
        return f"{dialog.call_id};to-tag={dialog.local_tag};from-tag={dialog.remote_tag}{flags}"

    def invite(self, *values: str, uri: str = URI, method: str = "INVITE", extra: str = "") -> int:
        """The third one asks; the newest answer."""
        self._number += 1
        lines = "".join(f"Replaces: {value}\n" for value in values)
        self.third.request(
            method,
            uri,
            extra=lines + extra,
            body=SDP_OFFER if method == "INVITE" else "",
            call_id=f"third{self._number}",
            branch=f"third{self._number}",
        )
        return self.third.final().status if self.third.responses else 0


@pytest.fixture
def place() -> Place:
    return Place()


def test_a_call_is_found_by_both_tags(place: Place) -> None:
    assert place.invite(place.value(place.there), extra="Require: replaces\n") == 0
    asked = place.scene.bob.incoming[-1]
    assert asked.replaces is place.there


def test_an_invite_without_replaces_asks_for_no_place(place: Place) -> None:
    place.invite()
    assert place.scene.bob.incoming[-1].replaces is None


@pytest.mark.parametrize("part", ["call", "to", "from", "swapped"])
def test_half_of_a_name_opens_nothing(place: Place, part: str) -> None:
    """§3: 481, and the call goes on."""
    assert place.there.dialog is not None
    dialog = place.there.dialog.id
    names = {
        "call": f"guessed;to-tag={dialog.local_tag};from-tag={dialog.remote_tag}",
        "to": f"{dialog.call_id};to-tag=guessed;from-tag={dialog.remote_tag}",
        "from": f"{dialog.call_id};to-tag={dialog.local_tag};from-tag=guessed",
        "swapped": f"{dialog.call_id};to-tag={dialog.remote_tag};from-tag={dialog.local_tag}",
    }
    assert place.invite(names[part]) == 481
    assert place.there.connected


def test_another_accounts_call_is_out_of_reach(place: Place) -> None:
    """§8: whoever may call one account may not take over the calls of all."""
    place.scene.bob.stack.add_line(Account("sip:carol@192.0.2.2"))
    assert place.invite(place.value(place.there), uri="sip:carol@192.0.2.2") == 481
    assert place.there.connected


@pytest.mark.parametrize(
    "values", [("nonsense",), ("a;to-tag=1",), ("a;to-tag=1;from-tag=2", "b;to-tag=1;from-tag=2"), ("",)]
)
def test_what_makes_no_sense_gets_400(place: Place, values: tuple[str, ...]) -> None:
    assert place.invite(*values) == 400


def test_replaces_with_join_gets_400(place: Place) -> None:
    """RFC 3911 §4."""
    assert place.invite(place.value(place.there), extra="Join: a;to-tag=1;from-tag=2\n") == 400


@pytest.mark.parametrize("method", ["OPTIONS", "MESSAGE", "BYE"])
def test_replaces_belongs_into_an_invite(place: Place, method: str) -> None:
    """§3: 400 in any other method."""
    assert place.invite(place.value(place.there), method=method) == 400


def test_replaces_belongs_into_a_first_invite(place: Place) -> None:
    """§3: 400 in a re-INVITE."""
    assert place.here.dialog is not None
    peer = RawPeer(place.scene.network, ("192.0.2.8", 5060), BOB)
    dialog = place.here.dialog.id
    peer.request(
        "INVITE",
        URI,
        cseq=100,
        call_id=dialog.call_id,
        from_tag=dialog.local_tag,
        to_tag=dialog.remote_tag,
        extra=f"Replaces: {place.value(place.there)}\n",
        body=SDP_OFFER,
    )
    assert peer.final().status == 400


def test_a_call_that_is_over_gets_603(place: Place) -> None:
    """§3, while we remember it; 481 afterwards."""
    value = place.value(place.there)
    place.scene.alice.hang_up(place.here)
    place.scene.bob.end_of(place.there)
    assert place.invite(value) == 603
    assert len(place.scene.bob.stack._over) == 1
    for number in range(REMEMBERED_DIALOGS):
        assert place.there.dialog is not None
        dialog_id = type(place.there.dialog.id)(f"c{number}", "l", "r")
        place.scene.bob.stack.add_dialog(dialog_id, place.there)
        place.scene.bob.stack.remove_dialog(dialog_id)
    assert len(place.scene.bob.stack._over) == REMEMBERED_DIALOGS
    assert place.invite(value) == 481


def test_a_call_that_is_being_hung_up_gets_603(place: Place) -> None:
    value = place.value(place.there)
    place.scene.network.leave(ALICE)
    place.scene.bob.hang_up(place.there)
    assert place.invite(value) == 603


def test_early_only_spares_an_answered_call(place: Place) -> None:
    """§3: 486."""
    assert place.invite(place.value(place.there, ";early-only")) == 486
    assert place.there.connected


def test_a_ringing_call_cannot_be_taken_from_its_callee() -> None:
    """§3: an early dialog that this side did not begin: 481."""
    scene = Scene()
    scene.alice.call(URI)
    there = scene.bob.await_call()
    assert there.dialog is not None
    third = RawPeer(scene.network, ("192.0.2.9", 5060), BOB)
    dialog = there.dialog.id
    third.request(
        "INVITE",
        URI,
        call_id="third",
        extra=f"Replaces: {dialog.call_id};to-tag={dialog.local_tag};from-tag={dialog.remote_tag}\n",
        body=SDP_OFFER,
    )
    assert third.final().status == 481
    assert there.setting_up


@pytest.mark.parametrize("flags", ["", ";early-only"])
def test_a_ringing_call_can_be_taken_from_its_caller(flags: str) -> None:
    """§3: the callee's other telephone picks it up."""
    scene = Scene()
    here = scene.alice.call(URI)
    there = scene.bob.await_call()
    scene.network.run(scene.network.now + 0.1)
    assert there.dialog is not None
    dialog = there.dialog.id
    third = RawPeer(scene.network, ("192.0.2.9", 5060), ALICE)
    third.request(
        "INVITE",
        "sip:alice@192.0.2.1",
        call_id="third",
        extra=f"Replaces: {dialog.call_id};to-tag={dialog.remote_tag};from-tag={dialog.local_tag}{flags}\n",
        body=SDP_OFFER,
    )
    assert scene.alice.incoming[-1].replaces is here
