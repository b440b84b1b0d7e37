"""Socket addresses as words."""

from __future__ import annotations

import socket

import pytest

from rtp.endpoint import endpoint_of, endpoint_of_words, family_of, host_mask, source_mask


@pytest.mark.parametrize("address", [("192.0.2.1", 5004), ("2001:db8::1", 65535), ("::1", 1)])
def test_words_name_their_address(address: tuple[str, int]) -> None:
    endpoint = endpoint_of(address)
    again = endpoint_of_words(endpoint.words)
    assert again == endpoint
    assert again.address[:2] == address


@pytest.mark.parametrize(("one", "other"), [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")])
def test_masks_tell_host_and_port_apart(one: str, other: str) -> None:
    here = endpoint_of((one, 5004))
    port, host = endpoint_of((one, 5006)).words, endpoint_of((other, 5004)).words
    assert ((here.words ^ port) & source_mask(here.family)).any()
    assert not ((here.words ^ port) & host_mask(here.family)).any()
    assert ((here.words ^ host) & host_mask(here.family)).any()


def test_an_ipv6_flow_label_and_scope_do_not_matter() -> None:
    mask = source_mask(socket.AF_INET6)
    reported = endpoint_of(("fe80::1", 5004, 7, 3))
    assert not ((reported.words ^ endpoint_of(("fe80::1", 5004)).words) & mask).any()
    assert reported.address == ("fe80::1", 5004, 0, 3)


def test_a_zone_becomes_the_scope() -> None:
    assert endpoint_of(("fe80::1%7", 5004)).address == ("fe80::1", 5004, 0, 7)
    with pytest.raises(ValueError, match="no network interface"):
        endpoint_of(("fe80::1%nosuchthing", 5004))


@pytest.mark.parametrize("address", [("example.com", 5004), ("192.0.2.1", 0), ("192.0.2.1", 65536), ("", 5004)])
def test_names_and_impossible_ports_are_refused(address: tuple[str, int]) -> None:
    with pytest.raises(ValueError):
        endpoint_of(address)


def test_the_family_follows_the_host() -> None:
    assert family_of("127.0.0.1") == socket.AF_INET
    assert family_of("::1") == socket.AF_INET6
