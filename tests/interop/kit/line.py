"""The set-up that most tests share: Kamailio, the server, and one account with an open session."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tests.interop.kit.kamailio import SUBSCRIBERS, Kamailio, KamailioOptions
from tests.interop.kit.peers import Peers
from tests.interop.kit.voicebot import Voicebot, kind

__all__ = ["Line", "open_line"]


@dataclass(frozen=True, slots=True)
class Line:
    """One account of the server, registered and in a session."""

    kamailio: Kamailio
    bot: Voicebot
    account: str
    """As the requests wrote it."""

    def callee(self, user: str) -> str:
        """A subscriber of the same Kamailio, as a ``callee_id``."""
        return f"sip:{self.kamailio.aor(user)}"


async def open_line(
    peers: Peers,
    *,
    user: str = "alice",
    transport: Literal["udp", "tcp"] = "udp",
    auto_answer: int = 0,
    options: KamailioOptions | None = None,
    arguments: tuple[str, ...] = (),
) -> Line:
    """Start Kamailio and the server, register ``user`` and open a session."""
    kamailio = await peers.kamailio(options)
    bot = await peers.voicebot(*arguments)
    account = kamailio.aor(user, transport="tcp" if transport == "tcp" else "")
    registered = await bot.register(account, SUBSCRIBERS[user])
    assert kind(registered) == "REGISTERED", registered.description
    ready = await bot.start_session(account, auto_answer=auto_answer)
    assert kind(ready) == "READY", ready.description
    return Line(kamailio, bot, account)
