"""Both services over a real gRPC port, with the fake agent behind them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from service.frames import add_call_audio, add_sip
from service.generated.ondewo.sip import sip_pb2 as sip
from service.generated.ondewo.sip.sip_pb2_grpc import SipStub
from service.generated.sipcore.v1 import events_pb2, telephony_pb2
from service.generated.sipcore.v1.audio_pb2_grpc import CallAudioStub
from service.generated.sipcore.v1.telephony_pb2_grpc import TelephonyStub, add_TelephonyServicer_to_server
from service.recordings import Recordings
from service.servicer import GRPC_OPTIONS, Servicer
from service.v1.audio import CallAudio
from service.v1.servicer import Telephony
from tests.kit.fake_agent import FakeCall
from tests.service.bench import ALICE, BOB, Bench

if TYPE_CHECKING:
    from pathlib import Path

    from service.generated.ondewo.sip.sip_pb2_grpc import SipAsyncStub
    from service.generated.sipcore.v1.audio_pb2_grpc import CallAudioAsyncStub
    from service.generated.sipcore.v1.telephony_pb2_grpc import TelephonyAsyncStub

__all__ = ["Refused", "Watching", "Wire", "open_wire", "refused", "until"]

PATIENCE = 60.0
"""Seconds until a test gives up; what it waits for takes milliseconds on a machine that has nothing else to do."""

DETAILS = {
    "google.rpc.ErrorInfo": error_details_pb2.ErrorInfo,
    "google.rpc.BadRequest": error_details_pb2.BadRequest,
    "google.rpc.RetryInfo": error_details_pb2.RetryInfo,
}


class Wire:
    """A client of both services, and the bench behind the port it talks to."""

    def __init__(self, bench: Bench, channel: grpc.aio.Channel, address: str) -> None:
        self.bench = bench
        self.channel = channel
        self.address = address
        self.sip: SipAsyncStub = SipStub(channel)
        self.stub: TelephonyAsyncStub = TelephonyStub(channel)
        self.audio: CallAudioAsyncStub = CallAudioStub(channel)

    async def session(self, account: str = ALICE, auto_answer: int = 0) -> None:
        await self.sip.SipRegisterAccount(sip.SipRegisterAccountRequest(account_name=account, password="secret"))
        request = sip.SipStartSessionRequest(account_name=account, auto_answer_interval=auto_answer)
        assert (await self.sip.SipStartSession(request)).status_type == sip.SipStatus.READY

    async def connected(self, call_id: str = "one") -> FakeCall:
        """alice's call with bob, which he has answered."""
        await self.session()
        headers = {"X-ondewo-vtsi-caller-call-id": call_id}
        calling = asyncio.ensure_future(self.sip.SipStartCall(sip.SipStartCallRequest(callee_id=BOB, headers=headers)))
        await until(lambda: self.bench.registration.calls)
        self.bench.call.answer_by_far_end()
        assert (await calling).status_type == sip.SipStatus.OUTGOING_CALL_CONNECTED
        return self.bench.call

    async def ringing(self) -> tuple[FakeCall, str]:
        """A call from bob that rings until somebody decides, and its call_id."""
        await self.session(auto_answer=-1)
        call = self.bench.registration.invite(BOB, {"X-Customer": "9"})
        assert isinstance(call, FakeCall)
        await until(lambda: self.bench.types()[-1] == "INCOMING_CALL_INITIATED")
        return call, self.bench.current.call_id

    def watch(self, *accounts: str, after: int | None = None, epoch: str = "") -> Watching:
        request = telephony_pb2.WatchRequest(accounts=accounts, after_sequence=after, epoch=epoch)
        return Watching(self.stub.Watch(request))


class Watching:
    """One watch, as its client reads it."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.sequence = 0
        """Of the event read last."""

    async def next(self) -> telephony_pb2.WatchResponse:
        async with asyncio.timeout(PATIENCE):
            response = await self._stream.read()
        assert isinstance(response, telephony_pb2.WatchResponse), response
        if response.HasField("event"):
            assert response.event.sequence > self.sequence
            self.sequence = response.event.sequence
        return response

    async def started(self) -> telephony_pb2.WatchStarted:
        response = await self.next()
        assert response.HasField("started")
        return response.started

    async def event(self, kind: str) -> events_pb2.Event:
        """The next event of a kind; others are passed over."""
        while True:
            response = await self.next()
            assert response.HasField("event"), response
            if response.event.WhichOneof("event") == kind:
                return response.event

    async def kinds(self, last: str) -> list[str]:
        """What happens, up to the first of kind ``last``; transitions by their names."""
        found: list[str] = []
        while True:
            response = await self.next()
            assert response.HasField("event"), response
            kind = response.event.WhichOneof("event") or ""
            found.append(response.event.transition.status_type if kind == "transition" else kind)
            if found[-1] == last:
                return found

    def cancel(self) -> None:
        self._stream.cancel()


@asynccontextmanager
async def open_wire(bench: Bench, *, recordings: Path | None = None, max_watches: int = 1000) -> AsyncIterator[Wire]:
    """The server, and a client; both are gone behind the block."""
    server = grpc.aio.server(options=GRPC_OPTIONS)
    add_sip(Servicer(bench.accounts), server)
    add_TelephonyServicer_to_server(Telephony(bench.accounts, max_watches), server)
    audio = CallAudio(bench.accounts, Recordings(recordings))
    add_call_audio(audio, server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        async with grpc.aio.insecure_channel(address) as channel:
            yield Wire(bench, channel, address)
    finally:
        await Bench.close_all()
        await server.stop(0)


async def until(condition: Callable[[], object]) -> None:
    """Waits for what the server does on its own."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - the fake has no events to wait for
            await asyncio.sleep(0.001)


class Refused:
    """A refusal with its details."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        self.code = error.code()
        self.text = str(error.details())
        trailing = cast("Iterable[tuple[str, str | bytes]]", error.trailing_metadata() or ())
        # Not dict(trailing): the metadata of gRPC 1.76 pass for a mapping, and are none.
        (packed,) = [value for name, value in trailing if name == "grpc-status-details-bin"]
        assert isinstance(packed, bytes)
        status = status_pb2.Status.FromString(packed)
        assert (status.code, status.message) == (self.code.value[0], self.text)
        self._details: dict[str, Any] = {}
        for detail in status.details:
            kind = detail.type_url.rpartition("/")[2]
            self._details[kind] = DETAILS[kind].FromString(detail.value)
        assert self.info.domain == "sipcore"

    @property
    def info(self) -> Any:
        return self._details["google.rpc.ErrorInfo"]

    @property
    def reason(self) -> str:
        return str(self.info.reason)

    @property
    def violations(self) -> dict[str, str]:
        bad = self._details.get("google.rpc.BadRequest")
        return {one.field: one.description for one in bad.field_violations} if bad is not None else {}

    @property
    def retry_in(self) -> int | None:
        retry = self._details.get("google.rpc.RetryInfo")
        return int(retry.retry_delay.seconds) if retry is not None else None


async def refused(call: Any) -> Refused:
    """The refusal that a request ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return Refused(raised.value)
