"""Far ends with session timers, reliable provisional responses and redirections, one SIPp script each.

As in :mod:`tests.interop.scenarios`, a script is called unless it says otherwise.
"""

from __future__ import annotations

from tests.interop.kit.scenario import (
    Scenario,
    acknowledge_refusal,
    answer,
    follow,
    invite,
    receive,
    receive_invite,
    reply,
    request,
    respond,
    sdp,
)

__all__ = [
    "INTERVAL_TOO_SMALL",
    "NEVER_REFRESHES",
    "RAISES_THE_INTERVAL",
    "REFRESHED_BY_REINVITE",
    "REFRESHED_BY_UPDATE",
    "REFRESHES_UNADVERTISED",
]

_BYE = (receive("BYE"), reply())
_UPDATE_ALLOWED = "Allow: INVITE, ACK, CANCEL, BYE, UPDATE"


def _answers_with(*headers: str) -> tuple[str, ...]:
    """Takes the call; the 200 has more header lines."""
    return (
        receive_invite(check=("Supported: .*timer", "Session-Expires: *[0-9]+")),
        respond("200 OK", headers=headers, body=sdp(), attributes=' retrans="500"'),
        receive("ACK"),
    )


# -- session timers (RFC 4028) ---------------------------------------------------------------------------

REFRESHED_BY_UPDATE = Scenario(
    "refreshed-by-update",
    (
        *_answers_with("Session-Expires: 4;refresher=uac", "Require: timer", _UPDATE_ALLOWED),
        receive("UPDATE", check=("Session-Expires: *4;refresher=uac",), timeout=3000),
        reply(headers=("Session-Expires: 4;refresher=uac", "Require: timer")),
        receive("UPDATE", timeout=3000),
        reply(headers=("Session-Expires: 4;refresher=uac", "Require: timer")),
        request("BYE", 199),
        receive("200"),
    ),
)
"""§7.4: the caller refreshes, twice, every half of the interval."""

REFRESHED_BY_REINVITE = Scenario(
    "refreshed-by-reinvite",
    (
        *_answers_with("Session-Expires: 4;refresher=uac", "Allow: INVITE, ACK, CANCEL, BYE"),
        receive("INVITE", check=("Session-Expires: *4;refresher=uac", "m=audio"), timeout=3000),
        reply(headers=("Session-Expires: 4;refresher=uac",), body=sdp()),
        receive("ACK"),
        request("BYE", 199),
        receive("200"),
    ),
)
"""§7.4, for a far end that does not allow UPDATE."""

NEVER_REFRESHES = Scenario(
    "never-refreshes",
    (
        *_answers_with("Session-Expires: 3;refresher=uas", "Require: timer"),
        receive("BYE", check=("Reason: SIP;cause=408",), timeout=4000),
        reply(),
    ),
)
"""§10: it promised to refresh and does not; the caller hangs up."""

RAISES_THE_INTERVAL = Scenario(
    "raises-the-interval",
    (
        receive_invite(check=("Session-Expires: *1800",)),
        respond("422 Session Interval Too Small", headers=("Min-SE: 2400",)),
        receive("ACK"),
        receive(
            "INVITE",
            check=("Session-Expires: *2400", "Min-SE: *2400"),
            save={"via": "Via:", "cseq": "CSeq:", "from": "From:", "to": "To:"},
            dialog=True,
        ),
        respond("200 OK", headers=("Session-Expires: 2400;refresher=uac",), body=sdp(), attributes=' retrans="500"'),
        receive("ACK"),
        *_BYE,
    ),
)
"""§6: 422; one Call-ID for both INVITEs, else SIPp would take the second for another call."""

REFRESHES_UNADVERTISED = Scenario(
    "refreshes-unadvertised",
    (
        *answer(),
        request("INVITE", 101, headers=("Session-Expires: 90;refresher=uac",), body=sdp()),
        receive("100", optional=True),
        receive("200", check=("Session-Expires: *90;refresher=uac",)),
        request("ACK", 101, reliable=False),
        request("UPDATE", 102, headers=("Session-Expires: 90;refresher=uac",)),
        receive("200", check=("Session-Expires: *90;refresher=uac",)),
        request("BYE", 199),
        receive("200"),
    ),
)
"""A far end that said nothing of timers in its 200, and all the same refreshes."""


def calls_with_timer(session_expires: str, expected: str) -> Scenario:
    """Calls with that Session-Expires, expects that one in the 200, is refreshed by UPDATE, hangs up."""
    return Scenario(
        "calls-with-timer",
        (
            invite(
                body=sdp(),
                headers=("Supported: timer", "Min-SE: 2", f"Session-Expires: {session_expires}", _UPDATE_ALLOWED),
            ),
            receive("100", optional=True),
            receive("180", optional=True),
            receive("200", check=(f"Session-Expires: *{expected}", "Require: .*timer"), dialog=True),
            follow("ACK", 1),
            receive("UPDATE", check=("Session-Expires: *4;refresher=uac",), timeout=3000),
            reply(headers=(f"Session-Expires: {session_expires};refresher=uac",)),
            follow("BYE", 2),
            receive("200"),
        ),
        server=False,
    )


def calls_and_does_not_refresh() -> Scenario:
    """Calls, promises to refresh, and does not: it is hung up on."""
    return Scenario(
        "calls-and-does-not-refresh",
        (
            invite(body=sdp(), headers=("Supported: timer", "Min-SE: 2", "Session-Expires: 3;refresher=uac")),
            receive("100", optional=True),
            receive("180", optional=True),
            receive("200", check=("Session-Expires: *3;refresher=uac", "Require: .*timer"), dialog=True),
            follow("ACK", 1),
            receive("BYE", check=("Reason: SIP;cause=408",), timeout=4000),
            reply(),
        ),
        server=False,
    )


INTERVAL_TOO_SMALL = Scenario(
    "interval-too-small",
    (
        invite(body=sdp(), headers=("Supported: timer", "Session-Expires: 60")),
        receive("100", optional=True),
        receive("422", check=("Min-SE: *90",)),
        acknowledge_refusal(),
    ),
    server=False,
)
"""§9: 60 seconds are too few; the 422 says how many it must be."""
