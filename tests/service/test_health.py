"""The health service and reflection, over a real port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import grpc
import pytest
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from service.config import Endpoint, ServerSettings
from service.health import Health
from service.server import SERVICES, Server

SIP = "ondewo.sip.Sip"
Status = health_pb2.HealthCheckResponse


@asynccontextmanager
async def served(**settings: Any) -> AsyncIterator[tuple[Server, grpc.aio.Channel]]:
    """A server on free ports, and a channel to it that outlives it."""
    made = ServerSettings.model_construct(grpc=Endpoint("127.0.0.1", 0), sip=Endpoint("127.0.0.1", 0), **settings)
    server = Server(made)
    async with server, grpc.aio.insecure_channel(str(server.grpc_address)) as channel:
        yield server, channel


def watch(stub: Any, service: str) -> Any:
    return stub.Watch(health_pb2.HealthCheckRequest(service=service), timeout=30)


async def check(stub: Any, service: str) -> int:
    answer = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=30)
    return cast("int", answer.status)


async def test_a_running_server_serves_by_each_name_and_as_a_whole() -> None:
    async with served() as (_, channel):
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("", *SERVICES):
            assert await check(stub, service) == Status.SERVING
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await check(stub, "no.such.Service")
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_watcher_hears_of_a_service_that_is_not_here_and_of_the_stop() -> None:
    """A load balancer takes the server out before the first call is hung up."""
    async with served() as (server, channel):
        stub = health_pb2_grpc.HealthStub(channel)
        watchers = [watch(stub, ""), watch(stub, SIP)]
        stranger = watch(stub, "no.such.Service")
        assert (await stranger.read()).status == Status.SERVICE_UNKNOWN
        for watcher in watchers:
            assert (await watcher.read()).status == Status.SERVING
        closing = asyncio.create_task(server.close())
        for watcher in watchers:
            assert (await watcher.read()).status == Status.NOT_SERVING
        await closing


async def test_a_server_without_a_socket_for_sip_does_not_serve() -> None:
    async with served() as (server, channel):
        stub = health_pb2_grpc.HealthStub(channel)
        watcher = watch(stub, SIP)
        assert (await watcher.read()).status == Status.SERVING
        await server.agent.close()
        server.health.look()
        assert (await watcher.read()).status == Status.NOT_SERVING
        assert await check(stub, "") == Status.NOT_SERVING


async def test_a_server_that_is_not_started_does_not_serve() -> None:
    server = Server(ServerSettings.model_construct(grpc=Endpoint("127.0.0.1", 0), sip=Endpoint("127.0.0.1", 0)))
    assert not server.health.serving
    assert not server.agent.listening
    await server.close()


class Reader:
    """The server's side of a Watch whose client reads when it likes."""

    def __init__(self) -> None:
        self.told: list[int] = []
        self.reads = asyncio.Event()

    async def write(self, answer: health_pb2.HealthCheckResponse) -> None:
        self.told.append(answer.status)
        await self.reads.wait()


async def test_a_watcher_that_does_not_read_holds_up_nothing_and_hears_the_newest_state() -> None:
    states = [True, False, True]
    health = Health([SIP], lambda: states.pop(0))
    reader = Reader()
    request = health_pb2.HealthCheckRequest(service=SIP)
    watching = asyncio.create_task(health.Watch(request, cast("Any", reader)))
    await asyncio.sleep(0)
    while states:
        health.look()
    assert health.serving
    reader.reads.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert reader.told == [Status.NOT_SERVING, Status.SERVING]
    health.stop()
    for _ in range(5):
        await asyncio.sleep(0)
    assert reader.told[2:] == [Status.NOT_SERVING]
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


def asked(**question: str) -> Any:
    return reflection_pb2.ServerReflectionRequest(**question)


async def test_reflection_names_the_services_and_describes_their_messages() -> None:
    async with served() as (_, channel):
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        questions = [asked(list_services=""), asked(file_containing_symbol=SIP)]
        services, found = [answer async for answer in stub.ServerReflectionInfo(iter(questions), timeout=30)]
    names = {service.name for service in services.list_services_response.service}
    assert names == {*SERVICES, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
    file = descriptor_pb2.FileDescriptorProto.FromString(found.file_descriptor_response.file_descriptor_proto[0])
    (service,) = file.service
    assert len(service.method) == 14
    assert "SipStartCallRequest" in {message.name for message in file.message_type}


async def test_reflection_can_be_turned_off() -> None:
    async with served(reflection=False) as (_, channel):
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            _ = [answer async for answer in stub.ServerReflectionInfo(iter([asked(list_services="")]), timeout=30)]
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert await check(health_pb2_grpc.HealthStub(channel), SIP) == Status.SERVING
