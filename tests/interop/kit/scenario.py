"""SIPp scripts put together from steps, so that a script reads like the call flow that it is.

A step is a piece of SIPp's XML. ``[name]`` inside a message is SIPp's keyword syntax; a header that begins
with ``[last_`` repeats that of the message received last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import quoteattr

__all__ = [
    "Scenario",
    "acknowledge_refusal",
    "answer",
    "answer_invite",
    "call",
    "cancel",
    "check_digest",
    "follow",
    "hang_up",
    "invite",
    "is_cancelled",
    "is_left",
    "pause",
    "receive",
    "receive_invite",
    "reply",
    "request",
    "respond",
    "sdp",
    "take",
    "verify_digest",
]

_CONTACT = "Contact: <sip:[local_ip]:[local_port];transport=[transport]>"
_VIA = "Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]"
_TAG = ";tag=[call_number]sipp[pid]"


@dataclass(frozen=True, slots=True)
class Scenario:
    """One script."""

    name: str
    steps: tuple[str, ...]
    server: bool = True
    """It waits to be called; ``False``: it sends the first message."""

    def __str__(self) -> str:
        return self.name

    def xml(self) -> str:
        """The file that SIPp reads."""
        body = "\n".join(self.steps)
        used = sorted(name for name in _VARIABLES if f'assign_to="{name}"' in body)
        # SIPp takes a variable that is assigned and never read for a mistake.
        reference = f'<Reference variables="{",".join(used)}"/>\n' if used else ""
        return f'<?xml version="1.0"?>\n<scenario name="{self.name}">\n{body}\n{reference}</scenario>\n'


# Header values of the INVITE: an answer that comes after other requests repeats them, and requests in the
# other direction take both ends of the dialog from them.
_INVITE_VARIABLES = {"via": "Via:", "cseq": "CSeq:", "from": "From:", "to": "To:"}
_VARIABLES = (*_INVITE_VARIABLES, "digest", "checked", "rseq")


def _message(*lines: str, attributes: str = "", body: str = "") -> str:
    text = [line for line in lines if line]
    if body and not any(line.lower().startswith("content-type:") for line in text):
        text.append("Content-Type: application/sdp" if body.startswith("v=0") else "Content-Type: message/sipfrag")
    text += ["Content-Length: [len]", "", body]
    content = "\n".join(text)
    return f"<send{attributes}>\n<![CDATA[\n{content}\n]]>\n</send>"


def sdp(direction: str = "sendrecv", *, version: int = 1, host: str = "[media_ip]", formats: str = "0 8 101") -> str:
    """A session description with PCMU, PCMA and telephone-event (by default)."""
    lines = ["v=0", f"o=sipp 5365 {version} IN IP4 [local_ip]", "s=-", f"c=IN IP4 {host}", "t=0 0"]
    lines += [f"m=audio [media_port] RTP/AVP {formats}", "a=rtpmap:0 PCMU/8000", "a=rtpmap:8 PCMA/8000"]
    if "101" in formats:
        lines += ["a=rtpmap:101 telephone-event/8000", "a=fmtp:101 0-15"]
    return "\n".join([*lines, f"a={direction}"])


# -- receive ---------------------------------------------------------------------------------------------


def _ereg(regexp: str, where: str, variable: str) -> str:
    check = ' check_it="true"'
    return f"<ereg regexp={quoteattr(regexp)} {where}{check} assign_to={quoteattr(variable)}/>"


def receive(
    what: str,
    *,
    check: Sequence[str] = (),
    save: Mapping[str, str] | None = None,
    optional: bool = False,
    dialog: bool = False,
    timeout: int = 0,
    actions: Sequence[str] = (),
) -> str:
    """Wait for a message.

    Args:
        what: a method, or a status code.
        check: regular expressions (POSIX, one line each) that the message must match.
        save: variable → header whose value it gets.
        optional: it may also not come.
        dialog: it establishes the dialog: its Contact and Record-Route lead later requests.
        timeout: milliseconds after which the script fails; 0: only the run's own limit.
        actions: more of SIPp's actions.
    """
    kind = "response" if what.isdigit() else "request"
    attributes = f' {kind}="{what}"'
    if optional:
        attributes += ' optional="true"'
    if timeout:
        attributes += f' timeout="{timeout}"'
    if dialog:
        attributes += ' rrs="true"'
    wanted = [_ereg(expression, 'search_in="msg"', "checked") for expression in check]
    wanted += [_ereg(".*", f'search_in="hdr" header="{header}"', name) for name, header in (save or {}).items()]
    inner = "".join([*wanted, *actions])
    return f"<recv{attributes}>" + (f"<action>{inner}</action>" if inner else "") + "</recv>"


def receive_invite(*, check: Sequence[str] = ()) -> str:
    """Wait for the first INVITE; remember what :func:`answer_invite` and :func:`request` need."""
    return receive("INVITE", check=check, save=_INVITE_VARIABLES, dialog=True)


# -- send ------------------------------------------------------------------------------------------------


def respond(status: str, *, headers: Sequence[str] = (), body: str = "", attributes: str = "") -> str:
    """Answer the request received last, which begins a dialog: this side's tag is put on.

    Args:
        status: code and reason.
        headers: more header lines.
        body: a session description.
        attributes: of SIPp's ``send``, with a space in front.
    """
    return _message(
        f"SIP/2.0 {status}",
        "[last_Via:]",
        "[last_Record-Route:]",
        "[last_From:]",
        f"[last_To:]{_TAG}",
        "[last_Call-ID:]",
        "[last_CSeq:]",
        *(() if any(line.startswith("Contact:") for line in headers) else (_CONTACT,)),
        *headers,
        attributes=attributes,
        body=body,
    )


def reply(status: str = "200 OK", *, headers: Sequence[str] = (), body: str = "") -> str:
    """Answer the request received last, which came inside a dialog."""
    return respond(status, headers=headers, body=body).replace(f"[last_To:]{_TAG}", "[last_To:]")


def answer_invite(status: str, *, body: str = "", attributes: str = "") -> str:
    """Answer the INVITE although other requests came since; only without a proxy in between (one Via)."""
    return _message(
        f"SIP/2.0 {status}",
        "Via:[$via]",
        "From:[$from]",
        f"To:[$to]{_TAG}",
        "[last_Call-ID:]",
        "CSeq:[$cseq]",
        _CONTACT,
        attributes=attributes,
        body=body,
    )


def answer(*, ringing: bool = True, delay: int = 0, body: str = "") -> tuple[str, ...]:
    """Be called and take the call: INVITE, 180, 200 with SDP (repeated until the ACK), ACK."""
    return (
        receive_invite(),
        *((respond("180 Ringing"),) if ringing else ()),
        *((pause(delay),) if delay else ()),
        *take(body=body),
    )


def take(*, headers: Sequence[str] = (), body: str = "") -> tuple[str, ...]:
    """Take a call whose INVITE was received last: 200 with SDP (repeated until the ACK), ACK."""
    return (respond("200 OK", headers=headers, body=body or sdp(), attributes=' retrans="500"'), receive("ACK"))


def is_left() -> tuple[str, ...]:
    """Be hung up on."""
    return (receive("BYE"), reply())


def is_cancelled() -> tuple[str, ...]:
    """Ring until the caller gives up (RFC 3261 section 9.2); only without a proxy in between."""
    return (receive("CANCEL"), reply(), answer_invite("487 Request Terminated"), receive("ACK"))


def request(
    method: str,
    cseq: int,
    *,
    headers: Sequence[str] = (),
    body: str = "",
    reliable: bool = True,
) -> str:
    """Send a request inside the dialog that the far end began with its INVITE (:func:`receive_invite`)."""
    return _message(
        f"{method} [next_url] SIP/2.0",
        _VIA,
        "[routes]",
        f"From:[$to]{_TAG}",
        "To:[$from]",
        "Call-ID: [call_id]",
        f"CSeq: {cseq} {method}",
        "Max-Forwards: 70",
        _CONTACT,
        *headers,
        attributes=' retrans="500"' if reliable else "",
        body=body,
    )


_UAC_FROM = "From: sipp <sip:sipp@[local_ip]:[local_port]>;tag=[pid]sipp[call_number]"
_UAC_TO = "To: <sip:[service]@[remote_ip]:[remote_port]>"
_INVITE_URI = "sip:[service]@[remote_ip]:[remote_port]"
# One branch for the INVITE, its CANCEL and the ACK of its refusal (RFC 3261 sections 9.1 and 17.1.1.3).
_INVITE_VIA = _VIA.replace("[branch]", "z9hG4bK-invite-[pid]-[call_number]")


def invite(*, headers: Sequence[str] = (), body: str = "", method: str = "INVITE", attributes: str = "") -> str:
    """Send a request outside any dialog to ``[service]`` at the target, CSeq 1."""
    return _message(
        f"{method} {_INVITE_URI} SIP/2.0",
        _INVITE_VIA,
        _UAC_FROM,
        _UAC_TO,
        "Call-ID: [call_id]",
        f"CSeq: 1 {method}",
        "Max-Forwards: 70",
        _CONTACT,
        *headers,
        attributes=attributes or ' retrans="500"',
        body=body,
    )


def call(*, headers: Sequence[str] = (), check: Sequence[str] = ()) -> tuple[str, ...]:
    """Call with an offer, and be answered: INVITE, 100 and 180 if they come, a 200 that matches ``check``, ACK."""
    return (
        invite(body=sdp(), headers=headers),
        receive("100", optional=True),
        receive("180", optional=True),
        receive("200", check=check, dialog=True),
        follow("ACK", 1),
    )


def hang_up(cseq: int) -> tuple[str, ...]:
    """End the call that :func:`call` began."""
    return (follow("BYE", cseq), receive("200"))


def cancel() -> str:
    """Give up the INVITE of :func:`invite` (RFC 3261 section 9.1)."""
    return _message(
        f"CANCEL {_INVITE_URI} SIP/2.0",
        _INVITE_VIA,
        _UAC_FROM,
        _UAC_TO,
        "Call-ID: [call_id]",
        "CSeq: 1 CANCEL",
        "Max-Forwards: 70",
        attributes=' retrans="500"',
    )


def acknowledge_refusal() -> str:
    """ACK the final refusal of :func:`invite`, in its transaction (RFC 3261 section 17.1.1.3)."""
    return _message(
        f"ACK {_INVITE_URI} SIP/2.0",
        _INVITE_VIA,
        _UAC_FROM,
        f"{_UAC_TO}[peer_tag_param]",
        "Call-ID: [call_id]",
        "CSeq: 1 ACK",
        "Max-Forwards: 70",
    )


def follow(method: str, cseq: int, *, headers: Sequence[str] = (), body: str = "") -> str:
    """Send a request inside the dialog that :func:`invite` began; for ACK ``cseq`` is the INVITE's."""
    return _message(
        f"{method} [next_url] SIP/2.0",
        _VIA,
        "[routes]",
        _UAC_FROM,
        f"{_UAC_TO}[peer_tag_param]",
        "Call-ID: [call_id]",
        f"CSeq: {cseq} {method}",
        "Max-Forwards: 70",
        _CONTACT,
        *headers,
        attributes="" if method == "ACK" else ' retrans="500"',
        body=body,
    )


def pause(milliseconds: int) -> str:
    """Do nothing for a while; a message that comes meanwhile and is not a repetition fails the script."""
    return f'<pause milliseconds="{milliseconds}"/>'


def check_digest() -> tuple[str, ...]:
    """Steps after a request with credentials: fail the script unless its MD5 digest is right."""
    return (
        '<nop test="digest" next="digest_is_right"/>',
        # The only way to fail a script on a variable: wait for something that never comes.
        receive("DIGEST_IS_WRONG", timeout=1),
        '<label id="digest_is_right"/>',
    )


def verify_digest(user: str, password: str) -> str:
    """Action of :func:`receive`: check the credentials' digest; :func:`check_digest` reads the result."""
    return f'<verifyauth assign_to="digest" username="{user}" password="{password}"/>'
