"""The virtual clock itself."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from tests.kit.virtual_time import Deadlock, run_virtual, virtual_time


def test_an_hour_passes_at_once() -> None:
    async def main() -> float:
        await asyncio.sleep(3600)
        return asyncio.get_running_loop().time()

    began = time.monotonic()
    assert run_virtual(main()) == 3600.0
    assert time.monotonic() - began < 1.0


@virtual_time
async def test_timers_fire_in_order_at_their_exact_times() -> None:
    loop = asyncio.get_running_loop()
    fired: list[tuple[str, float]] = []

    def fire(name: str) -> None:
        fired.append((name, loop.time()))

    for name, when in (("c", 0.3), ("a", 0.1), ("b", 0.1), ("d", 32.1)):
        loop.call_at(when, fire, name)
    await asyncio.sleep(40)
    assert fired == [("a", 0.1), ("b", 0.1), ("c", 0.3), ("d", 32.1)]


@virtual_time
async def test_a_timeout_interrupts_a_wait() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(32):
            await asyncio.Event().wait()
    assert asyncio.get_running_loop().time() == 32.0


@virtual_time
async def test_the_clock_stands_still_while_a_thread_works() -> None:
    ticks: list[float] = []
    loop = asyncio.get_running_loop()
    timer = loop.call_later(5, lambda: ticks.append(loop.time()))
    await asyncio.to_thread(time.sleep, 0.02)
    assert not ticks
    assert loop.time() == 0.0
    timer.cancel()


@virtual_time
async def test_sockets_are_served_before_the_clock_jumps() -> None:
    loop = asyncio.get_running_loop()
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        far.send(b"x")
        async with asyncio.timeout(1):
            assert await loop.sock_recv(near, 1) == b"x"
    assert loop.time() == 0.0


def test_waiting_forever_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.kit.virtual_time.REAL_WAIT", 0.01)

    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Deadlock, match="no timer"):
        run_virtual(main())


def test_a_periodic_timer_does_not_hide_a_wait_for_ever() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()

        def tick() -> None:
            loop.call_later(60, tick)

        tick()
        await asyncio.Event().wait()

    with pytest.raises(Deadlock, match="virtual seconds"):
        run_virtual(main(), limit=86_400)


def test_a_task_left_behind_fails_the_test() -> None:
    tasks: set[asyncio.Task[None]] = set()

    async def main() -> None:
        tasks.add(asyncio.create_task(asyncio.sleep(1)))

    with pytest.raises(AssertionError, match="left behind"):
        run_virtual(main())
