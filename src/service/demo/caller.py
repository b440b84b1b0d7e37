"""The demo's voice bot: a gRPC client like any other, on a real port, that also follows the account's history."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from types import TracebackType

import grpc
from google.protobuf.empty_pb2 import Empty

from service.generated.ondewo.sip import sip_pb2 as pb
from service.generated.ondewo.sip.sip_pb2_grpc import SipStub

__all__ = ["Caller", "kind"]

POLL_INTERVAL = 0.05
"""Seconds between two looks at the history: what people notice as at once."""
DEADLINE = 30.0
"""Seconds that a request may take, playing apart."""


def kind(status: pb.SipStatus) -> str:
    """Name of a status' transition."""
    return pb.SipStatus.StatusType.Name(status.status_type)


class Caller:
    """One channel to a server. Use as ``async with``.

    Args:
        address: ``host:port`` of the gRPC server.
        on_transition: called with each new status of the history, in order.
    """

    def __init__(self, address: str, on_transition: Callable[[pb.SipStatus], None]) -> None:
        self._channel = grpc.aio.insecure_channel(address)
        self._stub = SipStub(self._channel)
        self._on_transition = on_transition
        self._seen = 0
        self._looking = asyncio.Lock()
        self._follower: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Caller:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._follower is not None:
            self._follower.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._follower
        await self._channel.close(None)

    # -- requests --------------------------------------------------------------------------------------------

    async def register(self, account: str, password: str) -> pb.SipStatus:
        """Registers the account, and follows its history from now on."""
        request = pb.SipRegisterAccountRequest(account_name=account, password=password)
        status = await self._settled(self._stub.SipRegisterAccount(request, timeout=DEADLINE))
        self._follower = asyncio.create_task(self._follow())
        return status

    async def start_session(self, account: str) -> pb.SipStatus:
        """Opens it for calls; incoming ones are answered at once."""
        request = pb.SipStartSessionRequest(account_name=account, auto_answer_interval=0)
        return await self._settled(self._stub.SipStartSession(request, timeout=DEADLINE))

    async def end_session(self) -> pb.SipStatus:
        """Closes it."""
        return await self._settled(self._stub.SipEndSession(Empty(), timeout=DEADLINE))

    async def call(self, callee: str, headers: dict[str, str] | None = None) -> pb.SipStatus:
        """Calls, and waits for the answer."""
        request = pb.SipStartCallRequest(callee_id=callee, headers=headers or {})
        return await self._settled(self._stub.SipStartCall(request, timeout=DEADLINE))

    async def play(self, *wav_files: bytes, seconds: float) -> pb.SipStatus:
        """Plays wav files of about ``seconds`` to their end."""
        request = pb.SipPlayWavFilesRequest(wav_files=wav_files)
        return await self._settled(self._stub.SipPlayWavFiles(request, timeout=DEADLINE + seconds))

    async def mute(self) -> pb.SipStatus:
        """Sends silence from now on."""
        return await self._settled(self._stub.SipMute(Empty(), timeout=DEADLINE))

    async def unmute(self) -> pb.SipStatus:
        """Undoes it."""
        return await self._settled(self._stub.SipUnMute(Empty(), timeout=DEADLINE))

    async def transfer(self, target: str, outcome_timeout_ms: int) -> pb.SipStatus:
        """Transfers the call, and waits whether the far end accepts."""
        request = pb.SipTransferCallRequest(transfer_id=target, outcome_timeout_ms=outcome_timeout_ms)
        return await self._settled(self._stub.SipTransferCall(request, timeout=DEADLINE))

    async def end_call(self) -> pb.SipStatus:
        """Hangs up."""
        return await self._settled(self._stub.SipEndCall(pb.SipEndCallRequest(), timeout=DEADLINE))

    async def until(self, wanted: pb.SipStatus.StatusType.ValueType, timeout: float) -> pb.SipStatus:
        """Waits until the newest transition is ``wanted``.

        Raises:
            TimeoutError: it never was.
        """
        async with asyncio.timeout(timeout):
            while True:
                status = await self._stub.SipGetSipStatus(Empty(), timeout=DEADLINE)
                if status.status_type == wanted:
                    await self._look()
                    return status
                await asyncio.sleep(POLL_INTERVAL)

    # -- transitions -----------------------------------------------------------------------------------------

    async def _settled(self, request: Awaitable[pb.SipStatus]) -> pb.SipStatus:
        """The answer, after all transitions up to it have been told."""
        status = await request
        await self._look()
        return status

    async def _look(self) -> None:
        async with self._looking:
            history = await self._stub.SipGetSipStatusHistory(Empty(), timeout=DEADLINE)
            for status in history.status_history[self._seen :]:
                self._on_transition(status)
            self._seen = len(history.status_history)

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(POLL_INTERVAL)
            await self._look()
