"""A registrar on real sockets that answers with whatever a test wants."""

from __future__ import annotations

from sipcore.config import UserAgentConfig
from sipcore.net.manager import FlowManager
from sipcore.protocol.builder import make_response
from sipcore.protocol.flows import Flow
from sipcore.protocol.wire import Request, Response, parse_message, serialize

__all__ = ["Registrar"]


class Registrar:
    """Answers every request over UDP and TCP with one status; 0: never."""

    def __init__(self, status: int = 200, *, headers: tuple[tuple[str, str], ...] = ()) -> None:
        self.status = status
        self.headers = headers
        self.requests: list[tuple[Flow, Request]] = []
        self.responses: list[Response] = []
        self.manager = FlowManager(
            UserAgentConfig(sip_host="127.0.0.1"), on_message=self._answer, on_flow_closed=lambda flow, why: None
        )

    async def __aenter__(self) -> Registrar:
        await self.manager.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.manager.close()

    def _answer(self, data: bytes, flow: Flow) -> None:
        request = parse_message(data)
        if not isinstance(request, Request):
            self.responses.append(request)
            return
        self.requests.append((flow, request))
        request.stamp_via(received=flow.remote[0], rport=flow.remote[1])  # RFC 3581 §4
        if self.status:
            response = make_response(request, self.status, to_tag="t", headers=self.headers)
            self.manager.send(flow, serialize(response))

    @property
    def port(self) -> int:
        return self.manager.address[1]

    @property
    def transports(self) -> list[str]:
        return [flow.transport for flow, _ in self.requests]

    def hang_up(self) -> None:
        """Closes every connection."""
        for connection in tuple(self.manager._tcp._open.values()):
            connection.abort("closed for the test")
