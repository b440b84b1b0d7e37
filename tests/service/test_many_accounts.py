"""Requests about one account never wait for another one."""

from __future__ import annotations

import asyncio
import socket

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty

from service.config import Endpoint, ServerSettings
from service.generated.ondewo.sip import sip_pb2 as pb
from service.generated.ondewo.sip.sip_pb2_grpc import SipStub
from service.server import Server
from tests.service.far_side import PASSWORD, FarSide

Type = pb.SipStatus


async def test_an_account_whose_registrar_is_silent_keeps_no_other_waiting() -> None:
    """Alice's whole life goes by while the requests of fifty others are not answered by anybody."""
    settings = ServerSettings.model_construct(grpc=Endpoint("127.0.0.1", 0), sip=Endpoint("127.0.0.1", 0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        nowhere = f"127.0.0.1:{silent.getsockname()[1]}"
        async with (
            FarSide() as far,
            Server(settings) as server,
            grpc.aio.insecure_channel(str(server.grpc_address)) as channel,
        ):
            stub = SipStub(channel)
            about = (("x-sip-account", far.address("alice")),)
            stuck = [
                stub.SipRegisterAccount(pb.SipRegisterAccountRequest(account_name=f"user{number}@{nowhere}"))
                for number in range(50)
            ]
            await asyncio.to_thread(silent.recv, 1)  # a REGISTER is out
            name = far.address("alice")
            statuses = [
                await stub.SipRegisterAccount(pb.SipRegisterAccountRequest(account_name=name, password=PASSWORD)),
                await stub.SipStartSession(pb.SipStartSessionRequest(account_name=name)),
            ]
            calling = stub.SipStartCall(pb.SipStartCallRequest(callee_id=far.address("bob")), metadata=about)
            await (await far.incoming()).answer()
            statuses += [
                await calling,
                await stub.SipMute(Empty(), metadata=about),
                await stub.SipEndCall(pb.SipEndCallRequest(), metadata=about),
                await stub.SipEndSession(Empty(), metadata=about),
            ]
            assert not any(request.done() for request in stuck)
            for request in stuck:
                request.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await request
    assert [Type.StatusType.Name(status.status_type) for status in statuses] == [
        "REGISTERED",
        "READY",
        "OUTGOING_CALL_CONNECTED",
        "MICROPHONE_MUTED",
        "OUTGOING_CALL_FINISHED",
        "SESSION_ENDED",
    ]
