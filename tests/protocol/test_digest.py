"""Digest authentication, the client's half (RFC 7616, RFC 8760, RFC 3261 §22)."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipcore.protocol.builder import make_request
from sipcore.protocol.digest import (
    ALGORITHMS,
    Credentials,
    DigestClient,
    digest_response,
    parse_challenges,
    parse_credentials,
)
from sipcore.protocol.ids import Ids
from sipcore.protocol.values import Uri
from sipcore.protocol.wire import Request, Response, parse_message, serialize

ALICE = Credentials("alice", "wonderland")


def client(credentials: Credentials = ALICE) -> DigestClient:
    """A client with a seeded source of cnonces."""
    return DigestClient(credentials, Ids(random.Random(1)))


def request(
    method: str = "REGISTER", uri: str = "sip:example.com", *, body: bytes = b"", routes: tuple[str, ...] = ()
) -> Request:
    """A request without credentials."""
    return make_request(
        method,
        Uri.parse(uri),
        from_="<sip:alice@example.com>;tag=a",
        to="<sip:alice@example.com>",
        call_id="c",
        cseq=1,
        routes=routes,
        body=body,
        content_type="application/sdp" if body else "",
    )


def refusal(*challenges: str, proxy: bool = False, status: int = 401) -> Response:
    """A 401, or a 407, with one challenge a header line."""
    response = Response(407 if proxy else status, "Who are you")
    for challenge in challenges:
        response.headers.add("Proxy-Authenticate" if proxy else "WWW-Authenticate", challenge)
    return response


def credentials_of(sent: Request, *, proxy: bool = False) -> dict[str, str]:
    """The parameters of the one credentials value."""
    (given_parameters,) = parse_credentials(sent, "Proxy-Authorization" if proxy else "Authorization")
    return given_parameters


def is_right(sent: Request, parameters: dict[str, str], credentials: Credentials = ALICE) -> bool:
    """Whether ``response`` is what RFC 7616 makes of the other parameters."""
    return parameters["response"] == digest_response(
        credentials,
        algorithm=parameters["algorithm"].upper(),
        realm=parameters["realm"],
        nonce=parameters["nonce"],
        method=sent.method,
        uri=parameters["uri"],
        qop=parameters.get("qop", ""),
        nonce_count=int(parameters.get("nc", "0"), 16),
        cnonce=parameters.get("cnonce", ""),
        body=sent.body,
    )


# -- vectors -------------------------------------------------------------------------------------------------------

MUFASA = Credentials("Mufasa", "Circle of Life")
JASON = Credentials("Jäsøn Doe", "Secret, or not?")
BOB = Credentials("bob", "zanzibar")
SMITH_NONCE = "dcd98b7102dd2f0e8b11d0f600bfb0c093"


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_rfc_7616_section_3_9_1(algorithm: str, expected: str) -> None:
    """RFC 7616 §3.9.1: SHA-256 and MD5."""
    assert expected == digest_response(
        MUFASA,
        algorithm=algorithm,
        realm="http-auth@example.org",
        nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
        method="GET",
        uri="/dir/index.html",
        qop="auth",
        nonce_count=1,
        cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
    )


@pytest.mark.skipif("SHA-512-256" not in ALGORITHMS, reason="this Python's OpenSSL has no SHA-512/256")
def test_rfc_7616_section_3_9_2() -> None:
    """RFC 7616 §3.9.2: SHA-512-256 and a user name beyond ASCII, as its errata correct the response."""
    assert digest_response(
        JASON,
        algorithm="SHA-512-256",
        realm="api@example.org",
        nonce="5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK",
        method="GET",
        uri="/doe.json",
        qop="auth",
        nonce_count=1,
        cnonce="NTg6RKcb9boFIAS3KrFK9BGeh+iDa/sm6jUMp2wds69v",
    ) == ("3798d4131c277846293534c3edc11bd8a5e4cdcbff78b05db9d95eeb1cec68a5")


@pytest.mark.parametrize(
    ("algorithm", "qop", "expected"),
    [
        ("MD5", "", "bf57e4e0d0bffc0fbaedce64d59add5e"),
        ("MD5", "auth", "89eb0059246c02b2f6ee02c7961d5ea3"),
        ("MD5-SESS", "auth", "e4e4ea61d186d07a92c9e1f6919902e9"),
    ],
)
def test_sip_examples(algorithm: str, qop: str, expected: str) -> None:
    """draft-smith-sipping-auth-examples-01 §3: an INVITE without qop, with it, and with MD5-sess."""
    assert expected == digest_response(
        BOB,
        algorithm=algorithm,
        realm="biloxi.com",
        nonce=SMITH_NONCE,
        method="INVITE",
        uri="sip:bob@biloxi.com",
        qop=qop,
        nonce_count=1,
        cnonce="0a4f113b",
    )


def test_rfc_2069_vector() -> None:
    """RFC 2069 §2.4, response as its errata correct it: no qop."""
    assert (
        digest_response(
            Credentials("Mufasa", "CircleOfLife"),
            algorithm="MD5",
            realm="testrealm@host.com",
            nonce=SMITH_NONCE,
            method="GET",
            uri="/dir/index.html",
        )
        == "1949323746fe6a43ef61f9606e7febea"
    )


# -- challenges ----------------------------------------------------------------------------------------------------


def test_several_challenges_on_one_line_and_on_several() -> None:
    """RFC 9110 §11.6.1, RFC 8760 §2.4: in the order they come, other schemes left out."""
    response = refusal(
        'Digest realm="one, and \\"only\\"", nonce="n1", qop="auth,auth-int", opaque="o,=o", '
        'Digest realm=two,nonce="n2"',
        'Basic realm="basic"',
        'NTLM, digest  REALM = "three" , Nonce = "n3", algorithm=sha-256, stale=TRUE, qop=auth',
    )
    response.headers.add("Proxy-Authenticate", 'Digest realm="four", nonce="n4", algorithm="MD5-sess", stale=false')
    one, two, three, four = parse_challenges(response)
    assert (one.realm, one.nonce, one.qop, one.opaque) == ('one, and "only"', "n1", ("auth", "auth-int"), "o,=o")
    assert (one.algorithm, one.stale, one.proxy) == ("MD5", False, False)
    assert (two.realm, two.nonce, two.qop, two.opaque) == ("two", "n2", (), None)
    assert (three.realm, three.algorithm, three.stale) == ("three", "SHA-256", True)
    assert (four.realm, four.algorithm, four.proxy) == ("four", "MD5-SESS", True)


def test_unquoted_qop_list_is_understood() -> None:
    """``qop=auth,auth-int`` breaks RFC 7616 §3.3 and is seen all the same."""
    (challenge,) = parse_challenges(refusal('Digest realm="r", nonce="n", qop=auth,auth-int'))
    assert challenge.qop == ("auth",)


@pytest.mark.parametrize("line", ["", "Digest", 'Digest realm="r"', "Digest nonce", '",,="', 'Bearer realm="x"'])
def test_malformed_challenges_are_left_out(line: str) -> None:
    """RFC 3261 §22.1: without a nonce there is nothing to answer."""
    assert parse_challenges(refusal(line)) == []
    assert not client().answer(request(), refusal(line))


# -- answering -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["MD5", "MD5-sess", "SHA-256", "SHA-256-sess", "SHA-512-256", "SHA-512-256-sess"])
@pytest.mark.parametrize(("offered", "chosen"), [("auth", "auth"), ("auth,auth-int", "auth"), ("auth-int", "auth-int")])
def test_every_algorithm_and_qop(algorithm: str, offered: str, chosen: str) -> None:
    """RFC 7616 §3.4: auth-int only where nothing else is offered; qop, nc and algorithm unquoted, the rest quoted."""
    if algorithm.upper() not in ALGORITHMS:
        pytest.skip("this Python's OpenSSL has no SHA-512/256")
    sent = request("INVITE", body=b"v=0\r\n")
    challenge = f'Digest realm="r", nonce="n", algorithm={algorithm}, qop="{offered}", opaque=""'
    assert client().answer(sent, refusal(challenge))
    parameters = credentials_of(sent)
    assert parameters["algorithm"] == algorithm
    assert parameters["qop"] == chosen
    assert parameters["nc"] == "00000001"
    assert parameters["opaque"] == ""
    assert parameters["uri"] == "sip:example.com"
    assert is_right(sent, parameters)
    value = sent.headers.get("Authorization") or ""
    assert value.startswith('Digest username="alice", realm="r", nonce="n", uri="sip:example.com", response="')
    assert f"algorithm={algorithm}, " in value
    assert f", qop={chosen}, nc=00000001" in value


def test_without_qop_there_is_no_count() -> None:
    """RFC 7616 §3.4: nc and cnonce must not be sent to a server of RFC 2069."""
    sent = request()
    assert client().answer(sent, refusal('Digest realm="r", nonce="n"'))
    parameters = credentials_of(sent)
    assert not {"nc", "qop", "cnonce", "opaque"} & set(parameters)
    assert is_right(sent, parameters)


def test_the_strongest_algorithm_of_a_realm_is_answered() -> None:
    """RFC 8760 §2.4: whatever the order; what is not known is passed over."""
    sent = request()
    lines = [
        f'Digest realm="r", nonce="{name}", algorithm={name}' for name in ("MD5", "FUTURE-1", "SHA-256", "MD5-sess")
    ]
    assert client().answer(sent, refusal(*lines))
    assert credentials_of(sent)["algorithm"] == "SHA-256"
    assert credentials_of(sent)["nonce"] == "SHA-256"
    assert not client().answer(request(), refusal('Digest realm="r", nonce="n", algorithm=FUTURE-1'))
    assert not client().answer(request(), refusal('Digest realm="r", nonce="n", qop="future"'))


def test_401_and_407_and_both_in_one() -> None:
    """RFC 3261 §22.2, §22.3: each kind is answered in its own header, also if a fork's 401 carries both (§16.7)."""
    both = refusal('Digest realm="server", nonce="n1"', 'Digest realm="other", nonce="n2"')
    both.headers.add("Proxy-Authenticate", 'Digest realm="proxy", nonce="n3", qop="auth"')
    sent = request("INVITE")
    assert client().answer(sent, both)
    assert [each["realm"] for each in parse_credentials(sent, "Authorization")] == ["server", "other"]
    assert credentials_of(sent, proxy=True)["realm"] == "proxy"
    assert is_right(sent, credentials_of(sent, proxy=True))


