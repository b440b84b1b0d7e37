"""Requests that are too long for a datagram (RFC 3261 §18.1.1)."""

from __future__ import annotations

import random

from sipcore.config import Account, UserAgentConfig
from sipcore.protocol.flows import Flow, Target
from sipcore.protocol.stack import FlowWanted, Stack
from sipcore.protocol.wire import Request, parse_message

UDP = Flow("udp", ("192.0.2.1", 5060), ("192.0.2.9", 5060), advertised=("192.0.2.1", 5060))
TCP = Flow("tcp", ("192.0.2.1", 40000), ("192.0.2.9", 5060), 1, advertised=("192.0.2.1", 5060))
OVER_TCP = Target("192.0.2.9", 5060, "tcp")


class Bench:
    """A stack that places calls."""

    def __init__(self) -> None:
        self.stack = Stack(UserAgentConfig(), rng=random.Random(1), user_agent="test")
        self.line = self.stack.add_line(Account("alice@192.0.2.1"))

    def call(self, length: int) -> None:
        uri = self.line.dial("bob@192.0.2.9", field="to")
        headers = (("X-Long", "x" * length),)
        self.stack.invite(self.line, uri, headers=headers, media_port=4000, ring_timeout=60, now=0.0)

    def wanted(self) -> FlowWanted:
        (event,) = [event for event in self.stack.events() if isinstance(event, FlowWanted)]
        return event

    def sent(self) -> tuple[Flow, Request, int]:
        ((flow, data),) = self.stack.transmits()
        message = parse_message(data)
        assert isinstance(message, Request)
        return flow, message, len(data)


def test_the_limit() -> None:
    bench = Bench()
    for length in range(200, 1400, 40):
        bench.call(length)
        bench.stack.flow_ready(bench.wanted().id, UDP, 0.0)
        asked = [event for event in bench.stack.events() if isinstance(event, FlowWanted)]
        for event in asked:
            assert event.target == OVER_TCP
            bench.stack.flow_ready(event.id, TCP, 0.0)
        flow, request, size = bench.sent()
        assert flow == (TCP if asked else UDP)
        assert request.via.transport == flow.transport.upper()
        assert asked or size <= 1300
        assert not asked or size > 1200  # about: what is added last is estimated


def test_a_server_without_tcp_gets_it_over_udp_all_the_same_and_is_not_asked_again_soon() -> None:
    bench = Bench()
    bench.call(1400)
    bench.stack.flow_ready(bench.wanted().id, UDP, 0.0)
    bench.stack.flow_failed(bench.wanted().id, "connection refused", 0.0)
    flow, request, size = bench.sent()
    assert flow == UDP
    assert request.via.transport == "UDP"
    assert size > 1300
    bench.call(1400)
    bench.stack.flow_ready(bench.wanted().id, UDP, 1.0)
    assert bench.sent()[0] == UDP


def test_a_call_that_is_given_up_meanwhile_is_not_placed() -> None:
    bench = Bench()
    uri = bench.line.dial("bob@192.0.2.9", field="to")
    session = bench.stack.invite(
        bench.line, uri, headers=(("X-Long", "x" * 1400),), media_port=4000, ring_timeout=60, now=0.0
    )
    bench.stack.flow_ready(bench.wanted().id, UDP, 0.0)
    wanted = bench.wanted()
    session.hang_up(0.5)
    bench.stack.flow_ready(wanted.id, TCP, 1.0)
    assert bench.stack.transmits() == []
    assert not session.setting_up
