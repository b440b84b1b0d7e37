"""Fixtures of the interop tests; a failed test shows the logs of every program it started."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator
from pathlib import Path

import pytest

from tests.interop.kit.peers import Peers

_PEERS: pytest.StashKey[Peers] = pytest.StashKey()
_LOG_LIMIT = 20_000
"""Characters of each log that a failure report shows: its end."""


@pytest.fixture
async def peers(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Peers]:
    """The programs of one test; all of them are stopped when it ends."""
    async with Peers(tmp_path) as programs:
        request.node.stash[_PEERS] = programs
        yield programs


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put the logs into the report of a failed test, while the programs' folders are still known."""
    report = yield
    programs = item.stash.get(_PEERS, None)
    if programs is not None and report.failed:
        for name, text in programs.logs():
            report.sections.append((name, text[-_LOG_LIMIT:]))
    return report
