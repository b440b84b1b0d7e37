"""What is heard on one stream, made once a tick for all who hear it.

The far end's frame is copied once, mixed once with what went out at the same tick, and resampled once, however many
listen. Everything is placed by the number of its tick: what a stalled loop left out is known to be missing, so that a
recording can put silence of the right length there.

Whatever the rate of the stream is, and becomes, each is given frames of its own rate.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from rtp.resample import Downsampler, Upsampler, saturate

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Ears", "Hearer", "Taker"]

Side = Literal["far", "sent", "both"]

SENT_FRAMES = 8
"""Most frames sent and not yet paired with the far end's; one tick sends five at most."""


class Hearer(Protocol):
    """Hears a stream in frames of 20 ms."""

    @property
    def rate(self) -> int:
        """8000 or 16000."""

    @property
    def both(self) -> bool:
        """Both sides mixed; else the far end alone."""

    def hear(self, frame: NDArray[np.int16]) -> None:
        """One frame, int16 (rate / 50,), read-only, shared with others, and its own memory."""


class Taker(Protocol):
    """Takes the two sides of a stream apart."""

    @property
    def rate(self) -> int:
        """8000 or 16000."""

    def take(self, missing: int, far: NDArray[np.int16], sent: NDArray[np.int16] | None) -> None:
        """A frame of each side, int16 (rate / 50,), to be kept as they are; ``sent``: None is silence.

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
        self._hearers: list[Hearer] = []
        self._takers: list[Taker] = []
        self._sent: deque[tuple[int, NDArray[np.int16]]] = deque(maxlen=SENT_FRAMES)
        self._rate = 8000
        self._converters: dict[Side, Upsampler | Downsampler] = {}
        self._next: int | None = None  # the tick after the one heard last

    def add(self, hearer: Hearer) -> None:
        """Hears from the next tick on."""
        self._hearers.append(hearer)
        self._arrange()

    def add_taker(self, taker: Taker) -> None:
        """Takes from the next tick on."""
        self._takers.append(taker)
        self._arrange()

    def remove(self, one: Hearer | Taker) -> None:
        """Hears, or takes, no more. One that is not here is left alone."""
        self._hearers = [other for other in self._hearers if other is not one]
        self._takers = [other for other in self._takers if other is not one]
        self._arrange()

    def _arrange(self) -> None:
        self.open = bool(self._hearers or self._takers)
        self.both = bool(self._takers) or any(hearer.both for hearer in self._hearers)
        sides: set[Side] = {"both" if one.both else "far" for one in self._hearers if one.rate != self._rate}
        if any(taker.rate != self._rate for taker in self._takers):
            sides |= {"far", "sent"}
        self._converters = {side: self._converters.get(side) or self._converter() for side in sides}
        if not self.open:
            self._next = None
            self._sent.clear()

    def rerate(self, rate: int) -> None:
        """The stream has that rate from now on."""
        self._rate = rate
        self._converters = {}
        self._sent.clear()
        self._arrange()

    def _converter(self) -> Upsampler | Downsampler:
        return Upsampler() if self._rate == 8000 else Downsampler()

    # ---- on the clock ------------------------------------------------------------------------------------------------

    def sent(self, tick: int, pcm: NDArray[np.int16]) -> None:
        """This frame went out at this tick; copied. Ticks without a call are silence."""
        self._sent.append((tick, pcm.copy()))

    def hear(self, tick: int, pcm: NDArray[np.int16]) -> None:
        """The far end's frame of this tick, behind all that were sent at it; copied."""
        far = pcm.copy()
        far.flags.writeable = False
        sent = self._sent_at(tick)
        missing = tick - self._next if self._next is not None else 0
        self._next = tick + 1
        made: dict[tuple[Side, int], NDArray[np.int16]] = {("far", self._rate): far}
        if sent is not None:
            made["sent", self._rate] = sent
        for taker in tuple(self._takers):
            taker.take(missing, self._at(taker.rate, "far", made), self._sent_at_rate(taker.rate, made))
        for hearer in tuple(self._hearers):
            hearer.hear(self._at(hearer.rate, "both" if hearer.both else "far", made))

    def _sent_at(self, tick: int) -> NDArray[np.int16] | None:
        while self._sent and self._sent[0][0] < tick:
            self._sent.popleft()
        return self._sent.popleft()[1] if self._sent and self._sent[0][0] == tick else None

    def _at(self, rate: int, side: Side, made: dict[tuple[Side, int], NDArray[np.int16]]) -> NDArray[np.int16]:
        """The frame of a side at that rate, made once."""
        if ("both", self._rate) not in made and side == "both":
            far, sent = made["far", self._rate], made.get(("sent", self._rate))
            made["both", self._rate] = far if sent is None else _mix(far, sent)
        frame = made.get((side, rate))
        if frame is None:
            convert = self._converters.get(side) or self._converter()
            frame = made[side, rate] = convert(made[side, self._rate])
        return frame

    def _sent_at_rate(self, rate: int, made: dict[tuple[Side, int], NDArray[np.int16]]) -> NDArray[np.int16] | None:
        """What was sent, likewise; a filter is told of silence, too."""
        if rate == self._rate:
            return made.get(("sent", rate))
        made.setdefault(("sent", self._rate), np.zeros(self._rate // 50, np.int16))
        return self._at(rate, "sent", made)


def _mix(one: NDArray[np.int16], other: NDArray[np.int16]) -> NDArray[np.int16]:
    """The sum, saturating."""
    both = np.add(one, other, dtype=np.int32)
    saturate(both)
    return both.astype(np.int16)
