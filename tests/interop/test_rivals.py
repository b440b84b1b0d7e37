"""baresip as a sender of `benchmarks/rtp_jitter.py`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.conftest import small_run
from tests.interop.kit.programs import require


@pytest.mark.interop
def test_baresip_is_measured_beside_the_engine(tmp_path: Path) -> None:
    windows = small_run(tmp_path, "--rival", "baresip", "--baresip", require("baresip"))
    assert [found["sender"] for found in windows] == ["rows", "baresip"]
    assert [found["streams"] for found in windows] == [2, 2]
    assert all(found["cpu_ms_per_call_second"] > 0 for found in windows)
