"""Keys that come twice: some far ends send each one as a telephone-event, by INFO, and as tones in the audio."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sipcore.events import DtmfReceived

__all__ = ["TWIN_SECONDS", "Keys"]

TWIN_SECONDS = 1.0
"""How far apart the two may be: an INFO tells of a key when it was pressed or when it was released, and may be sent
again; an event ends with the key."""
REMEMBERED = 32


class Keys:
    """Tells each key once. A far end that uses one way only never loses one, however fast it presses."""

    def __init__(self) -> None:
        self._known: deque[tuple[float, str, set[str]]] = deque(maxlen=REMEMBERED)
        """Keys lately told: when, which, and the ways that it has come so far; oldest first."""

    def is_new(self, key: DtmfReceived, now: float) -> bool:
        """Whether it is no twin of a key that came another way."""
        while self._known and now - self._known[0][0] > TWIN_SECONDS:
            self._known.popleft()
        for _, digit, ways in self._known:
            if digit == key.digit and key.method not in ways:
                ways.add(key.method)
                return False
        self._known.append((now, key.digit, {key.method}))
        return True
