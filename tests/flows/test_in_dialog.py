"""INFO and MESSAGE in a call, and MESSAGE outside of one (RFC 6086, RFC 3428)."""

from __future__ import annotations

import pytest

from sipcore.events import DtmfReceived, InfoReceived, MessageReceived, Party
from sipcore.protocol.exchange import Exchange
from sipcore.protocol.invite_session import SessionState
from sipcore.protocol.messages import MAX_BODY
from sipcore.protocol.session_events import SessionEnded, SessionHeard
from sipcore.protocol.stack import ExchangeDone, MessageArrived
from tests.flows.scene import BOB, Phone, Scene
from tests.kit.raw_peer import SDP_OFFER, RawPeer

URI = "sip:bob@192.0.2.2"


class Talk:
    """Raw has called Bob, who has answered."""

    def __init__(self) -> None:
        self.scene = Scene()
        self.peer = RawPeer(self.scene.network, ("192.0.2.9", 5060), BOB)
        self.peer.request("INVITE", URI, body=SDP_OFFER)
        self.session = self.scene.bob.await_call()
        self.scene.bob.answer(self.session)
        self.scene.network.run(self.scene.network.now + 0.1)
        self.tag = self.peer.final().to_tag
        self.peer.request("ACK", URI, branch="ack", to_tag=self.tag)
        self._cseq = 1

    def say(self, method: str, content_type: str, body: str, *, extra: str = "") -> int:
        """Sends a request of the dialog; the status of its answer."""
        self._cseq += 1
        lines = extra + (f"Content-Type: {content_type}\n" if content_type else "")
        self.peer.request(
            method, URI, cseq=self._cseq, branch=f"r{self._cseq}", to_tag=self.tag, extra=lines, body=body
        )
        return self.peer.final().status

    @property
    def heard(self) -> list[DtmfReceived | InfoReceived | MessageReceived]:
        """What Bob's shell was told."""
        return [event.event for event in self.scene.bob.happened(self.session, SessionHeard)]

    def ask(self, method: str, content_type: str, body: bytes) -> Exchange:
        """Bob sends a request."""
        exchange = self.session.in_dialog.send(method, content_type, body, (), self.scene.network.now)
        self.scene.network.run(self.scene.network.now + 0.1)
        return exchange


def outcomes(phone: Phone) -> list[Exchange]:
    """Exchanges whose outcome a shell was told."""
    return [event.exchange for event in phone.node.events if isinstance(event, ExchangeDone)]


@pytest.fixture
def talk() -> Talk:
    return Talk()


# -- INFO in ---------------------------------------------------------------------------------------------------------


def test_keys_by_info(talk: Talk) -> None:
    """FIELD 10: both spellings become the event that RFC 4733 gives."""
    assert talk.say("INFO", "application/dtmf-relay", "Signal=5\r\nDuration=160\r\n") == 200
    assert talk.say("INFO", "application/dtmf", "#") == 200
    assert talk.heard == [DtmfReceived("5", 160, "info"), DtmfReceived("#", 160, "info")]


def test_a_repeated_info_is_one_key(talk: Talk) -> None:
    """RFC 3261 §17.2.2: the transaction answers a retransmission, nobody hears it twice."""
    talk.say("INFO", "application/dtmf", "1")
    talk._cseq -= 1
    assert talk.say("INFO", "application/dtmf", "1") == 200
    assert talk.heard == [DtmfReceived("1", 160, "info")]


def test_a_hook_flash_or_garbage_is_answered_and_says_nothing(talk: Talk) -> None:
    assert talk.say("INFO", "application/dtmf-relay", "Signal=!\r\n") == 200
    assert talk.say("INFO", "application/dtmf", "\x01\x02") == 200
    assert talk.heard == []


def test_an_info_without_a_body_is_a_sign_of_life(talk: Talk) -> None:
    assert talk.say("INFO", "", "") == 200
    assert talk.heard == [InfoReceived("", b"")]


def test_a_body_that_nobody_reads_gets_415(talk: Talk) -> None:
    """RFC 6086 §4.2.2 with RFC 3261 §21.4.13: Accept says what is read."""
    assert talk.say("INFO", "application/media_control+xml", "<media_control/>") == 415
    assert talk.peer.final().list_of("Accept") == ("application/dtmf-relay", "application/dtmf")
    assert talk.heard == []


def test_a_body_that_the_embedder_reads_is_passed_on(talk: Talk) -> None:
    talk.scene.bob.stack.info_types = ("application/x-score",)
    assert talk.say("INFO", "application/X-Score; v=1", "42", extra="X-Why: fun\n") == 200
    assert talk.heard == [InfoReceived("application/x-score", b"42", {"X-Why": "fun"})]


