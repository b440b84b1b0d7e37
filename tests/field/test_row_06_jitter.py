"""Complaint 6, "incoming audio choppy, no working jitter buffer": it works, it is on, and it is reached end to end.

Two agents talk through a relay that loses 5 % and delays each datagram by up to 60 ms, over real sockets.
"""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from numpy.typing import NDArray

from sipcore.call import Call
from sipcore.config import Account, UserAgentConfig
from sipcore.registration import Registration
from sipcore.useragent import UserAgent
from tests.kit.lossy_relay import LossyRelay, Side
from tests.kit.network import Conditions
from tests.rtp.test_ports import free_range

LEFT = Side("127.0.0.1", "127.0.0.31")
RIGHT = Side("127.0.0.2", "127.0.0.32")
BAD = Conditions(delay=(0.0, 0.06), loss=0.05)
TALK = 4.0
HERTZ = 8000 * 20 / 400
"""A tone whose period divides a frame."""


async def answered(line: Registration) -> Call:
    async for call in line.incoming():
        await call.answer()
        return call
    raise AssertionError("no call came")


async def listen(call: Call, seconds: float) -> NDArray[np.int16]:
    frames = []
    async for frame in call.audio():
        frames.append(frame)
        if len(frames) >= seconds * 50:
            break
    return np.concatenate(frames)


@pytest.mark.long
async def test_both_sides_of_a_call_hear_without_gaps_over_a_bad_network() -> None:
    ports = free_range(2)
    async with (
        UserAgent(UserAgentConfig(sip_host=LEFT.host, advertise=LEFT.advertised, rtp_ports=ports)) as here,
        UserAgent(UserAgentConfig(sip_host=RIGHT.host, advertise=RIGHT.advertised, rtp_ports=ports)) as there,
    ):
        alice = here.open_line(Account(f"alice@{LEFT.advertised}:{here.sip_address[1]}"))
        bob = there.open_line(Account(f"bob@{RIGHT.advertised}:{there.sip_address[1]}"))
        relayed = {here.sip_address[1], there.sip_address[1], *range(ports[0], ports[1] + 1)}
        with LossyRelay(LEFT, RIGHT, relayed, BAD, seed=6):
            answering = asyncio.create_task(answered(bob))
            call = await alice.call(bob.address.text)
            far = await answering
            await far.connected()
            tone = (8000 * np.sin(2 * np.pi * HERTZ * np.arange(round(8000 * (TALK + 1))) / 8000)).astype(np.int16)
            call.play(tone)
            far.play(tone)
            heard = await asyncio.gather(listen(call, TALK), listen(far, TALK))
            for side, audio in zip((call, far), heard, strict=True):
                statistics = side.statistics()
                assert min(statistics.lost, statistics.reordered, statistics.concealed) > 0
                assert 20 <= statistics.delay_ms <= 200
                assert 20 <= statistics.target_delay_ms <= 200
                assert statistics.late < statistics.packets_received / 10
                # What is heard goes through without silences.
                levels = np.abs(audio.reshape(-1, 160).astype(int)).mean(axis=1)
                spoken = levels[int(np.argmax(levels > 2500)) :]
                assert len(spoken) > (TALK - 1) * 50
                assert (spoken > 1000).mean() > 0.95
            await call.hangup()
