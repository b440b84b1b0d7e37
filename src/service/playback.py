"""SipPlayWavFiles on one account: check, decode off the loop, queue, wait to the end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from rtp.wav import INLINE_BYTES, MAX_SECONDS, AudioError, TooLong, decodes_quickly, load_wav
from service.errors import PlaybackCancelled
from service.line import Line
from service.status import Status, StatusType
from sipcore.errors import InvalidAudio, NoOngoingCall
from sipcore.sounds import Samples

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.ongoing import OngoingCall
    from sipcore.media import Playback

__all__ = ["check_size", "decode", "play_wav_files"]


def check_size(wav_files: Sequence[bytes], limit: int) -> None:
    """Refuses a list that is empty or too large, before anything is decoded.

    Raises:
        InvalidAudio: with the sizes in bytes.
    """
    if not wav_files:
        raise InvalidAudio("no file to play", field="wav_files")
    total = sum(len(data) for data in wav_files)
    if total > limit:
        raise InvalidAudio(
            f"{len(wav_files)} files of {total:,} bytes together are over the limit of {limit:,} bytes",
            field="wav_files",
        )


async def decode(wav_files: Sequence[bytes], rate: int = 8000) -> list[NDArray[np.int16]]:
    """Each file as int16 samples (n,), mono, at that rate, n >= 1.

    Raises:
        InvalidAudio: a file holds no audio, or the hours are too many; the field says which.
    """
    abandoned = threading.Event()
    if sum(len(data) for data in wav_files) <= INLINE_BYTES and all(map(decodes_quickly, wav_files)):
        return _decode(wav_files, rate, abandoned)
    try:
        return await asyncio.to_thread(_decode, wav_files, rate, abandoned)
    finally:
        abandoned.set()  # a thread is not cancelled with its request


def _decode(wav_files: Sequence[bytes], rate: int, abandoned: threading.Event) -> list[NDArray[np.int16]]:
    samples: list[NDArray[np.int16]] = []
    left = float(MAX_SECONDS)
    for number, data in enumerate(wav_files):
        try:
            samples.append(load_wav(data, rate, max_seconds=left, abandoned=abandoned.is_set))
        except TooLong as error:
            reason = f"all files together are longer than {MAX_SECONDS // 3600} hours"
            raise InvalidAudio(reason, field=f"wav_files[{number}]") from error
        except AudioError as error:
            raise InvalidAudio(str(error), field=f"wav_files[{number}]") from error
        left -= len(samples[-1]) / rate
    return samples


async def play_wav_files(line: Line, wav_files: Sequence[bytes], *, expected_call_id: str | None) -> Status:
    """Plays the files in order behind what is queued already, and waits for the last sample.

    Returns:
        MICROPHONE_WAV_FILES_PLAYED, NO_ONGOING_CALL (recorded; also when the call ends first), or NO_SESSION.

    Raises:
        InvalidAudio: whatever the state of the account; nothing is played.
        asyncio.CancelledError: playing stops at the next frame; the history says after how long.
    """
    if (refusal := line.out_of_scope(expected_call_id)) is not None and line.session_open:
        await decode(wav_files)
        return refusal
    intended = line.ongoing
    async with line.playback_lock:
        rate = intended.call.sample_rate if intended is not None else 8000
        samples = await decode(wav_files, rate)
        if (refusal := line.no_session()) is not None:
            return refusal
        ongoing = line.connected_call("SipPlayWavFiles")
        if isinstance(ongoing, NoOngoingCall):
            return line.record(line.status(StatusType.NO_ONGOING_CALL, error=ongoing))
        if ongoing is not intended:
            error = NoOngoingCall("The call ended before its files were decoded")
            return line.record(line.status(StatusType.NO_ONGOING_CALL, error=error))
        try:
            sounds = samples if rate == 8000 else [Samples(each, rate) for each in samples]
            playback = ongoing.call.play(*sounds)
        except NoOngoingCall as error:  # it is ending at this moment
            return line.record(line.status(StatusType.NO_ONGOING_CALL, ongoing.identity, error=error))
    return await _play(line, ongoing, playback)


async def _play(line: Line, ongoing: OngoingCall, playback: Playback) -> Status:
    about = ongoing.identity
    try:
        result = await playback
    except asyncio.CancelledError:
        playback.cancel()
        if not ongoing.over.done():
            error = PlaybackCancelled(f"The client cancelled the request: {_progress(playback)}")
            line.record(line.status(StatusType.MICROPHONE_WAV_FILES_PLAYED, about, error=error))
        raise
    if result.completed and not ongoing.over.done():
        return line.record(line.status(StatusType.MICROPHONE_WAV_FILES_PLAYED, about))
    await asyncio.shield(ongoing.over)
    over = NoOngoingCall(f"The call ended: {_progress(playback)}")
    return line.record(line.status(StatusType.NO_ONGOING_CALL, about, error=over))


def _progress(playback: Playback) -> str:
    return f"{playback.played_seconds:.2f} s of {playback.total_seconds:.2f} s were played"
