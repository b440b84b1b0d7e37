"""One binding, kept fresh (RFC 3261 §10.2): a whole stack against a scripted registrar, in virtual time."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from sipcore.config import Account
from sipcore.errors import (
    AuthenticationFailed,
    RegistrationRejected,
    RegistrationTimeout,
    ServerUnreachable,
)
from sipcore.events import Registered, RegistrationFailed, Unregistered
from sipcore.protocol.digest import parse_credentials
from sipcore.protocol.digest_server import DigestVerifier, Verdict
from sipcore.protocol.registrar_client import STOP_PATIENCE, Backoff, RegistrarState
from sipcore.protocol.wire import Request, Response
from tests.kit.network import Conditions
from tests.protocol.desk import PASSWORD, SERVER, Answer, Desk, Headers, always, bound, guarded, reply, seen_from

# -- the request ---------------------------------------------------------------------------------------------------


def test_the_request_names_the_registrar_without_a_user() -> None:
    """§10.2: request URI without user part or parameters; From and To the address of record; Expires and Contact."""
    desk = Desk(account=Account("sip:alice@192.0.2.53:5060;transport=tcp", display_name='Al "A"')).register()
    (request,) = desk.requests
    assert str(request.uri) == "sip:192.0.2.53:5060"
    assert str(request.to) == '"Al \\"A\\"" <sip:alice@192.0.2.53:5060>'
    assert request.from_.uri == request.to.uri
    assert request.from_tag
    assert not request.to_tag
    assert request.headers.get("Expires") == "600"
    assert request.contact is not None
    assert str(request.contact.uri).startswith("sip:alice@192.0.2.1:5060;transport=tcp;line=")
    assert request.via.transport == "TCP"
    assert desk.events == [Registered(600)]


def test_through_an_outbound_proxy() -> None:
    """RFC 3261 §8.1.2: the request goes to the proxy, with a pre-loaded Route; the request URI stays the domain."""
    desk = Desk(account=Account("alice@example.com", outbound_proxy="192.0.2.53:5060")).register()
    (request,) = desk.requests
    assert str(request.uri) == "sip:example.com"
    assert [str(route.uri) for route in request.routes] == ["sip:192.0.2.53:5060;lr"]


def test_one_call_id_and_from_tag_and_a_rising_cseq() -> None:
    """§10.2: over challenges, refreshes and the un-REGISTER; each transaction with a branch of its own."""
    desk = Desk(guarded()).register()
    desk.run(2000)
    desk.tell(desk.client.stop)
    desk.run(1)
    assert len(desk.requests) >= 6
    assert len({request.call_id for request in desk.requests}) == 1
    assert len({request.from_tag for request in desk.requests}) == 1
    numbers = [request.cseq.number for request in desk.requests]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert len({request.via.branch for request in desk.requests}) == len(numbers)


# -- digest --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("proxy", [False, True])
def test_a_challenge_is_answered(proxy: bool) -> None:
    """§22.2, §22.3: 401 by the registrar, 407 by a proxy before it; refreshes use the nonce again, counting up."""
    desk = Desk(guarded(proxy=proxy)).register()
    assert desk.events == [Registered(600)]
    if proxy:
        return
    assert len(desk.requests) == 2
    desk.run(200)
    desk.tell(desk.client.refresh)
    desk.run(1)
    assert len(desk.requests) == 3, "the nonce is good for a while"
    (credentials,) = parse_credentials(desk.requests[-1], "Authorization")
    assert credentials["nc"] == "00000002"


def test_a_nonce_that_aged_is_replaced_without_a_word() -> None:
    """RFC 7616 §3.3, stale: no failure is reported between refreshes."""
    desk = Desk(guarded()).register()
    desk.run(3600)
    assert desk.events == [Registered(600)]


@pytest.mark.parametrize(("account_password", "tries"), [("wrong", 2), ("", 1)])
def test_wrong_or_no_password(account_password: str, tries: int) -> None:
    """RFC 7616 §3.3: one answer, then AuthenticationFailed; the next try is a minute off: nobody gets locked out."""
    desk = Desk(guarded(), account=Account("alice@192.0.2.53", password=account_password)).register()
    assert isinstance(desk.failure, AuthenticationFailed)
    assert desk.failure.code == 401
    assert str(desk.failure) == "401 Unauthorized from the registrar 192.0.2.53"
    assert len(desk.requests) == tries
    desk.run(59)
    assert len(desk.requests) == tries
    desk.run(20)
    assert len(desk.requests) == 2 * tries


def test_403_after_credentials_is_about_them() -> None:
    """Kamailio and others answer a wrong password so; without credentials 403 is a plain refusal."""
    guard = guarded()
    desk = Desk(lambda request, now: reply(request, 403) if "Authorization" in request.headers else guard(request, now))
    desk.register()
    assert isinstance(desk.failure, AuthenticationFailed)
    desk = Desk(always(403)).register()
    assert isinstance(desk.failure, RegistrationRejected)
    assert desk.failure.code == 403


# -- expiry --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "granted"),
    [
        (lambda request, now: bound(request, 120), 120),
        # our contact's own lifetime wins over the header (§10.2.4), whatever else is bound
        (
            lambda request, now: reply(
                request,
                200,
                ("Contact", "<sip:alice@192.0.2.99:5060;line=other>;expires=3000, <sip:alice@192.0.2.98>;expires=1"),
                ("Contact", f"{request.headers.get('Contact')};q=0.5;expires=90"),
                ("Expires", "7200"),
            ),
            90,
        ),
        # a registrar behind a NAT may list where it saw the request come from
        (lambda request, now: seen_from(request, ("Contact", "<sip:alice@203.0.113.7:1024>;expires=70")), 70),
        (lambda request, now: reply(request, 200, ("Contact", "<sip:alice@192.0.2.1>;expires=75")), 75),
        # and a gateway rewrites it to what we cannot know: alone, and brand-new, it is ours
        (lambda request, now: reply(request, 200, ("Contact", "<sip:alice@203.0.113.9>;expires=600")), 600),
        (
            lambda request, now: reply(
                request, 200, ("Contact", request.headers.get("Contact") or ""), ("Expires", "80")
            ),
            80,
        ),
        (lambda request, now: reply(request, 200, ("Contact", f"{request.headers.get('Contact')};expires=soon")), 600),
        # §10.3 step 8 wants all bindings in it; some registrars list none
        (always(200), 600),
        (always(200, ("Expires", "85")), 85),
    ],
)
def test_what_was_granted(answer: Answer, granted: int) -> None:
    """§10.2.4: our Contact's ``expires``, else the Expires header, else what was asked for."""
    desk = Desk(answer).register()
    assert desk.events == [Registered(granted)]
    assert desk.client.expires_at == pytest.approx(desk.network.now + granted)


