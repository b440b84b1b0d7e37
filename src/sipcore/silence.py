"""Ends calls whose far end has fallen silent: no audio, no comfort noise, no RTCP, nothing for too long.

A far end that detects silence (VAD) sends comfort noise or at least RTCP now and then, and either is a sign of life. On
hold, whichever side holds, nothing is expected, and nothing is before the answer. Who is quiet for long on hold is
asked by OPTIONS whether the call is still known there: many far ends have no session timers.

Where the far end's host says all the while that nobody listens at its port (ICMP), a sixth of the time is enough.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sipcore.call import Call

__all__ = ["SilenceWatch"]

log = logging.getLogger(__name__)

LONGEST_INTERVAL = 1.0
"""Seconds between two looks at all calls."""

REFUSED_SHARE = 1 / 6
"""Of the limit, where the far end's port is closed: time enough for one that opens it late, or moves."""


HOLD_SHARE = 5
"""Times the limit, on hold: how long nothing need come before the far end is asked, and asked again."""


class SilenceWatch:
    """One timer for all calls of an agent; none while there are no calls."""

    def __init__(self, calls: Callable[[], Iterable[Call]], limit: float) -> None:
        """``limit``: seconds; 0: nobody is watched."""
        self._calls = calls
        self._limit = limit
        self._timer: asyncio.TimerHandle | None = None

    def wake(self) -> None:
        """There is a call."""
        if self._limit > 0 and self._timer is None:
            interval = min(LONGEST_INTERVAL, self._limit / 10)
            self._timer = asyncio.get_running_loop().call_later(interval, self._look)

    def close(self) -> None:
        """Looks no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._limit = 0

    def _look(self) -> None:
        self._timer = None
        for call in tuple(self._calls()):
            try:
                self._look_at(call)
            except Exception:
                log.exception("watching %r failed", call)
        if any(True for _ in self._calls()):
            self.wake()

    def _look_at(self, call: Call) -> None:
        silent, patience = call.seconds_of_silence(), self._limit * REFUSED_SHARE
        if silent >= self._limit:
            call.end_silent(f"no RTP from the far end for {self._limit:g} s")
        elif silent >= patience and call.seconds_refused() >= patience:
            call.end_silent(f"no RTP from the far end for {patience:.2g} s, and its port is closed")
        else:
            call.look_for_life(self._limit * HOLD_SHARE)
