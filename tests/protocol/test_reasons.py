"""Reason header fields (RFC 3326)."""

from __future__ import annotations

import pytest

from sipcore.errors import InvalidHeader
from sipcore.events import Reason
from sipcore.protocol.reasons import parse_reasons, reason_headers, with_reasons
from sipcore.protocol.wire import Message


def _read(*lines: str) -> tuple[Reason, ...]:
    message = Message()
    for line in lines:
        message.headers.add("Reason", line)
    return parse_reasons(message)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('Q.850;cause=17;text="User busy"', Reason("Q.850", 17, "User busy")),
        ('SIP ;cause=200 ;text="Call completed elsewhere"', Reason("SIP", 200, "Call completed elsewhere")),
        ("SIP;cause=486", Reason("SIP", 486)),
        ("q.850 ; Cause = 16 ; text=Cleared", Reason("Q.850", 16, "Cleared")),
        ("Q850;cause=31", Reason("Q.850", 31)),
        ("Q.850", Reason("Q.850")),
        ("Q.850;cause=seventeen", Reason("Q.850")),
        ("Q.850;cause=99999999999", Reason("Q.850")),
        ('X-Vendor;cause=1;text="a;b, \\"c\\""', Reason("X-Vendor", 1, 'a;b, "c"')),
    ],
)
def test_what_peers_write_is_read(line: str, reason: Reason) -> None:
    """§2, with what real gateways get wrong."""
    assert _read(line) == (reason,)


@pytest.mark.parametrize("line", ["", ";cause=16", '"Q.850";cause=16', "two words;cause=1", ",,,"])
def test_nonsense_is_passed_over(line: str) -> None:
    assert _read(line) == ()


def test_several_reasons_on_one_line_or_more() -> None:
    """§2: one value for each protocol."""
    assert _read('Q.850;cause=16;text="a, b", SIP;cause=200', "Preemption;cause=1") == (
        Reason("Q.850", 16, "a, b"),
        Reason("SIP", 200),
        Reason("Preemption", 1),
    )


def test_nobody_can_fill_the_memory() -> None:
    many = _read(", ".join(["SIP;cause=200"] * 1000))
    (long,) = _read(f'SIP;cause=200;text="{"x" * 10_000}"')
    assert (len(many), len(long.text)) == (8, 200)


def test_written_strictly_and_read_back() -> None:
    """§2: the text is a quoted string, whatever stands in it."""
    reasons = (Reason("Q.850", 16, "Normal call clearing"), Reason("SIP", 503, 'say "hi" \\ bye'), Reason("X", 0, ""))
    lines = [value for _, value in reason_headers(reasons)]
    assert lines[0] == 'Q.850;cause=16;text="Normal call clearing"'
    assert _read(*lines) == reasons


def test_the_sentence_carries_stable_tokens() -> None:
    sentence = with_reasons("486 Busy Here from sip:bob@example.com", (Reason("Q.850", 17, "User busy"),))
    assert sentence == "486 Busy Here from sip:bob@example.com (Q.850 17 User busy)"
    assert with_reasons("Hung up", ()) == "Hung up"


@pytest.mark.parametrize(
    ("protocol", "cause", "text"), [("two words", 1, ""), ("", 1, ""), ("SIP", -1, ""), ("SIP", 200, "a\r\nVia: b")]
)
def test_what_may_not_be_sent_is_refused(protocol: str, cause: int, text: str) -> None:
    with pytest.raises(InvalidHeader):
        Reason(protocol, cause, text)
