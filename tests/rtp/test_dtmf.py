"""Telephone events, both ways (RFC 4733)."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtp.dtmf import DIGITS, LOST_END_TICKS, EventReceiver, EventSender, EventToSend, duration_samples, event_code
from rtp.jitter import FRAME


def send_all(sender: EventSender, *, start: int = 0) -> list[EventToSend | None]:
    out = []
    tick = start
    while not sender.finished:
        out.append(sender.next(tick))
        tick += 1
    return out


def fields(event: EventToSend) -> tuple[int, bool, int, int]:
    """Code, end, volume, duration."""
    code, flags, duration = struct.unpack("!BBH", event.payload)
    return code, bool(flags & 0x80), flags & 0x3F, duration


class Heard:
    def __init__(self) -> None:
        self.digits: list[tuple[str, int]] = []
        self.receiver = EventReceiver(lambda digit, duration: self.digits.append((digit, duration)))

    def take(self, events: list[EventToSend | None], keep: object = None) -> None:
        for index, event in enumerate(events):
            if event is not None and (not isinstance(keep, set) or index in keep):
                self.receiver.receive(event.tick * FRAME, event.payload)


def test_the_sixteen_digits() -> None:
    """§3.2, table 3."""
    assert [event_code(digit) for digit in "0123456789*#ABCD"] == list(range(16))
    assert event_code("d") == 15


@pytest.mark.parametrize("digit", ["", "E", "10", "\u0661", " "])
def test_other_characters_are_refused(digit: str) -> None:
    with pytest.raises(ValueError, match="not a DTMF digit"):
        event_code(digit)


def test_durations_are_whole_frames() -> None:
    assert [duration_samples(ms) for ms in (1, 20, 21, 100)] == [160, 160, 320, 800]


def test_one_digit_packet_by_packet() -> None:
    """§2.5.1: marker on the first, one timestamp, growing duration, the last packet three times, then the pause."""
    events = send_all(EventSender("5", 5 * FRAME, 2 * FRAME), start=10)
    sent = [event for event in events if event is not None]
    assert [event.marker for event in sent] == [True] + [False] * 6
    assert {event.tick for event in sent} == {10}
    assert [fields(event) for event in sent] == [
        (5, False, 10, 160),
        (5, False, 10, 320),
        (5, False, 10, 480),
        (5, False, 10, 640),
        (5, True, 10, 800),
        (5, True, 10, 800),
        (5, True, 10, 800),
    ]
    assert events[7:] == [None, None]


def test_each_digit_has_its_own_timestamp_and_marker() -> None:
    sender = EventSender("1#", 2 * FRAME, FRAME)
    total = sender.total_samples
    events = send_all(sender)
    assert len(events) * FRAME == total
    assert [event.tick for event in events if event is not None and event.marker] == [0, 5]


def test_a_long_event_is_sent_in_segments() -> None:
    """§2.5.1.3: no segment is longer than 0xFFFF; each begins where the one before ended; no marker; one end."""
    events = [event for event in send_all(EventSender("9", duration_samples(20_000), FRAME)) if event is not None]
    starts = sorted({event.tick for event in events})
    assert len(starts) == 3
    for start, following in pairwise(starts):
        longest = max(fields(event)[3] for event in events if event.tick == start)
        assert longest <= 0xFFFF
        assert start * FRAME + longest == following * FRAME
    assert [event.marker for event in events].count(True) == 1
    assert sum(fields(event)[1] for event in events) == 3
    heard = Heard()
    heard.take(list(events))
    assert heard.digits == [("9", 20_000)]


def test_a_stopped_sender_ends_its_digit_and_sends_no_other() -> None:
    sender = EventSender("12", 50 * FRAME, 4 * FRAME)
    events = [sender.next(tick) for tick in range(3)]
    sender.stop(3)
    tick = 3
    while not sender.finished:
        sender.stop(tick)
        events.append(sender.next(tick))
        tick += 1
    heard = Heard()
    heard.take(events)
    assert heard.digits == [("1", 80)]
    assert len(events) == 6


def test_a_sender_stopped_before_or_between_digits_is_finished() -> None:
    fresh = EventSender("12", FRAME, FRAME)
    fresh.stop(0)
    assert fresh.finished
    pausing = EventSender("12", FRAME, 9 * FRAME)
    for tick in range(4):
        pausing.next(tick)
    pausing.stop(4)
    assert pausing.finished
    assert pausing.next(5) is None


def test_a_receiver_tells_each_digit_once() -> None:
    heard = Heard()
    heard.take(send_all(EventSender("159D", 5 * FRAME, 2 * FRAME)))
    assert heard.digits == [("1", 100), ("5", 100), ("9", 100), ("D", 100)]


def test_the_same_digit_twice_is_two() -> None:
    heard = Heard()
    heard.take(send_all(EventSender("11", 2 * FRAME, FRAME)))
    assert heard.digits == [("1", 40), ("1", 40)]


@given(st.sets(st.integers(0, 6), min_size=1))
def test_any_packet_of_the_event_is_enough(kept: set[int]) -> None:
    """§2.5.2.2: lost first packets, a lost marker, lost ends."""
    heard = Heard()
    heard.take(send_all(EventSender("7", 5 * FRAME, FRAME)), kept)
    for _ in range(LOST_END_TICKS + 1):
        heard.receiver.tick()
    assert [digit for digit, _ in heard.digits] == ["7"]
    assert not heard.receiver.active


def test_a_lost_end_is_told_when_nothing_more_comes() -> None:
    heard = Heard()
    heard.receiver.receive(0, struct.pack("!BBH", 3, 10, 320))
    for _ in range(LOST_END_TICKS):
        heard.receiver.tick()
    assert heard.digits == []
    heard.receiver.tick()
    assert heard.digits == [("3", 40)]
    heard.receiver.tick()
    heard.receiver.receive(0, struct.pack("!BBH", 3, 0x80, 800))
    assert heard.digits == [("3", 40)]


def test_a_lost_end_is_told_when_the_next_event_begins() -> None:
    heard = Heard()
    heard.receiver.receive(0, struct.pack("!BBH", 3, 10, 320))
    heard.receiver.receive(4000, struct.pack("!BBH", 4, 0x80 | 10, 320))
    assert heard.digits == [("3", 40), ("4", 40)]


def test_packets_overtaken_by_the_end_are_no_new_event() -> None:
    heard = Heard()
    first, second, *_, end = [event for event in send_all(EventSender("6", 5 * FRAME, FRAME)) if event is not None]
    heard.take([first, end, second])
    assert heard.digits == [("6", 100)]


def test_a_straggler_of_the_event_before_is_no_new_event() -> None:
    heard = Heard()
    heard.receiver.receive(8000, struct.pack("!BBH", 1, 0x80, 800))
    heard.receiver.receive(16000, struct.pack("!BBH", 2, 10, 160))
    heard.receiver.receive(8000, struct.pack("!BBH", 1, 0x80, 800))
    heard.receiver.receive(16000, struct.pack("!BBH", 2, 0x80, 800))
    assert heard.digits == [("1", 100), ("2", 100)]


def test_timestamps_may_wrap_between_digits() -> None:
    heard = Heard()
    heard.receiver.receive(2**32 - 100, struct.pack("!BBH", 1, 0x80, 800))
    heard.receiver.receive(1500, struct.pack("!BBH", 2, 0x80, 800))
    assert heard.digits == [("1", 100), ("2", 100)]


@pytest.mark.parametrize("payload", [b"", b"\x01\x80\x00", struct.pack("!BBH", 16, 0x80, 800)])
def test_short_payloads_and_other_events_are_ignored(payload: bytes) -> None:
    heard = Heard()
    assert heard.receiver.receive(0, payload) == 0
    assert not heard.receiver.active
    assert heard.digits == []


def test_all_digits_are_known() -> None:
    assert len(set(DIGITS)) == 16
