"""Many system calls in one: Linux's io_uring, for a round of datagrams.

A call into the kernel by way of Python costs about as much again as what the kernel does. Here a round is an array of
operations, made once and changed by column; the kernel runs all of them in one system call, without the interpreter's
lock, and answers with an array of results. Nothing is ever in flight between two calls: every operation is one that the
kernel does or refuses at once (``MSG_DONTWAIT``), and `Batch.run` waits for all of them.

Needs Linux 6.1, and a system that allows it: containers often do not. Callers keep the way of one call each for where
`Batch.run` returns None.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import mmap
import os
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rtp import kernel

__all__ = ["OPERATION", "RECEIVE_MESSAGE", "SEND", "Batch", "operations"]

logger = logging.getLogger(__name__)

ENTRIES: Final = 256
"""Operations of one system call, about a millisecond; longer rounds take several."""
FEW: Final = 32
"""Up to so many operations the interpreter's lock is kept: a busy thread would take it for longer than they last."""

SETUP, ENTER = 425, 426
"""Numbers of the system calls, the same on every architecture."""
SUBMIT_ALL, SINGLE_ISSUER, DEFER_TASK_RUN = 1 << 7, 1 << 12, 1 << 13
GET_EVENTS = 1
SINGLE_MMAP = 1
ENTRIES_OFFSET = 0x10000000

RECEIVE_MESSAGE: Final = 10
"""``recvmsg``: ``address`` is that of a msghdr, and ``length`` 1."""
SEND: Final = 26
"""``sendto``."""

OPERATION = np.dtype(
    [
        ("code", np.uint8),
        ("flags", np.uint8),
        ("priority", np.uint16),
        ("descriptor", np.int32),
        ("peer", np.uint64),
        ("address", np.uint64),
        ("length", np.uint32),
        ("message_flags", np.uint32),
        ("index", np.uint64),
        ("buffer", np.uint16),
        ("personality", np.uint16),
        ("peer_length", np.uint16),
        ("pad", np.uint16),
        ("rest", np.uint64, 2),
    ]
)
"""``struct io_uring_sqe`` (64 bytes)."""

COMPLETION_BYTES = 16
"""``struct io_uring_cqe``: the operation's number in eight bytes, its result in four, and flags in four."""

_ORDER = np.arange(ENTRIES, dtype=np.uint32)
_ORDER_TWICE = np.tile(_ORDER, 2)


def operations(count: int, code: int) -> NDArray[np.void]:
    """``count`` operations of a kind that do not wait, numbered; to be filled in by column."""
    made = np.zeros(count, OPERATION)
    made["code"] = code
    made["message_flags"] = kernel.DONT_WAIT
    made["index"] = np.arange(count)
    return made


class Batch:
    """Runs operations; to be used by one thread, and opened by its first `run`."""

    def __init__(self) -> None:
        self._ring: _Ring | None = None
        self._refused = not kernel.AVAILABLE

    def run(self, operations: NDArray[np.void]) -> NDArray[np.int64] | None:
        """Results in the order of the operations, below zero where one failed; None where the system has no io_uring.

        ``operations`` must be numbered by their position, as `operations` does.
        """
        if self._refused:
            return None
        results = np.zeros(len(operations), np.int64)
        try:
            if self._ring is None:
                self._ring = _Ring()
            for start in range(0, len(operations), ENTRIES):
                self._ring.run(operations[start : start + ENTRIES], results)
        except OSError as error:
            logger.info("io_uring is not used: %s", error)
            self.close()
            return None
        return results

    def close(self) -> None:
        """Gives the ring back; what is run after it returns None."""
        self._refused = True
        if self._ring is not None:
            self._ring.close()
            self._ring = None


class _Ring:
    """The memory that is shared with the kernel: entries by position, results by completion (io_uring(7))."""

    def __init__(self) -> None:
        """
        Raises:
            OSError: the system has none, an old one, or does not allow it.
        """
        parameters = (ctypes.c_uint32 * 30)()
        parameters[2] = SUBMIT_ALL | SINGLE_ISSUER | DEFER_TASK_RUN
        self._descriptor = kernel.system_call(SETUP, ENTRIES, ctypes.addressof(parameters), 0, 0, 0, 0)
        if self._descriptor < 0:
            raise _last_error("io_uring_setup")
        try:
            submission, completion = parameters[10:20], parameters[20:30]
            size, answers = submission[6] + 4 * parameters[0], parameters[1]
            if not parameters[5] & SINGLE_MMAP or parameters[0] != ENTRIES:
                raise OSError(errno.ENOSYS, "an io_uring of another shape")
            shared = self._map(max(size, completion[5] + COMPLETION_BYTES * answers), 0)
            entries = self._map(ENTRIES * OPERATION.itemsize, ENTRIES_OFFSET)
        except BaseException:
            os.close(self._descriptor)
            raise
        words = np.frombuffer(shared, np.uint32, len(shared) // 4)
        self._submitted, self._answered = words[submission[1] // 4 :][:1], words[completion[1] // 4 :][:1]
        self._taken = words[completion[0] // 4 :][:1]
        self._order = words[submission[6] // 4 :][:ENTRIES]
        self._entries = np.frombuffer(entries, np.uint64).reshape(ENTRIES, -1)
        self._completions = np.frombuffer(shared, np.int64, 2 * answers, completion[5]).reshape(answers, 2)

    def _map(self, size: int, offset: int) -> mmap.mmap:
        return mmap.mmap(self._descriptor, size, mmap.MAP_SHARED | mmap.MAP_POPULATE, offset=offset)

    def run(self, operations: NDArray[np.void], results: NDArray[np.int64]) -> None:
        """At most `ENTRIES` of them; ``results`` is indexed by their numbers.

        Raises:
            OSError: the kernel does not take them.
        """
        count = len(operations)
        tail = int(self._submitted[0])
        self._entries[:count] = operations.view(np.uint64).reshape(count, -1)
        first = -tail % ENTRIES  # so that from where the kernel stands, the entries come from the first on
        self._order[:] = _ORDER_TWICE[first : first + ENTRIES]
        self._submitted[0] = (tail + count) & 0xFFFFFFFF
        enter = kernel.system_call if count > FEW else kernel.quick_system_call
        submitted, head = 0, int(self._taken[0])
        while True:
            ready = (int(self._answered[0]) - head) & 0xFFFFFFFF
            if submitted == count and ready == count:
                break
            taken = enter(ENTER, self._descriptor, count - submitted, count - ready, GET_EVENTS, 0, 0)
            if taken < 0 and ctypes.get_errno() != errno.EINTR:
                raise _last_error("io_uring_enter")
            submitted += max(taken, 0)
        places = (_ORDER[:count] + np.uint32(head)) & np.uint32(len(self._completions) - 1)
        answers = self._completions.take(places, axis=0)
        results[answers[:, 0]] = answers.view(np.int32)[:, 2]
        self._taken[0] = (head + count) & 0xFFFFFFFF

    def close(self) -> None:
        """Closes the descriptor; the memory goes with the arrays."""
        os.close(self._descriptor)


def _last_error(name: str) -> OSError:
    code = ctypes.get_errno()
    return OSError(code, f"{name}: {os.strerror(code)}")
