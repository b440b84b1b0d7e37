"""`rtp_jitter.py`: what it makes of packets, what it says of them, and small runs of each of our senders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tests.benchmarks.conftest import small_run

Script = Callable[[str], ModuleType]

INVITE = """INVITE sip:far@127.0.0.1 SIP/2.0\r
Via: SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bK1\r
From: <sip:near@127.0.0.1>;tag=1\r
To: <sip:far@127.0.0.1>\r
Call-ID: {}\r
CSeq: 1 {}\r
Content-Length: 0\r
\r
"""


def test_packets_that_are_missing_are_told_by_second(script: Script) -> None:
    sequences = np.array([*range(65530, 65536), *range(100), *range(101, 150)])
    places = np.cumsum(np.concatenate(([0], (np.diff(sequences) + 0x8000 & 0xFFFF) - 0x8000)))
    count = len(sequences)
    measured = script("rtp_receiver").measure(np.zeros(count, int), 5.0 + places * 0.02, sequences, places * 160, 1)
    assert measured["sequence_gaps"] == 1
    assert measured["gaps_by_second"] == {2: 1}
    assert measured["deviation_ms"]["p50"] < 0.001


def window(**changed: Any) -> dict[str, Any]:
    figures = {
        "deviation_ms": {"p50": 0.1, "p90": 0.2, "p99": 0.5, "max": 2.0},
        "jitter_ms": {"median": 0.1, "max": 0.2},
        "lateness_ms_p99": 1.0,
        "cpu_ms_per_call_second": 0.5,
        "sequence_gaps": 0,
        "gaps_by_second": {},
        "missed_ticks": 0,
        "ticks": 100,
        "steal_cores": 0.0,
    }
    return {"sender": "rows", "calls": 10, "streams": 10, **figures, **changed}


def test_the_verdict_says_whether_it_is_free_of_gaps_and_where_not(script: Script) -> None:
    report = script("rtp_report")
    good = report.verdict(report.summarize([window(grown_kib=512)]), "rows", 10)
    assert "holds 10 calls here: no tick missed, no packet missing" in good
    assert "grew by 0.5 MiB" in good
    gaps = report.summarize([window(sequence_gaps=4, gaps_by_second={"7": 4}), window()])
    assert "does not hold 10 calls" in (bad := report.verdict(gaps, "rows", 10))
    assert "7 (4)" in bad


def test_a_rival_has_no_ticks_and_is_compared(script: Script, capsys: pytest.CaptureFixture[str]) -> None:
    report = script("rtp_report")
    rival = window(sender="pjsua", ticks=0, cpu_ms_per_call_second=1.0)
    assert report.cells(rival)[report.HEAD.index("missed")] == "-"
    report.print_summary(report.summarize([window(), rival]))
    assert "rows / pjsua: deviation p99, ms x 1.00, jitter, ms x 1.00, CPU ms per call-second x 0.50" in (
        capsys.readouterr().out
    )


def test_each_call_of_a_rival_gets_a_socket_of_its_own(script: Script) -> None:
    callee = script("rtp_rivals").Callee("127.0.0.1", [("127.0.0.1", 4000), ("127.0.0.1", 4002)], "PCMA")
    try:
        first, again, second = (callee.hear(INVITE.format(name, "INVITE")) for name in "aab")
        assert first == again
        assert "m=audio 4000 RTP/AVP 8" in first
        assert "m=audio 4002 RTP/AVP 8" in second
        assert callee.hear(INVITE.format("c", "INVITE")).startswith("SIP/2.0 486")
        assert callee.up == 0
        assert callee.hear(INVITE.replace("INVITE", "ACK", 1).format("a", "ACK")) == ""
        assert callee.up == 1
        assert callee.hear(INVITE.replace("INVITE", "BYE", 1).format("a", "BYE")).startswith("SIP/2.0 200")
        assert callee.hear("SIP/2.0 200 OK\r\n\r\n") == callee.hear("nonsense") == ""
    finally:
        callee.close()


@pytest.mark.long
@pytest.mark.parametrize("engine", ["rows", "live", "recorded"])
def test_a_small_run(engine: str, tmp_path: Path) -> None:
    (found,) = small_run(tmp_path, "--engine", engine)
    assert found["sender"] == engine
    assert found["streams"] == 2
    assert found["packets"] > 2
    if engine == "live":
        assert found["live_dropped"] == 0
    if engine == "recorded":
        assert found["recordings_failed"] == 0
        assert found["recorded_seconds"]["least"] > 1
