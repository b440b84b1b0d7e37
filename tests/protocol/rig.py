"""A transaction layer in virtual time: what it sent, and what its user was told, as lists."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from sipcore.config import Timers
from sipcore.protocol.builder import make_request, make_response
from sipcore.protocol.flows import Flow, Transport
from sipcore.protocol.ids import Ids
from sipcore.protocol.transaction import ClientTransaction, ServerTransaction, TransactionFailure
from sipcore.protocol.transaction_layer import TransactionLayer
from sipcore.protocol.values import Uri
from sipcore.protocol.wire import Request, Response, parse_message, serialize

__all__ = ["FLOWS", "Rig", "Sent", "answer", "incoming", "request"]

FLOWS: dict[Transport, Flow] = {
    transport: Flow(
        transport,
        ("192.0.2.1", 5060),
        ("192.0.2.2", 5070),
        connection=0 if transport == "udp" else 7,
        advertised=("192.0.2.1", 5060),
    )
    for transport in ("udp", "tcp", "tls")
}


@dataclass(frozen=True)
class Sent:
    """One message on the wire."""

    at: float
    flow: Flow
    message: Request | Response
    data: bytes = field(repr=False)

    @property
    def what(self) -> str:
        """Method or status code."""
        return self.message.method if isinstance(self.message, Request) else str(self.message.status)


@dataclass
class Rig:
    """A layer whose handler, user and network are this object."""

    timers: Timers = field(default_factory=Timers)
    now: float = 0.0

    def __post_init__(self) -> None:
        self.sent: list[Sent] = []
        self.responses: list[tuple[float, int]] = []
        self.failures: list[tuple[float, TransactionFailure]] = []
        self.requests: list[ServerTransaction] = []
        self.acks: list[Request] = []
        self.cancels: list[ServerTransaction] = []
        self.strays: list[Response] = []
        self.server_timeouts: list[tuple[float, ServerTransaction]] = []
        self.layer = TransactionLayer(user=self, transmit=self._transmit, timers=self.timers, ids=Ids(random.Random(7)))

    def _transmit(self, flow: Flow, data: bytes) -> None:
        self.sent.append(Sent(self.now, flow, parse_message(data), data))

    # -- what the layer tells --------------------------------------------------------------------------------------

    def on_response(self, transaction: ClientTransaction, response: Response, now: float) -> None:
        self.responses.append((now, response.status))

    def on_failure(self, transaction: ClientTransaction, failure: TransactionFailure, now: float) -> None:
        self.failures.append((now, failure))

    def on_request(self, transaction: ServerTransaction, request: Request, now: float) -> None:
        self.requests.append(transaction)

    def on_ack(self, request: Request, flow: Flow, now: float) -> None:
        self.acks.append(request)

    def on_cancel(self, transaction: ServerTransaction, cancel: Request, now: float) -> None:
        self.cancels.append(transaction)

    def on_stray_response(self, response: Response, flow: Flow, now: float) -> None:
        self.strays.append(response)

    def on_server_timeout(self, transaction: ServerTransaction, now: float) -> None:
        self.server_timeouts.append((now, transaction))

    # -- what a test does ------------------------------------------------------------------------------------------

    def run(self, until: float) -> None:
        """Lets virtual time pass, each timer exactly when it is due."""
        while (due := self.layer.next_deadline()) is not None and due <= until:
            self.now = max(due, self.now)
            self.layer.handle_timer(self.now)
        self.now = until

    def send(self, method: str, transport: Transport = "udp") -> ClientTransaction:
        """Sends a request to the far end."""
        return self.layer.send_request(request(method), FLOWS[transport], self, self.now)

    def receive(self, message: Request | Response, flow: Flow = FLOWS["udp"]) -> None:
        """A message from the far end arrives."""
        self.layer.receive(message, flow, self.now)

    def reply(self, status: int, *, to: Request | None = None, transport: Transport = "udp") -> None:
        """The far end answers ``to``, the last request by default."""
        asked = (
            to
            if to is not None
            else next(sent.message for sent in reversed(self.sent) if isinstance(sent.message, Request))
        )
        self.receive(answer(asked, status), FLOWS[transport])

    def respond(self, status: int, transaction: ServerTransaction | None = None) -> None:
        """This side's user answers ``transaction``, the last request by default."""
        asked = transaction or self.requests[-1]
        self.layer.respond(asked, make_response(asked.request, status, to_tag="ours"), self.now)

    def clear(self) -> None:
        """Forgets what was sent so far."""
        self.sent.clear()

    @property
    def wire(self) -> list[tuple[float, str]]:
        """When what was sent."""
        return [(round(sent.at, 6), sent.what) for sent in self.sent]


def request(method: str) -> Request:
    """A request of ours, without Via."""
    return make_request(
        method,
        Uri.parse("sip:bob@example.com"),
        from_="<sip:alice@example.org>;tag=a1",
        to="<sip:bob@example.com>",
        call_id="call-1",
        cseq=17,
        routes=("<sip:proxy.example.com;lr>",),
    )


def answer(asked: Request, status: int, *, to_tag: str = "theirs") -> Response:
    """The far end's response."""
    response = parse_message(serialize(make_response(asked, status, to_tag=to_tag)))
    assert isinstance(response, Response)
    return response


def incoming(
    method: str,
    *,
    branch: str = "z9hG4bKthem1",
    via: str = "SIP/2.0/UDP 192.0.2.2:5070",
    to: str = "<sip:alice@example.org>",
    from_tag: str = "b1",
    call_id: str = "call-2",
    cseq: int = 5,
    uri: str = "sip:alice@192.0.2.1",
    rport: bool = True,
) -> Request:
    """A request of the far end."""
    text = (
        f"{method} {uri} SIP/2.0\r\n"
        f"Via: {via}{f';branch={branch}' if branch else ''}{';rport' if rport else ''}\r\n"
        f"Max-Forwards: 70\r\nFrom: <sip:bob@example.com>;tag={from_tag}\r\nTo: {to}\r\n"
        f"Call-ID: {call_id}\r\nCSeq: {cseq} {method}\r\nContent-Length: 0\r\n\r\n"
    )
    message = parse_message(text.encode())
    assert isinstance(message, Request)
    return message