@pytest.mark.parametrize(
    "contacts",
    [
        "<sip:alice@192.0.2.99:5060;line=other>;expires=3000",
        "<sip:alice@203.0.113.9>;expires=599",
        "<sip:bob@203.0.113.9>;expires=600",
        "<sip:alice@192.0.2.98>;expires=600, <sip:alice@192.0.2.99>;expires=600",
        "<sip:bob@192.0.2.1:5060>;expires=600",
    ],
)
def test_bindings_of_others_alone_are_no_registration(contacts: str) -> None:
    """§10.2.4: the response lists all bindings; where ours is missing, calls would go to somebody else only."""
    desk = Desk(lambda request, now: reply(request, 200, ("Contact", contacts), ("Expires", "600"))).register()
    assert isinstance(desk.failure, RegistrationRejected)
    assert desk.failure.code == 200
    assert str(desk.failure) == "The registrar holds no binding of ours"
    desk.registrar.answer = lambda request, now: bound(request)
    desk.run(10)
    assert desk.events[-1] == Registered(600)


@pytest.mark.parametrize("granted", [2, 30, 600])
def test_the_binding_is_refreshed_ahead_of_its_expiry(granted: int) -> None:
    """§10.2.4: between half and nine tenths of it, never twice at the same share; refreshes are silent."""
    desk = Desk(lambda request, now: bound(request, granted)).register()
    desk.run(granted * 12)
    gaps = [later - earlier for earlier, later in pairwise(desk.times)]
    assert len(gaps) >= 12
    assert all(0.5 * granted <= gap <= 0.9 * granted for gap in gaps)
    assert granted < 30 or len({round(gap, 3) for gap in gaps}) > 6
    assert desk.events == [Registered(granted)]


def test_a_registrar_that_grants_next_to_nothing_is_not_flooded() -> None:
    """At most one REGISTER a second."""
    desk = Desk(lambda request, now: bound(request, 1)).register()
    desk.run(20)
    assert 15 <= len(desk.requests) <= 21


