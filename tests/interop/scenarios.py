"""The far ends that the stack has to live with, one SIPp script each.

A function where the flow has a parameter, a constant where it has none. Unless it says otherwise, a script is
called (it is the user agent server of the first INVITE).
"""

from __future__ import annotations

from tests.interop.kit.scenario import (
    Scenario,
    acknowledge_refusal,
    answer,
    answer_invite,
    call,
    cancel,
    check_digest,
    follow,
    hang_up,
    invite,
    is_cancelled,
    is_left,
    pause,
    receive,
    receive_invite,
    reply,
    request,
    respond,
    sdp,
    take,
    verify_digest,
)

__all__ = [
    "ANNOUNCES_AND_REFUSES",
    "ANSWERED_WHILE_CANCELLED",
    "CALL_WITHOUT_OFFER",
    "CHANGES_ITS_CODEC",
    "EARLY_MEDIA",
    "HEARS_WHY",
    "HOLDS_AND_RESUMES",
    "LOSES_ACKS",
    "LOSES_THE_200",
    "MOVES_BY_UPDATE",
    "OPTIONS",
    "REOFFER_REQUESTED",
    "RINGS_UNTIL_CANCELLED",
    "SAYS_WHY",
    "SLOW_TO_RING",
    "answers",
    "answers_late",
    "calls",
    "calls_and_gives_up",
    "challenges_bye",
    "hangs_up_first",
    "is_hung_up_on",
    "is_refused",
    "refuses",
    "registrar_forgets",
    "registrar_recovers",
    "registrar_refuses",
    "registrar_wants_longer",
    "rings_then_refuses",
]

_HANG_UP = (pause(200), request("BYE", 199), receive("200"))


# -- answers to INVITE that are no 2xx -------------------------------------------------------------------


def refuses(status: str, *, headers: tuple[str, ...] = ()) -> Scenario:
    """RFC 3261 §21.4-21.6: the call is refused at once; the ACK is part of the script."""
    return Scenario("refuses", (receive_invite(), respond(status, headers=headers), receive("ACK")))


def rings_then_refuses(status: str) -> Scenario:
    """180 first, the refusal a moment later."""
    return Scenario(
        "rings-then-refuses",
        (receive_invite(), respond("180 Ringing"), pause(300), respond(status), receive("ACK")),
    )


RINGS_UNTIL_CANCELLED = Scenario(
    "rings-until-cancelled",
    (
        receive_invite(),
        respond("180 Ringing"),
        *is_cancelled(),
    ),
)
"""RFC 3261 §9.2: rings for ever; a CANCEL gets its 200, the INVITE its 487."""

SLOW_TO_RING = Scenario(
    "slow-to-ring",
    (
        receive_invite(),
        # Shorter than T1, so that no repeated INVITE comes; a CANCEL that comes in here fails the script.
        pause(350),
        respond("180 Ringing"),
        *is_cancelled(),
    ),
)
"""RFC 3261 §9.1: the caller gives up before the first provisional; its CANCEL has to wait for one."""

ANSWERED_WHILE_CANCELLED = Scenario(
    "answered-while-cancelled",
    (
        receive_invite(),
        respond("180 Ringing"),
        receive("CANCEL"),
        reply(),
        answer_invite("200 OK", body=sdp()),
        receive("ACK"),
        *is_left(),
    ),
)
"""RFC 3261 §9.1: the 200 crosses the CANCEL; the caller must ACK it and hang up with BYE."""


# -- answers to INVITE that are a 2xx --------------------------------------------------------------------


def answers(*, body: str = "") -> Scenario:
    """Takes the call and waits to be hung up on."""
    return Scenario("answers", (*answer(body=body), *is_left()))


def answers_late(milliseconds: int) -> Scenario:
    """Rings, and answers after that time."""
    return Scenario("answers-late", (*answer(delay=milliseconds), *is_left()))


def hangs_up_first(milliseconds: int) -> Scenario:
    """Takes the call and ends it after that time."""
    return Scenario("hangs-up-first", (*answer(), pause(milliseconds), *_HANG_UP))


HEARS_WHY = Scenario(
    "hears-why",
    (
        *answer(),
        receive("BYE", check=('Reason: *Q.850;cause=16;text="Normal call clearing"',)),
        reply(),
    ),
)
"""RFC 3326: the BYE must say that the call was cleared normally."""

