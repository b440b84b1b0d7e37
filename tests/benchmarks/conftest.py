"""The scripts of `benchmarks/`, imported as they import each other: run small, looked at for shape, never for speed."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Imports a script by its name."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def small_run(folder: Path, *options: str) -> list[dict[str, Any]]:
    """The windows of a run of ``rtp_jitter.py`` with two calls. A machine that is so busy that nothing arrives in a
    window, which the script says, gets a longer one."""
    report = folder / "report.json"
    files = ["--json", str(report), "--png", str(folder / "plot.png")]
    for seconds in ("2", "6", "20"):
        shape = ["--calls", "2", "--seconds", seconds, "--rounds", "1", "--no-bare"]
        command = [sys.executable, str(BENCHMARKS / "rtp_jitter.py"), *options, *shape, *files]
        done = subprocess.run(command, capture_output=True, text=True)
        if "in the window" not in done.stderr:
            break
    assert done.returncode == 0, done.stderr
    windows: list[dict[str, Any]] = json.loads(report.read_text())["windows"]
    return windows
