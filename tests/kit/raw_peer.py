"""A peer on the in-memory network that says exactly what a test writes, and keeps what it hears."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sipcore.protocol.wire import MalformedMessage, Request, Response, parse_message

if TYPE_CHECKING:
    from sipcore.protocol.flows import Flow
    from tests.kit.network import Address, Network

__all__ = ["SDP_OFFER", "RawPeer"]

SDP_OFFER = (
    "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\n"
    "m=audio 50000 RTP/AVP 0 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\n"
)


class RawPeer:
    """Scripted by hand. ``requests`` and ``responses`` hold what arrived, oldest first."""

    def __init__(self, network: Network, address: Address, remote: Address) -> None:
        self._network = network
        self._flow = network.flow(address, remote)
        self._outbox: list[tuple[Flow, bytes]] = []
        self.address = address
        self.requests: list[Request] = []
        self.responses: list[Response] = []
        self.start_lines: list[str] = []
        network.join(address, self)

    # -- what a test says ------------------------------------------------------------------------------------------

    def send(self, text: str) -> None:
        """Sends a message whose lines end in ``\\n`` or ``\\r\\n``, and lets it and its answer arrive."""
        self._outbox.append((self._flow, text.replace("\r\n", "\n").replace("\n", "\r\n").encode()))
        self._network.run(self._network.now + 0.1)

    def request(
        self,
        method: str,
        uri: str,
        *,
        cseq: int = 1,
        branch: str = "1",
        to_tag: str = "",
        extra: str = "",
        body: str = "",
        call_id: str = "raw",
        from_tag: str = "raw",
        cseq_method: str = "",
    ) -> None:
        """Sends a well-formed request; ``extra`` is header lines, each ending in a line feed."""
        host, port = self.address
        to = f"<{uri}>" + (f";tag={to_tag}" if to_tag else "")
        content_type = "Content-Type: application/sdp\n" if body and "Content-Type" not in extra else ""
        self.send(
            f"{method} {uri} SIP/2.0\n"
            f"Via: SIP/2.0/UDP {host}:{port};branch=z9hG4bK{branch};rport\n"
            f"Max-Forwards: 70\nFrom: <sip:raw@{host}>;tag={from_tag}\nTo: {to}\nCall-ID: {call_id}\n"
            f"CSeq: {cseq} {cseq_method or method}\nContact: <sip:raw@{host}:{port}>\n"
            f"{extra}{content_type}Content-Length: {len(body)}\n\n{body}"
        )

    def respond(
        self,
        request: Request,
        status: int,
        *,
        to_tag: str = "peer",
        extra: str = "",
        body: str = "",
    ) -> None:
        """Answers a request that arrived."""
        head = "".join(
            f"{name}: {value}\n" for name in ("Via", "From", "Record-Route") for value in request.headers.get_all(name)
        )
        to = request.headers.get("To") or ""
        if to_tag and not request.to_tag and status > 100:
            to += f";tag={to_tag}"
        host, port = self.address
        content_type = "Content-Type: application/sdp\n" if body else ""
        self.send(
            f"SIP/2.0 {status} Reason\n{head}To: {to}\nCall-ID: {request.call_id}\nCSeq: {request.cseq}\n"
            f"Contact: <sip:raw@{host}:{port}>\n{extra}{content_type}Content-Length: {len(body)}\n\n{body}"
        )

    def heard(self, method: str) -> list[Request]:
        """Requests of one method, retransmissions included."""
        return [request for request in self.requests if request.method == method]

    def final(self) -> Response:
        """The newest response."""
        return self.responses[-1]

    # -- Node ------------------------------------------------------------------------------------------------------

    def receive(self, data: bytes, flow: Flow, now: float) -> None:
        """See :class:`~tests.kit.network.Node`."""
        self.start_lines.append(data.partition(b"\r\n")[0].decode())
        try:
            message = parse_message(data)
        except MalformedMessage:
            return  # an answer that repeats what was wrong with the question
        if isinstance(message, Request):
            self.requests.append(message)
        else:
            self.responses.append(message)

    def handle_timer(self, now: float) -> None:
        """See :class:`~tests.kit.network.Node`."""

    def next_deadline(self) -> float | None:
        """See :class:`~tests.kit.network.Node`."""
        return None

    def flow_closed(self, flow: Flow, detail: str, now: float) -> None:
        """See :class:`~tests.kit.network.Node`."""

    def transmits(self) -> list[tuple[Flow, bytes]]:
        """See :class:`~tests.kit.network.Node`."""
        sent = self._outbox.copy()
        self._outbox.clear()
        return sent
