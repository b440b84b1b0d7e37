"""A 2xx to INVITE and its ACK, the callee's half (RFC 3261 §13.3.1.4)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sipcore.config import Timers
    from sipcore.protocol.transaction import ServerTransaction
    from sipcore.protocol.wire import Response

__all__ = ["PendingAnswer"]


@dataclass(slots=True, eq=False)
class PendingAnswer:
    """One 2xx, sent again after T1, 2 T1, 4 T1 … at most T2 apart until its ACK arrives or 64 T1 have passed.

    Over reliable transports too: the 2xx travels end to end, and a proxy may forward it over UDP.
    """

    transaction: ServerTransaction
    response: Response = field(repr=False)
    cseq: int
    """Of the INVITE; its ACK has the same number (§13.2.2.4)."""
    offered: bool
    """The 2xx carries our offer, so the ACK must carry the answer."""
    gives_up_at: float
    interval: float

    @classmethod
    def sent(
        cls, transaction: ServerTransaction, response: Response, now: float, timers: Timers, *, offered: bool
    ) -> PendingAnswer:
        """The state right after the first transmission at ``now``."""
        return cls(
            transaction=transaction,
            response=response,
            cseq=transaction.request.cseq.number,
            offered=offered,
            gives_up_at=now + timers.timeout,
            interval=timers.t1,
        )

    def next_retransmission(self, now: float, timers: Timers) -> float:
        """When to look again, and doubles the interval for the time after that."""
        when = min(now + self.interval, self.gives_up_at)
        self.interval = min(self.interval * 2, timers.t2)
        return when
