"""Far ends that packetise otherwise, or speak another law than we do, heard through the engine over real sockets.

We send 20 ms of the codec that was agreed on whatever they send.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from rtp.engine import MediaEngine
from rtp.g711 import Law, decode, encode
from rtp.sinks import CallbackSink
from rtp.sources import ArraySource
from rtp.stream import RtpStream
from tests.rtp.kit import FarEnd, packet, tone

HOST = "127.0.0.1"
FRAME = 160
TICKS = 60


@pytest.fixture
async def engine() -> AsyncIterator[MediaEngine]:
    engine = MediaEngine(ports=(20000, 59999), rng=random.Random(3))
    yield engine
    await engine.close()


@pytest.fixture
def far() -> Iterator[FarEnd]:
    with FarEnd() as end:
        yield end


def opened(engine: MediaEngine, far: FarEnd, *, codec: str = "PCMU") -> RtpStream:
    stream = engine.open_stream(HOST)
    numbers = {"PCMU": 0, "PCMA": 8}
    stream.configure(
        far.address, codec=codec, payload_type=numbers[codec], receive_payload_types={0: "PCMU", 8: "PCMA"}
    )
    return stream


def heard_by(stream: RtpStream) -> list[NDArray[np.int16]]:
    frames: list[NDArray[np.int16]] = []
    stream.add_sink(CallbackSink(lambda pcm: frames.append(pcm.copy())))
    return frames


async def hears_packets_of(engine: MediaEngine, far: FarEnd, ptime_ms: int) -> None:
    """Everything that the far end says is heard once, in order and without a gap; it hears us in 20 ms."""
    stream = opened(engine, far)
    frames = heard_by(stream)
    said = encode(tone(TICKS * FRAME, hertz=333.0), Law.PCMU)
    size = ptime_ms * 8
    sent = Fraction(0)
    number = 0
    answers = []
    for tick in range(1, TICKS + 10):
        while sent + ptime_ms <= tick * 20 and (number + 1) * size <= len(said):
            content = said[number * size : (number + 1) * size].tobytes()
            far.send(packet(number, number * size, content, marker=number == 0), stream.local_port)
            number += 1
            sent += ptime_ms
        engine.tick(1, 0.0)
        answers.append(len(far.receive()[5]))
    whole = decode(said[: number * size], Law.PCMU)
    heard = np.concatenate(frames)
    begin = int(np.flatnonzero(heard)[0]) - int(np.flatnonzero(whole)[0])
    assert begin >= 0
    assert np.array_equal(heard[begin : begin + len(whole)], whole)
    statistics = stream.statistics()
    assert statistics.packets_received == number
    assert (statistics.lost, statistics.late, statistics.skipped, statistics.discarded) == (0, 0, 0, 0)
    assert set(answers) == {FRAME}


async def test_a_far_end_that_sends_10_ms(engine: MediaEngine, far: FarEnd) -> None:
    await hears_packets_of(engine, far, 10)


async def test_a_far_end_that_sends_30_ms(engine: MediaEngine, far: FarEnd) -> None:
    await hears_packets_of(engine, far, 30)


async def test_a_far_end_that_sends_40_ms(engine: MediaEngine, far: FarEnd) -> None:
    await hears_packets_of(engine, far, 40)


async def test_a_far_end_that_sends_60_ms(engine: MediaEngine, far: FarEnd) -> None:
    await hears_packets_of(engine, far, 60)


@pytest.mark.parametrize(("ours", "theirs"), [("PCMU", "PCMA"), ("PCMA", "PCMU")])
async def test_one_law_goes_out_and_the_other_comes_in(
    engine: MediaEngine, far: FarEnd, ours: str, theirs: str
) -> None:
    """RFC 3264 §6.1: each side chooses among what the other takes; the directions need not agree."""
    numbers = {"PCMU": 0, "PCMA": 8}
    stream = opened(engine, far, codec=ours)
    frames = heard_by(stream)
    we_say, they_say = tone(20 * FRAME, hertz=500.0), tone(20 * FRAME, hertz=900.0)
    stream.play(ArraySource(we_say))
    codes = encode(they_say, Law[theirs]).reshape(-1, FRAME)
    received = []
    for number in range(25):
        if number < 20:
            content = codes[number].tobytes()
            far.send(packet(number, number * FRAME, content, payload_type=numbers[theirs]), stream.local_port)
        engine.tick(1, 0.0)
        _, payload_type, *_, payload = far.receive()
        assert payload_type == numbers[ours]
        received.append(payload)
    assert b"".join(received[:20]) == encode(we_say, Law[ours]).tobytes()
    whole, heard = decode(codes.reshape(-1), Law[theirs]), np.concatenate(frames)
    begin = int(np.flatnonzero(heard)[0]) - int(np.flatnonzero(whole)[0])
    assert np.array_equal(heard[begin : begin + len(whole)], whole)


async def test_a_far_end_that_changes_its_packets_and_its_law_in_mid_call(engine: MediaEngine, far: FarEnd) -> None:
    """Gateways do, when a call is transferred behind them: 20 ms of µ-law, then 30 ms of A-law, then 10 ms."""
    stream = opened(engine, far)
    frames = heard_by(stream)
    samples = tone(60 * FRAME, hertz=333.0)
    expected, timestamp, number = [], 0, 0
    for size, law, payload_type in ((160, Law.PCMU, 0), (240, Law.PCMA, 8), (80, Law.PCMU, 0)):
        for _ in range(20 * FRAME // size):
            codes = encode(samples[timestamp : timestamp + size], law)
            expected.append(decode(codes, law))
            far.send(packet(number, timestamp, codes.tobytes(), payload_type=payload_type), stream.local_port)
            number += 1
            timestamp += size
            while timestamp > len(frames) * FRAME:
                engine.tick(1, 0.0)
    for _ in range(10):
        engine.tick(1, 0.0)
    whole, heard = np.concatenate(expected), np.concatenate(frames)
    begin = int(np.flatnonzero(heard)[0]) - int(np.flatnonzero(whole)[0])
    assert np.array_equal(heard[begin : begin + len(whole)], whole)
    assert stream.statistics().skipped == 0
