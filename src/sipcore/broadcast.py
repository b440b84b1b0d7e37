"""One writer, many readers: a stream of events that a slow or late reader cannot harm.

Items are numbered from 1. A reader gets every item once and in order, or is told with :class:`Lost` how many
it missed: each reader has a queue of its own, of bounded length, whose oldest items make room for new ones.
All methods belong to one event loop's thread.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["Broadcast", "Lost", "Subscription"]

T = TypeVar("T")

DEFAULT_LIMIT = 1024
"""Items kept for late readers, and for each reader that is slow."""


@dataclass(frozen=True, slots=True)
class Lost:
    """Stands where items are missing that a reader was too slow, or too late, to get."""

    count: int
    """How many, at least 1."""


class Broadcast(Generic[T]):
    """The writing end.

    Args:
        history: how many of the newest items are kept for readers that ask for the past.
        buffer: how many items wait for one reader before its oldest are dropped.
    """

    def __init__(self, *, history: int = DEFAULT_LIMIT, buffer: int = DEFAULT_LIMIT) -> None:
        if buffer < 1 or history < 0:
            raise ValueError("buffer must be at least 1, history at least 0")
        self._history: deque[T] = deque(maxlen=history)
        self._buffer = buffer
        self._published = 0
        self._closed = False
        # Weak: a reader left with `break` is gone with its iterator; nobody has to unsubscribe. A list and not a
        # WeakSet: most calls have no reader, and a busy agent publishes thousands of items a second.
        self._readers: list[weakref.ref[Subscription[T]]] = []

    @property
    def published(self) -> int:
        """Number of the newest item; 0 before the first."""
        return self._published

    @property
    def closed(self) -> bool:
        """Whether the last item has been published."""
        return self._closed

    def kept(self) -> tuple[T, ...]:
        """The newest items, oldest first: as many of them as late readers get."""
        return tuple(self._history)

    def publish(self, item: T) -> None:
        """Gives an item to every reader. Never blocks; ignored after :meth:`close`."""
        if self._closed:
            return
        self._published += 1
        self._history.append(item)
        if self._readers:
            for reader in self._living():
                reader.deliver(self._published, item)

    def subscribe(self, *, replay: bool, first: Iterable[T] = ()) -> Subscription[T]:
        """A reader, subscribed from this moment on (not from its first ``await``).

        Args:
            replay: start with the items published so far; :class:`Lost` stands for those no longer kept.
            first: items this reader alone gets before all others, such as the current state. Their number is
                the one of the newest item they know of: that of the item published last.
        """
        reader: Subscription[T] = Subscription(self._buffer)
        for item in first:
            reader.deliver(self._published, item)
        if replay:
            forgotten = self._published - len(self._history)
            if forgotten:
                reader.skip(forgotten)
            for number, item in enumerate(self._history, start=forgotten + 1):
                reader.deliver(number, item)
        if self._closed:
            reader.end()
        else:
            self._living()
            self._readers.append(weakref.ref(reader))
        return reader

    def close(self) -> None:
        """Ends every reader's iteration once it has read what it was given. Idempotent."""
        self._closed = True
        for reader in self._living():
            reader.end()
        self._readers.clear()

    def _living(self) -> list[Subscription[T]]:
        """Readers that somebody still holds; the others are forgotten."""
        found = [(reference, reader) for reference in self._readers if (reader := reference()) is not None]
        self._readers = [reference for reference, _ in found]
        return [reader for _, reader in found]


class Subscription(AsyncIterator[T | Lost]):
    """The reading end: iterate it with ``async for`` in one task. Made by :meth:`Broadcast.subscribe`."""

    def __init__(self, buffer: int) -> None:
        self._buffer = buffer
        self._items: deque[tuple[int, T]] = deque()
        self._lost = 0
        self._ended = False
        self._waiter: asyncio.Future[None] | None = None
        self.sequence = 0
        """Number of the item read last; 0 before the first."""

    def __aiter__(self) -> Subscription[T]:
        return self

    async def __anext__(self) -> T | Lost:
        while not self._items and not self._lost:
            if self._ended:
                raise StopAsyncIteration
            if self._waiter is not None:
                raise RuntimeError("Two tasks read one subscription; each needs its own")
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if self._lost:
            lost, self._lost = self._lost, 0
            self.sequence += lost
            return Lost(lost)
        self.sequence, item = self._items.popleft()
        return item

    def deliver(self, number: int, item: T) -> None:
        """Called by the writing end. What is dropped for an item is the oldest, so a gap comes first."""
        if len(self._items) >= self._buffer:
            self._items.popleft()
            self._lost += 1
        self._items.append((number, item))
        self._wake()

    def skip(self, count: int) -> None:
        """Called by the writing end: ``count`` items are not kept any more."""
        self._lost += count
        self._wake()

    def end(self) -> None:
        """Iteration stops after the items that are waiting. A reader may end itself. Idempotent."""
        self._ended = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
