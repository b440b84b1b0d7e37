"""The history of every account in a file, so that a restarted server still knows it (``--history FILE``).

An SQLite database in WAL mode, which one thread of its own reads and writes: the loop hands each transition over and
never waits for a disk. Transitions are written together every tenth of a second, so that long is what a ``kill -9`` can
cost; a power cut can cost what the system had not put on the disk yet, but never the file. Where the disk is full or
gone, transitions wait in memory (a bounded number) and are written when it is back; calls notice nothing.

What is kept is what SipGetSipStatusHistory returns: who called whom, and the headers of the calls. No credentials are
in it. The file is created readable for its owner only, and belongs to one server at a time.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from service.status import AmdResult, Status, StatusType

__all__ = ["Archive", "ArchiveError", "status_from_text", "text_of_status"]

logger = logging.getLogger(__name__)

APPLICATION = 0x53697048
"""``PRAGMA application_id`` of our files."""
SCHEMA = 1
"""``PRAGMA user_version``. Whoever changes the tables, or what ``status`` holds, raises it and adds the step to it."""
TABLES = """
CREATE TABLE accounts (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,               -- AccountAddress.key
    session_us INTEGER NOT NULL DEFAULT 0,  -- its newest READY
    changed_us INTEGER NOT NULL DEFAULT 0   -- its newest transition
);
CREATE TABLE statuses (
    id INTEGER PRIMARY KEY,
    account INTEGER NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    status TEXT NOT NULL                    -- JSON: the fields of Status that are not at their defaults
);
CREATE INDEX statuses_by_account ON statuses (account, id);
"""

BATCH_SECONDS = 0.1
"""Transitions are written this long after the first of them: what a ``kill -9`` can cost."""
RETRY_SECONDS = 5.0
"""Until the next attempt after one that failed."""
MAX_WAITING = 20_000
"""Transitions that wait in memory for the disk; beyond, the oldest are given up."""
MAX_ACCOUNTS = 10_000
"""Accounts in the file; beyond, those without a transition for the longest time go."""
ANSWER_SECONDS = 2.0
"""A request waits so long for the file; a disk that hangs must not keep an account from being registered."""


class ArchiveError(Exception):
    """The file cannot be used; ``str()`` says why."""


@dataclass(frozen=True, slots=True)
class _Note:
    """A transition to be kept."""

    key: str
    status: Status


@dataclass(frozen=True, slots=True)
class _Question:
    """What is kept of an account; None: of the one that was active last."""

    key: str | None
    answer: Future[tuple[Status, ...]]


class Archive:
    """The transitions of all accounts on disk. :meth:`open` it, and :meth:`close` it.

    Args:
        path: the file; it is made where there is none.
        size: transitions kept per account, the oldest dropped first.
        retry: seconds until the next attempt after a write that failed.
    """

    def __init__(self, path: Path, size: int, *, retry: float = RETRY_SECONDS) -> None:
        self.path = path
        self._size = size
        self._retry = retry
        self._waiting: queue.SimpleQueue[_Note | _Question | None] = queue.SimpleQueue()
        self._unwritten: deque[_Note] = deque()
        """Taken from the queue, and not on disk yet. The thread's."""
        self._given_up = 0
        self._failing = False
        self._closed = False
        self._thread: threading.Thread | None = None

    # -- the loop's side -----------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Opens the file, and makes its tables where it is new.

        Raises:
            ArchiveError: it is damaged, in use, of another program or of a newer version, or cannot be opened.
        """
        opened: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, args=(opened,), name="history", daemon=True)
        self._thread.start()
        await asyncio.wrap_future(opened)

    def note(self, key: str, status: Status) -> None:
        """Keeps a transition of the account ``key``. Never blocks, never raises; ignored once closed."""
        if self._closed:
            return
        self._waiting.put(_Note(key, status))

    async def of(self, key: str) -> tuple[Status, ...]:
        """The transitions kept of an account, oldest first."""
        return await self._ask(key)

    async def of_the_active(self) -> tuple[Status, ...]:
        """Those of the account that was active last: the newest session's, else the one that changed last."""
        return await self._ask(None)

    async def close(self) -> None:
        """Writes what waits and closes the file. Idempotent."""
        if self._closed or self._thread is None:
            return
        self._closed = True
        self._waiting.put(None)
        await asyncio.to_thread(self._thread.join, ANSWER_SECONDS)

    async def _ask(self, key: str | None) -> tuple[Status, ...]:
        if self._closed or self._thread is None:
            return ()
        answer: Future[tuple[Status, ...]] = Future()
        self._waiting.put(_Question(key, answer))
        try:
            return await asyncio.wait_for(asyncio.wrap_future(answer), ANSWER_SECONDS)
        except TimeoutError:
            logger.warning("the history %s does not answer; going on without", self.path)
            return ()

    # -- the thread's side ---------------------------------------------------------------------------------------

    def _run(self, opened: Future[None]) -> None:
        try:
            database = _open(self.path)
        except ArchiveError as error:
            opened.set_exception(error)
            return
        opened.set_result(None)
        with closing(database):
            try:
                self._serve(database)
            except Exception:
                logger.exception("the history %s ends here", self.path)
                self._closed = True

    def _serve(self, database: sqlite3.Connection) -> None:
        due: float | None = None
        """When to write; None while nothing waits to be."""
        while True:
            try:
                item = self._waiting.get(timeout=None if due is None else max(0.0, due - time.monotonic()))
            except queue.Empty:
                self._write(database)
                due = time.monotonic() + self._retry if self._unwritten else None
                continue
            match item:
                case _Note():
                    self._unwritten.append(item)
                    if len(self._unwritten) > MAX_WAITING:
                        self._unwritten.popleft()
                        self._given_up += 1
                    if due is None:
                        due = time.monotonic() + BATCH_SECONDS
                case _Question():
                    self._answer(database, item)
                case None:
                    self._write(database)
                    if self._unwritten:
                        logger.warning("the history %s lacks the last %d transitions", self.path, len(self._unwritten))
                    return

    def _answer(self, database: sqlite3.Connection, question: _Question) -> None:
        if not question.answer.set_running_or_notify_cancel():
            return
        try:
            question.answer.set_result(self._kept(database, question.key))
        except (sqlite3.Error, ValueError, TypeError) as error:
            logger.error("the history %s cannot be read: %s", self.path, error)
            question.answer.set_result(())

    def _kept(self, database: sqlite3.Connection, key: str | None) -> tuple[Status, ...]:
        if key is None:
            newest = "SELECT key FROM accounts ORDER BY session_us DESC, changed_us DESC LIMIT 1"
            row = database.execute(newest).fetchone()
            if row is None:
                return ()
            (key,) = row
        rows = database.execute(
            "SELECT status FROM statuses WHERE account = (SELECT id FROM accounts WHERE key = ?)"
            " ORDER BY id DESC LIMIT ?",
            (key, self._size),
        ).fetchall()
        kept = [status_from_text(text) for (text,) in reversed(rows)]
        kept += [note.status for note in self._unwritten if note.key == key]
        return tuple(kept[-self._size :])

    def _write(self, database: sqlite3.Connection) -> None:
        """Writes what waits, in one transaction; what cannot be written goes on waiting."""
        if not self._unwritten:
            return
        try:
            database.execute("BEGIN IMMEDIATE")
            self._insert(database)
            database.execute("COMMIT")
        except sqlite3.Error as error:
            if database.in_transaction:  # some errors have rolled it back already
                database.execute("ROLLBACK")
            if not self._failing:
                self._failing = True
                logger.error("the history %s cannot be written: %s; kept in memory until it can", self.path, error)
            return
        self._unwritten.clear()
        if self._failing:
            self._failing = False
            logger.warning("the history %s is written again; %d transitions are lost", self.path, self._given_up)
            self._given_up = 0

    def _insert(self, database: sqlite3.Connection) -> None:
        changed: dict[str, list[Status]] = {}
        for note in self._unwritten:
            changed.setdefault(note.key, []).append(note.status)
        for key, statuses in changed.items():
            session = max((each.timestamp_us for each in statuses if each.type is StatusType.READY), default=0)
            database.execute(
                "INSERT INTO accounts (key, session_us, changed_us) VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE"
                " SET session_us = max(session_us, excluded.session_us), changed_us = excluded.changed_us",
                (key, session, statuses[-1].timestamp_us),
            )
            (account,) = database.execute("SELECT id FROM accounts WHERE key = ?", (key,)).fetchone()
            database.executemany(
                "INSERT INTO statuses (account, status) VALUES (?, ?)",
                [(account, text_of_status(status)) for status in statuses],
            )
            database.execute(
                "DELETE FROM statuses WHERE account = ? AND id <="
                " (SELECT id FROM statuses WHERE account = ? ORDER BY id DESC LIMIT 1 OFFSET ?)",
                (account, account, self._size),
            )
        (accounts,) = database.execute("SELECT count(*) FROM accounts").fetchone()
        if accounts > MAX_ACCOUNTS:
            database.execute(
                "DELETE FROM accounts WHERE id IN (SELECT id FROM accounts ORDER BY changed_us DESC LIMIT -1 OFFSET ?)",
                (MAX_ACCOUNTS,),
            )


