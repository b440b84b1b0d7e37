"""The pump, in virtual time: around a scripted stack, and around real ones on a network in memory."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import cast

import pytest

from sipcore.config import UserAgentConfig
from sipcore.errors import ServerUnreachable
from sipcore.net.driver import Driver
from sipcore.protocol.flows import Flow, Target
from sipcore.protocol.stack import FlowWanted, RegistrationOccurred, Stack, StackEvent
from tests.kit.loop_network import LoopNetwork
from tests.kit.loops import both_loops
from tests.kit.virtual_time import virtual_time

FLOW = Flow("udp", ("10.0.0.1", 5060), ("10.0.0.2", 5060))
OTHER = cast(RegistrationOccurred, "something happened")


class ScriptedStack:
    """Does what a test tells it, and notes what the driver tells it."""

    def __init__(self) -> None:
        self.deadline: float | None = None
        self.outbox: list[tuple[Flow, bytes]] = []
        self.happened: list[StackEvent] = []
        self.told: list[tuple[object, ...]] = []
        self.on_timer: Callable[[float], None] = lambda now: None

    def receive(self, data: bytes, flow: Flow, now: float) -> None:
        if data == b"bug":
            raise ZeroDivisionError("a bug")
        self.told.append(("message", data, now))

    def handle_timer(self, now: float) -> None:
        self.told.append(("timer", now))
        self.deadline = None
        self.on_timer(now)

    def next_deadline(self) -> float | None:
        return self.deadline

    def flow_ready(self, number: int, flow: Flow, now: float) -> None:
        self.told.append(("ready", number, flow.remote, now))

    def flow_failed(self, number: int, detail: str, now: float) -> None:
        self.told.append(("failed", number, detail, now))

    def flow_closed(self, flow: Flow, detail: str, now: float) -> None:
        self.told.append(("closed", flow, detail, now))

    def transmits(self) -> list[tuple[Flow, bytes]]:
        drained, self.outbox = self.outbox, []
        return drained

    def events(self) -> list[StackEvent]:
        drained, self.happened = self.happened, []
        return drained


class Agent:
    """A driver around a scripted stack at 10.0.0.1."""

    def __init__(self, network: LoopNetwork | None = None) -> None:
        self.network = network or LoopNetwork()
        self.stack = ScriptedStack()
        self.events: list[StackEvent] = []
        self.on_event: Callable[[StackEvent], None] = self.events.append
        self.driver = Driver(
            cast(Stack, self.stack),
            UserAgentConfig(),
            on_event=lambda event: self.on_event(event),
            flows=self.network.at("10.0.0.1"),
        )

    async def __aenter__(self) -> Agent:
        await self.driver.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.driver.close()

    @property
    def sent(self) -> list[bytes]:
        return [packet.data for packet in self.network.packets]


class TestPump:
    @virtual_time
    async def test_messages_go_out_and_events_up_in_order(self) -> None:
        async with Agent() as agent:
            agent.stack.outbox += [(FLOW, b"1"), (FLOW, b"2")]
            agent.stack.happened += [OTHER, OTHER]
            agent.driver.pump()
            assert agent.sent == [b"1", b"2"]
            assert agent.events == [OTHER, OTHER]

    @virtual_time
    async def test_what_an_event_handler_causes_is_sent_too(self) -> None:
        async with Agent() as agent:

            def answer(event: StackEvent) -> None:
                agent.stack.outbox.append((FLOW, b"answer"))
                agent.driver.pump()  # from inside: leaves it to the pump that is running
                agent.events.append(event)

            agent.on_event = answer
            agent.stack.happened.append(OTHER)
            agent.driver.pump()
            assert agent.sent == [b"answer"]
            assert agent.events == [OTHER]

    @virtual_time
    async def test_a_bug_in_an_event_handler_is_logged_and_stops_nothing(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with Agent() as agent:

            def fail(event: StackEvent) -> None:
                agent.events.append(event)
                raise ZeroDivisionError("a bug")

            agent.on_event = fail
            agent.stack.happened += [OTHER, OTHER]
            agent.stack.outbox.append((FLOW, b"1"))
            agent.driver.pump()
            assert len(agent.events) == 2
            assert agent.sent == [b"1"]
            assert caplog.text.count("ZeroDivisionError: a bug") == 2

    @virtual_time
    async def test_a_stack_that_never_rests_does_not_stop_the_loop(self) -> None:
        async with Agent() as agent:

            def more(event: StackEvent) -> None:
                agent.events.append(event)
                agent.stack.happened.append(OTHER)

            agent.on_event = more
            agent.stack.happened.append(OTHER)
            agent.driver.pump()
            before = len(agent.events)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert len(agent.events) > before
            agent.on_event = agent.events.append
            await asyncio.sleep(0)

    @virtual_time
    async def test_messages_that_arrive_together_are_pumped_once(self) -> None:
        async with Agent() as agent:
            pumps = 0
            transmits = agent.stack.transmits

            def count_them() -> list[tuple[Flow, bytes]]:
                nonlocal pumps
                pumps += 1
                return transmits()

            agent.stack.transmits = count_them  # type: ignore[method-assign]
            for _ in range(50):
                agent.driver._on_message(b"x", FLOW)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert len(agent.stack.told) == 50
            assert pumps == 1

    @virtual_time
    async def test_a_message_that_meets_a_bug_is_logged_and_the_next_is_received(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with Agent() as agent:
            agent.driver._on_message(b"bug", FLOW)
            agent.driver._on_message(b"next", FLOW)
            assert agent.stack.told == [("message", b"next", 0.0)]
            assert "ZeroDivisionError: a bug" in caplog.text

    @virtual_time
    async def test_a_closed_flow_is_told(self) -> None:
        async with Agent() as agent:
            agent.stack.outbox.append((FLOW, b"nobody there"))
            agent.driver.pump()
            await asyncio.sleep(1)
            assert agent.stack.told == [("closed", FLOW, "connection refused", 0.01)]


class TestTimer:
    @virtual_time
    async def test_it_fires_at_the_deadline(self) -> None:
        async with Agent() as agent:
            agent.stack.deadline = 32.0
            agent.driver.pump()
            await asyncio.sleep(100)
            assert agent.stack.told == [("timer", 32.0)]

    @virtual_time
    async def test_an_earlier_deadline_moves_it(self) -> None:
        async with Agent() as agent:
            agent.stack.deadline = 32.0
            agent.driver.pump()
            agent.stack.deadline = 0.5
            agent.driver.pump()
            await asyncio.sleep(100)
            assert agent.stack.told == [("timer", 0.5)]

    @virtual_time
    async def test_a_later_deadline_is_met_without_arming_for_each_message(self) -> None:
        async with Agent() as agent:
            agent.stack.deadline = 1.0
            agent.driver.pump()
            timer = agent.driver._timer
            agent.stack.deadline = 2.0
            agent.driver.pump()
            assert agent.driver._timer is timer
            await asyncio.sleep(100)
            assert agent.stack.told == [("timer", 2.0)]

    @virtual_time
    async def test_no_deadline_no_timer(self) -> None:
        async with Agent() as agent:
            agent.stack.deadline = 1.0
            agent.driver.pump()
            agent.stack.deadline = None
            agent.driver.pump()
            assert agent.driver._timer is None
            await asyncio.sleep(10)
            assert agent.stack.told == []

    @virtual_time
    async def test_a_timer_that_meets_a_bug_is_logged_and_the_next_still_fires(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with Agent() as agent:

            def fail(now: float) -> None:
                if now < 2:
                    agent.stack.deadline = 2.0
                    raise ZeroDivisionError("a bug")

            agent.stack.on_timer = fail
            agent.stack.deadline = 1.0
            agent.driver.pump()
            await asyncio.sleep(10)
            assert agent.stack.told == [("timer", 1.0), ("timer", 2.0)]
            assert "ZeroDivisionError: a bug" in caplog.text

    @virtual_time
    async def test_a_deadline_that_a_bug_leaves_in_the_past_does_not_spin(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with Agent() as agent:

            def stuck(now: float) -> None:
                agent.stack.deadline = 1.0

            agent.stack.on_timer = stuck
            agent.stack.deadline = 1.0
            agent.driver.pump()
            await asyncio.sleep(1.1)
            assert len(agent.stack.told) <= 101


class TestFlows:
    @virtual_time
    async def test_an_address_is_ready_at_once_and_without_a_task(self) -> None:
        async with Agent() as agent:
            tasks = len(asyncio.all_tasks())
            agent.stack.happened += [FlowWanted(n, Target("10.0.0.2", 5070), None) for n in range(1000)]
            agent.driver.pump()
            assert agent.stack.told == [("ready", n, ("10.0.0.2", 5070), 0.0) for n in range(1000)]
            assert len(asyncio.all_tasks()) == tasks
            assert agent.events == []

    @virtual_time
    async def test_a_name_is_looked_up_first(self) -> None:
        async with Agent(LoopNetwork(names={"pbx": "10.0.0.2"})) as agent:
            agent.stack.happened.append(FlowWanted(7, Target("pbx"), None))
            agent.driver.pump()
            assert agent.stack.told == []
            await asyncio.sleep(1)
            assert agent.stack.told == [("ready", 7, ("10.0.0.2", 5060), 0.1)]

    @virtual_time
    async def test_a_name_that_is_not_found_fails_with_its_sentence(self) -> None:
        async with Agent() as agent:
            agent.stack.happened.append(FlowWanted(7, Target("gone"), None))
            agent.driver.pump()
            await asyncio.sleep(1)
            assert agent.stack.told == [("failed", 7, "The host 'gone' cannot be found: there is no such name", 0.1)]

    @virtual_time
    async def test_what_fails_at_once_is_told_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with Agent() as agent:

            def refuse(target: Target, *, prefer: Flow | None = None) -> Flow | None:
                raise ServerUnreachable("TLS is not available in this version")

            monkeypatch.setattr(agent.driver.flows, "flow_at_once", refuse)
            agent.stack.happened.append(FlowWanted(7, Target("10.0.0.2", secure=True), None))
            agent.driver.pump()
            assert agent.stack.told == [("failed", 7, "TLS is not available in this version", 0.0)]

    @virtual_time
    async def test_a_bug_while_looking_fails_the_wish(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with Agent() as agent:

            async def fail(target: Target, **_: object) -> Flow:
                raise ZeroDivisionError("a bug")

            monkeypatch.setattr(agent.driver.flows, "flow_to", fail)
            agent.stack.happened.append(FlowWanted(7, Target("pbx"), None))
            agent.driver.pump()
            await asyncio.sleep(1)
            assert agent.stack.told == [("failed", 7, "Looking for pbx failed: ZeroDivisionError", 0.0)]
            assert "a bug" in caplog.text

    @virtual_time
    async def test_closing_leaves_no_search_behind(self) -> None:
        async with Agent(LoopNetwork(lookup_time=1000)) as agent:
            agent.stack.happened.append(FlowWanted(7, Target("pbx"), None))
            agent.driver.pump()
            await asyncio.sleep(1)
        assert agent.stack.told == []
        assert asyncio.get_running_loop().time() == 1.0


class TestLife:
    @virtual_time
    async def test_what_was_told_before_the_start_is_sent_at_the_start(self) -> None:
        agent = Agent()
        agent.stack.outbox.append((FLOW, b"early"))
        agent.driver.pump()
        assert agent.sent == []
        async with agent:
            assert agent.sent == [b"early"]

    @virtual_time
    async def test_what_is_left_is_sent_at_the_end_and_nothing_afterwards(self) -> None:
        async with Agent() as agent:
            agent.stack.outbox.append((FLOW, b"last"))
            agent.stack.deadline = 1.0
        assert agent.sent == [b"last"]
        await agent.driver.close()
        agent.stack.outbox.append((FLOW, b"too late"))
        agent.driver.pump()
        agent.driver._on_message(b"too late", FLOW)
        await asyncio.sleep(10)
        assert agent.sent == [b"last"]
        assert agent.stack.told == []

    @virtual_time
    async def test_a_start_that_failed_leaves_nothing_to_close(self) -> None:
        agent = Agent()

        async def fail() -> None:
            raise OSError("in use")

        agent.driver.flows.start = fail  # type: ignore[method-assign]
        with pytest.raises(OSError, match="in use"):
            await agent.driver.start()
        await agent.driver.close()


def options(number: int) -> bytes:
    return (
        f"OPTIONS sip:10.0.0.2 SIP/2.0\r\n"
        f"Via: SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bK{number};rport\r\n"
        f"From: <sip:a@10.0.0.1>;tag=1\r\nTo: <sip:b@10.0.0.2>\r\n"
        f"Call-ID: c{number}\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
    ).encode()


@virtual_time
async def test_a_real_stack_answers_over_the_network_in_memory() -> None:
    """RFC 3261 §11.2."""
    network = LoopNetwork()
    async with Agent(network) as near:
        stack = Stack(UserAgentConfig(allow_from=("any",)), rng=random.Random(1), user_agent="test")
        far = Driver(stack, UserAgentConfig(), on_event=lambda event: None, flows=network.at("10.0.0.2"))
        await far.start()
        near.stack.outbox.append((FLOW, options(1)))
        near.driver.pump()
        await asyncio.sleep(1)
        kind, data, _ = near.stack.told[0]
        assert kind == "message"
        assert isinstance(data, bytes)
        assert data.startswith(b"SIP/2.0 200 OK\r\n")
        await asyncio.sleep(60)
        assert stack.idle
        assert far._timer is None
        await far.close()


@both_loops
async def test_a_real_stack_answers_over_real_sockets() -> None:
    config = UserAgentConfig(sip_host="127.0.0.1", allow_from=("any",))
    stack = Stack(config, rng=random.Random(1), user_agent="test")
    driver = Driver(stack, config, on_event=lambda event: None)
    await driver.start()
    assert driver.address[0] == "127.0.0.1"
    answers: asyncio.Queue[bytes] = asyncio.Queue()

    class Client(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
            answers.put_nowait(data)

    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Client, remote_addr=driver.address)
    for number in range(50):  # what the client's receive buffer is sure to hold
        transport.sendto(options(number))
    for _ in range(50):
        assert (await answers.get()).startswith(b"SIP/2.0 200 OK\r\n")
    transport.close()
    await driver.close()
