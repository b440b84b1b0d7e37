"""The ``sipcore`` program as a child process of a test."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

__all__ = ["PROGRAM", "RunningServer", "run_server"]

PROGRAM = (sys.executable, "-c", "from service.cli import main; main()")


@dataclass(slots=True)
class RunningServer:
    """``sipcore serve``, ready."""

    process: asyncio.subprocess.Process
    bound: dict[str, str]
    """What the ready line names: ``grpc``, ``sip-udp``, ``sip-tcp``, ``rtp``."""
    errors: str = ""
    """Its standard error, once it has ended."""
    killed: bool = False

    async def kill(self) -> None:
        """Ends it as the kernel does when memory runs out: at once, with no chance to write anything."""
        self.killed = True
        self.process.kill()
        _, errors = await self.process.communicate()
        self.errors = errors.decode()


@asynccontextmanager
async def run_server(*options: str, **variables: str) -> AsyncIterator[RunningServer]:
    """Starts the server on free loopback ports, ends it behind the block, and checks that it left well."""
    process = await asyncio.create_subprocess_exec(
        *PROGRAM,
        *("serve", "--grpc", "127.0.0.1:0", "--sip", "127.0.0.1:0", "--rtp-ports", "40000-40999"),
        *options,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **variables},
        limit=2**20,
    )
    assert process.stdout is not None
    try:
        line = (await asyncio.wait_for(process.stdout.readline(), 30)).decode()
        if not line.startswith("ready "):
            raise AssertionError((line, await process.communicate()))
        server = RunningServer(process, dict(item.split("=", 1) for item in line.split()[1:]))
        yield server
        if server.killed:
            return
        if process.returncode is None:
            process.terminate()
        _, errors = await asyncio.wait_for(process.communicate(), 10)
        server.errors = errors.decode()
        assert process.returncode == 0, server.errors
        assert "Traceback" not in server.errors, server.errors
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
