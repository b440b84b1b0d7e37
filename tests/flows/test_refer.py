"""Transfers (RFC 3515)."""

from __future__ import annotations

import pytest

from sipcore.protocol.invite_session import SessionState
from sipcore.protocol.refer import IncomingRefer, OutgoingRefer, ReferState, parse_sipfrag
from sipcore.protocol.replaces import Replaces
from sipcore.protocol.session_events import (
    SessionReferAnswered,
    SessionReferFailed,
    SessionReferNotified,
    SessionReferReceived,
)
from sipcore.protocol.stack import SessionOccurred
from sipcore.protocol.wire import Request
from tests.flows.scene import ALICE, BOB, Scene
from tests.kit.raw_peer import SDP_OFFER, RawPeer


def _refer(scene: Scene) -> tuple[OutgoingRefer, IncomingRefer]:
    here, there = scene.connect()
    outgoing = here.refers.refer("sip:carol@192.0.2.3", (("X-Why", "because"),), scene.network.now)
    scene.network.run_until(lambda: bool(scene.bob.happened(there, SessionReferReceived)))
    (received,) = scene.bob.happened(there, SessionReferReceived)
    return outgoing, received.refer


def test_an_accepted_refer_reports_how_the_new_call_goes() -> None:
    """202, NOTIFY 100 at once, then what the transferee says (§2.4.4-5)."""
    scene = Scene()
    outgoing, incoming = _refer(scene)
    here, there = next(iter(scene.alice.stack._dialogs.values())), scene.bob.incoming[0]
    assert str(incoming.target) == "sip:carol@192.0.2.3"
    assert incoming.request.headers.get("X-Why") == "because"
    there.refers.accept(incoming, scene.network.now)
    scene.network.run(scene.network.now + 1)
    (answered,) = scene.alice.happened(here, SessionReferAnswered)
    assert (answered.refer, answered.code) == (outgoing, 202)
    there.refers.notify(incoming, 200, "OK", scene.network.now)
    scene.network.run(scene.network.now + 1)
    codes = [event.fragment.status for event in scene.alice.happened(here, SessionReferNotified) if event.fragment]
    assert codes == [100, 200]
    assert outgoing.state is ReferState.FINISHED
    scene.alice.hang_up(here)
    scene.alice.end_of(here)
    scene.settle()


def test_a_refused_refer_leaves_the_call() -> None:
    scene = Scene()
    outgoing, incoming = _refer(scene)
    here, there = next(iter(scene.alice.stack._dialogs.values())), scene.bob.incoming[0]
    there.refers.refuse(incoming, 603, scene.network.now)
    scene.network.run(scene.network.now + 1)
    (answered,) = scene.alice.happened(here, SessionReferAnswered)
    assert answered.code == 603
    assert outgoing.state is ReferState.REFUSED
    scene.alice.hang_up(here)
    scene.alice.end_of(here)
    scene.settle()


def test_a_refer_that_nobody_answers_times_out() -> None:
    """Timer F (RFC 3261 §17.1.2.2)."""
    scene = Scene()
    here, _ = scene.connect()
    scene.network.leave(BOB)
    here.refers.refer("sip:carol@192.0.2.3", (), scene.network.now)
    scene.network.run_until(lambda: bool(scene.alice.happened(here, SessionReferFailed)))
    (failed,) = scene.alice.happened(here, SessionReferFailed)
    assert failed.timeout
    assert failed.detail == "No answer to REFER"


def test_notify_after_the_bye_is_still_taken() -> None:
    """RFC 5057 §4.2: the subscription outlives the INVITE usage."""
    scene = Scene()
    _, incoming = _refer(scene)
    here, there = next(iter(scene.alice.stack._dialogs.values())), scene.bob.incoming[0]
    there.refers.accept(incoming, scene.network.now)
    scene.network.run(scene.network.now + 1)
    scene.alice.hang_up(here)
    scene.alice.end_of(here)
    there.refers.notify(incoming, 200, "OK", scene.network.now)
    scene.network.run(scene.network.now + 1)
    assert scene.sent("SIP/2.0 481") == 0
    scene.settle()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"SIP/2.0 200 OK\r\n", 200),
        (b"SIP/2.0 404 Not Found", 404),
        (b"\r\nSIP/2.0 100 Trying\nVia: x", 100),
        (b"SIP/2.0 99", None),
        (b"HTTP/1.1 200 OK", None),
        (b"", None),
        (b"\xff\xfe", None),
    ],
)
def test_sipfrag(body: bytes, status: int | None) -> None:
    """RFC 3420; garbage is no status."""
    fragment = parse_sipfrag(body)
    assert (fragment.status if fragment else None) == status


