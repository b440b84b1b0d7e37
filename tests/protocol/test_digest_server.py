"""Digest authentication, the server's half (RFC 7616, RFC 8760), against the client's."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipcore.protocol.builder import make_request
from sipcore.protocol.digest import ALGORITHMS, Credentials, DigestClient, parse_challenges
from sipcore.protocol.digest_server import MAX_NONCES, NONCE_LIFETIME, DigestVerifier, Verdict
from sipcore.protocol.ids import Ids
from sipcore.protocol.values import Uri
from sipcore.protocol.wire import Request, Response

PASSWORDS = {"alice": "wonderland", 'b"ob': "", "jäsøn": "ünter"}


def guard(algorithms: Sequence[str] = ("SHA-256", "MD5"), qop: Sequence[str] = ("auth",)) -> DigestVerifier:
    """A verifier for the realm of these tests."""
    return DigestVerifier("example.com", PASSWORDS.get, random.Random(1), algorithms, qop)


def client(username: str = "alice", password: str = "wonderland") -> DigestClient:
    """Someone who may know a password."""
    return DigestClient(Credentials(username, password), Ids(random.Random(2)))


def request(method: str = "REGISTER", uri: str = "sip:example.com", body: bytes = b"") -> Request:
    """A request without credentials."""
    return make_request(
        method,
        Uri.parse(uri),
        from_="<sip:alice@example.com>;tag=a",
        to="<sip:alice@example.com>",
        call_id="c",
        cseq=1,
        body=body,
        content_type="text/plain",
    )


def challenge(verifier: DigestVerifier, now: float = 0.0, *, stale: bool = False, proxy: bool = False) -> Response:
    """A 401 or 407."""
    response = Response(407 if proxy else 401, "Who are you")
    for value in verifier.challenge(now, stale=stale):
        response.headers.add("Proxy-Authenticate" if proxy else "WWW-Authenticate", value)
    return response


def authorized(verifier: DigestVerifier, digest: DigestClient, sent: Request | None = None) -> Request:
    """A request that answers a challenge of now."""
    sent = sent or request()
    assert digest.answer(sent, challenge(verifier))
    return sent


@pytest.mark.parametrize("algorithm", [*ALGORITHMS, "SHA-256-sess"])
@pytest.mark.parametrize("qop", [(), ("auth",), ("auth", "auth-int"), ("auth-int",)])
def test_both_halves_agree(algorithm: str, qop: tuple[str, ...]) -> None:
    """RFC 7616 §3.4: each algorithm, with each quality of protection, any user and password."""
    verifier = guard((algorithm,), qop)
    for username, password in (("alice", "wonderland"), ("jäsøn", "ünter")):
        sent = authorized(verifier, client(username, password), request("MESSAGE", body=b"hello"))
        verification = verifier.verify(sent, now=0.0)
        assert (verification.outcome, verification.username) == (Verdict.OK, username)


def test_challenges_stand_strongest_first_and_share_a_nonce() -> None:
    """RFC 8760 §2.4: one header line each."""
    strong, weak = parse_challenges(challenge(guard(), stale=True))
    assert (strong.algorithm, weak.algorithm) == ("SHA-256", "MD5")
    assert strong.nonce == weak.nonce
    assert strong.stale
    assert strong.qop == ("auth",)
    assert strong.realm == "example.com"


def test_a_proxy_looks_into_its_own_header() -> None:
    """RFC 3261 §22.3."""
    verifier = guard()
    sent = request()
    assert client().answer(sent, challenge(verifier, proxy=True))
    assert verifier.verify(sent, now=0.0).outcome is Verdict.REFUSED
    assert verifier.verify(sent, "Proxy-Authorization", now=0.0).outcome is Verdict.OK


@pytest.mark.parametrize(
    ("username", "password"), [("alice", "Wonderland"), ("mallory", "wonderland"), ("mallory", "x")]
)
def test_wrong_credentials_are_refused_without_a_name(username: str, password: str) -> None:
    """RFC 7616 §3.4.6; an unknown user is told nothing else than a wrong password."""
    verifier = guard()
    verification = verifier.verify(authorized(verifier, client(username, password)), now=0.0)
    assert (verification.outcome, verification.username) == (Verdict.REFUSED, "")


def test_credentials_of_another_realm_are_none() -> None:
    """RFC 3261 §22.1: realms are told apart; our own among several is found."""
    verifier = guard()
    other = DigestVerifier("elsewhere", PASSWORDS.get, random.Random(3))
    digest = client()
    sent = authorized(other, digest)
    assert verifier.verify(sent, now=0.0).outcome is Verdict.REFUSED
    assert verifier.verify(authorized(verifier, digest, sent), now=0.0).outcome is Verdict.OK
    assert verifier.verify(request(), now=0.0).outcome is Verdict.REFUSED


@pytest.mark.parametrize(
    ("what", "by"),
    [
        ('uri="sip:example.com"', 'uri="sip:example.org"'),
        ("nc=00000001", "nc=00000002"),
        ("nc=00000001", "nc=1"),
        ("nc=00000001", "nc=00000000"),
        ("nc=00000001", "nc=+0000001"),
        (", nc=00000001", ""),
        ("qop=auth", "qop=auth-int"),
        (", qop=auth", ""),
        ("algorithm=SHA-256", "algorithm=MD5"),
        ("algorithm=SHA-256", "algorithm=SHA-512-256"),
        ('username="alice"', 'username="bob"'),
        ('response="', 'response="0'),
        ('response="', 'response="\u00fc'),
        ("Digest ", "Basic "),
    ],
)
def test_tampered_credentials_are_refused(what: str, by: str) -> None:
    """RFC 7616 §3.4.6: everything in them is hashed, or has to fit the request."""
    verifier = guard()
    sent = authorized(verifier, client())
    value = sent.headers.get("Authorization") or ""
    assert what in value
    sent.headers.set("Authorization", value.replace(what, by))
    assert verifier.verify(sent, now=0.0).outcome is Verdict.REFUSED


def test_credentials_fit_one_method_uri_and_body() -> None:
    """RFC 7616 §3.4.3: moved to another request they are worth nothing; auth-int covers the body."""
    verifier = guard(qop=("auth-int",))
    value = authorized(verifier, client(), request("MESSAGE", body=b"hello")).headers.get("Authorization") or ""
    for other in (
        request("INVITE", body=b"hello"),
        request("MESSAGE", "sip:example.org", b"hello"),
        request("MESSAGE"),
    ):
        other.headers.add("Authorization", value)
        assert verifier.verify(other, now=0.0).outcome is Verdict.REFUSED


# -- nonces --------------------------------------------------------------------------------------------------------


def test_a_replayed_nonce_count_is_not_accepted() -> None:
    """RFC 7616 §3.4, nc: the holder of the password gets a fresh nonce, a replayer nothing."""
    verifier = guard()
    sent = authorized(verifier, client())
    assert verifier.verify(sent, now=0.0).outcome is Verdict.OK
    assert verifier.verify(sent, now=0.0).outcome is Verdict.STALE


def test_without_qop_a_nonce_is_good_once() -> None:
    """RFC 2069 has no count that could tell a replay."""
    verifier = guard(qop=())
    sent = authorized(verifier, client())
    assert [verifier.verify(sent, now=0.0).outcome for _ in range(2)] == [Verdict.OK, Verdict.STALE]


def test_counts_may_arrive_out_of_order_once_each() -> None:
    """UDP reorders: what is not far behind and was not seen is good."""
    verifier = guard()
    digest = client()
    requests = [authorized(verifier, digest)]
    for _ in range(99):
        requests.append(request())
        digest.apply(requests[-1])
    order = [*range(1, 60), 0, *range(60, 98), 99]
    assert {verifier.verify(requests[each], now=0.0).outcome for each in order} == {Verdict.OK}
    assert {verifier.verify(each, now=0.0).outcome for each in (*requests[:98], requests[99])} == {Verdict.STALE}
    assert verifier.verify(requests[98], now=0.0).outcome is Verdict.OK


def test_a_count_far_ahead_does_not_open_the_ones_before() -> None:
    """The window moves with the highest count seen."""
    verifier = guard()
    digest = client()
    first = authorized(verifier, digest)
    for _ in range(200):
        last = request()
        digest.apply(last)
    assert verifier.verify(last, now=0.0).outcome is Verdict.OK
    assert verifier.verify(first, now=0.0).outcome is Verdict.STALE


def test_nonces_age() -> None:
    """RFC 7616 §3.3, stale: the right password with an old or unknown nonce; a wrong one stays wrong."""
    verifier = guard()
    sent = authorized(verifier, client())
    wrong = authorized(verifier, client(password="guess"))
    assert verifier.verify(sent, now=NONCE_LIFETIME).outcome is Verdict.STALE
    assert verifier.verify(wrong, now=NONCE_LIFETIME).outcome is Verdict.REFUSED
    assert guard().verify(sent, now=0.0).outcome is Verdict.STALE


def test_only_so_many_nonces_are_remembered() -> None:
    """A flood of requests without credentials costs no memory; the oldest nonce goes first."""
    verifier = guard()
    digest = client()
    sent = authorized(verifier, digest)
    for _ in range(MAX_NONCES - 1):
        verifier.challenge(0.0)
    kept = request()
    digest.apply(kept)
    assert verifier.verify(kept, now=0.0).outcome is Verdict.OK
    verifier.challenge(0.0)
    assert verifier.verify(sent, now=0.0).outcome is Verdict.STALE


def test_the_verifier_shows_no_nonce() -> None:
    """CONTRACT §5."""
    verifier = guard()
    (line, _) = verifier.challenge(0.0)
    assert line.split('nonce="')[1][:32] not in repr(verifier)


@given(st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0"), max_size=80))
def test_any_credentials_get_a_verdict(text: str) -> None:
    """Nothing escapes on garbage."""
    sent = request()
    sent.headers.add("Authorization", text)
    sent.headers.add("Authorization", f'Digest realm="example.com", {text}')
    assert guard().verify(sent, now=0.0).outcome is Verdict.REFUSED
