"""The flow that an account is registered over: kept, lost, and seen through a NAT (RFC 5626, RFC 3581)."""

from __future__ import annotations

import random

import pytest

from sipcore.config import Account, UserAgentConfig
from sipcore.protocol.builder import make_response
from sipcore.protocol.flows import Flow
from sipcore.protocol.stack import FlowKept, FlowWanted, Stack
from sipcore.protocol.wire import Request, parse_message, serialize

CHALLENGE = ("WWW-Authenticate", 'Digest realm="example.com", nonce="n1", qop="auth", algorithm=MD5')
LOCAL, REMOTE = ("10.0.0.2", 5060), ("192.0.2.9", 5060)


class Bench:
    """A stack with one account, whose registrar is played by the test."""

    def __init__(self, *, transport: str = "udp", advertise: str = "") -> None:
        self.stack = Stack(UserAgentConfig(advertise=advertise), rng=random.Random(1), user_agent="test")
        self.line = self.stack.add_line(Account(f"alice@192.0.2.9;transport={transport}", password="secret"))
        self.flow = self.new_flow(1 if transport != "udp" else 0, transport, advertise)
        self.now = 0.0
        self.kept: list[FlowKept] = []
        self.wanted: list[FlowWanted] = []
        self.stack.register(self.line, 0.0)

    @staticmethod
    def new_flow(number: int, transport: str = "tcp", advertise: str = "") -> Flow:
        local = LOCAL if not number else (LOCAL[0], 40000 + number)
        named = (advertise or LOCAL[0], 5060)
        return Flow("udp" if transport == "udp" else "tcp", local, REMOTE, number, advertised=named)

    def sent(self) -> Request | None:
        """The request that is sent now, if any; what it waits for is granted."""
        for event in self.stack.events():
            if isinstance(event, FlowWanted):
                self.wanted.append(event)
                self.stack.flow_ready(event.id, event.prefer or self.flow, self.now)
            elif isinstance(event, FlowKept):
                self.kept.append(event)
        transmits = self.stack.transmits()
        if not transmits:
            return None
        message = parse_message(transmits[-1][1])
        assert isinstance(message, Request)
        return message

    def answer(
        self, request: Request, status: int = 200, *, seen: tuple[str, int] | None = None, flow_timer: str = ""
    ) -> None:
        """The registrar answers, and says where it sees the request come from."""
        asked = request.copy()
        host, port = seen or self.flow.local
        asked.stamp_via(received=host if host != LOCAL[0] else None, rport=port)
        extra = (CHALLENGE,) if status == 401 else ()
        if flow_timer:
            extra = (("Flow-Timer", flow_timer),)
        response = make_response(asked, status, to_tag="t", headers=extra)
        self.stack.receive(serialize(response), self.flow, self.now)

    def registered(self, *, seen: tuple[str, int] | None = None, flow_timer: str = "") -> Request:
        """Answers the REGISTER that is out."""
        request = self.sent()
        assert request is not None
        self.answer(request, seen=seen, flow_timer=flow_timer)
        return request

    def run(self, until: float) -> Request | None:
        """The next request until then."""
        while True:
            found = self.sent()
            if found is not None:
                return found
            due = self.stack.next_deadline()
            if due is None or due > until:
                self.now = until
                return None
            self.now = max(due, self.now)
            self.stack.handle_timer(self.now)


def contact(request: Request) -> str:
    (value,) = request.headers.get_all("Contact")
    return value


def test_a_registered_flow_is_kept_until_the_account_goes() -> None:
    bench = Bench(transport="tcp")
    bench.registered()
    bench.sent()
    assert bench.kept == [FlowKept(bench.line, bench.flow, None)]
    assert bench.line.registrar is not None
    bench.line.registrar.stop(1.0)
    bench.registered()
    bench.sent()
    assert bench.kept[-1] == FlowKept(bench.line, None, None)


@pytest.mark.parametrize(("value", "every"), [("120", 120.0), ("0", None), ("soon", None)])
def test_the_registrar_may_ask_for_an_interval(value: str, every: float | None) -> None:
    """RFC 5626 §4.4: Flow-Timer."""
    bench = Bench(transport="tcp")
    bench.registered(flow_timer=value)
    bench.sent()
    assert bench.kept == [FlowKept(bench.line, bench.flow, every)]


