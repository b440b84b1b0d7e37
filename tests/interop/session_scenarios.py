"""Far ends with session timers, reliable provisional responses and redirections, one SIPp script each.

As in :mod:`tests.interop.scenarios`, a script is called unless it says otherwise.
"""

from __future__ import annotations

from tests.interop.kit.scenario import (
    Scenario,
    acknowledge_refusal,
    answer,
    answer_invite,
    call,
    cancel,
    follow,
    hang_up,
    invite,
    is_left,
    pause,
    receive,
    receive_invite,
    reply,
    request,
    respond,
    sdp,
    take,
)

__all__ = [
    "CHALLENGES_PRACK",
    "HELD_AT_A_BAD_TIME",
    "INTERVAL_TOO_SMALL",
    "NEVER_ACKNOWLEDGES_RINGING",
    "NEVER_REFRESHES",
    "OFFERED_IN_THE_180",
    "RAISES_THE_INTERVAL",
    "REFRESHED_BY_REINVITE",
    "REFRESHED_BY_UPDATE",
    "REFRESHES_UNADVERTISED",
    "RELIABLE_EARLY_MEDIA",
    "REQUIRES_RELIABLE_RINGING",
    "RINGS_RELIABLY",
    "STRAY_PRACK",
    "calls_and_does_not_refresh",
    "calls_with_timer",
    "redirects_to",
]

_UPDATE_ALLOWED = "Allow: INVITE, ACK, CANCEL, BYE, UPDATE"


def _answers_with(*headers: str) -> tuple[str, ...]:
    """Takes the call; the 200 has more header lines."""
    return (
        receive_invite(check=("Supported: .*timer", "Session-Expires: *[0-9]+")),
        *take(headers=headers),
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
        *is_left(),
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
            *call(
                headers=("Supported: timer", "Min-SE: 2", f"Session-Expires: {session_expires}", _UPDATE_ALLOWED),
                check=(f"Session-Expires: *{expected}", "Require: .*timer"),
            ),
            receive("UPDATE", check=("Session-Expires: *4;refresher=uac",), timeout=3000),
            reply(headers=(f"Session-Expires: {session_expires};refresher=uac",)),
            *hang_up(2),
        ),
        server=False,
    )


def calls_and_does_not_refresh() -> Scenario:
    """Calls, promises to refresh, and does not: it is hung up on."""
    return Scenario(
        "calls-and-does-not-refresh",
        (
            *call(
                headers=("Supported: timer", "Min-SE: 2", "Session-Expires: 3;refresher=uac"),
                check=("Session-Expires: *3;refresher=uac", "Require: .*timer"),
            ),
            receive("BYE", check=("Reason: SIP;cause=408",), timeout=4000),
            reply(),
        ),
        server=False,
    )


# -- reliable provisional responses (RFC 3262), offers before the answer (RFC 3311) -----------------------

_RELIABLE = ("Require: 100rel", "RSeq: 77")
_PRACK = receive("PRACK", check=("RAck: *77 [0-9]+ INVITE",))

RINGS_RELIABLY = Scenario(
    "rings-reliably",
    (
        receive_invite(check=("Supported: .*100rel",)),
        respond("180 Ringing", headers=_RELIABLE),
        _PRACK,
        reply(),
        pause(200),
        answer_invite("200 OK", body=sdp(), attributes=' retrans="500"'),
        receive("ACK"),
        *is_left(),
    ),
)
"""RFC 3262 §4: the 180 gets its PRACK."""

RELIABLE_EARLY_MEDIA = Scenario(
    "reliable-early-media",
    (
        receive_invite(),
        respond("183 Session Progress", headers=_RELIABLE, body=sdp()),
        _PRACK,
        reply(),
        request("UPDATE", 101, body=sdp(version=2)),
        receive("200", check=("m=audio [0-9]+ RTP/AVP", "CSeq: *101 UPDATE")),
        answer_invite("200 OK", attributes=' retrans="500"'),
        receive("ACK"),
        *is_left(),
    ),
)
"""RFC 3262 §5, RFC 3311: the answer is in the 183, an UPDATE changes it, the 200 has no SDP at all."""

