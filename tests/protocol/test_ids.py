"""Random names (RFC 3261 §8.1.1, §19.3)."""

from __future__ import annotations

import random

from sipcore.protocol.ids import Ids


def test_a_seed_repeats_a_run() -> None:
    """Every draw comes from the generator that was given."""
    one, other = Ids(random.Random(3)), Ids(random.Random(3))
    for name in ("branch", "tag", "call_id", "cseq", "session_id", "cnonce"):
        assert getattr(one, name)() == getattr(other, name)()


def test_nothing_is_drawn_twice() -> None:
    """§8.1.1.7, §19.3: unique in space and time, with more than 32 bits."""
    ids = Ids(random.Random(4))
    for draw in (ids.branch, ids.tag, ids.call_id, ids.cnonce):
        assert len({draw() for _ in range(1000)}) == 1000


def test_forms() -> None:
    """§8.1.1.4, §8.1.1.5, §8.1.1.7, RFC 8866 §5.2."""
    ids = Ids(random.Random(5))
    assert ids.branch().startswith("z9hG4bK")
    assert len(ids.tag()) == 16
    assert ids.call_id("example.com").endswith("@example.com")
    assert "@" not in ids.call_id()
    assert all(0 < ids.cseq() < 2**31 for _ in range(1000))
    assert 0 < ids.session_id() < 2**53
