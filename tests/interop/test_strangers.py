"""A server in the open: its registrar is heard, the rest of the world is not (FIELD must-pass 12)."""

from __future__ import annotations

import pytest

from tests.interop import scenarios
from tests.interop.kit.kamailio import SUBSCRIBERS
from tests.interop.kit.peers import Peers
from tests.interop.kit.silent import SilentPeer
from tests.interop.kit.voicebot import Voicebot, kind

pytestmark = pytest.mark.interop

STRANGER = "127.0.0.9"


def request(method: str, user: str, server: str, stranger: SilentPeer, extra: str = "") -> bytes:
    """What somebody who found the port would send."""
    lines = (
        f"{method} sip:{user}@{server} SIP/2.0",
        f"Via: SIP/2.0/UDP {stranger.address};branch=z9hG4bK{method}{user};rport",
        f"From: <sip:100@{STRANGER}>;tag={method}{user}",
        f"To: <sip:{user}@{server}>",
        f"Call-ID: {method}{user}@{STRANGER}",
        f"CSeq: 1 {method}",
        f"Contact: <sip:100@{stranger.address}>",
        "Max-Forwards: 70",
        *([extra] if extra else []),
        "Content-Length: 0",
        "\r\n",
    )
    return "\r\n".join(lines).encode()


async def test_a_stranger_hears_nothing_and_the_registrar_is_answered(peers: Peers) -> None:
    kamailio = await peers.kamailio()
    server = await peers.server()
    bot: Voicebot = await peers.client(server)
    account = kamailio.aor("alice")
    assert kind(await bot.register(account, SUBSCRIBERS["alice"])) == "REGISTERED"
    assert kind(await bot.start_session(account)) == "READY"
    with SilentPeer(STRANGER) as stranger:
        for method in ("INVITE", "OPTIONS", "REGISTER", "BYE", "CANCEL"):
            for user in ("alice", "100"):
                stranger.send(request(method, user, server.sip, stranger), server.sip)
        stranger.send(b"INVITE nonsense\r\n\r\n", server.sip)
        # The server reads in order: with this call through Kamailio all of the above has been looked at.
        caller = await peers.sipp(scenarios.calls(), target=kamailio.address, user="alice")
        await caller.finished()
        assert stranger.received() == []
    history = [kind(status) for status in await bot.history()]
    assert history.count("INCOMING_CALL_INITIATED") == 1
    assert "turned away INVITE for alice from 127.0.0.9" in server.program.log()


async def test_an_allow_list_lets_a_stranger_in_but_no_scanner(peers: Peers) -> None:
    kamailio = await peers.kamailio()
    server = await peers.server("--allow-from", "198.51.100.0/24,any", "--unknown-users", "silence")
    bot = await peers.client(server)
    account = kamailio.aor("alice")
    assert kind(await bot.register(account, SUBSCRIBERS["alice"])) == "REGISTERED"
    with SilentPeer(STRANGER) as scanner, SilentPeer(STRANGER) as partner:
        scanner.send(request("OPTIONS", "alice", server.sip, scanner, "User-Agent: friendly-scanner"), server.sip)
        partner.send(request("INVITE", "100", server.sip, partner), server.sip)
        partner.send(request("INVITE", "alice", server.sip, partner), server.sip)
        await (await peers.sipp(scenarios.OPTIONS, target=server.sip, user="alice")).finished()
        assert scanner.received() == []
        # Nobody answers to 100; alice has no session.
        answers = [answer for answer in partner.received() if b"SIP/2.0 100" not in answer]
    assert [answer.split(b"\r\n")[0] for answer in answers] == [b"SIP/2.0 480 Temporarily Unavailable"]
