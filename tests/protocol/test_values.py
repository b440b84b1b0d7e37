"""Header field values (RFC 3261 §19.1, §20, §25): what was written comes out again as it was."""

from __future__ import annotations

import pytest

from sipcore.protocol.values import CSeq, MalformedValue, NameAddr, Params, Uri, Via, split_list


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a, b ,c", ["a", "b", "c"]),
        ("", []),
        (" , ,a,", ["a"]),
        ('"x, y" <sip:a@b>, <sip:c,d@e>;q=1', ['"x, y" <sip:a@b>', "<sip:c,d@e>;q=1"]),
        (r'"a\", b" <sip:a@b>, c', [r'"a\", b" <sip:a@b>', "c"]),
    ],
)
def test_lists_are_split_outside_of_quotes_and_angles(text: str, parts: list[str]) -> None:
    """§7.3.1."""
    assert split_list(text) == parts


# -- Params -------------------------------------------------------------------------------------------------------


def test_params_are_a_mapping_that_ignores_case() -> None:
    """§7.3.1: names in any case; quoted values unquoted; a flag has no value."""
    params = Params.parse('; Tag=AbC;lr;x="a;\\"b" ; expires = 60;;')
    assert dict(params) == {"tag": "AbC", "lr": None, "x": 'a;"b', "expires": "60"}
    assert params["TAG"] == "AbC"
    assert "LR" in params
    assert params.get("nothing") is None
    assert len(params) == 4


def test_params_print_what_was_parsed_or_what_is_needed() -> None:
    """§25.1: quotes only where a value is no token."""
    assert str(Params.parse(";A=b ;c")) == ";A=b ;c"
    assert str(Params({"A": "b", "lr": None, "x": 'a "b'})) == r';a=b;lr;x="a \"b"'
    assert str(Params({"received": "2001:db8::1"})) == ";received=2001:db8::1"
    assert repr(Params({"a": None})) == "Params({'a': None})"


def test_params_that_mean_the_same_are_equal() -> None:
    """Spelling is no difference, order is none either."""
    assert Params.parse(";a=b;C") == Params({"a": "b", "c": None})
    assert hash(Params.parse(";a=b")) == hash(Params({"A": "b"}))
    assert Params.parse(";a") != Params.parse(";b")
    assert Params.parse(";a") != ";a"


def test_changed_params_keep_the_spelling_of_the_rest() -> None:
    """A parameter that is no token (tolerated) is not quoted on its way back."""
    params = Params.parse(";Branch=a@b;rport;Alias").with_(rport="5060", received="1.2.3.4")
    assert str(params) == ";Branch=a@b;Alias;rport=5060;received=1.2.3.4"
    assert params["rport"] == "5060"
    assert str(Params({"a": "1"}).with_(reg_id="2")) == ";a=1;reg-id=2"


# -- Uri ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "sip:alice@example.com",
        "sips:alice@example.com:5061;transport=tcp",
        "sip:alice:secret@example.com",
        "sip:pbx1",
        "sip:a_b@c_d.example",
        "sip:1234@10.0.0.1;user=phone",
        "sip:%61lice%20x@example.com",
        "sip:alice@[2001:db8::1]:5060;lr",
        "sip:+1-212-555-1212;isub=1@example.com;user=phone",
        "sip:alice@example.com?subject=project%20x&priority=urgent",
        "sip:bob@example.com;maddr=239.255.255.1;ttl=15",
        "sip:*98@example.com",
        "sip:user;par=u%40example.net@example.com",
        "SIP:Alice@EXAMPLE.com;Transport=UDP",
        "sip:#1@example.com",
        "tel:+1-201-555-0123;phone-context=example.com",
        "urn:service:sos",
    ],
)
def test_uris_come_out_as_they_were(text: str) -> None:
    """§19.1: a dialog's target and route set are sent back byte for byte."""
    assert str(Uri.parse(text)) == text
    assert str(Uri.parse(f"  {text} ")) == text


def test_the_parts_of_a_uri() -> None:
    """§19.1.1."""
    uri = Uri.parse("sip:al%69ce;x=1:pw@Example.COM:5070;transport=TCP;lr?Subject=a&b=")
    assert (uri.scheme, uri.user, uri.password) == ("sip", "al%69ce;x=1", "pw")
    assert (uri.host, uri.port, uri.hostport) == ("example.com", 5070, "example.com:5070")
    assert uri.user_unescaped == "alice;x=1"
    assert uri.transport == "tcp"
    assert uri.headers == (("Subject", "a"), ("b", ""))
    assert Uri.parse("sips:a").transport == "tls"
    assert Uri.parse("sip:a;transport=sctp").transport is None
    assert Uri.parse("sip:a").user_unescaped == ""