SAYS_WHY = Scenario(
    "says-why",
    (
        *answer(),
        pause(200),
        request("BYE", 199, headers=('Reason: Q.850;cause=41;text="Temporary failure"',)),
        receive("200"),
    ),
)
"""RFC 3326: hangs up and tells the cause of its gateway."""

LOSES_ACKS = Scenario(
    "loses-acks",
    (
        receive_invite(),
        respond("200 OK", body=sdp()),
        receive("ACK"),
        pause(500),
        answer_invite("200 OK", body=sdp()),
        receive("ACK"),
        pause(1000),
        answer_invite("200 OK", body=sdp()),
        receive("ACK"),
        *is_left(),
    ),
)
"""RFC 3261 §13.2.2.4: two ACKs are lost, as far as this one knows; each copy of the 200 must get one."""

EARLY_MEDIA = Scenario(
    "early-media",
    (
        receive_invite(),
        respond("183 Session Progress", body=sdp()),
        pause(600),
        *take(),
        *_HANG_UP,
    ),
)
"""RFC 3960: 183 with the answer, the same answer again in the 200."""

ANNOUNCES_AND_REFUSES = Scenario(
    "announces-and-refuses",
    (
        receive_invite(),
        respond("183 Session Progress", body=sdp()),
        pause(200),
        respond("404 Not Found", headers=('Reason: Q.850;cause=1;text="Unallocated number"',)),
        receive("ACK"),
    ),
)
"""A gateway that says in early media why the call fails, and in a Reason header field."""

HOLDS_AND_RESUMES = Scenario(
    "holds-and-resumes",
    (
        *answer(),
        pause(400),
        request("INVITE", 101, body=sdp("sendonly", version=2)),
        receive("100", optional=True),
        receive("200", check=("a=(recvonly|inactive)",)),
        request("ACK", 101, reliable=False),
        pause(400),
        request("INVITE", 102, body=sdp("sendrecv", version=3)),
        receive("100", optional=True),
        receive("200", check=("a=sendrecv",)),
        request("ACK", 102, reliable=False),
        *_HANG_UP,
    ),
)
"""RFC 3264 §8.4: a re-INVITE to hold, one to resume."""

CHANGES_ITS_CODEC = Scenario(
    "changes-its-codec",
    (
        *answer(body=sdp(formats="0")),
        pause(200),
        request("INVITE", 101, body=sdp(version=2, formats="9")),
        receive("100", optional=True),
        receive("200", check=("RTP/AVP 9[^0-9 ]", "a=rtpmap:9 G722/8000")),
        request("ACK", 101, reliable=False),
        pause(200),
        request("INVITE", 102, body=sdp(version=3, formats="0 9")),
        receive("100", optional=True),
        receive("200", check=("RTP/AVP 0[^0-9 ]",)),
        request("ACK", 102, reliable=False),
        *_HANG_UP,
    ),
)
"""RFC 3264 §8.3.2: from PCMU to G.722, by its static number alone (RFC 3551 §6), and back."""

REOFFER_REQUESTED = Scenario(
    "reinvite-without-offer",
    (
        *answer(),
        request("INVITE", 101),
        receive("100", optional=True),
        receive("200", check=("m=audio [0-9]+ RTP/AVP",)),
        request("ACK", 101, body=sdp(version=2), reliable=False),
        *_HANG_UP,
    ),
)
"""RFC 3261 §14.2: a re-INVITE without SDP; the 200 has the offer and the ACK the answer."""

MOVES_BY_UPDATE = Scenario(
    "moves-by-update",
    (
        *answer(),
        request("UPDATE", 101, body=sdp(version=2)),
        receive("200", check=("m=audio [0-9]+ RTP/AVP", "CSeq: *101 UPDATE")),
        *_HANG_UP,
    ),
)
"""RFC 3311: a new offer by UPDATE."""


def challenges_bye(user: str, password: str) -> Scenario:
    """RFC 3261 §22.3: 407 to the BYE; the second one must have the right digest and a higher CSeq."""
    challenge = 'Proxy-Authenticate: Digest realm="sipp.test", nonce="47a1", algorithm=MD5, qop="auth"'
    return Scenario(
        "challenges-bye",
        (
            *answer(),
            receive("BYE"),
            reply("407 Proxy Authentication Required", headers=(challenge,)),
            receive(
                "BYE",
                check=("Proxy-Authorization: Digest", "nc=00000001"),
                actions=(verify_digest(user, password),),
            ),
            *check_digest(),
            reply(),
        ),
    )


# -- calls to the stack (SIPp is the user agent client) --------------------------------------------------


