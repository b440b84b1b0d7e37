"""``sips:`` in Contact (RFC 3261 §8.1.1.8, §12.1.1)."""

from __future__ import annotations

import random

import pytest

from sipcore.config import Account, UserAgentConfig
from sipcore.protocol.flows import Flow, Target
from sipcore.protocol.routing import asks_for_secure_contact, leads_to
from sipcore.protocol.stack import FlowWanted, SessionIncoming, Stack
from sipcore.protocol.values import Uri
from sipcore.protocol.wire import Request, parse_message

TLS = Flow("tls", ("192.0.2.1", 40001), ("192.0.2.9", 5061), 1, advertised=("192.0.2.1", 5061))


def stack() -> Stack:
    return Stack(UserAgentConfig(), rng=random.Random(1), user_agent="test")


def sent(made: Stack) -> Request:
    """The request that is sent once the flow that it waits for is there."""
    (wanted,) = [event for event in made.events() if isinstance(event, FlowWanted)]
    assert wanted.target.transport == "tls"
    made.flow_ready(wanted.id, TLS, 0.0)
    ((_, data),) = made.transmits()
    message = parse_message(data)
    assert isinstance(message, Request)
    return message


@pytest.mark.parametrize(
    ("account", "contact"),
    [
        ("sips:alice@example.com", "<sips:alice@192.0.2.1:5061;"),
        ("alice@example.com;transport=tls", "<sip:alice@192.0.2.1:5061;transport=tls;"),
    ],
)
def test_a_registration(account: str, contact: str) -> None:
    made = stack()
    made.register(made.add_line(Account(account)), 0.0)
    request = sent(made)
    assert (request.headers.get("Contact") or "").startswith(contact)
    assert request.via.transport == "TLS"


@pytest.mark.parametrize(
    ("callee", "proxy", "scheme"),
    [
        ("sips:bob@example.org", "", "sips"),
        ("sip:bob@example.org;transport=tls", "", "sip"),
        ("sip:bob@example.org", "sips:proxy.example.com", "sips"),
        ("sip:bob@example.org", "sip:proxy.example.com;transport=tls", "sip"),
    ],
)
def test_a_call_placed(callee: str, proxy: str, scheme: str) -> None:
    made = stack()
    line = made.add_line(Account("alice@example.com", outbound_proxy=proxy))
    made.invite(line, Uri.parse(callee), headers=(), media_port=40000, ring_timeout=60, now=0.0)
    contact = sent(made).contact
    assert contact is not None
    assert contact.uri.scheme == scheme


def invite(uri: str, *headers: str, contact: str = "sip:bob@192.0.2.9") -> Request:
    head = [f"INVITE {uri} SIP/2.0", "Via: SIP/2.0/TLS 192.0.2.9:5061;branch=z9hG4bK1", "From: <sip:bob@b>;tag=1"]
    head += ["To: <sip:alice@a>", "Call-ID: 1", "CSeq: 1 INVITE", f"Contact: <{contact}>", "Max-Forwards: 70", *headers]
    message = parse_message(("\r\n".join(head) + "\r\nContent-Length: 0\r\n\r\n").encode())
    assert isinstance(message, Request)
    return message


@pytest.mark.parametrize(
    ("request_", "secure"),
    [
        (invite("sips:alice@192.0.2.1"), True),
        (invite("sip:alice@192.0.2.1"), False),
        (invite("sip:alice@192.0.2.1", contact="sips:bob@192.0.2.9"), True),
        (invite("sip:alice@192.0.2.1", "Record-Route: <sips:p@192.0.2.9;lr>"), True),
        (invite("sip:alice@192.0.2.1", "Record-Route: <sip:p@192.0.2.9;lr>", contact="sips:bob@192.0.2.9"), False),
    ],
)
def test_a_call_taken(request_: Request, secure: bool) -> None:
    assert asks_for_secure_contact(request_) == secure
    made = stack()
    made.add_line(Account("alice@192.0.2.1"))
    made.layer.receive(request_, TLS, 0.0)
    (incoming,) = [event for event in made.events() if isinstance(event, SessionIncoming)]
    made.transmits()
    assert incoming.session.callee is not None
    incoming.session.callee.ring(40000, 0.0)
    ringing = parse_message(made.transmits()[0][1])
    assert ringing.contact is not None
    assert (ringing.contact.uri.scheme == "sips") == secure


def test_a_secure_target_is_led_to_by_tls_only() -> None:
    target = Target("192.0.2.9", None, "tls", secure=True)
    assert leads_to(TLS, target, None)
    assert not leads_to(Flow("tcp", TLS.local, TLS.remote, 2), target, None)
