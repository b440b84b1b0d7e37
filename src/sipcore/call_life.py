"""The life of one call as its readers see it: every event, and the two moments that are waited for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sipcore.broadcast import Broadcast

if TYPE_CHECKING:
    from collections.abc import Callable

    from sipcore.broadcast import Subscription
    from sipcore.events import CallEnded, CallEvent

__all__ = ["CallLife"]


class CallLife:
    """From the first event to :class:`~sipcore.events.CallEnded`."""

    def __init__(self) -> None:
        self._events: Broadcast[CallEvent] = Broadcast()
        self._watchers: list[Callable[[CallEvent], None]] = []
        loop = asyncio.get_running_loop()
        self._settled: asyncio.Future[None] = loop.create_future()
        self._over: asyncio.Future[CallEnded] = loop.create_future()
        self._flowing: asyncio.Future[None] = loop.create_future()

    @property
    def settled(self) -> bool:
        """The call is connected, or over."""
        return self._settled.done()

    def events(self) -> Subscription[CallEvent]:
        """A reader, from the first event on."""
        return self._events.subscribe(replay=True)

    def watch(self, watcher: Callable[[CallEvent], None], *, replay: bool) -> None:
        """Calls ``watcher`` with each event from now on, at once: for what may not be late, or lost.

        Args:
            watcher: what to call.
            replay: begin with the events that were kept so far.
        """
        if replay:
            for event in self._events.kept():
                watcher(event)
        self._watchers.append(watcher)

    def publish(self, event: CallEvent) -> None:
        """Tells all of them."""
        self._events.publish(event)
        for watcher in self._watchers:
            watcher(event)

    @property
    def flows(self) -> bool:
        """Audio may flow in both directions, or might have: the call is over."""
        return self._flowing.done()

    def flow(self) -> None:
        """Audio flows, before the answer or with it."""
        if not self._flowing.done():
            self._flowing.set_result(None)

    def settle(self) -> None:
        """The call is connected."""
        self.flow()
        if not self._settled.done():
            self._settled.set_result(None)

    def end(self, ended: CallEnded) -> None:
        """The last event."""
        self.publish(ended)
        self._events.close()
        if not self._over.done():
            self._over.set_result(ended)
        self.settle()

    async def wait_settled(self) -> None:
        """Waits until the call is connected, or over."""
        await asyncio.shield(self._settled)

    async def wait_flowing(self) -> None:
        """Waits until audio flows, or the call is over."""
        await asyncio.shield(self._flowing)

    async def wait_over(self) -> CallEnded:
        """Waits until the call is over."""
        return await asyncio.shield(self._over)
