"""Telephone events (RFC 4733): digits as named events on the audio's own clock.

Pure: the sender is asked once a tick what to send, the receiver is fed payloads and told when ticks pass.
"""

from __future__ import annotations

import struct
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rtp.jitter import FRAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["DIGITS", "EventReceiver", "EventSender", "EventToSend", "duration_samples", "event_code"]

DIGITS = "0123456789*#ABCD"
"""The digits by event code 0..15 (§3.2)."""

END_PACKETS = 3
"""The last packet of an event is sent three times (§2.5.1.4)."""

MAX_DURATION = 0xFFFF
"""Of one packet; a longer event is sent in segments (§2.5.1.3)."""

VOLUME = 10
"""-10 dBm0 (§2.3.4)."""

LOST_END_TICKS = 10
"""An event whose end packets were all lost is over when this many ticks brought nothing of it."""

SAMPLES_PER_MS = 8


def event_code(digit: str) -> int:
    """The event code of 0-9, ``*``, ``#``, A-D (or a-d).

    Raises:
        ValueError: no such digit.
    """
    code = DIGITS.find(digit.upper()) if len(digit) == 1 else -1
    if code < 0:
        raise ValueError(f"{digit!r} is not a DTMF digit (0-9, *, #, A-D)")
    return code


def duration_samples(milliseconds: int) -> int:
    """A time in whole frames, at least one, as samples."""
    return max(FRAME, -(-milliseconds * SAMPLES_PER_MS // FRAME) * FRAME)


@dataclass(frozen=True, slots=True)
class EventToSend:
    """One packet: its payload, the tick whose timestamp it carries, and whether it begins an event."""

    payload: bytes
    tick: int
    marker: bool


class EventSender:
    """Digits in a row, each an event of ``duration`` and then a pause of ``gap``, both in samples."""

    def __init__(self, digits: Iterable[str], duration: int, gap: int, *, frames: int = 1) -> None:
        """
        Args:
            frames: of the clock from packet to packet, as of audio; durations are rounded up to whole packets.

        Raises:
            ValueError: a character is no digit.
        """
        self._codes = deque(event_code(digit) for digit in digits)
        self._frames = frames
        self._duration = self._whole(duration)
        self._gap = gap
        self._begun = 0
        self._unmarked = False
        self._ends_left = 0
        self._segment_start: int | None = None
        self._pause_left = 0
        self.sounding = False
        """The last tick belonged to an event, whether a packet of it went out or not,"""
        self.waiting = False
        """or to an audio packet that has to be full before the event begins."""

    @property
    def finished(self) -> bool:
        """Everything was sent, the last pause included."""
        return not self._codes and not self._pause_left

    @property
    def total_samples(self) -> int:
        """How long all digits still to come take, end packets and pauses included; of a fresh sender, its length."""
        each = self._duration + (END_PACKETS - 1) * self._frames * FRAME + self._gap
        return len(self._codes) * each

    def stop(self, tick: int) -> None:
        """No further digit; an event that was begun ends now, with its end packets."""
        self._pause_left = 0
        if self._segment_start is None:
            self._codes.clear()
            return
        while len(self._codes) > 1:
            self._codes.pop()
        self._gap = 0
        if self._ends_left == END_PACKETS:
            self._duration = min(self._duration, self._whole((tick - self._begun + 1) * FRAME))

    def _whole(self, samples: int) -> int:
        packet = self._frames * FRAME
        return -(-samples // packet) * packet

    def next(self, tick: int, *, between: bool = True) -> EventToSend | None:
        """What goes out at this tick instead of audio; None: nothing, or, where it is not `sounding`, audio or silence.

        Args:
            between: an event may begin here, where an audio packet has ended.
        """
        self.sounding = self.waiting = False
        if self._pause_left:
            self._pause_left = max(0, self._pause_left - FRAME)
            return None
        if not self._codes:
            return None
        code = self._codes[0]
        if self._segment_start is None:
            if not between:
                self.waiting = True
                return None
            self._segment_start, self._begun, self._ends_left = tick, tick, END_PACKETS
            self._unmarked = True
        self.sounding = True
        if (tick - self._begun + 1) % self._frames:
            return None
        marker, self._unmarked = self._unmarked, False
        elapsed = (tick - self._begun + 1) * FRAME
        if elapsed < self._duration:
            in_segment = (tick - self._segment_start + 1) * FRAME
            start = self._segment_start
            if in_segment + self._frames * FRAME > MAX_DURATION:
                # The next packet would not hold it: a new segment begins there.
                self._segment_start = tick + 1
            return EventToSend(_payload(code, in_segment, end=False), start, marker)
        start = self._segment_start
        length = self._duration - (start - self._begun) * FRAME
        self._ends_left -= 1
        if not self._ends_left:
            self._codes.popleft()
            self._segment_start = None
            self._pause_left = self._gap
        return EventToSend(_payload(code, length, end=True), start, marker)


def _payload(code: int, duration: int, *, end: bool) -> bytes:
    return struct.pack("!BBH", code, (0x80 if end else 0) | VOLUME, min(duration, MAX_DURATION))


def _nobody(digit: str, duration_ms: int) -> None:
    """Is told of what comes after the end."""


class EventReceiver:
    """Tells each digit once, when it is over, whichever of its packets arrive (§2.5.2).

    An event is known by its timestamp, so a lost first packet, a missing marker and repeated end packets do no harm. An
    event that goes on where one of the same code and full length ended is a segment of it.
    """

    def __init__(self, on_digit: Callable[[str, int], None]) -> None:
        """``on_digit(digit, duration in ms)``."""
        self._on_digit = on_digit
        self._code = -1
        self._timestamp: int | None = None
        self._duration = 0
        self._before = 0
        self._ended = True
        self._idle_ticks = 0

    @property
    def active(self) -> bool:
        """An event was begun and is not over."""
        return not self._ended

    def receive(self, timestamp: int, payload: bytes) -> int:
        """One packet's payload. Returns how many samples after ``timestamp`` the event lasts so far."""
        if len(payload) < 4:
            return 0
        code, flags, duration = struct.unpack_from("!BBH", payload)
        if code >= len(DIGITS):
            return 0
        if timestamp == self._timestamp:
            if self._ended:
                return int(duration)
        elif self._older(timestamp):
            return 0
        else:
            self._begin(timestamp, code)
        self._idle_ticks = 0
        self._duration = max(self._duration, duration)
        if flags & 0x80:
            self._end()
        return int(duration)

    def finish(self) -> None:
        """Nothing more comes: an event that was begun is over. Who was told of digits is let go."""
        if not self._ended:
            self._end()
        self._on_digit = _nobody

    def tick(self) -> None:
        """A tick passed; to be called while `active`."""
        if not self._ended:
            self._idle_ticks += 1
            if self._idle_ticks > LOST_END_TICKS:
                self._end()

    def _older(self, timestamp: int) -> bool:
        if self._timestamp is None:
            return False
        ahead = (timestamp - self._timestamp) & 0xFFFFFFFF
        return ahead >= 1 << 31 and (1 << 32) - ahead < 10 * MAX_DURATION

    def _begin(self, timestamp: int, code: int) -> None:
        before = 0
        if not self._ended:
            ahead = (timestamp - (self._timestamp or 0)) & 0xFFFFFFFF
            if code == self._code and self._duration > MAX_DURATION - 8 * FRAME and ahead <= MAX_DURATION + FRAME:
                before = self._before + ahead
            else:
                self._end()
        self._timestamp, self._code, self._before = timestamp, code, before
        self._duration = 0
        self._ended = False

    def _end(self) -> None:
        self._ended = True
        self._on_digit(DIGITS[self._code], (self._before + self._duration) // SAMPLES_PER_MS)
