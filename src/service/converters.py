"""Between the wire and the domain: the only file that names both protobuf messages and our own types."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from enum import IntEnum
from typing import TypeVar, assert_never

from service.accounts import Scope
from service.audio_streams import (
    AgentMuted,
    AudioConfig,
    AudioFrame,
    AudioRequest,
    AudioResponse,
    Ended,
    Started,
    Stats,
)
from service.generated.ondewo.sip import sip_pb2
from service.levels import MediaRequest, Owner, Setting
from service.ongoing import EndReason
from service.status import AmdResult, Status
from sipcore.errors import InvalidRequest

__all__ = [
    "ACCOUNT_METADATA",
    "CONTROL_TOKEN_METADATA",
    "EXPECTED_CALL_ID_METADATA",
    "amd_result",
    "audio_requests",
    "audio_response",
    "end_reason",
    "history_response",
    "media_request",
    "scope",
    "sip_status",
]

ACCOUNT_METADATA = "x-sip-account"
EXPECTED_CALL_ID_METADATA = "x-ondewo-expected-call-id"
CONTROL_TOKEN_METADATA = "x-ondewo-sip-call-control-token"  # noqa: S105 - the name of it

Number = TypeVar("Number", bound=IntEnum)

MAX_AMD_BYTES = 16_384
"""What a client says about who answered; it stays in the history."""
STATUSES_AT_ONCE = 100
"""Converted between two turns of the loop: about 1 ms."""


def scope(metadata: Iterable[tuple[str, str | bytes]] | None) -> Scope:
    """What the metadata of a request say it is about. gRPC hands their names over in lower case."""
    values = {
        name: value.decode("utf-8", "replace") if isinstance(value, bytes) else value for name, value in metadata or ()
    }
    return Scope(
        account=values.get(ACCOUNT_METADATA),
        call_id=values.get(EXPECTED_CALL_ID_METADATA),
        token=values.get(CONTROL_TOKEN_METADATA),
    )


def end_reason(request: sip_pb2.SipEndCallRequest) -> EndReason:
    """Why to end the call; a number that this server does not know counts as unspecified (enums are open)."""
    try:
        return EndReason(request.end_reason)
    except ValueError:
        return EndReason.UNSPECIFIED


def amd_result(
    request: sip_pb2.SipEndCallRequest | sip_pb2.SipReportAnsweringMachineDetectedRequest,
) -> AmdResult | None:
    """What the client says about who answered; None where it says nothing.

    Raises:
        InvalidRequest: it says more than every status of the call can carry.
    """
    if not request.HasField("amd_result"):
        return None
    wire = request.amd_result
    if (size := wire.ByteSize()) > MAX_AMD_BYTES:
        raise InvalidRequest(f"{size} bytes, at most {MAX_AMD_BYTES} are allowed", field="amd_result")
    return AmdResult(
        verdict=wire.verdict,
        cause=wire.cause,
        confidence=wire.confidence,
        decision_ms=wire.decision_ms,
        rule_id=wire.rule_id,
        matched_cue_ids=tuple(wire.matched_cue_ids),
        action_taken=wire.action_taken,
        call_id=wire.call_id,
    )


def media_request(request: sip_pb2.SipSetCallMediaControlRequest) -> MediaRequest:
    """Who wants which levels; the unspecified owner is OPERATOR.

    Raises:
        InvalidRequest: a number that no owner or setting has.
    """
    return MediaRequest(
        owner=_enum(Owner, request.owner or Owner.OPERATOR, "owner"),
        voice=_enum(Setting, request.bot_voice, "bot_voice"),
        listening=_enum(Setting, request.bot_listening, "bot_listening"),
        participants_present=request.participants_present,
    )


def _enum(kind: type[Number], number: int, field: str) -> Number:
    try:
        return kind(number)
    except ValueError:
        raise InvalidRequest(f"{number} is none of 0 to {max(kind)}", field=field) from None


async def audio_requests(wire: AsyncIterator[sip_pb2.SipCallAudioRequest]) -> AsyncIterator[AudioRequest]:
    """The requests of a live audio stream; kinds that this server does not know are passed over."""
    async for request in wire:
        match request.WhichOneof("request"):
            case "audio":
                yield AudioFrame(request.audio.pcm_s16le, request.audio.sequence)
            case "agent_muted":
                yield AgentMuted(request.agent_muted)
            case "config":
                config = request.config
                yield AudioConfig(
                    mode=config.mode,
                    rate=config.sample_rate_hz,
                    frame_ms=config.frame_ms,
                    take_over=config.take_over,
                    stream_id=config.stream_id,
                    max_duration_s=config.max_duration_s,
                )


def audio_response(response: AudioResponse) -> sip_pb2.SipCallAudioResponse:
    """One response of a live audio stream as it goes out."""
    wire = sip_pb2.SipCallAudioResponse
    match response:
        case AudioFrame(pcm, sequence):
            return wire(audio=sip_pb2.SipCallAudioFrame(pcm_s16le=pcm, sequence=sequence))
        case Stats():
            return wire(
                stats=sip_pb2.SipCallAudioStats(
                    frames_sent=response.sent,
                    frames_dropped=response.dropped,
                    frames_received=response.received,
                    underruns=response.underruns,
                    frames_discarded=response.discarded,
                )
            )
        case Started(config):
            return wire(
                started=sip_pb2.SipCallAudioStarted(
                    stream_id=config.stream_id,
                    sample_rate_hz=config.rate,
                    frame_ms=config.frame_ms,
                    mode=sip_pb2.SipCallAudioMode.ValueType(config.mode),
                )
            )
        case Ended(reason, detail):
            number = sip_pb2.SipCallAudioEndReason.ValueType(reason)
            return wire(ended=sip_pb2.SipCallAudioEnded(reason=number, detail=detail))
        case _:
            assert_never(response)


def sip_status(status: Status) -> sip_pb2.SipStatus:
    """One status as it goes out."""
    wire = sip_pb2.SipStatus(
        account_name=status.account,
        status_type=sip_pb2.SipStatus.StatusType.ValueType(status.type),
        callee_id=status.callee,
        transfer_call_id=status.transfer_target,
        headers=status.headers,
        description=status.description,
        exception_name=status.exception,
        exception_traceback=status.traceback,
        call_id=status.call_id,
        bot_muted=status.bot_muted,
        listening_paused=status.listening_paused,
        call_audio_streams=status.audio_streams,
        sip_response_code=status.sip_code,
    )
    wire.timestamp.FromMicroseconds(status.timestamp_us)
    if (amd := status.amd) is not None:
        result = sip_pb2.AnsweringMachineDetectionResult
        wire.amd_result.CopyFrom(
            result(
                verdict=result.Verdict.ValueType(amd.verdict),
                cause=result.Cause.ValueType(amd.cause),
                confidence=amd.confidence,
                decision_ms=amd.decision_ms,
                rule_id=amd.rule_id,
                matched_cue_ids=amd.matched_cue_ids,
                action_taken=result.ActionTaken.ValueType(amd.action_taken),
                call_id=amd.call_id,
            )
        )
    return wire


async def history_response(statuses: Sequence[Status]) -> sip_pb2.SipStatusHistoryResponse:
    """A history as it goes out.

    A thousand statuses take about 9 ms: other work of the loop, above all the media clock, gets its turns between.
    """
    response = sip_pb2.SipStatusHistoryResponse()
    for start in range(0, len(statuses), STATUSES_AT_ONCE):
        response.status_history.extend(sip_status(status) for status in statuses[start : start + STATUSES_AT_ONCE])
        await asyncio.sleep(0)
    return response
