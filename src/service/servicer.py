"""The gRPC servicer: decode, one await, encode. What a method does is in :mod:`service.accounts`."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias, TypeVar

import grpc
from google.protobuf.empty_pb2 import Empty

from service import converters
from service.accounts import Accounts, Scope
from service.audio_streams import AudioFrame, AudioResponse
from service.errors import ClientGone, rpc_error
from service.frames import audio_message
from service.generated.ondewo.sip import sip_pb2 as pb
from service.generated.ondewo.sip.sip_pb2_grpc import SipServicer
from service.status import AmdResult

__all__ = ["GRPC_OPTIONS", "Servicer"]

GRPC_OPTIONS = (
    ("grpc.max_send_message_length", -1),  # a long history is ours, so no limit of gRPC's
    ("grpc.so_reuseport", 0),  # a second server on the same port must fail, not take half the requests
)
"""For every gRPC server that carries the servicer."""

Request = TypeVar("Request")
Response = TypeVar("Response")
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Method: TypeAlias = "Callable[[Servicer, Request, Context], Awaitable[Response]]"


def _rpc(method: Method[Request, Response]) -> Method[Request, Response]:
    """Turns exceptions into gRPC errors, one place for all methods."""

    @functools.wraps(method)
    async def answer(self: Servicer, request: Request, context: Context) -> Response:
        try:
            return await method(self, request, context)
        except Exception as error:
            code, details = rpc_error(error)
        return await context.abort(code, details)

    return answer


def _scope(context: Context) -> Scope:
    return converters.scope(context.invocation_metadata())


class Servicer(SipServicer):
    """``ondewo.sip.Sip`` over :class:`service.accounts.Accounts`."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    @_rpc
    async def SipRegisterAccount(self, request: pb.SipRegisterAccountRequest, context: Context) -> pb.SipStatus:
        status = await self._accounts.register_account(
            request.account_name,
            request.password,
            request.auth_username,
            request.outbound_proxy,
            context.time_remaining,
        )
        return converters.sip_status(status)

    @_rpc
    async def SipStartSession(self, request: pb.SipStartSessionRequest, context: Context) -> pb.SipStatus:
        status = await self._accounts.start_session(
            request.account_name, request.auto_answer_interval, context.time_remaining
        )
        return converters.sip_status(status)

    @_rpc
    async def SipEndSession(self, request: Empty, context: Context) -> pb.SipStatus:
        return converters.sip_status(await self._accounts.end_session(_scope(context), context.time_remaining))

    @_rpc
    async def SipStartCall(self, request: pb.SipStartCallRequest, context: Context) -> pb.SipStatus:
        status = await self._accounts.start_call(
            _scope(context), request.callee_id, dict(request.headers), context.time_remaining
        )
        return converters.sip_status(status)

    @_rpc
    async def SipEndCall(self, request: pb.SipEndCallRequest, context: Context) -> pb.SipStatus:
        status = await self._accounts.end_call(
            _scope(context),
            hard=request.hard_hangup,
            reason=converters.end_reason(request),
            amd=converters.amd_result(request),
            remaining=context.time_remaining,
        )
        return converters.sip_status(status)

    @_rpc
    async def SipTransferCall(self, request: pb.SipTransferCallRequest, context: Context) -> pb.SipStatus:
        status = await self._accounts.transfer_call(
            _scope(context),
            request.transfer_id,
            dict(request.headers),
            request.outcome_timeout_ms,
            context.time_remaining,
        )
        return converters.sip_status(status)

    @_rpc
    async def SipGetSipStatus(self, request: Empty, context: Context) -> pb.SipStatus:
        return converters.sip_status(self._accounts.status(_scope(context)))

    @_rpc
    async def SipGetSipStatusHistory(self, request: Empty, context: Context) -> pb.SipStatusHistoryResponse:
        return await converters.history_response(await self._accounts.lasting_history(_scope(context)))

    @_rpc
    async def SipPlayWavFiles(self, request: pb.SipPlayWavFilesRequest, context: Context) -> pb.SipStatus:
        status = await self._accounts.play_wav_files(_scope(context), request.wav_files, context.time_remaining)
        return converters.sip_status(status)

    @_rpc
    async def SipMute(self, request: Empty, context: Context) -> pb.SipStatus:
        return converters.sip_status(self._accounts.set_muted(_scope(context), True))

    @_rpc
    async def SipUnMute(self, request: Empty, context: Context) -> pb.SipStatus:
        return converters.sip_status(self._accounts.set_muted(_scope(context), False))

    @_rpc
    async def SipReportAnsweringMachineDetected(
        self, request: pb.SipReportAnsweringMachineDetectedRequest, context: Context
    ) -> pb.SipStatus:
        amd = converters.amd_result(request) or AmdResult()
        return converters.sip_status(self._accounts.report_machine(_scope(context), amd))

    @_rpc
    async def SipSetCallMediaControl(self, request: pb.SipSetCallMediaControlRequest, context: Context) -> pb.SipStatus:
        wanted = converters.media_request(request)
        return converters.sip_status(self._accounts.set_media_control(_scope(context), wanted))

    async def SipStreamCallAudio(  # type: ignore[override]  # grpc.aio takes a coroutine that writes by itself, too
        self, request_iterator: AsyncIterator[pb.SipCallAudioRequest], context: Context
    ) -> None:
        async def send(response: AudioResponse) -> None:
            try:
                if isinstance(response, AudioFrame):
                    await context.write(audio_message(response.pcm, response.sequence))
                else:
                    await context.write(converters.audio_response(response))
            except grpc.aio.BaseError as error:
                raise ClientGone("the client has gone") from error

        requests = converters.audio_requests(request_iterator)
        # On its own and first: a first write that is cancelled half way leaves gRPC believing that the initial metadata
        # has yet to go out, and its abort then fails without a word to the client, who waits for ever.
        await context.send_initial_metadata(())
        try:
            await self._accounts.stream_audio(_scope(context), requests, send)
        except Exception as error:
            code, details = rpc_error(error)
        else:
            return
        await context.abort(code, details)
