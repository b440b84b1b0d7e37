"""SIPp runs a scripted peer and gives its own verdict on whether the script was followed."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from tests.interop.kit.ports import HOST, free_ports, is_bound
from tests.interop.kit.process import Program, ProgramError
from tests.interop.kit.programs import require
from tests.interop.kit.scenario import Scenario

__all__ = ["Sipp"]


class Sipp:
    """One run of one scenario."""

    def __init__(
        self, program: Program, scenario: Scenario, port: int, folder: Path, transport: str, host: str = HOST
    ) -> None:
        self.program = program
        self.scenario = scenario
        self.port = port
        self._folder = folder
        self._transport = transport
        self._host = f"[{host}]" if ":" in host else host

    @classmethod
    async def start(
        cls,
        folder: Path,
        scenario: Scenario,
        *,
        target: str = "",
        user: str = "service",
        transport: Literal["udp", "tcp"] = "udp",
        calls: int = 1,
        timeout: float = 40.0,
        retransmit: bool = True,
        strict: bool = True,
        host: str = HOST,
    ) -> Sipp:
        """Start a scenario; a scripted server is listening when this returns.

        Args:
            folder: for its logs.
            scenario: the script; its XML stays in ``folder``.
            target: ``host:port`` that a scripted client calls; empty for a server.
            user: user part that a scripted client calls (``[service]`` in the scenario).
            transport: UDP, or TCP with one connection.
            calls: how many calls to handle before it ends.
            timeout: seconds after which the run fails.
            retransmit: ``False`` switches off SIPp's own retransmissions and its discarding of received ones,
                for scripts about retransmission.
            strict: ``False``: a message that the script does not expect is passed over, instead of failing it.
            host: the address that it uses: IPv4 or IPv6.
        """
        executable = require("sipp")
        port = free_ports()
        folder.mkdir(parents=True)
        (folder / "scenario.xml").write_text(scenario.xml())
        argv = [executable, "-sf", "scenario.xml", "-i", host, "-p", str(port), "-nostdin"]
        argv += ["-m", str(calls), "-l", str(calls), "-s", user, "-t", "u1" if transport == "udp" else "t1"]
        argv += ["-mp", str(free_ports(4)), "-timeout", f"{round(timeout)}s", "-timeout_error"]
        argv += ["-trace_msg", "-message_file", "messages.log", "-trace_err", "-error_file", "errors.log"]
        argv += ["-message_overwrite", "false", "-error_overwrite", "false"]
        if not retransmit:
            argv.append("-nr")
        if not strict:
            argv += ["-default_behaviors", "all,-abortunexp"]
        if not scenario.server:
            argv.append(target)
        program = Program(f"sipp-{scenario.name}", argv, folder, environment={"TERM": "dumb"})
        sipp = cls(program, scenario, port, folder, transport, host)
        if scenario.server:
            try:
                await program.ready(lambda: is_bound(port, "udp" if transport == "udp" else "tcp"))
            except ProgramError as error:
                raise ProgramError(f"{error}\n{sipp.errors()}") from None
        return sipp

    def uri(self, user: str = "service") -> str:
        """Where it can be called without a proxy in between."""
        return f"sip:{user}@{self._host}:{self.port}" + (";transport=tcp" if self._transport == "tcp" else "")

    def messages(self) -> str:
        """Every message it sent and received, with times."""
        return _text(self._folder / "messages.log")

    def received(self, start: str) -> int:
        """How many messages it received whose first line begins with ``start``."""
        blocks = self.messages().split("message received")[1:]
        return sum(block.partition("\n\n")[2].lstrip().startswith(start) for block in blocks)

    def errors(self) -> str:
        """What it complained about."""
        return _text(self._folder / "errors.log")

    async def finished(self, *, timeout: float = 45.0) -> None:
        """Wait for the end of the scenario.

        Raises:
            ProgramError: a message came that the script does not expect, or one did not come.
        """
        code = await self.program.exited(timeout=timeout)
        if code != 0:
            raise ProgramError(f"scenario {self.scenario.name} failed with {code}:\n{self.errors()}\n{self.messages()}")

    async def stop(self) -> None:
        await self.program.stop()


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""
