"""The heap of deadlines."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from sipcore.protocol.deadlines import Deadlines


def test_keys_come_due_in_order_of_time() -> None:
    """Earliest first; equal times in the order they were set."""
    deadlines: Deadlines[str] = Deadlines()
    for key, when in (("c", 3.0), ("a", 1.0), ("b2", 2.0), ("b3", 2.0)):
        deadlines.set(key, when)
    assert deadlines.next() == 1.0
    assert deadlines.pop_due(0.9) == []
    assert deadlines.pop_due(2.0) == ["a", "b2", "b3"]
    assert deadlines.pop_next(5.0) == "c"
    assert deadlines.pop_next(5.0) is None
    assert deadlines.next() is None


def test_a_deadline_can_be_moved_and_cancelled() -> None:
    """One deadline per key; the last one counts."""
    deadlines: Deadlines[str] = Deadlines()
    deadlines.set("a", 1.0)
    deadlines.set("a", 5.0)
    deadlines.set("b", 2.0)
    deadlines.cancel("b")
    deadlines.cancel("unknown")
    assert len(deadlines) == 1
    assert "a" in deadlines
    assert "b" not in deadlines
    assert deadlines.next() == 5.0
    assert deadlines.pop_due(4.0) == []
    assert deadlines.pop_due(5.0) == ["a"]


def test_the_heap_stays_in_proportion_to_what_lives() -> None:
    """A million cancelled timers cost no memory."""
    deadlines: Deadlines[int] = Deadlines()
    rng = random.Random(1)
    for key in range(20_000):
        deadlines.set(key % 50, rng.random())
        if key % 3 == 0:
            deadlines.cancel(rng.randrange(50))
        assert len(deadlines._heap) <= 102


@given(st.lists(st.tuples(st.integers(0, 8), st.one_of(st.none(), st.integers(0, 20))), max_size=300))
def test_it_behaves_as_a_sorted_dictionary(steps: list[tuple[int, int | None]]) -> None:
    """None cancels, a number sets; then everything comes due in order."""
    deadlines: Deadlines[int] = Deadlines()
    model: dict[int, tuple[int, int]] = {}
    for number, (key, when) in enumerate(steps):
        if when is None:
            deadlines.cancel(key)
            model.pop(key, None)
        else:
            deadlines.set(key, when)
            model[key] = (when, number)
        assert deadlines.next() == (min(model.values())[0] if model else None)
    assert deadlines.pop_due(20) == sorted(model, key=lambda key: model[key])
    assert len(deadlines) == 0
