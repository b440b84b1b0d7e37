"""Which event loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from service.config import SettingsError

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

__all__ = ["loop_factory"]


def loop_factory(name: str) -> Callable[[], AbstractEventLoop] | None:
    """What makes the event loop: uvloop's, or None for asyncio's own.

    Args:
        name: ``auto``, ``uvloop`` or ``asyncio``.

    Raises:
        SettingsError: uvloop is asked for and not installed.
    """
    if name == "asyncio":
        return None
    try:
        import uvloop
    except ImportError:
        if name == "uvloop":
            raise SettingsError("--event-loop: uvloop is not installed") from None
        return None
    factory: Callable[[], AbstractEventLoop] = uvloop.new_event_loop
    return factory