def test_ipv6_hosts_have_no_brackets_inside() -> None:
    """§25.1 IPv6reference; bare ones are tolerated (RFC 5118 §4.5)."""
    uri = Uri.parse("sip:[2001:DB8::1]:5061")
    assert (uri.host, uri.port, uri.hostport) == ("2001:db8::1", 5061, "[2001:db8::1]:5061")
    assert Uri.parse("sip:bob@2001:db8::1").host == "2001:db8::1"


def test_a_built_uri_prints_itself() -> None:
    """§19.1.1."""
    uri = Uri("sip", "alice", "2001:db8::1", 5060, Params({"lr": None}), (("a", "b"),), password="x")
    assert str(uri) == "sip:alice:x@[2001:db8::1]:5060;lr?a=b"
    assert str(Uri("tel", "+123", parameters=Params({"isub": "1"}))) == "tel:+123;isub=1"


def test_a_password_is_not_in_repr() -> None:
    """It could end up in a log."""
    assert "secret" not in repr(Uri.parse("sip:alice:secret@example.com"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sip:",
        "alice@example.com",
        "sip:@example.com",
        "sip:alice@",
        "sip:alice@exa mple.com",
        "sip:alice@-example",
        "sip:alice@example.com:0",
        "sip:alice@example.com:65536",
        "sip:alice@example.com:port",
        "sip:alice@[2001:db8::1",
        "sip:alice@[host]",
        "sip:alice@[::1]x",
        "sip:a\r\nb@example.com",
        "sip:a\0@example.com",
        "sip:a%4@example.com",
        "sip:<a>@example.com",
        "1sip:a@b",
    ],
)
def test_what_is_no_uri(text: str) -> None:
    """§25.1."""
    with pytest.raises(MalformedValue):
        Uri.parse(text)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp"),
        ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
        ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;newparam=5"),
        (
            "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
            "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
        ),
    ],
)
def test_equivalent_uris(one: str, other: str) -> None:
    """§19.1.4, the RFC's own examples."""
    assert Uri.parse(one).equivalent(Uri.parse(other))
    assert Uri.parse(other).equivalent(Uri.parse(one))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp"),
        ("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"),
        ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
        ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off"),
        ("sip:biloxi.com", "sip:a@biloxi.com"),
    ],
)
def test_uris_that_differ(one: str, other: str) -> None:
    """§19.1.4, the RFC's own examples."""
    assert not Uri.parse(one).equivalent(Uri.parse(other))
    assert not Uri.parse(other).equivalent(Uri.parse(one))


def test_a_request_line_has_no_uri_headers() -> None:
    """§19.1.1 table 1."""
    uri = Uri.parse("sip:a@b;method=INVITE;lr?Replaces=x")
    assert str(uri.without_headers()) == "sip:a@b;lr"


# -- NameAddr -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name", "uri", "tag"),
    [
        ('"A. G. Bell" <sip:agb@bell.com>;tag=a48s', "A. G. Bell", "sip:agb@bell.com", "a48s"),
        ("sip:+12125551212@server.phone2net.com;tag=887s", "", "sip:+12125551212@server.phone2net.com", "887s"),
        ("Anonymous <sip:c8oqz84zk7z@privacy.org>;tag=hyh8", "Anonymous", "sip:c8oqz84zk7z@privacy.org", "hyh8"),
        (r'"J \\\"x" <sip:j@x>', r"J \"x", "sip:j@x", ""),
        ("Two Words<sip:a@b;lr>", "Two Words", "sip:a@b;lr", ""),
        ('"<sip:evil@x>" <sip:good@x> ;tag=1', "<sip:evil@x>", "sip:good@x", "1"),
        ('"" <sip:a@b>', "", "sip:a@b", ""),
        ("<sip:a@b>;Tag=Q;x=y", "", "sip:a@b", "Q"),
        ("Jürgen <sip:j@x>", "Jürgen", "sip:j@x", ""),
        ("<sip:a@b?X=%22>;tag=2", "", "sip:a@b?X=%22", "2"),
    ],
)
def test_name_addrs(text: str, name: str, uri: str, tag: str) -> None:
    """§20.10, §20.20: without angle brackets the parameters are the header's."""
    value = NameAddr.parse(text)
    assert (value.display_name, str(value.uri), value.tag) == (name, uri, tag)
    assert str(value) == text