def calls(milliseconds: int = 500) -> Scenario:
    """Calls, talks for that time, hangs up."""
    return Scenario(
        "calls",
        (
            *call(check=("m=audio [0-9]+ RTP/AVP",)),
            pause(milliseconds),
            *hang_up(2),
        ),
        server=False,
    )


def is_hung_up_on() -> Scenario:
    """Calls and waits for the BYE."""
    return Scenario(
        "is-hung-up-on",
        (
            *call(),
            *is_left(),
        ),
        server=False,
    )


def is_refused(status: int, *, headers: tuple[str, ...] = ()) -> Scenario:
    """Calls and expects that refusal."""
    return Scenario(
        "is-refused",
        (
            invite(body=sdp(), headers=headers),
            receive("100", optional=True),
            receive("180", optional=True),
            receive(str(status)),
            acknowledge_refusal(),
        ),
        server=False,
    )


def calls_and_gives_up(milliseconds: int = 300) -> Scenario:
    """RFC 3261 §9: CANCEL while it rings; both transactions get their answers."""
    return Scenario(
        "calls-and-gives-up",
        (
            invite(body=sdp()),
            receive("100", optional=True),
            receive("180"),
            pause(milliseconds),
            cancel(),
            # The two answers belong to two transactions: either may come first.
            receive("200", optional=True),
            receive("487"),
            acknowledge_refusal(),
        ),
        server=False,
    )


LOSES_THE_200 = Scenario(
    "loses-the-200",
    (
        invite(body=sdp()),
        receive("100", optional=True),
        receive("180", optional=True),
        receive("200", dialog=True),
        receive("200", timeout=2000, dialog=True),
        receive("200", timeout=2000, dialog=True),
        follow("ACK", 1),
        pause(300),
        *hang_up(2),
    ),
    server=False,
)
"""RFC 3261 §13.3.1.4: the 200 is repeated until an ACK comes; here the third one gets it.

Needs ``retransmit=False``."""

CALL_WITHOUT_OFFER = Scenario(
    "calls-without-offer",
    (
        invite(),
        receive("100", optional=True),
        receive("180", optional=True),
        receive("200", check=("m=audio [0-9]+ RTP/AVP", "rtpmap:0 PCMU/8000"), dialog=True),
        follow("ACK", 1, body=sdp(formats="8 101")),
        pause(500),
        *hang_up(2),
    ),
    server=False,
)
"""RFC 3264 §5: INVITE without SDP; the 200 has the offer, the ACK the answer."""

OPTIONS = Scenario(
    "options",
    (
        invite(method="OPTIONS", headers=("Accept: application/sdp",)),
        receive("200", check=("Allow: .*INVITE.*", "Accept: .*application/sdp")),
    ),
    server=False,
)
"""RFC 3261 §11.2: what can you do?"""


# -- registrars ------------------------------------------------------------------------------------------


def registrar_refuses(status: str, *, headers: tuple[str, ...] = ()) -> Scenario:
    """One REGISTER, one refusal."""
    return Scenario("registrar-refuses", (receive("REGISTER"), respond(status, headers=headers)))


def registrar_wants_longer(seconds: int) -> Scenario:
    """RFC 3261 §10.2.8: 423 with Min-Expires; the next REGISTER asks for that; in the end it un-registers."""
    return Scenario(
        "registrar-wants-longer",
        (
            receive("REGISTER"),
            respond("423 Interval Too Brief", headers=(f"Min-Expires: {seconds}",)),
            receive("REGISTER", check=(f"Expires: *{seconds}",)),
            _granted(seconds),
            receive("REGISTER", check=("Expires: *0",)),
            respond("200 OK"),
        ),
    )


def _granted(seconds: int) -> str:
    return respond("200 OK", headers=("[last_Contact:]", f"Expires: {seconds}"))


def registrar_recovers(status: str) -> Scenario:
    """Refuses the first REGISTER, grants the second: one Call-ID, else SIPp would take it for a new call."""
    return Scenario(
        "registrar-recovers",
        (receive("REGISTER"), respond(status), receive("REGISTER"), _granted(600)),
    )


def registrar_forgets(status: str) -> Scenario:
    """Grants a short binding, refuses its refresh, grants the next attempt."""
    return Scenario(
        "registrar-forgets",
        (
            receive("REGISTER"),
            _granted(4),
            receive("REGISTER"),
            respond(status),
            receive("REGISTER"),
            _granted(600),
        ),
    )
