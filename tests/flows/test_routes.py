"""Route sets, target refresh and outbound proxies (RFC 3261 §12.1, §12.2.1.1, §8.1.2)."""

from __future__ import annotations

import random

import pytest

from sipcore.config import Account, UserAgentConfig
from sipcore.protocol.addresses import parse_callee
from sipcore.protocol.stack import Stack
from tests.flows.scene import ALICE, Scene
from tests.kit.network import Network
from tests.kit.raw_peer import SDP_OFFER, RawPeer

PEER = ("192.0.2.9", 5060)
PROXY = ("192.0.2.50", 5060)


def _call_raw(record_route: str) -> tuple[Scene, RawPeer, RawPeer]:
    """Alice calls Raw, whose 200 carries ``record_route``; Raw, and the proxy that it names."""
    scene = Scene()
    peer = RawPeer(scene.network, PEER, ALICE)
    proxy = RawPeer(scene.network, PROXY, ALICE)
    scene.alice.call("sip:raw@192.0.2.9")
    scene.network.run(scene.network.now + 0.1)
    (invite,) = peer.heard("INVITE")
    peer.respond(invite, 200, extra=record_route, body=SDP_OFFER)
    return scene, peer, proxy


def test_requests_visit_the_record_routes_in_reverse() -> None:
    """§12.1.2: the caller reverses what the response lists; loose routers keep the target in the request line."""
    scene, _, proxy = _call_raw("Record-Route: <sip:192.0.2.60;lr>, <sip:192.0.2.50;lr;ftag=x>\n")
    (ack,) = proxy.heard("ACK")
    assert str(ack.uri) == "sip:raw@192.0.2.9:5060"
    assert [str(route) for route in ack.routes] == ["<sip:192.0.2.50;lr;ftag=x>", "<sip:192.0.2.60;lr>"]
    session = next(iter(scene.alice.stack._dialogs.values()))
    scene.alice.hang_up(session)
    scene.network.run(scene.network.now + 0.1)
    assert [str(route) for route in proxy.heard("BYE")[0].routes] == [str(route) for route in ack.routes]


def test_a_strict_router_gets_the_request_line() -> None:
    """§12.2.1.1: no ``lr``: the route is the request URI, the target the last Route."""
    _, _, proxy = _call_raw("Record-Route: <sip:192.0.2.50>\n")
    (ack,) = proxy.heard("ACK")
    assert str(ack.uri) == "sip:192.0.2.50"
    assert [str(route) for route in ack.routes] == ["<sip:raw@192.0.2.9:5060>"]


def test_the_callee_keeps_the_order_of_the_record_routes() -> None:
    """§12.1.1, and they stand in its 2xx as they stood in the INVITE."""
    scene = Scene()
    peer = RawPeer(scene.network, PEER, ("192.0.2.2", 5060))
    proxy = RawPeer(scene.network, PROXY, ("192.0.2.2", 5060))
    routes = "Record-Route: <sip:192.0.2.50;lr>\nRecord-Route: <sip:192.0.2.60;lr>\n"
    peer.request("INVITE", "sip:bob@192.0.2.2", extra=routes, body=SDP_OFFER)
    there = scene.bob.await_call()
    scene.bob.answer(there)
    scene.network.run(scene.network.now + 0.1)
    assert [str(route) for route in peer.final().record_routes] == ["<sip:192.0.2.50;lr>", "<sip:192.0.2.60;lr>"]
    peer.request("ACK", "sip:bob@192.0.2.2", branch="ack", to_tag=peer.final().to_tag)
    scene.bob.hang_up(there)
    scene.network.run(scene.network.now + 0.1)
    (bye,) = proxy.heard("BYE")
    assert [str(route) for route in bye.routes] == ["<sip:192.0.2.50;lr>", "<sip:192.0.2.60;lr>"]


