"""Names of accounts, proxies and callees (RFC 3261 §19.1, RFC 3966)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipcore.errors import InvalidAddress
from sipcore.protocol.addresses import parse_account, parse_callee, parse_name_server, parse_outbound_proxy
from sipcore.protocol.values import Uri

HOME = parse_account("alice@example.com:5070")


@pytest.mark.parametrize(
    ("text", "aor", "registrar", "transport"),
    [
        ("alice@example.com", "sip:alice@example.com", "sip:example.com", None),
        ("alice@Example.COM:5070", "sip:alice@example.com:5070", "sip:example.com:5070", None),
        ("sip:alice@192.0.2.1", "sip:alice@192.0.2.1", "sip:192.0.2.1", None),
        ("SIP:alice@pbx1;transport=TCP", "sip:alice@pbx1", "sip:pbx1;transport=tcp", "tcp"),
        ("alice@example.com;transport=tls", "sip:alice@example.com", "sip:example.com;transport=tls", "tls"),
        ("alice@example.com:5060;transport=udp", "sip:alice@example.com:5060", "sip:example.com:5060", "udp"),
        ("sips:alice@example.com", "sips:alice@example.com", "sips:example.com", "tls"),
        ("alice@[2001:DB8::1]", "sip:alice@[2001:db8::1]", "sip:[2001:db8::1]", None),
        ("alice@[2001:db8::1]:5061", "sip:alice@[2001:db8::1]:5061", "sip:[2001:db8::1]:5061", None),
        ("  alice@a_b.example.com.  ", "sip:alice@a_b.example.com.", "sip:a_b.example.com.", None),
        ("+43123@example.com", "sip:+43123@example.com", "sip:example.com", None),
        ("a%23b@example.com", "sip:a%23b@example.com", "sip:example.com", None),
        ("a#b@example.com", "sip:a%23b@example.com", "sip:example.com", None),
    ],
)
def test_account_forms(text: str, aor: str, registrar: str, transport: str | None) -> None:
    """RFC 3261 §10.2: the address of record has no transport, the registrar's URI no user."""
    address = parse_account(text)
    assert str(address.aor) == aor
    assert str(address.registrar) == registrar
    assert address.transport == transport
    assert address.text == text
    assert Uri.parse(aor) == address.aor


def test_an_account_has_one_key_in_all_its_spellings() -> None:
    """RFC 3261 §19.1.4: escapes, case of the host and the transport do not make another account."""
    spellings = ("a#b@example.com", "sip:a%23b@EXAMPLE.com", "sips:a%23b@example.com", "a#b@example.com;transport=tcp")
    assert {parse_account(text).key for text in spellings} == {"a#b@example.com"}
    assert parse_account("alice@example.com").key != parse_account("Alice@example.com").key
    assert parse_account("alice@example.com").key != parse_account("alice@example.com:5070").key


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is empty"),
        ("  \t ", "is empty"),
        ("alice", "has no user part; write user@host"),
        ("sip:example.com", "has no user part"),
        ("@example.com", "the user part is malformed"),
        ("alice@", "the host is malformed"),
        ("alice@exa mple.com", "is not"),
        ("ali ce@example.com", "is not a SIP address"),
        ("alice@a..b", "is not a SIP address"),
        ("alice@-example", "malformed"),
        ("alice@" + "a" * 64 + ".com", "is not a SIP address"),
        ("alice@300.1.1.1", "is not a SIP address"),
        ("alice@[2001:db8::zz]", "the IPv6 address is malformed"),
        ("alice@[1:2:3]", "is not a SIP address"),
        ("alice@[::1", "the IPv6 address is malformed"),
        ("alice@example.com:0", "the port is not a number from 1 to 65535"),
        ("alice@example.com:65536", "the port is not a number from 1 to 65535"),
        ("alice@example.com:sip", "the port is not a number from 1 to 65535"),
        ("alice@example.com;transport=sctp", "transport 'sctp' is not one of udp, tcp, tls"),
        ("alice@example.com;transport", "transport '' is not one of udp, tcp, tls"),
        ("alice@example.com?Subject=x", "has header fields"),
        ("alice@bob@example.com", "more than one '@'"),
        ("tel:+43123", "is not"),
        ("mailto:alice@example.com", "a scheme other than sip and sips"),
        ("<sip:alice@example.com>", "is not an address"),
        ("alice@example.com\r\nX-Evil: 1", "holds CR, LF, NUL"),
        ("alice@example.com\n", "holds CR, LF, NUL"),
        ("al\0ice@example.com", "holds CR, LF, NUL"),
        ("alice@ex\udc80mple.com", "is not valid Unicode"),
        ("a" * 1025 + "@example.com", "1037 characters, at most 1024"),
        ("alice@example.com;x=<y>", "is not a SIP address"),
    ],
)
def test_what_is_no_account_is_refused_with_the_field_and_the_reason(text: str, why: str) -> None:
    """CONTRACT §5: the message names the field and what was wrong."""
    with pytest.raises(InvalidAddress) as caught:
        parse_account(text)
    assert str(caught.value).startswith("account_name: ")
    assert why in str(caught.value)
    assert caught.value.field == "account_name"
    assert "\n" not in str(caught.value)
    str(caught.value).encode("ascii")


