"""Starts the peers of one test, each in a folder of its own, and stops them all when the test is over."""

from __future__ import annotations

import re
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol

from tests.interop.kit.baresip import RTP_PORTS, Baresip, BaresipOptions
from tests.interop.kit.kamailio import SUBSCRIBERS, Kamailio, KamailioOptions
from tests.interop.kit.nsd import Nsd
from tests.interop.kit.ports import HOST
from tests.interop.kit.scenario import Scenario
from tests.interop.kit.server import SipServer
from tests.interop.kit.sipp import Sipp
from tests.interop.kit.voicebot import Voicebot

__all__ = ["Peers"]


class _Stoppable(Protocol):
    async def stop(self) -> object: ...


class Peers:
    """Factory and owner of running programs; use it as an asynchronous context manager.

    Args:
        folder: every program gets a folder inside, and all the logs stay there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: list[_Stoppable] = []
        self._count = 0

    async def __aenter__(self) -> Peers:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._running:
            await self._running.pop().stop()

    def new_folder(self, name: str) -> Path:
        """A path inside :attr:`folder` that no program has yet; not created."""
        self._count += 1
        return self.folder / f"{self._count:02d}-{name}"

    def own(self, peer: _Stoppable) -> None:
        """Stop ``peer`` at the end, before those that were started earlier."""
        self._running.append(peer)

    async def kamailio(self, options: KamailioOptions | None = None) -> Kamailio:
        """Start a registrar and proxy."""
        kamailio = await Kamailio.start(self.new_folder("kamailio"), options)
        self.own(kamailio)
        return kamailio

    async def nsd(self, records: str, *, ttl: int = 60) -> Nsd:
        """Start a name server of ``example.test`` with those lines of a zone file."""
        server = await Nsd.start(self.new_folder("nsd"), records, ttl=ttl)
        self.own(server)
        return server

    async def baresip(
        self,
        user: str,
        domain: Kamailio | str,
        *,
        transport: Literal["udp", "tcp"] = "udp",
        answer: Literal["auto", "manual"] = "auto",
        codecs: str = "PCMU/8000/1,PCMA/8000/1",
        srtp: Literal["", "srtp", "srtp-mand"] = "",
        ptime: int = 20,
        source: Path | None = None,
        rtp_ports: tuple[int, int] = RTP_PORTS,
    ) -> Baresip:
        """Start a telephone: a subscriber registered at a Kamailio, or alone (``domain``: ``host:port``)."""
        options = BaresipOptions(
            user=user,
            domain=domain.address if isinstance(domain, Kamailio) else domain,
            password=SUBSCRIBERS[user] if isinstance(domain, Kamailio) else "",
            transport=transport,
            answer=answer,
            codecs=codecs,
            srtp=srtp,
            ptime=ptime,
            source=source,
            rtp_ports=rtp_ports,
        )
        telephone = await Baresip.start(self.new_folder(f"baresip-{user}"), options)
        self.own(telephone)
        return telephone

    async def sipp(
        self,
        scenario: Scenario,
        *,
        target: str = "",
        user: str = "service",
        transport: Literal["udp", "tcp"] = "udp",
        calls: int = 1,
        timeout: float = 40.0,
        retransmit: bool = True,
        strict: bool = True,
        host: str = HOST,
    ) -> Sipp:
        """Start a scripted peer; see :meth:`tests.interop.kit.sipp.Sipp.start`."""
        peer = await Sipp.start(
            self.new_folder(scenario.name),
            scenario,
            target=target,
            user=user,
            transport=transport,
            calls=calls,
            timeout=timeout,
            retransmit=retransmit,
            strict=strict,
            host=host,
        )
        self.own(peer)
        return peer

    async def server(self, *arguments: str) -> SipServer:
        """Start the stack under test with those options of ``sipcore serve``."""
        server = await SipServer.start(self.new_folder("sipcore"), arguments)
        self.own(server)
        return server

    async def voicebot(self, *arguments: str) -> Voicebot:
        """A server of its own with a client connected to it."""
        return await self.client(await self.server(*arguments))

    async def client(self, server: SipServer) -> Voicebot:
        """One more client of a server."""
        voicebot = Voicebot(server.grpc)
        self.own(voicebot)
        return voicebot

    def logs(self) -> list[tuple[str, str]]:
        """Name and content of every log, in the order in which the programs were started."""
        found: list[tuple[str, str]] = []
        for path in sorted(self.folder.glob("*/*.log")):
            # baresip rewrites one line of its screen several times a second.
            text = re.sub(r"\r[^\n\r]*(?=\r)", "", path.read_text(errors="replace"))
            if path.name.startswith("sipp-"):
                continue  # SIPp's screen: the message and error logs beside it say it better
            if text.strip():
                found.append((str(path.relative_to(self.folder)), text))
        return found
