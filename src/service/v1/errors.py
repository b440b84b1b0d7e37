"""What this service refuses by itself; the names of the classes are the reasons of its refusals."""

from __future__ import annotations

from sipcore.errors import CallError, SipError

__all__ = [
    "AccountNotFound",
    "AmbiguousCall",
    "CallNotFound",
    "CallNotRinging",
    "ConsultationInProgress",
    "NoConsultation",
    "NotFound",
    "SessionNotFound",
]


class NotFound(SipError):
    """Base: the request is about something that is not there."""


class AccountNotFound(NotFound):
    """The account was never registered at this server, or was removed."""


class SessionNotFound(NotFound):
    """No session is open for the account."""


class CallNotFound(NotFound):
    """There is no such call, or it is over."""


class AmbiguousCall(CallError):
    """Calls of several accounts have this id, and the request does not say whose it means."""


class CallNotRinging(CallError):
    """The call is none that rings here."""


class ConsultationInProgress(CallError):
    """The call has a consultation already, or is one."""


class NoConsultation(CallError):
    """The call has no consultation that was answered."""
