"""ICMP errors about RTP, from the loopback of this machine: noticed, timed, and in nobody's way."""

from __future__ import annotations

import random
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from rtp import kernel
from rtp.datagrams import KernelReader, PortableReader, Reader
from rtp.engine import MediaEngine
from rtp.refusals import LONGEST_GAP, Refusals, watch_errors
from tests.rtp.kit import FarEnd, packet
from tests.rtp.test_control import Time, configure, seconds

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of ICMP on a socket not connected")
needs_kernel = pytest.mark.skipif(not kernel.AVAILABLE, reason="this system's C library is not used")


@pytest.fixture(params=["127.0.0.1", "::1"])
def host(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    try:
        with FarEnd(name):
            return name
    except OSError:
        pytest.skip(f"no {name} on this machine")


@pytest.fixture
def here(host: str) -> Iterator[socket.socket]:
    with FarEnd(host) as end:
        end.socket.setblocking(False)
        watch_errors(end.socket)
        yield end.socket


@pytest.fixture(params=["kernel", "portable"])
async def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[MediaEngine]:
    if request.param == "portable":
        monkeypatch.setattr("rtp.kernel.AVAILABLE", False)
    engine = MediaEngine(ports=(20000, 59999), rng=random.Random())
    yield engine
    await engine.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    monkeypatch.setattr("rtp.engine.time.monotonic", time.monotonic)
    return time


@pytest.mark.parametrize("make", [pytest.param(KernelReader, marks=needs_kernel), PortableReader])
def test_a_refusal_is_told_once_and_wakes_nobody_again(make: Callable[[int], Reader], here: socket.socket) -> None:
    reader = make(4)
    reader.register(here, 3)
    with FarEnd(here.getsockname()[0]) as far:
        closed = far.address
    here.sendto(b"nobody listens", closed)
    while reader.read() is not None:
        pass
    assert reader.refused() == [3]
    assert reader.refused() == []
    assert reader.read() is None
    here.sendto(b"to myself", here.getsockname())
    datagrams = reader.read()
    assert datagrams is not None
    assert datagrams.lengths.tolist() == [9]
    reader.close()


async def test_a_closed_port_is_known_for_as_long_as_nothing_comes(
    engine: MediaEngine,
    clock: Time,
    host: str,
) -> None:
    """And packets go out all the while: a port that opens is sent to."""
    stream = engine.open_stream(host)
    with FarEnd(host) as far:
        configure(stream, far.address)
        seconds(engine, clock, 1)
        assert stream.seconds_refused() == 0
    seconds(engine, clock, 3)
    assert stream.seconds_refused() == pytest.approx(3, abs=0.1)
    assert stream.statistics().packets_sent == 200
    assert stream.statistics().send_errors == 0
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as again:
        again.bind(far.address)
        again.settimeout(2.0)
        seconds(engine, clock, 0.02)
        assert len(again.recv(2048)) == 172
        again.sendto(packet(1, 160), (host, stream.local_port))
        seconds(engine, clock, 0.02)
        assert stream.seconds_refused() == 0


async def test_another_address_of_the_far_end_begins_anew(
    engine: MediaEngine,
    clock: Time,
) -> None:
    """A re-INVITE may well come because the old port is closed."""
    stream = engine.open_stream("127.0.0.1")
    with FarEnd() as first, FarEnd() as second:
        pass
    configure(stream, first.address)
    seconds(engine, clock, 3)
    configure(stream, second.address)
    assert stream.seconds_refused() == 0
    seconds(engine, clock, 1)
    assert stream.seconds_refused() < 1.1


def test_a_series_breaks_at_a_sign_of_life_and_at_a_gap() -> None:
    refusals = Refusals(1)
    refusals.note(0, 0.0, 100.0)
    assert refusals.lasted(0, 0.0, 101.0) == 0, "one error is no series"
    refusals.note(0, 0.0, 104.0)
    assert refusals.lasted(0, 0.0, 104.0) == 4
    assert refusals.lasted(0, 103.0, 104.0) == 0
    refusals.note(0, 105.0, 106.0)
    assert refusals.lasted(0, 105.0, 106.0) == 0
    refusals.note(0, 105.0, 107.0)
    assert refusals.lasted(0, 105.0, 107.0) == 1
    assert refusals.lasted(0, 105.0, 107.1 + LONGEST_GAP) == 0
    refusals.note(0, 105.0, 107.1 + LONGEST_GAP)
    assert refusals.lasted(0, 105.0, 107.1 + LONGEST_GAP) == 0
