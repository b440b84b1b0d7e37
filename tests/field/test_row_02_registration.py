"""Complaint 2, "REGISTERED is reported while the registrar has dropped us; stop() hangs; then the port is in use".

A registration that is gone is told within 64*T1 of the REGISTER that found out, and comes back by itself. Closing
takes two seconds at most, whatever the registrar does and whoever cancels it, and leaves nothing; the port can be bound
again.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from service.demo.registrar import Registrar
from sipcore.config import Account, UserAgentConfig
from sipcore.errors import RegistrationTimeout, ServerUnreachable, SipError
from sipcore.events import Registered, RegistrationFailed, Unregistered
from sipcore.protocol.flows import Flow
from sipcore.protocol.stack import Stack
from sipcore.registration import Registration
from sipcore.useragent import UserAgent
from tests.kit.loop_network import LoopNetwork
from tests.kit.loops import both_loops
from tests.kit.network import Conditions, Network
from tests.kit.silent_engine import SilentEngine
from tests.kit.virtual_time import VirtualTimeLoop, virtual_time
from tests.protocol.desk import ScriptedRegistrar, always, bound

MANY = 1000
PASSWORD = "correct horse"
HERE, REGISTRAR = "192.0.2.1", "192.0.2.53"


@dataclass
class Office:
    """One agent and a registrar that can go away."""

    network: LoopNetwork
    agent: UserAgent
    registrar: UserAgent

    def account(self, number: int = 0) -> Account:
        return Account(f"bot{number}@{REGISTRAR}", password=PASSWORD)

    def go(self, how: str) -> None:
        """The registrar is switched off: its host is (silent), or only its program (refusing)."""
        if how == "silent":
            self.network.conditions = Conditions(loss=1.0)
        else:
            self.network.hosts.pop((REGISTRAR, 5060))

    async def come_back(self) -> None:
        """Restarted: it remembers no binding."""
        self.network.conditions = Conditions()
        await self.registrar.close()
        self.registrar = new_registrar(self.network, seed=4)
        await self.registrar.start()


def new_registrar(network: LoopNetwork, *, seed: int = 3) -> UserAgent:
    passwords = {f"bot{number}": PASSWORD for number in range(MANY)}
    agent = UserAgent(rng=random.Random(2), flows=network.at(REGISTRAR), media=SilentEngine().as_engine())
    agent.handle("REGISTER", Registrar("test.example", passwords, rng=random.Random(seed)).handle)
    return agent


@asynccontextmanager
async def office() -> AsyncIterator[Office]:
    network = LoopNetwork()
    agent = UserAgent(rng=random.Random(1), flows=network.at(HERE), media=SilentEngine().as_engine())
    scene = Office(network, agent, new_registrar(network))
    await scene.registrar.start()
    await scene.agent.start()
    try:
        yield scene
    finally:
        await scene.agent.close()
        await scene.registrar.close()


async def next_change(line: Registration, number: int) -> object:
    """The ``number``-th event of a registration, counted from 0."""
    seen = -1
    async for event in line.events():
        seen += 1
        if seen == number:
            return event
    raise AssertionError("the account was removed")


@pytest.mark.parametrize(
    ("how", "error", "within"), [("silent", RegistrationTimeout, 32.0), ("refusing", ServerUnreachable, 0.1)]
)
@virtual_time
async def test_a_registrar_that_is_gone_is_told_and_comes_back_by_itself(
    how: str, error: type[SipError], within: float
) -> None:
    """RFC 3261 §17.1.2.2 timer F."""
    async with office() as scene:
        line = await scene.agent.register(scene.account())
        scene.go(how)
        loop = asyncio.get_running_loop()
        scene.network.packets.clear()
        gone = await next_change(line, 1)
        assert isinstance(gone, RegistrationFailed)
        assert isinstance(gone.error, error)
        assert not line.registered
        assert line.last_error is gone.error
        first = scene.network.packets[0]
        assert first.start_line.startswith("REGISTER")
        assert loop.time() - first.sent_at == pytest.approx(within, abs=0.1)
        assert first.sent_at < 0.9 * 600 + 1
        await asyncio.sleep(1000)
        assert not line.registered
        await scene.come_back()
        await asyncio.sleep(375)
        assert line.registered
        assert line.last_error is None


@pytest.mark.long
def test_a_thousand_accounts_do_not_come_in_a_burst() -> None:
    """The first registration is paced, refreshes are spread over 50 to 90 % of the lifetime, and after an outage the
    backoff with its chance, and the pace again, keep them apart (RFC 5626 §4.5)."""
    network = Network(random.Random(1))
    registrar = ScriptedRegistrar(network, lambda request, now: bound(request))
    stack = Stack(UserAgentConfig(), rng=random.Random(2), user_agent="test")
    network.add_stack((HERE, 5060), stack)
    for number in range(MANY):
        stack.register(stack.add_line(Account(f"bot{number}@{REGISTRAR}")), 0.0)

    def busiest(since: float) -> int:
        return max(Counter(int(at) for at, _ in registrar.registers if at >= since).values())

    network.run(30)
    assert len(registrar.registers) == MANY
    assert busiest(0) <= 75
    network.run(1000)
    assert len(registrar.registers) >= 2 * MANY
    assert busiest(30) <= 25, "about 1,000 in 420 s, were they even"
    registrar.answer = always(503)
    network.run(1600)
    registrar.answer = lambda request, now: bound(request)
    network.run(2100)
    assert busiest(1000) <= 75
    assert len({request.call_id for at, request in registrar.registers if at >= 1600}) == MANY
    assert all(line.registrar is not None and line.registrar.expires_at is not None for line in stack.lines.values())


@pytest.mark.long
@pytest.mark.parametrize("how", ["answers", "silent", "refusing"])
@virtual_time
async def test_a_thousand_accounts_are_closed_in_two_seconds(how: str) -> None:
    """However the registrar takes it; where it answers, it is told of each."""
    async with office() as scene:
        lines = [scene.agent.add_account(scene.account(number)) for number in range(MANY)]
        await asyncio.gather(*(line.wait_registered() for line in lines))
        assert all(line.registered for line in lines)
        if how != "answers":
            scene.go(how)
        scene.network.packets.clear()
        loop = asyncio.get_running_loop()
        before = loop.time()
        await scene.agent.close()
        assert loop.time() - before <= 2.0
        told = [packet for packet in scene.network.packets if b"\r\nExpires: 0\r\n" in packet.data]
        assert len({packet.data.split(b"Call-ID: ")[1].split(b"\r\n")[0] for packet in told}) == MANY
        assert scene.agent.registrations == ()
        assert not any(line.registered for line in lines)
        for line in lines:
            kinds = [type(event) async for event in line.events()]
            assert kinds in ([Registered, Unregistered], [Registered])


@virtual_time
async def test_a_machine_that_is_busy_closes_in_two_seconds_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each un-REGISTER takes 30 ms here; those that there is no time for are left out, and their bindings lapse."""
    async with office() as scene:
        lines = [scene.agent.add_account(scene.account(number)) for number in range(120)]
        await asyncio.gather(*(line.wait_registered() for line in lines))
        flows, loop = scene.agent._driver.flows, asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        send, sent = flows.send, []

        def slowly(flow: Flow, data: bytes) -> None:
            loop.work(0.03)
            sent.append(data)
            send(flow, data)

        monkeypatch.setattr(flows, "send", slowly)
        before = loop.time()
        await scene.agent.close()
        assert loop.time() - before <= 2.0
        assert 10 <= len(sent) < 120
        assert scene.agent.registrations == ()
        assert not any(line.registered for line in lines)
        for line in lines:
            assert await drain(line) in (1, 2), "its readers are not left waiting"


