"""Offers and answers (RFC 3264), credentials (RFC 7616), and whole calls over a network that loses and reorders."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sipcore.errors import MediaNotAcceptable
from sipcore.protocol.builder import make_request
from sipcore.protocol.digest import ALGORITHMS, Credentials, DigestClient
from sipcore.protocol.digest_server import DigestVerifier, Verdict
from sipcore.protocol.ids import Ids
from sipcore.protocol.invite_session import SessionState
from sipcore.protocol.offer_answer import OfferAnswer
from sipcore.protocol.sdp import Direction, MediaDescription, parse_sdp
from sipcore.protocol.values import Uri
from sipcore.protocol.wire import Request, Response, parse_message, serialize
from tests.flows.scene import Scene
from tests.kit.network import Conditions
from tests.properties.strategies import offers, uris

pytestmark = pytest.mark.long

_CODECS = st.sampled_from([("PCMU", "PCMA"), ("PCMA", "PCMU"), ("PCMU",), ("PCMA",)])
_REVERSED: dict[Direction, Direction] = {
    "sendrecv": "sendrecv",
    "sendonly": "recvonly",
    "recvonly": "sendonly",
    "inactive": "inactive",
}


def _side(codecs: tuple[str, ...], *, port: int = 4000, seed: int = 1) -> OfferAnswer:
    return OfferAnswer(codecs=codecs, host="192.0.2.1", port=port, ids=Ids(random.Random(seed)))


def _names(media: MediaDescription) -> dict[int, str]:
    return {each.payload_type: f"{each.name}/{each.clock_rate}" for each in media.payload_formats()}


@given(offers(), _CODECS)
def test_an_answer_holds_nothing_that_was_not_offered(offer: bytes, codecs: tuple[str, ...]) -> None:
    """RFC 3264 §6: as many sections, in order, of the same kinds; each refused, or with formats, numbers and a
    direction that were offered."""
    try:
        body, media = _side(codecs).answer(offer)
    except MediaNotAcceptable:
        return
    asked, answered = parse_sdp(offer).media, parse_sdp(body).media
    assert [(each.kind, each.protocol) for each in asked] == [(each.kind, each.protocol) for each in answered]
    used = [(one, other) for one, other in zip(asked, answered, strict=True) if other.port]
    assert len(used) == 1
    ((offered, chosen),) = used
    assert offered.port
    assert set(chosen.formats) <= set(offered.formats)
    assert _names(chosen).items() <= _names(offered).items()
    assert media.codec in codecs
    assert _names(offered)[media.payload_type] == f"{media.codec}/8000"
    may = _REVERSED[offered.direction]
    assert not media.send or may in ("sendrecv", "sendonly")
    assert not media.receive or may in ("sendrecv", "recvonly")
    assert chosen.direction in (may, "inactive")


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(list(_REVERSED))), min_size=1, max_size=6), _CODECS, _CODECS)
def test_two_sides_agree(rounds: list[tuple[bool, Direction]], ours: tuple[str, ...], theirs: tuple[str, ...]) -> None:
    """RFC 3264 §5-8: whoever offers what, both ends settle on the same codec, numbers and directions, or on nothing."""
    one, other = _side(ours), _side(theirs, port=5000, seed=2)
    for mine, direction in rounds:
        offerer, answerer = (one, other) if mine else (other, one)
        offer = offerer.create_offer(direction=direction)
        try:
            answer, there = answerer.answer(offer)
        except MediaNotAcceptable:
            assert not set(ours) & set(theirs)
            offerer.rollback()
            continue
        here = offerer.accept_answer(answer)
        assert (here.codec, here.payload_type) == (there.codec, there.payload_type)
        assert (here.send, here.receive) == (there.receive, there.send)
        assert here.dtmf_payload_type == there.dtmf_receive_payload_type
        assert {here.remote_port, there.remote_port} == {4000, 5000}


_PRINTABLE = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)


@given(
    _PRINTABLE,
    _PRINTABLE,
    _PRINTABLE.map(str.strip).filter(bool),
    uris(),
    st.sampled_from(ALGORITHMS),
    st.sampled_from([(), ("auth",), ("auth-int",), ("auth", "auth-int")]),
    st.binary(max_size=40),
)
def test_credentials_hold_on_the_other_side_of_the_wire(
    username: str, password: str, realm: str, uri: str, algorithm: str, qop: tuple[str, ...], body: bytes
) -> None:
    """RFC 7616 §3.4, RFC 8760: for any user, password and realm; and not for another password, nor twice."""
    verifier = DigestVerifier(realm, {username: password}.get, random.Random(1), (algorithm,), qop)
    challenged = Response(401, "Unauthorized")
    for value in verifier.challenge(0.0):
        challenged.headers.add("WWW-Authenticate", value)
    verdicts = []
    for secret in (password + "x", password):
        request = make_request(
            "MESSAGE",
            Uri.parse(uri),
            from_="<sip:a@b>;tag=1",
            to="<sip:a@b>",
            call_id="c",
            cseq=1,
            body=body,
            content_type="text/plain",
        )
        request.headers.prepend("Via", "SIP/2.0/UDP a;branch=z9hG4bK1")
        client = DigestClient(Credentials(username, secret), Ids(random.Random(2)))
        assert client.answer(request, challenged)
        arrived = parse_message(serialize(request))
        assert isinstance(arrived, Request)
        verdicts += [verifier.verify(arrived, now=0.0).outcome, verifier.verify(arrived, now=0.0).outcome]
    assert verdicts == [Verdict.REFUSED, Verdict.REFUSED, Verdict.OK, Verdict.STALE]


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.floats(0, 0.35),
    st.floats(0, 0.5),
    st.sampled_from([(0.01, 0.01), (0.0, 0.4), (0.2, 1.2)]),
    st.sampled_from(["caller", "callee"]),
)
def test_a_call_ends_for_both_whatever_the_network_does(
    seed: int, loss: float, duplication: float, delay: tuple[float, float], who: str
) -> None:
    """RFC 3261 §13-15, §17: set up or not, both sides end, and nothing is left of it."""
    scene = Scene(seed=seed, conditions=Conditions(delay=delay, loss=loss, duplication=duplication))
    here = scene.alice.call("sip:bob@192.0.2.2")
    network = scene.network

    def take(now: float) -> None:
        for session in scene.bob.incoming:
            if session.callee is not None and session.callee.ring(40002, now):
                session.callee.answer(now)
        if now < 40:
            network.call_at(now + 0.5, take)

    network.call_at(0.5, take)
    network.run(45)
    for session in (here,) if who == "caller" else tuple(scene.bob.incoming):
        session.hang_up(network.now)
    network.run(network.now + 100)
    for session in (here, *scene.bob.incoming):
        session.hang_up(network.now)
    network.run(network.now + 100)
    assert here.state is SessionState.ENDED
    assert all(session.state is SessionState.ENDED for session in scene.bob.incoming)
    scene.settle()
