"""The history's file: what it gives back, its bounds, files that cannot be used, and disks that are full."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import stat
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from service import archive as module
from service.archive import Archive, ArchiveError, status_from_text, text_of_status
from service.config import Endpoint, ServerSettings
from service.server import Server, StartError
from service.status import AmdResult, History, Status, StatusType

FULL = Status(
    StatusType.OUTGOING_CALL_FINISHED,
    account="sip:alice@example.com",
    timestamp_us=1_700_000_000_000_001,
    callee="sip:bob@example.com",
    transfer_target="desk",
    headers={"X-Name": "Grüße \N{BELL} \udcff"},
    description="Call transferred",
    exception="CallRejected",
    traceback="Traceback …",
    amd=AmdResult(2, 3, 0.75, 1200, "rule", ("beep", "tone"), 4, "id"),
    call_id="id",
    sip_code=486,
    bot_muted=True,
    listening_paused=True,
    audio_streams=3,
)


@asynccontextmanager
async def opened(path: Path, size: int = 100, retry: float = 0.01) -> AsyncIterator[Archive]:
    archive = Archive(path, size, retry=retry)
    await archive.open()
    try:
        yield archive
    finally:
        await archive.close()


def statuses(count: int, first: int = 1, type_: StatusType = StatusType.REGISTERED) -> list[Status]:
    return [Status(type_, timestamp_us=number) for number in range(first, first + count)]


def test_every_field_of_a_status_comes_back_as_it_was() -> None:
    assert all(getattr(FULL, name) != getattr(Status(StatusType.READY), name) for name in Status.__slots__)
    assert status_from_text(text_of_status(FULL)) == FULL
    for type_ in StatusType:
        assert status_from_text(text_of_status(Status(type_))) == Status(type_)


async def test_what_was_noted_is_there_at_once_and_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    alice = [*statuses(3), FULL]
    async with opened(path) as archive:
        for status in alice:
            archive.note("alice", status)
        archive.note("bob", Status(StatusType.READY, timestamp_us=9))
        assert await archive.of("alice") == tuple(alice), "before it is on disk"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    async with opened(path) as archive:
        assert await archive.of("alice") == tuple(alice)
        assert await archive.of("bob") == (Status(StatusType.READY, timestamp_us=9),)
        assert await archive.of("carol") == ()
    assert await archive.of("alice") == (), "closed"


async def test_the_active_account_is_the_one_with_the_newest_session(tmp_path: Path) -> None:
    async with opened(tmp_path / "history.db") as archive:
        assert await archive.of_the_active() == ()
        archive.note("alice", Status(StatusType.REGISTERED, timestamp_us=5))
        archive.note("bob", Status(StatusType.REGISTERED, timestamp_us=6))
        await archive.close()
    async with opened(archive.path) as archive:
        assert (await archive.of_the_active())[0].timestamp_us == 6, "no session yet: the newest"
        archive.note("alice", Status(StatusType.READY, timestamp_us=7))
        archive.note("bob", Status(StatusType.REGISTERED, timestamp_us=8))
    async with opened(archive.path) as archive:
        assert [status.timestamp_us for status in await archive.of_the_active()] == [5, 7]


async def test_the_file_is_bounded_per_account_and_in_accounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ACCOUNTS", 3)
    path = tmp_path / "history.db"
    async with opened(path, size=5) as archive:
        for status in statuses(12):
            archive.note("alice", status)
        assert await archive.of("alice") == tuple(statuses(5, first=8)), "not on disk yet"
    async with opened(path, size=5) as archive:
        for number, name in enumerate(("bob", "carol", "dave"), 20):
            archive.note(name, Status(StatusType.REGISTERED, timestamp_us=number))
    with sqlite3.connect(path) as database:
        assert [name for (name,) in database.execute("SELECT key FROM accounts ORDER BY key")] == [
            "bob",
            "carol",
            "dave",
        ]
        assert database.execute("SELECT count(*) FROM statuses").fetchone() == (3,), "alice's went with her"
    database.close()
    async with opened(path, size=1) as archive:
        archive.note("bob", Status(StatusType.READY, timestamp_us=30))
        assert await archive.of("bob") == (Status(StatusType.READY, timestamp_us=30),), (
            "a smaller --history-size counts"
        )


async def test_a_history_goes_on_where_the_file_ends() -> None:
    """The clock was set back in between; what is past is not the current status."""
    kept: list[Status] = []
    past = statuses(2, first=1000)
    history = History(3, lambda: 10, past=past, keep=kept.append)
    assert history.all() == tuple(past)
    assert history.current is None
    new = [history.record(Status(type_)) for type_ in (StatusType.REGISTERED, StatusType.SESSION_STARTED)]
    assert [status.timestamp_us for status in new] == [1002, 1003]
    assert history.all() == (past[1], *new)
    assert kept == new
    assert history.current is new[1]


async def newer(path: Path) -> None:
    async with opened(path):
        pass
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 2")
    database.close()


async def foreign(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE bookmarks (url TEXT)")
    database.close()


async def damaged(path: Path) -> None:
    async with opened(path) as archive:
        for status in statuses(100):
            archive.note("alice", status)
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xa5" * (len(content) - 4096))


async def text(path: Path) -> None:
    path.write_bytes(b"no database at all, but text\n" * 100)


async def folder(path: Path) -> None:
    path.mkdir()


async def dangling(path: Path) -> None:
    path.symlink_to("no/such/folder")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (text, "it is damaged, or not a history: "),
        (damaged, "it is damaged"),
        (foreign, "it is a database of another program"),
        (newer, "a newer version wrote it (schema 2; this one knows 1)"),
        (folder, "Is a directory"),
        (dangling, "No such file or directory"),
    ],
)
async def test_a_file_that_cannot_be_used_is_an_error_of_one_line(
    make: Callable[[Path], Awaitable[None]], said: str, tmp_path: Path
) -> None:
    path = tmp_path / "history.db"
    await make(path)
    before = path.read_bytes() if path.is_file() else None
    settings = ServerSettings.model_construct(grpc=Endpoint("127.0.0.1", 0), sip=Endpoint("127.0.0.1", 0), history=path)
    with pytest.raises(StartError) as refused:
        await Server(settings).start()
    assert str(refused.value).startswith(f"cannot use the history {path}: {said}")
    assert "\n" not in str(refused.value)
    assert before is None or path.read_bytes() == before, "nothing of it was changed"


async def test_a_file_belongs_to_one_server_at_a_time(tmp_path: Path) -> None:
    async with opened(tmp_path / "history.db") as archive:
        with pytest.raises(ArchiveError, match="another process uses it"):
            await Archive(archive.path, 100).open()
        archive.note("alice", FULL)
        assert await archive.of("alice") == (FULL,)
    async with opened(archive.path):
        pass


class Disk(sqlite3.Connection):
    """A file on a disk that may be full. A disk that is really full: see test_lasting_history."""

    full = False

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        if Disk.full and sql == "COMMIT":
            raise sqlite3.OperationalError("database or disk is full")
        return super().execute(sql, *values)


async def until(caplog: pytest.LogCaptureFixture, text: str) -> None:
    async with asyncio.timeout(30):
        while text not in caplog.text:  # noqa: ASYNC110 - a thread says it
            await asyncio.sleep(0.01)


async def test_what_a_full_disk_does_not_take_waits_in_memory_within_bounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Disk))
    monkeypatch.setattr(module, "MAX_WAITING", 10)
    monkeypatch.setattr(Disk, "full", True)
    path = tmp_path / "history.db"
    with caplog.at_level(logging.WARNING):
        monkeypatch.setattr(Disk, "full", False)
        async with opened(path) as archive:
            archive.note("alice", Status(StatusType.READY, timestamp_us=1))
            await archive.close()
        async with opened(path) as archive:
            monkeypatch.setattr(Disk, "full", True)
            for status in statuses(14, first=2):
                archive.note("alice", status)
            await until(caplog, "cannot be written: database or disk is full")
            kept = (Status(StatusType.READY, timestamp_us=1), *statuses(10, first=6))
            assert await archive.of("alice") == kept, "the oldest of those that wait were given up"
            monkeypatch.setattr(Disk, "full", False)
            await until(caplog, "is written again; 4 transitions are lost")
            assert await archive.of("alice") == kept
            monkeypatch.setattr(Disk, "full", True)
            archive.note("alice", FULL)
        assert "lacks the last 1 transitions" in caplog.text, "the disk was full at the end"
        monkeypatch.setattr(Disk, "full", False)
        async with opened(path) as archive:
            assert await archive.of("alice") == kept
    assert caplog.text.count("cannot be written") == 2, "once each time, however often it is tried"


async def test_a_disk_that_hangs_keeps_nobody_waiting_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.05)
    hangs = threading.Event()
    monkeypatch.setattr(Archive, "_kept", lambda *_: hangs.wait() and ())
    async with opened(tmp_path / "history.db") as archive:
        assert await archive.of("alice") == ()
        assert "does not answer" in caplog.text
        hangs.set()


async def test_a_row_that_cannot_be_read_is_no_reason_to_stop(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "history.db"
    async with opened(path) as archive:
        archive.note("alice", FULL)
        archive.note("bob", FULL)
    with sqlite3.connect(path) as database:
        database.execute("UPDATE statuses SET status = '{' WHERE id = 1")
    database.close()
    async with opened(path) as archive:
        assert await archive.of("alice") == ()
        assert "cannot be read" in caplog.text
        assert await archive.of("bob") == (FULL,)