def test_more_than_was_asked_for_is_not_relied_on() -> None:
    """§10.3 step 7 lets a registrar shorten the lifetime, not extend it."""
    desk = Desk(lambda request, now: bound(request, 999999999)).register()
    desk.run(600)
    assert len(desk.requests) == 2


def test_423_is_obeyed_and_remembered() -> None:
    """§10.2.8: asks again with Min-Expires, and with it from then on."""
    desk = Desk(
        lambda request, now: (
            bound(request) if (request.expires or 0) >= 1800 else reply(request, 423, ("Min-Expires", "1800"))
        )
    ).register()
    assert [request.expires for request in desk.requests] == [600, 1800]
    assert desk.events == [Registered(1800)]
    desk.run(1800)
    assert [request.expires for request in desk.requests] == [600, 1800, 1800]


@pytest.mark.parametrize("minimum", [None, "60", "600", "soon"])
def test_423_that_cannot_be_obeyed_is_a_refusal(minimum: str | None) -> None:
    """A minimum that was met already, or none."""
    headers: Headers = () if minimum is None else (("Min-Expires", minimum),)
    desk = Desk(always(423, *headers)).register()
    assert len(desk.requests) == 1
    assert isinstance(desk.failure, RegistrationRejected)
    assert desk.failure.code == 423


def test_a_minimum_that_rises_each_time_ends_in_a_refusal() -> None:
    """A broken registrar does not keep us busy."""
    desk = Desk(lambda request, now: reply(request, 423, ("Min-Expires", str((request.expires or 0) * 2)))).register()
    assert [request.expires for request in desk.requests] == [600, 1200, 2400, 4800]
    assert isinstance(desk.failure, RegistrationRejected)


# -- failure, backoff, recovery ------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [302, 400, 403, 404, 420, 480, 500, 503, 600, 603])
def test_a_final_refusal(status: int) -> None:
    """§10.2, §8.1.3: told with its code and phrase; tried again after a while."""
    desk = Desk(always(status)).register()
    assert isinstance(desk.failure, RegistrationRejected)
    assert desk.failure.code == status
    assert str(desk.failure).startswith(f"{status} ")
    assert str(desk.failure).endswith(" from the registrar 192.0.2.53")
    assert desk.client.state is RegistrarState.WAITING
    desk.registrar.answer = lambda request, now: bound(request)
    desk.run(80)
    assert desk.events[-1] == Registered(600)


def test_no_answer_is_a_timeout_after_64_t1() -> None:
    """§17.1.2.2 timer F, §8.1.3.1: after 32 s."""
    desk = Desk(lambda request, now: None).register()
    assert isinstance(desk.failure, RegistrationTimeout)
    assert desk.failure.code == 408
    assert desk.network.now == pytest.approx(32.0)
    assert str(desk.failure) == "No answer from the registrar 192.0.2.53"


def test_408_is_a_timeout_too() -> None:
    """§21.4.9: a proxy on the way saw none either."""
    assert isinstance(Desk(always(408)).register().failure, RegistrationTimeout)


def test_a_refused_port_is_unreachable_at_once() -> None:
    """§18.4: ICMP or a reset ends the transaction."""
    desk = Desk()
    desk.network.refusing.add(SERVER)
    desk.register()
    assert isinstance(desk.failure, ServerUnreachable)
    assert desk.network.now < 1
    desk.network.refusing.clear()
    desk.run(5)
    assert desk.events[-1] == Registered(600)


def test_the_wait_grows_and_is_told() -> None:
    """Doubling from 2 s up to 5 minutes, spread by a quarter, so that accounts do not come back in one burst."""
    desk = Desk(always(500)).register()
    desk.run(3000)
    waits = [event.retry_in for event in desk.events if isinstance(event, RegistrationFailed)]
    for number, wait in enumerate(waits):
        expected = min(2.0 * 2**number, 300.0)
        assert 0.75 * expected <= wait <= 1.25 * expected
    gaps = [later - earlier for earlier, later in pairwise(desk.times)]
    assert all(abs(gap - wait) < 0.1 for gap, wait in zip(gaps, waits, strict=False))
    assert len({round(wait / min(2.0 * 2**number, 300.0), 3) for number, wait in enumerate(waits)}) > 6


