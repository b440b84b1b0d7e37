"""What is heard on the streams, made once a tick for all who hear them.

An `Ears` knows who hears one stream; an `Audience` makes the frames, of all streams of one rate at once: what came is
mixed with what went out at the same tick, and resampled, however many listen. Everything is placed by the number of its
tick: what a stalled loop left out is known to be missing, so that a recording can put silence there.

Whatever the rate of the stream is, and becomes, each is given frames of its own rate.
"""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from rtp.resample import HISTORY, double_rows, halve_rows, saturate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

__all__ = ["Audience", "Ears", "Hearer", "Taker"]

logger = logging.getLogger(__name__)

Side = Literal["far", "sent", "both"]

SENT_TICKS = 8
"""Most ticks whose frames were sent and are not yet paired with the far end's; one tick sends five at most."""


class Hearer(Protocol):
    """Hears a stream in frames of 20 ms."""

    @property
    def rate(self) -> int:
        """8000 or 16000."""

    @property
    def both(self) -> bool:
        """Both sides mixed; else the far end alone."""

    def hear(self, frame: NDArray[np.int16]) -> None:
        """One frame, int16 (rate / 50,), read-only. It shares memory with the frames of other streams: what is kept for
        long is better copied."""


class Taker(Protocol):
    """Takes the two sides of a stream apart."""

    @property
    def rate(self) -> int:
        """8000 or 16000."""

    def take(self, missing: int, far: NDArray[np.int16], sent: NDArray[np.int16] | None) -> None:
        """A frame of each side, int16 (rate / 50,), which nobody changes any more; ``sent``: None is silence.

        Args:
            missing: ticks ahead of this one of which nothing is known.
            far: from the far end.
            sent: to the far end.
        """


class Ears:
    """All who hear one stream."""

    def __init__(self) -> None:
        self.open = False
        """Somebody hears."""
        self.both = False
        """Somebody hears what is sent, too."""
        self.hearers: list[Hearer] = []
        self.takers: list[Taker] = []
        self.rate = 8000
        """Of the stream."""
        self.next: int | None = None
        """The tick after the one heard last; for the audience,"""
        self.before: dict[Side, NDArray[np.int16]] = {}
        """and of each side that is resampled the last samples."""

    def add(self, hearer: Hearer) -> None:
        """Hears from the next tick on."""
        self.hearers.append(hearer)
        self._arrange()

    def add_taker(self, taker: Taker) -> None:
        """Takes from the next tick on."""
        self.takers.append(taker)
        self._arrange()

    def remove(self, one: Hearer | Taker) -> None:
        """Hears, or takes, no more. One that is not here is left alone."""
        self.hearers = [other for other in self.hearers if other is not one]
        self.takers = [other for other in self.takers if other is not one]
        self._arrange()

    def _arrange(self) -> None:
        self.open = bool(self.hearers or self.takers)
        self.both = bool(self.takers) or any(hearer.both for hearer in self.hearers)
        sides: set[Side] = {"both" if one.both else "far" for one in self.hearers if one.rate != self.rate}
        if any(taker.rate != self.rate for taker in self.takers):
            sides |= {"far", "sent"}
        silence = np.zeros(HISTORY, np.int16)
        self.before = {side: self.before.get(side, silence) for side in sides}
        if not self.open:
            self.next = None

    def rerate(self, rate: int) -> None:
        """The stream has that rate from now on."""
        self.rate = rate
        self.before = {}
        self._arrange()


@dataclass(frozen=True, slots=True)
class _Resampled:
    """One side, of those streams of which somebody hears it at another rate."""

    places: NDArray[np.int64]
    """Where these streams are among all of the side."""
    before: NDArray[np.int16]
    """(n, `HISTORY`): their last samples. The ears hold its rows, and so find them when they are arranged anew."""


Kind = tuple[Side, bool]
"""What somebody wants to hear, and whether resampled."""


