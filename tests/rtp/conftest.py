"""What most tests of the engine begin with; some have an engine of their own."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from rtp import kernel
from rtp.engine import MediaEngine
from tests.rtp.kit import FarEnd


@pytest.fixture(params=[True, False], ids=["kernel", "portable"])
async def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[MediaEngine]:
    if not request.param:
        monkeypatch.setattr(kernel, "AVAILABLE", False)
    elif not kernel.AVAILABLE:
        pytest.skip("this system's C library is not used")
    engine = MediaEngine(ports=(20000, 59999), rng=random.Random())
    yield engine
    await engine.close()


@pytest.fixture
def far() -> Any:
    with FarEnd() as end:
        yield end