def test_quotes_commas_and_bytes_beyond_utf_8_survive() -> None:
    """RFC 3261 §25.1 quoted-string: what the server wrote comes back as it was, hashed as it was."""
    odd = 'o"d\\d, "r"'.replace("\\", "\\\\").replace('"', '\\"').encode() + b"\xff"
    data = (
        b"SIP/2.0 401 Who\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\n"
        b'Call-ID: c\r\nCSeq: 1 REGISTER\r\nWWW-Authenticate: Digest realm="' + odd + b'", nonce="' + odd + b'"\r\n\r\n'
    )
    response = parse_message(data)
    assert isinstance(response, Response)
    sent = request()
    assert client(Credentials('al"ice', "pa\\ss")).answer(sent, response)
    parameters = credentials_of(sent)
    assert parameters["realm"] == parameters["nonce"] == parse_challenges(response)[0].realm
    assert parameters["username"] == 'al"ice'
    assert is_right(sent, parameters, Credentials('al"ice', "pa\\ss"))
    assert b'realm="' + odd + b'"' in serialize(sent)


# -- nonce count, reuse --------------------------------------------------------------------------------------------


def test_the_nonce_count_rises_with_each_use_of_a_nonce() -> None:
    """RFC 7616 §3.4, nc: over requests of any method, with a fresh cnonce each time."""
    digest = client()
    first = request()
    assert digest.answer(first, refusal('Digest realm="r", nonce="n", qop="auth"'))
    seen = [credentials_of(first)]
    for method in ("INVITE", "REGISTER", "MESSAGE"):
        later = request(method)
        digest.apply(later)
        seen.append(credentials_of(later))
        assert is_right(later, seen[-1])
    assert [each["nc"] for each in seen] == ["00000001", "00000002", "00000003", "00000004"]
    assert len({each["cnonce"] for each in seen}) == 4


