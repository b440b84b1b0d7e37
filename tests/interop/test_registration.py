"""Registrars: Kamailio with digest, and scripted ones that refuse, want longer, or are not there."""

from __future__ import annotations

from typing import Literal

import pytest

from tests.interop import scenarios
from tests.interop.kit.kamailio import SUBSCRIBERS, KamailioOptions
from tests.interop.kit.peers import Peers
from tests.interop.kit.ports import HOST
from tests.interop.kit.process import eventually
from tests.interop.kit.silent import SilentPeer, refusing_port
from tests.interop.kit.voicebot import kind

pytestmark = pytest.mark.interop


async def test_wrong_password(peers: Peers) -> None:
    kamailio = await peers.kamailio()
    bot = await peers.voicebot()
    failed = await bot.register(kamailio.aor("alice"), "not-the-password")
    assert kind(failed) == "SESSION_REGISTRATION_FAILED"
    assert failed.exception_name == "AuthenticationFailed"
    assert failed.sip_response_code in {401, 403}
    assert "not-the-password" not in str(failed)
    assert await kamailio.contacts("alice") == []
    refused = await bot.start_session(kamailio.aor("alice"))
    assert (kind(refused), refused.exception_name) == ("NO_SESSION", "AccountNotRegistered")


async def test_an_authentication_name_of_its_own(peers: Peers) -> None:
    """Digest user name and address differ: Kamailio knows alice, but alice may not register bob."""
    kamailio = await peers.kamailio()
    bot = await peers.voicebot()
    failed = await bot.register(kamailio.aor("bob"), SUBSCRIBERS["alice"], auth_username="alice")
    assert kind(failed) == "SESSION_REGISTRATION_FAILED"
    assert failed.sip_response_code == 403
    good = await bot.register(kamailio.aor("bob"), SUBSCRIBERS["bob"], auth_username="bob")
    assert kind(good) == "REGISTERED"


@pytest.mark.parametrize("algorithm", ["", "MD5", "SHA-256"])
async def test_digest_algorithms(peers: Peers, algorithm: Literal["", "MD5", "SHA-256"]) -> None:
    """An empty name: the challenge has no algorithm parameter, which means MD5 (RFC 7616 §3.3)."""
    kamailio = await peers.kamailio(KamailioOptions(algorithm=algorithm))
    bot = await peers.voicebot()
    assert kind(await bot.register(kamailio.aor("alice"), SUBSCRIBERS["alice"])) == "REGISTERED"


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_the_binding_is_refreshed_before_it_runs_out(peers: Peers, transport: str) -> None:
    """One Call-ID, rising CSeq, and no second REGISTERED in the history."""
    kamailio = await peers.kamailio(KamailioOptions(max_expires=4))
    bot = await peers.voicebot()
    account = kamailio.aor("alice", transport=transport)
    assert kind(await bot.register(account, SUBSCRIBERS["alice"])) == "REGISTERED"
    (first,) = await kamailio.contacts("alice")

    def registers() -> list[tuple[str, int]]:
        lines = [line for line in kamailio.program.log().splitlines() if "request REGISTER " in line]
        words = [line.split() for line in lines]
        return [(line[line.index("call") + 1], int(line[line.index("cseq") + 1])) for line in words]

    before = len(registers())
    await eventually(lambda: len(registers()) >= before + 2, timeout=10, what="two refreshes")
    (last,) = await kamailio.contacts("alice")
    assert last["Address"] == first["Address"]
    call_ids, numbers = zip(*registers(), strict=True)
    assert len(set(call_ids)) == 1
    assert list(numbers) == sorted(set(numbers))
    assert await bot.kinds() == ["REGISTERED"]


async def test_the_request_uri_has_no_user_part(peers: Peers) -> None:
    kamailio = await peers.kamailio()
    bot = await peers.voicebot()
    await bot.register(kamailio.aor("alice"), SUBSCRIBERS["alice"])
    assert f"request REGISTER sip:{kamailio.address} " in kamailio.program.log()


async def test_refused_once_and_tried_again(peers: Peers) -> None:
    """503, then the next attempt gets through: SESSION_REGISTRATION_FAILED, later REGISTERED."""
    registrar = await peers.sipp(scenarios.registrar_recovers("503 Service Unavailable"))
    bot = await peers.voicebot()
    failed = await bot.register(f"alice@{HOST}:{registrar.port}", "secret")
    assert kind(failed) == "SESSION_REGISTRATION_FAILED"
    assert (failed.exception_name, failed.sip_response_code) == ("RegistrationRejected", 503)
    assert "503 Service Unavailable" in failed.description
    await bot.reached("REGISTERED", timeout=20)
    await registrar.finished()


async def test_forbidden(peers: Peers) -> None:
    registrar = await peers.sipp(scenarios.registrar_refuses("403 Forbidden"))
    bot = await peers.voicebot()
    failed = await bot.register(f"alice@{HOST}:{registrar.port}", "secret")
    assert kind(failed) == "SESSION_REGISTRATION_FAILED"
    assert failed.exception_name in {"AuthenticationFailed", "RegistrationRejected"}
    assert failed.sip_response_code == 403
    await registrar.finished()


async def test_interval_too_brief(peers: Peers) -> None:
    """RFC 3261 §10.2.8: 423, Min-Expires is taken up at once."""
    registrar = await peers.sipp(scenarios.registrar_wants_longer(7200))
    bot = await peers.voicebot()
    account = f"alice@{HOST}:{registrar.port}"
    assert kind(await bot.register(account, "secret")) == "REGISTERED"
    await bot.start_session(account)
    assert kind(await bot.end_session()) == "SESSION_ENDED"
    await registrar.finished()


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_a_port_that_refuses(peers: Peers, transport: str) -> None:
    """RFC 3261 §8.1.3.1: a transport error counts as a 503."""
    bot = await peers.voicebot()
    failed = await bot.register(f"alice@{HOST}:{refusing_port()};transport={transport}", "secret", timeout=10)
    assert kind(failed) == "SESSION_REGISTRATION_FAILED"
    assert (failed.exception_name, failed.sip_response_code) == ("ServerUnreachable", 503)


async def test_an_unknown_host(peers: Peers) -> None:
    bot = await peers.voicebot()
    failed = await bot.register("alice@no-such-host.invalid", "secret")
    assert kind(failed) == "SESSION_REGISTRATION_FAILED"
    assert failed.exception_name == "ServerUnreachable"
    assert "no-such-host.invalid" in failed.description


async def test_a_registrar_that_never_answers(peers: Peers) -> None:
    """Timer F: 32 s, in real time."""
    bot = await peers.voicebot()
    with SilentPeer() as silent:
        failed = await bot.register(f"alice@{silent.address}", "secret")
        requests = silent.received()
    assert kind(failed) == "SESSION_REGISTRATION_FAILED"
    assert failed.exception_name == "RegistrationTimeout"
    assert len(requests) == 11  # RFC 3261 §17.1.2.2: at 0, 0.5, 1.5, 3.5, 7.5, then every 4 s until 32 s
    assert len(set(requests)) == 1


async def test_a_registrar_that_goes_away_and_comes_back(peers: Peers) -> None:
    """A refresh fails for good and the history says so; when the registrar is back, so is the account."""
    registrar = await peers.sipp(scenarios.registrar_forgets("500 Server Internal Error"))
    bot = await peers.voicebot()
    assert kind(await bot.register(f"alice@{HOST}:{registrar.port}", "secret")) == "REGISTERED"
    await bot.reached("SESSION_REGISTRATION_FAILED", timeout=20)
    await bot.reached("REGISTERED", count=2, timeout=20)
    await registrar.finished()
