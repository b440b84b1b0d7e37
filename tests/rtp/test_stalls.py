"""A loop that is held up: what goes out, and what is told of it. Time and ticks are turned by hand."""

from __future__ import annotations

import itertools
import logging
import random
import time
from collections.abc import AsyncIterator, Iterator, Sequence

import pytest

from rtp.clock import TickSchedule
from rtp.engine import MediaEngine
from rtp.g711 import Law, encode
from rtp.load import MissedTicks
from rtp.outgoing import CATCH_UP_FRAMES
from rtp.sources import ArraySource
from tests.rtp.kit import FarEnd, tone

FRAME = 160
PERIOD = 0.02
SAMPLES = tone(400 * FRAME, hertz=333.0)


@pytest.fixture
async def engine() -> AsyncIterator[MediaEngine]:
    engine = MediaEngine(ports=(20000, 59999), rng=random.Random(7))
    yield engine
    await engine.close()


@pytest.fixture
def far() -> Iterator[FarEnd]:
    with FarEnd() as end:
        yield end


class Turned:
    """One stream that plays, and the loop that turns its clock at the times it is told."""

    def __init__(self, engine: MediaEngine, far: FarEnd) -> None:
        self._engine = engine
        self._far = far
        self._schedule = TickSchedule(0.0, PERIOD)
        stream = engine.open_stream("127.0.0.1")
        stream.configure(far.address, codec="PCMU", payload_type=0, receive_payload_types={0: "PCMU"})
        stream.play(ArraySource(SAMPLES))
        self.bursts: list[int] = []
        """Packets of each tick."""
        self.deadlines: list[int] = []
        """Of each packet, in frames since the first."""
        self.markers: list[int] = []
        """Positions of the packets that have one."""
        self.payload = b""
        self._first: int | None = None
        self._sequence: int | None = None

    def wake(self, now: float) -> None:
        """The loop has time for the clock."""
        count, lateness = self._schedule.due(now)
        if not count:
            return
        self._engine.tick(count, lateness)
        self._far.socket.setblocking(False)
        burst = 0
        for _ in range(count + 1):
            try:
                marker, _, sequence, timestamp, _, payload = self._far.receive()
            except BlockingIOError:
                break
            if self._first is None:
                self._first = timestamp
            assert self._sequence is None or sequence == (self._sequence + 1) & 0xFFFF
            self._sequence = sequence
            if marker:
                self.markers.append(len(self.deadlines))
            self.deadlines.append(((timestamp - self._first) & 0xFFFFFFFF) // FRAME)
            self.payload += payload
            burst += 1
        self.bursts.append(burst)

    def run(self, times: Sequence[float]) -> None:
        for now in times:
            self.wake(now)

    @property
    def said(self) -> bool:
        """What was sent is what plays, without a hole."""
        return self.payload == encode(SAMPLES, Law.PCMU).tobytes()[: len(self.payload)]


def on_time(first: int, last: int) -> list[float]:
    return [number * PERIOD + 0.0001 for number in range(first, last + 1)]


async def test_a_stall_of_25_ms_loses_no_frame(engine: MediaEngine, far: FarEnd) -> None:
    """Whenever it begins: at most two frames go out at once, each with the timestamp of its own deadline."""
    turned = Turned(engine, far)
    turned.run(on_time(1, 5))
    for begins in range(6, 166, 4):
        stalled = begins * PERIOD + (begins % 20) / 1000 + 0.025
        turned.run([*on_time(begins, begins), stalled, *(now for now in on_time(begins, begins + 3) if now > stalled)])
    assert turned.deadlines == list(range(len(turned.deadlines)))
    assert set(turned.bursts) == {1, 2}
    assert turned.markers == [0]
    assert turned.said


async def test_a_stall_of_250_ms_sends_what_the_policy_says_and_nothing_that_plays_is_lost(
    engine: MediaEngine, far: FarEnd
) -> None:
    turned = Turned(engine, far)
    turned.run(on_time(1, 5))
    turned.run([0.1 + 0.25 + 0.001])  # twelve deadlines at once
    turned.run(on_time(18, 30))
    assert turned.bursts == [1] * 5 + [CATCH_UP_FRAMES] + [1] * 13
    assert turned.deadlines == [*range(5), *range(12, 30)]
    assert turned.markers == [0, 5]
    assert turned.said


@pytest.mark.parametrize("seed", range(5))
async def test_whatever_the_stalls_no_tick_sends_more_than_the_policy_says(
    engine: MediaEngine, far: FarEnd, seed: int
) -> None:
    rng = random.Random(seed)
    turned = Turned(engine, far)
    steps = (rng.choice([0.001, 0.02, 0.02, 0.02, 0.025, 0.06, 0.099, 0.25, 0.7]) for _ in range(60))
    turned.run(list(itertools.accumulate(steps)))
    assert max(turned.bursts) <= CATCH_UP_FRAMES
    assert turned.deadlines == sorted(set(turned.deadlines))
    assert turned.said


async def test_missed_ticks_are_counted_logged_and_told(
    engine: MediaEngine, far: FarEnd, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[MissedTicks] = []
    engine.on_missed = told.append
    turned = Turned(engine, far)
    with caplog.at_level(logging.INFO, "rtp.engine"):
        turned.run([*on_time(1, 3), 0.35, 0.4, 0.8])
    assert told == [MissedTicks(count=13, longest_ms=280.0, stalls=1, skipped_frames=9)]
    assert engine.statistics().missed_lately == 13 + 2 + 19
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "13 ticks of the media clock missed in 1 stalls, 280 ms the longest" in caplog.text


async def test_a_handler_of_missed_ticks_that_fails_harms_nothing(
    engine: MediaEngine, far: FarEnd, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(missed: MissedTicks) -> None:
        raise RuntimeError("a bug of the embedder")

    engine.on_missed = broken
    turned = Turned(engine, far)
    with caplog.at_level(logging.INFO, "rtp.engine"):
        turned.run([0.041, 0.061])
    assert turned.bursts == [2, 1]
    assert "a handler of missed ticks failed" in caplog.text
    assert [record.levelname for record in caplog.records] == ["INFO", "ERROR"]


async def test_time_that_other_programs_took_in_a_tick_closes_no_door(
    engine: MediaEngine, far: FarEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each tick takes a second by the clock on the wall, and next to nothing of the processor."""
    monkeypatch.setattr(time, "perf_counter", itertools.count().__next__)
    turned = Turned(engine, far)
    turned.run(on_time(1, 260))
    assert engine.statistics().tick_ms_p50 == pytest.approx(1000, rel=0.1)
    assert engine.statistics().load < 0.5
    assert not engine.overloaded(0.8)
