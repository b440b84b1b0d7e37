"""Far ends of transfers, one SIPp script each: who is transferred, who asks for it, who takes another's place."""

from __future__ import annotations

from tests.interop.kit.scenario import (
    Scenario,
    answer,
    call,
    check_digest,
    follow,
    hang_up,
    is_left,
    pause,
    receive,
    receive_invite,
    reply,
    request,
    respond,
    take,
    verify_digest,
)

__all__ = [
    "IS_TRANSFERRED_ATTENDED",
    "REFER_ANSWERED_TOO_LATE",
    "REFER_MEETS_AN_OFFER",
    "REFER_NEVER_ANSWERED",
    "REFER_WITHOUT_REPORTS",
    "asks_to_call",
    "calls_in_place_of",
    "refer_accepted",
    "refer_challenged",
    "refer_refused",
    "takes_a_referred_call",
]


def _notify(cseq: int, status: str, *, final: bool) -> tuple[str, ...]:
    """RFC 3515 §2.4.5: one report of the referred call."""
    state = "terminated;reason=noresource" if final else "active;expires=60"
    headers = ("Event: refer", f"Subscription-State: {state}")
    return (request("NOTIFY", cseq, headers=headers, body=f"SIP/2.0 {status}"), receive("200"))


def refer_accepted(outcome: str = "") -> Scenario:
    """202, then NOTIFY with 100 and with ``outcome`` (status and reason); empty: no NOTIFY at all."""
    reports = (*_notify(201, "100 Trying", final=False), *_notify(202, outcome, final=True)) if outcome else ()
    return Scenario(
        "refer-accepted",
        (
            *answer(),
            receive("REFER", check=("Refer-To: *<?sip:",)),
            reply("202 Accepted"),
            *reports,
            *is_left(),
        ),
    )


def refer_refused(status: str) -> Scenario:
    """RFC 3515 §2.4.2: the REFER is refused; the call goes on until the BYE."""
    return Scenario("refer-refused", (*answer(), receive("REFER"), reply(status), *is_left()))


def refer_challenged(user: str, password: str) -> Scenario:
    """407 to the REFER inside the dialog; with the right digest it is accepted."""
    challenge = 'Proxy-Authenticate: Digest realm="sipp.test", nonce="11ff", opaque="o", algorithm=MD5, qop="auth"'
    return Scenario(
        "refer-challenged",
        (
            *answer(),
            receive("REFER"),
            reply("407 Proxy Authentication Required", headers=(challenge,)),
            receive(
                "REFER",
                check=("Proxy-Authorization: Digest", 'opaque="o"'),
                actions=(verify_digest(user, password),),
            ),
            *check_digest(),
            reply("202 Accepted"),
            *is_left(),
        ),
    )


REFER_MEETS_AN_OFFER = Scenario(
    "refer-meets-an-offer",
    (*answer(), receive("REFER"), reply("491 Request Pending"), receive("REFER"), reply("202 Accepted"), *is_left()),
)
"""Busy with an offer when the REFER comes; takes it the second time."""

REFER_WITHOUT_REPORTS = Scenario(
    "refer-without-reports",
    (
        *answer(),
        receive("REFER", check=("Refer-Sub: *false", "Supported:.*norefersub")),
        reply("200 OK", headers=("Refer-Sub: false",)),
        *is_left(),
    ),
)
"""RFC 4488: both sides want no NOTIFY."""

IS_TRANSFERRED_ATTENDED = Scenario(
    "is-transferred-attended",
    (
        *answer(),
        receive(
            "REFER",
            check=(
                "Refer-To: *<sip:[^?>]*[?]Replaces=[^;=@>]*%3Bto-tag%3D[^;=@>]*%3Bfrom-tag%3D[^;=@>]*>",
                "Referred-By: *<sip:",
            ),
        ),
        reply("202 Accepted"),
        *_notify(201, "100 Trying", final=False),
        *_notify(202, "180 Ringing", final=False),
        *_notify(203, "200 OK", final=True),
        *is_left(),
    ),
)
"""RFC 5589 §7.1: the Refer-To names a dialog, escaped; every step is reported."""


def asks_to_call(refer_to: str, *, outcome: str = "200 OK") -> Scenario:
    """Calls, sends a REFER, hears of each step by NOTIFY, hangs up."""
    return Scenario(
        "asks-to-call",
        (
            *call(),
            follow("REFER", 2, headers=(f"Refer-To: <{refer_to}>", "Referred-By: <sip:boss@example.com>")),
            receive("202"),
            receive("NOTIFY", check=("SIP/2.0 100 Trying", "Subscription-State: *active", "Event: *refer")),
            reply(),
            receive("NOTIFY", check=("SIP/2.0 180", "Subscription-State: *active")),
            reply(),
            receive("NOTIFY", check=(f"SIP/2.0 {outcome}", "Subscription-State: *terminated")),
            reply(),
            *hang_up(3),
        ),
        server=False,
    )


def takes_a_referred_call(*, check: tuple[str, ...] = ()) -> Scenario:
    """Is called by a transferee: rings, so that there is a step to report, answers, is hung up on."""
    return Scenario(
        "takes-a-referred-call",
        (
            receive_invite(check=("Referred-By: *<sip:boss@example.com>", *check)),
            respond("180 Ringing"),
            pause(400),
            *take(),
            *is_left(),
        ),
    )


def calls_in_place_of(replaces: str) -> Scenario:
    """RFC 3891: calls to take another call's place, talks, hangs up."""
    return Scenario(
        "calls-in-place-of",
        (
            *call(headers=(f"Replaces: {replaces}", "Require: replaces")),
            pause(300),
            *hang_up(2),
        ),
        server=False,
    )


REFER_NEVER_ANSWERED = Scenario("refer-never-answered", (*answer(), receive("REFER"), *is_left()))
"""The REFER and its repetitions get no answer; the call goes on until the BYE."""

REFER_ANSWERED_TOO_LATE = Scenario(
    "refer-answered-late",
    (*answer(), receive("REFER"), pause(1500), reply("202 Accepted"), *is_left()),
)
"""The 202 comes 1.5 s after the REFER."""
