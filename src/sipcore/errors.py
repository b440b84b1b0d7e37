"""What can go wrong, as a tree that says who erred.

Every error carries ``code``: the SIP status code that caused it (RFC 3261 §21), or 0 where no response caused it.
``str(error)`` is one sentence for a person; it never holds a password, a digest value or audio.
"""

from __future__ import annotations

__all__ = [
    "AccountNotRegistered",
    "AtCapacity",
    "AuthenticationFailed",
    "CallCancelled",
    "CallError",
    "CallInProgress",
    "CallRejected",
    "CallTimeout",
    "HoldRejected",
    "InvalidAddress",
    "InvalidAudio",
    "InvalidHeader",
    "InvalidRequest",
    "MediaNotAcceptable",
    "NoOngoingCall",
    "RegistrationError",
    "RegistrationRejected",
    "RegistrationTimeout",
    "RequestRejected",
    "RequestTimeout",
    "ServerUnreachable",
    "SipError",
    "TalkInProgress",
    "TransferError",
    "TransferRejected",
    "TransferTimeout",
]


class SipError(Exception):
    """Base of every error this library raises on purpose.

    Args:
        message: one sentence for a person.
        code: the SIP status code behind it, 0 where there was none.
    """

    def __init__(self, message: str = "", *, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


# -- the caller erred: nothing was sent ---------------------------------------------------------------------------


class InvalidRequest(SipError, ValueError):
    """The caller's arguments are malformed; nothing was sent. ``field`` names the argument."""

    def __init__(self, message: str = "", *, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class InvalidAddress(InvalidRequest):
    """An account, callee or transfer target that is no address."""


class InvalidHeader(InvalidRequest):
    """A header name or value that may not be sent."""


class InvalidAudio(InvalidRequest):
    """Bytes or a file that hold no audio that can be played."""


class AccountNotRegistered(SipError):
    """The account is not, or no longer, registered."""


# -- signalling with a server failed ------------------------------------------------------------------------------


class ServerUnreachable(SipError):
    """No target could be reached: name not found, connection refused, ICMP error, TLS failure."""


class AuthenticationFailed(SipError):
    """The server refused the credentials (401/407 after a digest answer, or 403 to it)."""


class RegistrationError(SipError):
    """Base: a REGISTER failed."""


class RegistrationRejected(RegistrationError):
    """The registrar answered with a final refusal; ``code`` is its status code."""


class RegistrationTimeout(RegistrationError):
    """The registrar did not answer (RFC 3261 timer F, or 408)."""


class RequestRejected(SipError):
    """A MESSAGE or INFO was refused; ``code`` is the status code (300-699)."""


class RequestTimeout(SipError):
    """Nobody answered a MESSAGE, INFO or OPTIONS (RFC 3261 timer F)."""


# -- a call failed ------------------------------------------------------------------------------------------------


class CallError(SipError):
    """Base: a call could not be set up, or an operation on it failed."""


class CallRejected(CallError):
    """The far end, or a proxy, refused the call; ``code`` is its status code (300-699)."""


class AtCapacity(CallRejected):
    """This agent has no room for another call: ``max_calls``, ``max_load``, or no free RTP port; nothing was sent.

    ``code`` is 503.
    """


class CallTimeout(CallError):
    """Nobody answered in time: the INVITE timed out, 408, or the ring time ran out."""


class CallCancelled(CallError):
    """The call was abandoned before the answer (487)."""


class MediaNotAcceptable(CallError):
    """No codec or transport in common (488, or an answer this side cannot use)."""


class HoldRejected(CallError):
    """The far end did not take a hold or resume, or another wish of this side overtook it; the call goes on as it was.

    ``code`` is its status code, 0 where none came.
    """


class CallInProgress(CallError):
    """The account already has an ongoing call."""


class TalkInProgress(CallError):
    """Somebody else talks into the call already."""


class NoOngoingCall(CallError):
    """The call has ended, or is not connected yet."""


class TransferError(CallError):
    """Base: a REFER failed; the call goes on."""


class TransferRejected(TransferError):
    """REFER, or the referred call, was refused; ``code`` is the status code, 0 if unknown."""


class TransferTimeout(TransferError):
    """No outcome of the REFER was reported in time."""
