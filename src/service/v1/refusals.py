"""Exception → gRPC status code with ``google.rpc`` details: the only file that knows them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from service.errors import (
    AudioStreamLimit,
    CallControlUnauthenticated,
    ClientGone,
    NoSession,
    ParticipantsPresent,
    PortUnauthenticated,
    ServerStopping,
    TransferInProgress,
    report_bug,
    shortened,
)
from service.v1.errors import (
    AmbiguousCall,
    CallNotRinging,
    ConsultationInProgress,
    NoConsultation,
    NotFound,
    RecordingExists,
    RecordingLimit,
    RecordingNotWritable,
    RecordingsDisabled,
    WatchLimit,
)
from sipcore.errors import (
    AccountNotRegistered,
    AtCapacity,
    CallInProgress,
    InvalidRequest,
    NoOngoingCall,
    SipError,
    TalkInProgress,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.protobuf.message import Message

__all__ = ["DOMAIN", "Refusal", "code_of", "reason_of", "refusal"]

DOMAIN = "sipcore"
"""Of every ``google.rpc.ErrorInfo``."""

RETRY_AFTER_STOP = 5
"""Seconds after which a server that stops may have been started again."""
RETRY_FULL = 10
"""Seconds after which some calls may have ended."""
RETRY_PENDING = 2
"""Seconds after which a far end that had a request pending may take another (RFC 3261 §14.1: 2.1 to 4 s)."""

CODES: tuple[tuple[type[Exception] | tuple[type[Exception], ...], grpc.StatusCode], ...] = (
    (InvalidRequest, grpc.StatusCode.INVALID_ARGUMENT),
    (NotFound, grpc.StatusCode.NOT_FOUND),
    ((CallControlUnauthenticated, PortUnauthenticated), grpc.StatusCode.UNAUTHENTICATED),
    (ServerStopping, grpc.StatusCode.UNAVAILABLE),
    (RecordingExists, grpc.StatusCode.ALREADY_EXISTS),
    ((AtCapacity, AudioStreamLimit, RecordingLimit, TalkInProgress, WatchLimit), grpc.StatusCode.RESOURCE_EXHAUSTED),
    (
        (
            AccountNotRegistered,
            AmbiguousCall,
            CallInProgress,
            CallNotRinging,
            ConsultationInProgress,
            NoConsultation,
            NoOngoingCall,
            NoSession,
            ParticipantsPresent,
            RecordingNotWritable,
            RecordingsDisabled,
            TransferInProgress,
        ),
        grpc.StatusCode.FAILED_PRECONDITION,
    ),
    # The far end, or a server on the way, said no, or nothing.
    ((SipError, ClientGone), grpc.StatusCode.ABORTED),
)
"""The first row that fits an exception counts; one that fits none is a bug of ours."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """What ``context.abort`` is called with."""

    code: grpc.StatusCode
    details: str
    metadata: tuple[tuple[str, str | bytes], ...]


def code_of(error: Exception) -> grpc.StatusCode:
    """The status code of a refusal."""
    return next((code for kinds, code in CODES if isinstance(error, kinds)), grpc.StatusCode.INTERNAL)


def reason_of(error: Exception) -> str:
    """The stable name of what went wrong: that of the exception, as ``ErrorInfo.reason`` is written."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(error).__name__).upper()


def refusal(error: Exception, about: Mapping[str, str]) -> Refusal:
    """The refusal that an exception becomes.

    Args:
        error: what ended the request.
        about: what the request is about: ``call_id``, ``account``; empty values are left out.
    """
    code = code_of(error)
    if code is grpc.StatusCode.INTERNAL:
        return _packed(code, report_bug(error), [_info("INTERNAL", {})])
    text = shortened(str(error)) or "the server is shutting down"
    metadata = {name: shortened(value) for name, value in about.items() if value}
    if isinstance(error, SipError) and error.code:
        metadata["sip_code"] = str(error.code)
    return _packed(code, text, [_info(reason_of(error), metadata), *_more(error)])


def _info(reason: str, metadata: Mapping[str, str]) -> Message:
    info: Message = error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=metadata)
    return info


def _more(error: Exception) -> list[Message]:
    match error:
        case InvalidRequest():
            violation = error_details_pb2.BadRequest.FieldViolation(
                field=error.field, description=shortened(str(error).removeprefix(f"{error.field}: "))
            )
            return [error_details_pb2.BadRequest(field_violations=[violation])]
        case ServerStopping():
            return [_retry_in(RETRY_AFTER_STOP)]
        case AtCapacity():
            return [_retry_in(RETRY_FULL)]
        case SipError(code=491):
            return [_retry_in(RETRY_PENDING)]
        case _:
            return []


def _retry_in(seconds: int) -> Message:
    info: Message = error_details_pb2.RetryInfo(retry_delay=Duration(seconds=seconds))
    return info


def _packed(code: grpc.StatusCode, text: str, details: list[Message]) -> Refusal:
    rich = status_pb2.Status(code=code.value[0], message=text)
    for detail in details:
        rich.details.add().Pack(detail)
    status = rpc_status.to_status(rich)
    return Refusal(code, text, tuple(status.trailing_metadata))
