"""RTCP on the wire: two streams report to each other; far ends and strangers by hand. Ticks are called by hand."""

from __future__ import annotations

import random
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from rtp.control import TAKEOVER_SILENCE, ControlPeer
from rtp.engine import MediaEngine
from rtp.rtcp import Received, ReportBlock, SenderInfo, compound, ntp_time, parse
from rtp.stream import RtpStream
from tests.rtp.kit import FarEnd, packet

HOST = "127.0.0.1"
FRAME = 160


class Time:
    """Both clocks that the engine reads."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    monkeypatch.setattr("rtp.engine.time.monotonic", time.monotonic)
    return time


@pytest.fixture
async def engine() -> AsyncIterator[MediaEngine]:
    engine = MediaEngine(ports=(20000, 59999), rng=random.Random())
    yield engine
    await engine.close()


def configure(stream: RtpStream, remote: tuple[str, int], **changes: Any) -> None:
    agreed: dict[str, Any] = {"codec": "PCMU", "payload_type": 0, "receive_payload_types": {0: "PCMU"}}
    stream.configure(remote, **{**agreed, **changes})


def seconds(engine: MediaEngine, clock: Time, count: float) -> None:
    for _ in range(round(count * 50)):
        clock.now += 0.02
        engine.tick(1, 0.0)


def report_of(far: FarEnd) -> Received:
    received = parse(far.socket.recv(2048))
    assert received is not None
    return received


def of(stream: RtpStream) -> ControlPeer:
    assert stream.control is not None
    return stream.control


async def test_two_streams_report_to_each_other(engine: MediaEngine, clock: Time) -> None:
    """RFC 3550 §6.4: what was sent, how it is received, and the round trip, from the second report on."""
    one, two = engine.open_stream(HOST), engine.open_stream(HOST)
    configure(one, (HOST, two.local_port), rtcp=(HOST, two.local_port + 1))
    configure(two, (HOST, one.local_port), rtcp=(HOST, one.local_port + 1))
    seconds(engine, clock, 20)
    for stream in (one, two):
        statistics = stream.statistics()
        assert 3 <= statistics.reports_sent <= 9
        assert statistics.reports_received >= 3
        assert statistics.remote_lost == 0
        assert statistics.remote_loss == 0.0
        assert statistics.round_trip_ms is not None
        assert 0 <= statistics.round_trip_ms < 1000
        assert statistics.mos > 4.3
        assert statistics.malformed == statistics.strangers == statistics.discarded == 0


async def test_on_one_port_too(engine: MediaEngine, clock: Time) -> None:
    """RFC 5761."""
    one, two = engine.open_stream(HOST), engine.open_stream(HOST)
    configure(one, (HOST, two.local_port), rtcp=(HOST, 9), rtcp_mux=True)
    configure(two, (HOST, one.local_port), rtcp=(HOST, 9), rtcp_mux=True)
    seconds(engine, clock, 20)
    for stream in (one, two):
        statistics = stream.statistics()
        assert statistics.reports_received >= 3
        assert statistics.round_trip_ms is not None
        assert statistics.malformed == statistics.strangers == statistics.discarded == statistics.lost == 0


async def test_a_report_says_what_was_sent_and_received(engine: MediaEngine, clock: Time) -> None:
    """§6.4.1, §A.3: 100 packets of which 10 were lost."""
    with FarEnd() as far, FarEnd() as ear:
        stream = engine.open_stream(HOST)
        configure(stream, far.address, rtcp=ear.address)
        for number in range(100):
            if number % 10 != 5:
                far.send(packet(65500 + number, number * FRAME, ssrc=0xF00), stream.local_port)
            engine.tick(1, 0.0)
        first = far.receive()
        clock.now += 10
        engine.tick(1, 0.0)
        report = report_of(ear)
        assert report.ssrc == first[4]
        assert report.sender is not None
        assert (report.sender.packets, report.sender.octets) == (101, 101 * FRAME)
        assert (report.sender.timestamp - first[3]) & 0xFFFFFFFF == 100 * FRAME
        (block,) = report.blocks
        assert (block.ssrc, block.lost, block.fraction_lost) == (0xF00, 10, 10 * 256 // 100)
        assert block.highest_sequence == 65536 + (65500 + 99) % 65536
        assert (block.last_report, block.since_last_report) == (0, 0)
        assert len(report.cname) == 16
        stream.close()
        goodbye = report_of(ear)
        assert goodbye.goodbye
        assert goodbye.cname == report.cname
        assert goodbye.blocks == ()


async def test_who_does_not_send_is_a_receiver_and_two_streams_have_nothing_in_common(
    engine: MediaEngine, clock: Time
) -> None:
    """§6.4.2, and RFC 7022 §4.2: nobody learns from the name that two calls are of one host."""
    with FarEnd() as far, FarEnd() as ear:
        names = set()
        for _ in range(2):
            stream = engine.open_stream(HOST)
            configure(stream, far.address, rtcp=ear.address, send=False)
            clock.now += 5
            engine.tick(1, 0.0)
            report = report_of(ear)
            assert report.sender is None
            names.add(report.cname)
            stream.close()
            ear.socket.recv(2048)
        assert len(names) == 2


async def test_without_an_address_nothing_is_said(engine: MediaEngine, clock: Time) -> None:
    with FarEnd() as far, FarEnd() as ear:
        stream = engine.open_stream(HOST)
        configure(stream, far.address, rtcp=ear.address)
        configure(stream, far.address, rtcp=None)
        seconds(engine, clock, 10)
        stream.close()
        assert ear.waiting() == 0


def block_for(stream: RtpStream, ssrc: int, *, last: int = 0) -> ReportBlock:
    return ReportBlock(ssrc, 128, 7, 0, 800, last, 0)


async def test_what_the_far_end_reports_is_told(engine: MediaEngine, clock: Time) -> None:
    with FarEnd() as far, FarEnd() as ear:
        stream = engine.open_stream(HOST)
        configure(stream, far.address, rtcp=ear.address)
        engine.tick(1, 0.0)
        ssrc = far.receive()[4]
        ear.send(
            compound(5, SenderInfo(ntp_time(1), 0, 0, 0), (block_for(stream, ssrc),), b"far"), stream.local_port + 1
        )
        engine.tick(1, 0.0)
        statistics = stream.statistics()
        assert (statistics.remote_lost, statistics.remote_loss, statistics.remote_jitter_ms) == (7, 0.5, 100.0)
        assert statistics.round_trip_ms is None
        # An answer to a report that was never sent is no measurement; blocks about others say nothing.
        ear.send(compound(5, None, (block_for(stream, ssrc, last=77),), b"far"), stream.local_port + 1)
        ear.send(compound(5, None, (ReportBlock(ssrc ^ 1, 255, 999, 0, 0, 0, 0),), b"far"), stream.local_port + 1)
        engine.tick(1, 0.0)
        assert stream.statistics().round_trip_ms is None
        assert stream.statistics().remote_lost == 7
        assert stream.statistics().reports_received == 3


async def test_another_port_of_the_host_reports_once_and_strangers_never(engine: MediaEngine, clock: Time) -> None:
    """As for RTP (RFC 4961): the first port that speaks for the source of RTP is answered, others are strangers."""
    with FarEnd() as far, FarEnd() as natted, FarEnd() as other, FarEnd("127.0.0.9") as stranger:
        stream = engine.open_stream(HOST)
        configure(stream, far.address, rtcp=(HOST, 9))
        far.send(packet(ssrc=0xF00), stream.local_port)
        engine.tick(1, 0.0)
        control = (HOST, stream.local_port + 1)
        stranger.socket.sendto(compound(0xF00, None, (), b"x"), control)
        natted.socket.sendto(compound(0xBAD, None, (), b"x"), control)  # not the source of RTP
        natted.socket.sendto(b"rubbish", control)
        engine.tick(1, 0.0)
        statistics = stream.statistics()
        assert (statistics.strangers, statistics.malformed, statistics.reports_received) == (1, 2, 0)
        natted.socket.sendto(compound(0xF00, None, (), b"x"), control)
        engine.tick(1, 0.0)
        assert of(stream).endpoint.address[1] == natted.address[1]
        other.socket.sendto(compound(0xF00, None, (), b"x"), control)
        engine.tick(1, 0.0)
        assert stream.statistics().strangers == 2
        assert stream.statistics().reports_received == 1
        clock.now += TAKEOVER_SILENCE + 1
        other.socket.sendto(compound(0xF00, None, (), b"x"), control)
        engine.tick(1, 0.0)
        assert of(stream).endpoint.address[1] == other.address[1]
        stream.close()
        assert report_of(other) is not None


async def test_a_flood_of_reports_does_not_hold_a_tick_up(engine: MediaEngine, clock: Time) -> None:
    with FarEnd() as far, FarEnd() as ear:
        stream = engine.open_stream(HOST)
        configure(stream, far.address, rtcp=ear.address)
        for _ in range(200):
            ear.send(compound(5, None, (), b"far"), stream.local_port + 1)
        engine.tick(1, 0.0)
        assert stream.statistics().reports_received <= 4


async def test_nothing_on_the_control_port_raises(engine: MediaEngine, caplog: pytest.LogCaptureFixture) -> None:
    rng = random.Random(1)
    with FarEnd() as far, FarEnd() as ear, caplog.at_level("ERROR"):
        stream = engine.open_stream(HOST)
        configure(stream, far.address, rtcp=ear.address)
        for _ in range(100):
            ear.send(bytes((0x81, 200 + rng.randrange(8))) + rng.randbytes(rng.randrange(90)), stream.local_port + 1)
            engine.tick(1, 0.0)
    assert not caplog.records


async def test_a_closed_stream_gives_its_control_port_back(engine: MediaEngine) -> None:
    stream = engine.open_stream(HOST)
    stream.close()
    engine.tick(1, 0.0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
        again.bind((HOST, stream.local_port + 1))
