"""A DNS server in the test's own loop."""

from __future__ import annotations

import asyncio
from pathlib import Path

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

__all__ = ["NameServer"]


class NameServer(asyncio.DatagramProtocol):
    """Answers over UDP from a table of ``(name, type)`` to rdata texts. Use as ``async with``."""

    def __init__(self, records: dict[tuple[str, str], list[str]]) -> None:
        self.records = records
        self.asked: list[tuple[str, str]] = []
        """Names without the last dot, and types, in order."""
        self.silent = False
        self.broken = False
        self._transport: asyncio.DatagramTransport | None = None

    async def __aenter__(self) -> NameServer:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", 0))
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._transport is not None
        self._transport.close()
        await asyncio.sleep(0)

    @property
    def port(self) -> int:
        """On 127.0.0.1."""
        assert self._transport is not None
        port: int = self._transport.get_extra_info("sockname")[1]
        return port

    def configuration(self, folder: Path) -> Path:
        """Writes a ``resolv.conf`` for 127.0.0.1; it cannot name the port, which is set on the resolver."""
        path = folder / "resolv.conf"
        path.write_text("nameserver 127.0.0.1\nsearch example.com\noptions timeout:1 attempts:1\n")
        return path

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        question = query.question[0]
        name = str(question.name).rstrip(".").lower()
        kind = dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, kind))
        if self.silent:
            return
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA
        known = self.records.get((name, kind))
        if self.broken:
            response.set_rcode(dns.rcode.SERVFAIL)
        elif known:
            response.answer.append(dns.rrset.from_text(question.name, 60, "IN", kind, *known))
        elif not any(name == other for other, _ in self.records):
            response.set_rcode(dns.rcode.NXDOMAIN)
        assert self._transport is not None
        self._transport.sendto(response.to_wire(), address)
