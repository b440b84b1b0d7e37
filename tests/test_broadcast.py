"""The event stream: what fast, slow, late and leaving readers get."""

from __future__ import annotations

import asyncio
import gc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipcore.broadcast import Broadcast, Lost, Subscription
from tests.kit.virtual_time import run_virtual, virtual_time


async def read(reader: Subscription[int]) -> list[int | Lost]:
    return [item async for item in reader]


@virtual_time
async def test_every_reader_gets_every_item_in_order() -> None:
    stream: Broadcast[int] = Broadcast()
    readers = [stream.subscribe(replay=False) for _ in range(3)]
    tasks = [asyncio.create_task(read(reader)) for reader in readers]
    for item in range(5):
        stream.publish(item)
        await asyncio.sleep(1)
    stream.close()
    assert await asyncio.gather(*tasks) == [[0, 1, 2, 3, 4]] * 3


@virtual_time
async def test_a_reader_is_subscribed_from_the_call_on_not_from_its_first_await() -> None:
    stream: Broadcast[int] = Broadcast()
    reader = stream.subscribe(replay=False)
    stream.publish(1)
    stream.close()
    assert await read(reader) == [1]


@virtual_time
async def test_a_late_reader_may_have_the_past() -> None:
    stream: Broadcast[int] = Broadcast()
    stream.publish(1)
    stream.publish(2)
    with_past, without = stream.subscribe(replay=True), stream.subscribe(replay=False)
    stream.publish(3)
    stream.close()
    assert await read(with_past) == [1, 2, 3]
    assert await read(without) == [3]


@virtual_time
async def test_the_past_may_be_read_after_the_end() -> None:
    stream: Broadcast[int] = Broadcast()
    stream.publish(1)
    stream.close()
    assert await read(stream.subscribe(replay=True)) == [1]
    assert await read(stream.subscribe(replay=False)) == []


@virtual_time
async def test_forgotten_history_is_announced() -> None:
    stream: Broadcast[int] = Broadcast(history=2)
    for item in range(5):
        stream.publish(item)
    stream.close()
    assert await read(stream.subscribe(replay=True)) == [Lost(3), 3, 4]


@virtual_time
async def test_the_current_state_comes_first() -> None:
    stream: Broadcast[int] = Broadcast()
    stream.publish(1)
    reader = stream.subscribe(replay=False, first=[100])
    stream.publish(2)
    stream.close()
    assert await anext(reader) == 100
    assert reader.sequence == 1
    assert await read(reader) == [2]
    assert reader.sequence == 2


@virtual_time
async def test_a_slow_reader_is_told_how_much_it_lost_and_slows_nobody() -> None:
    stream: Broadcast[int] = Broadcast(buffer=3)
    slow, fast = stream.subscribe(replay=False), stream.subscribe(replay=False)
    task = asyncio.create_task(read(fast))
    for item in range(10):
        stream.publish(item)
        await asyncio.sleep(0)
    stream.close()
    assert await read(slow) == [Lost(7), 7, 8, 9]
    assert await task == list(range(10))


@virtual_time
async def test_numbers_go_on_across_a_loss() -> None:
    stream: Broadcast[str] = Broadcast(buffer=1)
    reader = stream.subscribe(replay=False)
    for item in "abc":
        stream.publish(item)
    assert await anext(reader) == Lost(2)
    assert reader.sequence == 2
    assert await anext(reader) == "c"
    assert reader.sequence == stream.published == 3


@virtual_time
async def test_closing_wakes_a_waiting_reader() -> None:
    stream: Broadcast[int] = Broadcast()
    task = asyncio.create_task(read(stream.subscribe(replay=True)))
    await asyncio.sleep(1)
    stream.close()
    assert await task == []


@virtual_time
async def test_nothing_is_published_after_the_end() -> None:
    stream: Broadcast[int] = Broadcast()
    stream.close()
    stream.close()
    stream.publish(1)
    assert stream.closed
    assert stream.published == 0


@virtual_time
async def test_a_cancelled_wait_loses_nothing() -> None:
    stream: Broadcast[int] = Broadcast()
    reader = stream.subscribe(replay=False)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await anext(reader)
    stream.publish(1)
    assert await anext(reader) == 1


@virtual_time
async def test_a_reader_that_was_left_costs_nothing() -> None:
    stream: Broadcast[int] = Broadcast()
    stream.publish(1)
    async for _ in stream.subscribe(replay=True):
        break
    gc.collect()
    stream.publish(2)
    assert not stream._readers


@virtual_time
async def test_one_subscription_has_one_reading_task() -> None:
    stream: Broadcast[int] = Broadcast()
    reader = stream.subscribe(replay=False)
    task = asyncio.create_task(read(reader))
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="its own"):
        await anext(reader)
    stream.close()
    await task


def test_limits_are_checked() -> None:
    with pytest.raises(ValueError, match="buffer"):
        Broadcast(buffer=0)


@given(
    steps=st.lists(st.one_of(st.just("publish"), st.just("read")), max_size=60),
    buffer=st.integers(1, 5),
)
def test_items_and_losses_add_up(steps: list[str], buffer: int) -> None:
    """What a reader got plus what it was told it lost is what was published; numbers never go back."""

    async def main() -> None:
        stream: Broadcast[int] = Broadcast(buffer=buffer)
        reader = stream.subscribe(replay=False)
        seen: list[int | Lost] = []
        for step in steps:
            if step == "publish":
                stream.publish(stream.published + 1)
            elif reader.sequence < stream.published:
                seen.append(await anext(reader))
        stream.close()
        seen += await read(reader)
        number = 0
        for item in seen:
            number = number + item.count if isinstance(item, Lost) else number + 1
            assert isinstance(item, Lost) or item == number
        assert number == stream.published

    run_virtual(main())
