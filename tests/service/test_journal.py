"""The journal: numbers, readers that come back, readers that are too slow; none of them holds up another."""

from __future__ import annotations

import asyncio

from service.journal import AccountAdded, Entry, Gap, GapCause, Journal, Reader
from tests.kit.virtual_time import virtual_time


def filled(count: int, size: int = 10) -> Journal:
    """A journal with that many entries, of two accounts in turn."""
    journal = Journal(size)
    for number in range(count):
        journal.write("ab"[number % 2], "", AccountAdded())
    return journal


async def numbers(reader: Reader, count: int) -> list[int]:
    """Of the next entries."""
    found = [await reader.next() for _ in range(count)]
    return [entry.sequence for entry in found if isinstance(entry, Entry)]


@virtual_time
async def test_numbers_go_up_by_one_and_the_oldest_are_forgotten() -> None:
    journal = filled(0)
    assert (journal.oldest, journal.newest) == (0, 0)
    journal = filled(25)
    assert (journal.oldest, journal.newest) == (16, 25)
    assert await numbers(journal.read(15), 10) == list(range(16, 26))


@virtual_time
async def test_a_reader_without_a_number_hears_of_what_is_new() -> None:
    journal = filled(3)
    reader = journal.read()
    journal.write("a", "", AccountAdded())
    assert await numbers(reader, 1) == [4]


@virtual_time
async def test_a_reader_waits_for_what_it_wants_alone() -> None:
    journal = filled(0)
    reader = journal.read(0, accounts=frozenset("a"))
    waiting = asyncio.create_task(reader.next())
    await asyncio.sleep(0)
    journal.write("b", "", AccountAdded())
    await asyncio.sleep(1)
    assert not waiting.done()
    journal.write("a", "", AccountAdded())
    entry = await waiting
    assert isinstance(entry, Entry)
    assert (entry.sequence, entry.account) == (2, "a")


@virtual_time
async def test_a_reader_that_comes_back_misses_nothing() -> None:
    journal = filled(8)
    assert await numbers(journal.read(5, epoch=journal.epoch), 3) == [6, 7, 8]


@virtual_time
async def test_a_reader_that_comes_back_too_late_is_told_what_it_missed() -> None:
    journal = filled(25)
    reader = journal.read(5, epoch=journal.epoch)
    gap = await reader.next()
    assert gap == Gap(GapCause.TOO_OLD, 6, 15)
    assert isinstance(gap, Gap)
    assert gap.count == 10
    assert await numbers(reader, 10) == list(range(16, 26))


@virtual_time
async def test_a_slow_reader_is_overtaken_and_told() -> None:
    journal = filled(2)
    reader = journal.read(0)
    assert await numbers(reader, 1) == [1]
    for _ in range(20):
        journal.write("a", "", AccountAdded())
    assert await reader.next() == Gap(GapCause.TOO_SLOW, 2, 12)
    assert await numbers(reader, 10) == list(range(13, 23))


@virtual_time
async def test_one_that_does_not_read_takes_nothing_from_the_others() -> None:
    journal = Journal(10)
    sleeper, quick = journal.read(0), journal.read(0)
    for number in range(1, 1001):
        journal.write("a", "", AccountAdded())
        assert await numbers(quick, 1) == [number]
    assert len(journal._ring) == 10
    missing = await sleeper.next()
    assert isinstance(missing, Gap)
    assert (missing.first, missing.last) == (1, 990)


@virtual_time
async def test_numbers_of_another_run_of_the_server_mean_nothing() -> None:
    journal = filled(3)
    for reader in (journal.read(1, epoch="another"), journal.read(70)):
        gap = await reader.next()
        assert gap == Gap(GapCause.RESTARTED)
        assert isinstance(gap, Gap)
        assert gap.count == 0
        assert await numbers(reader, 3) == [1, 2, 3]
    assert filled(0).epoch != filled(0).epoch


@virtual_time
async def test_the_end_comes_after_what_there_is_to_read() -> None:
    journal = filled(2)
    late, waiting = journal.read(0), asyncio.create_task(journal.read().next())
    await asyncio.sleep(0)
    journal.close()
    journal.write("a", "", AccountAdded())
    assert await waiting is None
    assert await numbers(late, 2) == [1, 2]
    assert await late.next() is None


@virtual_time
async def test_a_reader_that_is_cancelled_leaves_nothing_behind() -> None:
    journal = filled(0)
    waiting = asyncio.create_task(journal.read().next())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    journal.write("a", "", AccountAdded())
    assert not journal._waiting
