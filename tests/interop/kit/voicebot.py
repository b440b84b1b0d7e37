"""A voice bot: a gRPC client of the server, with methods named after what a bot does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from types import TracebackType

import grpc
from google.protobuf.empty_pb2 import Empty

from service.generated.ondewo.sip import sip_pb2 as pb
from service.generated.ondewo.sip.sip_pb2_grpc import SipStub
from tests.interop.kit.process import POLL_INTERVAL, ProgramError

__all__ = ["Voicebot", "kind"]

UNSPECIFIED = pb.SipEndCallRequest.END_CALL_REASON_UNSPECIFIED

_PATIENCE = 45.0
"""Default deadline of a request, seconds: longer than any timer of RFC 3261 that a request can run into."""


def kind(status: pb.SipStatus) -> str:
    """Name of a status' transition."""
    return pb.SipStatus.StatusType.Name(status.status_type)


class Voicebot:
    """One gRPC channel; use it as an asynchronous context manager.

    Args:
        address: ``host:port`` of the server.
        account: the account that requests are about; empty: the server's active one.
    """

    def __init__(self, address: str, *, account: str = "") -> None:
        self.address = address
        self.account = account
        self._channel = grpc.aio.insecure_channel(
            address, options=[("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        )
        self.stub = SipStub(self._channel)

    async def __aenter__(self) -> Voicebot:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        await self._channel.close(None)

    def about(self, account: str) -> Voicebot:
        """The same server over a channel of its own, every request about ``account``."""
        return Voicebot(self.address, account=account)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("x-sip-account", self.account),) if self.account else ()

    # -- accounts and sessions ----------------------------------------------------------------------------

    async def register(
        self,
        account: str,
        password: str,
        *,
        auth_username: str = "",
        outbound_proxy: str = "",
        timeout: float = _PATIENCE,
    ) -> pb.SipStatus:
        request = pb.SipRegisterAccountRequest(
            account_name=account,
            password=password,
            auth_username=auth_username,
            outbound_proxy=outbound_proxy,
        )
        return await self.stub.SipRegisterAccount(request, timeout=timeout)

    async def start_session(self, account: str, *, auto_answer: int = 0, timeout: float = _PATIENCE) -> pb.SipStatus:
        request = pb.SipStartSessionRequest(account_name=account, auto_answer_interval=auto_answer)
        return await self.stub.SipStartSession(request, timeout=timeout)

    async def end_session(self, *, timeout: float = _PATIENCE) -> pb.SipStatus:
        return await self.stub.SipEndSession(Empty(), timeout=timeout, metadata=self.metadata)

    # -- calls --------------------------------------------------------------------------------------------

    async def call(
        self, callee: str, *, headers: Mapping[str, str] | None = None, timeout: float = _PATIENCE
    ) -> pb.SipStatus:
        request = pb.SipStartCallRequest(callee_id=callee, headers=headers or {})
        return await self.stub.SipStartCall(request, timeout=timeout, metadata=self.metadata)

    async def end_call(
        self,
        *,
        hard: bool = False,
        reason: pb.SipEndCallRequest.EndCallReason.ValueType = UNSPECIFIED,
        timeout: float = _PATIENCE,
    ) -> pb.SipStatus:
        request = pb.SipEndCallRequest(hard_hangup=hard, end_reason=reason)
        return await self.stub.SipEndCall(request, timeout=timeout, metadata=self.metadata)

    async def transfer(
        self,
        target: str,
        *,
        headers: Mapping[str, str] | None = None,
        outcome_timeout_ms: int = 0,
        timeout: float = _PATIENCE,
    ) -> pb.SipStatus:
        request = pb.SipTransferCallRequest(
            transfer_id=target, headers=headers or {}, outcome_timeout_ms=outcome_timeout_ms
        )
        return await self.stub.SipTransferCall(request, timeout=timeout, metadata=self.metadata)

    async def play(self, *wavs: bytes, timeout: float = _PATIENCE) -> pb.SipStatus:
        request = pb.SipPlayWavFilesRequest(wav_files=wavs)
        return await self.stub.SipPlayWavFiles(request, timeout=timeout, metadata=self.metadata)

    async def mute(self) -> pb.SipStatus:
        return await self.stub.SipMute(Empty(), timeout=_PATIENCE, metadata=self.metadata)

    async def unmute(self) -> pb.SipStatus:
        return await self.stub.SipUnMute(Empty(), timeout=_PATIENCE, metadata=self.metadata)

    # -- what happened ------------------------------------------------------------------------------------

    async def status(self) -> pb.SipStatus:
        return await self.stub.SipGetSipStatus(Empty(), timeout=_PATIENCE, metadata=self.metadata)

    async def history(self) -> Sequence[pb.SipStatus]:
        response = await self.stub.SipGetSipStatusHistory(Empty(), timeout=_PATIENCE, metadata=self.metadata)
        return response.status_history

    async def kinds(self) -> list[str]:
        """Names of all transitions, oldest first."""
        return [kind(status) for status in await self.history()]

    async def reached(self, wanted: str, *, count: int = 1, timeout: float = 10.0) -> pb.SipStatus:
        """Wait until the history holds ``count`` transitions of that name.

        Returns:
            the ``count``-th.
        """
        deadline = time.monotonic() + timeout
        while True:
            history = await self.history()
            found = [status for status in history if kind(status) == wanted]
            if len(found) >= count:
                return found[count - 1]
            if time.monotonic() > deadline:
                names = [kind(status) for status in history]
                raise ProgramError(f"no {wanted} (number {count}) within {timeout:g} s; history: {names}")
            await asyncio.sleep(POLL_INTERVAL)
