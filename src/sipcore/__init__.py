"""An asyncio SIP user agent: accounts, calls and their audio in one pure-Python process.

.. code-block:: python

    async with UserAgent() as agent:
        account = await agent.register(Account("sip:alice@example.com", password="secret"))
        async with await account.call("sip:bob@example.com", timeout=30) as call:
            await call.play("welcome.wav")
"""

from __future__ import annotations

from sipcore.broadcast import Lost
from sipcore.call import Call, CallState
from sipcore.config import Account, CallPolicy, Limits, Timers, TlsConfig, UserAgentConfig
from sipcore.errors import (
    AccountNotRegistered,
    AtCapacity,
    AuthenticationFailed,
    CallCancelled,
    CallError,
    CallInProgress,
    CallRejected,
    CallTimeout,
    HoldRejected,
    InvalidAddress,
    InvalidAudio,
    InvalidHeader,
    InvalidRequest,
    MediaNotAcceptable,
    NoOngoingCall,
    RegistrationError,
    RegistrationRejected,
    RegistrationTimeout,
    RequestRejected,
    RequestTimeout,
    ServerUnreachable,
    SipError,
    TalkInProgress,
    TransferError,
    TransferRejected,
    TransferTimeout,
)
from sipcore.events import (
    CallAnswered,
    CallEnded,
    CallEvent,
    CallHeld,
    CallReplaced,
    CallResumed,
    CallRinging,
    Capabilities,
    DtmfReceived,
    EndCause,
    InfoReceived,
    MediaQuality,
    MessageReceived,
    Party,
    Reason,
    RecordingFailed,
    Registered,
    RegistrationEvent,
    RegistrationFailed,
    TransferProgress,
    Unregistered,
)
from sipcore.media import AudioStream, Mark, Recording, RecordingStream
from sipcore.net.trace import Trace
from sipcore.presets import Preset, preset, preset_names
from sipcore.protocol.admission import TrafficStatistics
from sipcore.protocol.identity import Caller
from sipcore.registration import Registration
from sipcore.sounds import AudioSource, KeyTones, Mixed, Samples, Tone
from sipcore.transfer import ReferRequest, Transfer
from sipcore.tuning import tune_interpreter
from sipcore.useragent import UserAgent

__all__ = [
    "Account",
    "AccountNotRegistered",
    "AtCapacity",
    "AudioSource",
    "AudioStream",
    "AuthenticationFailed",
    "Call",
    "CallAnswered",
    "CallCancelled",
    "CallEnded",
    "CallError",
    "CallEvent",
    "CallHeld",
    "CallInProgress",
    "CallPolicy",
    "CallRejected",
    "CallReplaced",
    "CallResumed",
    "CallRinging",
    "CallState",
    "CallTimeout",
    "Caller",
    "Capabilities",
    "DtmfReceived",
    "EndCause",
    "HoldRejected",
    "InfoReceived",
    "InvalidAddress",
    "InvalidAudio",
    "InvalidHeader",
    "InvalidRequest",
    "KeyTones",
    "Limits",
    "Lost",
    "Mark",
    "MediaNotAcceptable",
    "MediaQuality",
    "MessageReceived",
    "Mixed",
    "NoOngoingCall",
    "Party",
    "Preset",
    "Reason",
    "Recording",
    "RecordingFailed",
    "RecordingStream",
    "ReferRequest",
    "Registered",
    "Registration",
    "RegistrationError",
    "RegistrationEvent",
    "RegistrationFailed",
    "RegistrationRejected",
    "RegistrationTimeout",
    "RequestRejected",
    "RequestTimeout",
    "Samples",
    "ServerUnreachable",
    "SipError",
    "TalkInProgress",
    "Timers",
    "TlsConfig",
    "Tone",
    "Trace",
    "TrafficStatistics",
    "Transfer",
    "TransferError",
    "TransferProgress",
    "TransferRejected",
    "TransferTimeout",
    "Unregistered",
    "UserAgent",
    "UserAgentConfig",
    "preset",
    "preset_names",
    "tune_interpreter",
]
