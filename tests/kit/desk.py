"""One account at a provider that keeps what it is sent, in virtual time."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from sipcore.config import UserAgentConfig
from sipcore.protocol.identity import ACCOUNT_ITSELF, Caller
from sipcore.protocol.stack import Stack
from tests.kit.network import Network
from tests.kit.raw_peer import RawPeer

if TYPE_CHECKING:
    from sipcore.config import Account
    from sipcore.protocol.wire import Request

__all__ = ["HERE", "PROVIDER", "Desk", "Pairs"]

HERE = ("192.0.2.1", 5060)
PROVIDER = ("192.0.2.53", 5060)
Pairs = tuple[tuple[str, str], ...]


class Desk:
    """An account at a provider that keeps what it is sent."""

    def __init__(self, account: Account, config: UserAgentConfig | None = None) -> None:
        self.network = Network(random.Random(1))
        self.stack = Stack(config or UserAgentConfig(), rng=random.Random(2), user_agent="test")
        self.node = self.network.add_stack(HERE, self.stack)
        self.line = self.stack.add_line(account)
        self.provider = RawPeer(self.network, PROVIDER, HERE)

    def stranger(self) -> RawPeer:
        """Somebody whom the account does not know."""
        return RawPeer(self.network, ("203.0.113.66", 5060), HERE)

    def invite(self, to: str = "4930123", headers: Pairs = (), caller: Caller = ACCOUNT_ITSELF) -> Request:
        """The INVITE of a call as it arrives."""
        self.stack.invite(
            self.line,
            self.line.dial(to, field="callee_id"),
            headers=headers,
            media_port=40000,
            ring_timeout=60,
            now=self.network.now,
            caller=caller,
        )
        self.network.run(self.network.now + 0.1)
        return self.provider.heard("INVITE")[0]

    def register(self) -> Request:
        """The REGISTER as it arrives."""
        self.stack.register(self.line, self.network.now)
        self.network.run(self.network.now + 0.1)
        return self.provider.heard("REGISTER")[0]
