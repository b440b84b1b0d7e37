"""An asyncio loop whose clock jumps: hours of timers pass in milliseconds, and always in the same order.

Whenever no task can run, the loop does not sleep until the next timer but sets its clock to that timer.
Sockets and threads still work (the loop looks at them before each jump, and waits for running executor jobs),
but they live in real time: what is tested with them should not depend on timers.
"""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

__all__ = ["Deadlock", "VirtualTimeLoop", "run_virtual", "virtual_time"]

P = ParamSpec("P")
T = TypeVar("T")

REAL_WAIT = 2.0
"""Seconds of real time that a loop without timers waits for its sockets and threads before it gives up."""


class Deadlock(RuntimeError):
    """Nothing can ever happen again: no task can run, no timer is armed, nothing arrives."""


class _JumpingSelector(selectors.BaseSelector):
    """Selects without waiting, and moves the loop's clock instead."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        self._loop = loop
        self._real = selectors.DefaultSelector()

    def register(self, fileobj: FileDescriptorLike, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: FileDescriptorLike) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: FileDescriptorLike, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def get_map(self) -> Mapping[FileDescriptorLike, selectors.SelectorKey]:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = self._real.select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if self._loop.threads_busy:
            return self._real.select(REAL_WAIT)
        if timeout is None:
            ready = self._real.select(REAL_WAIT)
            if not ready:
                raise Deadlock("No task can run and no timer is armed")
            return ready
        self._loop.jump(timeout)
        return []


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """See the module's docstring. Its clock starts at 0.

    Args:
        limit: virtual seconds after which the loop gives up; finds tests that wait for what never comes while
            some periodic timer keeps the loop busy.
    """

    def __init__(self, *, limit: float = 7 * 86_400.0) -> None:
        self._now = 0.0
        self._limit = limit
        self.threads_busy = 0
        """Executor jobs under way."""
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        return self._now

    def jump(self, seconds: float) -> None:
        """Sets the clock to the next timer, ``seconds`` ahead."""
        scheduled: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        # Adding would round: a timer's own time is exact, and comparisons in tests may be too.
        self._now = scheduled[0].when() if scheduled else self._now + seconds
        if self._now > self._limit:
            raise Deadlock(f"Still waiting after {self._limit:g} virtual seconds")

    def work(self, seconds: float) -> None:
        """What runs just now takes that long: timers that are due meanwhile are late."""
        self._now += seconds

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        self.threads_busy += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._on_thread_done)
        return future

    async def shutdown_default_executor(self, *args: Any, **kwargs: Any) -> None:
        # Its threads are joined by one more thread, under a timeout (from Python 3.12 on): not a timer to jump to.
        self.threads_busy += 1
        try:
            await super().shutdown_default_executor(*args, **kwargs)
        finally:
            self.threads_busy -= 1

    def _on_thread_done(self, _: Future[Any] | asyncio.Future[Any]) -> None:
        self.threads_busy -= 1


def run_virtual(main: Coroutine[Any, Any, T], *, limit: float = 7 * 86_400.0) -> T:
    """Runs a coroutine on a loop of its own in virtual time.

    Raises:
        Deadlock: it waits for what cannot come.
        AssertionError: it left tasks behind.
    """

    async def guarded() -> T:
        result = await main
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        assert not left, f"tasks left behind: {left}"
        return result

    with asyncio.Runner(loop_factory=lambda: VirtualTimeLoop(limit=limit)) as runner:
        return runner.run(guarded())


def virtual_time(test: Callable[P, Awaitable[None]]) -> Callable[P, None]:
    """Decorator: makes an ``async def`` test one that runs in virtual time."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        async def main() -> None:
            await test(*args, **kwargs)

        run_virtual(main())

    # inspect.iscoroutinefunction follows __wrapped__ in some versions; pytest must see a plain function. The
    # signature (its fixtures) is kept.
    return run
