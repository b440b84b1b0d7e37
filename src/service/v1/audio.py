"""The gRPC servicer of ``sipcore.v1.CallAudio``: decode, one await, encode."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import grpc

from service import converters as metadata
from service.conversation import Conversations, ConverseConfig, ConverseResponse, Heard
from service.errors import CallControlUnauthenticated, ClientGone
from service.frames import audio_message
from service.generated.sipcore.v1 import audio_pb2 as pb
from service.generated.sipcore.v1.audio_pb2_grpc import CallAudioServicer
from service.media_control import UNAUTHENTICATED
from service.recording_streams import Chunk, RecordingResponse, RecordingStreams
from service.v1 import audio_wire, lookup
from service.v1.refusals import refusal
from sipcore.errors import InvalidRequest

if TYPE_CHECKING:
    from service.accounts import Accounts, Scope
    from service.recordings import Recordings

__all__ = ["CallAudio"]

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Response = TypeVar("Response")


class CallAudio(CallAudioServicer):
    """``sipcore.v1.CallAudio`` over :class:`service.accounts.Accounts`."""

    def __init__(self, accounts: Accounts, recordings: Recordings) -> None:
        self._accounts = accounts
        self._conversations = Conversations(accounts.places)
        self._recordings = recordings
        self._recording_streams = RecordingStreams(accounts.places, recordings)

    async def Converse(  # type: ignore[override]  # grpc.aio takes a coroutine that writes by itself, too
        self, request_iterator: AsyncIterator[pb.ConverseRequest], context: Context
    ) -> None:
        async def send(response: ConverseResponse) -> None:
            try:
                if isinstance(response, Heard):
                    await context.write(audio_message(response.pcm, response.sequence))
                else:
                    await context.write(audio_wire.response(response))
            except grpc.aio.BaseError as error:
                raise ClientGone("the client has gone") from error

        about: dict[str, str] = {}
        requests = audio_wire.requests(request_iterator)
        # On its own and first: see SipStreamCallAudio.
        await context.send_initial_metadata(())
        try:
            first = await self._conversations.first(requests)
            scope = self._admitted(context)
            if not isinstance(first, ConverseConfig):
                raise InvalidRequest("must be the first request, within 2 s", field="config")
            about["call_id"] = first.call_id
            config = first.checked()
            found = lookup.find_call(self._accounts, config.call_id, scope.account)
            await self._conversations.run(found.call, config, requests, send)
        except Exception as error:
            refused = refusal(error, about)
        else:
            return
        await context.abort(refused.code, refused.details, refused.metadata)

    async def StartRecording(self, request: pb.StartRecordingRequest, context: Context) -> pb.Recording:
        async def start(scope: Scope) -> pb.Recording:
            found = lookup.find_call(self._accounts, request.call_id, scope.account)
            return audio_wire.recording(self._recordings.start(found.call, request.file_name, mono=request.mono))

        return await self._answer(context, {"call_id": request.call_id}, start)

    async def StreamRecording(  # type: ignore[override]  # grpc.aio takes a coroutine that writes by itself, too
        self, request: pb.StreamRecordingRequest, context: Context
    ) -> None:
        async def send(response: RecordingResponse) -> None:
            try:
                if isinstance(response, Chunk):
                    await context.write(audio_message(response.pcm, response.position))
                else:
                    await context.write(audio_wire.recording_response(response))
            except grpc.aio.BaseError as error:
                raise ClientGone("the client has gone") from error

        # On its own and first: see SipStreamCallAudio.
        await context.send_initial_metadata(())
        try:
            scope = self._admitted(context)
            config = audio_wire.recording_config(request).checked()
            found = lookup.find_call(self._accounts, config.call_id, scope.account)
            await self._recording_streams.run(found.call, config, send)
        except Exception as error:
            refused = refusal(error, {"call_id": request.call_id})
        else:
            return
        await context.abort(refused.code, refused.details, refused.metadata)

    async def PauseRecording(self, request: pb.PauseRecordingRequest, context: Context) -> pb.Recording:
        async def pause(scope: Scope) -> pb.Recording:
            return audio_wire.recording(self._recordings.pause(request.recording_id, paused=request.paused))

        return await self._answer(context, {}, pause)

    async def StopRecording(self, request: pb.StopRecordingRequest, context: Context) -> pb.Recording:
        async def stop(scope: Scope) -> pb.Recording:
            return audio_wire.recording(await self._recordings.stop(request.recording_id))

        return await self._answer(context, {}, stop)

    async def _answer(
        self, context: Context, about: dict[str, str], method: Callable[[Scope], Awaitable[Response]]
    ) -> Response:
        try:
            return await method(self._admitted(context))
        except Exception as error:
            refused = refusal(error, about)
        return await context.abort(refused.code, refused.details, refused.metadata)

    def _admitted(self, context: Context) -> Scope:
        scope = metadata.scope(context.invocation_metadata())
        if not self._accounts.admits(scope.token):
            raise CallControlUnauthenticated(UNAUTHENTICATED)
        return scope
