"""A file of every SIP message, for people: time, direction, flow, and the text with its secrets struck
out."""

from __future__ import annotations

import logging
import os
import queue
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TextIO

from sipcore.net.addresses import join
from sipcore.protocol.wire import redact

if TYPE_CHECKING:
    from types import TracebackType

    from sipcore.protocol.flows import Flow

__all__ = ["Trace"]

log = logging.getLogger(__name__)

Direction = Literal["sent", "received"]

MAX_WAITING = 20_000
"""Messages that wait to be written; beyond, they are counted instead."""
BATCH_PAUSE = 0.2
"""Seconds between two batches: redacting a message costs tens of microseconds, so the writer collects its
work."""


class Trace:
    """Writes messages to a file from a thread of its own; recording one costs the caller a few microseconds.

    The file is appended to, and created readable for its owner only: it tells who called whom. Use as a
    context manager, or :meth:`close` it; at most about 0.2 s of messages are lost if the process dies
    without.
    """

    def __init__(self, path: str | Path) -> None:
        """Opens ``path`` for appending.

        Raises:
            OSError: it cannot be opened.
        """
        self.path = Path(path)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._file: TextIO = os.fdopen(descriptor, "w", encoding="utf-8", newline="\n")
        self._waiting: queue.SimpleQueue[tuple[datetime, Direction, Flow, bytes] | None] = queue.SimpleQueue()
        self._lost = 0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._write_all, name="sip-trace", daemon=True)
        self._thread.start()

    def __enter__(self) -> Trace:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def record(self, direction: Direction, flow: Flow, data: bytes) -> None:
        """Notes a message. Never blocks; ignored once closed."""
        if self._closing.is_set():
            return
        if self._waiting.qsize() >= MAX_WAITING:
            self._lost += 1
            return
        self._waiting.put((datetime.now(UTC).astimezone(), direction, flow, data))

    def close(self) -> None:
        """Writes what waits and closes the file. Idempotent."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._waiting.put(None)
        self._thread.join()

    def _write_all(self) -> None:
        try:
            with self._file:
                while self._write_batch(self._waiting.get()):
                    self._file.flush()
                    self._closing.wait(BATCH_PAUSE)
        except Exception:
            log.exception("the SIP trace %s ends here", self.path)
            self._closing.set()

    def _write_batch(self, item: tuple[datetime, Direction, Flow, bytes] | None) -> bool:
        """Writes ``item`` and what else waits; False once the end was among it."""
        while item is not None:
            self._file.write(_entry(*item))
            lost, self._lost = self._lost, 0
            if lost:
                self._file.write(f"---- {lost} messages lost: they came faster than the disk takes them\n\n")
            try:
                item = self._waiting.get_nowait()
            except queue.Empty:
                return True
        return False


def _entry(when: datetime, direction: Direction, flow: Flow, data: bytes) -> str:
    arrow = "->" if direction == "sent" else "<-"
    head = (
        f"---- {when.isoformat(sep=' ', timespec='microseconds')} {direction} {flow.transport} "
        f"{join(flow.local)} {arrow} {join(flow.remote)}, {len(data)} bytes\n"
    )
    text = redact(data).replace("\r\n", "\n").rstrip("\n")
    return f"{head}{text}\n\n"
