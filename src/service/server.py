"""The server process: user agent and gRPC server on one loop, started and stopped in the right order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from contextlib import AsyncExitStack
from types import TracebackType

import grpc

from service.accounts import Accounts
from service.archive import Archive, ArchiveError
from service.config import Endpoint, ServerSettings
from service.generated.ondewo.sip import sip_pb2
from service.generated.ondewo.sip.sip_pb2_grpc import add_SipServicer_to_server
from service.generated.sipcore.v1 import audio_pb2, telephony_pb2
from service.generated.sipcore.v1.audio_pb2_grpc import add_CallAudioServicer_to_server
from service.generated.sipcore.v1.telephony_pb2_grpc import add_TelephonyServicer_to_server
from service.health import Health, add_health, add_reflection
from service.recordings import Recordings
from service.servicer import GRPC_OPTIONS, Servicer
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


class StartError(Exception):
    """The server cannot start, although its settings are well-formed; ``str()`` is one line."""


class Server:
    """Serves ``ondewo.sip.Sip``, ``sipcore.v1.Telephony`` and ``sipcore.v1.CallAudio`` over a user agent of its own.

    Use as ``async with``, in any asyncio program.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self._trace = Trace(settings.trace_sip) if settings.trace_sip is not None else None
        self.agent = UserAgent(settings.user_agent_config(), trace=self._trace)
        self._archive = Archive(settings.history, settings.history_size) if settings.history is not None else None
        self.accounts = Accounts(
            self.agent,
            settings.line_options(),
            wav_limit=settings.wav_limit_bytes,
            control_token=settings.call_control_token.get_secret_value(),
            audio_limits=settings.audio_limits(),
            archive=self._archive,
        )
        self.grpc_address = settings.grpc
        """Where gRPC listens; the real port once started."""
        self._grpc = grpc.aio.server(
            options=[("grpc.max_receive_message_length", settings.receive_limit_bytes), *GRPC_OPTIONS]
        )
        add_SipServicer_to_server(Servicer(self.accounts), self._grpc)
        add_TelephonyServicer_to_server(Telephony(self.accounts), self._grpc)
        audio = CallAudio(self.accounts, settings.audio_limits(), Recordings(settings.recordings))
        add_CallAudioServicer_to_server(audio, self._grpc)
        self.health = Health(SERVICES, lambda: self.agent.listening)
        add_health(self.health, self._grpc)
        if settings.reflection:
            add_reflection(SERVICES, self._grpc)

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
                raise StartError(f"cannot listen for SIP on {self.settings.sip}: {error.strerror or error}") from error
            undo.push_async_callback(self.agent.close)
            try:
                port = self._grpc.add_insecure_port(str(self.settings.grpc))
            except RuntimeError as error:
                raise StartError(f"cannot listen for gRPC on {self.settings.grpc}: {_last_reason(error)}") from error
            self.grpc_address = Endpoint(self.settings.grpc.host, port)
            await self._grpc.start()
            undo.pop_all()
        self.health.start()

    async def close(self) -> None:
        """NOT_SERVING; no new calls; BYE and un-REGISTER; the last answers; gRPC stops. About three seconds at most."""
        self.health.stop()
        self.accounts.stop_taking_calls()
        await self.agent.close(timeout=SIP_STOP_SECONDS)
        await self.accounts.close()
        await self._grpc.stop(GRPC_STOP_SECONDS)
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


def _last_reason(error: RuntimeError) -> str:
    """gRPC says a lot; what matters comes last."""
    return str(error).rstrip("]}) ").rpartition(":")[2].strip() or str(error)


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
