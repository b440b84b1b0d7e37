"""Finding servers by DNS (RFC 3263), with NSD as the name server and registrars of our own on real sockets."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from sipcore import Account, RegistrationError, ServerUnreachable, Timers, UserAgent, UserAgentConfig
from tests.interop.kit.nsd import Nsd
from tests.interop.kit.peers import Peers
from tests.interop.kit.ports import HOST, free_ports
from tests.interop.kit.process import eventually
from tests.interop.kit.voicebot import kind
from tests.kit.registrar import Registrar

pytestmark = pytest.mark.interop


@asynccontextmanager
async def agent(nsd: Nsd, *, t1: float = 0.5) -> AsyncIterator[UserAgent]:
    config = UserAgentConfig(sip_host=HOST, nameservers=(nsd.address,), timers=Timers(t1=t1))
    async with UserAgent(config) as made:
        yield made


def srv(*servers: tuple[int, int, int], transport: str = "udp") -> str:
    """Records of ``HOST`` for (priority, weight, port) triples with the priority first."""
    lines = [f"_sip._{transport} IN SRV {priority} {weight} {port} host" for priority, weight, port in servers]
    return "\n".join([*lines, f"host IN A {HOST}"])


async def test_naptr_picks_tcp_over_udp(peers: Peers) -> None:
    """§4.1: the domain says which transport it prefers."""
    async with Registrar() as registrar:
        zone = [
            '@ IN NAPTR 20 0 "s" "SIP+D2U" "" _sip._udp',
            '@ IN NAPTR 10 0 "s" "SIP+D2T" "" _sip._tcp',
            '@ IN NAPTR 5 0 "s" "SIP+D2W" "" _ws',
        ]
        nsd = await peers.nsd(
            "\n".join(
                [*zone, srv((1, 1, registrar.port)), *srv((1, 1, registrar.port), transport="tcp").splitlines()[:1]]
            )
        )
        async with agent(nsd) as near:
            await near.register(Account("alice@example.test"))
        assert set(registrar.transports) == {"tcp"}
        registrar.requests.clear()
        async with agent(nsd) as near:
            await near.register(Account("alice@example.test;transport=udp"))
        assert set(registrar.transports) == {"udp"}  # who names a transport gets it


async def test_srv_spreads_by_weight(peers: Peers) -> None:
    """RFC 2782: three times the weight, about three times the load; the second priority gets nothing."""
    async with Registrar() as heavy, Registrar() as light, Registrar() as spare:
        nsd = await peers.nsd(srv((1, 75, heavy.port), (1, 25, light.port), (2, 100, spare.port)))
        async with agent(nsd) as near:
            await asyncio.gather(*(near.register(Account(f"user{n}@example.test")) for n in range(100)))
            counts = Counter(heavy=len(heavy.requests), light=len(light.requests), spare=len(spare.requests))
        assert counts["spare"] == 0
        assert counts["heavy"] + counts["light"] == 100
        assert 5 <= counts["light"] <= 45  # 25 expected; beyond is less likely than one in a hundred thousand


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_a_server_that_refuses_is_followed_by_the_next(peers: Peers, transport: str) -> None:
    async with Registrar() as second:
        nobody = free_ports()
        nsd = await peers.nsd(srv((1, 1, nobody), (2, 1, second.port), transport=transport))
        async with agent(nsd) as near:
            line = await near.register(Account(f"alice@example.test;transport={transport}"))
            assert line.registered
            await line.refresh()
        assert len(second.requests) == 3  # with the one that ends it


async def test_a_server_that_answers_503_is_followed_by_the_next(peers: Peers) -> None:
    """§4.3; the same request but for its branch. Retry-After keeps new requests away."""
    async with Registrar(503, headers=(("Retry-After", "60"),)) as first, Registrar() as second:
        nsd = await peers.nsd(srv((1, 1, first.port), (2, 1, second.port)))
        async with agent(nsd) as near:
            await near.register(Account("alice@example.test"))
            ((_, refused),) = first.requests
            ((_, accepted),) = second.requests
            assert (refused.call_id, refused.cseq) == (accepted.call_id, accepted.cseq)
            assert refused.via.branch != accepted.via.branch
            await near.register(Account("bob@example.test"))
            assert len(first.requests) == 1
            first.status = second.status = 503
            with pytest.raises(RegistrationError) as failed:
                await near.register(Account("carol@example.test"))
            assert failed.value.code == 503
            assert len(first.requests) == 2


async def test_a_silent_server_is_followed_by_the_next(peers: Peers) -> None:
    """Timer F, which is 64 T1: here of a tenth of the usual T1."""
    async with Registrar(0) as first, Registrar() as second:
        nsd = await peers.nsd(srv((1, 1, first.port), (2, 1, second.port)))
        async with agent(nsd, t1=0.02) as near:
            await near.register(Account("alice@example.test"))
            assert first.requests
            silent = len(first.requests)
            await near.register(Account("bob@example.test"))
            assert len(first.requests) == silent


async def test_a_changed_record_is_seen_when_the_old_one_has_expired(peers: Peers) -> None:
    async with Registrar() as old, Registrar() as new:
        nsd = await peers.nsd(srv((1, 1, old.port)), ttl=1)
        async with agent(nsd) as near:
            await near.register(Account("alice@example.test"))
            assert len(old.requests) == 1
            nsd.publish(srv((1, 1, new.port)), ttl=1)

            async def moved() -> None:
                number = 0
                while not new.requests:
                    number += 1
                    await near.register(Account(f"user{number}@example.test"))
                    await asyncio.sleep(0.1)

            await asyncio.wait_for(moved(), 8)


async def test_what_was_not_there_may_come(peers: Peers) -> None:
    """Negative answers live as long as their SOA says (RFC 2308): a second here."""
    async with Registrar() as registrar:
        nsd = await peers.nsd("other IN A 127.0.0.1", ttl=1)
        async with agent(nsd) as near:
            with pytest.raises(ServerUnreachable, match="has no address"):
                await near.register(Account("alice@example.test"))
            nsd.publish(srv((1, 1, registrar.port)), ttl=1)
            async with asyncio.timeout(8):
                while not registrar.requests:
                    try:
                        await near.register(Account("alice@example.test"))
                    except ServerUnreachable:
                        await asyncio.sleep(0.1)


async def test_the_server_takes_a_name_server(peers: Peers) -> None:
    async with AsyncExitStack() as stack:
        registrar = await stack.enter_async_context(Registrar())
        nsd = await peers.nsd(srv((1, 1, registrar.port)))
        bot = await peers.voicebot("--nameserver", nsd.address)
        registered = await bot.register("alice@example.test", "secret")
        assert kind(registered) == "REGISTERED", registered.description
        await eventually(lambda: bool(registrar.requests), timeout=5, what="a REGISTER")