def test_a_session_key_keeps_its_cnonce() -> None:
    """RFC 7616 §3.4.2: the -sess key is made once, of the first cnonce, whichever way the server reads that."""
    digest = client()
    first, second = request(), request()
    assert digest.answer(first, refusal('Digest realm="r", nonce="n", qop="auth", algorithm=SHA-256-sess'))
    digest.apply(second)
    assert credentials_of(first)["cnonce"] == credentials_of(second)["cnonce"]
    assert credentials_of(second)["nc"] == "00000002"
    assert is_right(second, credentials_of(second))


def test_a_fresh_nonce_starts_its_count_anew() -> None:
    """RFC 7616 §3.4, nc: it counts the uses of one nonce."""
    digest = client()
    assert digest.answer(request(), refusal('Digest realm="r", nonce="n1", qop="auth"'))
    sent = request()
    digest.apply(sent)
    assert digest.answer(sent, refusal('Digest realm="r", nonce="n2", qop="auth", stale=true'))
    assert (credentials_of(sent)["nonce"], credentials_of(sent)["nc"]) == ("n2", "00000001")


def test_two_requests_challenged_with_one_nonce_share_its_count() -> None:
    """A server that gives out nonces by the second gives the same twice."""
    digest = client()
    first, second = request(), request("INVITE")
    challenge = refusal('Digest realm="r", nonce="n", qop="auth"')
    assert digest.answer(first, challenge)
    assert digest.answer(second, challenge)
    assert [credentials_of(each)["nc"] for each in (first, second)] == ["00000001", "00000002"]


