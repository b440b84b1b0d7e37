"""Deutsche Telekom off its own lines (FIELD.md §3): TLS, SRTP, and ``mediasec`` agreed on with the first proxy."""

from __future__ import annotations

import pytest

from sipcore.config import Account, CallPolicy
from sipcore.presets import account_fields
from sipcore.protocol.sdp import parse_sdp
from sipcore.protocol.session_events import SessionEstablished
from sipcore.protocol.stack import SessionIncoming, SessionOccurred
from sipcore.protocol.wire import Request
from tests.kit.desk import PROVIDER, Desk
from tests.kit.raw_peer import SDP_OFFER

HOST = PROVIDER[0]
CHALLENGE = 'WWW-Authenticate: Digest realm="r", nonce="n{}", algorithm=MD5, qop="auth"\n'
SERVER = ("msrp-tls;mediasec", "sdes-srtp;mediasec", "dtls-srtp;mediasec")
KEY = "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:" + "A" * 40 + "\r\n"


@pytest.fixture(autouse=True)
def with_srtp(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is there: no packet is encrypted here."""
    monkeypatch.setattr("sipcore.config.has_srtp", lambda: True)


def agreed(request: Request) -> tuple[str | None, list[str], str | None, str | None]:
    """What a request says of media security."""
    headers = request.headers
    verify = headers.get_all("Security-Verify")
    return headers.get("Security-Client"), verify, headers.get("Require"), headers.get("Proxy-Require")


def listed(mechanisms: tuple[str, ...]) -> str:
    return "".join(f"Security-Server: {each}\n" for each in mechanisms)


def registered(desk: Desk, mechanisms: tuple[str, ...] = SERVER) -> list[Request]:
    """Both REGISTERs of a challenged registration."""
    first = desk.register()
    desk.provider.respond(first, 401, extra=CHALLENGE.format(1) + listed(mechanisms))
    second = desk.provider.heard("REGISTER")[-1]
    desk.provider.respond(second, 200, extra=f"Contact: {second.headers.get('Contact')};expires=120\n")
    return [first, second]


def refreshed(desk: Desk) -> Request:
    """The REGISTER of a refresh as it arrives."""
    registrar = desk.line.registrar
    assert registrar is not None
    registrar.refresh(desk.network.now)
    desk.network.run(desk.network.now + 0.1)
    return desk.provider.heard("REGISTER")[-1]


def account(**more: object) -> Account:
    fields = account_fields({"preset": "telekom", "transport": "udp", "mediasec": True, "srtp": "required", **more})
    return Account(f"+4919900000123@{HOST}", "secret", **fields)


def test_register_offers_it_and_repeats_what_the_server_listed() -> None:
    """RFC 3329 §2.3.1: also in what answers the challenge that the list came with."""
    first, second = registered(Desk(account()))
    assert agreed(first) == ("sdes-srtp;mediasec", [], "mediasec", "mediasec")
    assert agreed(second) == ("sdes-srtp;mediasec", list(SERVER), "mediasec", "mediasec")
    assert "Authorization" in second.headers


def test_calls_repeat_it_and_their_offers_are_for_the_networks_edge() -> None:
    """And every request within them; CANCEL and ACK, which no one may require anything of, do not."""
    desk = Desk(account())
    registered(desk)
    invite = desk.invite("030 123")
    assert agreed(invite) == (None, list(SERVER), "mediasec", "mediasec")
    audio = parse_sdp(invite.body).media[0]
    assert (audio.protocol, audio.attribute("3ge2ae")) == ("RTP/SAVP", "requested")
    desk.provider.respond(invite, 407, extra=CHALLENGE.format(2).replace("WWW", "Proxy"))
    again = desk.provider.heard("INVITE")[-1]
    assert agreed(again) == (None, list(SERVER), "mediasec", "mediasec")
    desk.provider.respond(again, 200, body=SDP_OFFER.replace("RTP/AVP", "RTP/SAVP") + KEY)
    (established,) = [each for each in desk.node.events if isinstance(each, SessionOccurred)]
    assert isinstance(established.event, SessionEstablished)
    established.session.hang_up(desk.network.now)
    desk.network.run(desk.network.now + 0.1)
    assert agreed(desk.provider.heard("BYE")[0]) == (None, list(SERVER), "mediasec", "mediasec")
    for ack in desk.provider.heard("ACK"):
        assert agreed(ack) == (None, [], None, None)


def test_an_answer_of_ours_asks_for_nothing() -> None:
    desk = Desk(account())
    registered(desk)
    offer = SDP_OFFER.replace("RTP/AVP", "RTP/SAVP") + KEY
    desk.provider.request("INVITE", f"sip:+4919900000123@{HOST}", body=offer)
    (incoming,) = [each.session for each in desk.node.events if isinstance(each, SessionIncoming)]
    assert incoming.callee is not None
    assert incoming.callee.ring(40000, desk.network.now)
    incoming.callee.answer(desk.network.now)
    desk.network.run(desk.network.now + 0.1)
    audio = parse_sdp(desk.provider.final().body).media[0]
    assert (audio.protocol, audio.attribute("3ge2ae")) == ("RTP/SAVP", None)


def test_the_newest_list_counts_and_far_ends_have_no_say() -> None:
    """A list in the response to a call is anybody's; one that is out of all proportion is no list."""
    desk = Desk(account())
    registered(desk)
    desk.provider.respond(desk.invite("030 123"), 486, extra=listed(("none;mediasec",)))
    assert agreed(refreshed(desk))[1] == list(SERVER)
    newest = ("sdes-srtp;mediasec;q=0.9",)
    for told in (newest, ("x" * 500,), ("sdes-srtp",) * 100):
        request = desk.provider.heard("REGISTER")[-1]
        contact = f"Contact: {request.headers.get('Contact')};expires=120\n"
        desk.provider.respond(request, 200, extra=contact + listed(told))
        assert agreed(refreshed(desk))[1] == list(newest)


def test_who_did_not_ask_for_it_says_nothing_of_it() -> None:
    desk = Desk(account(mediasec=False))
    for request in (*registered(desk), desk.invite("030 123")):
        assert agreed(request)[:2] == (None, [])
        assert "Proxy-Require" not in request.headers
    assert b"3ge2ae" not in desk.provider.heard("INVITE")[0].body


def test_a_clear_offer_does_not_ask_for_encryption() -> None:
    desk = Desk(account(srtp="forbidden"))
    registered(desk)
    assert b"3ge2ae" not in desk.invite("030 123").body
    assert account(srtp="forbidden").calls == CallPolicy()