def test_success_resets_the_wait() -> None:
    """The next failure starts with the short wait again."""
    desk = Desk(always(500)).register()
    desk.run(100)
    desk.registrar.answer = lambda request, now: bound(request)
    desk.run(300)
    assert desk.events[-1] == Registered(600)
    desk.registrar.answer = always(500)
    desk.run(600)
    waits = [event.retry_in for event in desk.events if isinstance(event, RegistrationFailed)]
    again = desk.events.index(Registered(600)) + 1
    first_after = desk.events[again]
    assert isinstance(first_after, RegistrationFailed)
    assert first_after.retry_in <= 2.5 < max(waits)


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("120", 120, 150),
        ("120 (maintenance);duration=3600", 120, 150),
        ("18000;duration=3600", 3600, 4500),
        ("9" * 5000, 3600, 4500),
        ("1", 1.5, 2.5),
        ("soon", 1.5, 2.5),
        ("-5", 1.5, 2.5),
    ],
)
def test_retry_after_is_honoured_within_reason(text: str, low: float, high: float) -> None:
    """§20.33, §21.5.4: at least as long as asked for (an hour at most), up to a quarter longer."""
    desk = Desk(always(503, ("Retry-After", text))).register()
    (event,) = desk.events
    assert isinstance(event, RegistrationFailed)
    assert low <= event.retry_in <= high


@pytest.mark.parametrize("status", [403, 404, 503])
def test_a_registrar_restarts(status: int) -> None:
    """A refresh is refused for good: told once a try, and Registered again as soon as it goes through."""
    desk = Desk().register()
    desk.registrar.answer = always(status)
    desk.run(600)
    desk.registrar.answer = lambda request, now: bound(request)
    desk.run(400)
    kinds = [type(event) for event in desk.events]
    assert kinds[0] is Registered
    assert kinds[-1] is Registered
    assert set(kinds[1:-1]) == {RegistrationFailed}


@pytest.mark.parametrize("status", [401, 403, 407])
def test_credentials_that_are_revoked_mid_life(status: int) -> None:
    """Told at the next refresh; then tried a minute apart at first, and ever slower: nobody gets locked out. Once they
    are good again, so is the registration."""
    desk = Desk(guarded()).register()
    refusing = guarded("another", proxy=status == 407, seed=6)
    desk.registrar.answer = (
        refusing
        if status != 403
        else lambda request, now: reply(request, 403) if "Authorization" in request.headers else refusing(request, now)
    )
    desk.run(540)
    assert isinstance(desk.failure, AuthenticationFailed)
    assert desk.failure.code == status
    desk.run(3600)
    waits = [event.retry_in for event in desk.events if isinstance(event, RegistrationFailed)]
    assert all(60 <= wait <= 375 for wait in waits)
    assert waits[-1] > 220
    desk.registrar.answer = guarded(seed=7)
    desk.run(375)
    assert desk.events[-1] == Registered(600)


def test_a_registrar_falls_silent_and_comes_back() -> None:
    """The failure is known 32 s after the refresh, well before the binding has lapsed."""
    desk = Desk().register()
    desk.registrar.answer = lambda request, now: None
    desk.network.run_until(lambda: len(desk.events) == 2, limit=600)
    assert isinstance(desk.failure, RegistrationTimeout)
    assert desk.network.now == pytest.approx(desk.times[1] + 32, abs=0.1)
    assert desk.client.expires_at is not None
    assert desk.network.now < desk.client.expires_at
    desk.registrar.answer = lambda request, now: bound(request)
    desk.run(30)
    assert desk.events[-1] == Registered(600)


def test_a_200_without_a_binding_is_a_failure() -> None:
    """§10.3 step 8: zero seconds are no registration."""
    desk = Desk(lambda request, now: reply(request, 200, ("Contact", f"{request.headers.get('Contact')};expires=0")))
    desk.register()
    assert isinstance(desk.failure, RegistrationRejected)
    assert desk.client.expires_at is None


@pytest.mark.parametrize("seed", range(5))
def test_on_a_lossy_network_it_stays_registered(seed: int) -> None:
    """§17.1.2: a third of the datagrams lost, some twice, out of order; retransmissions carry it."""
    desk = Desk(guarded())
    desk.network.conditions = Conditions(delay=(0.005, 0.2), loss=0.3, duplication=0.1)
    desk.stack.rng.seed(seed)
    desk.register()
    desk.run(3600)
    assert desk.events[0] == Registered(600)
    assert desk.client.state in (RegistrarState.REGISTERED, RegistrarState.REFRESHING)


# -- wishes --------------------------------------------------------------------------------------------------------


