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
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the C library's calls, and with those of the `socket` module."""
    if not request.param:
        monkeypatch.setattr(kernel, "AVAILABLE", False)
    elif not kernel.AVAILABLE:
        pytest.skip("this system's C library is not used")


@pytest.fixture
async def engine(either_way: None) -> AsyncIterator[MediaEngine]:
    engine = MediaEngine(ports=(20000, 59999), rng=random.Random())
    yield engine
    await engine.close()


@pytest.fixture
def far() -> Any:
    with FarEnd() as end:
        yield end
