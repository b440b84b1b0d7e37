"""A peer that has calls with the victim and lets nobody see how: it knows their tags, and writes what it likes."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sipcore.protocol.builder import make_response
from sipcore.protocol.wire import MalformedMessage, Request, Response, parse_message, serialize
from tests.fuzz.mutations import mutated
from tests.kit.torture import TORTURE

if TYPE_CHECKING:
    import random

    from sipcore.protocol.flows import Flow
    from tests.kit.network import Address

__all__ = ["Attacker"]

_VECTORS = tuple(torture.data for torture in TORTURE)
_SDP = (
    b"v=0\r\no=- 1 1 IN IP4 198.51.100.1\r\ns=-\r\nc=IN IP4 198.51.100.1\r\nt=0 0\r\nm=audio 40000 RTP/AVP 0 8 101\r\n"
    b"a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=sendrecv\r\n"
)
_FRAGMENT = b"SIP/2.0 200 OK\r\n"
_CHALLENGE = 'Digest realm="r", nonce="n{}", qop="auth,auth-int", algorithm={}'
_FINALS = (200, 200, 200, 202, 302, 401, 401, 404, 407, 408, 422, 423, 481, 486, 488, 491, 500, 503, 603)
_IN_DIALOG = (
    "ACK", "ACK", "INVITE", "UPDATE", "BYE", "REFER", "NOTIFY", "INFO", "MESSAGE", "OPTIONS", "CANCEL", "PRACK",
)  # fmt: skip
_KEPT = 64
"""Messages and dialogs remembered."""


@dataclass(slots=True)
class _Dialog:
    call_id: str
    here: str
    """Our From value, tag included."""
    there: str
    uri: str
    cseq: int = 1
    invite_branch: str = ""


@dataclass(slots=True)
class Attacker:
    """One address. A node of the network, so that it hears the answers."""

    address: Address
    victim: str
    """``host:port``."""
    rng: random.Random
    heard: deque[Request | Response] = field(default_factory=lambda: deque(maxlen=_KEPT))
    said: deque[bytes] = field(default_factory=lambda: deque(maxlen=_KEPT))
    dialogs: deque[_Dialog] = field(default_factory=lambda: deque(maxlen=_KEPT))
    _number: int = 0

    # -- Node ------------------------------------------------------------------------------------------------------

    def receive(self, data: bytes, flow: Flow, now: float) -> None:
        """See :class:`~tests.kit.network.Node`."""
        try:
            message = parse_message(data)
        except MalformedMessage:
            return
        self.heard.append(message)
        if isinstance(message, Response):
            self._learn_from_response(message)
        elif message.method == "INVITE" and not message.to_tag:
            to = f"{message.headers.get('To')};tag=attack"
            contact = str(message.contact.uri) if message.contact is not None else f"sip:bob@{self.victim}"
            self.dialogs.append(_Dialog(message.call_id, to, message.headers.get("From") or "", contact))

    def _learn_from_response(self, response: Response) -> None:
        if response.cseq.method == "INVITE" and response.to_tag and 100 < response.status < 300:
            contact = str(response.contact.uri) if response.contact is not None else f"sip:bob@{self.victim}"
            here, there = response.headers.get("From") or "", response.headers.get("To") or ""
            known = any(dialog.call_id == response.call_id and dialog.there == there for dialog in self.dialogs)
            if not known:
                dialog = _Dialog(response.call_id, here, there, contact, response.cseq.number, response.via.branch)
                self.dialogs.append(dialog)

    def handle_timer(self, now: float) -> None:
        """See :class:`~tests.kit.network.Node`."""

    def next_deadline(self) -> float | None:
        """See :class:`~tests.kit.network.Node`."""
        return None

    def flow_closed(self, flow: Flow, detail: str, now: float) -> None:
        """See :class:`~tests.kit.network.Node`."""

    def transmits(self) -> list[tuple[Flow, bytes]]:
        """See :class:`~tests.kit.network.Node`."""
        return []

    # -- what it says ----------------------------------------------------------------------------------------------

    def next_message(self) -> bytes:
        """The next datagram."""
        rng = self.rng
        message = self._plausible()
        if rng.random() < 0.75:
            other = rng.choice(self.said) if self.said and rng.random() < 0.6 else rng.choice(_VECTORS)
            message = mutated(message, other, rng)
        elif rng.random() < 0.02:
            message = rng.randbytes(rng.randrange(2000))
        self.said.append(message[:4000])
        return message

    def _plausible(self) -> bytes:
        rng = self.rng
        choice = rng.random()
        if choice < 0.1:
            return rng.choice(_VECTORS)
        if choice < 0.4:
            requests = [message for message in self.heard if isinstance(message, Request)]
            if requests:
                return self._answer(rng.choice(requests[-5:]))
        if choice < 0.75 and self.dialogs:
            return self._in_dialog(rng.choice(self.dialogs))
        if choice < 0.8 and self.said:
            return rng.choice(self.said)
        return self._opening()

    def _answer(self, request: Request) -> bytes:
        rng = self.rng
        status = rng.choice((100, 180, 183, *_FINALS)) if request.method == "INVITE" else rng.choice(_FINALS)
        headers: list[tuple[str, str]] = []
        if status in (401, 407):
            name = "WWW-Authenticate" if status == 401 else "Proxy-Authenticate"
            algorithm = rng.choice(("MD5", "SHA-256", "SHA-512-256", "MD5-sess", "X"))
            headers.append((name, _CHALLENGE.format(rng.randrange(4), algorithm)))
        if status == 423:
            headers.append(("Min-Expires", str(rng.choice((60, 7200, 2**40)))))
        if status == 422:
            headers.append(("Min-SE", str(rng.choice((90, 7200, 2**40)))))
        if status == 200 and request.method == "REGISTER":
            headers += [("Contact", value) for value in request.headers.get_all("Contact")]
            headers.append(("Expires", str(rng.choice((0, 60, 3600)))))
        if status in (180, 183) and rng.random() < 0.5:
            headers += [("Require", "100rel"), ("RSeq", str(rng.choice((1, 1, 2, 2**31))))]
        offer = request.method in ("INVITE", "UPDATE", "PRACK") and status in (183, 200)
        body = self._session_description() if offer else b""
        response = make_response(
            request,
            status,
            to_tag=rng.choice(("attack", "attack", "fork")),
            contact=f"<sip:attack@{self.address[0]}:{self.address[1]}>",
            headers=headers,
            body=body,
            content_type="application/sdp" if body else "",
        )
        return serialize(response)

    def _session_description(self) -> bytes:
        return _SDP if self.rng.random() < 0.8 else _SDP.replace(b"sendrecv", b"sendonly")

    def _in_dialog(self, dialog: _Dialog) -> bytes:
        rng = self.rng
        method = rng.choice(_IN_DIALOG)
        if method not in ("ACK", "CANCEL"):
            dialog.cseq += 1
        extra: list[str] = []
        body, content_type = b"", ""
        match method:
            case "INVITE" | "UPDATE" | "ACK" | "PRACK":
                if rng.random() < 0.6:
                    body, content_type = self._session_description(), "application/sdp"
                if method == "PRACK":
                    extra.append(f"RAck: 1 {dialog.cseq - 1} INVITE")
                if method in ("INVITE", "UPDATE") and rng.random() < 0.3:
                    extra += ["Session-Expires: 90;refresher=uas", "Supported: timer"]
            case "REFER":
                target = rng.choice(("<sip:carol@192.0.2.3>", "<sip:c@d?Replaces=a%3Bto-tag%3Db%3Bfrom-tag%3Dc>"))
                extra.append(f"Refer-To: {target}")
            case "NOTIFY":
                state = rng.choice(("active;expires=60", "terminated;reason=noresource"))
                extra += ["Event: refer", f"Subscription-State: {state}"]
                body, content_type = _FRAGMENT, "message/sipfrag"
            case "INFO":
                body, content_type = b"Signal=5\r\nDuration=160\r\n", "application/dtmf-relay"
            case "MESSAGE":
                body, content_type = b"hello", "text/plain"
            case _:
                pass
        branch = dialog.invite_branch if method == "CANCEL" or rng.random() < 0.1 else ""
        return self._request(
            method,
            dialog.uri,
            dialog.here,
            dialog.there,
            dialog.call_id,
            dialog.cseq,
            extra,
            body,
            content_type,
            branch,
        )

    def _opening(self) -> bytes:
        rng = self.rng
        method = rng.choice(("INVITE", "INVITE", "INVITE", "INVITE", "OPTIONS", "MESSAGE", "REGISTER", "SUBSCRIBE"))
        user = rng.choice(("bob", "bob", "bob", "caller", "nobody"))
        self._number += 1
        extra: list[str] = []
        body, content_type = b"", ""
        if method == "INVITE":
            if rng.random() < 0.8:
                body, content_type = self._session_description(), "application/sdp"
            extra += rng.choices(
                (
                    "Supported: 100rel, timer", "Require: 100rel", "Session-Expires: 90", "Expires: 3", "Min-SE: 90",
                    "Record-Route: <sip:198.51.100.99;lr>, <sip:strict.example.com>", "Allow: INVITE, ACK, UPDATE",
                    "Replaces: a@b;to-tag=1;from-tag=2",
                ),
                k=rng.randrange(3),
            )  # fmt: skip
        elif method == "MESSAGE":
            body, content_type = b"hello", "text/plain"
        here, there = f"<sip:attack@{self.address[0]}>;tag=a{self._number}", f"<sip:{user}@{self.victim}>"
        call_id = f"call-{self._number}@{self.address[0]}"
        return self._request(
            method, f"sip:{user}@{self.victim}", here, there, call_id, 1, extra, body, content_type, ""
        )

    def _request(
        self,
        method: str,
        uri: str,
        here: str,
        there: str,
        call_id: str,
        cseq: int,
        extra: list[str],
        body: bytes,
        content_type: str,
        branch: str,
    ) -> bytes:
        host, port = self.address
        via = f"SIP/2.0/UDP {host}:{port};branch={branch or f'z9hG4bK{self.rng.getrandbits(40):x}'}"
        lines = [
            f"{method} {uri} SIP/2.0",
            f"Via: {via}{self.rng.choice(('', ';rport'))}",
            "Max-Forwards: 70",
            f"From: {here}",
            f"To: {there}",
            f"Call-ID: {call_id}",
            f"CSeq: {cseq} {method}",
            f"Contact: <sip:attack@{host}:{port}>",
            *extra,
            *([f"Content-Type: {content_type}"] if body else []),
            f"Content-Length: {len(body)}",
        ]
        return "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + body
