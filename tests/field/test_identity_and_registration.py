"""What providers and telephone systems demand of REGISTER and of callers' identities: a row of FIELD.md §3 a test.

Each account is the one that the preset of that name makes.
"""

from __future__ import annotations

import tomllib
from importlib import resources
from typing import Any

import pytest

from sipcore.config import Account, CallPolicy
from sipcore.errors import InvalidRequest
from sipcore.presets import account_fields, preset, preset_names
from sipcore.protocol.stack import SessionIncoming
from sipcore.protocol.wire import Request
from tests.kit.desk import PROVIDER, Desk
from tests.kit.raw_peer import SDP_OFFER

HOST = PROVIDER[0]
CHALLENGE = 'WWW-Authenticate: Digest realm="r", nonce="n", algorithm=MD5, qop="auth"\n'


def account(name: str, user: str = "alice", **overrides: Any) -> Account:
    """One of the preset's, at the scripted provider over UDP."""
    return Account.from_preset(name, f"{user}@{HOST}", "secret", **{"transport": "udp", **overrides})


def registers(desk: Desk, status: int = 401) -> list[Request]:
    """The two REGISTERs of a challenged registration."""
    first = desk.register()
    challenge = CHALLENGE if status == 401 else CHALLENGE.replace("WWW-Authenticate", "Proxy-Authenticate")
    desk.provider.respond(first, status, extra=challenge)
    _, second = desk.provider.heard("REGISTER")
    contact = second.headers.get("Contact")
    desk.provider.respond(second, 200, extra=f"Contact: {contact};expires=120\n")
    return [first, second]


# -- must-pass (1) -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", preset_names())
def test_register_has_a_bare_request_uri_stable_call_id_rising_cseq_and_a_new_branch(name: str) -> None:
    """FRITZ!Box: a user part in the request URI is silently dropped; same Call-ID, new CSeq and branch."""
    first, second = registers(Desk(account(name)))
    assert str(first.uri) == str(second.uri) == f"sip:{HOST}"
    assert first.call_id == second.call_id
    assert second.cseq.number == first.cseq.number + 1
    assert first.via.branch != second.via.branch
    assert first.from_tag == second.from_tag


@pytest.mark.parametrize("status", [401, 407])
def test_3cx_the_first_register_has_no_credentials_and_401_and_407_are_both_answered(status: int) -> None:
    first, second = registers(Desk(account("3cx")), status)
    assert "Authorization" not in first.headers
    assert "Proxy-Authorization" not in first.headers
    assert ("Authorization" if status == 401 else "Proxy-Authorization") in second.headers
    assert first.headers.get("Expires") == "120"


def test_3cx_a_contact_that_is_unique_to_the_registration() -> None:
    desk = Desk(account("3cx"))
    other = desk.stack.add_line(account("3cx"))
    assert desk.register().contacts[0].uri.parameters.get("line") == desk.line.token != other.token


# -- must-pass (5) and (6) -----------------------------------------------------------------------------------------


def test_sipgate_from_user_is_the_sip_id_and_the_number_is_the_preferred_identity() -> None:
    desk = Desk(account("sipgate", "2345678e0", preferred_identity="+4930555"))
    sent = desk.invite("030 123")
    assert sent.from_.uri.user == "2345678e0"
    assert sent.headers.get("P-Preferred-Identity") == f"<sip:+4930555@{HOST}>"
    assert sent.uri.user == "+4930123"
    assert b"RTP/AVP 8 0 " in sent.body
    assert desk.register().headers.get("Expires") == "120"


def test_telekom_user_in_e164_over_tcp_through_the_companys_proxy_with_pcma_first() -> None:
    fields = {**preset("telekom").account, "outbound_proxy": HOST, "preferred_identity": "tel:+4930555"}
    desk = Desk(Account("+4919900000123@tel.t-online.de", **fields))
    register = desk.register()
    assert (str(register.uri), register.from_.uri.user) == ("sip:tel.t-online.de", "+4919900000123")
    invite = desk.invite("(030) 123-0")
    assert str(invite.uri) == "sip:+49301230@tel.t-online.de"
    assert invite.from_.uri.user == "+4919900000123"
    assert b"RTP/AVP 8 0 " in invite.body
    sent = [packet for packet in desk.network.packets if packet.start_line.startswith(("REGISTER", "INVITE"))]
    assert {packet.flow.transport for packet in sent} == {"tcp"}
    assert {packet.flow.remote[0] for packet in sent} == {HOST}


