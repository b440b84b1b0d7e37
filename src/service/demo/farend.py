"""The other side of the demo's calls: a registrar and three telephones on one user agent of the library.

``echo`` answers, keeps what it hears and sends it back, and takes transfers; ``busy`` refuses; ``desk`` answers.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from service.demo.measure import level
from service.demo.registrar import Registrar
from service.demo.sounds import RATE
from sipcore.config import Account, UserAgentConfig
from sipcore.errors import CallError, NoOngoingCall
from sipcore.events import DtmfReceived
from sipcore.useragent import UserAgent

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from numpy.typing import NDArray

    from rtp.statistics import StreamStatistics
    from service.demo.registrar import Binding
    from sipcore.call import Call
    from sipcore.registration import Registration
    from sipcore.transfer import ReferRequest

__all__ = ["Ear", "FarEnd", "NotRegistered"]

RINGING = 0.4
"""Seconds until ``echo`` picks up."""
ECHO_DELAY = 2
"""Frames of silence before the echo, so that an unpunctual frame leaves no gap in it."""
DESK_PATIENCE = 0.8
"""Seconds that a transferred call lasts."""


class NotRegistered(Exception):
    """The registrar holds no binding for that user."""


@dataclass(slots=True)
class Ear:
    """What a telephone of the far end heard in one call."""

    call: Call
    frames: list[NDArray[np.int16]] = field(default_factory=list)
    levels: list[float] = field(default_factory=list)
    """Loudness of each frame, dB of full scale."""
    digits: str = ""
    """DTMF."""

    @property
    def samples(self) -> int:
        """Length of the recording so far."""
        return sum(map(len, self.frames))

    @property
    def seconds(self) -> float:
        """The same in seconds."""
        return self.samples / RATE

    @property
    def recording(self) -> NDArray[np.int16]:
        """(n,) at :data:`~service.demo.sounds.RATE`."""
        return np.concatenate(self.frames) if self.frames else np.zeros(0, np.int16)

    @property
    def statistics(self) -> StreamStatistics:
        """Of the packets that came."""
        return self.call.statistics()

    async def listen(self, *, echo: bool) -> None:
        """Keeps everything until the call ends; sends it back if ``echo``."""
        if echo:
            self.call.play(np.zeros(ECHO_DELAY * 160, np.int16))
        async for frame in self.call.audio():
            self.frames.append(frame)
            self.levels.append(level(frame))
            if echo and self.call.is_connected:
                self.call.play(frame)

    async def listen_for_digits(self, heard: Callable[[str], None]) -> None:
        """Notes DTMF until the call ends."""
        async for event in self.call.events():
            if isinstance(event, DtmfReceived):
                self.digits += event.digit
                heard(event.digit)


class FarEnd:
    """A registrar and telephones at one address. Use as ``async with``.

    Args:
        config: where to listen.
        passwords: of the users who may register.
        say: called with a sentence for each thing that happens here.
    """

    def __init__(self, config: UserAgentConfig, passwords: dict[str, str], say: Callable[[str], None]) -> None:
        self._say = say
        self.registrar = Registrar("sipcore demo", passwords, rng=random.SystemRandom())
        self._agent = UserAgent(config)
        self._agent.handle("REGISTER", self.registrar.handle)
        self._lines: dict[str, Registration] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.ears: list[Ear] = []
        """One for each call that ``echo`` has had, in order."""
        self.transferred = asyncio.Event()
        """Set once ``desk`` talks to somebody who was transferred."""
        self.error: BaseException | None = None
        """The first thing that went wrong in here."""

    async def __aenter__(self) -> FarEnd:
        await self._agent.start()
        for user in ("echo", "busy", "desk"):
            self._lines[user] = self._agent.open_line(Account(f"{user}@{self.address}"))
        self._lines["busy"].screen = self._refuse
        self._spawn(self._serve("echo", self._answer_as_echo))
        self._spawn(self._serve("desk", self._answer_as_desk))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._agent.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def address(self) -> str:
        """``host:port``."""
        host, port = self._agent.sip_address
        return f"{host}:{port}"

    def bindings(self, user: str) -> tuple[Binding, ...]:
        """Where a user can be reached now."""
        return self.registrar.bindings(user, self._agent.now())

    async def ring(self, user: str) -> Ear:
        """Calls a registered user from ``echo`` and returns once the call is connected.

        Raises:
            NotRegistered: nobody is registered under that name.
            sipcore.errors.CallError: no call came of it.
        """
        bindings = self.bindings(user)
        if not bindings:
            raise NotRegistered(f"{user} has no binding")
        contact = str(bindings[-1].contact)
        self._say(f"echo calls {user} at {bindings[-1].contact.hostport}")
        call = await self._lines["echo"].call(contact, headers={"X-Demo": "inbound"})
        return self._hear(call, echo=False)

    def _hear(self, call: Call, *, echo: bool) -> Ear:
        ear = Ear(call)
        self.ears.append(ear)
        self._spawn(ear.listen(echo=echo))
        self._spawn(ear.listen_for_digits(lambda digit: self._say(f"echo heard the key {digit}")))
        return ear

    # -- telephones ------------------------------------------------------------------------------------------

    async def _serve(self, user: str, answer: Callable[[Call], Coroutine[None, None, None]]) -> None:
        async for call in self._lines[user].incoming():
            self._spawn(answer(call))

    def _refuse(self, call: Call) -> int:
        self._say("busy refuses with 486")
        return 486

    async def _answer_as_echo(self, call: Call) -> None:
        self._say("echo rings")
        await asyncio.sleep(RINGING)
        call.on_refer = self._take_transfer
        await call.answer()
        self._say("echo answers, listens and repeats")
        self._hear(call, echo=True)
        ended = await call.wait_ended()
        self._say(f"echo: call over ({ended.description})")

    async def _answer_as_desk(self, call: Call) -> None:
        await call.answer()
        self._say(f"desk answers a call from {call.remote}")
        self.transferred.set()
        await call.wait_ended()

    def _take_transfer(self, refer: ReferRequest) -> None:
        """The transferee's part (RFC 3515 §2.4): accept at once, then call the target and report how it went."""
        self._say(f"echo is asked to call {refer.target}, and does")
        refer.accept()
        self._spawn(self._call_target(refer))

    async def _call_target(self, refer: ReferRequest) -> None:
        try:
            call = await self._lines["echo"].call(str(refer.target))
        except CallError as error:
            refer.notify(error.code or 503, "Failed")
            return
        refer.notify(200, "OK")
        await asyncio.sleep(DESK_PATIENCE)
        await call.hangup()

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(self._watched(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _watched(self, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except NoOngoingCall as error:
            self._say(f"too late: {error}")  # the other side was faster, which is no mistake
        except Exception as error:
            self.error = self.error or error
            self._say(f"failed: {error}")