@pytest.mark.parametrize(
    "text", ["alice:hunter2@example.com", "sip:alice:hunter2@example.com", "a:hunt@er2@h", "a:hunter2@h h"]
)
def test_a_password_in_an_address_is_refused_and_not_repeated(text: str) -> None:
    """RFC 3261 §19.1.1 advises against it; an error message is no place for one either."""
    parsers: tuple[Callable[[str], object], ...] = (
        parse_account,
        parse_outbound_proxy,
        lambda name: parse_callee(name, HOME),
    )
    for parse in parsers:
        with pytest.raises(InvalidAddress) as caught:
            parse(text)
        assert "hunt" not in str(caught.value)
        assert "er2" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        ("proxy.example.com", "sip:proxy.example.com;lr"),
        ("proxy.example.com:5080", "sip:proxy.example.com:5080;lr"),
        ("proxy.example.com;transport=tcp", "sip:proxy.example.com;transport=tcp;lr"),
        ("[2001:db8::1]:5060", "sip:[2001:db8::1]:5060;lr"),
        ("192.0.2.7", "sip:192.0.2.7;lr"),
        ("sip:proxy.example.com:5080;transport=tcp;lr", "sip:proxy.example.com:5080;transport=tcp;lr"),
        ("sip:proxy.example.com;lr=on", "sip:proxy.example.com;lr=on"),
        ("sips:proxy.example.com", "sips:proxy.example.com;lr"),
        ("sip:edge@proxy.example.com?X=y", "sip:edge@proxy.example.com;lr"),
    ],
)
def test_an_outbound_proxy_is_a_loose_router(text: str, uri: str) -> None:
    """RFC 3261 §8.1.2, §19.1.1: the pre-loaded Route has ``lr`` and no headers."""
    assert str(parse_outbound_proxy(text)) == uri


@pytest.mark.parametrize("text", ["", "edge@proxy", "proxy:port", "http://proxy", "proxy\r\n", "pro xy", "tel:123"])
def test_what_is_no_outbound_proxy_is_refused(text: str) -> None:
    """CONTRACT §2: ``host[:port]`` or a URI."""
    with pytest.raises(InvalidAddress, match=r"^outbound_proxy: ") as caught:
        parse_outbound_proxy(text)
    assert caught.value.field == "outbound_proxy"


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        # a URI is taken as it is written
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com"),
        ("SIPS:bob@biloxi.com:5061", "sips:bob@biloxi.com:5061"),
        ("sip:+1-212-555@gw.example.com;user=phone", "sip:+1-212-555@gw.example.com;user=phone"),
        ("sip:biloxi.com", "sip:biloxi.com"),
        ("sip:bob@[::1]:5062;transport=tcp", "sip:bob@[::1]:5062;transport=tcp"),
        ("sip:*21#@biloxi.com", "sip:*21%23@biloxi.com"),
        # user@host[:port]
        ("bob@biloxi.com", "sip:bob@biloxi.com"),
        ("bob@biloxi.com:5080", "sip:bob@biloxi.com:5080"),
        ("+1 (212) 555-1234@gw.example.com", "sip:+12125551234@gw.example.com"),
        ("#31#0123@biloxi.com", "sip:%2331%230123@biloxi.com"),
        # a bare user or number, at the account's own domain
        ("bob", "sip:bob@example.com:5070"),
        ("bob.smith-jones", "sip:bob.smith-jones@example.com:5070"),
        ("bob;tag=x", "sip:bob;tag=x@example.com:5070"),
        ("100", "sip:100@example.com:5070"),
        ("+43 (1) 234-56.78", "sip:+4312345678@example.com:5070"),
        ("(030) 123 456", "sip:030123456@example.com:5070"),
        ("030\u00a0123", "sip:030123@example.com:5070"),
        ("**620", "sip:**620@example.com:5070"),
        ("#31#0123", "sip:%2331%230123@example.com:5070"),
        ("50%off", "sip:50%25off@example.com:5070"),
        ("a%23b", "sip:a%23b@example.com:5070"),
        ("jürgen", "sip:j%C3%BCrgen@example.com:5070"),
        ("{x}|^", "sip:%7Bx%7D%7C%5E@example.com:5070"),
        # not plainly a phone number
        ("192.168.1.1", "sip:192.168.1.1@example.com:5070"),
        ("room-5.2", "sip:room-5.2@example.com:5070"),
        ("-12-", "sip:-12-@example.com:5070"),
        # tel: (§19.1.6)
        ("tel:+43-1-234.567", "sip:+431234567@example.com:5070;user=phone"),
        ("TEL:(030)123", "sip:030123@example.com:5070;user=phone"),
        ("tel:7042;phone-context=example.com", "sip:7042@example.com:5070;user=phone"),
        ("tel:+4312;ext=5;phone-context=+43", "sip:+4312;ext=5@example.com:5070;user=phone"),
        ("tel:*21#", "sip:*21%23@example.com:5070;user=phone"),
    ],
)
def test_callee_forms(text: str, uri: str) -> None:
    """CONTRACT §2, with the escapes of RFC 3261 §19.1.2 and the separators of RFC 3966 §5.1.1."""
    parsed = parse_callee(text, HOME)
    assert str(parsed) == uri
    assert Uri.parse(uri) == parsed


