"""Keys in the bodies of INFO."""

from __future__ import annotations

import pytest

from sipcore.protocol.info import DTMF, DTMF_RELAY, dtmf_body, dtmf_relay_body, keys_of


@pytest.mark.parametrize(
    ("body", "keys"),
    [
        (b"Signal=5\r\nDuration=160\r\n", (("5", 160),)),
        (b"Signal= *\nDuration= 250", (("*", 250),)),
        (b"signal:#\r\nduration:90\r\n", (("#", 90),)),
        (b"Signal=11\r\nDuration=160\r\n", (("#", 160),)),
        (b"Signal=d", (("D", 160),)),
        (b"Signal=star\r\nDuration=soon\r\n", (("*", 160),)),
        (b"Duration=160\r\n", ()),
        (b"Signal=!\r\n", ()),
        (b"Signal=99\r\n", ()),
        (b"Signal=5\r\nDuration=999999999999\r\n", (("5", 160),)),
        (b"Signal=5\r\nDuration=99999999\r\n", (("5", 60_000),)),
        (b"\xff\x00\xfe", ()),
        (b"", ()),
    ],
)
def test_dtmf_relay(body: bytes, keys: tuple[tuple[str, int], ...]) -> None:
    assert keys_of(DTMF_RELAY, body) == keys


@pytest.mark.parametrize(
    ("body", "keys"),
    [
        (b"5", (("5", 160),)),
        (b" # \r\n", (("#", 160),)),
        (b"10", (("*", 160),)),
        (b"123", (("1", 160), ("2", 160), ("3", 160))),
        (b"Signal=5\r\nDuration=200\r\n", (("5", 200),)),
        (b"hello", ()),
        (b"1" * 33, ()),
        (b"", ()),
    ],
)
def test_bare_dtmf(body: bytes, keys: tuple[tuple[str, int], ...]) -> None:
    assert keys_of(DTMF, body) == keys


def test_what_we_write_is_what_we_read() -> None:
    for key in "0123456789*#ABCD":
        assert keys_of(DTMF_RELAY, dtmf_relay_body(key, 200)) == ((key, 200),)
        assert keys_of(DTMF, dtmf_body(key)) == ((key, 160),)
