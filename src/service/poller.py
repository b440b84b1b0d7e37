"""The thread in which gRPC waits for its completions: it shall not push the event loop off its core."""

from __future__ import annotations

import contextlib
import os
import sys
import threading

__all__ = ["calm_pollers", "poller_threads"]

THREAD = "(_poll_wrapper)"
"""What :mod:`threading` calls it, by its target, and gRPC nothing else."""


def poller_threads() -> list[int]:
    """gRPC's pollers in this process, by the kernel's id; one, once grpc.aio is in use."""
    return [
        thread.native_id
        for thread in threading.enumerate()
        if thread.name.endswith(THREAD) and thread.native_id is not None
    ]


def calm_pollers() -> None:
    """Makes them batch jobs (SCHED_BATCH), where the system knows such.

    A batch job that wakes up waits until the core is left to it. So the fifty streams that are written to at one tick
    are told of together when the loop is done, instead of the poller cutting in after each. Nothing is told later than
    before: the loop that it tells is what it waits for.
    """
    if sys.platform != "linux":
        return
    for thread in poller_threads():
        with contextlib.suppress(OSError):  # a container's rules, or the thread has just ended
            os.sched_setscheduler(thread, os.SCHED_BATCH, os.sched_param(0))
