"""The one door to the C library: a timer to wait on, and datagram calls that take addresses of memory.

CPython's `socket` builds an object for every length, address and control message, and drops the interpreter lock around
every call, after which a busy thread may keep it for milliseconds. These calls take references prepared beforehand,
keep the lock for the microseconds they last, and let the kernel write lengths, source addresses and receive times into
arrays. Linux, 64 bit; elsewhere `AVAILABLE` is False and the `socket` module does the work.

The datagram calls declare no argument types, since converting six arguments costs a microsecond: they take `int` for
C's ``int``, and a `reference` for an address.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "AVAILABLE",
    "DONT_WAIT",
    "SO_TIMESTAMPNS",
    "TimerDescriptor",
    "addresses",
    "quick_system_call",
    "receive_message",
    "reference",
    "send_to",
    "system_call",
]

AVAILABLE: Final = sys.platform == "linux" and ctypes.sizeof(ctypes.c_void_p) == 8
"""Whether this module's functions may be called."""

SO_TIMESTAMPNS: Final = 35
"""Socket option and control message type: nanosecond receive times (socket(7)); absent from the socket module."""

DONT_WAIT: Final = 0x40
"""``MSG_DONTWAIT``."""

TIMER_NONBLOCK_CLOEXEC: Final = 0o4000 | 0o2000000
TIMER_ABSOLUTE: Final = 1


class _TimeSpec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _TimerSpec(ctypes.Structure):
    _fields_ = (("interval", _TimeSpec), ("first", _TimeSpec))


_library = ctypes.PyDLL(None, use_errno=True) if AVAILABLE else None

if _library is not None:
    _datagrams = ctypes.PyDLL(None)
    receive_message = _datagrams.recvmsg
    """``recvmsg(descriptor, reference to a msghdr, flags)``: bytes received, or -1."""
    receive_message.restype = ctypes.c_ssize_t
    send_to = _datagrams.sendto
    """``sendto(descriptor, reference, bytes, flags, reference to a sockaddr, its bytes)``: bytes sent, or -1."""
    send_to.restype = ctypes.c_ssize_t
    system_call = ctypes.CDLL(None, use_errno=True).syscall
    """``syscall(number, ...)`` with six arguments, without the interpreter's lock."""
    quick_system_call = ctypes.PyDLL(None, use_errno=True).syscall
    """The same, with the lock."""
    for _call in (system_call, quick_system_call):
        _call.argtypes = (ctypes.c_long,) * 7
        _call.restype = ctypes.c_long


def reference(address: int) -> Any:
    """What a datagram call takes for an address of memory, which must outlive it."""
    return ctypes.byref(ctypes.c_char.from_address(address))


def addresses(array: np.ndarray[tuple[int, ...], np.dtype[Any]]) -> NDArray[np.uint64]:
    """Where in memory each row of an array begins."""
    return np.arange(len(array), dtype=np.uint64) * np.uint64(array.strides[0]) + np.uint64(array.ctypes.data)


class TimerDescriptor:
    """A timerfd: readable at ``first`` and every ``interval`` seconds after it, whatever the reader does meanwhile."""

    def __init__(self, first: float, interval: float) -> None:
        """``first`` on the clock of `time.monotonic`, seconds; ``interval`` 0: once only.

        Raises:
            OSError: the system has no such timer, or no descriptor left.
        """
        if _library is None:
            raise OSError("no timerfd on this system")
        descriptor: int = _library.timerfd_create(time.CLOCK_MONOTONIC, TIMER_NONBLOCK_CLOEXEC)
        if descriptor < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed")
        self._descriptor = descriptor
        try:
            self.set(first, interval)
        except OSError:
            os.close(descriptor)
            raise

    def fileno(self) -> int:
        """The descriptor, to be watched for reading."""
        return self._descriptor

    def set(self, first: float, interval: float) -> None:
        """From now on at these times; an expiration that was not taken is forgotten.

        Raises:
            OSError: not a time.
        """
        spec = _TimerSpec(_time_spec(interval), _time_spec(first))
        if _library is None or _library.timerfd_settime(self._descriptor, TIMER_ABSOLUTE, ctypes.byref(spec), None) < 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime failed")

    def acknowledge(self) -> bool:
        """Takes the expirations, so that the descriptor is not readable before the next one. False: there is none."""
        try:
            os.read(self._descriptor, 8)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        """Gives the descriptor back."""
        os.close(self._descriptor)


def _time_spec(seconds: float) -> _TimeSpec:
    nanoseconds = round(seconds * 1e9)
    return _TimeSpec(nanoseconds // 1_000_000_000, nanoseconds % 1_000_000_000)
