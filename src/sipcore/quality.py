"""Tells each call how it sounds, again and again: `MediaQuality` events."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from sipcore.call import Call

__all__ = ["QualityWatch"]

log = logging.getLogger(__name__)

PACE = 0.02
"""Seconds between two looks, at least; calls that began together are told one look after the other,"""
CALLS_PER_LOOK = 20
"""so many at a time: the media clock must not wait for all of them."""


class QualityWatch:
    """One timer for all calls of an agent; none while there are no calls, or where nobody asks."""

    def __init__(self, interval: float) -> None:
        """``interval``: seconds between two events of a call; 0: none."""
        self._interval = interval
        self._due: deque[tuple[float, Call]] = deque()  # the interval is one for all, so it stays sorted
        self._timer: asyncio.TimerHandle | None = None

    def add(self, call: Call, now: Callable[[], float]) -> None:
        """There is a call; its first event is due one interval from now."""
        if self._interval > 0:
            self._due.append((now() + self._interval, call))
            self._arm(now)

    def close(self) -> None:
        """Tells no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._interval = 0
        self._due.clear()

    def _arm(self, now: Callable[[], float]) -> None:
        if self._timer is None and self._due:
            delay = max(PACE, self._due[0][0] - now())
            self._timer = asyncio.get_running_loop().call_later(delay, self._look, now)

    def _look(self, now: Callable[[], float]) -> None:
        self._timer = None
        moment = now()
        for _ in range(CALLS_PER_LOOK):
            if not self._due or self._due[0][0] > moment:
                break
            due, call = self._due.popleft()
            if call.ended is not None:
                continue
            try:
                if call.is_connected:
                    call.report_quality()
            except Exception:
                log.exception("the quality of %r could not be told", call)
            self._due.append((max(due, moment - PACE) + self._interval, call))
        self._arm(now)
