"""How the interpreter is set for many calls: it concerns the whole program, so a library never does it unasked."""

from __future__ import annotations

import gc
import sys

__all__ = ["tune_interpreter"]

SWITCH_INTERVAL = 0.0005
"""Seconds after which a waiting thread gets the interpreter. gRPC polls in a thread of its own: with the default of
5 ms it holds up the 20 ms media clock; with this the p99 of the clock's deviation falls several times."""
COLLECT_AFTER = (5_000, 4, 20)
"""Thresholds of the three generations. A call that is over leaves some fifteen objects that live for the 32 s of its
transactions, and twenty that refer to one another, which only the collector finds. A look at what is young shall not
take a good part of a tick, so the second generation stays small: 20,000 objects take a few milliseconds. A full
collection under a thousand calls stops the media clock for longer than a tick: between two of them are at least 400,000
objects, some ten thousand calls."""


def tune_interpreter() -> None:
    """Sets the thread switch interval and the garbage collector for long-running telephony; call it once, at start.

    What exists by then (modules, code, settings) is never looked at again by the collector.
    """
    sys.setswitchinterval(SWITCH_INTERVAL)
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)