def test_what_another_realm_was_sent_is_counted_again() -> None:
    """A 407, then a 401: the proxy sees its nonce with a new count in the third request."""
    digest = client()
    sent = request("INVITE")
    assert digest.answer(sent, refusal('Digest realm="proxy", nonce="p", qop="auth"', proxy=True))
    assert digest.answer(sent, refusal('Digest realm="server", nonce="s", qop="auth"'))
    assert credentials_of(sent, proxy=True)["nc"] == "00000002"
    assert is_right(sent, credentials_of(sent, proxy=True))
    assert credentials_of(sent)["nc"] == "00000001"


def test_credentials_go_unasked_only_where_they_belong() -> None:
    """RFC 3261 §22.1, RFC 7616 §4.3: a server's to its own host, a proxy's on any route, none to a stranger's host."""
    digest = client()
    both = refusal('Digest realm="server", nonce="s", qop="auth"')
    both.headers.add("Proxy-Authenticate", 'Digest realm="proxy", nonce="p", qop="auth"')
    assert digest.answer(request(), both)
    home = request("INVITE", "sip:bob@example.com")
    routed = request("BYE", "sip:bob@192.0.2.5", routes=("<sip:proxy.example.com;lr>",))
    stranger = request("INVITE", "sip:eve@example.net")
    for sent in (home, routed, stranger):
        digest.apply(sent)
    assert "Authorization" in home.headers
    assert "Proxy-Authorization" in home.headers
    assert "Authorization" not in routed.headers
    assert "Proxy-Authorization" in routed.headers
    assert "Authorization" not in stranger.headers
    assert "Proxy-Authorization" not in stranger.headers


def test_a_nonce_without_count_is_not_used_unasked() -> None:
    """RFC 2069 servers: a second use could not be told from a replay."""
    digest = client()
    assert digest.answer(request(), refusal('Digest realm="r", nonce="n"'))
    later = request()
    digest.apply(later)
    assert "Authorization" not in later.headers


def test_only_so_many_realms_are_remembered() -> None:
    """A server that invents realms costs no memory; the newest stay."""
    digest = client()
    for number in range(DigestClient.MAX_SESSIONS + 5):
        assert digest.answer(request(), refusal(f'Digest realm="r{number}", nonce="n", qop="auth"'))
    later = request()
    digest.apply(later)
    realms = [each["realm"] for each in parse_credentials(later, "Authorization")]
    assert realms == [f"r{number}" for number in range(5, DigestClient.MAX_SESSIONS + 5)]


# -- refused -------------------------------------------------------------------------------------------------------


