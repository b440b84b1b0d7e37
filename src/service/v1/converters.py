"""Between the wire of ``sipcore.v1`` and the domain: the only file that names both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from google.protobuf.timestamp_pb2 import Timestamp

from service import journal
from service.generated.sipcore.v1 import events_pb2, resources_pb2, telephony_pb2
from service.status import Status
from service.views import AccountView, Binding, CallView, SessionView, Silence, Unbound
from sipcore import events
from sipcore.call import CallState
from sipcore.errors import InvalidRequest
from sipcore.protocol.identity import Caller

if TYPE_CHECKING:
    from rtp.statistics import StreamStatistics

__all__ = [
    "account",
    "call",
    "call_ended",
    "caller",
    "dtmf_method",
    "event",
    "lost",
    "reason",
    "session",
    "started",
    "statistics",
]

STATES = {
    CallState.TRYING: resources_pb2.Call.TRYING,
    CallState.RINGING: resources_pb2.Call.RINGING,
    CallState.CONNECTED: resources_pb2.Call.CONNECTED,
    CallState.ENDING: resources_pb2.Call.ENDING,
    CallState.ENDED: resources_pb2.Call.ENDING,  # its end is recorded in a moment
}
CAUSES = {cause: events_pb2.CallEnded.Cause.Value(cause.name) for cause in events.EndCause}
PARTIES = {party: events_pb2.Party.Value(party.name) for party in events.Party}
GAPS = {cause: telephony_pb2.WatchLost.Cause.Value(cause.name) for cause in journal.GapCause}
HEARD_BY = {"rfc4733": events_pb2.RFC4733, "info": events_pb2.INFO, "inband": events_pb2.INBAND}
SEND_BY: dict[int, Literal["auto", "rfc4733", "info"]] = {
    events_pb2.DTMF_METHOD_UNSPECIFIED: "auto",
    events_pb2.RFC4733: "rfc4733",
    events_pb2.INFO: "info",
}


# -- requests -----------------------------------------------------------------------------------------------------


def caller(request: telephony_pb2.PlaceCallRequest) -> Caller:
    """Who a call is to be from.

    Raises:
        InvalidRequest: a value that cannot be sent.
    """
    return Caller(
        from_user=request.from_user if request.HasField("from_user") else None,
        display_name=request.display_name if request.HasField("display_name") else None,
        privacy=tuple(request.privacy) or None,
        anonymous=request.anonymous if request.HasField("anonymous") else None,
    )


def dtmf_method(number: int) -> Literal["auto", "rfc4733", "info"]:
    """How keys are to travel.

    Raises:
        InvalidRequest: none that keys are sent by.
    """
    method = SEND_BY.get(number)
    if method is None:
        raise InvalidRequest(f"method: keys are not sent by method {number}", field="method")
    return method


def reason(request: telephony_pb2.HangUpCallRequest) -> events.Reason | None:
    """What the far end is to be told; None where the client does not say.

    Raises:
        InvalidHeader: it cannot be written into a Reason header field.
    """
    if not request.HasField("reason"):
        return None
    wire = request.reason
    return events.Reason(wire.protocol, wire.cause, wire.text)


# -- resources ----------------------------------------------------------------------------------------------------


def account(view: AccountView) -> resources_pb2.Account:
    """One account."""
    return resources_pb2.Account(
        account=view.account,
        registration=_registration(view.binding),
        session_open=view.session_open,
        call_ids=view.call_ids,
    )


def _registration(binding: Binding | Unbound | None) -> resources_pb2.Registration:
    registration = resources_pb2.Registration
    if binding is None:
        return registration(state=registration.PENDING)
    if isinstance(binding, Unbound):
        return registration(state=registration.UNREGISTERED)
    return registration(
        state=registration.REGISTERED if binding.registered else registration.FAILED,
        sip_code=binding.code,
        description=binding.description,
        error=binding.error,
        retry_in_seconds=binding.retry_in or 0.0,
    )


def session(view: SessionView) -> resources_pb2.Session:
    """One open session."""
    return resources_pb2.Session(
        account=view.account, auto_answer_interval=view.auto_answer_interval, call_id=view.call_id
    )


def call(view: CallView) -> resources_pb2.Call:
    """One call."""
    return resources_pb2.Call(
        call_id=view.call_id,
        account=view.account,
        direction=resources_pb2.Call.OUTGOING if view.outgoing else resources_pb2.Call.INCOMING,
        state=STATES[view.state],
        remote=view.remote,
        sip_call_id=view.sip_call_id,
        start_time=_time(view.begun_us),
        answer_time=_time(view.answered_us) if view.answered_us else None,
        headers=view.headers,
        codec=view.codec,
        held=view.held,
        held_by_remote=view.held_by_remote,
        mute=_mute(view.silence),
        consultation_for=view.consultation_for,
    )


def _mute(silence: Silence) -> resources_pb2.Mute:
    return resources_pb2.Mute(microphone=silence.microphone, bot=silence.bot, listening=silence.listening)


def statistics(counted: StreamStatistics, codec: str) -> resources_pb2.CallStatistics:
    """The counters of one call."""
    return resources_pb2.CallStatistics(
        codec=codec,
        packets_sent=counted.packets_sent,
        packets_received=counted.packets_received,
        packets_lost=counted.lost,
        loss=counted.loss,
        packets_late=counted.late,
        packets_duplicated=counted.duplicates,
        packets_reordered=counted.reordered,
        jitter_ms=counted.jitter_ms,
        frames_concealed=counted.concealed,
        buffer_ms=counted.delay_ms,
        round_trip_ms=counted.round_trip_ms,
        remote_packets_lost=counted.remote_lost,
        remote_loss=counted.remote_loss,
        remote_jitter_ms=counted.remote_jitter_ms,
        mos=counted.mos,
        reports_sent=counted.reports_sent,
        reports_received=counted.reports_received,
        srtp=counted.srtp,
        packets_unauthenticated=counted.unauthenticated,
    )


def _time(microseconds: int) -> Timestamp:
    stamp = Timestamp()
    stamp.FromMicroseconds(microseconds)
    return stamp


# -- events -------------------------------------------------------------------------------------------------------


def started(written: journal.Journal) -> telephony_pb2.WatchResponse:
    """The first message of a watch."""
    return telephony_pb2.WatchResponse(
        started=telephony_pb2.WatchStarted(
            epoch=written.epoch, newest_sequence=written.newest, oldest_sequence=written.oldest
        )
    )


def lost(gap: journal.Gap) -> telephony_pb2.WatchResponse:
    """What stands for missing events."""
    return telephony_pb2.WatchResponse(
        lost=telephony_pb2.WatchLost(
            cause=GAPS[gap.cause], count=gap.count, first_sequence=gap.first, last_sequence=gap.last
        )
    )


def event(entry: journal.Entry) -> telephony_pb2.WatchResponse:
    """One entry of the journal."""
    message = events_pb2.Event(
        sequence=entry.sequence, time=_time(entry.time_us), account=entry.account, call_id=entry.call_id
    )
    _tell(message, entry.what)
    return telephony_pb2.WatchResponse(event=message)


def _tell(message: events_pb2.Event, what: journal.Happening) -> None:
    match what:
        case Status():
            message.transition.CopyFrom(_transition(what))
        case journal.AccountAdded():
            message.account_added.SetInParent()
        case journal.AccountRemoved():
            message.account_removed.SetInParent()
        case Binding() | Unbound():
            message.registration_changed.CopyFrom(_registration(what))
        case journal.CallOver():
            message.call_ended.CopyFrom(call_ended(what))
        case journal.CallBegan(view):
            message.call_started.call.CopyFrom(call(view))
        case journal.HeldByUs(held):
            message.hold_changed.by, message.hold_changed.held = events_pb2.LOCAL, held
        case Silence():
            message.mute_changed.CopyFrom(_mute(what))
        case journal.RecordingBroken(file, seconds, description):
            message.recording_failed.CopyFrom(
                events_pb2.RecordingFailed(file=file, seconds=seconds, description=description)
            )
        case journal.Written(method, content_type, body, size):
            message.message_received.CopyFrom(
                events_pb2.MessageReceived(method=method, content_type=content_type, body=body, body_size=size)
            )
        case _:
            _tell_call_event(message, what)


def _tell_call_event(
    message: events_pb2.Event,
    what: events.CallRinging
    | events.CallAnswered
    | events.CallHeld
    | events.CallResumed
    | events.DtmfReceived
    | events.MediaQuality
    | events.TransferProgress
    | events.CallReplaced,
) -> None:
    match what:
        case events.CallRinging(code, phrase, early_media):
            message.call_ringing.CopyFrom(
                events_pb2.CallRinging(sip_code=code, reason_phrase=phrase, early_media=early_media)
            )
        case events.CallAnswered(codec, headers, srtp):
            message.call_answered.CopyFrom(events_pb2.CallAnswered(codec=codec, headers=headers, srtp=srtp))
        case events.CallHeld():
            message.hold_changed.by, message.hold_changed.held = events_pb2.REMOTE, True
        case events.CallResumed():
            message.hold_changed.by, message.hold_changed.held = events_pb2.REMOTE, False
        case events.DtmfReceived(digit, duration_ms, method):
            message.dtmf_received.CopyFrom(
                events_pb2.DtmfReceived(digit=digit, duration_ms=duration_ms, method=HEARD_BY[method])
            )
        case events.MediaQuality():
            message.media_quality.CopyFrom(_quality(what))
        case events.TransferProgress(code, phrase):
            message.transfer_progress.CopyFrom(events_pb2.TransferProgress(sip_code=code, reason_phrase=phrase))
        case events.CallReplaced(sip_call_id):
            message.call_replaced.by_sip_call_id = sip_call_id


def _quality(heard: events.MediaQuality) -> events_pb2.MediaQuality:
    return events_pb2.MediaQuality(
        packets_received=heard.received,
        packets_lost=heard.lost,
        packets_late=heard.late,
        loss=heard.loss,
        frames_concealed=heard.concealed,
        jitter_ms=heard.jitter_ms,
        buffer_ms=heard.delay_ms,
        round_trip_ms=heard.round_trip_ms,
        remote_loss=heard.remote_loss,
        mos=heard.mos,
    )


def _transition(status: Status) -> events_pb2.Transition:
    return events_pb2.Transition(
        status_type=status.type.name,
        description=status.description,
        exception_name=status.exception,
        sip_code=status.sip_code,
        callee=status.callee,
        transfer_target=status.transfer_target,
    )


def call_ended(over: journal.CallOver) -> events_pb2.CallEnded:
    """How a call ended."""
    ended = over.ended
    return events_pb2.CallEnded(
        cause=CAUSES[ended.cause],
        by=PARTIES[ended.by],
        sip_code=ended.code,
        description=ended.description,
        reasons=[events_pb2.Reason(protocol=one.protocol, cause=one.cause, text=one.text) for one in ended.reason],
        early_media=ended.early_media,
        answered=over.answered,
        answered_elsewhere=ended.answered_elsewhere,
        error=over.error,
        statistics=statistics(over.statistics, over.codec) if over.statistics is not None else None,
    )
