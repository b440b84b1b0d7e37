"""Work that many callers want at once, done once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

from sipcore.errors import ServerUnreachable

__all__ = ["SharedTasks"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class SharedTasks(Generic[K, V]):
    """Joins callers that ask for the same key while its work is under way; nothing is remembered afterwards.

    A caller that is cancelled leaves the others' work alone.
    """

    def __init__(self) -> None:
        self._tasks: dict[K, asyncio.Task[V]] = {}
        self._closed = False

    def __len__(self) -> int:
        return len(self._tasks)

    async def get(self, key: K, work: Callable[[], Coroutine[Any, Any, V]]) -> V:
        """The outcome of ``work``, or of the one already under way for ``key``. Its exception is raised in
        each caller.

        Raises:
            ServerUnreachable: closed, before or meanwhile.
        """
        if self._closed:
            raise ServerUnreachable("The user agent is closed")
        task = self._tasks.get(key)
        if task is None:
            task = self._tasks[key] = asyncio.create_task(work())
            task.add_done_callback(lambda done: self._on_done(key, done))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if self._closed and caller is not None and not caller.cancelling():
                raise ServerUnreachable("The user agent is closed") from None
            raise

    async def close(self) -> None:
        """Cancels what is under way and waits until it is gone."""
        self._closed = True
        tasks = tuple(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _on_done(self, key: K, task: asyncio.Task[V]) -> None:
        del self._tasks[key]
        if not task.cancelled():
            task.exception()  # fetched, so that one no caller waits for any more is not complained about
