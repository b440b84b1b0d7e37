"""Episodes one after another, and what must hold of all of them together."""

from __future__ import annotations

import gc
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from tests.fuzz.media import Media
from tests.fuzz.world import World, weight

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Failure", "Runner"]

WARM_UP = 5
"""Episodes after which caches are full and memory has to stay what it is."""
GROWTH_MIB = 64.0
LEFT_OBJECTS = 20_000
"""What an idle stack may hold: settings, tables of transactions, bounded memories of hosts and dialogs."""
CHECK_EVERY = 300


class Failure(Exception):
    """An episode failed; the cause says how."""

    def __init__(self, recent: Sequence[tuple[str, bytes]]) -> None:
        super().__init__("an episode failed")
        self.recent = tuple(recent)


class Runner:
    """Runs episodes of one seed."""

    def __init__(self, seed: int, *, steps: int) -> None:
        self._seed = seed
        self._steps = steps
        self._episodes = 0
        self._memory = 0.0
        self.messages = 0
        self.datagrams = 0
        self.growth_mib = 0.0
        self.kinds: Counter[str] = Counter()

    def run(self, episode: int) -> None:
        """One episode.

        Raises:
            Failure: something that must hold does not.
        """
        name = f"{self._seed}/{episode}"
        self._signalling(name)
        self._media(name)
        self._episodes += 1
        self._check_memory()

    def _signalling(self, name: str) -> None:
        world = World(name)
        try:
            for step in range(self._steps):
                world.step()
                if step % CHECK_EVERY == CHECK_EVERY - 1:
                    world.check()
            world.settle()
            held = weight(world.stack)
            assert held < LEFT_OBJECTS, f"an idle stack holds {held} objects"
        except Exception as error:
            raise Failure(world.recent) from error
        self.messages += self._steps
        self.kinds.update(world.kinds)

    def _media(self, name: str) -> None:
        media = Media(name)
        try:
            for _ in range(self._steps // 3):
                media.step()
                self.datagrams += len(media.recent)
            media.check()
        except Exception as error:
            raise Failure([("rtp", datagram) for datagram in media.recent]) from error
        finally:
            media.close()

    def _check_memory(self) -> None:
        gc.collect()
        statm = Path("/proc/self/statm")
        if not statm.exists():
            return
        now = int(statm.read_text().split()[1]) * 4096 / 2**20
        if self._episodes <= WARM_UP:
            self._memory = now
        self.growth_mib = now - self._memory
        if self.growth_mib > GROWTH_MIB:
            raise Failure([]) from AssertionError(f"memory grew by {self.growth_mib:.0f} MiB since it was warm")