@pytest.mark.parametrize("text", ["", '"x" sip:a@b', "<sip:a@b", '"x <sip:a@b>', "<sip:a@b> x", "<>", "*", "x <y>"])
def test_what_is_no_name_addr(text: str) -> None:
    """§25.1."""
    with pytest.raises(MalformedValue):
        NameAddr.parse(text)


def test_a_list_of_name_addrs() -> None:
    """§7.3.1."""
    values = NameAddr.parse_many('"a, b" <sip:a@x;lr>;q=0.5, <sip:c@x>')
    assert [str(value.uri) for value in values] == ["sip:a@x;lr", "sip:c@x"]


def test_a_built_name_addr_prints_itself() -> None:
    """§25.1."""
    value = NameAddr(Uri("sip", "a", "b"), 'Q"x', Params({"tag": "1"}))
    assert str(value) == r'"Q\"x" <sip:a@b>;tag=1'


# -- Via ----------------------------------------------------------------------------------------------------------


def test_via_parts() -> None:
    """§20.42, RFC 3581."""
    via = Via.parse("SIP/2.0/udp Host.Example:5061;branch=z9hG4bKx;received=192.0.2.9;rport=9988;ttl=1")
    assert (via.transport, via.host, via.port) == ("UDP", "host.example", 5061)
    assert (via.branch, via.received, via.rport) == ("z9hG4bKx", "192.0.2.9", 9988)
    assert via.sent_by == "host.example:5061"
    assert Via.parse("SIP/2.0/TCP a;rport").rport is None
    assert Via.parse("SIP/2.0/TCP a;rport=x").rport is None
    assert Via.parse("SIP/2.0/TCP a").branch == ""


@pytest.mark.parametrize(
    ("text", "sent_by"),
    [
        ("SIP / 2.0 / UDP first.example.com: 4000;ttl=16", "first.example.com:4000"),
        ("SIP/2.0/UDP [2001:db8::9:1];branch=x", "[2001:db8::9:1]"),
        ("SIP/2.0/UDP 2001:db8::9:1;received=2001:db8::9:255;branch=x", "[2001:db8::9:1]"),
        ("SIP/2.0/UDP\tpbx1 ;branch=x", "pbx1"),
        ("SIP/2.0/NEW-TRANSPORT a.b", "a.b"),
    ],
)
def test_tolerated_vias(text: str, sent_by: str) -> None:
    """RFC 4475 §3.1.1.1, RFC 5118 §4.5."""
    assert Via.parse(text).sent_by == sent_by


@pytest.mark.parametrize(
    "text", ["", "SIP/2.0/UDP", "SIP/x/UDP a", "HTTP/2.0/UDP a", "SIP/2.0 a", "SIP/2.0/U@P a", "SIP/2.0/UDP a:x"]
)
def test_what_is_no_via(text: str) -> None:
    """§25.1."""
    with pytest.raises(MalformedValue):
        Via.parse(text)


def test_a_via_of_another_version() -> None:
    """RFC 4475 §3.1.2.16: what came by it is answered with 505, so it is kept as it is."""
    via = Via.parse("SIP/7.0/UDP a;branch=x")
    assert (via.version, via.sent_by, str(via)) == ("7.0", "a", "SIP/7.0/UDP a;branch=x")


def test_a_list_of_vias() -> None:
    """§7.3.1."""
    assert [via.host for via in Via.parse_many("SIP/2.0/UDP a;x=1, SIP/2.0/TCP b")] == ["a", "b"]


# -- CSeq ---------------------------------------------------------------------------------------------------------


def test_cseq() -> None:
    """§20.16: any white space, leading zeros, below 2**31."""
    assert CSeq.parse("0009\t INVITE") == CSeq(9, "INVITE")
    assert str(CSeq(2147483647, "X")) == "2147483647 X"


@pytest.mark.parametrize("text", ["", "1", "x INVITE", "2147483648 INVITE", "1 IN VITE", "-1 BYE", "¹ BYE", "1 B@E"])
def test_what_is_no_cseq(text: str) -> None:
    """§8.1.1.5, §25.1."""
    with pytest.raises(MalformedValue):
        CSeq.parse(text)
