"""The clock: absolute deadlines, missed ticks, and a timer that the loop reads."""

from __future__ import annotations

import asyncio
import select
import time

import pytest

from rtp import kernel
from rtp.clock import TickClock, TickSchedule


def test_nothing_is_due_ahead_of_its_deadline() -> None:
    schedule = TickSchedule(10.0, 0.02)
    assert schedule.due(10.019) == (0, 0.0)
    assert schedule.next_deadline == pytest.approx(10.02)


def test_lateness_does_not_add_up() -> None:
    """Deadlines are start + n * period, whenever the ticks before ran."""
    schedule = TickSchedule(10.0, 0.02)
    for tick in range(1, 1001):
        count, lateness = schedule.due(10.0 + tick * 0.02 + 0.005)
        assert count == 1
        assert lateness == pytest.approx(0.005)
    assert schedule.missed == 0


def test_a_stall_hands_out_every_deadline_and_counts_the_missed_ones() -> None:
    schedule = TickSchedule(0.0, 0.02)
    schedule.due(0.02)
    count, lateness = schedule.due(0.275)
    assert count == 12
    assert lateness == pytest.approx(0.015)
    assert (schedule.ticks, schedule.missed) == (13, 11)


def test_a_wake_up_a_hair_early_is_its_tick() -> None:
    """Timers round to nanoseconds; the tick must not be put off by a period."""
    assert TickSchedule(0.0, 0.02).due(0.02 - 1e-9)[0] == 1


async def ticks_of(clock: TickClock, seen: list[int], wanted: int) -> None:
    clock.start()
    async with asyncio.timeout(5):
        while sum(seen) < wanted:  # noqa: ASYNC110 - the clock is to run on the loop's own time
            await asyncio.sleep(0.001)
    clock.stop()


@pytest.mark.parametrize("timer", [True, False], ids=["timerfd", "call_later"])
async def test_ticks_come_with_and_without_a_timer_descriptor(monkeypatch: pytest.MonkeyPatch, timer: bool) -> None:
    if not timer:

        def refuse(first: float, interval: float) -> None:
            raise OSError("no timerfd")

        monkeypatch.setattr(kernel, "TimerDescriptor", refuse)
    elif not kernel.AVAILABLE:
        pytest.skip("no timerfd on this system")
    seen: list[int] = []
    clock = TickClock(0.001, lambda count, lateness: seen.append(count))
    began = time.monotonic()
    await ticks_of(clock, seen, 5)
    assert time.monotonic() - began >= 0.005 - 1e-6
    assert clock.schedule.ticks == sum(seen)
    clock.stop()
    await asyncio.sleep(0)


@pytest.mark.parametrize("timer", [True, False], ids=["timerfd", "call_later"])
async def test_halfway_comes_once_and_never_ahead_of_its_time(monkeypatch: pytest.MonkeyPatch, timer: bool) -> None:
    if not timer:
        monkeypatch.setattr(kernel, "_library", None)
    elif not kernel.AVAILABLE:
        pytest.skip("no timerfd on this system")
    seen: list[str] = []
    due = 0.0

    def tick(count: int, lateness: float) -> None:
        nonlocal due
        if not seen:
            due = clock.schedule.next_deadline - 0.001
            clock.halfway()
            clock.halfway()
        seen.append("tick")

    def half() -> None:
        assert time.monotonic() >= due - 1e-6
        seen.append("half")

    clock = TickClock(0.002, tick, half)
    clock.halfway()  # it does not run: nothing comes of it
    clock.start()
    async with asyncio.timeout(5):
        while "half" not in seen or seen.count("tick") < 4:  # noqa: ASYNC110 - the clock runs on the loop's own time
            await asyncio.sleep(0.001)
    clock.stop()
    assert seen[0] == "tick"
    assert seen.count("half") == 1


@pytest.mark.skipif(not kernel.AVAILABLE, reason="no timerfd on this system")
async def test_a_half_that_the_next_tick_was_ahead_of_does_not_come() -> None:
    """The loop stood still over both: the tick has done its work, and asked for the next one."""
    timer = kernel.TimerDescriptor(time.monotonic(), 0.0)
    assert select.select([timer.fileno()], [], [], 5)[0]
    timer.set(time.monotonic() + 1000, 0.0)
    assert not timer.acknowledge()
    timer.close()
    seen: list[str] = []
    clock = TickClock(1000.0, lambda count, lateness: seen.append("tick"), lambda: seen.append("half"))
    clock.start()
    clock.halfway()
    clock._on_half_readable()  # the loop had seen it readable before it was set anew
    assert not seen
    clock.stop()


@pytest.mark.skipif(not kernel.AVAILABLE, reason="no timerfd on this system")
async def test_a_loop_without_readers_falls_back_to_its_timers(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr(asyncio.get_running_loop(), "add_reader", refuse)
    seen: list[int] = []
    await ticks_of(TickClock(0.001, lambda count, lateness: seen.append(count)), seen, 2)


def test_without_a_c_library_there_is_no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "_library", None)
    with pytest.raises(OSError, match="no timerfd"):
        kernel.TimerDescriptor(0.0, 0.02)
