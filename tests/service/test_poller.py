"""gRPC's poller thread, as a server leaves it."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

import pytest

from service.config import Endpoint, ServerSettings
from service.poller import poller_threads
from service.server import Server


def policies() -> Iterator[int]:
    for thread in poller_threads():
        with contextlib.suppress(ProcessLookupError):  # one of an earlier test, which has just ended
            yield os.sched_getscheduler(thread)


@pytest.mark.skipif(sys.platform != "linux", reason="policies are Linux's")
async def test_a_server_makes_grpcs_poller_a_batch_job_and_leaves_the_loop_as_it_is() -> None:
    before = os.sched_getscheduler(0)
    settings = ServerSettings.model_construct(grpc=Endpoint("127.0.0.1", 0), sip=Endpoint("127.0.0.1", 0))
    async with Server(settings):
        assert set(policies()) == {os.SCHED_BATCH}
        assert os.sched_getscheduler(0) == before
