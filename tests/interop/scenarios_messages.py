"""Far ends that send and take INFO, MESSAGE and OPTIONS, one SIPp script each."""

from __future__ import annotations

from tests.interop.kit.scenario import (
    Scenario,
    answer,
    call,
    check_digest,
    follow,
    hang_up,
    invite,
    is_left,
    receive,
    reply,
    respond,
    sdp,
    verify_digest,
)

__all__ = [
    "SENDS_KEYS_BY_INFO",
    "TAKES_BARE_KEYS",
    "TAKES_KEYS_BY_INFO",
    "TAKES_OPTIONS",
    "sends_message",
    "takes_message",
]


_RELAY = "Content-Type: application/dtmf-relay"

TAKES_KEYS_BY_INFO = Scenario(
    "takes-keys-by-info",
    (
        *answer(body=sdp(formats="0")),
        receive("INFO", check=("Content-Type: *application/dtmf-relay", "Signal=1", "Duration=160")),
        reply(),
        receive("INFO", check=("Signal=#",)),
        reply(),
        *is_left(),
    ),
)
"""Offers no telephone-event: keys have to come by INFO."""

TAKES_BARE_KEYS = Scenario(
    "takes-bare-keys",
    (
        *answer(body=sdp(formats="0")),
        receive("INFO", check=("Content-Type: *application/dtmf-relay",)),
        reply("415 Unsupported Media Type", headers=("Accept: application/dtmf",)),
        receive("INFO", check=("Content-Type: *application/dtmf",)),
        reply(),
        *is_left(),
    ),
)
"""Refuses dtmf-relay, takes the bare form."""

SENDS_KEYS_BY_INFO = Scenario(
    "sends-keys-by-info",
    (
        *call(),
        follow("INFO", 2, headers=(_RELAY,), body="Signal=5\nDuration=250"),
        receive("200"),
        follow("INFO", 3, headers=("Content-Type: application/dtmf",), body="*"),
        receive("200"),
        follow("INFO", 4, headers=("Content-Type: application/media_control+xml",), body="<media_control/>"),
        receive("415", check=("Accept: *application/dtmf-relay",)),
        follow("OPTIONS", 5),
        receive("200", check=("Allow: .*INFO", "Accept: .*application/dtmf", "Supported:")),
        follow("FOO", 6),
        receive("501"),
        *hang_up(7),
    ),
    server=False,
)
"""Calls, sends keys, and asks for what there is not."""


def sends_message(status: int) -> Scenario:
    """A MESSAGE outside any call."""
    return Scenario(
        "sends-message",
        (
            invite(method="MESSAGE", headers=("Content-Type: text/plain;charset=UTF-8",), body="good morning"),
            receive(str(status)),
        ),
        server=False,
    )


def takes_message(user: str, password: str) -> Scenario:
    """RFC 3428: a MESSAGE is challenged, then taken; it makes no dialog, so it has no Contact."""
    challenge = 'WWW-Authenticate: Digest realm="sipp.test", nonce="5a17", algorithm=MD5, qop="auth"'
    return Scenario(
        "takes-message",
        (
            receive("MESSAGE", check=("Content-Type: *text/plain", "good evening")),
            respond("401 Unauthorized", headers=(challenge,)),
            receive("MESSAGE", check=("good evening",), actions=(verify_digest(user, password),)),
            *check_digest(),
            respond("200 OK"),
        ),
    )


TAKES_OPTIONS = Scenario(
    "takes-options",
    (
        receive("OPTIONS", check=("Accept: *application/sdp", "Contact: *<sip:")),
        respond("200 OK", headers=("Allow: INVITE, ACK, BYE", "Supported: timer, replaces")),
    ),
)
"""RFC 3261 §11: asked who is there."""
