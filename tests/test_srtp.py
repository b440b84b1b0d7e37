"""What an embedder sees of SRTP."""

from __future__ import annotations

import base64
import logging

import pytest

from rtp.srtp import MasterKey
from sipcore.config import CallPolicy
from sipcore.events import CallAnswered
from tests.kit.pair import pair


@pytest.fixture(autouse=True)
def with_srtp(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is there: no packet is encrypted here."""
    monkeypatch.setattr("sipcore.config.has_srtp", lambda: True)


async def test_a_call_says_that_it_is_encrypted_and_its_streams_get_the_same_keys(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    async with pair(calls=CallPolicy(srtp="required")) as both:
        call, there = await both.connect()
        assert call.srtp == there.srtp == "AES_CM_128_HMAC_SHA1_80"
        async for event in call.events():
            if isinstance(event, CallAnswered):
                assert event.srtp == call.srtp
                break
        (here,), (far,) = (engine.streams for engine in (both.alice_media, both.bob_media))
        local, remote = here.settings[-1]["srtp"]
        assert far.settings[-1]["srtp"] == (remote, local)
        assert isinstance(local, MasterKey)
        await call.hold()
        await call.resume()
        assert here.settings[-1]["srtp"] == (local, remote)
        await call.hangup()
    for key in (local, remote):
        for shown in (base64.b64encode(key.material).decode(), key.material.hex(), repr(key.material)):
            assert shown not in caplog.text


async def test_keys_that_everybody_can_read_are_told_once_an_account(caplog: pytest.LogCaptureFixture) -> None:
    """SDES protects nothing that the signalling does not (RFC 4568 §10)."""
    async with pair(calls=CallPolicy(srtp="optional")) as both:
        for _ in range(2):
            call, _there = await both.connect()
            await call.hangup()
        both.here.on_keys("tls")
    warnings = [each.getMessage() for each in caplog.records if "keys of SRTP" in each.getMessage()]
    assert len(warnings) == 2
    assert sorted(each.partition(":")[0] for each in warnings) == ["sip", "sip"]
    assert all("over UDP in the clear" in each for each in warnings)


async def test_nothing_is_said_of_keys_over_tls_or_without_srtp(caplog: pytest.LogCaptureFixture) -> None:
    async with pair() as both:
        both.here.on_keys("tls")
        call, there = await both.connect()
        assert call.srtp == there.srtp == ""
        await call.hangup()
    assert "SRTP" not in caplog.text
