"""The one clock of all streams: ticks on absolute deadlines.

The n-th tick is due at ``start + n * period``, whenever the ones before it ran: an error never adds up. When the
event loop was held up over several deadlines, the next call says how many ticks are due at once, and those above one
count as missed. The pure `TickSchedule` knows the rule; `TickClock` waits with a timerfd read by the loop, which wakes
to tens of microseconds, or with `call_later` where there is none (uvloop's counts whole milliseconds).

`TickClock.halfway` asks for one call more, in the middle between the newest deadline and the next.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from rtp import kernel

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["TickClock", "TickSchedule"]

logger = logging.getLogger(__name__)


class TickSchedule:
    """Which ticks are due when; seconds on any monotonic clock."""

    def __init__(self, start: float, period: float) -> None:
        self._start = start
        self._period = period
        self.ticks = 0
        """Ticks handed out so far."""
        self.missed = 0
        """Ticks handed out after the next one's deadline had come."""

    @property
    def next_deadline(self) -> float:
        """When the next tick is due."""
        return self._start + (self.ticks + 1) * self._period

    def due(self, now: float) -> tuple[int, float]:
        """How many ticks are due, and how late the newest of them is, in seconds. None is due ahead of its deadline."""
        newest = int((now - self._start) / self._period + 1e-6)
        count = newest - self.ticks
        if count <= 0:
            return 0, 0.0
        self.ticks = newest
        self.missed += count - 1
        return count, max(0.0, now - (self._start + newest * self._period))


class TickClock:
    """Calls ``on_tick(count, lateness)`` on the running loop for every deadline of ``period`` seconds."""

    def __init__(
        self, period: float, on_tick: Callable[[int, float], None], on_half: Callable[[], None] | None = None
    ) -> None:
        """``on_half``: see `halfway`."""
        self._period = period
        self._on_tick = on_tick
        self._on_half = on_half
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: kernel.TimerDescriptor | None = None
        self._half_timer: kernel.TimerDescriptor | None = None
        self._handle: asyncio.TimerHandle | None = None
        self._half_handle: asyncio.TimerHandle | None = None
        self.schedule = TickSchedule(0.0, period)

    def start(self) -> None:
        """Starts ticking; the first tick is due one period from now."""
        self._loop = asyncio.get_running_loop()
        self.schedule = TickSchedule(time.monotonic(), self._period)
        self._timer = self._descriptor(self.schedule.next_deadline, self._period, self._on_readable)
        if self._timer is None:
            self._arm()

    def stop(self) -> None:
        """No tick after this; may be called again."""
        for timer in (self._timer, self._half_timer):
            if timer is not None and self._loop is not None:
                self._loop.remove_reader(timer.fileno())
                timer.close()
        self._timer = self._half_timer = None
        for handle in (self._handle, self._half_handle):
            if handle is not None:
                handle.cancel()
        self._handle = self._half_handle = None
        self._loop = None

    def halfway(self) -> None:
        """Calls ``on_half`` once, in the middle between the newest deadline and the next one; to be called by each tick
        that wants it. A call that has not come when the next tick asks again does not come any more."""
        if self._loop is None:
            return
        deadline = self.schedule.next_deadline - self._period / 2
        if self._timer is None:
            if self._half_handle is not None:
                self._half_handle.cancel()
            self._half_handle = self._loop.call_later(max(0.0, deadline - time.monotonic()), self._run_half)
        elif self._half_timer is None:
            self._half_timer = self._descriptor(deadline, 0.0, self._on_half_readable)
        else:
            self._half_timer.set(deadline, 0.0)

    def _descriptor(
        self, first: float, interval: float, on_readable: Callable[[], None]
    ) -> kernel.TimerDescriptor | None:
        """A timer that the loop reads; None where there is none."""
        assert self._loop is not None
        timer: kernel.TimerDescriptor | None = None
        try:
            timer = kernel.TimerDescriptor(first, interval)
            self._loop.add_reader(timer.fileno(), on_readable)
        except (OSError, NotImplementedError) as error:
            if timer is not None:
                timer.close()
            logger.debug("no timer descriptor, the loop's own timers drive the clock: %s", error)
            return None
        return timer

    def _on_readable(self) -> None:
        if self._timer is not None:
            self._timer.acknowledge()
            self._run()

    def _on_half_readable(self) -> None:
        if self._half_timer is not None and self._half_timer.acknowledge():
            self._run_half()

    def _run_half(self) -> None:
        if self._on_half is not None:
            self._on_half()

    def _arm(self) -> None:
        if self._loop is not None:
            delay = self.schedule.next_deadline - time.monotonic()
            self._handle = self._loop.call_later(max(0.0, delay), self._on_timer)

    def _on_timer(self) -> None:
        self._run()
        self._arm()

    def _run(self) -> None:
        count, lateness = self.schedule.due(time.monotonic())
        if count:
            self._on_tick(count, lateness)