# -- what far ends do with a REFER (FIELD 14) ------------------------------------------------------------------------


class Transferor:
    """Alice has called Raw, who took the call, and asks him to call Carol."""

    def __init__(self, *, extra: str = "", password: str = "") -> None:
        self.scene = Scene(password=password)
        self.peer = RawPeer(self.scene.network, ("192.0.2.9", 5060), ALICE)
        self.session = self.scene.alice.call("sip:raw@192.0.2.9")
        self.pass_time(0.1)
        self.peer.respond(self.peer.heard("INVITE")[0], 200, body=SDP_OFFER, extra=extra)
        assert self.session.connected

    def pass_time(self, seconds: float) -> None:
        self.scene.network.run(self.scene.network.now + seconds)

    def refer(self, *, subscribe: bool = True) -> OutgoingRefer:
        refer = self.session.refers.refer("sip:carol@192.0.2.3", (), self.scene.network.now, subscribe=subscribe)
        self.pass_time(0.1)
        return refer

    @property
    def refers(self) -> list[Request]:
        return self.peer.heard("REFER")

    def notify(self, status: str, *, cseq: int = 1, state: str = "active;expires=60", event: str = "refer") -> int:
        """Raw reports; the status of the answer."""
        assert self.session.dialog is not None
        dialog = self.session.dialog.id
        self.peer.request(
            "NOTIFY",
            "sip:alice@192.0.2.1",
            cseq=cseq,
            branch=f"n{cseq}",
            call_id=dialog.call_id,
            from_tag=dialog.remote_tag,
            to_tag=dialog.local_tag,
            extra=f"Event: {event}\nSubscription-State: {state}\nContent-Type: message/sipfrag\n",
            body=f"SIP/2.0 {status}\r\n",
        )
        return self.peer.final().status

    @property
    def told(self) -> list[int]:
        """What the shell heard: codes of answers and reports, in order."""
        codes: list[int] = []
        for event in self.scene.alice.node.events:
            match event:
                case SessionOccurred(_, SessionReferAnswered(_, code)):
                    codes.append(code)
                case SessionOccurred(_, SessionReferNotified(_, fragment)) if fragment is not None:
                    codes.append(fragment.status)
        return codes


def test_a_refer_goes_where_the_contact_and_the_routes_say() -> None:
    """RFC 3261 §12.2.1.1, FIELD 14: the request URI is the Contact, the Routes are Record-Route reversed."""
    here = Transferor(extra="Record-Route: <sip:192.0.2.9;lr;n=2>\nRecord-Route: <sip:192.0.2.9;lr;n=1>\n")
    here.refer()
    (refer,) = here.refers
    assert str(refer.uri) == "sip:raw@192.0.2.9:5060"
    assert refer.headers.get_all("Route") == ["<sip:192.0.2.9;lr;n=1>", "<sip:192.0.2.9;lr;n=2>"]
    assert refer.headers.get("Refer-To") == "<sip:carol@192.0.2.3>"
    assert refer.headers.get("Referred-By") == "<sip:alice@192.0.2.1>"
    assert "norefersub" in refer.list_of("Supported")
    assert refer.headers.get("Refer-Sub") is None
    assert refer.contact is not None


@pytest.mark.parametrize(("status", "header"), [(401, "WWW-Authenticate"), (407, "Proxy-Authenticate")])
def test_a_refer_is_challenged(status: int, header: str) -> None:
    """RFC 3261 §22: same Call-ID, next number, credentials; the id of the subscription is the new number."""
    here = Transferor(password="secret")
    refer = here.refer()
    challenge = f'{header}: Digest realm="r", nonce="n", algorithm=MD5, qop="auth"\n'
    here.peer.respond(here.refers[0], status, extra=challenge)
    first, second = here.refers
    assert second.headers.get("Authorization" if status == 401 else "Proxy-Authorization")
    assert second.cseq.number == first.cseq.number + 1
    assert second.headers.get("Refer-To") == first.headers.get("Refer-To")
    here.peer.respond(second, 202)
    assert here.notify("200 OK", event=f"refer;id={second.cseq.number}") == 200
    assert here.told == [202, 200]
    assert refer.state is ReferState.FINISHED


