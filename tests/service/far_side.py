"""The rest of the world for an end-to-end test: a registrar and a telephone, in the test's own process."""

from __future__ import annotations

import asyncio
import random
from types import TracebackType
from typing import TYPE_CHECKING

from service.demo.registrar import Registrar
from sipcore.call import Call
from sipcore.config import Account, UserAgentConfig
from sipcore.registration import Registration
from sipcore.useragent import UserAgent

if TYPE_CHECKING:
    from sipcore.protocol.transaction import ServerTransaction
    from sipcore.protocol.wire import Request, Response

__all__ = ["PASSWORD", "FarSide"]

PASSWORD = "correct horse"


class FarSide:
    """A registrar for ``alice`` and ``carol``, and the telephone of ``bob``, on one loopback port."""

    def __init__(self) -> None:
        # What it hears is measured: a jitter buffer that follows the network would shift it.
        config = UserAgentConfig(sip_host="127.0.0.1", rtp_ports=(50000, 50999), jitter_min_ms=60, jitter_max_ms=60)
        self.agent = UserAgent(config, rng=random.Random(1))
        passwords = {"alice": PASSWORD, "carol": PASSWORD}
        self.registrar = Registrar("test.example", passwords, rng=random.Random(2))
        self.registers = 0
        """REGISTER requests seen."""

    async def __aenter__(self) -> FarSide:
        await self.agent.start()
        self.agent.handle("REGISTER", self._register)
        self.bob: Registration = self.agent.open_line(Account(f"bob@{self.domain}"))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.agent.close()

    def _register(self, request: Request, transaction: ServerTransaction, now: float) -> Response:
        self.registers += 1
        return self.registrar.handle(request, transaction, now)

    @property
    def domain(self) -> str:
        """What stands behind the @ in every address here."""
        host, port = self.agent.sip_address
        return f"{host}:{port}"

    def address(self, user: str) -> str:
        """The account name of a user."""
        return f"{user}@{self.domain}"

    def contacts(self, user: str) -> list[str]:
        """Where the registrar would send calls for a user."""
        now = asyncio.get_running_loop().time()
        return [str(binding.contact) for binding in self.registrar.bindings(user, now)]

    async def incoming(self) -> Call:
        """The next call that rings at bob."""
        async with asyncio.timeout(60):
            async for call in self.bob.incoming():
                return call
        raise AssertionError("bob's line was closed")