def test_who_is_referred_to_may_come_with_header_fields() -> None:
    """§19.1.1, table 1: not in a request line, but in Refer-To."""
    text = "sip:bob@biloxi.com?Replaces=a%40b%3Bto-tag%3D1"
    assert str(parse_callee(text, HOME, refer=True)) == text


def test_a_secure_account_dials_securely() -> None:
    """RFC 3261 §26.2.2: what an account of ``sips:`` dials at its own domain is ``sips:`` too."""
    assert str(parse_callee("bob", parse_account("sips:alice@example.com"))) == "sips:bob@example.com"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is empty"),
        ("bob smith", "neither a user, a number nor a URI"),
        ("bob:5060", "neither a user, a number nor a URI"),
        ("<bob>", "neither a user, a number nor a URI"),
        ("http://example.com/", "neither a user, a number nor a URI"),
        ("https://bob@example.com", "a scheme other than sip and sips"),
        ("[2001:db8::1]", "neither a user, a number nor a URI"),
        ("sip:", "is not an address"),
        ("sip:@example.com", "the user part is malformed"),
        ("@example.com", "the user part is malformed"),
        ("bob@", "the host is malformed"),
        ("tel:", "is not a tel: URI with a number"),
        ("tel:bob", "is not a tel: URI with a number"),
        ("tel:+12ab", "is not a tel: URI with a number"),
        ("tel:+12;x=<y>", "has a malformed parameter"),
        ("sip:bob@example.com\r\nX-Evil: 1", "holds CR, LF, NUL"),
        ("bob\0", "holds CR, LF, NUL"),
        ("bob\n", "holds CR, LF, NUL"),
        ("sip:bob@exa\u2028mple.com", "is not"),
        ("sip:bob@example.com;x=\u00fc", "is not a SIP address"),
        ("sip:bob@example.com;transport=ws", "transport 'ws' is not one of udp, tcp, tls"),
        ("sip:bob@example.com?Subject=Hello", "has header fields; give them as headers of the call"),
    ],
)
def test_what_is_no_callee_is_refused(text: str, why: str) -> None:
    """CONTRACT §5: the message names the field and what was wrong."""
    with pytest.raises(InvalidAddress) as caught:
        parse_callee(text, HOME, field="transfer_id")
    assert str(caught.value).startswith("transfer_id: ")
    assert why in str(caught.value)


@pytest.mark.parametrize("text", ["bob", "+43 1 234", "tel:+431234"])
def test_a_name_without_a_host_needs_an_account(text: str) -> None:
    """There is no domain to dial it at."""
    with pytest.raises(InvalidAddress, match="needs a domain"):
        parse_callee(text, None)
    assert str(parse_callee("sip:bob@biloxi.com", None)) == "sip:bob@biloxi.com"


@given(st.text(max_size=60) | st.from_regex(r"(sips?:|tel:)?[\w.#%*+:;@?<>\[\]\- ]{0,40}", fullmatch=True))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    """What comes out can be sent: it parses again to the same URI, in printable ASCII without spaces."""
    parsers: tuple[Callable[[], Uri], ...] = (
        lambda: parse_account(text).aor,
        lambda: parse_account(text).registrar,
        lambda: parse_outbound_proxy(text),
        lambda: parse_callee(text, HOME),
    )
    for parse in parsers:
        try:
            uri = parse()
        except InvalidAddress:
            continue
        written = str(uri)
        assert written.isascii()
        assert written.isprintable()
        assert " " not in written
        assert not set('<>"') & set(written)
        assert Uri.parse(written) == uri


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("192.0.2.53", ("192.0.2.53", 53)),
        (" 192.0.2.53:5353 ", ("192.0.2.53", 5353)),
        ("2001:db8::53", ("2001:db8::53", 53)),
        ("[2001:db8::53]", ("2001:db8::53", 53)),
        ("[2001:db8::53]:5353", ("2001:db8::53", 5353)),
    ],
)
def test_name_servers(text: str, server: tuple[str, int]) -> None:
    assert parse_name_server(text) == server


@pytest.mark.parametrize(
    "text", ["", "ns.example.com", "192.0.2.53:", "192.0.2.53:0", "192.0.2.53:70000", "[::1", "a:b"]
)
def test_what_is_no_name_server(text: str) -> None:
    with pytest.raises(InvalidAddress, match=r"^nameservers: "):
        parse_name_server(text)
