"""A heap of deadlines by key."""

from __future__ import annotations

import heapq
from itertools import count
from typing import Generic, TypeVar

__all__ = ["Deadlines"]

K = TypeVar("K")


class Deadlines(Generic[K]):
    """At most one deadline per key.

    Cancelled entries stay in the heap until they are half of it; then it is rebuilt, so it is bounded by its use.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, K]] = []
        self._live: dict[K, tuple[float, int]] = {}
        self._order = count()

    def __len__(self) -> int:
        return len(self._live)

    def __contains__(self, key: K) -> bool:
        return key in self._live

    def set(self, key: K, when: float) -> None:
        """Sets or moves a deadline. Equal times come due in the order they were set."""
        number = next(self._order)
        self._live[key] = (when, number)
        heapq.heappush(self._heap, (when, number, key))
        if len(self._heap) > 64 and len(self._heap) > 2 * len(self._live):
            self._heap = [(at, order, live) for live, (at, order) in self._live.items()]
            heapq.heapify(self._heap)

    def cancel(self, key: K) -> None:
        """Forgets a deadline; unknown keys are fine."""
        self._live.pop(key, None)

    def next(self) -> float | None:
        """The earliest deadline."""
        self._drop_stale()
        return self._heap[0][0] if self._heap else None

    def pop_due(self, now: float) -> list[K]:
        """Removes and returns the keys due at ``now``, earliest first."""
        due: list[K] = []
        while (key := self.pop_next(now)) is not None:
            due.append(key)
        return due

    def pop_next(self, now: float) -> K | None:
        """Removes and returns the earliest key if it is due at ``now``."""
        when = self.next()
        if when is None or when > now:
            return None
        _, _, key = heapq.heappop(self._heap)
        del self._live[key]
        return key

    def _drop_stale(self) -> None:
        while self._heap:
            _, number, key = self._heap[0]
            live = self._live.get(key)
            if live is not None and live[1] == number:
                return
            heapq.heappop(self._heap)