class Audience:
    """All who hear any stream of one rate."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._convert = double_rows if rate == 8000 else halve_rows
        self._ears: list[Ears] = []
        self._rows = np.zeros(0, np.int64)
        """Of these streams, in order,"""
        self._places = self._rows
        """and where they are among all that play."""
        self._mixed = self._rows
        """Which of them are heard with what is sent."""
        self._resampled: dict[Side, _Resampled] = {}
        self._hearers: dict[Kind, list[tuple[Callable[[NDArray[np.int16]], None], int]]] = {}
        self._takers: list[tuple[Taker, int, tuple[int, int] | None]] = []
        """With the place of the stream, and those of its two sides among the resampled, where it takes these."""
        self._sent: deque[tuple[int, NDArray[np.int64], NDArray[np.int16]]] = deque(maxlen=SENT_TICKS)
        self._next: int | None = None
        """The tick after the one heard last."""
        self._nexts: list[int | None] | None = None
        """The same of each stream, where some tick has not been heard since they were arranged."""

    def leave(self) -> None:
        """What was heard last is told to the ears: they are about to be arranged, here or elsewhere."""
        if self._nexts is None:
            for one in self._ears:
                one.next = self._next if one.open else None
        self._ears = []

    def arrange(self, listened: Iterable[tuple[int, int, Ears]]) -> None:
        """Somebody came or went. These are all streams that are heard: the place of each among those that play, its
        row, and its ears, in the order of the rows."""
        self.leave()
        members = list(listened)
        self._ears = [ears for _, _, ears in members]
        self._nexts = [ears.next for ears in self._ears]
        self._places = np.array([place for place, _, _ in members], np.int64)
        self._rows = np.array([row for _, row, _ in members], np.int64)
        mixed = [place for place, ears in enumerate(self._ears) if any(one.both for one in ears.hearers)]
        self._mixed = np.array(mixed, np.int64)
        self._resampled = {}
        where: dict[Kind, dict[int, int]] = {
            ("far", False): {place: place for place in range(len(members))},
            ("both", False): {place: index for index, place in enumerate(mixed)},
        }
        sides: tuple[Side, ...] = ("far", "sent", "both")
        for side in sides:
            places = [place for place, ears in enumerate(self._ears) if side in ears.before]
            if places:
                among = where["both", False] if side == "both" else where["far", False]
                before = np.stack([self._ears[place].before[side] for place in places])
                for place, row in zip(places, before, strict=True):
                    self._ears[place].before[side] = row
                self._resampled[side] = _Resampled(np.array([among[place] for place in places], np.int64), before)
                where[side, True] = {place: index for index, place in enumerate(places)}
        self._hearers, self._takers = {}, []
        for place, ears in enumerate(self._ears):
            for hearer in ears.hearers:
                kind: Kind = ("both" if hearer.both else "far", hearer.rate != self._rate)
                self._hearers.setdefault(kind, []).append((hearer.hear, where[kind][place]))
            for taker in ears.takers:
                other = None
                if taker.rate != self._rate:
                    other = (where["far", True][place], where["sent", True][place])
                self._takers.append((taker, place, other))

    # ---- on the clock ------------------------------------------------------------------------------------------------

    def sent(self, tick: int, rows: NDArray[np.int64], frames: NDArray[np.int16]) -> None:
        """These frames went out at this tick, int16 (n, rate / 50), which nobody changes any more; silence on all other
        rows."""
        self._sent.append((tick, rows, frames))

    def hear(self, tick: int, frames: NDArray[np.int16]) -> None:
        """The far ends' frames of this tick, of all streams that play, behind all that were sent at it."""
        if not self._ears:
            return
        far, sent = frames[self._places], self._sent_at(tick)
        native: dict[Side, NDArray[np.int16]] = {"far": far}
        if sent is None and "sent" in self._resampled:
            sent = np.zeros_like(far)
        if sent is not None:
            native["sent"] = sent
        if len(self._mixed):
            mixed = far[self._mixed]
            native["both"] = mixed if sent is None else _mix(mixed, sent[self._mixed])
        made: dict[Kind, NDArray[np.int16]] = {(side, False): samples for side, samples in native.items()}
        for side, resampled in self._resampled.items():
            samples = native[side][resampled.places]
            made[side, True] = self._convert(resampled.before, samples)
            resampled.before[:] = samples[:, -HISTORY:]
        for samples in made.values():
            samples.flags.writeable = False
        if self._takers:
            self._hand_over(tick, made)
        self._next, self._nexts = tick + 1, None
        for kind, hearers in self._hearers.items():
            rows = _rows(made[kind])
            for hear, index in hearers:
                try:
                    hear(rows[index])
                except Exception:
                    logger.exception("who hears a stream failed at a frame")

    def _hand_over(self, tick: int, made: dict[Kind, NDArray[np.int16]]) -> None:
        """To those who take both sides apart."""
        far, sent = _rows(made.get(("far", False))), _rows(made.get(("sent", False)))
        other_far, other_sent = _rows(made.get(("far", True))), _rows(made.get(("sent", True)))
        missing = tick - self._next if self._next is not None else 0
        for taker, place, other in self._takers:
            if self._nexts is not None:
                since = self._nexts[place]
                missing = tick - since if since is not None else 0
            try:
                if other is None:
                    taker.take(missing, far[place], sent[place] if sent else None)
                else:
                    taker.take(missing, other_far[other[0]], other_sent[other[1]])
            except Exception:
                logger.exception("who takes a stream failed at a frame")

    def _sent_at(self, tick: int) -> NDArray[np.int16] | None:
        """What went out at this tick on these streams; None: silence on all."""
        while self._sent and self._sent[0][0] < tick:
            self._sent.popleft()
        if not self._sent or self._sent[0][0] != tick:
            return None
        _, rows, frames = self._sent.popleft()
        if len(rows) == len(self._rows) and (rows == self._rows).all():
            return frames
        known = np.isin(rows, self._rows)
        sent = np.zeros((len(self._rows), self._rate // 50), np.int16)
        sent[np.searchsorted(self._rows, rows[known])] = frames[known]
        return sent


def _rows(samples: NDArray[np.int16] | None) -> list[NDArray[np.int16]]:
    return [] if samples is None else list(samples)


def _mix(one: NDArray[np.int16], other: NDArray[np.int16]) -> NDArray[np.int16]:
    """The sum, saturating."""
    both = np.add(one, other, dtype=np.int32)
    saturate(both)
    return both.astype(np.int16)
