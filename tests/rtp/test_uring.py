"""Batches of operations: each result in its place, and no batch where the system allows none."""

from __future__ import annotations

import ctypes
import errno
import threading

import pytest

from rtp import kernel
from rtp.uring import ENTRIES, Batch, operations

needs_uring = pytest.mark.skipif(Batch().run(operations(1, 0)) is None, reason="no io_uring on this system")


@needs_uring
def test_a_batch_tells_each_failure_by_its_position() -> None:
    batch = Batch()
    made = operations(3, 0)
    made["message_flags"] = 0  # which doing nothing does not know
    made["code"][1] = 255  # no such operation
    for _ in range(2 * ENTRIES):
        assert batch.run(made).tolist() == [0, -errno.EINVAL, 0]  # type: ignore[union-attr]
    batch.close()
    assert batch.run(made) is None


@needs_uring
def test_a_batch_is_of_one_thread_and_gives_up_in_another() -> None:
    batch, made, results = Batch(), operations(1, 0), []
    assert batch.run(made) is not None
    other = threading.Thread(target=lambda: results.append(batch.run(made)))
    other.start()
    other.join()
    assert results == [None]
    assert batch.run(made) is None


def test_where_the_system_has_no_rings_there_are_no_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Containers forbid them (EPERM), old kernels do not know them (ENOSYS)."""

    def refused(*_: int) -> int:
        ctypes.set_errno(errno.EPERM)
        return -1

    monkeypatch.setattr(kernel, "system_call", refused, raising=False)
    assert Batch().run(operations(1, 0)) is None
