"""The far end of a call as fixed text: no state but a number, no timer, no signalling socket."""

from __future__ import annotations

import socket
from collections import deque

__all__ = ["HERE", "CannedCallee", "CannedCaller"]

HERE = "127.0.0.1"
EARS = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
"""Where audio of the agent goes. Nobody reads it, but it is not refused, which would cost the agent more."""
EARS.bind((HERE, 0))
SDP = (
    f"v=0\r\no=bench 1 1 IN IP4 {HERE}\r\ns=-\r\nc=IN IP4 {HERE}\r\nt=0 0\r\n"
    f"m=audio {EARS.getsockname()[1]} RTP/AVP 0 8 101\r\n"
    "a=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\n"
    "a=ptime:20\r\na=sendrecv\r\n"
)
CONTACT = f"Contact: <sip:bench@{HERE}:5070>"
COPIED = ("Via:", "From:", "To:", "Call-ID:", "CSeq:")


def message(first: str, lines: list[str], body: str = "") -> bytes:
    """Put together."""
    if body:
        lines = [*lines, "Content-Type: application/sdp"]
    return "\r\n".join((first, *lines, f"Content-Length: {len(body)}", "", body)).encode()


class CannedCallee:
    """Answers INVITE with 180 and 200, everything else with 200."""

    def __init__(self) -> None:
        self.ended = 0
        """BYEs."""

    def hear(self, data: bytes) -> list[bytes]:
        """A message arrived; what is said to it."""
        first, *lines = data.decode().partition("\r\n\r\n")[0].split("\r\n")
        method = first.partition(" ")[0]
        if method == "ACK":
            return []
        kept = [line for line in lines if line.startswith(COPIED)]
        if method != "INVITE":
            self.ended += method == "BYE"
            return [message("SIP/2.0 200 OK", kept)]
        kept = [f"{line};tag=canned" if line.startswith("To:") else line for line in kept]
        kept.append(CONTACT)
        return [message("SIP/2.0 180 Ringing", kept), message("SIP/2.0 200 OK", kept, SDP)]


class CannedCaller:
    """Calls, acknowledges, and hangs up."""

    def __init__(self) -> None:
        self.ended = 0
        """BYEs that got their 200."""
        self.up: deque[tuple[int, str]] = deque()
        """Number and To of each call that is up."""
        self._number = 0

    def invite(self) -> bytes:
        """One more call."""
        self._number += 1
        return self._request("INVITE", self._number, f"<sip:bench@{HERE}:5060>", SDP)

    def bye(self) -> bytes:
        """Of the oldest call that is up."""
        return self._request("BYE", *self.up.popleft())

    def hear(self, data: bytes) -> list[bytes]:
        """A message arrived; what is said to it."""
        text = data.decode()
        if not text.startswith("SIP/2.0 200"):
            return []
        if "CSeq: 2 " in text:
            self.ended += 1
            return []
        number = int(text.partition("Call-ID: canned-")[2].partition("\r")[0])
        to = text.partition("\nTo: ")[2].partition("\r")[0]
        self.up.append((number, to))
        return [self._request("ACK", number, to)]

    def _request(self, method: str, number: int, to: str, body: str = "") -> bytes:
        lines = [
            f"Via: SIP/2.0/UDP {HERE}:5070;branch=z9hG4bK-{number}-{method};rport",
            f"From: Bench <sip:caller@{HERE}:5070>;tag=canned{number}",
            f"To: {to}",
            f"Call-ID: canned-{number}",
            f"CSeq: {2 if method == 'BYE' else 1} {method}",
            CONTACT,
            "Max-Forwards: 70",
        ]
        return message(f"{method} sip:bench@{HERE}:5060 SIP/2.0", lines, body)
