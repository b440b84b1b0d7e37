"""Packets of other lengths than 20 ms, sent: tick by tick and half tick by half tick, over real sockets.

RFC 3551 §4.2 has 20 ms as the default, RFC 8866 §6.4 (`a=ptime`) lets a far end ask for another length.
"""

from __future__ import annotations

import random
import struct
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rtp.clock import TickClock
from rtp.engine import MediaEngine
from rtp.g711 import Law, decode, encode
from rtp.outgoing import CATCH_UP_FRAMES
from rtp.packing import PTIMES
from rtp.rtcp import parse
from rtp.sources import ArraySource
from rtp.srtp import MasterKey
from rtp.stream import RtpStream
from tests.rtp import by_hand
from tests.rtp.kit import FarEnd, tone

HOST = "127.0.0.1"
FRAME = 160
SILENCE = 0xFF

Packet = tuple[int, int, int, int, int, bytes]

SUITE = "AES_CM_128_HMAC_SHA1_80"
KEYS = MasterKey(SUITE, bytes(range(30))), MasterKey(SUITE, bytes(range(1, 31)))


@pytest.fixture
async def engine(either_way: None) -> AsyncIterator[MediaEngine]:
    engine = MediaEngine(ports=(20000, 59999), rng=random.Random(5))
    yield engine
    await engine.close()


@pytest.fixture
def far() -> Iterator[FarEnd]:
    with FarEnd() as end:
        yield end


def opened(engine: MediaEngine, remote: tuple[str, int], ptime_ms: int, **changes: Any) -> RtpStream:
    stream = engine.open_stream(HOST)
    configure(stream, remote, ptime_ms, **changes)
    return stream


def configure(stream: RtpStream, remote: tuple[str, int], ptime_ms: int, **changes: Any) -> None:
    by_hand.configure(stream, remote, ptime_ms=ptime_ms, **changes)


def received(far: FarEnd) -> list[Packet]:
    """What lies in the far end's socket."""
    far.socket.setblocking(False)
    packets = []
    try:
        while True:
            packets.append(far.receive())
    except BlockingIOError:
        return packets
    finally:
        far.socket.settimeout(2.0)


def run(engine: MediaEngine, far: FarEnd, ticks: int, *, middles: bool = True) -> list[tuple[float, Packet]]:
    """Ticks and the middles between them. Each packet with when it came, in milliseconds."""
    came = []
    for number in range(ticks):
        engine.tick(1, 0.0)
        came += [(20.0 * number, each) for each in received(far)]
        if middles:
            engine.half_tick()
            came += [(20.0 * number + 10, each) for each in received(far)]
    return came


def in_order(packets: list[Packet], octets: int) -> bytes:
    """What packets of ``octets`` hold that follow each other without a gap; the first has the marker."""
    for number, (marker, _, sequence, timestamp, ssrc, payload) in enumerate(packets):
        assert len(payload) == octets
        assert marker == (number == 0)
        assert sequence == (packets[0][2] + number) & 0xFFFF
        assert timestamp == (packets[0][3] + number * octets) & 0xFFFFFFFF
        assert ssrc == packets[0][4]
    return b"".join(payload for *_, payload in packets)


@pytest.mark.parametrize("ptime", PTIMES)
@pytest.mark.parametrize("middles", [True, False], ids=["in time", "late"])
async def test_what_plays_arrives_whole_in_packets_of_any_length(
    engine: MediaEngine, far: FarEnd, ptime: int, middles: bool
) -> None:
    """As far apart as they are long; where the half ticks do not come, the next tick sends what they did not."""
    streams = [opened(engine, far.address, ptime) for _ in range(3)]
    for stream in streams[:-1]:
        stream.close()  # the last one begins its packets at another tick
    samples = tone(30 * FRAME)
    playback = streams[-1].play(ArraySource(samples))
    came = run(engine, far, 33, middles=middles)
    sent = in_order([each for _, each in came], ptime * 8)
    said = encode(samples, Law.PCMU).tobytes()
    silence = sent.find(said[:FRAME])
    assert sent[:silence] == bytes([SILENCE]) * silence
    assert silence < ptime * 8
    assert sent[silence:][: 30 * FRAME] == said
    assert (await playback).completed
    if middles:
        times = [time for time, _ in came]
        assert set(np.diff(times)) == {float(ptime)}
        assert times[0] < ptime
    assert streams[-1].statistics().packets_sent == len(came)


