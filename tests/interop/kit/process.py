"""One outside program: started without a shell, watched until it is ready, stopped by its process id."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

__all__ = ["Program", "ProgramError", "eventually"]

POLL_INTERVAL = 0.02
"""Seconds between two looks at a condition that nothing reports by itself."""


class ProgramError(AssertionError):
    """A program did not start, did not become ready, or ended with a code nobody expected."""


async def eventually(condition: Callable[[], bool], *, timeout: float, what: str) -> None:
    """Wait until ``condition`` holds.

    Raises:
        ProgramError: it did not hold within ``timeout`` seconds; ``what`` says what was waited for.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise ProgramError(f"waited {timeout:g} s in vain for {what}")
        await asyncio.sleep(POLL_INTERVAL)


class Program:
    """A child process whose output goes to a file.

    Args:
        name: for messages and file names.
        argv: the command, no shell.
        folder: working directory; ``<name>.log`` in it gets standard output and error.
        environment: added to this process's own.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        folder: Path,
        *,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.argv = list(argv)
        self.log_path = folder / f"{name}.log"
        with self.log_path.open("wb") as log:
            # Its own session: a signal for the test run's process group must not forestall the fixture.
            self._process = subprocess.Popen(
                self.argv,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Exit code; negative signal number; ``None`` while it runs."""
        return self._process.poll()

    def log(self) -> str:
        """What it has printed so far."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    async def ready(self, condition: Callable[[], bool], *, timeout: float = 10.0) -> None:
        """Wait until ``condition`` holds, and fail at once when the program ends before that."""

        def ready_or_dead() -> bool:
            if self.returncode is not None:
                raise ProgramError(f"{self.name} ended with {self.returncode} before it was ready:\n{self.log()}")
            return condition()

        try:
            await eventually(ready_or_dead, timeout=timeout, what=f"{self.name} to be ready")
        except ProgramError as error:
            raise ProgramError(f"{error}\n{self.log()}") from None

    async def exited(self, *, timeout: float) -> int:
        """Wait for the program to end by itself.

        Returns:
            its exit code.
        """
        await eventually(lambda: self.returncode is not None, timeout=timeout, what=f"{self.name} to end")
        code = self.returncode
        assert code is not None
        return code

    def send_signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def signal_all(self, number: signal.Signals) -> None:
        """To the program and its children."""
        os.killpg(self._process.pid, number)

    async def stop(self, *, grace: float = 3.0) -> int:
        """SIGTERM, and SIGKILL to its whole session when it is still there after ``grace`` seconds.

        Returns:
            its exit code.
        """
        if self.returncode is None:
            self._process.terminate()
            try:
                return await self.exited(timeout=grace)
            except ProgramError:
                os.killpg(self._process.pid, signal.SIGKILL)
        return await self.exited(timeout=5.0)
