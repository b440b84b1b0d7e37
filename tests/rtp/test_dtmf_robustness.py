"""RFC 4733 as peers really send it, through the engine: packets by hand over a real socket, ticks by hand.

Each case is packets, one a tick: (timestamp, code, end, duration, marker); None: audio; "-": nothing arrives.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from typing import Literal

import pytest

from rtp.dtmf import LOST_END_TICKS
from rtp.engine import MediaEngine
from tests.rtp.kit import FarEnd, packet

Event = tuple[int, int, bool, int, bool]
Step = Event | None | Literal["-"]


def key(code: int, start: int, *, packets: int = 4, ends: int = 3, marker: bool = True) -> list[Step]:
    """A key as it should be sent: growing duration, then so many end packets."""
    steps: list[Step] = [(start, code, False, 160 * (number + 1), marker and number == 0) for number in range(packets)]
    return steps + [(start, code, True, 160 * packets, False)] * ends


def pause(ticks: int) -> list[Step]:
    return ["-"] * ticks


LONG = 0xFFFF
FIVE = key(5, 1600)

CASES: dict[str, tuple[Sequence[Step], str]] = {
    "as it should be": (FIVE, "5"),
    "one end packet": (key(5, 1600, ends=1), "5"),
    "seven end packets": (key(5, 1600, ends=7), "5"),
    "no marker": (key(5, 1600, marker=False), "5"),
    "a marker on every packet": (
        [(1600, 5, False, 160 * n, True) for n in (1, 2, 3)] + [(1600, 5, True, 480, True)],
        "5",
    ),
    "the start is lost": (FIVE[2:], "5"),
    "only an end packet comes": (FIVE[-1:], "5"),
    "the ends are lost": (FIVE[:4], "5"),
    "only the first packet comes": (FIVE[:1], "5"),
    "an end is lost and the next key follows": (FIVE[:4] + key(6, 4000), "56"),
    "out of order": ([FIVE[1], FIVE[0], FIVE[3], FIVE[2], *FIVE[4:]], "5"),
    "the end overtakes": ([FIVE[0], FIVE[4], *FIVE[1:4], *FIVE[5:]], "5"),
    "an end of the key before comes late": ([*FIVE[:6], *key(6, 4000)[:2], FIVE[6], *key(6, 4000)[2:]], "56"),
    "the same key again": (key(5, 1600) + key(5, 4000), "55"),
    "the same key again, all ends of the first lost": (key(5, 1600)[:4] + key(5, 4000), "55"),
    "three keys without a pause": (key(1, 1600) + key(2, 2720) + key(3, 3840), "123"),
    "every packet doubled": ([step for step in FIVE for _ in range(2)], "5"),
    "the duration stands still": ([(1600, 5, False, 160, False)] * 5 + [(1600, 5, True, 160, False)] * 3, "5"),
    "a duration of zero until the end": ([(1600, 5, False, 0, True)] * 3 + [(1600, 5, True, 800, False)], "5"),
    "an end at once, without a beginning": ([(1600, 11, True, 800, True)] * 3, "#"),
    "audio goes on between the packets": ([step for pair in zip(FIVE, [None] * 7, strict=True) for step in pair], "5"),
    "all sixteen": ([step for code in range(16) for step in key(code, 1600 + code * 1600)], "0123456789*#ABCD"),
    "other events than keys": ([(1600, 32, True, 800, True), (3200, 16, True, 800, True), *key(5, 4800)], "5"),
    "timestamps wrap within a key": (key(5, 2**32 - 300) + key(6, 1500), "56"),
    "a long key in segments": (
        [(1600, 5, False, LONG, True)] * 2
        + [(1600 + LONG, 5, False, 800, False)]
        + [(1600 + LONG, 5, True, 1600, False)] * 3,
        "5",
    ),
    "a long key whose second segment lost its end": (
        [(1600, 5, False, LONG, True)] * 2 + [(1600 + LONG, 5, False, 800, False)] * 2,
        "5",
    ),
    "a long silence between packets of one key": ([FIVE[0], *pause(LOST_END_TICKS - 1), *FIVE[1:]], "5"),
}


@pytest.mark.parametrize("name", CASES)
async def test_a_key_is_told_once_whatever_becomes_of_its_packets(name: str) -> None:
    steps, expected = CASES[name]
    engine = MediaEngine(ports=(20000, 59999), rng=random.Random(1))
    told: list[str] = []
    with FarEnd() as far:
        stream = engine.open_stream("127.0.0.1")
        stream.configure(
            far.address,
            codec="PCMU",
            payload_type=0,
            receive_payload_types={0: "PCMU"},
            dtmf_receive_payload_type=101,
        )
        stream.on_dtmf = lambda digit, duration: told.append(digit)
        for number in range(10):
            far.send(packet(number, number * 160), stream.local_port)
            engine.tick(1, 0.0)
        for number, step in enumerate(steps, start=10):
            if step is None:
                far.send(packet(number, number * 160), stream.local_port)
            elif step != "-":
                timestamp, code, end, duration, marker = step
                payload = struct.pack("!BBH", code, 0x80 * end | 10, duration)
                far.send(packet(number, timestamp, payload, payload_type=101, marker=marker), stream.local_port)
            engine.tick(1, 0.0)
        for _ in range(LOST_END_TICKS + 2):
            engine.tick(1, 0.0)
    assert "".join(told) == expected
    await engine.close()
