"""The torture messages of RFC 4475 and RFC 5118, and what each is to be answered with.

``answers`` are status codes of the final response; several where the RFC leaves a choice that another part of this
stack may take one day; none where the message is to be dropped. The account that calls can reach is ``user``, so an
INVITE for anybody else gets 404.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["TORTURE", "Stream", "Torture"]

_VECTORS = Path(__file__).parent.parent / "vectors"


class Stream:
    """What happens where the message comes over TCP."""

    SAME = "answered as over UDP"
    CLOSED = "answered, and the connection closed: nobody knows where the next message begins"
    """Behind the second message of ``dblreq`` stands half a line."""
    CUT = "the connection closed without an answer"
    WAITS = "waited for: the rest may come"


@dataclass(frozen=True, slots=True)
class Torture:
    """One message."""

    rfc: int
    section: str
    name: str
    answers: tuple[int, ...]
    why: str
    stream: str = Stream.SAME

    @property
    def data(self) -> bytes:
        """The bytes of the datagram."""
        return (_VECTORS / f"rfc{self.rfc}" / f"{self.name}.dat").read_bytes()

    def distinct(self, mark: str) -> bytes:
        """The same with a branch and a Call-ID of its own: many of the messages share theirs, and an agent that has
        seen the one takes the other for its retransmission (RFC 3261 §17.2.3) or for its copy (§8.2.2.2)."""
        head, separator, body = self.data.partition(b"\r\n\r\n")
        head = re.sub(rb"z9hG4bK(?=[^\s;,])", b"z9hG4bK" + mark.encode(), head)
        head = re.sub(rb"(?mi)^(call-id|i)(\s*:\s*)", rb"\1\g<2>" + mark.encode(), head)
        return head + separator + body

    def __str__(self) -> str:
        return f"{self.section} {self.name}"


def _rfc4475(section: str, name: str, answers: tuple[int, ...], why: str, stream: str = Stream.SAME) -> Torture:
    return Torture(4475, section, name, answers, why, stream)


def _rfc5118(section: str, name: str, answers: tuple[int, ...], why: str) -> Torture:
    return Torture(5118, section, name, answers, why)


TORTURE = (
    _rfc4475("3.1.1.1", "wsinv", (481,), "well-formed; its To tag is of no dialog"),
    _rfc4475("3.1.1.2", "intmeth", (501,), "well-formed; nobody knows the method"),
    _rfc4475("3.1.1.3", "esc01", (404,), "well-formed; the user sips:user@example.com is not here"),
    _rfc4475("3.1.1.4", "escnull", (405,), "well-formed; no registrar here"),
    _rfc4475("3.1.1.5", "esc02", (501,), "well-formed; RE%47IST%45R is not REGISTER"),
    _rfc4475("3.1.1.6", "lwsdisp", (200,), "to be accepted"),
    _rfc4475("3.1.1.7", "longreq", (200,), "well-formed, and a call for user"),
    _rfc4475("3.1.1.8", "dblreq", (405,), "the REGISTER; what comes after it in the datagram is noise", Stream.CLOSED),
    _rfc4475("3.1.1.9", "semiuri", (200,), "well-formed"),
    _rfc4475("3.1.1.10", "transports", (200,), "well-formed"),
    _rfc4475("3.1.1.11", "mpart01", (404, 405, 415), "well-formed; text for nobody here, of no readable type"),
    _rfc4475("3.1.1.12", "unreason", (), "well-formed; answers nothing of ours"),
    _rfc4475("3.1.1.13", "noreason", (), "well-formed; answers nothing of ours"),
    _rfc4475("3.1.2.1", "badinv01", (400,), "separators that separate nothing"),
    _rfc4475("3.1.2.2", "clerr", (400,), "Content-Length beyond the datagram", Stream.WAITS),
    _rfc4475("3.1.2.3", "ncl", (400,), "a negative Content-Length", Stream.CLOSED),
    _rfc4475("3.1.2.4", "scalar02", (400,), "a CSeq number beyond 2**31"),
    _rfc4475("3.1.2.5", "scalarlg", (), "a CSeq number beyond 2**31 in a response"),
    _rfc4475("3.1.2.6", "quotbal", (400,), "a quoted string without end"),
    _rfc4475("3.1.2.7", "ltgtruri", (200,), "brackets around the request URI are passed over"),
    _rfc4475("3.1.2.8", "lwsruri", (400,), "white space in the request URI"),
    _rfc4475("3.1.2.9", "lwsstart", (200,), "spaces between the elements of the request line are passed over"),
    _rfc4475("3.1.2.10", "trws", (200,), "spaces after the request line are passed over"),
    _rfc4475("3.1.2.11", "escruri", (200,), "headers in the request URI are passed over"),
    _rfc4475("3.1.2.12", "baddate", (200,), "Date means nothing here"),
    _rfc4475("3.1.2.13", "regbadct", (405,), "no registrar here"),
    _rfc4475("3.1.2.14", "badaspec", (200,), "spaces around an addr-spec are passed over"),
    _rfc4475("3.1.2.15", "baddn", (200,), "the quotes of the display name are inferred"),
    _rfc4475("3.1.2.16", "badvers", (505,), "another version"),
    _rfc4475("3.1.2.17", "mismatch01", (400,), "methods that differ"),
    _rfc4475("3.1.2.18", "mismatch02", (501,), "methods that differ, and nobody knows the first"),
    _rfc4475("3.1.2.19", "bigcode", (), "no status code"),
    _rfc4475("3.2.1", "badbranch", (200,), "a cookie and nothing more: matched as RFC 2543 has it"),
    _rfc4475("3.3.1", "insuf", (400,), "no Call-ID, From, To"),
    _rfc4475("3.3.2", "unkscm", (416,), "an unknown scheme"),
    _rfc4475("3.3.3", "novelsc", (416,), "a scheme that is not called"),
    _rfc4475("3.3.4", "unksm2", (405,), "no registrar here"),
    _rfc4475("3.3.5", "bext01", (420,), "extensions that nobody has"),
    _rfc4475("3.3.6", "invut", (415,), "a body of an unknown type"),
    _rfc4475("3.3.7", "regaut01", (405,), "no registrar here"),
    _rfc4475("3.3.8", "multi01", (400,), "several values where one may stand"),
    _rfc4475("3.3.9", "mcl01", (400,), "two values of Content-Length", Stream.CLOSED),
    _rfc4475("3.3.10", "bcast", (), "a response with further to go"),
    _rfc4475("3.3.11", "zeromf", (200,), "Max-Forwards of zero is good enough at its end"),
    _rfc4475("3.3.12", "cparam01", (405,), "no registrar here"),
    _rfc4475("3.3.13", "cparam02", (405,), "no registrar here"),
    _rfc4475("3.3.14", "regescrt", (405,), "no registrar here"),
    _rfc4475("3.3.15", "sdp01", (406,), "no session description is accepted"),
    _rfc4475("3.4.1", "inv2543", (200,), "an INVITE of RFC 2543", Stream.CUT),
    _rfc5118("4.1", "ipv6-good", (405,), "well-formed; no registrar here"),
    _rfc5118("4.2", "ipv6-bad", (400,), "no brackets around the address of the request URI"),
    _rfc5118("4.3", "port-ambiguous", (405,), "well-formed; no registrar here"),
    _rfc5118("4.4", "port-unambiguous", (405,), "well-formed; no registrar here"),
    _rfc5118("4.5", "via-received-param-with-delim", (481,), "to be accepted; a BYE of no dialog"),
    _rfc5118("4.5", "via-received-param-no-delim", (200,), "to be accepted"),
    _rfc5118("4.6", "ipv6-in-sdp", (488,), "well-formed; no codec of ours"),
    _rfc5118("4.7", "mult-ip-in-header", (481,), "well-formed; a BYE of no dialog"),
    _rfc5118("4.8", "mult-ip-in-sdp", (200,), "well-formed, and a call for user; the video is declined"),
    _rfc5118("4.9", "ipv4-mapped-ipv6", (488,), "well-formed; no codec of ours"),
    _rfc5118("4.10", "ipv6-bug-abnf-3-colons", (200,), "to be tolerated"),
    _rfc5118("4.10", "ipv6-correct-abnf-2-colons", (200,), "well-formed"),
)
