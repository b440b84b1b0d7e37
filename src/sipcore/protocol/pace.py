"""So many a second: who asks is told when it is its turn."""

from __future__ import annotations

__all__ = ["Pace"]


class Pace:
    """Turns at ``rate`` a second, after ``burst`` at once (a token bucket, kept as the time of the next turn)."""

    def __init__(self, rate: float, burst: int) -> None:
        """Args:
            rate: turns a second.
            burst: turns that may be taken at once after a pause.

        Raises:
            ValueError: one of them is not above 0.
        """
        if rate <= 0 or burst < 1:
            raise ValueError(f"a pace of {rate:g} a second after {burst} at once")
        self._interval = 1 / rate
        self._slack = (burst - 1) * self._interval
        self._next = float("-inf")

    def turn(self, now: float) -> float:
        """Takes the next turn; when it is: ``now`` or later. A turn that is taken and not used is lost."""
        at = max(self._next, now)
        self._next = at + self._interval
        return max(at - self._slack, now)