@pytest.mark.parametrize("status", [405, 403, 501, 603])
def test_a_refer_is_refused(status: int) -> None:
    here = Transferor()
    refer = here.refer()
    here.peer.respond(here.refers[0], status)
    assert here.told == [status]
    assert refer.state is ReferState.REFUSED
    assert here.session.connected
    assert here.notify("200 OK") == 481


def test_a_refer_that_meets_an_offer_is_sent_again() -> None:
    """491, FIELD 14: Raw is busy with an offer; a second 491 is told."""
    here = Transferor()
    here.refer()
    here.peer.respond(here.refers[0], 491)
    assert here.told == []
    here.pass_time(5)
    assert [refer.cseq.number - here.refers[0].cseq.number for refer in here.refers[:2]] == [0, 1]
    here.peer.respond(here.refers[-1], 202)
    assert here.told == [202]
    here.refer()
    here.peer.respond(here.refers[-1], 491)
    here.pass_time(5)
    here.peer.respond(here.refers[-1], 491)
    assert here.told == [202, 491]


def test_a_refer_is_not_sent_again_after_the_call() -> None:
    here = Transferor()
    refer = here.refer()
    here.peer.respond(here.refers[0], 491)
    here.scene.alice.hang_up(here.session)
    here.pass_time(0.1)
    here.peer.respond(here.peer.heard("BYE")[0], 200)
    here.pass_time(10)
    assert len(here.refers) == 1
    assert refer.state is ReferState.REFUSED
    here.scene.settle()


def test_an_accepted_refer_that_nobody_reports_on() -> None:
    """Many gateways never send a NOTIFY; the call is as good as before, and nothing stays behind."""
    here = Transferor()
    refer = here.refer()
    here.peer.respond(here.refers[0], 202)
    here.pass_time(300)
    assert here.session.connected
    assert refer.state is ReferState.ACCEPTED
    here.scene.alice.hang_up(here.session)
    here.pass_time(0.1)
    here.peer.respond(here.peer.heard("BYE")[0], 200)
    here.scene.settle()


def test_a_notify_may_overtake_the_answer() -> None:
    """RFC 3515 §2.4.4, RFC 6665 §4.1.2.4."""
    here = Transferor()
    refer = here.refer()
    assert here.notify("100 Trying") == 200
    here.peer.respond(here.refers[0], 202)
    assert here.notify("200 OK", cseq=2, state="terminated;reason=noresource") == 200
    assert here.told == [100, 202, 200]
    assert refer.state is ReferState.FINISHED
    assert here.notify("200 OK", cseq=3) == 481


def test_a_final_notify_may_overtake_the_answer() -> None:
    here = Transferor()
    refer = here.refer()
    assert here.notify("486 Busy Here", state="terminated;reason=noresource") == 200
    here.peer.respond(here.refers[0], 202)
    assert here.told == [486, 202]
    assert refer.state is ReferState.FINISHED


def test_notify_after_the_bye_until_the_last() -> None:
    """RFC 5057 §4.2: 200 while the subscription lives, 481 afterwards."""
    here = Transferor()
    here.refer()
    here.peer.respond(here.refers[0], 202)
    here.scene.alice.hang_up(here.session)
    here.pass_time(0.1)
    here.peer.respond(here.peer.heard("BYE")[0], 200)
    assert here.session.state is SessionState.ENDED
    assert here.notify("180 Ringing") == 200
    assert here.notify("200 OK", cseq=2, state="terminated;reason=noresource") == 200
    assert here.notify("200 OK", cseq=3) == 481
    here.scene.settle()


def test_notify_of_another_event_gets_481() -> None:
    here = Transferor()
    here.refer()
    here.peer.respond(here.refers[0], 202)
    assert here.notify("200 OK", event="presence") == 481
    assert here.notify("200 OK", cseq=2, event="refer;id=4711") == 481


# -- without a subscription (RFC 4488) -------------------------------------------------------------------------------


def test_a_refer_without_subscription() -> None:
    """§4: Refer-Sub in the REFER and in the 2xx."""
    here = Transferor()
    refer = here.refer(subscribe=False)
    assert here.refers[0].headers.get("Refer-Sub") == "false"
    here.peer.respond(here.refers[0], 200, extra="Refer-Sub: false\n")
    assert refer.state is ReferState.FINISHED
    (answered,) = here.scene.alice.happened(here.session, SessionReferAnswered)
    assert not answered.subscribed
    assert here.notify("200 OK") == 481


