"""How a call sounds, estimated: the E-model of ITU-T G.107 with everything at its default but loss and delay.

For G.711 with loss concealment, ITU-T G.113 Appendix I has Ie = 0 and Bpl = 25.1 (random loss).
"""

from __future__ import annotations

__all__ = ["mean_opinion", "rating"]

BEST = 93.2
"""R with nothing impaired: Ro - Is at the defaults."""
ROBUSTNESS = 25.1
IMPAIRED_FROM = 177.3
"""Milliseconds of one-way delay from which conversation suffers."""


def rating(loss: float, delay_ms: float) -> float:
    """R, 0..93.2.

    Args:
        loss: share of the packets that could not be played, 0..1.
        delay_ms: from mouth to ear, one way.
    """
    percent = 100 * min(max(loss, 0.0), 1.0)
    equipment = 95 * percent / (percent + ROBUSTNESS)
    delay = 0.024 * delay_ms + (0.11 * (delay_ms - IMPAIRED_FROM) if delay_ms > IMPAIRED_FROM else 0.0)
    return max(0.0, BEST - delay - equipment)


def mean_opinion(rating: float) -> float:
    """MOS-CQE of a rating (Annex B): 1 bad .. 4.5 excellent."""
    if rating <= 0:
        return 1.0
    if rating >= 100:
        return 4.5
    return max(1.0, 1 + 0.035 * rating + rating * (rating - 60) * (100 - rating) * 7e-6)
