"""The gRPC servicer of ``sipcore.v1.Telephony``: decode, one await, encode."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, TypeVar

import grpc

from service import converters as metadata
from service import views
from service.accounts import Accounts, Scope
from service.errors import CallControlUnauthenticated, ClientGone, ServerStopping
from service.generated.sipcore.v1 import events_pb2, resources_pb2, telephony_pb2
from service.generated.sipcore.v1.telephony_pb2_grpc import TelephonyServicer
from service.journal import CallOver, Gap
from service.media_control import UNAUTHENTICATED
from service.v1 import calls, consultations, converters, lookup
from service.v1.errors import WatchLimit
from service.v1.refusals import refusal

__all__ = ["Telephony"]

Request = TypeVar("Request")
Response = TypeVar("Response")
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Method: TypeAlias = "Callable[[Telephony, Request, Context], Awaitable[Response]]"


def _rpc(method: Method[Request, Response]) -> Method[Request, Response]:
    """Asks for the token, and turns exceptions into refusals: one place for all methods."""

    @functools.wraps(method)
    async def answer(self: Telephony, request: Request, context: Context) -> Response:
        try:
            if not self.accounts.admits(_scope(context).token):
                raise CallControlUnauthenticated(UNAUTHENTICATED)
            return await method(self, request, context)
        except Exception as error:
            about = {name: str(getattr(request, name, "")) for name in ("call_id", "account")}
            refused = refusal(error, about)
        return await context.abort(refused.code, refused.details, refused.metadata)

    return answer


def _scope(context: Context) -> Scope:
    return metadata.scope(context.invocation_metadata())


class Telephony(TelephonyServicer):
    """``sipcore.v1.Telephony`` over :class:`service.accounts.Accounts`."""

    def __init__(self, accounts: Accounts, max_watches: int = 1000) -> None:
        self.accounts = accounts
        self._max_watches = max_watches
        self._watches = 0

    @_rpc
    async def Watch(  # type: ignore[override]  # grpc.aio takes a coroutine that writes by itself, too
        self, request: telephony_pb2.WatchRequest, context: Context
    ) -> None:
        accounts = lookup.keys_of(request.accounts)
        if self._watches >= self._max_watches:
            raise WatchLimit(f"the server carries {self._max_watches} watches at most")
        self._watches += 1
        try:
            await self._watch(request, accounts, context)
        finally:
            self._watches -= 1

    async def _watch(self, request: telephony_pb2.WatchRequest, accounts: frozenset[str], context: Context) -> None:
        journal = self.accounts.journal
        after = request.after_sequence if request.HasField("after_sequence") else None
        reader = journal.read(after, epoch=request.epoch, accounts=accounts)
        begun = converters.started(journal)
        # On its own and first: see SipStreamCallAudio.
        await context.send_initial_metadata(())
        try:
            await context.write(begun)
            while (item := await reader.next()) is not None:
                await context.write(converters.lost(item) if isinstance(item, Gap) else converters.event(item))
        except grpc.aio.BaseError as error:
            raise ClientGone("the client has gone") from error
        raise ServerStopping

    # -- accounts and sessions ---------------------------------------------------------------------------------

    @_rpc
    async def ListAccounts(
        self, request: telephony_pb2.ListAccountsRequest, context: Context
    ) -> telephony_pb2.ListAccountsResponse:
        accounts = [converters.account(views.account_view(line)) for line in self.accounts.lines]
        return telephony_pb2.ListAccountsResponse(accounts=accounts)

    @_rpc
    async def GetAccount(self, request: telephony_pb2.GetAccountRequest, context: Context) -> resources_pb2.Account:
        return converters.account(views.account_view(lookup.find_account(self.accounts, request.account)))

    @_rpc
    async def RemoveAccount(
        self, request: telephony_pb2.RemoveAccountRequest, context: Context
    ) -> telephony_pb2.RemoveAccountResponse:
        await self.accounts.remove(lookup.find_account(self.accounts, request.account))
        return telephony_pb2.RemoveAccountResponse()

    @_rpc
    async def ListSessions(
        self, request: telephony_pb2.ListSessionsRequest, context: Context
    ) -> telephony_pb2.ListSessionsResponse:
        lines = [line for line in self.accounts.lines if line.session_open]
        return telephony_pb2.ListSessionsResponse(
            sessions=[converters.session(views.session_view(line)) for line in lines]
        )

    @_rpc
    async def GetSession(self, request: telephony_pb2.GetSessionRequest, context: Context) -> resources_pb2.Session:
        return converters.session(views.session_view(lookup.find_session(self.accounts, request.account)))

    # -- calls -------------------------------------------------------------------------------------------------

    @_rpc
    async def ListCalls(
        self, request: telephony_pb2.ListCallsRequest, context: Context
    ) -> telephony_pb2.ListCallsResponse:
        lines = [lookup.find_account(self.accounts, request.account)] if request.account else self.accounts.lines
        found = [converters.call(views.call_view(line, call)) for line in lines for call in line.calls]
        return telephony_pb2.ListCallsResponse(calls=found)

    @_rpc
    async def GetCall(self, request: telephony_pb2.GetCallRequest, context: Context) -> resources_pb2.Call:
        return self._call(self._find(request.call_id, context))

    @_rpc
    async def GetCallStatistics(
        self, request: telephony_pb2.GetCallStatisticsRequest, context: Context
    ) -> resources_pb2.CallStatistics:
        call = self._find(request.call_id, context).call.call
        return converters.statistics(call.statistics(), call.codec)

    @_rpc
    async def PlaceCall(self, request: telephony_pb2.PlaceCallRequest, context: Context) -> resources_pb2.Call:
        self.accounts.check_running()
        line = lookup.find_account(self.accounts, request.account)
        caller = converters.caller(request)
        return self._call(calls.place(line, request.callee, dict(request.headers), request.ring_timeout_ms, caller))

    @_rpc
    async def AnswerCall(self, request: telephony_pb2.AnswerCallRequest, context: Context) -> resources_pb2.Call:
        found = self._find(request.call_id, context)
        await calls.answer(found)
        return self._call(found)

    @_rpc
    async def RejectCall(self, request: telephony_pb2.RejectCallRequest, context: Context) -> events_pb2.CallEnded:
        found = self._find(request.call_id, context)
        await calls.reject(found, request.sip_code, request.reason_phrase)
        return converters.call_ended(CallOver.of(found.call))

    @_rpc
    async def HangUpCall(self, request: telephony_pb2.HangUpCallRequest, context: Context) -> events_pb2.CallEnded:
        found = self._find(request.call_id, context)
        await calls.hang_up(found, converters.reason(request))
        return converters.call_ended(CallOver.of(found.call))

    @_rpc
    async def HoldCall(self, request: telephony_pb2.HoldCallRequest, context: Context) -> resources_pb2.Call:
        found = self._find(request.call_id, context)
        await calls.set_hold(found, held=True)
        return self._call(found)

    @_rpc
    async def ResumeCall(self, request: telephony_pb2.ResumeCallRequest, context: Context) -> resources_pb2.Call:
        found = self._find(request.call_id, context)
        await calls.set_hold(found, held=False)
        return self._call(found)

    @_rpc
    async def SendDtmf(
        self, request: telephony_pb2.SendDtmfRequest, context: Context
    ) -> telephony_pb2.SendDtmfResponse:
        method = converters.dtmf_method(request.method)
        await calls.send_dtmf(self._find(request.call_id, context), request.digits, method, request.duration_ms)
        return telephony_pb2.SendDtmfResponse()

    @_rpc
    async def StartConsultation(
        self, request: telephony_pb2.StartConsultationRequest, context: Context
    ) -> resources_pb2.Call:
        found = self._find(request.call_id, context)
        consultation = await consultations.start_consultation(
            found, request.callee, dict(request.headers), hold=not request.without_hold
        )
        return self._call(consultation)

    @_rpc
    async def TransferToConsultation(
        self, request: telephony_pb2.TransferToConsultationRequest, context: Context
    ) -> telephony_pb2.TransferToConsultationResponse:
        found = self._find(request.call_id, context)
        await consultations.transfer_to_consultation(found, dict(request.headers), request.timeout_ms)
        return telephony_pb2.TransferToConsultationResponse()

    # -- helpers -----------------------------------------------------------------------------------------------

    def _find(self, call_id: str, context: Context) -> lookup.Found:
        return lookup.find_call(self.accounts, call_id, _scope(context).account)

    @staticmethod
    def _call(found: lookup.Found) -> resources_pb2.Call:
        return converters.call(views.call_view(found.line, found.call))
