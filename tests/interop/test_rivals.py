"""baresip as a sender of `benchmarks/rtp_jitter.py`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.interop.kit.programs import require

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "rtp_jitter.py"


@pytest.mark.interop
def test_baresip_is_measured_beside_the_engine(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    options = ["--calls", "2", "--seconds", "2", "--rounds", "1", "--no-bare", "--rival", "baresip"]
    files = ["--baresip", require("baresip"), "--json", str(report), "--png", str(tmp_path / "plot.png")]
    subprocess.run([sys.executable, str(SCRIPT), *options, *files], check=True, capture_output=True, timeout=120)
    windows = json.loads(report.read_text())["windows"]
    assert [found["sender"] for found in windows] == ["rows", "baresip"]
    assert [found["streams"] for found in windows] == [2, 2]
    assert all(found["cpu_ms_per_call_second"] > 0 for found in windows)
