"""The server process: user agent and gRPC server on one loop, started and stopped in the right order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from contextlib import AsyncExitStack
from types import TracebackType

from service.accounts import Accounts
from service.archive import Archive, ArchiveError
from service.config import Endpoint, ServerSettings
from service.frames import add_call_audio, add_sip
from service.generated.ondewo.sip import sip_pb2
from service.generated.sipcore.v1 import audio_pb2, telephony_pb2
from service.generated.sipcore.v1.telephony_pb2_grpc import add_TelephonyServicer_to_server
from service.health import Health, add_health, add_reflection
from service.journal import Journal
from service.port import GrpcPort, StartError
from service.recordings import Recordings
from service.servicer import Servicer
from service.v1.audio import CallAudio
from service.v1.servicer import Telephony
from sipcore.net.trace import Trace
from sipcore.tuning import tune_interpreter
from sipcore.useragent import UserAgent

__all__ = ["Server", "StartError", "serve"]

logger = logging.getLogger(__name__)

SERVICES = (
    sip_pb2.DESCRIPTOR.services_by_name["Sip"].full_name,
    telephony_pb2.DESCRIPTOR.services_by_name["Telephony"].full_name,
    audio_pb2.DESCRIPTOR.services_by_name["CallAudio"].full_name,
)
"""What is served, by full name: for the probes and for reflection."""
SIP_STOP_SECONDS = 2.0
"""For hanging up and un-registering everything."""
GRPC_STOP_SECONDS = 0.5
"""For the last answers to leave."""


class Server:
    """Serves ``ondewo.sip.Sip``, ``sipcore.v1.Telephony`` and ``sipcore.v1.CallAudio`` over a user agent of its own.

    Use as ``async with``, in any asyncio program.

    Raises:
        StartError: the file of the SIP trace cannot be written, or one of the gRPC port cannot be used.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self._port = GrpcPort(settings)
        self._trace = _open_trace(settings)
        self.agent = UserAgent(settings.user_agent_config(), trace=self._trace)
        self._archive = Archive(settings.history, settings.history_size) if settings.history is not None else None
        self.accounts = Accounts(
            self.agent,
            settings.line_options(),
            wav_limit=settings.wav_limit_bytes,
            control_token=settings.call_control_token.get_secret_value(),
            audio_limits=settings.audio_limits(),
            archive=self._archive,
            journal=Journal(settings.max_events),
        )
        server = self._port.server
        add_sip(Servicer(self.accounts), server)
        add_TelephonyServicer_to_server(Telephony(self.accounts, settings.max_watches), server)
        audio = CallAudio(self.accounts, Recordings(settings.recordings))
        add_call_audio(audio, server)
        self.health = Health(SERVICES, lambda: self.agent.listening)
        add_health(self.health, server)
        if settings.reflection:
            add_reflection(SERVICES, server)

    async def __aenter__(self) -> Server:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Opens the history's file, binds every port and takes requests.

        Raises:
            StartError: the file cannot be used, a port is taken, or an address is not this machine's.
        """
        async with AsyncExitStack() as undo:
            if self._archive is not None:
                try:
                    await self._archive.open()
                except ArchiveError as error:
                    raise StartError(f"cannot use the history {self._archive.path}: {error}") from error
                undo.push_async_callback(self._archive.close)
            try:
                await self.agent.start()
            except OSError as error:
                raise StartError(_refused_sip(error, self.settings.sip)) from error
            undo.push_async_callback(self.agent.close)
            await self._port.start()
            undo.pop_all()
        self.health.start()

    @property
    def grpc_address(self) -> Endpoint:
        """Where gRPC listens; the real port once started."""
        return self._port.address

    async def close(self) -> None:
        """NOT_SERVING; no new calls; BYE and un-REGISTER; the last answers; gRPC stops. About three seconds at most."""
        self.health.stop()
        self.accounts.stop_taking_calls()
        await self.agent.close(timeout=SIP_STOP_SECONDS)
        await self.accounts.close()
        await self._port.stop(GRPC_STOP_SECONDS)
        if self._archive is not None:
            await self._archive.close()
        if self._trace is not None:
            self._trace.close()

    @property
    def ready_line(self) -> str:
        """What was bound, for people and for programs that wait for it."""
        sip = Endpoint(*self.agent.sip_address)
        secure = self.agent.sip_tls_address
        tls = f" sip-tls={Endpoint(*secure)}" if secure is not None else ""
        return f"ready grpc={self.grpc_address} sip-udp={sip} sip-tcp={sip}{tls} rtp={self.settings.rtp_ports}"


def _open_trace(settings: ServerSettings) -> Trace | None:
    if settings.trace_sip is None:
        return None
    try:
        return Trace(settings.trace_sip)
    except OSError as error:
        raise StartError(f"cannot write the SIP trace {settings.trace_sip}: {_reason(error)}") from error


def _refused_sip(error: OSError, sip: Endpoint) -> str:
    """The user agent's errors name the port or the file by themselves, but for a host name without an address."""
    reason = error.strerror or str(error)
    if reason.startswith("TLS: "):
        return f"cannot use SIP over {reason}"
    _, named, rest = reason.partition("Cannot listen on ")
    return f"cannot listen for SIP on {rest}" if named else f"cannot listen for SIP on {sip}: {_reason(error)}"


def _reason(error: OSError) -> str:
    text = error.strerror or str(error)
    return text[:1].lower() + text[1:]


async def serve(settings: ServerSettings) -> None:
    """Serves until SIGTERM or SIGINT, then stops cleanly.

    Raises:
        StartError: see :meth:`Server.start`.
    """
    tune_interpreter()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError):  # a loop without signal support
            loop.add_signal_handler(number, stop.set)
    async with Server(settings) as server:
        print(server.ready_line, flush=True)
        await stop.wait()
        logger.info("stopping: hanging up and un-registering")
    logger.info("stopped")
