"""Bytes that are not UTF-8 in what a far end writes: programs get text that they can print, store and send on."""

from __future__ import annotations

from sipcore.events import MessageReceived
from sipcore.protocol.flows import Flow
from sipcore.protocol.params import legible
from sipcore.protocol.wire import Response, parse_message
from tests.kit.pair import Pair, pair
from tests.kit.virtual_time import virtual_time

DIALOG = (
    b"Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>;tag=2\r\nCall-ID: 1\r\n"
    b"CSeq: 1 INVITE\r\n\r\n"
)
ALICE, BOB = ("192.0.2.1", 5060), ("192.0.2.2", 5060)


def say(scene: Pair, method: str, headers: bytes, body: bytes = b"") -> None:
    """A request to bob from where alice is, byte for byte."""
    data = (
        f"{method} sip:bob@192.0.2.2 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK{method}\r\n"
        f"Max-Forwards: 70\r\nTo: <sip:bob@192.0.2.2>\r\nCSeq: 1 {method}\r\n"
        f"Contact: <sip:alice@192.0.2.1>\r\nContent-Length: {len(body)}\r\n"
    ).encode()
    scene.network.hosts[BOB].told(data + headers + b"\r\n" + body, Flow("udp", BOB, ALICE, advertised=BOB))


def test_what_is_utf_8_stays_as_it_is() -> None:
    for text in ("", "plain", "grüß Gott", "\N{SNOWMAN}"):
        assert legible(text) == text
    assert legible("f\udcffr") == "f\N{REPLACEMENT CHARACTER}r"


@virtual_time
async def test_a_call_of_a_far_end_that_writes_no_utf_8() -> None:
    async with pair() as scene:
        say(scene, "INVITE", b'From: "\xff" <sip:f\xffr@192.0.2.1>;tag=\xff\r\nCall-ID: \xff\r\nX-A: \xff\r\n')
        call = await anext(aiter(scene.there.incoming()))
        assert call.remote == "sip:f\N{REPLACEMENT CHARACTER}r@192.0.2.1"
        assert call.headers == {"X-A": "\N{REPLACEMENT CHARACTER}"}
        call.call_id.encode()  # not with a lone surrogate
        call.reject(486)


@virtual_time
async def test_a_message_of_a_far_end_that_writes_no_utf_8() -> None:
    async with pair() as scene:
        who = b'From: "\xff" <sip:f\xffr@192.0.2.1>;tag=1\r\nCall-ID: 1\r\n'
        say(scene, "MESSAGE", who + b"Content-Type: text/plain;x=\xff\r\n", b"\xff")
        heard = await anext(aiter(scene.there.messages()))
        assert isinstance(heard, MessageReceived)
        assert heard.text == "\N{REPLACEMENT CHARACTER}"
        for text in (heard.sender, heard.display_name, heard.content_type):
            text.encode()


def test_a_reason_phrase_that_is_no_utf_8() -> None:
    response = parse_message(b"SIP/2.0 486 Besch\xe4ftigt\r\n" + DIALOG)
    assert isinstance(response, Response)
    assert response.reason == "Besch\N{REPLACEMENT CHARACTER}ftigt"
