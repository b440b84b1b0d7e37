"""The UDP socket, with real ones on the loopback interface."""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
import sys
from typing import Any

import pytest

from sipcore.net import udp
from sipcore.net.addresses import Address
from sipcore.net.udp import UdpSocket
from tests.kit.loops import both_loops

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="ICMP errors are read from Linux' error queue")


class Peer:
    """A UDP socket and what happened to it."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.datagrams: asyncio.Queue[tuple[bytes, Address]] = asyncio.Queue()
        self.unreachable: asyncio.Queue[tuple[Address, str]] = asyncio.Queue()
        self.socket = UdpSocket(
            (host, 0),
            on_datagram=lambda data, remote: self.datagrams.put_nowait((data, remote)),
            on_unreachable=lambda remote, why: self.unreachable.put_nowait((remote, why)),
        )

    @property
    def address(self) -> Address:
        return self.socket.address

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


def nobody(host: str = "127.0.0.1") -> Address:
    """An address that was free a moment ago."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.bind((host, 0))
        return host, probe.getsockname()[1]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@both_loops
async def test_datagrams_arrive_with_their_source(host: str) -> None:
    with Peer(host) as near, Peer(host) as far:
        near.socket.send(b"hello", far.address)
        assert await far.datagrams.get() == (b"hello", near.address)


@both_loops
async def test_a_burst_longer_than_one_wake_up_arrives_whole() -> None:
    with Peer() as near, Peer() as far:
        sent = [str(number).encode() for number in range(3 * udp.BURST)]
        for data in sent:
            near.socket.send(data, far.address)
        assert [(await far.datagrams.get())[0] for _ in sent] == sent


@both_loops
async def test_other_tasks_run_during_a_flood() -> None:
    with Peer() as near, Peer() as far:
        for number in range(5 * udp.BURST):
            near.socket.send(str(number).encode(), far.address)
        seen: list[int] = []
        while far.datagrams.qsize() < 5 * udp.BURST:
            await asyncio.sleep(0)
            seen.append(far.datagrams.qsize())
        assert max(after - before for before, after in zip([0, *seen], seen, strict=False)) <= udp.BURST


@linux_only
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@both_loops
async def test_port_unreachable_names_the_remote(host: str) -> None:
    """RFC 3261 §18.4: the transport user is informed."""
    gone = nobody(host)
    with Peer(host) as near:
        near.socket.send(b"anybody?", gone)
        async with asyncio.timeout(2):
            assert await near.unreachable.get() == (gone, "connection refused")


@linux_only
@both_loops
async def test_the_socket_lives_on_after_an_icmp_error() -> None:
    """libuv drops a handle that polls a socket with an error pending; this socket must not be."""
    with Peer() as near, Peer() as far:
        for _ in range(3):
            near.socket.send(b"anybody?", nobody())
            await near.unreachable.get()
            far.socket.send(b"me", near.address)
            assert (await near.datagrams.get())[0] == b"me"


@linux_only
@both_loops
async def test_an_error_about_one_remote_does_not_lose_what_is_sent_to_the_next() -> None:
    """Linux returns a pending error from the next sendto(), whomever that is for."""
    gone = [nobody() for _ in range(20)]
    with Peer() as near, Peer() as far:
        for address in gone:
            near.socket.send(b"anybody?", address)
            near.socket.send(b"you", far.address)
        for _ in gone:
            assert (await far.datagrams.get())[0] == b"you"
        assert {(await near.unreachable.get())[0] for _ in gone} == set(gone)


@both_loops
async def test_a_datagram_the_kernel_refuses_is_reported() -> None:
    with Peer() as near, Peer() as far:
        near.socket.send(b"x" * 70_000, far.address)
        remote, why = await near.unreachable.get()
        assert remote == far.address
        assert "too long" in why


@both_loops
async def test_a_full_send_buffer_loses_the_datagram_quietly(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def sendto(self, *_: Any) -> int:
            raise BlockingIOError

    with Peer() as near:
        real = near.socket._socket
        monkeypatch.setattr(near.socket, "_socket", Full())
        near.socket.send(b"x", ("127.0.0.1", 9))
        monkeypatch.setattr(near.socket, "_socket", real)
        assert near.socket.dropped == 1
        assert near.unreachable.empty()


def extended_error(number: int, origin: int, kind: int, code: int) -> bytes:
    """``struct sock_extended_err``."""
    return struct.pack("=IBBBBII", number, origin, kind, code, 0, 0, 0)


@pytest.mark.parametrize(
    ("origin", "kind", "code", "final"),
    [
        (udp.ORIGIN_ICMP, 3, 0, True),
        (udp.ORIGIN_ICMP, 3, 1, True),
        (udp.ORIGIN_ICMP, 3, 2, True),
        (udp.ORIGIN_ICMP, 3, 3, True),
        (udp.ORIGIN_ICMP, 3, 4, False),
        (udp.ORIGIN_ICMP, 4, 0, False),
        (udp.ORIGIN_ICMP, 11, 0, False),
        (udp.ORIGIN_ICMP, 12, 0, True),
        (udp.ORIGIN_ICMP6, 1, 4, True),
        (udp.ORIGIN_ICMP6, 2, 0, False),
        (udp.ORIGIN_ICMP6, 3, 0, False),
        (udp.ORIGIN_ICMP6, 4, 0, True),
        (1, 0, 0, False),
    ],
)
@both_loops
async def test_only_lasting_icmp_errors_are_reported(origin: int, kind: int, code: int, final: bool) -> None:
    """RFC 3261 §18.4: TTL exceeded, source quench and a smaller MTU heal by themselves."""
    with Peer() as near:
        near.socket._on_extended_error(extended_error(errno.ECONNREFUSED, origin, kind, code), ("192.0.2.1", 5060))
        assert near.unreachable.empty() is not final


@both_loops
async def test_a_taken_port_is_an_error_and_leaks_nothing() -> None:
    with Peer() as near, pytest.raises(OSError, match="in use"):
        UdpSocket(near.address, on_datagram=lambda *_: None, on_unreachable=lambda *_: None)


@both_loops
async def test_closing_frees_the_port_and_may_be_repeated() -> None:
    peer = Peer()
    peer.socket.close()
    peer.socket.close()
    peer.socket.send(b"x", ("127.0.0.1", 9))
    UdpSocket(peer.address, on_datagram=lambda *_: None, on_unreachable=lambda *_: None).close()


@both_loops
async def test_closing_from_inside_a_burst_stops_it() -> None:
    got: list[bytes] = []

    def take(data: bytes, _: Address) -> None:
        got.append(data)
        near.close()

    near = UdpSocket(("127.0.0.1", 0), on_datagram=take, on_unreachable=lambda *_: None)
    with Peer() as far:
        for _ in range(3):
            far.socket.send(b"x", near.address)
        await asyncio.sleep(0.05)
    assert got == [b"x"]
