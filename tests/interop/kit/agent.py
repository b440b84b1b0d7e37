"""The library itself as a peer: for what the gRPC API does not show."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sipcore.config import Account, CallPolicy, UserAgentConfig
from sipcore.registration import Registration
from sipcore.useragent import UserAgent
from tests.interop.kit.kamailio import SUBSCRIBERS, Kamailio
from tests.interop.kit.ports import HOST, free_ports

__all__ = ["Agent", "agent"]


class Agent:
    """A user agent with one account, on the loopback address."""

    def __init__(self, user_agent: UserAgent, line: Registration) -> None:
        self.user_agent = user_agent
        self.line = line

    @property
    def address(self) -> str:
        """``host:port``, for a scripted client's ``target``."""
        host, port = self.user_agent.sip_address
        return f"{_in_uri(host)}:{port}"


def _in_uri(host: str) -> str:
    return f"[{host}]" if ":" in host else host


@asynccontextmanager
async def agent(
    user: str = "bot",
    *,
    kamailio: Kamailio | None = None,
    host: str = HOST,
    calls: CallPolicy | None = None,
    **settings: object,
) -> AsyncIterator[Agent]:
    """A running one: registered at a Kamailio as one of its subscribers, or nowhere.

    Args:
        user: the user part of its account.
        kamailio: where it registers.
        host: the address that it uses, IPv4 or IPv6.
        calls: how its calls are set up.
        settings: of the :class:`~sipcore.config.UserAgentConfig`.
    """
    first, policy = free_ports(20), calls or CallPolicy()
    config = UserAgentConfig(sip_host=host, rtp_ports=(first, first + 19), **settings)  # type: ignore[arg-type]
    async with UserAgent(config) as user_agent:
        if kamailio is None:
            line = user_agent.open_line(Account(f"sip:{user}@{_in_uri(host)}", calls=policy))
        else:
            account = Account(f"sip:{kamailio.aor(user)}", password=SUBSCRIBERS[user], calls=policy)
            line = await user_agent.register(account)
        yield Agent(user_agent, line)
