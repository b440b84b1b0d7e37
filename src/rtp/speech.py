"""What a program says into a stream live: samples in pieces of any length, bounded, with marks, and gone when cleared.

A bot pushes seconds of synthesised speech at once, or the small pieces that a network brings. What is queued is played
in full and in order; `clear` throws it away, and the few samples that fade out keep the cut from clicking. A mark is
told when what was queued before it has gone out, to the sample: so a bot knows how much of a sentence was heard.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from rtp.rates import WIDE
from rtp.resample import DOWN_DELAY, HISTORY, halved_after

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from numpy.typing import NDArray

__all__ = ["MAX_MARKS", "PREFETCH_MS", "Mark", "Speech"]

RATE = 8000
FADE = 40
"""Samples at 8,000 Hz in which what is cleared fades out: 5 ms."""
PREFETCH_MS = 40
"""Collected before the first sample goes out after a pause: what jitter of small pieces needs."""
TICK_MS = 20
GAP_SECONDS = 1.0
"""Speech that goes on within this time after it had run out, without a mark between, was meant to be without a gap."""
MAX_MARKS = 1000
"""Most marks that wait."""
SLICE_SECONDS = 0.5
"""Longest piece that is queued: memory is given back as it is played."""
SILENCE = np.zeros(HISTORY, np.int16)


class Mark:
    """A place between two samples of what is said; ``await`` it until it is played, or thrown away."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.cleared = False
        """It was thrown away, with all that was queued."""
        self.position = 0
        """Samples of all that was written, at the rate it was written at, that had gone out by then."""
        self.seconds = 0.0
        """The same in seconds."""
        self.at = 0.0
        """When, as of `time.time`."""
        self._done = asyncio.Event()

    @property
    def done(self) -> bool:
        """It was played or cleared."""
        return self._done.is_set()

    def settle(self, position: int, rate: int, *, cleared: bool) -> None:
        """For the speech."""
        self.cleared = cleared
        self.position = position
        self.seconds = position / rate
        self.at = time.time()
        self._done.set()

    async def wait(self) -> bool:
        """Waits; True when all that was queued before it has gone out."""
        await self._done.wait()
        return not self.cleared

    def __await__(self) -> Generator[object, None, bool]:
        return self.wait().__await__()