def test_a_refresh_asked_for_is_told() -> None:
    """It comes at once, and instead of the one that was timed."""
    desk = Desk().register()
    desk.run(10)
    desk.tell(desk.client.refresh)
    assert desk.client.state is RegistrarState.REFRESHING
    desk.tell(desk.client.refresh)
    desk.run(1)
    assert desk.events == [Registered(600), Registered(600)]
    assert len(desk.requests) == 2
    desk.run(290)
    assert len(desk.requests) == 2, "half of the lifetime counts from the newest"


def test_a_refresh_asked_for_ends_the_wait() -> None:
    """After a failure nobody has to wait out the backoff."""
    desk = Desk(always(500)).register()
    desk.registrar.answer = lambda request, now: bound(request)
    desk.tell(desk.client.refresh)
    desk.run(0.1)
    assert desk.events[-1] == Registered(600)


def test_starting_twice_is_starting_once() -> None:
    """One registration an account."""
    desk = Desk()
    desk.stack.register(desk.line, 0.0)
    desk.tell(desk.client.start)
    desk.run(1)
    assert len(desk.requests) == 1


def test_accounts_wait_for_their_turn_and_stop_while_they_wait() -> None:
    """The pace is shared; what waits for its turn has sent nothing, and says nothing when it is stopped."""
    desk = Desk()
    desk.stack.register_pace.turn(0.0)
    while (turn := desk.stack.register_pace.turn(0.0)) < 5:
        pass
    desk.stack.register(desk.line, desk.network.now)
    desk.run(4.9)
    assert desk.client.state is RegistrarState.WAITING
    assert desk.requests == []
    desk.tell(desk.client.refresh)
    desk.run(turn - 4.9 + 0.1)
    assert desk.events == [Registered(600)]
    desk = Desk()
    while desk.stack.register_pace.turn(0.0) < 5:
        pass
    desk.stack.register(desk.line, desk.network.now)
    desk.tell(desk.client.stop)
    desk.run(10)
    assert desk.requests == []
    assert desk.events == [Unregistered()]
    assert desk.stack.idle


def test_stopping_removes_the_binding() -> None:
    """§10.2.2: the same Contact with expires 0; nothing is left to do, or timed, afterwards."""
    desk = Desk(guarded()).register()
    desk.tell(desk.client.stop)
    desk.tell(desk.client.stop)
    desk.run(1)
    assert desk.events == [Registered(600), Unregistered()]
    assert desk.client.state is RegistrarState.CLOSED
    assert desk.requests[-1].expires == 0
    assert desk.requests[-1].contact is not None
    assert desk.requests[0].contact is not None
    assert desk.requests[-1].contact.uri == desk.requests[0].contact.uri
    desk.tell(desk.client.refresh)
    desk.run(4000)
    assert desk.requests[-1].expires == 0
    assert desk.stack.idle


@pytest.mark.parametrize(
    "answer", [always(403), always(500), always(423, ("Min-Expires", "60")), lambda request, now: None]
)
def test_stopping_ends_whatever_the_answer(answer: Answer) -> None:
    """64*T1 at the latest; nobody retries an un-REGISTER."""
    desk = Desk().register()
    desk.registrar.answer = answer
    desk.tell(desk.client.stop)
    desk.run(33)
    assert desk.events == [Registered(600), Unregistered()]
    assert len(desk.requests) == 2
    assert desk.client.state is RegistrarState.CLOSED


def test_stopping_before_and_without_a_binding_says_nothing_to_the_registrar() -> None:
    """There is nothing to remove: never started, or refused from the beginning."""
    desk = Desk(always(403)).register()
    desk.tell(desk.client.stop)
    assert desk.events[-1] == Unregistered()
    desk.run(200)
    assert len(desk.requests) == 1


def test_stopping_while_refreshes_fail_removes_a_binding_that_may_be_alive() -> None:
    """The registrar holds it until it lapses, whatever it thinks of the refresh."""
    desk = Desk().register()
    desk.registrar.answer = always(500)
    desk.network.run_until(lambda: len(desk.events) == 2, limit=600)
    desk.tell(desk.client.stop)
    desk.run(1)
    assert desk.requests[-1].expires == 0
    assert desk.events[-1] == Unregistered()
    desk = Desk().register()
    desk.registrar.answer = always(500)
    desk.run(700)
    before = len(desk.requests)
    desk.tell(desk.client.stop)
    desk.run(1)
    assert len(desk.requests) == before, "it has lapsed"