def test_a_wrong_password_is_not_tried_twice() -> None:
    """RFC 7616 §3.3: a fresh nonce without stale after an answer means wrong credentials."""
    for again in ('Digest realm="r", nonce="n", qop="auth"', 'Digest realm="r", nonce="n2", qop="auth", stale=false'):
        digest = client()
        sent = request()
        assert digest.answer(sent, refusal('Digest realm="r", nonce="n", qop="auth"'))
        assert not digest.answer(sent, refusal(again))
    assert not client(Credentials("alice", "")).answer(request(), refusal('Digest realm="r", nonce="n"'))


def test_the_same_without_qop() -> None:
    """There is no count then, and still one try."""
    digest = client()
    sent = request()
    assert digest.answer(sent, refusal('Digest realm="r", nonce="n"'))
    assert not digest.answer(sent, refusal('Digest realm="r", nonce="n2"'))


def test_a_stale_nonce_is_replaced() -> None:
    """RFC 7616 §3.3: ``stale=true`` says that the password was right; never with the nonce that was refused."""
    digest = client()
    sent = request()
    assert digest.answer(sent, refusal('Digest realm="r", nonce="n", qop="auth"'))
    assert digest.answer(sent, refusal('Digest realm="r", nonce="n2", qop="auth", stale=true'))
    assert credentials_of(sent)["nonce"] == "n2"
    assert not digest.answer(sent, refusal('Digest realm="r", nonce="n2", qop="auth", stale=true'))


def test_credentials_sent_unasked_may_have_aged() -> None:
    """A fresh nonce after them is answered once, stale or not; the same nonce is not."""
    digest = client()
    assert digest.answer(request(), refusal('Digest realm="r", nonce="n", qop="auth"'))
    sent = request()
    digest.apply(sent)
    assert digest.answer(sent, refusal('Digest realm="r", nonce="n2", qop="auth"'))
    assert not digest.answer(sent, refusal('Digest realm="r", nonce="n3", qop="auth"'))
    other = request()
    digest.apply(other)
    assert not digest.answer(other, refusal(f'Digest realm="r", nonce="{credentials_of(other)["nonce"]}", qop="auth"'))


def test_requests_under_way_at_once_do_not_blame_the_password() -> None:
    """One request renews the nonce while another still carries the old one: its fresh challenge is answered too."""
    digest = client()
    assert digest.answer(request(), refusal('Digest realm="r", nonce="n1", qop="auth"'))
    register, invite = request(), request("INVITE")
    digest.apply(register)
    digest.apply(invite)
    assert digest.answer(register, refusal('Digest realm="r", nonce="n2", qop="auth"'))
    assert digest.answer(invite, refusal('Digest realm="r", nonce="n3", qop="auth"'))
    assert credentials_of(invite)["nonce"] == "n3"


# -- secrets, garbage ----------------------------------------------------------------------------------------------


def test_a_downgrade_is_refused() -> None:
    """RFC 7616 §5.10, RFC 8760 §4: once a server has offered SHA-256, a challenge with MD5 alone is somebody else's."""
    answering = client()
    both = refusal('Digest realm="r", nonce="n1", algorithm=MD5', 'Digest realm="r", nonce="n1", algorithm=SHA-256')
    assert answering.answer(request(), both)
    weak = refusal('Digest realm="r", nonce="n2", algorithm=MD5')
    asked = request()
    assert not answering.answer(asked, weak)
    assert answering.refusal == "it offers MD5, where SHA-256 was offered before: a downgrade"
    assert "Authorization" not in asked.headers
    assert not answering.answer(request(), refusal('Digest realm="r", nonce="n3"'))
    assert answering.answer(request(), refusal('Digest realm="r", nonce="n4", algorithm=SHA-256-sess, qop="auth"'))
    assert answering.refusal == ""
    assert answering.answer(request(), refusal('Digest realm="other", nonce="n5"'))
    assert answering.answer(request(uri="sip:another.example"), refusal('Digest realm="r", nonce="n6"'))


def test_a_downgrade_may_be_allowed() -> None:
    answering = DigestClient(ALICE, Ids(random.Random(1)), allow_weaker=True)
    assert answering.answer(request(), refusal('Digest realm="r", nonce="n1", algorithm=SHA-256'))
    assert answering.answer(request(), refusal('Digest realm="r", nonce="n2", algorithm=MD5'))


