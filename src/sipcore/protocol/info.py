"""Bodies of INFO that carry keys (RFC 6086 §3 calls it the legacy usage; no RFC defines the bodies).

``application/dtmf-relay`` is what Cisco began and most PBXs know, ``application/dtmf`` a bare key.
"""

from __future__ import annotations

__all__ = ["DTMF", "DTMF_RELAY", "dtmf_body", "dtmf_relay_body", "keys_of"]

DTMF_RELAY = "application/dtmf-relay"
DTMF = "application/dtmf"
KEYS = "0123456789*#ABCD"
"""In the order of the event codes of RFC 4733 §3.2."""
MAX_KEYS = 32
"""Keys taken from one ``application/dtmf`` body."""
DEFAULT_MS = 160
LONGEST_MS = 60_000


def keys_of(content_type: str, body: bytes) -> tuple[tuple[str, int], ...]:
    """Keys and milliseconds in a body of one of the two types; empty where there are none. Never raises."""
    text = body.decode("ascii", "replace")
    if content_type == DTMF:
        return _bare(text)
    fields: dict[str, str] = {}
    for line in text.replace("\r", "\n").split("\n"):
        name, separator, value = line.partition("=" if "=" in line else ":")
        if separator:
            fields.setdefault(name.strip().lower(), value.strip())
    key = _key(fields.get("signal", ""))
    return ((key, _milliseconds(fields.get("duration", ""))),) if key else ()


def _bare(text: str) -> tuple[tuple[str, int], ...]:
    """One key, its event code in decimal, or several keys in a row."""
    text = text.strip()
    if text.lower().startswith("signal"):
        return keys_of(DTMF_RELAY, text.encode("ascii", "replace"))
    if one := _key(text):
        return ((one, DEFAULT_MS),)
    keys = [key for character in text[:MAX_KEYS] if (key := _key(character))]
    return tuple((key, DEFAULT_MS) for key in keys) if len(keys) == len(text) else ()


def _key(text: str) -> str:
    """``5``, ``*``, ``b``, ``star``, or an event code (``11``); empty where it is none (``!`` is a hook flash)."""
    text = text.strip().upper()
    if len(text) == 1 and text in KEYS:
        return text
    if text in ("STAR", "POUND", "HASH"):
        return "*" if text == "STAR" else "#"
    if text.isascii() and text.isdigit() and len(text) == 2 and int(text) < len(KEYS):
        return KEYS[int(text)]
    return ""


def _milliseconds(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        return DEFAULT_MS
    return min(int(text), LONGEST_MS)


def dtmf_relay_body(key: str, milliseconds: int) -> bytes:
    """The body for one key."""
    return f"Signal={key}\r\nDuration={milliseconds}\r\n".encode()


def dtmf_body(key: str) -> bytes:
    """The body for one key, for far ends that know the bare form only."""
    return key.encode()
