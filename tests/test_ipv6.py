"""Whole calls over IPv6, and over both families by one agent, with real sockets."""

from __future__ import annotations

import asyncio
import socket

import numpy as np
import pytest

from sipcore import Account, Call, UserAgent, UserAgentConfig
from sipcore.protocol.wire import Request, parse_message
from sipcore.registration import Registration
from tests.interop.kit.process import eventually


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6: ::1 cannot be bound")


def at(user: str, host: str, agent: UserAgent) -> str:
    return f"{user}@[{host}]:{agent.sip_address[1]}" if ":" in host else f"{user}@{host}:{agent.sip_address[1]}"


async def answered(line: Registration) -> Call:
    async for call in line.incoming():
        await call.answer()
        return call
    raise AssertionError("the account was removed")


@needs_ipv6
@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize(
    ("bound", "host", "family"), [("::1", "::1", "IP6"), ("::", "::1", "IP6"), ("::", "127.0.0.1", "IP4")]
)
async def test_a_call_with_audio_both_ways(
    bound: str, host: str, family: str, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Addresses in brackets in URIs and Via, ``IN IP6`` in SDP, RTP over the same family."""
    sent: list[bytes] = []
    config = UserAgentConfig(sip_host=bound)
    async with UserAgent(config) as near, UserAgent(config) as far:
        send = near._driver.flows.send

        def remember(flow: object, data: bytes) -> None:
            sent.append(data)
            send(flow, data)  # type: ignore[arg-type]

        monkeypatch.setattr(near._driver.flows, "send", remember)
        here = near.open_line(Account(at("alice", host, near)))
        there = far.open_line(Account(at("bob", host, far)))
        answering = asyncio.create_task(answered(there))
        call = await here.call(f"sip:{at('bob', host, far)};transport={transport}", timeout=5)
        other = await answering
        await asyncio.gather(call.play(np.full(1600, 900, np.int16)), other.play(np.full(1600, 900, np.int16)))
        for side in (call, other):
            await eventually(
                lambda side=side: side.statistics().packets_received > 5,  # type: ignore[misc]
                timeout=5,
                what="audio",
            )
        await call.hangup()
    invite = parse_message(next(data for data in sent if data.startswith(b"INVITE")))
    assert isinstance(invite, Request)
    assert invite.via.host == host
    assert invite.contacts[0].uri.host == host
    assert f"c=IN {family} {host}".encode() in invite.body