def test_only_the_realm_of_the_account_is_answered() -> None:
    """No hash of the password for whoever asks."""
    answering = DigestClient(ALICE, Ids(random.Random(1)), realm="example.com")
    assert answering.answer(request(), refusal('Digest realm="example.com", nonce="n1"'))
    for proxy in (False, True):
        asked = request()
        assert not answering.answer(asked, refusal('Digest realm="evil.example", nonce="n2"', proxy=proxy))
        assert answering.refusal == "it is of realm 'evil.example', not 'example.com'"
        assert not asked.headers.get_all("Authorization") + asked.headers.get_all("Proxy-Authorization")


def test_userhash_vector() -> None:
    """RFC 7616 §3.9.2 (erratum 4897): the name goes as a hash, the key is made from the name."""
    user = Credentials("J\u00e4s\u00f8n Doe", "Secret, or not?")
    answering = DigestClient(user, Ids(random.Random(1)))
    challenge = 'Digest realm="api@example.org", nonce="n", algorithm=SHA-512-256, qop="auth", userhash=true'
    asked = request()
    assert answering.answer(asked, refusal(challenge))
    given_parameters = credentials_of(asked)
    assert given_parameters["username"] == "793263caabb707a56211940d90411ea4a575adeccb7e360aeb624ed06ece9b0b"
    assert given_parameters["userhash"] == "true"
    assert given_parameters["response"] == digest_response(
        user,
        algorithm="SHA-512-256",
        realm="api@example.org",
        nonce="n",
        method="REGISTER",
        uri="sip:example.com",
        qop="auth",
        nonce_count=1,
        cnonce=given_parameters["cnonce"],
    )


@pytest.mark.parametrize("proxy", [False, True])
def test_the_next_nonce_is_used_next(proxy: bool) -> None:
    """RFC 7616 §3.5: Authentication-Info saves the round trip of a stale nonce."""
    answering = client()
    asked = request(routes=("<sip:proxy.example;lr>",))
    assert answering.answer(asked, refusal('Digest realm="r", nonce="n1", qop="auth"', proxy=proxy))
    response = Response(200, "OK")
    response.headers.add("Proxy-Authentication-Info" if proxy else "Authentication-Info", 'nextnonce="n2", qop=auth')
    answering.accepted(asked, response)
    later = [request(routes=("<sip:proxy.example;lr>",)) for _ in range(2)]
    for one in later:
        answering.apply(one)
    used = [credentials_of(one, proxy=proxy) for one in later]
    assert [(each["nonce"], each["nc"]) for each in used] == [("n2", "00000001"), ("n2", "00000002")]


@pytest.mark.parametrize("value", ['nextnonce=""', "nonsense", 'nextnonce="n1"', ""])
def test_no_next_nonce(value: str) -> None:
    answering = client()
    asked = request()
    assert answering.answer(asked, refusal('Digest realm="r", nonce="n1", qop="auth"'))
    response = Response(200, "OK")
    response.headers.add("Authentication-Info", value)
    answering.accepted(asked, response)
    later = request()
    answering.apply(later)
    assert (credentials_of(later)["nonce"], credentials_of(later)["nc"]) == ("n1", "00000002")


def test_no_secret_shows() -> None:
    """CONTRACT §5: neither password nor digest in a repr."""
    digest = client()
    sent = request()
    response = refusal('Digest realm="r", nonce="topsecretnonce", opaque="opaquevalue", qop="auth"')
    assert digest.answer(sent, response)
    shown = f"{ALICE!r} {ALICE} {digest!r} {parse_challenges(response)!r} {sent!r}"
    for secret in ("wonderland", "topsecretnonce", "opaquevalue", credentials_of(sent)["response"]):
        assert secret not in shown


@given(st.lists(st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0"), max_size=60), max_size=3))
def test_any_challenge_is_answered_or_not(lines: list[str]) -> None:
    """Nothing escapes on garbage, and what goes out parses."""
    digest = client()
    for proxy in (False, True):
        sent = request()
        if digest.answer(sent, refusal(*(f"Digest nonce=n, {line}" for line in lines), *lines, proxy=proxy)):
            assert all(is_right(sent, each) for each in parse_credentials(sent, "Authorization"))
            serialize(sent)
        digest.apply(request())
