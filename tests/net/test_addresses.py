"""IP literals and routes."""

from __future__ import annotations

import errno
import socket

import pytest

from sipcore.net.addresses import (
    LocalAddresses,
    family_of,
    ip_literal,
    is_wildcard,
    join,
    sentence,
    socket_address,
)


@pytest.mark.parametrize(
    ("host", "literal"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("::1", "::1"),
        ("[2001:DB8:0:0::1]", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("pbx1", None),
        ("example.com", None),
        ("1.2.3", None),
        ("1.2.3.256", None),
        ("", None),
    ],
)
def test_a_literal_is_told_from_a_name(host: str, literal: str | None) -> None:
    assert ip_literal(host) == literal


def test_families_and_wildcards() -> None:
    assert family_of("127.0.0.1") == socket.AF_INET
    assert family_of("::1") == socket.AF_INET6
    assert is_wildcard("0.0.0.0")
    assert is_wildcard("::")
    assert not is_wildcard("::1")


def test_addresses_for_people_have_brackets_around_ipv6() -> None:
    assert join(("127.0.0.1", 5060)) == "127.0.0.1:5060"
    assert join(("::1", 5060)) == "[::1]:5060"


def test_the_scope_of_a_link_local_address_is_kept() -> None:
    assert socket_address(("::1", 5060, 0, 0)) == ("::1", 5060)
    assert socket_address(("fe80::1", 5060, 0, 3)) == ("fe80::1%3", 5060)
    assert socket_address(("127.0.0.1", 5060)) == ("127.0.0.1", 5060)


def test_errors_read_as_words() -> None:
    assert sentence(ConnectionRefusedError(errno.ECONNREFUSED, "x")) == "connection refused"
    assert sentence(TimeoutError()) == "timed out"
    assert sentence(OSError("Something else")) == "something else"


class TestLocalAddresses:
    def test_a_bound_address_is_the_answer(self) -> None:
        assert LocalAddresses(("127.0.0.1",)).towards("192.0.2.1") == "127.0.0.1"

    def test_a_wildcard_asks_the_route(self) -> None:
        locals_ = LocalAddresses(("0.0.0.0",))
        assert locals_.towards("127.0.0.1") == "127.0.0.1"

    def test_the_answer_is_remembered_until_it_is_forgotten(self, monkeypatch: pytest.MonkeyPatch) -> None:
        locals_ = LocalAddresses(("0.0.0.0",))
        answers = iter(("192.0.2.1", "192.0.2.2"))
        monkeypatch.setattr(LocalAddresses, "_ask", staticmethod(lambda remote: next(answers)))
        assert locals_.towards("198.51.100.1") == "192.0.2.1"
        assert locals_.towards("198.51.100.1") == "192.0.2.1"
        locals_.forget()
        assert locals_.towards("198.51.100.1") == "192.0.2.2"

    def test_forged_sources_do_not_fill_the_memory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sipcore.net.addresses.MAX_ROUTES", 10)
        monkeypatch.setattr(LocalAddresses, "_ask", staticmethod(lambda remote: "192.0.2.1"))
        locals_ = LocalAddresses(("0.0.0.0",))
        for number in range(100):
            locals_.towards(f"198.51.100.{number}")
        assert len(locals_._routes) <= 10

    def test_a_family_that_is_not_listened_on_has_none(self) -> None:
        locals_ = LocalAddresses(("0.0.0.0",))
        assert locals_.serves("127.0.0.1")
        assert not locals_.serves("::1")
        with pytest.raises(OSError, match="not supported"):
            locals_.towards("::1")