def test_stopping_waits_for_the_register_under_way() -> None:
    """§10.2: no second REGISTER before the first is answered; its binding is then removed."""
    desk = Desk()
    desk.stack.register(desk.line, 0.0)
    desk.network.flush()
    desk.tell(desk.client.stop)
    assert desk.client.state is RegistrarState.STOPPING
    desk.run(1)
    assert [request.expires for request in desk.requests] == [600, 0]
    assert desk.times[1] > desk.times[0]
    assert desk.events == [Unregistered()]


def test_stopping_while_the_first_register_is_refused() -> None:
    """Nothing was bound, nothing is removed."""
    desk = Desk(always(403))
    desk.stack.register(desk.line, 0.0)
    desk.tell(desk.client.stop)
    desk.run(1)
    assert len(desk.requests) == 1
    assert desk.events == [Unregistered()]


def test_stopping_does_not_wait_long_for_a_silent_registrar() -> None:
    """After a second the un-REGISTER goes out all the same; a late challenge to the first REGISTER is not answered."""
    desk = Desk(lambda request, now: None)
    desk.stack.register(desk.line, 0.0)
    desk.run(0.3)
    desk.tell(desk.client.stop)
    desk.run(STOP_PATIENCE + 0.05)
    assert [request.expires for request in desk.requests] == [600, 0]
    verifier = DigestVerifier("example.com", {"alice": PASSWORD}.get, random.Random(1))
    challenge = ("WWW-Authenticate", verifier.challenge(desk.network.now)[0])
    desk.registrar.say_later(reply(desk.requests[0], 401, challenge), 0.1)
    desk.run(0.5)
    assert len(desk.requests) == 2
    desk.registrar.say_later(reply(desk.requests[1], 200), 0.1)
    desk.run(0.5)
    assert desk.events == [Unregistered()]
    assert desk.client.state is RegistrarState.CLOSED


def test_abandoning_is_silent() -> None:
    """For an account whose first REGISTER failed: no event, no request, no timer; an answer under way is not heard."""
    desk = Desk(always(500)).register()
    desk.tell(desk.client.abandon)
    desk.run(400)
    assert len(desk.requests) == 1
    assert len(desk.events) == 1
    desk = Desk(guarded())
    desk.stack.register(desk.line, 0.0)
    desk.network.flush()
    desk.tell(desk.client.abandon)
    desk.run(100)
    assert len(desk.requests) == 1
    assert desk.events == []
    assert desk.stack.idle


def test_the_backoff_is_bounded() -> None:
    """However many failures there were."""
    rng = random.Random(1)
    assert all(225 <= Backoff().delay(failures, rng) <= 375 for failures in (9, 100, 10**6))
    assert 7.5 <= Backoff(first=10.0).delay(1, rng) <= 12.5


def test_no_password_in_what_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """CONTRACT §5: state changes are logged, with the account's name and nothing else."""
    caplog.set_level("DEBUG")
    desk = Desk(guarded()).register()
    assert "registration of alice@192.0.2.53: registering -> registered" in caplog.text
    assert PASSWORD not in caplog.text
    assert PASSWORD not in repr(desk.line) + repr(desk.line.account) + repr(desk.events)


def test_a_downgraded_challenge_is_not_answered_and_says_why() -> None:
    """RFC 8760 §4: the registrar has offered SHA-256 before."""
    strong, weak = (
        DigestVerifier("r", {"alice": PASSWORD}.get, random.Random(5), [name]) for name in ("SHA-256", "MD5")
    )
    verifiers = [strong]

    def answer(request: Request, now: float) -> Response:
        if verifiers[-1].verify(request, now=now).outcome is Verdict.OK:
            return bound(request, 60)
        return reply(request, 401, *(("WWW-Authenticate", value) for value in verifiers[-1].challenge(now)))

    desk = Desk(answer).register()
    assert isinstance(desk.events[0], Registered)
    verifiers.append(weak)
    desk.run(60)
    failed = desk.events[-1]
    assert isinstance(failed, RegistrationFailed)
    assert isinstance(failed.error, AuthenticationFailed)
    assert str(failed.error) == (
        "401 Unauthorized from the registrar 192.0.2.53; the challenge was not answered: "
        "it offers MD5, where SHA-256 was offered before: a downgrade"
    )
    assert "algorithm=MD5" not in "".join(
        value for _, request in desk.registrar.registers for value in request.headers.get_all("Authorization")
    )