def test_gamma_the_host_of_from_is_our_public_address() -> None:
    sent = Desk(account("gamma", from_domain="203.0.113.7")).invite("020 7946 0000")
    assert sent.from_.uri.host == "203.0.113.7"
    assert sent.uri.user == "+442079460000"


def test_telnyx_token_and_charged_number_go_with_each_invite() -> None:
    headers = (("X-Telnyx-Token", "t0ken"), ("P-Charge-Info", "<sip:+12025550123@sip.telnyx.com>"))
    made = account("telnyx", invite_headers=headers)
    sent = Desk(made).invite("+12025550100")
    assert [sent.headers.get(name) for name, _ in headers] == [value for _, value in headers]
    assert "t0ken" not in repr(made)


def test_twilio_the_request_uris_host_is_the_trunks_domain() -> None:
    sent = Desk(account("twilio", "bot")).invite("+12025550100")
    assert str(sent.uri) == f"sip:+12025550100@{HOST}"


def test_teams_full_domain_name_in_from_no_sips_and_its_session_timer() -> None:
    made = account("teams", from_domain="sbc.example.com")
    sent = Desk(made).invite("+12025550100")
    assert str(sent.from_.uri) == "sip:alice@sbc.example.com"
    assert sent.contacts[0].uri.scheme == "sip"
    assert (made.calls.session_expires, made.calls.min_se) == (3600, 300)


@pytest.mark.parametrize("name", [name for name in preset_names() if preset(name).account.get("numbers") == ("*",)])
def test_a_trunk_delivers_calls_for_any_number_from_its_own_address_alone(name: str) -> None:
    """must-pass (12), and the numbers that no account is called like."""
    desk = Desk(account(name))
    registers(desk)
    stranger = desk.stranger()
    stranger.request("INVITE", "sip:+4930555@192.0.2.1", body=SDP_OFFER, branch="s", call_id="s")
    assert not stranger.start_lines
    desk.provider.request("INVITE", "sip:+4930555@192.0.2.1", extra="P-Called-Party-ID: <sip:x@y>\n", body=SDP_OFFER)
    assert [event for event in desk.node.events if isinstance(event, SessionIncoming)]


@pytest.mark.parametrize("name", [name for name in preset_names() if not preset(name).registers])
def test_a_trunk_that_knows_us_by_address_lets_nobody_in_until_it_is_named(name: str) -> None:
    desk = Desk(account(name))
    desk.provider.request("INVITE", "sip:alice@192.0.2.1", body=SDP_OFFER)
    assert not desk.provider.start_lines
    known = Desk(account(name, accept_from=(HOST,)))
    known.provider.request("INVITE", "sip:alice@192.0.2.1", body=SDP_OFFER)
    assert [event for event in known.node.events if isinstance(event, SessionIncoming)]


# -- the files -----------------------------------------------------------------------------------------------------


def test_there_is_a_preset_of_every_peer_in_the_table() -> None:
    assert set(preset_names()) == {
        *("twilio", "telnyx", "vonage", "sinch", "didww", "sipgate", "telekom", "swisscom", "fritzbox", "dusnet"),
        *("gamma", "3cx", "asterisk", "teams"),
    }


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_says_what_its_peer_demands(name: str) -> None:
    text = (resources.files("sipcore.presets") / f"{name}.toml").read_text("utf-8")
    assert text.startswith("# Demands (FIELD.md, ")
    assert set(tomllib.loads(text)) == {"title", "registers", "unmet", "account"}


def test_what_is_no_preset_and_no_field() -> None:
    with pytest.raises(InvalidRequest, match="preset: 'acme' is not one of 3cx, asterisk"):
        Account.from_preset("acme", "a@b.example")
    with pytest.raises(InvalidRequest, match="form_user: there is no such field"):
        account_fields({"form_user": "x"})
    with pytest.raises(InvalidRequest, match="codecs: must be a list of strings"):
        account_fields({"codecs": "PCMA"})
    with pytest.raises(InvalidRequest, match="expires: must be of type int"):
        account_fields({"expires": "120"})
    with pytest.raises(InvalidRequest, match="invite_headers: must be a table"):
        account_fields({"invite_headers": ["X-A"]})


def test_a_table_builds_on_a_preset() -> None:
    fields = account_fields({"preset": "teams", "min_se": 90, "from_user": "desk", "register_headers": {"X-A": "1"}})
    assert fields["calls"] == CallPolicy(session_expires=3600, min_se=90)
    assert (fields["from_user"], fields["transport"], fields["register_headers"]) == ("desk", "tls", (("X-A", "1"),))
