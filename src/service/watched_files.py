"""Files that may be replaced while the server runs: certificates, tokens.

They are looked at once a second, off the loop: nothing is read when a client connects, and a file system that hangs
holds up nobody. What cannot be used is told of, once, and what was read before stays in use.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

__all__ = ["FileProblem", "WatchedFiles", "read_file"]

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""How often the files are looked at."""

Content = TypeVar("Content")
Signature = tuple[tuple[int, int, int] | None, ...]
"""Inode, time of change and size of each file; None for one that is not there."""


class FileProblem(Exception):
    """A file cannot be used; ``str()`` is one line that names it and holds nothing of what is in it."""


def read_file(path: Path) -> bytes:
    """What the file holds.

    Raises:
        FileProblem: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        raise FileProblem(f"cannot read {path}: {reason[:1].lower()}{reason[1:]}") from error


class WatchedFiles(Generic[Content]):
    """Some files that are used together.

    Args:
        paths: all of them.
        load: reads and checks them; raises :class:`FileProblem`. Called in a thread but for the first time.
        use: gets what was read; called on the loop's thread.

    Raises:
        FileProblem: they cannot be used to begin with.
    """

    def __init__(
        self, paths: Sequence[Path], load: Callable[[], Content], use: Callable[[Content], None] = lambda _: None
    ) -> None:
        self._paths = tuple(paths)
        self._load = load
        self._use = use
        self._seen = _signature(self._paths)
        self._told = ""
        self._looking: asyncio.Task[None] | None = None
        use(load())

    def start(self) -> None:
        """From now on they are looked at again and again."""
        self._looking = asyncio.create_task(self._keep_looking())

    def stop(self) -> None:
        """Not any more. Idempotent."""
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None

    async def look(self) -> None:
        """Takes what is in the files where they have changed and can be used."""
        seen = await asyncio.to_thread(_signature, self._paths)
        if seen == self._seen:
            return
        try:
            content = await asyncio.to_thread(self._load)
        except FileProblem as problem:
            # Not remembered as seen: files that are replaced one after the other fit again in a moment.
            if str(problem) != self._told:
                self._told = str(problem)
                logger.warning("%s; what was there before stays in use", problem)
            return
        self._seen, self._told = seen, ""
        self._use(content)
        logger.info("read again: %s", ", ".join(map(str, self._paths)))

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self.look()
            except Exception:
                logger.exception("looking at %s failed", ", ".join(map(str, self._paths)))


def _signature(paths: Sequence[Path]) -> Signature:
    return tuple(map(_state_of, paths))


def _state_of(path: Path) -> tuple[int, int, int] | None:
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_ino, state.st_mtime_ns, state.st_size
