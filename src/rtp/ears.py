"""What is heard on one stream, made once a tick for all who hear it.

The far end's frame is copied once, mixed once with what went out at the same tick, and resampled once, however many
listen. Everything is placed by the number of its tick: what a stalled loop left out is known to be missing, so that a
recording can put silence of the right length there.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

import numpy as np

from rtp.resample import Upsampler, saturate

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Ears", "Hearer", "Taker"]

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

    def take(self, missing: int, far: NDArray[np.int16], sent: NDArray[np.int16] | None) -> None:
        """A frame of each side, int16 (160,), to be kept as they are; ``sent``: None is silence.

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
        self._upsamplers: dict[bool, Upsampler] = {}
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
        fast = {hearer.both for hearer in self._hearers if hearer.rate != 8000}
        self._upsamplers = {both: self._upsamplers.get(both) or Upsampler() for both in fast}
        if not self.open:
            self._next = None
            self._sent.clear()

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
        for taker in tuple(self._takers):
            taker.take(missing, far, sent)
        if not self._hearers:
            return
        made: dict[tuple[bool, int], NDArray[np.int16]] = {}
        for hearer in tuple(self._hearers):
            kind = (hearer.both, hearer.rate)
            frame = made.get(kind)
            if frame is None:
                frame = made[kind] = self._make(*kind, far, sent)
            hearer.hear(frame)

    def _sent_at(self, tick: int) -> NDArray[np.int16] | None:
        while self._sent and self._sent[0][0] < tick:
            self._sent.popleft()
        return self._sent.popleft()[1] if self._sent and self._sent[0][0] == tick else None

    def _make(self, both: bool, rate: int, far: NDArray[np.int16], sent: NDArray[np.int16] | None) -> NDArray[np.int16]:
        frame = far if sent is None or not both else _mix(far, sent)
        return frame if rate == 8000 else self._upsamplers[both](frame)


def _mix(one: NDArray[np.int16], other: NDArray[np.int16]) -> NDArray[np.int16]:
    """The sum, saturating."""
    both = np.add(one, other, dtype=np.int32)
    saturate(both)
    return both.astype(np.int16)
