"""The ears of one stream, without an engine: what is heard on it, frame by frame."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rtp.ears import Audience, Ears


class LoneEars(Ears):
    """Has an audience for itself."""

    def __init__(self) -> None:
        super().__init__()
        self._audience = Audience(self.rate)

    def sent(self, tick: int, frame: NDArray[np.int16]) -> None:
        """This frame went out at this tick."""
        self._audience.sent(tick, np.array([0]), frame[None].copy())

    def hear(self, tick: int, frame: NDArray[np.int16]) -> None:
        """The far end's frame of this tick."""
        self._audience.arrange([(0, 0, self)] if self.open else [])
        self._audience.hear(tick, frame[None])
