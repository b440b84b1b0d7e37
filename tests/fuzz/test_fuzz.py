"""A short run of the fuzzer with a fixed seed. A long one: ``python -m tests.fuzz --seconds 3600 --seed 1``."""

from __future__ import annotations

import pytest

from tests.fuzz.runner import Runner


@pytest.mark.long
def test_a_short_run() -> None:
    """Nothing a peer sends raises, leaves anything behind, or reaches another's call (RFC 3261 §26.1)."""
    runner = Runner(20261124, steps=600)
    for episode in range(3):
        runner.run(episode)
    assert runner.messages == 1800
    assert runner.datagrams > 500
    # The attack gets somewhere: the victim answers, places calls, hangs up, acknowledges and registers.
    assert {"SIP", "INVITE", "BYE", "ACK", "REGISTER"} <= runner.kinds.keys()
