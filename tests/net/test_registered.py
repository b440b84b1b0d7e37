"""Registered accounts on real sockets: through a NAT, and when the connection dies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from sipcore import Account, CallRejected, UserAgent, UserAgentConfig
from sipcore.protocol.builder import make_request
from sipcore.protocol.flows import Flow, Target
from sipcore.protocol.wire import Request, serialize
from tests.interop.kit.process import eventually
from tests.kit.loops import both_loops
from tests.kit.registrar import Registrar

LOOPBACK = "127.0.0.1"


class Nat(asyncio.DatagramProtocol):
    """One host behind a NAT: what it sends to ``inside`` leaves from ``outside`` for the server, and what the server
    sends to ``outside`` arrives. The messages stay as they are."""

    def __init__(self, server: tuple[str, int]) -> None:
        self.server = server
        self.host: tuple[str, int] | None = None
        self.inside: asyncio.DatagramTransport | None = None
        self.outside: asyncio.DatagramTransport | None = None

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        self.inside, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=(LOOPBACK, 0))
        await self.remap()

    async def remap(self) -> None:
        """Forgets its mapping, as NATs do: another public port from now on."""
        if self.outside is not None:
            self.outside.close()
        loop = asyncio.get_running_loop()
        self.outside, _ = await loop.create_datagram_endpoint(lambda: _Outside(self), local_addr=("127.0.0.2", 0))

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        self.host = address
        assert self.outside is not None
        self.outside.sendto(data, self.server)

    def port(self, transport: asyncio.DatagramTransport | None) -> int:
        assert transport is not None
        port: int = transport.get_extra_info("sockname")[1]
        return port

    def close(self) -> None:
        for transport in (self.inside, self.outside):
            if transport is not None:
                transport.close()


class _Outside(asyncio.DatagramProtocol):
    def __init__(self, nat: Nat) -> None:
        self._nat = nat

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        assert self._nat.inside is not None
        if self._nat.host is not None:
            self._nat.inside.sendto(data, self._nat.host)


async def until(condition: Callable[[], bool]) -> None:
    await eventually(condition, timeout=8, what="what the registrar shall see")


def contact(request: Request) -> str:
    return (request.headers.get("Contact") or "").partition(">")[0]


@both_loops
async def test_an_account_behind_a_nat_is_called_without_any_setting() -> None:
    """FIELD row 3: the Contact becomes the public address, and a call to it arrives. A new mapping is followed."""
    async with Registrar() as registrar:
        nat = Nat((LOOPBACK, registrar.port))
        await nat.open()
        async with UserAgent(UserAgentConfig(sip_host=LOOPBACK)) as agent:
            proxy = f"{LOOPBACK}:{nat.port(nat.inside)}"
            line = await agent.register(Account("alice@example.com", outbound_proxy=proxy))
            await until(lambda: len(registrar.requests) == 2)
            first, second = (request for _, request in registrar.requests)
            assert f"@{LOOPBACK}:" in contact(first)
            assert f"@127.0.0.2:{nat.port(nat.outside)}" in contact(second)
            flow = await registrar.manager.flow_to(Target("127.0.0.2", nat.port(nat.outside)))
            await options(registrar, flow, second)
            await nat.remap()
            await line.refresh()
            await until(lambda: f"@127.0.0.2:{nat.port(nat.outside)}" in contact(registrar.requests[-1][1]))
        nat.close()


async def options(registrar: Registrar, flow: Flow, bound: Request) -> None:
    """A request to the bound Contact reaches the account, which answers."""
    target = bound.contacts[0].uri
    request = make_request("OPTIONS", target, from_="<sip:r@r>;tag=1", to=f"<{target}>", call_id="c", cseq=1)
    local = f"{LOOPBACK}:{registrar.port}"
    request.headers.prepend("Via", f"SIP/2.0/UDP {local};branch=z9hG4bKnat;rport")
    registrar.manager.send(flow, serialize(request))
    await until(lambda: any(response.status == 200 for response in registrar.responses))


@both_loops
async def test_a_connection_that_dies_is_replaced_and_registered_at_once() -> None:
    async with Registrar() as registrar, UserAgent(UserAgentConfig(sip_host=LOOPBACK)) as agent:
        await agent.register(Account(f"alice@{LOOPBACK}:{registrar.port};transport=tcp"))
        registrar.hang_up()
        await until(lambda: len(registrar.requests) == 2)
        (one, first), (other, second) = registrar.requests
        assert one.connection != other.connection
        assert first.call_id == second.call_id
        assert second.cseq.number > first.cseq.number


@both_loops
async def test_a_long_request_goes_over_tcp() -> None:
    """RFC 3261 §18.1.1: more than 1,300 bytes are not for one datagram."""
    async with Registrar(486) as server, UserAgent(UserAgentConfig(sip_host=LOOPBACK)) as agent:
        line = agent.open_line(Account(f"alice@{LOOPBACK}:{server.port}"))
        for headers in ({}, {"X-Long": "x" * 1000}):
            with pytest.raises(CallRejected, match="486"):
                await line.call("bob", headers=headers)
        invites = [(flow.transport, request) for flow, request in server.requests if request.method == "INVITE"]
        assert [transport for transport, _ in invites] == ["udp", "tcp"]
        long = invites[1][1]
        assert long.via.transport == "TCP"
        assert "transport=tcp" in (long.headers.get("Contact") or "")
