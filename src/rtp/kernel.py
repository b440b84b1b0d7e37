"""The one door to the C library: a timer to wait on, and datagram calls that take addresses of memory.

CPython's `socket` builds an object for every length, address and control message, and drops the interpreter lock around
every call, after which a busy thread may keep it for milliseconds. These calls take numbers prepared beforehand, keep
the lock for the microseconds they last, and let the kernel write lengths, source addresses and receive times into
arrays. Linux, 64 bit; elsewhere `AVAILABLE` is False and the `socket` module does the work.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from typing import Final

__all__ = ["AVAILABLE", "DONT_WAIT", "SO_TIMESTAMPNS", "TimerDescriptor", "receive_message", "send_to"]

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
    receive_message = _library.recvmsg
    """``recvmsg(descriptor, address of a msghdr, flags)``: bytes received, or -1."""
    receive_message.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
    receive_message.restype = ctypes.c_ssize_t
    send_to = _library.sendto
    """``sendto(descriptor, address, bytes, flags, address of a sockaddr, its bytes)``: bytes sent, or -1."""
    send_to.argtypes = (
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_uint32,
    )
    send_to.restype = ctypes.c_ssize_t


class TimerDescriptor:
    """A timerfd: readable at ``first`` and every ``interval`` seconds after it, whatever the reader does meanwhile."""

    def __init__(self, first: float, interval: float) -> None:
        """``first`` on the clock of `time.monotonic`, seconds.

        Raises:
            OSError: the system has no such timer, or no descriptor left.
        """
        if _library is None:
            raise OSError("no timerfd on this system")
        descriptor: int = _library.timerfd_create(time.CLOCK_MONOTONIC, TIMER_NONBLOCK_CLOEXEC)
        if descriptor < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed")
        self._descriptor = descriptor
        spec = _TimerSpec(_time_spec(interval), _time_spec(first))
        if _library.timerfd_settime(descriptor, TIMER_ABSOLUTE, ctypes.byref(spec), None) < 0:
            code = ctypes.get_errno()
            os.close(descriptor)
            raise OSError(code, "timerfd_settime failed")

    def fileno(self) -> int:
        """The descriptor, to be watched for reading."""
        return self._descriptor

    def acknowledge(self) -> None:
        """Takes the expirations, so that the descriptor is not readable before the next one."""
        try:
            os.read(self._descriptor, 8)
        except BlockingIOError:
            return

    def close(self) -> None:
        """Gives the descriptor back."""
        os.close(self._descriptor)


def _time_spec(seconds: float) -> _TimeSpec:
    nanoseconds = round(seconds * 1e9)
    return _TimeSpec(nanoseconds // 1_000_000_000, nanoseconds % 1_000_000_000)