@virtual_time
async def test_closing_that_is_cancelled_frees_all_the_same() -> None:
    """An un-REGISTER that nobody answers, a close(), and both given up on: nobody who waits is left waiting."""
    async with office() as scene:
        line, other = [await scene.agent.register(scene.account(number)) for number in (1, 2)]
        readers = [asyncio.create_task(drain(each)) for each in (line, other)]
        scene.go("silent")
        leaving = asyncio.create_task(line.unregister())
        await asyncio.sleep(0.1)
        leaving.cancel()
        await asyncio.wait({leaving})
        await line.unregister()
        assert scene.agent.registrations == (other,)
        closing = asyncio.create_task(scene.agent.close())
        waiting = asyncio.create_task(scene.agent.close())
        await asyncio.sleep(0.1)
        closing.cancel()
        await asyncio.wait({closing})
        assert closing.cancelled()
        await waiting
        assert await asyncio.gather(*readers) == [1, 1]
        assert (HERE, 5060) not in scene.network.hosts


async def drain(line: Registration) -> int:
    """Reads the calls and events of an account until it is removed; how many events there were."""
    async for _ in line.incoming():
        raise AssertionError("nobody calls")
    return len([event async for event in line.events()])


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@both_loops
async def test_the_port_is_free_again_at_once(transport: str) -> None:
    """Registered, un-registered and started again on the same port, three times in a row, registrar and all."""
    registrar = UserAgent(UserAgentConfig(sip_host="127.0.0.1"))
    registrar.handle("REGISTER", Registrar("test.example", {"bot": PASSWORD}, rng=random.Random(3)).handle)
    async with registrar:
        port = 0
        account = Account(f"bot@127.0.0.1:{registrar.sip_address[1]};transport={transport}", password=PASSWORD)
        for _ in range(3):
            async with UserAgent(UserAgentConfig(sip_host="127.0.0.1", sip_port=port)) as agent:
                port = agent.sip_address[1]
                line = await agent.register(account)
            events = [event async for event in line.events()]
            assert [type(event) for event in events] == [Registered, Unregistered]
