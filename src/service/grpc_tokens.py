"""A token for the whole gRPC port: who does not bring one of the file is told UNAUTHENTICATED, whatever it asks for.

The health service stays open: those who probe (Kubernetes, load balancers) cannot show a token, and it tells no more
than that the server is up. The call control token of CONTRACT §4 is another one, and is asked for besides.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, TypeAlias

import grpc

from service.errors import PortUnauthenticated
from service.health import HEALTH_SERVICE
from service.v1.refusals import refusal
from service.watched_files import FileProblem, WatchedFiles, read_file

__all__ = ["METADATA", "PortTokens"]

METADATA = "authorization"
"""With ``Bearer`` and the token (RFC 6750 §2.1)."""

OPEN = f"/{HEALTH_SERVICE}/"
"""Methods that need no token."""

_TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]+=*")
"""RFC 6750 §2.1: what a header can carry."""

Digest = bytes
"""SHA-256 of a token: the same time to compare, whatever its length, and nothing that a dump could tell."""
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class PortTokens(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # not generic when it runs
    """Stands before all services of a server.

    Args:
        file: one token a line; empty lines, and those that begin with ``#``, do not count.

    Raises:
        FileProblem: the file cannot be read, or holds no token, or what is none.
    """

    def __init__(self, file: Path) -> None:
        self._digests: tuple[Digest, ...] = ()
        self.watch = WatchedFiles([file], lambda: _read_tokens(file), self._take)
        """Sees to it that a new file counts from the next request on; streams that are up go on."""

    def _take(self, digests: tuple[Digest, ...]) -> None:
        self._digests = digests

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """The handler of the request, or one that refuses it."""
        open_to_all = handler_call_details.method.startswith(OPEN)
        if open_to_all or self.admits(handler_call_details.invocation_metadata):
            return await continuation(handler_call_details)
        return REFUSING

    def admits(self, metadata: Iterable[tuple[str, str | bytes]] | None) -> bool:
        """Whether a request with these metadata brings one of the tokens."""
        brought = [_bearer(value) for name, value in metadata or () if name == METADATA]
        # One that is repeated or contradicts itself is nobody's we know.
        return len(brought) == 1 and self._knows(brought[0])

    def _knows(self, token: bytes) -> bool:
        digest = hashlib.sha256(token).digest()
        found = False
        for known in self._digests:  # all of them: when it answers tells nothing
            found |= hmac.compare_digest(digest, known)
        return found


def _bearer(value: str | bytes) -> bytes:
    """The token behind ``Bearer``, whose case does not count (RFC 9110 §11.1); empty where there is none."""
    raw = value.encode("utf-8", "replace") if isinstance(value, str) else value
    scheme, _, token = raw.partition(b" ")
    return token.strip(b" ") if scheme.lower() == b"bearer" else b""


def _read_tokens(file: Path) -> tuple[Digest, ...]:
    tokens = []
    for number, line in enumerate(read_file(file).decode("utf-8", "replace").splitlines(), 1):
        token = line.strip()
        if not token or token.startswith("#"):
            continue
        if not _TOKEN.fullmatch(token):
            raise FileProblem(f"line {number} of {file} is no token: letters, digits and -._~+/ with = at the end")
        tokens.append(hashlib.sha256(token.encode()).digest())
    if not tokens:
        raise FileProblem(f"{file} holds no token")
    return tuple(tokens)


async def _refuse(requests: object, context: grpc.aio.ServicerContext[Any, Any]) -> None:
    refused = refusal(PortUnauthenticated("this server wants a token: authorization: Bearer ..."), {})
    await context.abort(refused.code, refused.details, refused.metadata)


REFUSING: Handler = grpc.stream_stream_rpc_method_handler(_refuse)
"""For methods of all kinds, which look alike on the wire; of the request nothing is read, however large it is."""
