"""The Reason header field: why a request was sent, beyond its method (RFC 3326, RFC 6432).

``Reason: Q.850;cause=17;text="User busy"`` tells what a telephone network said, ``SIP;cause=200;text="Call completed
elsewhere"`` on a CANCEL that another branch has answered. Read with tolerance and within bounds, written strictly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sipcore.errors import InvalidHeader
from sipcore.events import Reason
from sipcore.protocol.params import legible
from sipcore.protocol.values import Params, split_list

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sipcore.protocol.wire import Message

__all__ = [
    "COMPLETED_ELSEWHERE",
    "MEDIA_TIMEOUT",
    "NORMAL_CLEARING",
    "NO_ANSWER",
    "SESSION_TIMER_EXPIRED",
    "parse_reasons",
    "reason_headers",
    "with_reasons",
]

NORMAL_CLEARING = Reason("Q.850", 16, "Normal call clearing")
NO_ANSWER = Reason("Q.850", 19, "No answer from user")
COMPLETED_ELSEWHERE = Reason("SIP", 200, "Call completed elsewhere")
SESSION_TIMER_EXPIRED = Reason("SIP", 408, "Session timer expired")
MEDIA_TIMEOUT = Reason("SIP", 408, "Media timeout")

MAX_REASONS = 8
"""Values read from one message; the standard allows one for each protocol."""
MAX_TEXT = 200
"""Characters of a text that are kept."""
_SPELLINGS = {"sip": "SIP", "q.850": "Q.850", "q850": "Q.850", "preemption": "Preemption"}


def parse_reasons(message: Message) -> tuple[Reason, ...]:
    """All Reason values of a message; what makes no sense is passed over. Never raises."""
    texts = [value for line in message.headers.get_all("Reason") for value in split_list(line)]
    return tuple(reason for text in texts[:MAX_REASONS] if (reason := _parse(text)) is not None)


def _parse(text: str) -> Reason | None:
    protocol, semicolon, rest = text.partition(";")
    params = Params.parse(semicolon + rest)
    digits = (params.get("cause") or "").strip()
    cause = int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 4 else 0
    protocol = protocol.strip()[:32]
    try:
        return Reason(_SPELLINGS.get(protocol.lower(), protocol), cause, _printable(params.get("text") or ""))
    except InvalidHeader:
        return None


def _printable(text: str) -> str:
    return "".join(character for character in legible(text) if character.isprintable())[:MAX_TEXT]


def reason_headers(reasons: Sequence[Reason]) -> tuple[tuple[str, str], ...]:
    """The header lines for a request of ours, one for each value."""
    return tuple(("Reason", _spelled(reason)) for reason in reasons)


def _spelled(reason: Reason) -> str:
    params: dict[str, str | None] = {}
    if reason.cause:
        params["cause"] = str(reason.cause)
    # Always a quoted string (§2), also where one word would do for a token.
    text = reason.text.replace("\\", "\\\\").replace('"', '\\"')
    return f"{reason.protocol}{Params(params)}" + (f';text="{text}"' if text else "")


def with_reasons(sentence: str, reasons: Iterable[Reason]) -> str:
    """A sentence with what the far end gave as its reasons: ``486 Busy Here from sip:bob@… (Q.850 17 User busy)``."""
    tokens = "; ".join(str(reason) for reason in reasons)
    return f"{sentence} ({tokens})" if tokens else sentence
