"""Talking into a stream live, in place of what it plays.

What is said comes from a network and an operating system that deliver in fits: it waits a little before it goes out,
and what would wait too long is thrown away, since a conversation cannot use it any more.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from rtp.listener import PATIENCE_FRAMES, Listener
from rtp.resample import HISTORY, doubled_after, halved_after

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["PREFETCH_FRAMES", "Talker", "Voice"]

PREFETCH_FRAMES = 2
"""Frames collected before the first goes out, and again after a gap: what jitter of 40 ms needs."""
MAX_FRAMES = 15
"""Frames that may wait: 300 ms. The oldest make room."""
TRIM_FRAMES = 50
"""Once a second, of a queue that never ran low in that second, one frame is left out: delay does not stay."""

SILENCE = np.zeros(HISTORY, np.int16)


class Voice:
    """Frames on their way from a person to the stream."""

    def __init__(
        self, *, rate: int, line: int = 8000, prefetch: int = PREFETCH_FRAMES, max_frames: int = MAX_FRAMES
    ) -> None:
        self.rate = rate
        self.frame_samples = rate // 50
        self.received = 0
        """Frames written."""
        self.underruns = 0
        """Times that silence went out since the next frame came too late."""
        self.discarded = 0
        """Frames that came too early to be sent in time."""
        self.before = SILENCE
        """The end of the frame that was read last, as it was said; where it is resampled,"""
        self.made: NDArray[np.int16] | None = None
        """and the next one, where that has been made already: see `rtp.halving`."""
        self._line = line
        self._frames: deque[NDArray[np.int16]] = deque()
        self._prefetch = prefetch
        self._max = max_frames
        self._muted = False
        self._collecting = True
        self._collected_for = 0  # ticks since the first frame collected
        self._reads = 0
        self._lowest = max_frames

    def follow(self, line: int) -> None:
        """For the stream, whose rate is ``line`` from now on."""
        self._line = line
        self._forget()

    @property
    def muted(self) -> bool:
        """Silence goes out, and what is said is thrown away."""
        return self._muted

    @muted.setter
    def muted(self, muted: bool) -> None:
        self._muted = muted
        if muted:
            self._forget()
            self._collect()

    def write(self, samples: NDArray[np.int16]) -> None:
        """One frame, int16 (frame_samples,).

        Raises:
            ValueError: another size.
        """
        if len(samples) != self.frame_samples:
            raise ValueError(f"a frame has {self.frame_samples} samples, not {len(samples)}")
        self.received += 1
        if self._muted:
            return
        if len(self._frames) >= self._max:
            self._discard()
        self._frames.append(np.array(samples, np.int16))

    def ahead(self) -> NDArray[np.int16] | None:
        """The next frame as it was said, where it is to be halved."""
        halved = self._line < self.rate and self.made is None and self._frames
        return self._frames[0] if halved else None

    def read(self) -> NDArray[np.int16] | None:
        """The next frame to send, for the clock; None: silence."""
        if self._collecting and not self._ready():
            return None
        if not self._frames:
            self.underruns += 1
            self._collect()
            return None
        self._collecting = False
        frame = self._at_line(self._frames.popleft())
        self._trim()
        return frame

    def _at_line(self, frame: NDArray[np.int16]) -> NDArray[np.int16]:
        if self._line == self.rate:
            return frame
        made, self.made = self.made, None
        if made is None:
            made = (doubled_after if self._line > self.rate else halved_after)(self.before, frame)
        self.before = frame[-HISTORY:]
        return made

    def _discard(self) -> None:
        """The next frame is not said."""
        self._frames.popleft()
        self.made = None
        self.discarded += 1

    def _forget(self) -> None:
        """Nothing waits, and what comes has nothing to do with what was."""
        self._frames.clear()
        self.before, self.made = SILENCE, None

    def _ready(self) -> bool:
        """Enough has been collected, or all that there is has waited as long as enough would."""
        if not self._frames:
            return False
        self._collected_for += 1
        return len(self._frames) > self._prefetch or self._collected_for > self._prefetch

    def _collect(self) -> None:
        self._collecting = True
        self._collected_for = 0

    def _trim(self) -> None:
        self._reads += 1
        self._lowest = min(self._lowest, len(self._frames))
        if self._reads >= TRIM_FRAMES:
            if self._lowest > self._prefetch:
                self._discard()
            self._reads, self._lowest = 0, self._max


class Talker(Listener):
    """Hears the far end alone, and talks to it: what the stream plays goes on silently meanwhile."""

    def __init__(
        self,
        *,
        rate: int = 8000,
        line: int = 8000,
        max_frames: int = 50,
        patience: int = PATIENCE_FRAMES,
        prefetch: int = PREFETCH_FRAMES,
    ) -> None:
        """Args:
            rate: of both directions, one of `rtp.listener.LIVE_RATES`.
            line: of the stream, likewise.
            max_frames: frames kept for a slow reader.
            patience: frames; see `Listener.stalled`.
            prefetch: frames collected before the first goes out.

        Raises:
            ValueError: another rate.
        """
        super().__init__(rate=rate, both=False, max_frames=max_frames, patience=patience)
        self.voice = Voice(rate=rate, line=line, prefetch=prefetch)

    def say(self, samples: NDArray[np.int16]) -> None:
        """One frame of 20 ms, int16 (rate / 50,), at the pace of the clock; what comes much faster is thrown away.

        Raises:
            ValueError: another size.
        """
        self.voice.write(samples)

    @property
    def muted(self) -> bool:
        """Silence goes out instead of what is said."""
        return self.voice.muted

    @muted.setter
    def muted(self, muted: bool) -> None:
        self.voice.muted = muted
