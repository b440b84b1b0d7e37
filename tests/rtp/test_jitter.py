"""The jitter ring: what goes in by timestamp comes out by the clock."""

from __future__ import annotations

import random
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rtp.delay import BUCKETS, REVIEW_TICKS
from rtp.g711 import Law, decode, encode
from rtp.jitter import FRAME, MISSING, RING, gather, insert, position_of
from rtp.receive import Kind
from rtp.sequence import follow
from tests.rtp.kit import Rows, tone

ROW = 0
WINDOW = REVIEW_TICKS * (BUCKETS + 1)
TICKS = REVIEW_TICKS - 1


class Line:
    """A far end whose n-th packet holds the n-th piece of an endless tone, and a row that plays what comes."""

    def __init__(self, *, piece: int = FRAME, fixed: int = 3 * FRAME, start: int = 1000) -> None:
        self.rows = Rows(minimum=fixed, maximum=fixed)
        self.piece = piece
        self.start = start
        samples = tone(40 * 8000, hertz=437.0)
        self.sent = decode(encode(samples, Law.PCMU), Law.PCMU)
        self.heard: list[NDArray[np.int16]] = []
        """What came out of the ring, with `MISSING` in it."""
        self.played: list[NDArray[np.int16]] = []
        """The same with the gaps filled."""

    def arrive(self, number: int, *, timestamp: int | None = None) -> None:
        samples = self.sent[number * self.piece : (number + 1) * self.piece]
        stamp = self.start + number * self.piece if timestamp is None else timestamp
        packets = self.rows.packets(ROW, number, stamp, samples)
        packets, forward = follow(self.rows.reception, self.rows.ring, self.rows.counters, packets)
        if len(packets):
            insert(self.rows.ring, self.rows.delay, self.rows.counters, packets, forward)

    def tick(self, count: int = 1) -> None:
        for _ in range(count):
            frames = self.rows.play(ROW)
            self.heard.append(frames[0].copy())
            self.rows.conceal(frames, ROW)
            self.played.append(frames[0])

    def run(self, arrivals: Iterable[Iterable[int]]) -> NDArray[np.int16]:
        """The packets that arrive ahead of each tick. Returns everything heard."""
        for numbers in arrivals:
            for number in numbers:
                self.arrive(number)
            self.tick()
        return np.concatenate(self.heard)

    def count(self, name: str) -> int:
        return int(getattr(self.rows.counters, name)[ROW])


def test_the_first_packet_plays_after_the_prefetch() -> None:
    line = Line()
    heard = line.run([[number] for number in range(50)])
    assert (heard[: 3 * FRAME] == MISSING).all()
    assert np.array_equal(heard[3 * FRAME :], line.sent[: 47 * FRAME])


@pytest.mark.parametrize("piece", [80, 160, 240, 320, 480, 100, 33, 1500], ids=lambda piece: f"{piece / 8:g} ms")
def test_packets_of_any_length_come_out_in_one_piece(piece: int) -> None:
    """RFC 3551 §4.2: a receiver accepts packets of 0 to 200 ms; here 4 to 188."""
    line = Line(piece=piece)
    sent = 0
    for tick in range(400):
        while sent * piece <= tick * FRAME:
            line.arrive(sent)
            sent += 1
        line.tick()
    heard = np.concatenate(line.heard)
    assert np.array_equal(heard[3 * FRAME :], line.sent[: len(heard) - 3 * FRAME])
    assert line.count("late") == line.count("skipped") == 0


def test_timestamps_may_wrap() -> None:
    line = Line(start=2**32 - 5 * FRAME)
    heard = line.run([[number] for number in range(20)])
    assert np.array_equal(heard[3 * FRAME :], line.sent[: 17 * FRAME])


def test_reordered_packets_come_out_in_order() -> None:
    line = Line()
    heard = line.run([[0], [2], [1], [5], [4, 3], [6], [7], [8]])
    assert np.array_equal(heard[3 * FRAME :], line.sent[: 5 * FRAME])
    assert line.count("late") == 0
    assert line.count("reordered") == 3


def test_a_lost_packet_leaves_its_own_gap() -> None:
    line = Line()
    heard = line.run([[number] if number != 4 else [] for number in range(12)])
    gap = slice(7 * FRAME, 8 * FRAME)
    assert (heard[gap] == MISSING).all()
    assert np.array_equal(heard[8 * FRAME :], line.sent[5 * FRAME : 9 * FRAME])


