"""Flows that are kept open because somebody is registered over them (RFC 5626 §3.5, §4.4)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Hashable

    from sipcore.protocol.flows import Flow

__all__ = ["KeepAlives"]


@dataclass(slots=True)
class _Kept:
    every: float
    sure: bool
    """Whether the far end has promised to answer."""
    owners: set[Hashable] = field(default_factory=set)
    timer: asyncio.TimerHandle | None = None


class KeepAlives:
    """One timer for each flow that has an owner.

    Args:
        ping: sends a keep-alive on a flow; told whether an answer is sure to come.
        rng: spreads them over the last fifth of the interval, so that they do not come in bursts (§4.4).
    """

    def __init__(self, ping: Callable[[Flow, bool], None], rng: random.Random) -> None:
        self._ping = ping
        self._rng = rng
        self._kept: dict[Flow, _Kept] = {}
        self._flows: dict[Hashable, Flow] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, owner: Hashable, flow: Flow, every: float, *, sure: bool = False) -> None:
        """``owner`` needs ``flow``, and none that it needed before; 0 seconds: without keep-alives."""
        if self._flows.get(owner) != flow:
            self.release(owner)
        if every <= 0:
            return
        self._flows[owner] = flow
        kept = self._kept.get(flow)
        if kept is None:
            kept = self._kept[flow] = _Kept(every, sure)
            self._arm(flow, kept)
        kept.owners.add(owner)
        kept.every = min(kept.every, every)
        kept.sure = kept.sure or sure

    def release(self, owner: Hashable) -> None:
        """``owner`` needs no flow any more."""
        flow = self._flows.pop(owner, None)
        kept = self._kept.get(flow) if flow is not None else None
        if flow is None or kept is None:
            return
        kept.owners.discard(owner)
        if not kept.owners:
            self.forget(flow)

    def forget(self, flow: Flow) -> None:
        """The flow is closed."""
        kept = self._kept.pop(flow, None)
        if kept is None:
            return
        if kept.timer is not None:
            kept.timer.cancel()
        for owner in kept.owners:
            self._flows.pop(owner, None)

    def close(self) -> None:
        """Forgets every flow."""
        for flow in tuple(self._kept):
            self.forget(flow)

    def _arm(self, flow: Flow, kept: _Kept) -> None:
        wait = kept.every * self._rng.uniform(0.8, 1.0)
        kept.timer = asyncio.get_running_loop().call_later(wait, self._due, flow, kept)

    def _due(self, flow: Flow, kept: _Kept) -> None:
        self._arm(flow, kept)
        self._ping(flow, kept.sure)
