"""Calls that are redirected (RFC 3261 §8.1.3.4, §21.3)."""

from __future__ import annotations

import pytest

from sipcore.config import CallPolicy
from sipcore.errors import CallRejected
from sipcore.events import EndCause
from sipcore.protocol.invite_session import InviteSession
from sipcore.protocol.session_events import SessionEnded
from sipcore.protocol.wire import Request
from tests.flows.scene import ALICE, Scene
from tests.kit.raw_peer import SDP_OFFER, RawPeer

PEER = ("192.0.2.9", 5060)


class Redirected:
    """Alice calls Raw, who plays every address."""

    def __init__(self, to: str = "sip:raw@192.0.2.9", *, most: int = 5) -> None:
        self.scene = Scene(alice=CallPolicy(max_redirects=most))
        self.peer = RawPeer(self.scene.network, PEER, ALICE)
        self.session: InviteSession = self.scene.alice.call(to)
        self.scene.network.run(self.scene.network.now + 0.05)

    @property
    def invites(self) -> list[Request]:
        """INVITEs so far, without repetitions."""
        return list({each.via.branch: each for each in self.peer.heard("INVITE")}.values())

    @property
    def called(self) -> list[str]:
        """User parts of their request URIs."""
        return [each.uri.user or "" for each in self.invites]

    def respond(self, status: int, *contacts: str, body: str = "") -> None:
        """Answers the newest INVITE."""
        contact = f"Contact: {', '.join(contacts)}\n" if contacts else ""
        invite = self.invites[-1]
        head = "".join(f"{name}: {invite.headers.get(name)}\n" for name in ("Via", "From", "Call-ID", "CSeq"))
        tag = f"t{len(self.invites)}"
        content_type = "Content-Type: application/sdp\n" if body else ""
        self.peer.send(
            f"SIP/2.0 {status} Reason\n{head}To: {invite.headers.get('To')};tag={tag}\n"
            f"{contact}{content_type}Content-Length: {len(body)}\n\n{body}"
        )

    def end(self) -> SessionEnded:
        """How the call ended."""
        (ended,) = self.scene.alice.happened(self.session, SessionEnded)
        return ended


@pytest.mark.parametrize("status", [300, 301, 302, 380])
def test_a_redirection_is_followed(status: int) -> None:
    """§8.1.3.4: same Call-ID, From and To, the next CSeq, a request URI without header fields."""
    call = Redirected()
    call.respond(status, "<sip:other@192.0.2.9?Subject=hello>")
    first, second = call.invites
    assert str(second.uri) == "sip:other@192.0.2.9"
    for name in ("Call-ID", "From", "To"):
        assert first.headers.get(name) == second.headers.get(name)
    assert second.cseq.number == first.cseq.number + 1
    assert call.peer.heard("ACK")
    call.respond(200, "<sip:other@192.0.2.9>", body=SDP_OFFER)
    assert call.session.connected


def test_contacts_are_tried_by_preference() -> None:
    """§20.10: q; without one a contact is as good as can be. The last failure is what is reported."""
    call = Redirected()
    contacts = [
        f"<sip:{user}@192.0.2.9>{q}" for user, q in (("c", ";q=0.1"), ("a", ""), ("d", ";q=x"), ("b", ";q=0.7"))
    ]
    call.respond(302, *contacts)
    for status in (486, 404, 480, 410):
        call.respond(status)
    assert call.called == ["raw", "a", "b", "c", "d"]
    assert call.end().code == 410
    assert isinstance(call.end().error, CallRejected)


def test_a_6xx_ends_the_search() -> None:
    """§21.6: nobody anywhere takes the call."""
    call = Redirected()
    call.respond(302, "<sip:a@192.0.2.9>", "<sip:b@192.0.2.9>")
    call.respond(603)
    assert call.called == ["raw", "a"]
    assert call.end().code == 603


def test_a_loop_is_cut() -> None:
    call = Redirected()
    call.respond(302, "<sip:a@192.0.2.9>")
    call.respond(302, "<sip:raw@192.0.2.9>", "<sip:a@192.0.2.9>")
    assert call.called == ["raw", "a"]
    assert (call.end().code, call.end().cause) == (302, EndCause.REJECTED)


def test_the_search_is_bounded() -> None:
    call = Redirected(most=3)
    for number in range(10):
        call.respond(302, *(f"<sip:u{number}x{each}@192.0.2.9>" for each in range(10)))
    assert len(call.called) == 4
    assert call.end().code == 302


def test_a_setting_turns_it_off() -> None:
    call = Redirected(most=0)
    call.respond(302, "<sip:a@192.0.2.9>")
    assert call.called == ["raw"]
    assert call.end().code == 302


@pytest.mark.parametrize(
    ("status", "contacts"),
    [(302, ()), (302, ("<http://192.0.2.9>", "<mailto:a@b.example>")), (302, ("*",)), (305, ("<sip:a@192.0.2.9>",))],
)
def test_a_redirection_to_nowhere_is_a_refusal(status: int, contacts: tuple[str, ...]) -> None:
    call = Redirected()
    call.respond(status, *contacts)
    assert call.called == ["raw"]
    assert isinstance(call.end().error, CallRejected)
    assert call.end().code == status


def test_a_telephone_number_is_dialled_at_home() -> None:
    """§19.1.6."""
    call = Redirected()
    call.respond(302, "<tel:+4312345>")
    call.scene.network.run(call.scene.network.now + 0.1)
    assert call.scene.sent("INVITE sip:+4312345@192.0.2.1") == 1


def test_a_secure_call_stays_secure() -> None:
    """§26.2.2: who called a sips address shall not end up without protection."""
    call = Redirected("sips:raw@192.0.2.9:5060")
    call.respond(302, "<sip:a@192.0.2.9>", "<tel:+4312345>", "<sips:b@192.0.2.9:5060>")
    assert call.called == ["raw", "b"]
    assert call.invites[-1].uri.scheme == "sips"


def test_a_call_that_was_given_up_is_not_redirected() -> None:
    call = Redirected()
    call.peer.respond(call.invites[0], 180)
    call.scene.alice.hang_up(call.session)
    call.respond(302, "<sip:a@192.0.2.9>")
    assert call.called == ["raw"]


def test_an_address_where_nobody_is_leads_to_the_next() -> None:
    call = Redirected()
    call.scene.network.refusing.add(("192.0.2.77", 5060))
    call.respond(302, "<sip:a@192.0.2.77>", "<sip:b@192.0.2.9>;q=0.5")
    call.respond(200, "<sip:b@192.0.2.9>", body=SDP_OFFER)
    assert call.called == ["raw", "b"]
    assert call.session.connected
