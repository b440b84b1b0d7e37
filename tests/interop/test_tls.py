"""TLS with Kamailio: registering, calls in both directions, and what happens where the certificates are wrong."""

from __future__ import annotations

import re

import pytest

from tests.interop.kit.kamailio import SUBSCRIBERS, Kamailio, KamailioOptions
from tests.interop.kit.peers import Peers
from tests.interop.kit.ports import HOST
from tests.interop.kit.server import SipServer
from tests.interop.kit.voicebot import kind
from tests.kit.certificates import authority

pytestmark = pytest.mark.interop


async def secure_kamailio(peers: Peers, *, clients: str = "") -> Kamailio:
    """``clients``: the CA of their certificates."""
    return await peers.kamailio(KamailioOptions(tls=authority().issue(f"IP:{HOST}"), tls_ca=clients))


def connections(server: SipServer) -> set[tuple[str, str]]:
    """Both ends of every TLS connection in the trace."""
    lines = re.findall(r"^---- .* (?:sent|received) tls (\S+) (?:->|<-) (\S+),", server.trace.read_text(), re.MULTILINE)
    return set(lines)


@pytest.mark.parametrize("scheme", ["", "sips:"])
async def test_register_and_calls_in_both_directions_over_one_tls_connection(peers: Peers, scheme: str) -> None:
    kamailio = await secure_kamailio(peers)
    server = await peers.server("--sip-tls-ca", authority().ca_file)
    bot = await peers.client(server)
    account = f"{scheme}alice@{kamailio.tls_address}" + ("" if scheme else ";transport=tls")
    registered = await bot.register(account, SUBSCRIBERS["alice"])
    assert kind(registered) == "REGISTERED", registered.description
    (contact,) = await kamailio.contacts("alice")
    assert contact["Address"].startswith("sips:" if scheme else "sip:")
    assert ("transport=tls" in contact["Address"]) == (not scheme)
    assert kind(await bot.start_session(account)) == "READY"

    bob = await peers.baresip("bob", kamailio)
    connected = await bot.call(f"sip:bob@{kamailio.tls_address};transport=tls")
    assert kind(connected) == "OUTGOING_CALL_CONNECTED", connected.description
    await bob.event("CALL_ESTABLISHED")
    assert kind(await bot.end_call()) == "OUTGOING_CALL_FINISHED"
    await bob.event("CALL_CLOSED")

    await bob.dial(f"sip:alice@{kamailio.address}")
    await bot.reached("INCOMING_CALL_CONNECTED")
    assert kind(await bot.end_call()) == "INCOMING_CALL_FINISHED"
    assert kind(await bot.end_session()) == "SESSION_ENDED"
    assert len(connections(server)) == 1  # nothing listens for TLS here: there is no other way in
    assert " udp " not in server.trace.read_text()


async def test_a_listener_of_our_own(peers: Peers) -> None:
    """With a certificate, the Contact names the TLS port."""
    kamailio = await secure_kamailio(peers)
    ours = authority().issue(f"IP:{HOST}", "DNS:bot.example.com")
    bot = await peers.voicebot(
        "--sip-tls-certificate", ours.certificate, "--sip-tls-key", ours.key, "--sip-tls-ca", authority().ca_file
    )
    assert kind(await bot.register(f"alice@{kamailio.tls_address};transport=tls", SUBSCRIBERS["alice"])) == "REGISTERED"
    (contact,) = await kamailio.contacts("alice")
    assert re.search(rf"@{re.escape(HOST)}:\d+;transport=tls", contact["Address"])


async def test_a_ca_that_is_not_known(peers: Peers) -> None:
    kamailio = await secure_kamailio(peers)
    bot = await peers.voicebot("--sip-tls-ca", authority("stranger").ca_file)
    failed = await bot.register(f"sips:alice@{kamailio.tls_address}", SUBSCRIBERS["alice"])
    assert kind(failed) == "SESSION_REGISTRATION_FAILED"
    assert (failed.exception_name, failed.sip_response_code) == ("ServerUnreachable", 503)
    assert "certificate verify failed: unable to get local issuer certificate" in failed.description
    insecure = await peers.voicebot("--no-sip-tls-verify")
    assert kind(await insecure.register(f"sips:alice@{kamailio.tls_address}", SUBSCRIBERS["alice"])) == "REGISTERED"


async def test_a_server_that_wants_client_certificates(peers: Peers) -> None:
    kamailio = await secure_kamailio(peers, clients=authority().ca_file)
    account = f"sips:alice@{kamailio.tls_address}"
    bot = await peers.voicebot("--sip-tls-ca", authority().ca_file)
    failed = await bot.register(account, SUBSCRIBERS["alice"])
    assert failed.exception_name == "ServerUnreachable"
    assert "client certificate" in failed.description
    ours = authority().issue("DNS:bot.example.com")
    bot = await peers.voicebot(
        "--sip-tls-certificate", ours.certificate, "--sip-tls-key", ours.key, "--sip-tls-ca", authority().ca_file
    )
    assert kind(await bot.register(account, SUBSCRIBERS["alice"])) == "REGISTERED"
