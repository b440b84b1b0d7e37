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
    "RecordingExists",
    "RecordingLimit",
    "RecordingNotFound",
    "RecordingNotWritable",
    "RecordingsDisabled",
    "SessionNotFound",
    "WatchLimit",
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


class RecordingNotFound(NotFound):
    """There is no such recording, or its call is over."""


class RecordingsDisabled(CallError):
    """The server has no folder for recordings."""


class RecordingExists(CallError):
    """There is a file of that name already."""


class RecordingNotWritable(CallError):
    """The file cannot be written."""


class WatchLimit(SipError):
    """The server carries no further watches."""


class RecordingLimit(CallError):
    """A call has no further recordings."""