def test_a_lost_connection_is_made_anew_at_once() -> None:
    bench = Bench(transport="tcp")
    bench.registered()
    assert bench.run(60) is None
    bench.stack.flow_closed(bench.flow, "closed by the peer", bench.now)
    bench.flow = bench.new_flow(2)
    again = bench.run(61)
    assert again is not None
    assert again.method == "REGISTER"
    assert bench.wanted[-1].prefer is None
    bench.answer(again)
    bench.sent()
    assert bench.kept[-1] == FlowKept(bench.line, bench.flow, None)


def test_a_registrar_that_hangs_up_each_time_is_not_run_down() -> None:
    bench = Bench(transport="tcp")
    bench.registered()
    bench.sent()
    bench.stack.flow_closed(bench.flow, "closed by the peer", bench.now)
    bench.flow = bench.new_flow(2)
    assert bench.run(1.9) is None
    assert bench.run(6) is not None


def test_somebody_elses_connection_is_of_no_concern() -> None:
    bench = Bench(transport="tcp")
    bench.registered()
    assert bench.run(60) is None
    bench.stack.flow_closed(bench.new_flow(7), "closed by the peer", bench.now)
    assert bench.run(100) is None


def test_refreshes_and_calls_go_over_the_registered_flow() -> None:
    bench = Bench(transport="tcp")
    bench.registered()
    bench.sent()
    bench.stack.invite(
        bench.line, bench.line.dial("bob", field="to"), headers=(), media_port=4000, ring_timeout=9, now=0.0
    )
    bench.sent()
    assert bench.wanted[-1].prefer == bench.flow
    bench.stack.invite(
        bench.line, bench.line.dial("bob@192.0.2.77", field="to"), headers=(), media_port=4000, ring_timeout=9, now=0.0
    )
    bench.sent()
    assert bench.wanted[-1].prefer is None


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_behind_a_nat_the_public_address_is_bound(transport: str) -> None:
    """RFC 3581 §4: ``received`` and ``rport`` tell; the address that nobody can reach goes in the same request."""
    bench = Bench(transport=transport)
    first = bench.registered(seen=("203.0.113.5", 61000))
    assert "@10.0.0.2:5060" in contact(first)
    second = bench.run(0.5)
    assert second is not None
    new, old = contact(second).split(", ")
    assert "@203.0.113.5:61000" in new
    assert "@10.0.0.2:5060" in old
    assert old.endswith(";expires=0")
    bench.answer(second, seen=("203.0.113.5", 61000))
    third = bench.run(600)  # the refresh in its time
    assert bench.now > 100
    assert third is not None
    assert contact(third) == new


def test_a_challenge_tells_already() -> None:
    bench = Bench()
    first = bench.sent()
    assert first is not None
    bench.answer(first, 401, seen=("203.0.113.5", 61000))
    second = bench.registered(seen=("203.0.113.5", 61000))
    assert contact(second).startswith("<sip:alice@203.0.113.5:61000")
    assert bench.run(100) is None


def test_a_nat_that_moves_is_followed_and_one_that_dances_is_not() -> None:
    bench = Bench()
    bench.registered(seen=("203.0.113.5", 61000))
    sent = 0
    while (request := bench.run(20)) is not None:
        sent += 1
        bench.answer(request, seen=("203.0.113.5", 61000 + sent))
    assert sent == 3


def test_an_address_of_our_own_choice_stays() -> None:
    """``advertise`` wins."""
    bench = Bench(advertise="198.51.100.1")
    first = bench.registered(seen=("203.0.113.5", 61000))
    assert "@198.51.100.1:5060" in contact(first)
    assert bench.run(100) is None


@pytest.mark.parametrize("seen", [LOCAL, ("name.example.com", 61000)])
def test_without_a_nat_nothing_changes(seen: tuple[str, int]) -> None:
    bench = Bench()
    bench.registered(seen=seen)
    assert bench.run(100) is None
