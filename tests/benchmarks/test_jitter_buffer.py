"""The table of the jitter buffer: virtual time, so its figures are the same everywhere."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

Script = Callable[[str], ModuleType]


def measured(script: Script, *arguments: str, loss: float, delay: float) -> dict[str, Any]:
    table = script("jitter_buffer")
    options = table.parser().parse_args(["--calls", "2", "--warm-up", "10", "--seconds", "3", *arguments])
    row: dict[str, Any] = asyncio.run(table.measure(options, loss, delay))
    return row


def test_a_frame_tells_which_packet_it_was(script: Script) -> None:
    table = script("jitter_buffer")
    codes = [table.written(number) for number in (0, 99, 100, 149, 150, 70_000)]
    frames = [table.decode(table.np.frombuffer(code, "u1"), table.Law.PCMU) for code in codes]
    assert [table.read(frame) for frame in frames] == [0, 99, 100, 149, 150, 70_000]
    frames[0][7] += 8
    assert table.read(frames[0]) is None
    assert table.read(table.np.zeros(160, "i2")) is None


def test_what_the_network_lost_is_filled_in_and_nothing_else(script: Script) -> None:
    row = measured(script, loss=5, delay=60)
    assert row["sent"] == 300
    assert 0 < row["lost"] == row["filled"]
    assert row["beyond"] == 0
    assert row["network_p99_ms"] <= row["heard_after_ms"] <= row["network_p99_ms"] + 20
    assert row["heard_after_ms"] <= row["heard_after_ms_worst_call"]


def test_a_buffer_that_is_too_short_shows(script: Script) -> None:
    row = measured(script, "--least", "0", "--most", "20", loss=0, delay=100)
    assert row["lost"] == 0
    assert row["beyond"] > 0


@pytest.mark.long
def test_the_script_prints_the_table_and_writes_it(
    script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report.json"
    arguments = ["--calls", "2", "--seconds", "1", "--warm-up", "1", "--loss", "5", "--delay", "0", "20", "--in-order"]
    script("jitter_buffer").main([*arguments, "--json", str(report)])
    assert "5 %, 0-20 ms" in capsys.readouterr().out
    assert [row["delay_ms"] for row in json.loads(report.read_text())["rows"]] == [0, 20]
