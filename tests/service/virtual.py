"""Coroutine tests whose seconds pass at once, and which leave no task behind."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec

from tests.kit.virtual_time import run_virtual
from tests.service.bench import Bench

__all__ = ["in_virtual_time"]

P = ParamSpec("P")


def in_virtual_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Runs an ``async def`` test in virtual time, closes its benches, and checks that no task is left."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        async def main() -> None:
            try:
                await test(*args, **kwargs)
            finally:
                await Bench.close_all()

        run_virtual(main())

    return run
