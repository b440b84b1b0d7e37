"""SIPp as the other side of a benchmark, and what its statistics say."""

from __future__ import annotations

import csv
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

__all__ = ["HOST", "Sipp", "SippCounts", "free_port"]

HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class SippCounts:
    """Cumulative counters of one SIPp process."""

    succeeded: int
    failed: int
    retransmitted: int
    """Messages that SIPp sent again, or got again."""


def free_port() -> int:
    """A UDP port that nobody has bound."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


class Sipp:
    """A SIPp process with one of its built-in scenarios, in a folder of its own; ended when the block is left."""

    def __init__(self, scenario: str, *arguments: str) -> None:
        self._arguments = ("-sn", scenario, *arguments)
        self.port = free_port()

    def __enter__(self) -> Sipp:
        executable = shutil.which("sipp")
        if executable is None:
            sys.exit("sipp is not installed: apt-get install sip-tester")
        self._folder = tempfile.TemporaryDirectory()
        self._statistics = Path(self._folder.name) / "statistics.csv"
        self._process = subprocess.Popen(
            [
                executable,
                *self._arguments,
                *("-i", HOST, "-p", str(self.port), "-nostdin"),
                *("-trace_stat", "-stf", str(self._statistics), "-fd", "1"),
            ],
            cwd=self._folder.name,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._wait_until_bound()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.terminate()
        self._process.wait()
        self._folder.cleanup()

    def _wait_until_bound(self) -> None:
        """Until then datagrams come back as ICMP errors."""
        for _ in range(500):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                try:
                    probe.bind((HOST, self.port))
                except OSError:
                    return
            if self._process.poll() is not None:
                return
            time.sleep(0.01)
        raise TimeoutError(f"SIPp did not bind port {self.port}")

    def wait(self, seconds: float) -> bool:
        """Waits until SIPp has made its last call; False when that takes too long."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def counts(self) -> SippCounts:
        """What it has counted up to its last full second, or its end."""
        with self._statistics.open(newline="") as file:
            *_, last = csv.DictReader(file, delimiter=";")
        return SippCounts(int(last["SuccessfulCall(C)"]), int(last["FailedCall(C)"]), int(last["Retransmissions(C)"]))
