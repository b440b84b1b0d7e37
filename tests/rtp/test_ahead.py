"""Frames that lie ready before their time change nothing: what is heard, and what is told of it, is as if every frame
had been read in its turn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rtp.ahead import MOST_FRAMES, Ahead, Shelf, take, turn
from rtp.engine import MediaEngine
from rtp.g711 import Law, encode
from rtp.mixing import Chain
from rtp.playback import Playback, PlaybackQueue
from rtp.sources import ArraySource, AudioSource, LoopedSource, foresight
from rtp.stream import RtpStream
from rtp.talker import Talker
from tests.rtp.by_hand import FRAME, HOST, configured, tick
from tests.rtp.kit import FarEnd, Live, tone


class Clock:
    """What the engine does with one row: has frames laid out where none is left, and takes one."""

    def __init__(self) -> None:
        self.ahead = Ahead(4)
        self.queue = PlaybackQueue(8000, Shelf(self.ahead, 1))
        self.tick = 0

    def frame(self) -> NDArray[np.int16] | None:
        self.tick += 1
        row = np.array([1])
        if self.ahead.taken[1] == self.ahead.ready[1]:
            self.queue.lend(turn(1, self.tick))
        return take(self.ahead, row)[0] if self.ahead.taken[1] < self.ahead.ready[1] else None


class Blocks(ArraySource):
    """Tells what comes next only up to the end of a block, as a file that is streamed does."""

    BLOCK = 1000

    def read(self, samples: int) -> NDArray[np.int16]:
        return super().read(samples)

    def peek(self, samples: int) -> NDArray[np.int16]:
        return super().peek(min(samples, self.BLOCK - self._position % self.BLOCK))


def counting(samples: int, first: int) -> NDArray[np.int16]:
    return np.arange(first, first + samples).astype(np.int16)


def sources(kind: str, samples: int, first: int) -> AudioSource:
    match kind:
        case "array":
            return ArraySource(counting(samples, first))
        case "looped":
            return LoopedSource(counting(700, first), samples)
        case "endless":
            return LoopedSource(counting(4000, first))
        case "blocks":
            return Blocks(counting(samples, first))
        case "chain":
            return Chain([ArraySource(counting(samples // 2, first)), Blocks(counting(samples, first))])
        case _:
            live = Live()
            live.write(counting(samples, first))
            return live


Step = tuple[str, Any]
plays = st.tuples(
    st.just("play"),
    st.tuples(
        st.sampled_from(["array", "looped", "endless", "blocks", "chain", "live"]),
        st.sampled_from([0, 1, FRAME - 1, FRAME, FRAME + 1, 2 * FRAME, 1500, 17 * FRAME, 6000]),
        st.integers(0, 20_000),
    ),
)
ticks = st.tuples(st.just("ticks"), st.integers(1, 40))
others = st.tuples(st.sampled_from(["cancel", "clear", "live", "settle", "wide", "narrow"]), st.integers(0, 3))


@settings(max_examples=100, deadline=None)
@given(st.lists(plays | ticks | others, min_size=2, max_size=20))
def test_whatever_happens_it_is_as_if_every_frame_had_been_read_in_its_turn(steps: list[Step]) -> None:
    clock, plain = Clock(), PlaybackQueue(8000)
    lent: list[Playback] = []
    read: list[Playback] = []

    def check(one: NDArray[np.int16] | None, other: NDArray[np.int16] | None) -> None:
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            assert np.array_equal(one, other)
        for left, right in zip(lent, read, strict=True):
            assert (left.played_samples, left.done, left.cancelled) == (
                right.played_samples,
                right.done,
                right.cancelled,
            )

    wide = False
    for what, argument in steps:
        match what:
            case "play":
                lent.append(clock.queue.add(sources(*argument)))
                read.append(plain.add(sources(*argument)))
            case "ticks" if not wide:
                for _ in range(argument):
                    check(clock.frame(), plain.read(FRAME))
            case "cancel" if lent:
                place = argument % len(lent)
                lent[place].cancel()
                read[place].cancel()
            case "clear":
                clock.queue.clear()
                plain.clear()
            case "live" | "ticks":  # somebody is on the stream, or it has a codec of its own: all is read in its turn
                for _ in range(argument):
                    check(clock.queue.read(FRAME), plain.read(FRAME))
            case "settle":
                clock.queue.settle()
            case "wide" | "narrow":
                wide = what == "wide"
                clock.queue.rerate(16000 if wide else 8000)
                plain.rerate(16000 if wide else 8000)
    check(None, None)


def test_a_source_is_read_in_long_pieces_and_one_that_is_live_is_not() -> None:
    for source, most in ((ArraySource(tone(8000)), 3 + 50 // MOST_FRAMES), (Live(), 50)):
        clock, calls = Clock(), Counter[str]()
        queued = clock.queue.add(Watched(source, calls) if isinstance(source, Live) else WatchedPeek(source, calls))
        if isinstance(source, Live):
            source.write(tone(8000))
        for number in range(49):
            assert clock.frame() is not None
            assert queued.played_samples == (number + 1) * FRAME
        assert (calls["read"] >= 49) == isinstance(source, Live)
        assert calls["peek"] <= most


class Watched:
    """Counts what is asked of a source."""

    total_samples = None

    def __init__(self, source: Any, calls: Counter[str]) -> None:
        self._source = source
        self._calls = calls

    @property
    def exhausted(self) -> bool:
        return bool(self._source.exhausted)

    def read(self, samples: int) -> NDArray[np.int16]:
        self._calls["read"] += 1
        piece: NDArray[np.int16] = self._source.read(samples)
        return piece


class WatchedPeek(Watched):
    def read(self, samples: int) -> NDArray[np.int16]:
        return super().read(samples)

    def peek(self, samples: int) -> NDArray[np.int16]:
        self._calls["peek"] += 1
        piece: NDArray[np.int16] = self._source.peek(samples)
        return piece


def test_a_queue_in_which_nothing_waits_is_not_asked_before_something_does() -> None:
    clock, calls = Clock(), Counter[str]()
    lend = clock.queue.lend

    def asked(most: int) -> None:
        calls["lend"] += 1
        lend(most)

    clock.queue.lend = asked  # type: ignore[method-assign]  # to count
    assert [clock.frame() for _ in range(20)] == [None] * 20
    assert calls["lend"] == 1
    for _ in range(2):
        clock.queue.add(ArraySource(tone(FRAME)))
        assert clock.frame() is not None
        assert clock.frame() is None
    clock.queue.add(ArraySource(tone(8000)))
    clock.queue.clear()
    assert clock.frame() is None
    live = Live()
    clock.queue.add(live)
    live.write(counting(FRAME, 1))
    heard = clock.frame()
    assert heard is not None
    assert np.array_equal(heard, counting(FRAME, 1))


def test_a_class_that_reads_otherwise_is_not_peeked_into() -> None:
    class Louder(ArraySource):
        def read(self, samples: int) -> NDArray[np.int16]:
            return super().read(samples) * 2

    assert foresight(ArraySource(tone(FRAME))) is not None
    assert foresight(Louder(tone(FRAME))) is None
    assert foresight(Blocks(tone(FRAME))) is not None
    assert foresight(Live()) is None


@pytest.mark.parametrize("told", [lambda _: 1 / 0, lambda samples: np.zeros(samples + 1, np.int16)])
def test_a_source_that_cannot_tell_what_comes_next_is_read(
    told: Callable[[int], Any], caplog: pytest.LogCaptureFixture
) -> None:
    class Confused(ArraySource):
        def read(self, samples: int) -> NDArray[np.int16]:
            return super().read(samples)

        def peek(self, samples: int) -> NDArray[np.int16]:
            piece: NDArray[np.int16] = told(samples)
            return piece

    clock = Clock()
    playback = clock.queue.add(Confused(counting(5 * FRAME, 1)))
    heard = [clock.frame() for _ in range(5)]
    assert np.array_equal(np.concatenate([one for one in heard if one is not None]), counting(5 * FRAME, 1))
    assert playback.done
    assert caplog.text.count("cannot tell what comes next") == 1


def test_a_source_that_takes_back_what_it_told_harms_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(ArraySource):
        def read(self, samples: int) -> NDArray[np.int16]:
            raise RuntimeError("disk on fire")

        def peek(self, samples: int) -> NDArray[np.int16]:
            return super().peek(samples)

    clock = Clock()
    broken = clock.queue.add(Broken(tone(8000)))
    behind = clock.queue.add(ArraySource(tone(8000)))
    for _ in range(2 * MOST_FRAMES):
        clock.frame()
    assert broken.done
    assert behind.played_samples
    assert "audio source failed" in caplog.text


def test_a_source_that_ends_the_call_when_it_is_peeked_into() -> None:
    clock = Clock()

    class Last(ArraySource):
        def read(self, samples: int) -> NDArray[np.int16]:
            return super().read(samples)

        def peek(self, samples: int) -> NDArray[np.int16]:
            clock.queue.clear()
            return super().peek(samples)

    playback = clock.queue.add(Last(tone(8000)))
    assert [clock.frame() for _ in range(3)] == [None] * 3
    assert playback.cancelled
    assert not playback.played_samples


# ---- the engine ------------------------------------------------------------------------------------------------------


async def test_one_tick_has_as_many_sources_to_ask_as_the_next(engine: MediaEngine) -> None:
    calls, asked = Counter[str](), []
    with FarEnd() as far:
        for _ in range(4 * MOST_FRAMES):
            configured(engine, far.address).play(WatchedPeek(LoopedSource(tone(8000)), calls))
        for _ in range(3 * MOST_FRAMES):
            tick(engine)
            asked.append(calls.total())
            calls.clear()
    assert set(asked[MOST_FRAMES:]) == {2 * 4}  # a read and a peek of every sixteenth


async def test_who_takes_over_and_gives_back_finds_every_sample_where_it_would_be(engine: MediaEngine) -> None:
    samples = tone(60 * FRAME)
    with FarEnd() as far:
        stream = configured(engine, far.address)
        playback = stream.play(ArraySource(samples))
        talker = Talker()
        payloads = []
        for number in range(50):
            if number == 5:
                stream.talk(talker)  # what plays goes on silently
            if number == 12:
                talker.close()
            tick(engine)
            payloads.append(far.receive()[-1])
            assert playback.played_samples == (number + 1) * FRAME
    codes = encode(samples, Law.PCMU).reshape(-1, FRAME)
    for number, payload in enumerate(payloads):
        assert (payload == codes[number].tobytes()) == (not 5 <= number < 12)


@pytest.mark.parametrize("opens", [1, 40])
async def test_a_source_may_open_streams_and_no_packet_goes_out_twice(engine: MediaEngine, opens: int) -> None:
    """The bank grows in the middle of a tick: all packets lie elsewhere then."""
    samples = tone(30 * FRAME)

    class Opening(Live):
        def read(self, samples: int) -> NDArray[np.int16]:
            if not calls:
                calls.extend(engine.open_stream(HOST) for _ in range(opens))
            return super().read(samples)

    calls: list[RtpStream] = []
    with FarEnd() as far, FarEnd() as other:
        configured(engine, far.address).play(ArraySource(samples))
        tick(engine, 2)
        configured(engine, other.address).play(Opening())
        tick(engine, 3)
        packets = [far.receive() for _ in range(5)]
        assert far.waiting() == 0
    assert len(calls) == opens
    assert [packet[-1] for packet in packets] == [
        frame.tobytes() for frame in encode(samples, Law.PCMU).reshape(-1, FRAME)[:5]
    ]
    assert {later[2] - earlier[2] & 0xFFFF for earlier, later in pairwise(packets)} == {1}
