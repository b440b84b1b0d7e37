"""What the benchmarks share: the machine they ran on, tables, JSON, plots, and what CPU time was used."""

from __future__ import annotations

import json
import os
import platform
import resource
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "Window",
    "machine",
    "median_of",
    "print_table",
    "raise_file_limit",
    "run_benchmark",
    "steal_seconds",
    "write_json",
]


def machine() -> dict[str, Any]:
    """Facts to print beside a figure."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def steal_seconds() -> float:
    """CPU time that the host of a virtual machine took away so far, all cores; 0.0 where nobody tells."""
    try:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    except OSError:
        return 0.0
    return int(fields[8]) / os.sysconf("SC_CLK_TCK") if len(fields) > 8 else 0.0


def run_benchmark(main: Callable[[], object]) -> None:
    """Runs a benchmark. Ctrl-C and SIGTERM end it and what it has started, in one line, with exit code 130."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None


def raise_file_limit(wanted: int) -> None:
    """Lets this process open as many files as it may, at least ``wanted``.

    Raises:
        SystemExit: it may not.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= wanted:
        return
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise SystemExit(f"{wanted} open files are needed and {hard} allowed: raise the limit (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@dataclass(slots=True)
class Window:
    """CPU and wall time between `begin` and `end`."""

    cpu: float = 0.0
    wall: float = 0.0

    def begin(self) -> None:
        """Starts measuring."""
        self.cpu, self.wall = time.process_time(), time.monotonic()

    def end(self) -> None:
        """Stops measuring; `cpu` and `wall` are seconds then."""
        self.cpu, self.wall = time.process_time() - self.cpu, time.monotonic() - self.wall


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Left-aligned first column, right-aligned others."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    for row in (head, *rows):
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        cells[0] = row[0].ljust(widths[0])
        print("  ".join(cells))


def median_of(values: Sequence[float]) -> float:
    """The median; 0.0 of nothing."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    if not ordered:
        return 0.0
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def write_json(path: Path, content: object) -> None:
    """Writes a report, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")