class Speech:
    """A source of a stream that is written to live."""

    def __init__(
        self,
        *,
        rate: int = RATE,
        line: int = RATE,
        max_seconds: float = 30.0,
        prefetch_ms: int = PREFETCH_MS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Args:
        rate: of what is written, 8000 or 16000.
        line: of the stream; see `follow`.
        max_seconds: most that may be queued; `write` waits for room.
        prefetch_ms: see `PREFETCH_MS`; 0 sends at the next tick whatever there is.
        clock: for underruns.
        """
        self.rate = rate
        self.sample_rate = min(rate, line)
        """At which it is read, and counts: no faster than it is written."""
        self.played = 0
        """Samples that have gone out."""
        self.underruns = 0
        """Times that it ran out in the middle, and a gap was heard: see `GAP_SECONDS`."""
        self.thrown_away = 0
        """Samples that were cleared."""
        self.closed = False
        self.on_written: Callable[[], None] | None = None
        """There is something to play; for the stream."""
        self.on_mark: Callable[[Mark], None] | None = None
        """Called on the loop with each mark that is played or cleared, in their order."""
        self._clock = clock
        self._max_seconds = max(max_seconds, TICK_MS / 1000)
        self._prefetch_ms = prefetch_ms
        self._measure()
        self._queue: deque[NDArray[np.int16] | Mark] = deque()
        self._queued = 0
        self._marks = 0
        self._fade: NDArray[np.int16] | None = None
        self._sounding = False  # the last frame was full
        self._dry = True  # a frame could not be filled, and nothing was queued since
        self._at_mark = False  # the newest thing that was queued is a mark, and it is played
        self._ran_out: float | None = None
        self._collecting = True
        self._collected_for = 0
        self._clears = 0
        self._room: asyncio.Future[None] | None = None
        self._wanted_room = 0
        self._turn = asyncio.Lock()
        self._odd = np.zeros(0, np.int16)
        self.before = SILENCE
        """What was read last, as it was written; where it is resampled,"""
        self.made: NDArray[np.int16] | None = None
        """and the next frame, where that has been made already: see `rtp.halving`."""
        self._settled: list[tuple[Mark, int, bool]] = []

    def _measure(self) -> None:
        rate = self.sample_rate
        self._factor = self.rate // rate
        self._max = int(self._max_seconds * rate)
        self._prefetch = self._prefetch_ms * rate // 1000
        self._fade_samples = FADE * rate // RATE
        self._slice = int(SLICE_SECONDS * rate)
        self._tick = TICK_MS * rate // 1000

    def follow(self, line: int) -> None:
        """For the stream, whose rate is ``line`` from now on: what is queued waits as it was written, no sample of it
        skipped."""
        rate = min(self.rate, line)
        if rate == self.sample_rate:
            return
        self.sample_rate = rate
        self._measure()
        faster = rate == WIDE
        self._odd = self._odd[:0]
        held = self.before[-2 * DOWN_DELAY :]  # what the filter has taken in and not given out
        self._forget()
        for place, item in enumerate(self._queue):
            if not isinstance(item, np.ndarray):
                continue
            if faster:
                late = np.concatenate((held, item))
                self._queue[place], held = late[: len(item)], late[len(item) :]
            else:
                self._queue[place] = item[: len(item) & ~1]
        self._queued = sum(len(item) for item in self._queue if isinstance(item, np.ndarray)) // self._factor
        for name in ("played", "thrown_away"):
            setattr(self, name, getattr(self, name) * 2 if faster else getattr(self, name) // 2)
        self._fade = None
        self._make_room(only_if_there_is=True)

    # ---- for who speaks ----------------------------------------------------------------------------------------------

    @property
    def position(self) -> int:
        """Samples of what was written, at its rate, that have gone out."""
        return self.played * self._factor

    @property
    def queued_seconds(self) -> float:
        """How much waits."""
        return self._queued / self.sample_rate

    async def write(self, samples: NDArray[np.int16] | bytes) -> bool:
        """Queues all of it, and waits while there is no room. Writers take turns.

        Args:
            samples: int16 (n,), or the bytes of such, little-endian.

        Returns:
            False when `clear` or the end of the call came first: the rest of it was thrown away.

        Raises:
            ValueError: something else than int16 samples.
        """
        pcm = _samples(samples)
        cleared = self._clears
        async with self._turn:
            while len(pcm):
                if self.closed or self._clears != cleared:
                    return False
                taken = self._take(pcm)
                pcm = pcm[taken:]
                if len(pcm):
                    await self._wait_for_room(len(pcm) // self._factor)
        return not self.closed and self._clears == cleared

    def write_nowait(self, samples: NDArray[np.int16] | bytes) -> int:
        """Queues what there is room for; returns how many samples that is. None while a `write` waits.

        Raises:
            ValueError: something else than int16 samples.
        """
        pcm = _samples(samples)
        return 0 if self.closed or self._turn.locked() else self._take(pcm)

    def mark(self, name: str = "") -> Mark:
        """A mark behind what is queued.

        Raises:
            ValueError: `MAX_MARKS` wait already.
        """
        if self._marks >= MAX_MARKS:
            raise ValueError(f"{MAX_MARKS} marks wait already")
        return self.last_mark(name)

    def last_mark(self, name: str = "") -> Mark:
        """One more, however many wait: for who writes nothing any more."""
        mark = Mark(name)
        self._marks += 1
        if self.closed:
            self._settle(mark, cleared=True)
        elif self._queued or self._fade is not None:
            self._queue.append(mark)
        else:
            self._at_mark, self._ran_out = True, None
            self._settle(mark, cleared=False)
        return mark

    def clear(self, *, fade: bool = True) -> float:
        """Throws away what is queued, and what a `write` waits with; silence within two frames.

        Args:
            fade: without a click; else, silence from the next sample on.

        Returns:
            Seconds that were queued.
        """
        seconds = self.queued_seconds
        fading = self._faded() if fade and self._sounding else None
        self._clears += 1
        self.thrown_away += self._queued
        for item in self._queue:
            if isinstance(item, Mark):
                self._settle(item, cleared=True)
        self._queue.clear()
        self._queued = 0
        self._odd = self._odd[:0]
        self._forget()
        if fading is not None or not fade:
            self._fade = fading
        self._sounding = False
        self._run_dry()
        self._ran_out = None
        self._make_room()
        return seconds

    def finish(self) -> None:
        """Clears; nothing can be written any more. May be called again.

        Not called ``close``: a source that has that is closed whenever it has played to its end.
        """
        self.closed = True
        self.clear()
        self._fade = None

    def _take(self, pcm: NDArray[np.int16]) -> int:
        """Queues the beginning of it; how many samples."""
        limit = (self._max - self._queued) * self._factor
        wanted = pcm[: max(0, limit)]
        taken = len(wanted)
        for start in range(0, taken, self._slice * self._factor):
            self._append(self._whole(wanted[start : start + self._slice * self._factor]))
        if self._queued and self.on_written is not None:
            self.on_written()
        return taken

    def _append(self, piece: NDArray[np.int16]) -> None:
        if not len(piece):
            return
        if self._ran_out is not None:
            self.underruns += self._clock() - self._ran_out <= GAP_SECONDS
            self._ran_out = None
        self._dry = self._at_mark = False
        self._queue.append(piece)
        self._queued += len(piece) // self._factor

    def _whole(self, pcm: NDArray[np.int16]) -> NDArray[np.int16]:
        """A copy. Of what is to be halved an odd sample waits for the next piece."""
        if self._factor == 1:
            return np.array(pcm, np.int16)
        if len(self._odd):
            pcm = np.concatenate((self._odd, pcm))
        even = len(pcm) & ~1
        self._odd = pcm[even:].copy()
        return np.array(pcm[:even], np.int16)

    async def _wait_for_room(self, remaining: int) -> None:
        self._wanted_room = min(remaining, self._max // 4) or 1
        self._room = asyncio.get_running_loop().create_future()
        try:
            self._make_room(only_if_there_is=True)
            await self._room
        finally:
            self._room = None

    def _make_room(self, *, only_if_there_is: bool = False) -> None:
        if self._room is None or self._room.done():
            return
        if not only_if_there_is or self._max - self._queued >= self._wanted_room:
            self._room.set_result(None)

    def _faded(self) -> NDArray[np.int16] | None:
        pieces = self._next(self._fade_samples)
        if not pieces:
            return None
        tail = self._at_line(pieces)
        ramp = np.linspace(1.0, 0.0, len(tail) + 1, dtype=np.float32)[1:]
        return (tail * ramp).astype(np.int16)

    def _next(self, samples: int) -> list[NDArray[np.int16]]:
        """What is read next, up to so many samples, as it was written; it stays where it is."""
        pieces: list[NDArray[np.int16]] = []
        wanted = samples * self._factor
        for item in self._queue:
            if not wanted:
                break
            if isinstance(item, np.ndarray):
                pieces.append(item[:wanted])
                wanted -= len(pieces[-1])
        return pieces

    def _at_line(self, pieces: list[NDArray[np.int16]]) -> NDArray[np.int16]:
        """Pieces that are read now, at the rate at which they are."""
        samples = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
        if self._factor == 1:
            return samples
        made, self.made = self.made, None
        if made is None or len(made) * self._factor != len(samples):
            made = halved_after(self.before, samples)
        long = len(samples) >= HISTORY
        self.before = samples[-HISTORY:] if long else np.concatenate((self.before, samples))[-HISTORY:]
        return made

    def _forget(self) -> None:
        """What comes next has nothing to do with what was."""
        self.before, self.made = SILENCE, None

    def _run_dry(self) -> None:
        self._dry = self._collecting = True
        self._collected_for = 0
        self._ran_out = None if self._at_mark else self._clock()

    # ---- for the stream, on its clock --------------------------------------------------------------------------------

    @property
    def total_samples(self) -> None:
        """Not known."""
        return None

    @property
    def exhausted(self) -> bool:
        """It has run dry: what plays next may play."""
        return self._dry and self._fade is None

    def ahead(self) -> NDArray[np.int16] | None:
        """What the next frame is made of, as it was written, where it is to be halved and is there as a whole."""
        if self.made is not None or self._factor == 1 or self._fade is not None:
            return None
        if self._queued < self._tick:
            return None
        pieces = self._next(self._tick)
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def read(self, samples: int) -> NDArray[np.int16]:
        """Up to ``samples`` samples."""
        parts: list[NDArray[np.int16]] = []
        wanted = samples
        if self._fade is not None:
            parts.append(self._fade[:wanted])
            wanted -= len(parts[0])
            self._fade = self._fade[len(parts[0]) :] if len(self._fade) > len(parts[0]) else None
        if not self._collecting or self._ready():
            self._collecting = False
            pieces, wanted = self._read_queue(wanted)
            if pieces:
                parts.append(self._at_line(pieces))
            self._sounding = not wanted
            if wanted:
                self._run_dry()
            if self._room is not None:
                self._make_room(only_if_there_is=True)
        if len(parts) == 1:
            return parts[0]
        return np.concatenate(parts) if parts else np.zeros(0, np.int16)

    def _read_queue(self, wanted: int) -> tuple[list[NDArray[np.int16]], int]:
        """What is queued, up to ``wanted`` samples and the marks right behind them; and how many are missing."""
        queue, factor = self._queue, self._factor
        pieces: list[NDArray[np.int16]] = []
        while queue:
            item = queue[0]
            if isinstance(item, Mark):
                queue.popleft()
                self._at_mark = not queue
                self._settle(item, cleared=False)
                continue
            if not wanted:
                break
            if len(item) > wanted * factor:
                queue[0] = item[wanted * factor :]
                item = item[: wanted * factor]
            else:
                queue.popleft()
            pieces.append(item)
            count = len(item) // factor
            wanted -= count
            self._queued -= count
            self.played += count
        return pieces, wanted

    def _ready(self) -> bool:
        """Enough has been collected, or what there is has waited as long as enough would, or nothing is to follow."""
        if not self._queue:
            return False
        self._collected_for += self._tick
        return (
            self._queued >= self._prefetch or self._collected_for > self._prefetch or isinstance(self._queue[-1], Mark)
        )

    def _settle(self, mark: Mark, *, cleared: bool) -> None:
        """Tells it behind the tick: nobody's code runs before packets leave."""
        if not self._settled:
            asyncio.get_running_loop().call_soon(self._tell)
        self._marks -= 1
        self._settled.append((mark, self.position, cleared))

    def _tell(self) -> None:
        settled, self._settled = self._settled, []
        for mark, position, cleared in settled:
            mark.settle(position, self.rate, cleared=cleared)
            if self.on_mark is not None:
                self.on_mark(mark)


def _samples(samples: NDArray[np.int16] | bytes) -> NDArray[np.int16]:
    if isinstance(samples, bytes | bytearray | memoryview):
        if len(samples) % 2:
            raise ValueError(f"{len(samples)} bytes are not whole samples of 16 bits")
        return np.frombuffer(samples, "<i2").astype(np.int16, copy=False)
    if samples.dtype != np.int16 or samples.ndim != 1:
        raise ValueError(f"samples are {samples.dtype} {samples.shape}, not int16 (n,)")
    return samples
