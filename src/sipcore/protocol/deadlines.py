"""A heap of deadlines by key."""

from __future__ import annotations

import heapq
from itertools import count
from typing import Generic, TypeVar

__all__ = ["Deadlines"]

K = TypeVar("K")


class Deadlines(Generic[K]):
    """At most one deadline per key.

    Cancelled entries stay in the heap until they are half of it; then it is rebuilt, so it is bounded by its use. They
    are numbers: what a key belongs to is let go at once.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int]] = []
        """When, and a number that rises."""
        self._numbers: dict[K, int] = {}
        self._keys: dict[int, K] = {}
        """By number; those that are not cancelled."""
        self._order = count()

    def __len__(self) -> int:
        return len(self._numbers)

    def __contains__(self, key: K) -> bool:
        return key in self._numbers

    def set(self, key: K, when: float) -> None:
        """Sets or moves a deadline. Equal times come due in the order they were set."""
        number = next(self._order)
        before = self._numbers.get(key)
        if before is not None:
            del self._keys[before]
        self._numbers[key] = number
        self._keys[number] = key
        heapq.heappush(self._heap, (when, number))
        if len(self._heap) > 64 and len(self._heap) > 2 * len(self._keys):
            self._heap = [entry for entry in self._heap if entry[1] in self._keys]
            heapq.heapify(self._heap)

    def cancel(self, key: K) -> None:
        """Forgets a deadline; unknown keys are fine."""
        number = self._numbers.pop(key, None)
        if number is not None:
            del self._keys[number]

    def next(self) -> float | None:
        """The earliest deadline."""
        heap = self._heap
        while heap and heap[0][1] not in self._keys:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

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
        _, number = heapq.heappop(self._heap)
        key = self._keys.pop(number)
        del self._numbers[key]
        return key