def test_an_info_package_gets_469(talk: Talk) -> None:
    """RFC 6086 §4.2.2: with the packages that we take, which is none."""
    assert talk.say("INFO", "application/dtmf", "1", extra="Info-Package: foo\n") == 469
    assert talk.peer.final().headers.get("Recv-Info") == ""
    assert talk.heard == []


# -- MESSAGE in ------------------------------------------------------------------------------------------------------


def test_a_message_in_a_call(talk: Talk) -> None:
    assert talk.say("MESSAGE", "text/plain;charset=UTF-8", "hello") == 200
    (message,) = talk.heard
    assert isinstance(message, MessageReceived)
    assert (message.sender, message.content_type, message.text) == ("sip:raw@192.0.2.9", "text/plain", "hello")


@pytest.mark.parametrize("method", ["INFO", "MESSAGE"])
def test_what_is_too_long_or_encoded_is_refused(talk: Talk, method: str) -> None:
    """RFC 3261 §21.4.11, §8.2.3: nobody can fill the memory of a call."""
    assert talk.say(method, "text/plain", "x" * (MAX_BODY + 1)) == 413
    assert talk.say(method, "text/plain", "x", extra="Content-Encoding: gzip\n") == 415
    assert talk.peer.final().headers.get("Accept-Encoding") == "identity"
    assert talk.heard == []


def test_after_our_bye_nothing_is_heard_any_more(talk: Talk) -> None:
    talk.scene.bob.hang_up(talk.session)
    assert talk.say("INFO", "application/dtmf", "1") == 481
    assert talk.heard == []


def _arrived(scene: Scene) -> list[MessageReceived]:
    return [event.message for event in scene.bob.node.events if isinstance(event, MessageArrived)]


def test_a_message_for_a_line() -> None:
    """RFC 3428 §7: 200 without Contact, since no dialog comes of it."""
    scene = Scene()
    peer = RawPeer(scene.network, ("192.0.2.9", 5060), BOB)
    peer.request("MESSAGE", URI, extra="Content-Type: text/plain;charset=iso-8859-1\n", body="hallo")
    assert peer.final().status == 200
    assert peer.final().headers.get("Contact") is None
    assert [message.text for message in _arrived(scene)] == ["hallo"]
    scene.settle()


@pytest.mark.parametrize(
    ("uri", "extra", "body", "status"),
    [
        ("sip:nobody@192.0.2.2", "", "hello", 404),
        (URI, "", "x" * (MAX_BODY + 1), 413),
        (URI, "Content-Encoding: gzip\n", "x", 415),
        (URI, "Require: nothing-we-know\n", "x", 420),
    ],
)
def test_a_message_that_is_not_taken(uri: str, extra: str, body: str, status: int) -> None:
    scene = Scene()
    peer = RawPeer(scene.network, ("192.0.2.9", 5060), BOB)
    peer.request("MESSAGE", uri, extra=f"{extra}Content-Type: text/plain\n", body=body)
    assert peer.final().status == status
    assert _arrived(scene) == []


# -- out -------------------------------------------------------------------------------------------------------------


def test_a_request_of_ours_and_its_answer(talk: Talk) -> None:
    exchange = talk.ask("INFO", "application/dtmf-relay", b"Signal=1\r\n")
    (info,) = talk.peer.heard("INFO")
    assert (info.content_type, info.body) == ("application/dtmf-relay", b"Signal=1\r\n")
    assert info.headers.get("Contact") is None
    talk.peer.respond(info, 200)
    assert outcomes(talk.scene.bob) == [exchange]
    assert exchange.response is not None
    assert exchange.response.status == 200


def test_a_request_that_is_refused_leaves_the_call(talk: Talk) -> None:
    exchange = talk.ask("MESSAGE", "text/plain", b"hello")
    talk.peer.respond(talk.peer.heard("MESSAGE")[0], 405)
    assert exchange.response is not None
    assert exchange.response.status == 405
    assert talk.session.connected


def test_who_answers_481_knows_no_such_call(talk: Talk) -> None:
    """RFC 3261 §12.2.1.2, RFC 5057 §5.1."""
    talk.ask("INFO", "application/dtmf", b"1")
    talk.peer.respond(talk.peer.heard("INFO")[0], 481)
    assert talk.session.state is SessionState.ENDED
    (ended,) = talk.scene.bob.happened(talk.session, SessionEnded)
    assert (ended.by, ended.code) == (Party.REMOTE, 481)
    assert len(talk.peer.heard("BYE")) == 1


def test_a_request_that_nobody_answers(talk: Talk) -> None:
    """Timer F; one lost INFO is no reason to end a call."""
    exchange = talk.ask("INFO", "application/dtmf", b"1")
    talk.scene.network.run(talk.scene.network.now + 40)
    assert exchange.failure is not None
    assert exchange.failure.kind == "timeout"
    assert outcomes(talk.scene.bob) == [exchange]
    assert talk.session.connected
