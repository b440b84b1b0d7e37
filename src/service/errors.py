"""What the service refuses by itself, and which gRPC code an exception becomes (CONTRACT §5)."""

from __future__ import annotations

import logging
import secrets

import grpc

from sipcore.errors import AtCapacity, CallError, InvalidRequest, NoOngoingCall, SipError, TalkInProgress, TransferError

__all__ = [
    "AudioStreamLimit",
    "CallControlUnauthenticated",
    "CallScopeMismatch",
    "ClientGone",
    "NoSession",
    "ParticipantsPresent",
    "PlaybackCancelled",
    "PortUnauthenticated",
    "RegistrationCancelled",
    "ServerStopping",
    "TransferCancelled",
    "TransferInProgress",
    "report_bug",
    "rpc_error",
    "shortened",
]

logger = logging.getLogger(__name__)

MAX_DETAILS = 300
"""Characters of a refusal's details."""


class NoSession(SipError):
    """No session is open for the account."""


class AudioStreamLimit(CallError):
    """No further live audio stream is carried."""


class ClientGone(Exception):
    """A client does not take what is sent to it."""


class CallControlUnauthenticated(CallError):
    """The request lacks the server's call control token, or brings another one."""


class PortUnauthenticated(SipError):
    """The request lacks a token of the gRPC port."""


class ParticipantsPresent(TransferError):
    """People have joined the call, and a transfer would take them along."""


class CallScopeMismatch(CallError):
    """The request was meant for another call than the ongoing one (``x-ondewo-expected-call-id``)."""


class PlaybackCancelled(CallError):
    """The client cancelled SipPlayWavFiles: playing stopped at the next frame."""


class RegistrationCancelled(SipError):
    """The client cancelled SipRegisterAccount."""


class TransferInProgress(TransferError):
    """Another transfer of this call is in flight."""


class TransferCancelled(TransferError):
    """The client cancelled SipTransferCall while its outcome was not known."""


class ServerStopping(Exception):
    """The server takes no new work."""


def rpc_error(error: Exception) -> tuple[grpc.StatusCode, str]:
    """The gRPC code and details for an exception that ends a request.

    A malformed request names its field. Anything unforeseen is a bug: INTERNAL with a reference, under which
    the traceback stands in the log; the details say nothing of its cause, which could hold a secret.
    """
    code, details = _rpc_error(error)
    return code, shortened(details)


def shortened(details: str) -> str:
    """What is said of a refusal, which may quote the request. It travels in the trailers: clients take 8 KiB of those,
    and where there is more they see RESOURCE_EXHAUSTED in place of the refusal."""
    return details if len(details) <= MAX_DETAILS else f"{details[: MAX_DETAILS - 1]}…"


def _rpc_error(error: Exception) -> tuple[grpc.StatusCode, str]:
    match error:
        case InvalidRequest():
            text = str(error)
            named = not error.field or text.startswith(error.field)
            return grpc.StatusCode.INVALID_ARGUMENT, text if named else f"{error.field}: {text}"
        case ServerStopping():
            return grpc.StatusCode.UNAVAILABLE, str(error) or "the server is shutting down"
        # Only SipStreamCallAudio raises these; elsewhere they are statuses.
        case CallControlUnauthenticated():
            return grpc.StatusCode.UNAUTHENTICATED, str(error)
        case CallScopeMismatch() | NoOngoingCall():
            return grpc.StatusCode.FAILED_PRECONDITION, str(error)
        case AudioStreamLimit() | TalkInProgress() | AtCapacity():
            return grpc.StatusCode.RESOURCE_EXHAUSTED, str(error)
        case ClientGone():
            return grpc.StatusCode.ABORTED, str(error)
        case _:
            return grpc.StatusCode.INTERNAL, report_bug(error)


def report_bug(error: BaseException) -> str:
    """Logs the traceback; what the client is told of it."""
    reference = secrets.token_hex(4)
    logger.error("internal error %s", reference, exc_info=error)
    return f"internal error {reference}: the server's log has the details"
