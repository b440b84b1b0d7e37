"""`MediaQuality` events: how a call sounds, again and again."""

from __future__ import annotations

import asyncio
import random
from types import SimpleNamespace
from typing import Any, cast

import pytest

from rtp.engine import MediaEngine
from rtp.statistics import StreamStatistics
from sipcore.call import Call
from sipcore.config import UserAgentConfig
from sipcore.errors import InvalidRequest
from sipcore.events import MediaQuality
from sipcore.media import CallMedia
from sipcore.protocol.offer_answer import NegotiatedMedia
from sipcore.quality import CALLS_PER_LOOK, PACE, QualityWatch
from tests.kit.pair import pair
from tests.kit.virtual_time import virtual_time
from tests.rtp.kit import FarEnd, packet


@virtual_time
async def test_events_tell_of_the_time_since_the_last_one() -> None:
    async with pair(UserAgentConfig(quality_interval=5)) as scene:
        call, _ = await scene.connect()
        stream = scene.alice_media.streams[0]
        told: list[MediaQuality] = []
        call.watch(lambda event: told.append(event) if isinstance(event, MediaQuality) else None)
        counted = StreamStatistics(
            packets_received=240, lost=10, late=5, concealed=15, jitter_ms=4.0, delay_ms=60.0, round_trip_ms=80.0
        )
        stream.counted = counted
        await asyncio.sleep(5.1)
        assert len(told) == 1
        stream.counted = StreamStatistics(
            packets_received=492, duplicates=2, lost=9, late=5, concealed=15, delay_ms=40.0, remote_loss=0.25
        )
        await asyncio.sleep(5)
        first, second = told
        assert (first.received, first.lost, first.late, first.concealed) == (240, 10, 5, 15)
        assert (first.jitter_ms, first.delay_ms, first.round_trip_ms) == (4.0, 60.0, 80.0)
        assert first.loss == pytest.approx(0.06)
        assert (second.received, second.lost, second.late, second.concealed) == (250, 0, 0, 0)
        assert (second.loss, second.round_trip_ms, second.remote_loss) == (0.0, None, 0.25)
        assert 1 < first.mos < 3.9 < second.mos < 4.5
        stream.counted = second_counted = stream.counted
        await asyncio.sleep(5)
        assert told[2].mos == 0.0
        await call.hangup()
        await asyncio.sleep(20)
        assert len(told) == 3
        assert second_counted.late == 5


@virtual_time
async def test_nobody_who_did_not_ask_is_told() -> None:
    async with pair() as scene:
        call, _ = await scene.connect()
        await asyncio.sleep(30)
        await call.hangup()
        assert not [event async for event in call.events() if isinstance(event, MediaQuality)]


@virtual_time
async def test_calls_are_told_in_turns() -> None:
    """A hundred calls that began at once: no look takes long, and each call is told at its interval."""
    loop = asyncio.get_running_loop()
    told: dict[int, list[float]] = {}
    watch = QualityWatch(2.0)

    def reporting(number: int) -> Call:
        def report_quality() -> None:
            told.setdefault(number, []).append(loop.time() - start)
            if number == 7:
                raise RuntimeError("a bug of a watcher")

        fake = SimpleNamespace(ended=None, is_connected=number != 9, report_quality=report_quality)
        return cast("Call", fake)

    start = loop.time()
    calls: list[Any] = [reporting(number) for number in range(100)]
    for call in calls:
        watch.add(call, loop.time)
    calls[5].ended = object()
    await asyncio.sleep(7)
    watch.close()
    await asyncio.sleep(7)
    assert set(told) == set(range(100)) - {5, 9}
    assert {len(times) for times in told.values()} == {3}
    for number, times in told.items():
        for turn, moment in enumerate(times, start=1):
            assert moment == pytest.approx(2.0 * turn + number // CALLS_PER_LOOK * PACE, abs=turn * PACE + 0.001)
    moments = [moment for times in told.values() for moment in times]
    assert max(moments.count(moment) for moment in moments) <= CALLS_PER_LOOK


async def test_the_counts_are_those_of_a_real_stream() -> None:
    engine = MediaEngine(ports=(20000, 59999), rng=random.Random(1))
    media = CallMedia(engine, "127.0.0.1")
    with FarEnd() as far:
        media.apply(
            NegotiatedMedia(
                remote_host=far.address[0],
                remote_port=far.address[1],
                codec="PCMU",
                payload_type=0,
                receive_payload_types={0: "PCMU"},
                dtmf_payload_type=None,
                dtmf_receive_payload_type=None,
                remote_rtcp=None,
                send=True,
                receive=True,
            )
        )
        for number in range(20):
            if number != 6:
                far.send(packet(number, number * 160), media.port)
            engine.tick(1, 0.0)
        first = media.quality()
        engine.tick(1, 0.0)
        second = media.quality()
    assert (first.received, first.lost, first.concealed) == (19, 1, 1)
    assert first.mos > 1
    assert (second.received, second.lost) == (0, 0)
    media.close()
    await engine.close()


def test_an_interval_that_would_be_a_flood_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="quality_interval"):
        UserAgentConfig(quality_interval=0.01)