def test_a_far_end_that_reports_all_the_same() -> None:
    """§4: a 2xx without Refer-Sub grants the subscription that RFC 3515 knows."""
    here = Transferor()
    refer = here.refer(subscribe=False)
    here.peer.respond(here.refers[0], 202)
    (answered,) = here.scene.alice.happened(here.session, SessionReferAnswered)
    assert answered.subscribed
    assert here.notify("200 OK") == 200
    assert refer.state is ReferState.FINISHED


# -- the peer's REFER ------------------------------------------------------------------------------------------------


class Transferee:
    """Raw has called Bob, and asks him to call somebody else."""

    def __init__(self) -> None:
        self.scene = Scene()
        self.peer = RawPeer(self.scene.network, ("192.0.2.9", 5060), BOB)
        self.peer.request("INVITE", "sip:bob@192.0.2.2", body=SDP_OFFER)
        self.session = self.scene.bob.await_call()
        self.scene.bob.answer(self.session)
        self.pass_time(0.1)
        self.tag = self.peer.final().to_tag
        self.peer.request("ACK", "sip:bob@192.0.2.2", branch="ack", to_tag=self.tag)
        self._cseq = 1

    def pass_time(self, seconds: float) -> None:
        self.scene.network.run(self.scene.network.now + seconds)

    def ask(self, refer_to: str, *, extra: str = "") -> None:
        self._cseq += 1
        self.peer.request(
            "REFER",
            "sip:bob@192.0.2.2",
            cseq=self._cseq,
            branch=f"r{self._cseq}",
            to_tag=self.tag,
            extra=f"Refer-To: {refer_to}\n{extra}",
        )

    @property
    def received(self) -> list[IncomingRefer]:
        return [event.refer for event in self.scene.bob.happened(self.session, SessionReferReceived)]


@pytest.mark.parametrize(
    ("refer_to", "status"),
    [
        ("<mailto:carol@example.com>", 400),
        ("nonsense", 400),
        ("<sip:carol@192.0.2.3?Replaces=nonsense>", 400),
        ("<sip:carol@192.0.2.3;method=BYE>", 603),
        ("<sip:carol@192.0.2.3;method=SUBSCRIBE>", 603),
    ],
)
def test_a_refer_that_cannot_be_followed(refer_to: str, status: int) -> None:
    """RFC 3515 §2.4.2; one that asks for anything but a call is declined."""
    there = Transferee()
    there.ask(refer_to)
    assert there.peer.final().status == status
    assert there.received == []


def test_a_refer_with_replaces_is_understood() -> None:
    """RFC 3891 §4, RFC 5589 §7."""
    there = Transferee()
    there.ask('"Carol" <sip:carol@192.0.2.3;method=INVITE?Replaces=a%40b%3Bto-tag%3D1%3Bfrom-tag%3D2>')
    (refer,) = there.received
    assert refer.replaces == Replaces("a@b", "1", "2")
    assert str(refer.target.without_headers()) == "sip:carol@192.0.2.3"


def test_a_refer_that_wants_no_reports_gets_none() -> None:
    """RFC 4488 §4."""
    there = Transferee()
    there.ask("<sip:carol@192.0.2.3>", extra="Refer-Sub: false\nSupported: norefersub\nRequire: norefersub\n")
    there.session.refers.accept(there.received[0], there.scene.network.now)
    there.session.refers.notify(there.received[0], 200, "OK", there.scene.network.now)
    there.pass_time(1)
    assert (there.peer.final().status, there.peer.final().headers.get("Refer-Sub")) == (202, "false")
    assert there.peer.heard("NOTIFY") == []


def test_one_notify_at_a_time_and_the_newest_counts() -> None:
    """Over UDP a NOTIFY may overtake the one before it."""
    there = Transferee()
    there.ask("<sip:carol@192.0.2.3>")
    (refer,) = there.received
    refers, now = there.session.refers, there.scene.network.now
    refers.accept(refer, now)
    for code in (180, 183, 200, 486):
        refers.notify(refer, code, "", now)
    there.pass_time(0.1)
    (first,) = there.peer.heard("NOTIFY")
    assert first.body == b"SIP/2.0 100 Trying\r\n"
    there.peer.respond(first, 200)
    there.pass_time(0.1)
    last = there.peer.heard("NOTIFY")[-1]
    assert last.body == b"SIP/2.0 200 \r\n"
    assert (last.headers.get("Subscription-State") or "").startswith("terminated")
    assert last.headers.get("Event") == f"refer;id={refer.request.cseq.number}"
    there.peer.respond(last, 200)
    there.pass_time(10)
    assert len(there.peer.heard("NOTIFY")) == 2
