"""``grpc.health.v1.Health`` (the standard health service) and reflection, beside the services of this package.

Whoever probes a server (Kubernetes, a load balancer, ``grpc_health_probe``) wants to know whether to send it work. The
answer is one for all services, and for the empty name, which means the server as a whole: SERVING while calls can be
placed and come in, NOT_SERVING while the server starts, stops, or listens nowhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import SERVICE_NAME as HEALTH_SERVICE
from grpc_reflection.v1alpha import reflection

__all__ = ["HEALTH_SERVICE", "Health", "add_health", "add_reflection"]

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

LOOK_SECONDS = 1.0
"""How often the sockets are looked at: nobody tells when one is gone."""

WHOLE_SERVER = ""
"""The name that asks about the server and not about one service."""


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # generated without types
    """Answers probes.

    The servicer that comes with grpcio-health-checking holds a lock while it writes to a watcher, so one that does not
    read would hold up every change of the state, and with it the end of the server. Here each watcher waits by itself.

    Args:
        services: full names of the services that are asked about.
        works: whether calls can be taken; asked while the server is up.
    """

    def __init__(self, services: Sequence[str], works: Callable[[], bool]) -> None:
        self._services = frozenset((WHOLE_SERVER, *services))
        self._works = works
        self._serving = False
        self._changed = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None

    @property
    def serving(self) -> bool:
        """What is answered."""
        return self._serving

    def start(self) -> None:
        """From now on the answer is what ``works`` says."""
        self.look()
        self._looking = asyncio.create_task(self._keep_looking())

    def stop(self) -> None:
        """From now on the answer is NOT_SERVING. Idempotent."""
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None
        self._say(False)

    def look(self) -> None:
        """Asks ``works`` and tells the watchers where the answer is another one."""
        self._say(self._works())

    def _say(self, serving: bool) -> None:
        if serving == self._serving:
            return
        self._serving = serving
        self._changed.set()  # wakes all who wait; who comes later waits for the next change
        self._changed = asyncio.Event()

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.look()

    def _answer(self, service: str) -> health_pb2.HealthCheckResponse:
        status = health_pb2.HealthCheckResponse
        if service not in self._services:
            return status(status=status.SERVICE_UNKNOWN)
        return status(status=status.SERVING if self._serving else status.NOT_SERVING)

    # -- grpc.health.v1.Health -----------------------------------------------------------------------------------

    async def Check(  # noqa: N802 - named by the wire
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> health_pb2.HealthCheckResponse:
        """The state as of now; NOT_FOUND for a service that is not here."""
        if request.service not in self._services:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        return self._answer(request.service)

    async def Watch(  # noqa: N802 - named by the wire
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> None:
        """The state as of now and after each change; SERVICE_UNKNOWN, and no end, for a service that is not here."""
        told = None
        while True:
            changed, answer = self._changed, self._answer(request.service)
            if answer != told:
                told = answer
                await context.write(answer)
            else:
                await changed.wait()


def add_health(health: Health, server: grpc.aio.Server) -> None:
    """Puts the health service into a server that is not started."""
    health_pb2_grpc.add_HealthServicer_to_server(health, server)


def add_reflection(services: Sequence[str], server: grpc.aio.Server) -> None:
    """Lets clients such as grpcurl ask a server, not yet started, for its services and their messages."""
    reflection.enable_server_reflection((*services, HEALTH_SERVICE, reflection.SERVICE_NAME), server)
