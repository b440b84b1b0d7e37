"""The stack under test as its users run it: ``sipcore serve`` in a process of its own."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.interop.kit.ports import HOST
from tests.interop.kit.process import Program

__all__ = ["SipServer"]

_READY = re.compile(r"^ready grpc=(?P<grpc>\S+) sip-udp=(?P<sip>\S+)", re.MULTILINE)


class SipServer:
    """A running server on free ports of the loopback address."""

    def __init__(self, program: Program, trace: Path) -> None:
        self.program = program
        self.trace = trace
        """Every SIP message that it sent or received, readable."""

    @classmethod
    async def start(cls, folder: Path, arguments: Sequence[str] = ()) -> SipServer:
        """Start one and wait for its ``ready`` line.

        Args:
            folder: for its logs.
            arguments: more options of ``sipcore serve``.
        """
        folder.mkdir(parents=True)
        trace = folder / "sip-trace.log"
        executable = Path(sys.executable).with_name("sipcore")
        argv = [str(executable), "serve", "--grpc", f"{HOST}:0", "--sip", f"{HOST}:0", "--log-level", "debug"]
        argv += ["--trace-sip", str(trace), *arguments]
        server = cls(Program("sipcore", argv, folder), trace)
        await server.program.ready(lambda: _READY.search(server.program.log()) is not None, timeout=20)
        return server

    @property
    def grpc(self) -> str:
        """``host:port`` that gRPC clients connect to."""
        return self._bound("grpc")

    @property
    def sip(self) -> str:
        """``host:port`` of SIP, UDP and TCP."""
        return self._bound("sip")

    async def stop(self) -> None:
        await self.program.stop(grace=6.0)

    def _bound(self, name: str) -> str:
        found = _READY.search(self.program.log())
        assert found is not None
        return found[name]
