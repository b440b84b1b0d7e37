"""``sipcore/v1/audio.proto`` and the domain: the only file that names both."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.conversation import (
    Clear,
    Cleared,
    ConverseConfig,
    ConverseRequest,
    ConverseResponse,
    Ended,
    Heard,
    MarkReached,
    Say,
    SetMark,
    Started,
    Stats,
)
from service.generated.sipcore.v1 import audio_pb2 as pb
from service.recording_streams import Chunk, RecordingConfig, RecordingResponse
from service.recording_streams import Ended as RecordingEnded
from service.recording_streams import Started as RecordingStarted
from sipcore.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from service.recordings import RecordingView

__all__ = ["recording", "recording_config", "recording_response", "requests", "response"]


async def requests(wire: AsyncIterator[pb.ConverseRequest]) -> AsyncIterator[ConverseRequest]:
    """What the client sends; kinds that this server does not know are passed over."""
    async for request in wire:
        match request.WhichOneof("request"):
            case "audio":
                yield Say(request.audio)
            case "clear":
                yield Clear()
            case "mark":
                yield SetMark(request.mark.name)
            case "config":
                yield _config(request.config)


def _config(wire: pb.ConverseConfig) -> ConverseConfig:
    if wire.hearing not in pb.ConverseConfig.Hearing.values():
        raise InvalidRequest(f"{wire.hearing} is neither FAR_END nor BOTH_SIDES", field="config.hearing")
    return ConverseConfig(
        call_id=wire.call_id,
        rate=wire.sample_rate_hz,
        frame_ms=wire.frame_ms,
        both=wire.hearing == pb.ConverseConfig.BOTH_SIDES,
        max_queue_ms=wire.max_queue_ms,
    )


def response(found: ConverseResponse) -> pb.ConverseResponse:
    """One response as it goes out."""
    match found:
        case Heard(pcm, sequence):
            return pb.ConverseResponse(audio=pb.AudioHeard(pcm_s16le=pcm, sequence=sequence))
        case MarkReached(name, cleared, position):
            return pb.ConverseResponse(mark=pb.MarkReached(name=name, cleared=cleared, position=position))
        case Cleared(thrown_away_ms, position):
            return pb.ConverseResponse(cleared=pb.AudioCleared(thrown_away_ms=thrown_away_ms, position=position))
        case Stats():
            return pb.ConverseResponse(
                stats=pb.ConverseStats(
                    frames_sent=found.sent,
                    ticks_dropped=found.dropped,
                    position=found.position,
                    queued_ms=found.queued_ms,
                    underruns=found.underruns,
                )
            )
        case Started(config):
            return pb.ConverseResponse(
                started=pb.ConverseStarted(
                    sample_rate_hz=config.rate, frame_ms=config.frame_ms, max_queue_ms=config.max_queue_ms
                )
            )
        case Ended(reason, detail):
            number = pb.ConverseEnded.Reason.ValueType(reason)
            return pb.ConverseResponse(ended=pb.ConverseEnded(reason=number, detail=detail))


def recording(view: RecordingView) -> pb.Recording:
    """A recording as of now."""
    return pb.Recording(
        recording_id=view.recording_id,
        call_id=view.call_id,
        file_name=view.file_name,
        seconds=view.seconds,
        paused=view.paused,
        ended=view.ended,
        error=view.error,
    )


def recording_config(request: pb.StreamRecordingRequest) -> RecordingConfig:
    """How a recording is to be streamed."""
    return RecordingConfig(request.call_id, request.mono, request.chunk_ms, request.max_behind_ms)


def recording_response(found: RecordingResponse) -> pb.StreamRecordingResponse:
    """One response as it goes out."""
    match found:
        case Chunk(pcm, position):
            return pb.StreamRecordingResponse(chunk=pb.RecordingChunk(pcm_s16le=pcm, position=position))
        case RecordingStarted(recording_id, config, rate):
            started = pb.RecordingStarted(
                recording_id=recording_id,
                sample_rate_hz=rate,
                channels=1 if config.mono else 2,
                chunk_ms=config.chunk_ms,
            )
            return pb.StreamRecordingResponse(started=started)
        case RecordingEnded(reason, detail, seconds):
            number = pb.RecordingEnded.Reason.ValueType(reason)
            return pb.StreamRecordingResponse(ended=pb.RecordingEnded(reason=number, detail=detail, seconds=seconds))
