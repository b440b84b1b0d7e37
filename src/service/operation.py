"""One request's work against its deadline and its client (CONTRACT §4, first paragraph).

The work is a task. When the deadline comes near, the request is answered with the latest transition of that
work, and the work goes on. When the client cancels, the work is cancelled: each use case undoes what it has
begun in its ``except asyncio.CancelledError``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine

from service.errors import ServerStopping
from service.status import Status

__all__ = ["Operation", "Operations"]

logger = logging.getLogger(__name__)

LONGEST_MARGIN = 0.25
SHORTEST_MARGIN = 0.05
"""Seconds before the deadline at which the answer leaves: a tenth of the time left, within these bounds."""


class Operation:
    """What one request has reached so far. ``latest`` is returned when its deadline is near."""

    def __init__(self, latest: Status) -> None:
        self.latest = latest

    def reached(self, status: Status) -> Status:
        """Notes a transition of this operation; returns it."""
        self.latest = status
        return status


class Operations:
    """Runs operations; those that outlive their request are kept here until they end."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Status]] = set()
        self._orphans: set[asyncio.Task[Status]] = set()
        """Those whose request was answered already: nobody but us sees their exceptions."""

    async def run(
        self,
        work: Callable[[Operation], Coroutine[object, object, Status]],
        start: Status,
        remaining: Callable[[], float | None],
    ) -> Status:
        """The status to answer one request with.

        Args:
            work: the use case.
            start: answer if the deadline comes before any transition.
            remaining: seconds to the deadline, None without one.

        Raises:
            Exception: whatever ``work`` raises before the deadline.
            asyncio.CancelledError: the client cancelled; the work was cancelled too.
        """
        operation = Operation(start)
        task = asyncio.create_task(work(operation))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        left = remaining()
        try:
            await asyncio.wait({task}, timeout=None if left is None else max(0.0, left - _margin(left)))
        except asyncio.CancelledError:
            left = remaining()
            if not task.done():
                self._orphans.add(task)
                if left is None or left > SHORTEST_MARGIN / 2:  # else it is the deadline: the work goes on
                    task.cancel()
            raise
        if task.cancelled():
            raise ServerStopping("the server stopped before the request was done")
        if task.done():
            return task.result()
        self._orphans.add(task)
        return operation.latest

    async def close(self) -> None:
        """Cancels what is left and waits for it."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[Status]) -> None:
        self._tasks.discard(task)
        if task in self._orphans:
            self._orphans.discard(task)
            if not task.cancelled() and (error := task.exception()) is not None:
                logger.error("internal error after its request was answered", exc_info=error)


def _margin(left: float) -> float:
    return min(LONGEST_MARGIN, max(SHORTEST_MARGIN, left / 10))