def test_a_late_packet_is_counted_and_not_played() -> None:
    line = Line()
    arrivals = [[number] for number in range(12)]
    arrivals[4], arrivals[9] = [], [9, 4]
    heard = line.run(arrivals)
    assert line.count("late") == 1
    assert np.array_equal(heard[8 * FRAME :], line.sent[5 * FRAME : 9 * FRAME])


def test_the_late_beginning_of_a_long_packet_is_cut_off() -> None:
    line = Line(piece=3 * FRAME, fixed=FRAME)
    heard = line.run([[0], [], [2], [1], [], [], [3], [], []])
    assert line.count("late") == 0
    played = heard[FRAME:]
    known = played != MISSING
    assert np.array_equal(played[known], line.sent[: len(played)][known])
    assert known[3 * FRAME : 6 * FRAME].any()


def test_old_audio_does_not_come_round_again() -> None:
    line = Line()
    line.run([[number] for number in range(10)])
    line.heard.clear()
    silence = line.run([[] for _ in range(2 * RING // FRAME)])
    assert (silence[3 * FRAME :] == MISSING).all()


def test_a_network_slower_than_the_delay_makes_the_delay_longer() -> None:
    """Underrun: the packet that comes too late for its place is played, with the whole delay ahead of it again."""
    line = Line()
    arrivals: list[list[int]] = [[number] for number in range(10)] + [[]] * 6 + [[10]]
    arrivals += [[number] for number in range(11, 40)]
    heard = line.run(arrivals)
    assert line.count("late") == 0
    again = 16 + 3
    assert np.array_equal(heard[again * FRAME : (again + 20) * FRAME], line.sent[10 * FRAME : 30 * FRAME])


def test_a_burst_after_a_stall_is_played_in_order() -> None:
    line = Line()
    arrivals: list[list[int]] = [[number] for number in range(10)] + [[]] * 12 + [list(range(10, 23))]
    arrivals += [[number] for number in range(23, 60)]
    heard = line.run(arrivals)
    first = np.flatnonzero(heard[14 * FRAME :] != MISSING)[0] + 14 * FRAME
    assert np.array_equal(heard[first : first + 20 * FRAME], line.sent[10 * FRAME : 30 * FRAME])


def test_delay_that_is_no_longer_needed_is_taken_back() -> None:
    """After the burst above packets lie far ahead; a window later frames are left out, the last ones in silence."""
    line = Line()
    line.sent[15 * 8000 :] = 0
    arrivals: list[list[int]] = [[number] for number in range(10)] + [[]] * 12 + [list(range(10, 23))]
    arrivals += [[number] for number in range(23, 23 + 2 * WINDOW)]
    line.run(arrivals[:700])
    assert line.count("skipped") >= 7
    line.heard.clear()
    line.run(arrivals[700:])
    assert line.count("skipped") >= 9
    newest = int(line.rows.ring.position[ROW])
    assert newest + FRAME - int(line.rows.ring.play[ROW]) == 3 * FRAME


def test_a_fast_clock_of_the_far_end_does_not_pile_up_delay() -> None:
    """1 % fast: 21 packets for 20 ticks now and then."""
    line = Line()
    number = 0
    for tick in range(1500):
        line.arrive(number)
        number += 1
        if tick % 100 == 99:
            line.arrive(number)
            number += 1
        line.tick()
    ahead = int(line.rows.ring.end[ROW] - line.rows.ring.play[ROW])
    assert ahead <= 6 * FRAME
    assert line.count("skipped") >= 12


def test_timestamps_that_stood_still_while_on_hold_play_at_once_again() -> None:
    line = Line()
    line.run([[number] for number in range(10)])
    line.tick(500)
    line.heard.clear()
    heard = line.run([[number] for number in range(10, 40)])
    assert np.array_equal(heard[3 * FRAME :], line.sent[10 * FRAME : 37 * FRAME])
    assert line.count("late") == 0


@pytest.mark.parametrize("jump", [RING, 10 * RING, 2**31 - 1, -100 * FRAME, -(2**31)])
def test_a_jump_of_timestamps_costs_no_more_than_the_delay(jump: int) -> None:
    line = Line()
    line.run([[number] for number in range(10)])
    line.heard.clear()
    for number in range(10, 40):
        line.arrive(number, timestamp=line.start + number * FRAME + jump)
        line.tick()
    heard = np.concatenate(line.heard)
    assert np.array_equal(heard[-20 * FRAME :], line.sent[17 * FRAME : 37 * FRAME])


def test_a_packet_far_ahead_that_was_overtaken_is_discarded() -> None:
    line = Line()
    line.run([[0], [1], [2], [4]])
    line.arrive(3, timestamp=line.start + 2 * RING)
    assert line.count("discarded") == 1


def test_both_laws_may_take_turns() -> None:
    rows = Rows(minimum=0, maximum=0)
    samples = tone(2 * FRAME)
    for number, kind in enumerate((Kind.PCMU, Kind.PCMA)):
        piece = samples[number * FRAME : (number + 1) * FRAME]
        packets, forward = follow(
            rows.reception, rows.ring, rows.counters, rows.packets(0, number, number * FRAME, piece, kind=kind)
        )
        insert(rows.ring, rows.delay, rows.counters, packets, forward)
        law = Law.PCMU if kind == Kind.PCMU else Law.PCMA
        assert np.array_equal(gather(rows.ring, np.array([0]))[0], decode(encode(piece, law), law))


def test_rows_do_not_touch_each_other() -> None:
    rows = Rows(3, minimum=0, maximum=0)
    pieces = [tone(FRAME, hertz=hertz) for hertz in (300.0, 600.0, 900.0)]
    for row in (2, 0, 1):
        packets, forward = follow(
            rows.reception, rows.ring, rows.counters, rows.packets(row, row, 77 * row, pieces[row])
        )
        insert(rows.ring, rows.delay, rows.counters, packets, forward)
    frames = gather(rows.ring, np.array([0, 1, 2]))
    for row in range(3):
        assert np.array_equal(frames[row], decode(encode(pieces[row], Law.PCMU), Law.PCMU))


def test_an_empty_payload_is_no_audio() -> None:
    line = Line()
    packets = line.rows.packets(ROW, 0, 0, np.zeros(0, np.int16))
    packets, forward = follow(line.rows.reception, line.rows.ring, line.rows.counters, packets)
    insert(line.rows.ring, line.rows.delay, line.rows.counters, packets, forward)
    assert line.count("late") == line.count("discarded") == 0


def test_the_position_of_a_timestamp() -> None:
    line = Line(start=2**32 - FRAME)
    assert position_of(line.rows.ring, ROW, 5) == 0
    line.arrive(0)
    assert position_of(line.rows.ring, ROW, 2**32 - FRAME) == 3 * FRAME
    assert position_of(line.rows.ring, ROW, FRAME) == 5 * FRAME


@pytest.mark.long
@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([80, 160, 240, 320, 480, 99]))
def test_whatever_the_network_does_what_is_heard_was_said_and_in_that_order(seed: int, piece: int) -> None:
    """Loss, duplication, reordering, delay up to 300 ms: every sample was sent, and none comes after a later one.

    Ends before the first review, which may fade frames into each other.
    """
    rng = random.Random(seed)
    line = Line(piece=piece, start=rng.getrandbits(32))
    line.rows.delay.maximum = rng.choice((3, 10)) * FRAME
    codes = np.frombuffer(rng.randbytes(TICKS * FRAME), np.uint8)
    line.sent = decode(codes, Law.PCMU)
    inbox: dict[int, list[int]] = {}
    for number in range(85 * FRAME // piece):
        for _ in range(rng.choices((0, 1, 2), (10, 85, 5))[0]):
            delay = rng.randrange(15) if rng.random() < 0.1 else rng.randrange(3)
            inbox.setdefault(number * piece // FRAME + delay, []).append(number)
    heard = line.run([inbox.get(tick, []) for tick in range(TICKS)])
    assert len(heard) == TICKS * FRAME
    assert_said_in_order(heard, line.sent)


def assert_said_in_order(heard: NDArray[np.int16], said: NDArray[np.int16]) -> None:
    """Every sample of ``heard`` that is there continues ``said``, or goes on at a later place of it."""
    place = -1
    index = 0
    while index < len(heard):
        if heard[index] == MISSING:
            index += 1
            continue
        run = heard[index : index + 12]
        run = run[: np.argmax(run == MISSING)] if (run == MISSING).any() else run
        if place + 1 < len(said) and said[place + 1] == heard[index] and len(run) < 12:
            place += 1
            index += 1
            continue
        windows = np.lib.stride_tricks.sliding_window_view(said[place + 1 :], len(run))
        matches = np.flatnonzero((windows == run).all(axis=1))
        if len(matches):
            place += 1 + int(matches[0])
            length = min(len(heard) - index, len(said) - place)
            same = (heard[index : index + length] == said[place : place + length]) & (
                heard[index : index + length] != MISSING
            )
            step = length if same.all() else int(np.argmin(same))
            index += step
            place += step - 1
        else:  # the run crosses a place where something was skipped
            later = np.flatnonzero(said[place + 1 :] == heard[index])
            assert len(later), f"sample {index} was never said after {place}"
            place += 1 + int(later[0])
            index += 1
