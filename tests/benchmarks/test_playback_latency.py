"""How soon a wav is heard: what is computed, and one small run through a server, a far end and a client."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

Script = Callable[[str], ModuleType]


def test_percentiles_and_verdict(script: Script) -> None:
    latency = script("playback_latency")
    window = {"calls": 3, "ticks": 9, "missed": 0, "steal": 0.0}
    rows = latency.figures({**window, "times": {"start": [10.0] * 99 + [90.0], "silence": [50.0] * 3}})
    assert [(row["what"], row["p50_ms"], row["max_ms"]) for row in rows] == [("start", 10, 90), ("silence", 50, 50)]
    assert latency.verdict(rows) == "p99 beyond 40 ms: start at 3 calls 90 ms, silence at 3 calls 50 ms."
    assert "within 40 ms" in latency.verdict([{**rows[0], "p99_ms": 39.0}])


@pytest.mark.long
def test_a_small_run(script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "report.json"
    script("playback_latency").main(["--calls", "1", "3", "--rounds", "2", "--json", str(report)])
    assert "silence" in capsys.readouterr().out
    windows = json.loads(report.read_text())["windows"]
    assert [window["calls"] for window in windows] == [1, 3]
    for window in windows:
        assert len(window["times"]["start"]) == len(window["times"]["silence"]) == 2
        assert all(value > 0 for values in window["times"].values() for value in values)
