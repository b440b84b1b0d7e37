"""The peers among themselves: what the other tests rely on, without the stack under test."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from tests.interop import scenarios
from tests.interop.kit.align import align, faults
from tests.interop.kit.kamailio import KamailioOptions
from tests.interop.kit.peers import Peers
from tests.interop.kit.scenario import Scenario
from tests.interop.kit.sound import read_wav, speech_like, write_wav

pytestmark = pytest.mark.interop


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_one_baresip_hears_another_through_kamailio(
    peers: Peers, tmp_path: Path, transport: Literal["udp", "tcp"]
) -> None:
    speech = speech_like(3.0, seed=7)
    kamailio = await peers.kamailio()
    bob = await peers.baresip("bob", kamailio)
    alice = await peers.baresip(
        "alice", kamailio, transport=transport, source=write_wav(tmp_path / "speech.wav", speech)
    )
    assert len(await kamailio.contacts("alice")) == 1

    await alice.dial(f"sip:{kamailio.aor('bob', transport=transport)}")
    await bob.event("CALL_ESTABLISHED")
    await bob.event("CALL_CLOSED")  # alice's file came to its end

    log = kamailio.program.log()
    assert f"request INVITE sip:{kamailio.aor('bob')}" in log
    heard = read_wav(await bob.recording())
    found = align(heard, speech)
    assert found.correlation > 0.95
    assert faults(heard, speech, found.offset) == []


async def test_a_peer_that_does_not_register_can_be_bound_to_a_subscriber(peers: Peers) -> None:
    kamailio = await peers.kamailio(KamailioOptions(record_route=False, challenge_requests=False))
    await kamailio.bind("carol", "sip:carol@127.0.0.1:9")
    contacts = await kamailio.contacts("carol")
    assert contacts[0]["Address"] == "sip:carol@127.0.0.1:9"
    assert await kamailio.contacts("dave") == []


async def test_sipp_follows_its_script_through_kamailio(peers: Peers) -> None:
    """A call of one scripted peer to another, with Record-Route; the called one is bound to a subscriber."""
    kamailio = await peers.kamailio(KamailioOptions(challenge_requests=False))
    called = await peers.sipp(scenarios.answers())
    await kamailio.bind("carol", called.uri("carol"))
    caller = await peers.sipp(scenarios.calls(), target=kamailio.address, user="carol")
    await caller.finished()
    await called.finished()
    assert called.received("BYE") == 1


@pytest.mark.parametrize("script", [scenarios.refuses("486 Busy Here"), scenarios.hangs_up_first(200)], ids=str)
async def test_baresip_takes_part_in_a_script(peers: Peers, script: Scenario) -> None:
    """The scripts in which SIPp is called are well-formed SIP: another telephone gets along with them."""
    alice = await peers.baresip("alice", "127.0.0.1:9")
    far_end = await peers.sipp(script)
    await alice.dial(far_end.uri())
    await alice.event("CALL_CLOSED")
    await far_end.finished()


async def test_baresip_is_held_and_resumed_by_a_script(peers: Peers) -> None:
    alice = await peers.baresip("alice", "127.0.0.1:9")
    far_end = await peers.sipp(scenarios.HOLDS_AND_RESUMES)
    await alice.dial(far_end.uri())
    await alice.event("CALL_ESTABLISHED")
    await alice.event("CALL_CLOSED")
    await far_end.finished()
