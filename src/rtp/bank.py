"""The rows: every stream of a process is one row in the same arrays.

A module that works on rows declares what it keeps of each as a subclass of `Columns`; the `Bank` hands rows out, takes
them back, and makes all arrays longer at once when they are full. An array may be replaced when the bank grows, so
nobody keeps one across a call to `Bank.allocate`.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import DTypeLike

__all__ = ["USED_AT_ONCE", "Bank", "Column", "Columns"]

SMALLEST_CAPACITY = 16
USED_AT_ONCE = 16
"""Rows that were given back and are made fresh together: some sixty arrays, for all of them at the price of one."""


@dataclass(frozen=True, slots=True)
class Column:
    """One array of a bank: ``(capacity, *shape)`` of ``dtype``, a fresh row filled with ``fill``."""

    dtype: DTypeLike
    shape: tuple[int, ...] = ()
    fill: float = 0

    def rows(self, count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
        """``count`` fresh rows. Zeroes cost no memory before they are written."""
        if self.fill == 0:
            return np.zeros((count, *self.shape), self.dtype)
        return np.full((count, *self.shape), self.fill, self.dtype)


class Columns:
    """Arrays of one length, one row a stream; subclasses name them in ``LAYOUT`` and annotate them."""

    LAYOUT: ClassVar[Mapping[str, Column]] = {}

    def __init__(self, capacity: int) -> None:
        for name, column in self.LAYOUT.items():
            setattr(self, name, column.rows(capacity))

    def grow(self, capacity: int) -> None:
        """Makes every array ``capacity`` rows long; what the old rows hold stays."""
        for name, column in self.LAYOUT.items():
            old = getattr(self, name)
            setattr(self, name, np.concatenate([old, column.rows(capacity - len(old))]))

    def reset(self, rows: list[int]) -> None:
        """Puts the rows back to what fresh ones hold."""
        these = np.array(rows)  # once, and not by each of the arrays
        for name, column in self.LAYOUT.items():
            getattr(self, name)[these] = column.fill


class Bank:
    """Hands out fresh rows of a set of `Columns`, lowest number first, and grows them by doubling."""

    def __init__(self, *columns: Columns, capacity: int) -> None:
        self._columns = columns
        self.capacity = capacity
        self._fresh = list(range(capacity))
        self._used: list[int] = []
        """Given back, and not fresh yet."""

    @staticmethod
    def capacity_for(hint: int) -> int:
        """The capacity to start with for ``hint`` expected streams."""
        return max(SMALLEST_CAPACITY, hint)

    def allocate(self) -> int:
        """A fresh row; may replace every array of every column."""
        if len(self._used) >= USED_AT_ONCE or not self._fresh:
            self._refresh()
        if not self._fresh:
            self._fresh = list(range(self.capacity, self.capacity * 2))
            self.capacity *= 2
            for columns in self._columns:
                columns.grow(self.capacity)
        return heapq.heappop(self._fresh)

    def _refresh(self) -> None:
        if self._used:
            for columns in self._columns:
                columns.reset(self._used)
            self._fresh += self._used
            heapq.heapify(self._fresh)
            self._used = []

    def free(self, row: int) -> None:
        """Gives a row back."""
        self._used.append(row)
