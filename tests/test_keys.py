"""Keys that come twice are told once (FIELD 10)."""

from __future__ import annotations

from typing import Literal

import pytest

from sipcore.config import Account
from sipcore.errors import InvalidRequest
from sipcore.events import DtmfReceived
from sipcore.keys import REMEMBERED, Keys
from sipcore.protocol.session_events import SessionHeard
from tests.kit.pair import pair
from tests.kit.virtual_time import virtual_time

Way = Literal["rfc4733", "info", "inband"]
E: Way = "rfc4733"
A: Way = "inband"
I: Way = "info"  # noqa: E741 - as E


def _told(*pressed: tuple[float, str, Way]) -> str:
    """What is told of keys at those times."""
    keys = Keys()
    return "".join(digit for when, digit, way in pressed if keys.is_new(DtmfReceived(digit, 100, way), when))


@pytest.mark.parametrize(
    ("pressed", "told"),
    [
        (((0.0, "5", E), (0.1, "5", I)), "5"),
        (((0.0, "5", I), (0.1, "5", E)), "5"),
        (((0.0, "5", E), (0.1, "5", I), (0.2, "5", E), (0.3, "5", I)), "55"),
        (((0.0, "5", E), (0.1, "5", E), (0.2, "5", I), (0.3, "5", I)), "55"),
        (((0.0, "1", E), (0.1, "2", E), (0.2, "1", I), (0.3, "2", I)), "12"),
        (((0.0, "5", E), (0.05, "5", E), (0.1, "5", E)), "555"),
        (((0.0, "5", I), (0.05, "5", I), (0.1, "5", I)), "555"),
        (((0.0, "5", E), (3.0, "5", I)), "55"),
        (((0.0, "5", E), (0.1, "6", I)), "56"),
        (((0.0, "5", E), (0.1, "5", A), (0.2, "5", I)), "5"),
        (((0.0, "5", A), (0.1, "5", E), (0.2, "5", E), (0.3, "5", A)), "55"),
    ],
)
def test_twins(pressed: tuple[tuple[float, str, Way], ...], told: str) -> None:
    assert _told(*pressed) == told


def test_nobody_can_fill_the_memory() -> None:
    keys = Keys()
    for _ in range(10 * REMEMBERED):
        assert keys.is_new(DtmfReceived("1", 100), 0.0)
    assert len(keys._known) == REMEMBERED


@virtual_time
async def test_a_call_tells_a_key_once() -> None:
    async with pair() as scene:
        here, there = await scene.connect()
        heard = scene.bob_media.streams[0].on_dtmf
        assert heard is not None
        heard("5", 120)
        there.on_session_event(SessionHeard(DtmfReceived("5", 160, "info")))
        there.on_session_event(SessionHeard(DtmfReceived("6", 160, "info")))
        await here.hangup()
        keys = [event async for event in there.events() if isinstance(event, DtmfReceived)]
        assert keys == [DtmfReceived("5", 120), DtmfReceived("6", 160, "info")]


@virtual_time
async def test_which_keys_are_heard_is_up_to_the_account_and_the_call() -> None:
    async with pair() as scene:
        _, there = await scene.connect()
        media = scene.bob_media.streams[0]
        assert media.detecting == (True, False)
        there.detect_keys("both")
        assert media.detecting == (True, True)
        assert media.on_inband_dtmf is not None
        media.on_inband_dtmf("7", 80)
        line = scene.bob.open_line(Account("sip:carol@192.0.2.2", dtmf_detection="inband"))
        scene.here.place("sip:carol@192.0.2.2")
        call = await anext(aiter(line.incoming()))
        assert scene.bob_media.streams[1].detecting == (False, True)
        call.reject()
        await there.hangup()
        keys = [event async for event in there.events() if isinstance(event, DtmfReceived)]
        assert keys == [DtmfReceived("7", 80, "inband")]


def test_other_ways_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="dtmf_detection: 'ears' is neither"):
        Account("sip:carol@192.0.2.2", dtmf_detection="ears")  # type: ignore[arg-type]
