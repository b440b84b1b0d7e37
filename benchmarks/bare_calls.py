"""The least that can be called a call: fixed text on a UDP socket, no state but a number, no timer, no media.

What a call costs here is the kernel and Python's event loop; what it costs more in a user agent is the user agent.
"""

from __future__ import annotations

import asyncio
import time
from typing import cast

from sipp_peer import HOST

__all__ = ["BareCallee", "BareCaller"]

SDP = f"v=0\r\no=- 1 1 IN IP4 {HOST}\r\ns=-\r\nc=IN IP4 {HOST}\r\nt=0 0\r\nm=audio 9 RTP/AVP 0\r\n"


def request(method: str, port: int, number: int, own: int, *, to_tag: str = "", body: str = "") -> bytes:
    """The shortest request that SIPp takes."""
    cseq = 2 if method == "BYE" else 1
    return (
        f"{method} sip:bench@{HOST}:{port} SIP/2.0\r\nVia: SIP/2.0/UDP {HOST}:{own};branch=z9hG4bK{method}{number}\r\n"
        f"From: <sip:bare@{HOST}:{own}>;tag=t{number}\r\nTo: <sip:bench@{HOST}:{port}>{to_tag}\r\n"
        f"Call-ID: bare-{number}-{own}\r\nCSeq: {cseq} {method}\r\nContact: <sip:bare@{HOST}:{own}>\r\n"
        f"Max-Forwards: 70\r\nContent-Type: application/sdp\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


class BareCaller(asyncio.DatagramProtocol):
    """Calls SIPp's ``uas`` at one port."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._number = 0
        self._waiting: dict[str, asyncio.Future[str]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)
        self._own = transport.get_extra_info("sockname")[1]

    async def call(self, hold: float) -> float:
        """One call of ``hold`` seconds. Returns the seconds from INVITE to 200."""
        self._number += 1
        number = self._number
        begin = time.perf_counter()
        to_tag = await self._ask("INVITE", number, body=SDP)
        elapsed = time.perf_counter() - begin
        self._send(request("ACK", self._port, number, self._own, to_tag=to_tag))
        await asyncio.sleep(hold)
        await self._ask("BYE", number, to_tag=to_tag)
        return elapsed

    async def _ask(self, method: str, number: int, *, to_tag: str = "", body: str = "") -> str:
        answered = self._waiting[f"{number}{method}"] = asyncio.get_running_loop().create_future()
        self._send(request(method, self._port, number, self._own, to_tag=to_tag, body=body))
        return await answered

    def _send(self, data: bytes) -> None:
        self._transport.sendto(data, (HOST, self._port))

    def datagram_received(self, data: bytes, addr: object) -> None:
        text = data.decode()
        if not text.startswith("SIP/2.0 200"):
            return
        number = text.partition("Call-ID: bare-")[2].partition("-")[0]
        waiting = self._waiting.pop(number + ("BYE" if "CSeq: 2 BYE" in text else "INVITE"), None)
        if waiting is not None:
            tag = text.partition("\nTo:")[2].partition("\n")[0].partition(";tag=")[2].strip()
            waiting.set_result(f";tag={tag}")


class BareCallee(asyncio.DatagramProtocol):
    """Answers INVITE with 180 and 200, BYE with 200."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        method, _, _ = data.partition(b" ")
        if method == b"ACK":
            return
        lines = data.decode().partition("\r\n\r\n")[0].split("\r\n")
        kept = [line for line in lines if line.startswith(("Via:", "From:", "Call-ID:", "CSeq:"))]
        to = next(line for line in lines if line.startswith("To:"))
        kept.append(to if ";tag=" in to else f"{to};tag=bare")
        kept.append(f"Contact: <sip:bench@{HOST}:{self._transport.get_extra_info('sockname')[1]}>")
        for status, body in (("180 Ringing", ""), ("200 OK", SDP)) if method == b"INVITE" else (("200 OK", ""),):
            head = [f"SIP/2.0 {status}", *kept, "Content-Type: application/sdp", f"Content-Length: {len(body)}"]
            self._transport.sendto(("\r\n".join(head) + "\r\n\r\n" + body).encode(), addr)
