"""Whom a provider sees calling: SIPp as the provider, the account's demands in the server's file (FIELD #9)."""

from __future__ import annotations

import pytest

from tests.interop.kit.kamailio import SUBSCRIBERS
from tests.interop.kit.peers import Peers
from tests.interop.kit.scenario import (
    Scenario,
    is_left,
    receive_invite,
    take,
)
from tests.interop.kit.voicebot import kind

pytestmark = pytest.mark.interop


def sees(*check: str) -> Scenario:
    """Takes a call whose INVITE has those lines."""
    return Scenario(
        "sees-identity",
        (
            receive_invite(check=check),
            *take(),
            *is_left(),
        ),
    )


async def test_an_account_of_the_file_calls_as_its_provider_demands(peers: Peers) -> None:
    kamailio = await peers.kamailio()
    account = kamailio.aor("alice")
    file = peers.folder / "server.toml"
    file.write_text(f"""
[[accounts]]
name = "{account}"
preset = "sipgate"
from_user = "2345678e0"
display_name = "Desk"
preferred_identity = "+4930555"
diversion = "+4930777"
privacy = ["id"]
invite_headers = {{ "X-Telnyx-Token" = "t0ken" }}
""")
    bot = await peers.voicebot("--config", str(file))
    assert kind(await bot.register(account, SUBSCRIBERS["alice"])) == "REGISTERED"
    assert kind(await bot.start_session(account)) == "READY"
    provider = await peers.sipp(
        sees(
            'From: "Desk" <sip:2345678e0@',
            "P-Preferred-Identity: <sip:.4930555@",
            "Diversion: <sip:.4930777@.*>;reason=unconditional",
            "Privacy: id",
            "X-Telnyx-Token: t0ken",
            "m=audio [0-9]+ RTP/AVP 8 0 ",
        )
    )
    assert kind(await bot.call(provider.uri())) == "OUTGOING_CALL_CONNECTED"
    await bot.end_call()
    await provider.finished()
    again = await peers.sipp(sees("P-Preferred-Identity: <tel:.4930999>", "Privacy: none"))
    headers = {"P-Preferred-Identity": "<tel:+4930999>", "Privacy": "none"}
    assert kind(await bot.call(again.uri(), headers=headers)) == "OUTGOING_CALL_CONNECTED"
    await bot.end_call()
    await again.finished()