CHALLENGES_PRACK = Scenario(
    "challenges-prack",
    (
        receive_invite(),
        respond("180 Ringing", headers=_RELIABLE),
        _PRACK,
        reply(
            "407 Proxy Authentication Required",
            headers=('Proxy-Authenticate: Digest realm="sipp.test", nonce="5ac1", algorithm=MD5, qop="auth"',),
        ),
        receive("PRACK", check=("RAck: *77 [0-9]+ INVITE", "Proxy-Authorization: Digest")),
        reply(),
        answer_invite("200 OK", body=sdp(), attributes=' retrans="500"'),
        receive("ACK"),
        *is_left(),
    ),
)
"""RFC 3261 §22.3 for a PRACK."""


def _prack(cseq: int, *, body: str = "") -> str:
    """Acknowledges the 180 that was saved as ``rseq``."""
    return follow("PRACK", cseq, headers=("RAck:[$rseq] 1 INVITE",), body=body)


_RELIABLE_180 = receive("180", check=("Require: .*100rel",), save={"rseq": "RSeq:"}, dialog=True)

REQUIRES_RELIABLE_RINGING = Scenario(
    "requires-reliable-ringing",
    (
        invite(body=sdp(), headers=("Require: 100rel", "Supported: 100rel")),
        receive("100", optional=True),
        _RELIABLE_180,
        _prack(2),
        receive("200", check=("CSeq: *2 PRACK",)),
        receive("200", check=("m=audio [0-9]+ RTP/AVP", "CSeq: *1 INVITE"), dialog=True),
        follow("ACK", 1),
        *hang_up(3),
    ),
    server=False,
)
"""RFC 3262 §3: it calls, and requires 100rel."""

OFFERED_IN_THE_180 = Scenario(
    "offered-in-the-180",
    (
        invite(headers=("Require: 100rel", "Supported: 100rel")),
        receive("100", optional=True),
        receive("180", check=("Require: .*100rel", "m=audio [0-9]+ RTP/AVP"), save={"rseq": "RSeq:"}, dialog=True),
        _prack(2, body=sdp()),
        receive("200", check=("CSeq: *2 PRACK",)),
        receive("200", check=("CSeq: *1 INVITE",), dialog=True),
        follow("ACK", 1),
        *hang_up(3),
    ),
    server=False,
)
"""RFC 3262 §5: no offer in its INVITE; the 180 has ours, the PRACK the answer."""

NEVER_ACKNOWLEDGES_RINGING = Scenario(
    "never-acknowledges-ringing",
    (
        invite(body=sdp(), headers=("Require: 100rel", "Supported: 100rel")),
        receive("100", optional=True),
        receive("180"),
        receive("180", timeout=2000),
        receive("180", timeout=2000),
        cancel(),
        receive("200", optional=True),
        receive("487"),
        acknowledge_refusal(),
    ),
    server=False,
)
"""RFC 3262 §3: the 180 is repeated. Needs ``retransmit=False``."""

STRAY_PRACK = Scenario(
    "stray-prack",
    (
        invite(body=sdp(), headers=("Require: 100rel", "Supported: 100rel")),
        receive("100", optional=True),
        _RELIABLE_180,
        follow("PRACK", 2, headers=("RAck: 1 1 INVITE",)),
        receive("481", check=("CSeq: *2 PRACK",)),
        _prack(3),
        receive("200", check=("CSeq: *3 PRACK",)),
        cancel(),
        receive("200", optional=True),
        receive("487"),
        acknowledge_refusal(),
    ),
    server=False,
)
"""RFC 3262 §3: a PRACK that matches nothing gets 481, and the right one 200."""


# -- holds of ours (RFC 3261 §14.1) ----------------------------------------------------------------------

HELD_AT_A_BAD_TIME = Scenario(
    "held-at-a-bad-time",
    (
        *answer(),
        receive("INVITE", check=("a=sendonly",)),
        reply("491 Request Pending"),
        receive("ACK"),
        receive("INVITE", check=("a=sendonly",), timeout=5000),
        reply(body=sdp("recvonly", version=2)),
        receive("ACK"),
        receive("INVITE", check=("a=sendrecv",)),
        reply("488 Not Acceptable Here"),
        receive("ACK"),
        *is_left(),
    ),
)
"""A hold that meets an offer of the far end, is made again and taken; the resume is refused, the call goes on."""


# -- redirections (RFC 3261 §8.1.3.4) --------------------------------------------------------------------


def redirects_to(*contacts: str) -> Scenario:
    """302 with those Contact values."""
    return Scenario(
        "redirects-to",
        (
            receive_invite(),
            respond("302 Moved Temporarily", headers=(f"Contact: {', '.join(contacts)}",)),
            receive("ACK"),
        ),
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
