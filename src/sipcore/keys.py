"""Keys that come twice: some far ends send each one as a telephone-event and by INFO."""

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
        self._single: deque[tuple[float, DtmfReceived]] = deque(maxlen=REMEMBERED)
        """Keys whose twin has not come, oldest first."""

    def is_new(self, key: DtmfReceived, now: float) -> bool:
        """Whether it is no twin of a key that came the other way."""
        while self._single and now - self._single[0][0] > TWIN_SECONDS:
            self._single.popleft()
        for entry in self._single:
            known = entry[1]
            if known.digit == key.digit and known.method != key.method:
                self._single.remove(entry)
                return False
        self._single.append((now, key))
        return True
