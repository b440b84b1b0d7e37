"""The gRPC port: where it listens, with TLS or without, and who may come in."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from functools import cached_property
from typing import TYPE_CHECKING, Any

import grpc

from service.grpc_tls import GrpcTls
from service.grpc_tokens import PortTokens
from service.poller import calm_pollers
from service.servicer import GRPC_OPTIONS
from service.values import Endpoint
from service.watched_files import FileProblem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.config import ServerSettings

    Interceptor = grpc.aio.ServerInterceptor[Any, Any]

__all__ = ["GrpcPort", "StartError"]

logger = logging.getLogger(__name__)


class StartError(Exception):
    """The server cannot start, although its settings are well-formed; ``str()`` is one line."""


class GrpcPort:
    """One gRPC server and its door.

    Args:
        settings: where, and for whom.
        interceptors: see every request, also those that are refused, before anybody else.

    Raises:
        StartError: a file of TLS, or of tokens, cannot be used.
    """

    def __init__(
        self, settings: ServerSettings, interceptors: Sequence[grpc.aio.ServerInterceptor[Any, Any]] = ()
    ) -> None:
        self._wanted = settings.grpc
        self._receive_limit = settings.receive_limit_bytes
        self._tls = _tls(settings)
        self._tokens = _tokens(settings)
        self._asks_clients = settings.grpc_tls_client_ca is not None
        self.address = settings.grpc
        """Where it listens; the real port once bound."""
        self._interceptors = (*interceptors, *((self._tokens,) if self._tokens is not None else ()))

    @cached_property
    def server(self) -> grpc.aio.Server:
        """Its services are added before it starts. Made when it is first asked for, on the loop that it runs on."""
        return grpc.aio.server(
            interceptors=self._interceptors,
            options=[("grpc.max_receive_message_length", self._receive_limit), *GRPC_OPTIONS],
        )

    async def start(self) -> None:
        """Listens, and takes requests.

        Raises:
            StartError: the port is taken, or the address is not this machine's.
        """
        refused = f"cannot listen for gRPC on {self._wanted}"
        try:
            await _try_to_listen(self._wanted)
            port = self._bind()
        except OSError as error:
            raise StartError(f"{refused}: {_reason(error)}") from error
        except RuntimeError as error:  # taken in between
            raise StartError(f"{refused}: the line before says why") from error
        self.address = Endpoint(self._wanted.host, port)
        self._warn()
        calm_pollers()
        await self.server.start()
        for watched in (self._tls, self._tokens):
            if watched is not None:
                watched.watch.start()

    def _bind(self) -> int:
        if self._tls is None:
            return self.server.add_insecure_port(str(self._wanted))
        return self.server.add_secure_port(str(self._wanted), self._tls.credentials())

    async def stop(self, grace: float) -> None:
        """Takes no new requests; those under way have ``grace`` seconds."""
        for watched in (self._tls, self._tokens):
            if watched is not None:
                watched.watch.stop()
        await self.server.stop(grace)

    def _warn(self) -> None:
        if _is_loopback(self._wanted.host):
            return
        open_to = []
        if self._tokens is None and not self._asks_clients:
            open_to.append("whoever reaches it can place calls and listen in (--grpc-token-file, --grpc-tls-client-ca)")
        if self._tls is None:
            open_to.append("passwords, tokens and audio travel in the clear (--grpc-tls-certificate)")
        if open_to:
            logger.warning("other machines can reach the gRPC port %s: %s", self.address, "; ".join(open_to))


def _tls(settings: ServerSettings) -> GrpcTls | None:
    try:
        files = settings.grpc_tls_files()
        return GrpcTls(files) if files is not None else None
    except (FileProblem, ValueError) as error:
        raise StartError(f"cannot use TLS for gRPC: {error}") from error


def _tokens(settings: ServerSettings) -> PortTokens | None:
    if settings.grpc_token_file is None:
        return None
    try:
        return PortTokens(settings.grpc_token_file)
    except FileProblem as error:
        raise StartError(f"cannot use the tokens of the gRPC port: {error}") from error


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _reason(error: OSError) -> str:
    text = error.strerror or str(error)
    return text[:1].lower() + text[1:]


async def _try_to_listen(where: Endpoint) -> None:
    """Why gRPC could not: it writes that to the standard error in its own manner, and raises another thing.

    Raises:
        OSError: the port is taken, or the address is not this machine's.
    """
    loop = asyncio.get_running_loop()
    for family, kind, protocol, _, address in await loop.getaddrinfo(where.host, where.port, type=socket.SOCK_STREAM):
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as gRPC does: only a listener is in the way
            probe.bind(address)
