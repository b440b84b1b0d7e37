"""Complaint 25, "the kernel steals RTP ports": a port that another program holds costs nothing but a look at the next.

Only when every pair of the range is taken is a call refused, and the next one after that is taken again.
"""

from __future__ import annotations

import logging
import random
import socket

import pytest

from rtp.engine import MediaEngine
from rtp.ports import NoPortAvailable
from sipcore.call import Call
from sipcore.config import Account, UserAgentConfig
from sipcore.errors import CallError, CallRejected
from sipcore.registration import Registration
from sipcore.useragent import UserAgent
from tests.kit.loops import both_loops
from tests.rtp.kit import FarEnd, packet
from tests.rtp.test_ports import free_range

HOST = "127.0.0.1"


async def next_call(line: Registration) -> Call:
    async for call in line.incoming():
        await call.answer()
        return call
    raise AssertionError("no call came")


@both_loops
async def test_ports_of_other_programs_are_passed_over_and_a_full_range_refuses_one_call() -> None:
    """Outgoing: CallError, and nothing is sent. Incoming: 503 (RFC 3261 §21.5.4)."""
    low, high = free_range(3)
    narrow = UserAgentConfig(sip_host=HOST, rtp_ports=(low, high), rtp_port_quarantine=0)
    async with UserAgent(narrow) as alice, UserAgent(UserAgentConfig(sip_host=HOST)) as bob:
        here = alice.open_line(Account(f"alice@{HOST}:{alice.sip_address[1]}"))
        there = bob.open_line(Account(f"bob@{HOST}:{bob.sip_address[1]}"))
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as rtp,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as rtcp,
        ):
            rtp.bind((HOST, low))
            rtcp.bind((HOST, low + 3))
            call = here.place(there.address.text)
            await next_call(there)
            await call.connected()
            with pytest.raises(CallError, match=f"all 3 pairs of RTP ports {low}-{high} are taken"):
                here.place(there.address.text)
            with pytest.raises(CallRejected) as refused:
                await there.call(here.address.text)
            assert refused.value.code == 503
            await call.hangup()
            again = there.place(here.address.text)
            await next_call(here)
            await again.connected()


@both_loops
async def test_what_is_sent_to_a_call_that_ended_does_not_reach_the_next() -> None:
    """Another port of the same host may take a fresh stream over (RFC 4961), and an SBC has one host for all calls: its
    late packets would. A pair that was given back rests first."""
    settings = {"codec": "PCMU", "payload_type": 0, "receive_payload_types": {0: "PCMU"}}
    engine = MediaEngine(ports=free_range(2), rng=random.Random(1), port_quarantine=60)
    await engine.start()
    try:
        with FarEnd() as old, FarEnd() as new:
            ended = engine.open_stream(HOST)
            ended.configure(old.address, **settings)  # type: ignore[arg-type]  # a dict of mixed values
            ended.close()
            stream = engine.open_stream(HOST)
            stream.configure(new.address, **settings)  # type: ignore[arg-type]
            for number in range(5):
                old.send(packet(number, number * 160), ended.local_port)
            engine.tick(1, 0.0)
            assert stream.local_port != ended.local_port
            assert stream.statistics().packets_received == stream.statistics().strangers == 0
            with pytest.raises(NoPortAvailable, match="1 of them by calls that ended just now"):
                engine.open_stream(HOST)
    finally:
        await engine.close()


@pytest.mark.parametrize(("ports", "warned"), [((33000, 33999), True), ((16384, 32767), False)])
@both_loops
async def test_a_range_that_overlaps_the_kernels_own_is_told_once(
    ports: tuple[int, int], warned: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "rtp.engine.kernel_may_take", lambda low, high: (32768, 60999) if low <= 60999 and high >= 32768 else None
    )
    caplog.set_level(logging.WARNING)
    engine = MediaEngine(ports=ports)
    await engine.start()
    await engine.start()
    await engine.close()
    assert caplog.text.count("net.ipv4.ip_local_port_range") == warned
