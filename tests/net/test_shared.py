"""Work that many ask for at once."""

from __future__ import annotations

import asyncio

import pytest

from sipcore.errors import ServerUnreachable
from sipcore.net.shared import SharedTasks
from tests.kit.virtual_time import virtual_time


@virtual_time
async def test_callers_of_the_same_key_share_one_work() -> None:
    shared: SharedTasks[str, int] = SharedTasks()
    runs: list[str] = []

    async def work() -> int:
        runs.append("run")
        await asyncio.sleep(1)
        return len(runs)

    assert await asyncio.gather(*(shared.get("a", work) for _ in range(5))) == [1] * 5
    assert await shared.get("a", work) == 2
    assert len(shared) == 0


@virtual_time
async def test_a_cancelled_caller_leaves_the_others_alone() -> None:
    shared: SharedTasks[str, int] = SharedTasks()

    async def work() -> int:
        await asyncio.sleep(1)
        return 7

    impatient = asyncio.create_task(shared.get("a", work))
    patient = asyncio.create_task(shared.get("a", work))
    await asyncio.sleep(0.5)
    impatient.cancel()
    assert await patient == 7
    assert impatient.cancelled()


@virtual_time
async def test_every_caller_gets_the_error() -> None:
    shared: SharedTasks[str, int] = SharedTasks()

    async def work() -> int:
        await asyncio.sleep(1)
        raise ValueError("no")

    results = await asyncio.gather(*(shared.get("a", work) for _ in range(2)), return_exceptions=True)
    assert [str(result) for result in results] == ["no", "no"]


@virtual_time
async def test_closing_ends_the_work_and_tells_its_callers() -> None:
    shared: SharedTasks[str, int] = SharedTasks()

    async def work() -> int:
        await asyncio.sleep(100)
        return 1

    caller = asyncio.create_task(shared.get("a", work))
    await asyncio.sleep(1)
    await shared.close()
    with pytest.raises(ServerUnreachable, match="closed"):
        await caller
    with pytest.raises(ServerUnreachable, match="closed"):
        await shared.get("b", work)
    assert asyncio.get_running_loop().time() == 1.0