@pytest.mark.parametrize(("ptime", "every"), [(30, 10), (40, 20), (50, 10), (60, 20)])
async def test_long_packets_are_spread_over_the_ticks(engine: MediaEngine, ptime: int, every: int) -> None:
    """As many leave at one tick, or half tick, as at the next."""
    with FarEnd() as far:
        for _ in range(4 * ptime // every):
            opened(engine, far.address, ptime)
        counts = Counter(time for time, _ in run(engine, far, 15))
    assert counts == {float(time): 4 for time in range(0, 300, every)}


async def test_streams_of_all_lengths_side_by_side(engine: MediaEngine) -> None:
    """20 ms beside the others, encrypted ones among them."""
    pytest.importorskip("pylibsrtp")
    pairs: list[tuple[int, RtpStream, RtpStream, list[NDArray[np.int16]], NDArray[np.int16]]] = []
    for ptime in PTIMES:
        for keys in (None, KEYS):
            one, two = engine.open_stream(HOST), engine.open_stream(HOST)
            configure(one, (HOST, two.local_port), ptime, srtp=keys)
            configure(two, (HOST, one.local_port), 20, srtp=keys[::-1] if keys else None)
            heard: list[NDArray[np.int16]] = []
            two.add_sink(_Ear(heard))
            samples = tone(20 * FRAME, hertz=200.0 + 10 * len(pairs))
            one.play(ArraySource(samples))
            pairs.append((ptime, one, two, heard, samples))
    for _ in range(36):
        engine.half_tick()
        engine.tick(1, 0.0)
    for ptime, one, two, heard, samples in pairs:
        all_heard = np.concatenate(heard)
        expected = decode(encode(samples, Law.PCMU), Law.PCMU)
        begin = next(at for at in range(len(all_heard)) if np.array_equal(all_heard[at : at + FRAME], expected[:FRAME]))
        assert np.array_equal(all_heard[begin:][: len(expected)], expected)
        statistics = two.statistics()
        assert statistics.packets_received == one.statistics().packets_sent
        assert abs(statistics.packets_received - 36 * 20 / ptime) <= 1
        assert (statistics.lost, statistics.malformed, statistics.unauthenticated, statistics.late) == (0, 0, 0, 0)


class _Ear:
    def __init__(self, frames: list[NDArray[np.int16]]) -> None:
        self._frames = frames

    def write(self, pcm: NDArray[np.int16]) -> None:
        self._frames.append(pcm.copy())

    def close(self) -> None:
        """Nothing to close."""


@pytest.mark.parametrize("ptime", [30, 60])
@pytest.mark.parametrize("stall", [2, CATCH_UP_FRAMES, 12])
async def test_a_stall_loses_nothing_that_plays(engine: MediaEngine, far: FarEnd, ptime: int, stall: int) -> None:
    """Of a long one the beginning is a pause in the timestamps, with a marker behind it, and never a step back."""
    stream = opened(engine, far.address, ptime)
    samples = tone(30 * FRAME)
    stream.play(ArraySource(samples))
    packets = [each for _, each in run(engine, far, 4)]
    before = len(packets)
    engine.tick(stall, 0.0)
    packets += received(far)
    assert len(packets) - before <= (CATCH_UP_FRAMES * 20 + ptime) / ptime
    packets += [each for _, each in run(engine, far, 12)]
    said = encode(samples, Law.PCMU).tobytes()
    sent = b"".join(payload for *_, payload in packets)
    assert sent == said[: len(sent)]
    steps = [(after[3] - before[3]) & 0xFFFFFFFF for before, after in pairwise(packets)]
    left_out = max(0, stall - CATCH_UP_FRAMES) * FRAME
    assert sorted(steps) == [ptime * 8] * (len(steps) - 1) + [ptime * 8 + left_out]
    assert [each[0] for each in packets] == [
        number == 0 or (left_out > 0 and steps[number - 1] > ptime * 8) for number in range(len(packets))
    ]


@pytest.mark.parametrize(("ptime", "step"), [(10, 160), (30, 160), (40, 320), (60, 480)])
async def test_events_step_by_the_packet(engine: MediaEngine, far: FarEnd, ptime: int, step: int) -> None:
    """RFC 4733 §2.5.1: one timestamp, which follows the audio's without a gap; the duration grows by the packet, in
    steps of 20 ms where that is no multiple of it; three end packets; nothing that plays is cut."""
    stream = opened(engine, far.address, ptime)
    samples = tone(9 * FRAME)
    stream.play(ArraySource(samples))
    packets = [each for _, each in run(engine, far, 4)]
    keys = stream.send_dtmf("1#", duration_ms=100, gap_ms=60)
    packets += [each for _, each in run(engine, far, 75)]
    assert (await keys).completed
    assert keys.total_seconds == keys.played_seconds
    duration = -(-800 // step) * step
    events = [each for each in packets if each[1] == 101]
    audio = [each for each in packets if each[1] == 0]
    for code, starts in zip((1, 11), sorted({each[3] for each in events}), strict=True):
        mine = [each for each in events if each[3] == starts]
        fields = [struct.unpack("!BBH", payload) for *_, payload in mine]
        assert {each[0] for each in fields} == {code}
        assert [each[2] for each in fields] == [*range(step, duration, step), duration, duration, duration]
        assert [bool(each[1] & 0x80) for each in fields] == [False] * (len(fields) - 3) + [True] * 3
        assert [each[0] for each in mine] == [1] + [0] * (len(mine) - 1)
        last = max((each for each in audio if each[3] < starts), key=lambda each: each[3])
        assert last[3] + len(last[5]) == starts
        following = min((each for each in audio if each[3] > starts), key=lambda each: each[3])
        assert following[3] == starts + duration + 2 * step
    assert [(each[2] - packets[0][2]) & 0xFFFF for each in packets] == list(range(len(packets)))
    sent = b"".join(payload for *_, payload in audio)
    said = encode(samples, Law.PCMU).tobytes()
    assert sent.startswith(said[: 4 * FRAME])
    assert said[4 * FRAME :] in sent


async def test_cancelled_keys_end_at_a_packet(engine: MediaEngine, far: FarEnd) -> None:
    stream = opened(engine, far.address, 60)
    keys = stream.send_dtmf("12", duration_ms=600)
    run(engine, far, 4)
    keys.cancel()
    fields = [struct.unpack("!BBH", each[5]) for _, each in run(engine, far, 12) if each[1] == 101]
    assert [(code, bool(flags & 0x80), duration) for code, flags, duration in fields] == [(1, True, 960)] * 3
    assert not (await keys).completed


async def test_reports_count_octets_by_what_went_out(engine: MediaEngine) -> None:
    """RFC 3550 §6.4.1, in a report of two lengths, an event, and what the system refused to send."""
    one, two = engine.open_stream(HOST), engine.open_stream(HOST)
    with FarEnd() as far, FarEnd() as control:
        configure(one, far.address, 30, rtcp=control.address)
        one.send_dtmf("1", duration_ms=40, gap_ms=20)
        sent = [each for _, each in run(engine, far, 20)]
        configure(one, far.address, 60, rtcp=control.address)
        sent += [each for _, each in run(engine, far, 20)]
        configure(one, far.address, 20, rtcp=control.address)
        sent += [each for _, each in run(engine, far, 2)]
        configure(one, ("255.255.255.255", 5004), 60, rtcp=control.address)
        for _ in range(6):
            engine.tick(1, 0.0)
        one.close()
        report = parse(control.socket.recv(2048))
    two.close()
    assert report is not None
    assert report.sender is not None
    assert report.sender.packets == len(sent)
    assert report.sender.octets == sum(len(payload) for *_, payload in sent)
    assert one.statistics().send_errors == 2


async def test_clear_is_silence_from_the_next_packet_on(engine: MediaEngine, far: FarEnd) -> None:
    """What had collected was played; it goes out with the packet that it is in."""
    stream = opened(engine, far.address, 60)
    playback = stream.play(ArraySource(tone(8000)))
    run(engine, far, 4)
    stream.clear()
    packets = [each for _, each in run(engine, far, 5)]
    said = encode(tone(8000), Law.PCMU).tobytes()
    assert packets[0][5] == said[3 * FRAME : 4 * FRAME] + bytes([SILENCE]) * 2 * FRAME
    assert packets[1][5] == bytes([SILENCE]) * 3 * FRAME
    assert (await playback).played_seconds == 0.08


async def test_on_hold_nothing_goes_out_and_what_collected_waits(engine: MediaEngine, far: FarEnd) -> None:
    stream = opened(engine, far.address, 30)
    samples = tone(12 * FRAME)
    stream.play(ArraySource(samples))
    packets = [each for _, each in run(engine, far, 3)]
    configure(stream, far.address, 30, send=False)
    assert not run(engine, far, 5)
    configure(stream, far.address, 30)
    packets += [each for _, each in run(engine, far, 9)]
    sent = b"".join(payload for *_, payload in packets)
    assert sent == encode(samples, Law.PCMU).tobytes()[: len(sent)]
    assert [each[0] for each in packets].count(1) == 2
    steps = [(after[3] - before[3]) & 0xFFFFFFFF for before, after in pairwise(packets)]
    assert sorted(steps) == [240] * (len(steps) - 1) + [240 + 5 * FRAME]


@pytest.mark.parametrize("change", [{"ptime_ms": 20}, {"ptime_ms": 10}, {"codec": "PCMA", "payload_type": 8}])
async def test_another_length_or_law_in_mid_call(engine: MediaEngine, far: FarEnd, change: dict[str, Any]) -> None:
    """No packet holds two laws; numbers go on."""
    stream = opened(engine, far.address, 60)
    stream.play(ArraySource(tone(30 * FRAME)))
    before = [each for _, each in run(engine, far, 5)]
    configure(stream, far.address, change.pop("ptime_ms", 60), **change)
    after = [each for _, each in run(engine, far, 8)]
    assert {len(payload) for *_, payload in after} == {stream.ptime_ms * 8}
    said = encode(tone(30 * FRAME), Law[change.get("codec", "PCMU")]).tobytes()
    assert b"".join(payload for *_, payload in after) in said
    packets = before + after
    assert [(each[2] - packets[0][2]) & 0xFFFF for each in packets] == list(range(len(packets)))
    assert all(after[3] > before[3] for before, after in pairwise(packets))


async def test_a_stream_that_ends_before_its_half_tick_sends_nothing_more(engine: MediaEngine, far: FarEnd) -> None:
    """Its socket may be another's by then."""
    stream, other = opened(engine, far.address, 10), opened(engine, far.address, 10)
    engine.tick(1, 0.0)
    assert len(received(far)) == 2
    stream.close()
    engine.half_tick()
    assert [each[4] for each in received(far)] == [int(engine._sending.ssrc[other.row])]
    engine.half_tick()
    assert not received(far)


async def test_a_bug_in_a_half_tick_is_logged(
    engine: MediaEngine, far: FarEnd, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(engine, far.address, 10)
    engine.tick(1, 0.0)
    with monkeypatch.context() as patch:
        patch.setattr("rtp.outgoing.full", lambda *arguments, **options: 1 / 0)
        engine.half_tick()
    assert "a half tick of the media clock failed" in caplog.text
    engine.half_tick()
    assert len(received(far)) == 2


@pytest.mark.parametrize("ptime", [0, 15, 70])
async def test_other_lengths_are_refused(engine: MediaEngine, far: FarEnd, ptime: int) -> None:
    with pytest.raises(ValueError, match=f"packets of {ptime} ms"):
        opened(engine, far.address, ptime)


async def test_the_clock_drives_half_ticks_only_while_somebody_needs_them(engine: MediaEngine, far: FarEnd) -> None:
    asked: list[TickClock] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TickClock, "halfway", lambda clock: asked.append(clock))
        opened(engine, far.address, 20)
        opened(engine, far.address, 60)
        engine.tick(1, 0.0)
        assert len(asked) == 0
        short = opened(engine, far.address, 10)
        engine.tick(1, 0.0)
        assert len(asked) == 1
        short.close()
        engine.tick(1, 0.0)
        assert len(asked) == 1