def test_a_reinvite_moves_the_target() -> None:
    """§12.2.2: the Contact of a target refresh request is where later requests go."""
    scene = Scene()
    peer = RawPeer(scene.network, PEER, ("192.0.2.2", 5060))
    moved = RawPeer(scene.network, ("192.0.2.77", 5070), ("192.0.2.2", 5060))
    peer.request("INVITE", "sip:bob@192.0.2.2", body=SDP_OFFER)
    there = scene.bob.await_call()
    scene.bob.answer(there)
    scene.network.run(scene.network.now + 0.1)
    tag = peer.final().to_tag
    peer.request("ACK", "sip:bob@192.0.2.2", branch="ack", to_tag=tag)
    peer.send(
        "UPDATE sip:bob@192.0.2.2 SIP/2.0\nVia: SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bKup;rport\nMax-Forwards: 70\n"
        f"From: <sip:raw@192.0.2.9>;tag=raw\nTo: <sip:bob@192.0.2.2>;tag={tag}\nCall-ID: raw\nCSeq: 2 UPDATE\n"
        "Contact: <sip:new@192.0.2.77:5070>\n\n"
    )
    assert there.dialog is not None
    assert there.dialog.next_hop.host == "192.0.2.77"
    scene.bob.hang_up(there)
    scene.network.run(scene.network.now + 0.1)
    assert [str(bye.uri) for bye in moved.heard("BYE")] == ["sip:new@192.0.2.77:5070"]


@pytest.mark.parametrize(
    ("proxy", "route", "target"),
    [
        ("proxy.example", "<sip:proxy.example;lr>", ("proxy.example", None, None)),
        ("proxy.example:5070", "<sip:proxy.example:5070;lr>", ("proxy.example", 5070, None)),
        ("sip:10.0.0.1;transport=tcp", "<sip:10.0.0.1;transport=tcp;lr>", ("10.0.0.1", None, "tcp")),
    ],
)
def test_an_outbound_proxy_is_the_first_hop_of_everything(
    proxy: str, route: str, target: tuple[str, int | None, str | None]
) -> None:
    """§8.1.2: a pre-loaded route set; the request URI stays the callee."""
    stack = Stack(UserAgentConfig(), rng=random.Random(1), user_agent="test")
    line = stack.add_line(Account("sip:alice@example.com", outbound_proxy=proxy))
    assert line.routes == (route,)
    hop = line.target(parse_callee("bob@example.org", line.address))
    assert (hop.host, hop.port, hop.transport) == target


@pytest.mark.parametrize(
    ("account", "callee", "target"),
    [
        ("sip:a@example.com;transport=tcp", "bob", ("example.com", None, "tcp")),
        ("sip:a@example.com:5070;transport=tcp", "bob", ("example.com", 5070, "tcp")),
        ("sip:a@example.com;transport=tcp", "bob@example.org", ("example.org", None, None)),
        ("sip:a@example.com", "sip:bob@example.org:5080;transport=tcp", ("example.org", 5080, "tcp")),
        ("sip:a@[2001:db8::1]", "bob", ("2001:db8::1", None, None)),
    ],
)
def test_without_a_proxy_the_request_uri_decides(
    account: str, callee: str, target: tuple[str, int | None, str | None]
) -> None:
    """RFC 3263 §4; the account's transport holds for its own domain."""
    stack = Stack(UserAgentConfig(), rng=random.Random(1), user_agent="test")
    line = stack.add_line(Account(account))
    hop = line.target(parse_callee(callee, line.address))
    assert (hop.host, hop.port, hop.transport) == target


def test_a_request_for_an_account_finds_it_among_namesakes() -> None:
    """Two accounts of one user at two hosts: our Contact's mark decides, else the To host."""
    network = Network(random.Random(1))
    stack = Stack(UserAgentConfig(), rng=random.Random(1), user_agent="test")
    network.add_stack(ALICE, stack)
    one = stack.add_line(Account("sip:bot@one.example"))
    two = stack.add_line(Account("sip:bot@two.example"))
    peer = RawPeer(network, PEER, ALICE)
    peer.request("INVITE", f"sip:bot@192.0.2.1;line={two.token}", call_id="a", branch="a", body=SDP_OFFER)
    peer.request("INVITE", "sip:bot@two.example", call_id="b", branch="b", body=SDP_OFFER)
    peer.request("INVITE", "sip:bot@one.example", call_id="c", branch="c", body=SDP_OFFER)
    sessions = list(stack._dialogs.values())
    assert [session.identity is two.identity for session in sessions] == [True, True, False]
    assert sessions[2].identity is one.identity