def _open(path: Path) -> sqlite3.Connection:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # SQLite would make it readable for everybody
    except OSError as error:
        raise ArchiveError(error.strerror or str(error)) from None
    database = sqlite3.connect(path, timeout=1.0, isolation_level=None)
    try:
        _prepare(database)
    except sqlite3.OperationalError as error:
        database.close()
        raise ArchiveError("another process uses it" if "locked" in str(error) else str(error)) from None
    except sqlite3.DatabaseError as error:
        database.close()
        raise ArchiveError(f"it is damaged, or not a history: {error}") from None
    except BaseException:
        database.close()
        raise
    return database


def _prepare(database: sqlite3.Connection) -> None:
    """Takes the file for this process alone, and sees that its tables are ours."""
    database.execute("PRAGMA locking_mode = EXCLUSIVE")
    (application,) = database.execute("PRAGMA application_id").fetchone()
    (schema,) = database.execute("PRAGMA user_version").fetchone()
    (objects,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if objects and application != APPLICATION:
        raise ArchiveError("it is a database of another program")
    if schema > SCHEMA:
        raise ArchiveError(f"a newer version wrote it (schema {schema}; this one knows {SCHEMA})")
    (found,) = database.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise ArchiveError(f"it is damaged: {found.splitlines()[-1]}")
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = NORMAL")
    database.execute("PRAGMA foreign_keys = ON")
    database.execute("BEGIN EXCLUSIVE")
    if not objects:
        for statement in TABLES.split(";\n"):
            database.execute(statement)
        database.execute(f"PRAGMA application_id = {APPLICATION}")
        database.execute(f"PRAGMA user_version = {SCHEMA}")
    database.execute("COMMIT")


# -- a status as text --------------------------------------------------------------------------------------------------

_NOTHING = Status(StatusType.NO_SESSION)


def text_of_status(status: Status) -> str:
    """JSON of the fields that are not at their defaults."""
    said: dict[str, Any] = {"type": int(status.type)}
    for field in fields(Status):
        value = getattr(status, field.name)
        if field.name == "type" or value == getattr(_NOTHING, field.name):
            continue
        if isinstance(value, AmdResult):
            value = {part.name: getattr(value, part.name) for part in fields(AmdResult)}
        said[field.name] = dict(value) if isinstance(value, Mapping) else value
    return json.dumps(said, separators=(",", ":"))


def status_from_text(text: str) -> Status:
    """What :func:`text_of_status` made.

    Raises:
        ValueError, TypeError: it did not.
    """
    said: dict[str, Any] = json.loads(text)
    said["type"] = StatusType(said["type"])
    if (amd := said.get("amd")) is not None:
        cues: Sequence[str] = amd["matched_cue_ids"]
        said["amd"] = AmdResult(**{**amd, "matched_cue_ids": tuple(cues)})
    return Status(**said)
