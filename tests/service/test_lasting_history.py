"""``--history FILE`` with real server processes: killed, started again, and with a disk that is full."""

from __future__ import annotations

import asyncio
import resource
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty

from service.generated.ondewo.sip import sip_pb2 as pb
from service.generated.ondewo.sip.sip_pb2_grpc import SipStub
from tests.service.far_side import PASSWORD, FarSide
from tests.service.program import RunningServer, run_server

if TYPE_CHECKING:
    from service.generated.ondewo.sip.sip_pb2_grpc import SipAsyncStub

pytestmark = pytest.mark.process

Type = pb.SipStatus


@asynccontextmanager
async def served(path: Path) -> AsyncIterator[tuple[RunningServer, SipAsyncStub]]:
    async with (
        run_server("--history", str(path)) as server,
        grpc.aio.insecure_channel(server.bound["grpc"]) as channel,
    ):
        yield server, SipStub(channel)


async def register(stub: SipAsyncStub, far: FarSide, user: str = "alice") -> None:
    request = pb.SipRegisterAccountRequest(account_name=far.address(user), password=PASSWORD)
    assert (await stub.SipRegisterAccount(request)).status_type == Type.REGISTERED


async def connected(stub: SipAsyncStub, far: FarSide) -> None:
    """A call from alice to bob, answered."""
    await register(stub, far)
    await stub.SipStartSession(pb.SipStartSessionRequest(account_name=far.address("alice")))
    request = pb.SipStartCallRequest(callee_id=far.address("bob"), headers={"X-Campaign": "last"})
    calling = stub.SipStartCall(request)
    call = await far.incoming()
    await call.answer()
    assert (await calling).status_type == Type.OUTGOING_CALL_CONNECTED


async def history(stub: SipAsyncStub, account: str = "") -> list[pb.SipStatus]:
    metadata = (("x-sip-account", account),) if account else ()
    return list((await stub.SipGetSipStatusHistory(Empty(), metadata=metadata)).status_history)


def names(statuses: list[pb.SipStatus]) -> list[str]:
    return [Type.StatusType.Name(status.status_type) for status in statuses]


async def on_disk(path: Path, status: pb.SipStatus) -> None:
    """Returns once a status is in one of the files; the database itself is locked."""
    wanted = str(status.timestamp.ToMicroseconds()).encode()
    async with asyncio.timeout(30):
        while not any(  # noqa: ASYNC110 - another process writes them
            wanted in file.read_bytes() for file in path.parent.glob(f"{path.name}*")
        ):
            await asyncio.sleep(0.02)


async def said(server: RunningServer, words: bytes) -> None:
    """Returns once the log has them."""
    assert server.process.stderr is not None
    async with asyncio.timeout(30):
        while words not in await server.process.stderr.readline():
            pass


async def test_a_server_that_was_killed_in_a_call_answers_the_same_history_again(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    async with FarSide() as far:
        async with served(path) as (server, stub):
            await register(stub, far, "carol")
            await connected(stub, far)
            before, carols = await history(stub), await history(stub, far.address("carol"))
            assert names(before)[-2:] == ["OUTGOING_CALL_INITIATED", "OUTGOING_CALL_CONNECTED"]
            await on_disk(path, before[-1])
            await server.kill()
        assert not any(PASSWORD.encode() in file.read_bytes() for file in tmp_path.iterdir())
        async with served(path) as (_, stub):
            # Also without metadata: the account of the newest session, as before.
            assert await history(stub) == before
            assert await history(stub, far.address("alice")) == before
            assert await history(stub, far.address("carol")) == carols
            assert await history(stub, "nobody@test.example") == []
            # What is past is no state: nobody is registered, and no call goes on.
            assert (await stub.SipGetSipStatus(Empty())).status_type == Type.NO_SESSION
            assert (await stub.SipEndCall(pb.SipEndCallRequest())).status_type == Type.NO_SESSION
            await register(stub, far)
            after = await history(stub)
            assert after[:-1] == before
            assert names(after)[-1] == "REGISTERED"
            times = [status.timestamp.ToMicroseconds() for status in after]
            assert times == sorted(set(times))


@pytest.mark.skipif(sys.platform != "linux", reason="needs the limits of another process")
async def test_a_full_disk_harms_no_call_and_nothing_is_lost_when_there_is_room_again(tmp_path: Path) -> None:
    """The kernel refuses every write of the server to a file."""
    path = tmp_path / "history.db"
    async with FarSide() as far:
        async with served(path) as (server, stub):
            _, hard = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (1, hard))
            await connected(stub, far)
            assert (await stub.SipEndCall(pb.SipEndCallRequest())).status_type == Type.OUTGOING_CALL_FINISHED
            before = await history(stub)
            await said(server, b"cannot be written: ")
            resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
        assert "is written again; 0 transitions are lost" in server.errors
        async with served(path) as (_, stub):
            assert (await history(stub))[: len(before)] == before
