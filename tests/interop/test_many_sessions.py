"""A thousand accounts of one server, each with its session, over one SIP socket, at Kamailio."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty

from service.config import Endpoint, ServerSettings
from service.generated.ondewo.sip import sip_pb2 as pb
from service.generated.ondewo.sip.sip_pb2_grpc import SipStub
from service.server import Server
from tests.interop.kit.kamailio import BOT_SECRET
from tests.interop.kit.peers import Peers
from tests.interop.kit.ports import HOST

if TYPE_CHECKING:
    from service.generated.ondewo.sip.sip_pb2_grpc import SipAsyncStub

pytestmark = pytest.mark.interop

MANY = 1000
PAIRS = 20
Type = pb.SipStatus


def about(name: str) -> tuple[tuple[str, str], ...]:
    return (("x-sip-account", name),)


async def open_session(stub: SipAsyncStub, name: str) -> None:
    request = pb.SipRegisterAccountRequest(account_name=name, password=BOT_SECRET)
    assert (await stub.SipRegisterAccount(request)).status_type == Type.REGISTERED
    session = pb.SipStartSessionRequest(account_name=name)
    assert (await stub.SipStartSession(session)).status_type == Type.READY


async def call(stub: SipAsyncStub, caller: str, callee: str) -> None:
    """One account of the server calls another one; each of the two has its own end of the call."""
    placed = await stub.SipStartCall(pb.SipStartCallRequest(callee_id=callee), metadata=about(caller))
    assert placed.status_type == Type.OUTGOING_CALL_CONNECTED, placed
    while (  # noqa: ASYNC110 - the ACK is still under way, and the contract has nothing to wait on
        taken := await stub.SipGetSipStatus(Empty(), metadata=about(callee))
    ).status_type != Type.INCOMING_CALL_CONNECTED:
        await asyncio.sleep(0.02)
    assert taken.account_name == callee
    ended = await stub.SipEndCall(pb.SipEndCallRequest(), metadata=about(caller))
    assert (ended.status_type, ended.call_id) == (Type.OUTGOING_CALL_FINISHED, placed.call_id)


async def test_a_thousand_sessions_and_calls_among_them(peers: Peers) -> None:
    """Who is asked about is who answers: each history holds the transitions of its account and no other."""
    kamailio = await peers.kamailio()
    names = [kamailio.aor(f"bot{number}") for number in range(MANY)]
    settings = ServerSettings.model_construct(grpc=Endpoint(HOST, 0), sip=Endpoint(HOST, 0), register_rate=500.0)
    async with Server(settings) as server, grpc.aio.insecure_channel(str(server.grpc_address)) as channel:
        stub = SipStub(channel)
        async with asyncio.timeout(120):
            await asyncio.gather(*(open_session(stub, name) for name in names))
            (domain,) = (await kamailio.rpc("ul.dump", "brief"))["Domains"]
            assert int(domain["Domain"]["Stats"]["Records"]) == MANY
            pairs = [(names[number], names[MANY - 1 - number]) for number in range(PAIRS)]
            await asyncio.gather(*(call(stub, caller, callee) for caller, callee in pairs))
            for name in (*pairs[0], names[MANY // 2]):
                history = (await stub.SipGetSipStatusHistory(Empty(), metadata=about(name))).status_history
                kinds = [Type.StatusType.Name(status.status_type) for status in history]
                direction = {pairs[0][0]: "OUTGOING", pairs[0][1]: "INCOMING"}.get(name)
                calls = [f"{direction}_CALL_{what}" for what in ("INITIATED", "CONNECTED")] if direction else []
                assert kinds[: 3 + len(calls)] == ["REGISTERED", "SESSION_STARTED", "READY", *calls]
                assert {status.account_name for status in history} == {name}
