"""Messages for the eyes of people: traces and logs without secrets."""

from __future__ import annotations

import re

__all__ = ["redact", "without_password"]

_FOLD = re.compile(r"\r?\n[ \t]+")
_URI_PASSWORD = re.compile(r"(sips?:[^\s:@<>;]{1,128}:)[^\s@<>]{1,128}(?=@)", re.IGNORECASE)
_SECRETS = (
    re.compile(r"^((?:proxy-)?authorization[ \t]*:[ \t]*(?:\w+[ \t]+)?).*$", re.IGNORECASE | re.MULTILINE),
    re.compile(
        r"^([\w\-]{0,64}(?:token|secret|password|api-?key)[\w\-]{0,64}[ \t]{0,9}:[ \t]*).*$",
        re.IGNORECASE | re.MULTILINE,
    ),
    # Keys of SRTP: whatever follows tag and suite. Not only where a line begins, since SDP is read tolerantly.
    re.compile(
        r"(a[ \t]*=[ \t]*crypto[ \t]*:(?:[ \t]*\d+[ \t]+\w+[ \t]+(?:inline:)?)?)[^\r\n]*",
        re.IGNORECASE,
    ),
    re.compile(r"^([ \t]*(?:k[ \t]*=|a[ \t]*=[ \t]*key-mgmt[ \t]*:)).*$", re.IGNORECASE | re.MULTILINE),
    _URI_PASSWORD,
)


def without_password(uri: str) -> str:
    """A URI, or text with URIs in it, with ``***`` for passwords (``sip:alice:secret@host``)."""
    return _URI_PASSWORD.sub(r"\1***", uri)


def redact(data: bytes) -> str:
    """A message as text for people: credentials, passwords in URIs, headers named like secrets, SDP keys: ``***``."""
    text = _FOLD.sub(" ", data.decode("utf-8", "replace")).replace("\r\n", "\n")
    for secret in _SECRETS:
        text = secret.sub(r"\1***", text)
    return text
