"""The engine's life cycle: rows and ports are given back, what cannot be done is refused, the clock drives it."""

from __future__ import annotations

import asyncio
import gc
import socket
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from rtp.engine import MediaEngine
from rtp.g711 import Law, encode
from rtp.ports import NoPortAvailable
from rtp.sources import ArraySource
from tests.rtp.by_hand import FRAME, HOST, Ear, configure, configured, tick
from tests.rtp.kit import FarEnd, packet, tone


async def test_a_closed_stream_gives_everything_back(engine: MediaEngine, far: FarEnd) -> None:
    stream = configured(engine, far.address)
    ear = Ear()
    stream.add_sink(ear)
    playback, keys = stream.play(ArraySource(tone(8000))), stream.send_dtmf("1")
    tick(engine, 2)
    stream.close()
    stream.close()
    assert ear.closed == 1
    assert not (await playback).completed
    assert not (await keys).completed
    assert stream.statistics().packets_sent == 2
    assert engine.statistics().streams == 0
    tick(engine, 2)
    assert far.waiting() == 2
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
        again.bind((HOST, stream.local_port))


async def test_a_closed_stream_ignores_what_is_asked_of_it(engine: MediaEngine, far: FarEnd) -> None:
    stream = configured(engine, far.address)
    stream.close()
    ear = Ear()
    stream.add_sink(ear)
    stream.remove_sink(ear)
    configure(stream, far.address)
    stream.mute()
    assert not (await stream.play(ArraySource(tone(160)))).completed
    assert not (await stream.send_dtmf("1")).completed
    assert ear.closed == 2
    tick(engine)
    assert far.waiting() == 0
    assert stream.seconds_since_received() == float("inf")


async def test_a_closed_stream_does_not_wait_for_the_collector(engine: MediaEngine, far: FarEnd) -> None:
    stream = configured(engine, far.address)
    stream.on_dtmf = lambda digit, duration, of=stream: of.clear()
    tick(engine)
    stream.close()
    tick(engine)
    gc.disable()
    try:
        gone = weakref.ref(stream)
        stream = engine.open_stream(HOST)
        assert gone() is None
    finally:
        gc.enable()


async def test_a_row_used_again_remembers_nothing(engine: MediaEngine, far: FarEnd) -> None:
    first = configured(engine, far.address)
    first.mute()
    for number in range(5):
        far.send(packet(number, number * FRAME), first.local_port)
    tick(engine, 2)
    far.waiting()
    first.close()
    while (second := engine.open_stream("127.0.0.1")).row != first.row:
        pass  # rows come again after some others
    configure(second, far.address)
    second.play(ArraySource(tone(FRAME)))
    tick(engine)
    entry = far.receive()
    assert entry[0] == 1
    assert entry[5] == encode(tone(FRAME), Law.PCMU).tobytes()
    assert second.statistics().packets_received == 0
    assert first.statistics().packets_received == 5


async def test_more_streams_than_rows_make_the_bank_grow(engine: MediaEngine, far: FarEnd) -> None:
    streams = [configured(engine, far.address) for _ in range(20)]
    tick(engine)
    streams += [configured(engine, far.address) for _ in range(20)]
    for number, stream in enumerate(streams):
        far.send(packet(number, 0), stream.local_port)
    tick(engine, 2)
    assert [stream.statistics().packets_received for stream in streams] == [1] * 40
    assert [stream.statistics().packets_sent for stream in streams] == [3] * 20 + [2] * 20
    assert engine.statistics().streams == 40


@pytest.mark.parametrize(
    ("remote", "changes", "message"),
    [
        (("example.com", 5004), {}, "example.com"),
        (("::1", 5004), {}, "address family"),
        (("127.0.0.1", 0), {}, "port 0"),
        (("127.0.0.1", 5004), {"codec": "G729"}, "G729"),
        (("127.0.0.1", 5004), {"receive_payload_types": {3: "GSM"}}, "GSM"),
    ],
)
async def test_what_cannot_be_configured_is_refused(
    engine: MediaEngine, remote: tuple[str, int], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        configured(engine, remote, **changes)


@pytest.mark.parametrize(
    "settings",
    [
        {"jitter_min_ms": 50},
        {"jitter_min_ms": -20},
        {"jitter_min_ms": 220},
        {"jitter_max_ms": 520},
        {"symmetric_rtp": "sometimes"},
        {"ports": (7, 8)},
    ],
)
def test_engine_settings_outside_their_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        MediaEngine(**settings)


async def test_a_closed_engine_opens_nothing(engine: MediaEngine) -> None:
    stream = engine.open_stream(HOST)
    await engine.close()
    assert stream.closed
    with pytest.raises(NoPortAvailable, match="closed"):
        engine.open_stream(HOST)


async def test_a_local_name_is_refused(engine: MediaEngine) -> None:
    with pytest.raises(ValueError):
        engine.open_stream("localhost")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - the clock is to run on the loop's own time
            await asyncio.sleep(0.001)


async def test_the_clock_drives_the_engine(engine: MediaEngine, far: FarEnd) -> None:
    stream = configured(engine, far.address)
    await engine.start()
    await engine.start()
    await until(lambda: stream.statistics().packets_sent >= 3)
    statistics = engine.statistics()
    assert statistics.ticks >= 3
    assert statistics.tick_ms_max >= statistics.tick_ms_p50 > 0
    assert statistics.cpu_seconds > 0
    await engine.close()
    sent = stream.statistics().packets_sent
    await asyncio.sleep(0)
    assert stream.statistics().packets_sent == sent
