"""What is said at 16,000 Hz, made at 8,000 for all who speak, and by each for itself."""

from __future__ import annotations

import random

import numpy as np
from numpy.typing import NDArray

from rtp.halving import Speaker, make_ahead
from rtp.resample import Downsampler
from rtp.speech import Speech
from rtp.talker import Voice

FRAME = 160
PIECES = (320, 320, 640, 160, 1, 333, 9000)


def noise(seed: int, samples: int) -> NDArray[np.int16]:
    return np.random.default_rng(seed).integers(-20000, 20000, samples).astype(np.int16)


def near(one: NDArray[np.int16], other: NDArray[np.int16]) -> bool:
    """The same but for the order of sums."""
    return len(one) == len(other) and bool((np.abs(one.astype(int) - other) <= 1).all())


async def test_what_is_made_ahead_is_what_would_have_been_read() -> None:
    rng = random.Random(5)
    told = [Speech(rate=16000, prefetch_ms=0) for _ in range(12)]
    alone = [Speech(rate=16000, prefetch_ms=0) for _ in told]
    made = 0
    for tick in range(80):
        for number, pair in enumerate(zip(told, alone, strict=True)):
            piece = noise(1000 * tick + number, rng.choice(PIECES)) if rng.random() < 0.7 else None
            cleared, marked = rng.random() < 0.05, rng.random() < 0.1
            for speech in pair:
                if piece is not None:
                    speech.write_nowait(piece)
                if marked:
                    speech.mark()
                if cleared:
                    speech.clear()
        make_ahead(told)
        made += sum(speech.made is not None for speech in told)
        for ahead, by_itself in zip(told, alone, strict=True):
            wanted = rng.choice((FRAME, FRAME, FRAME, 33))  # 33: behind the end of something else
            assert near(ahead.read(wanted), by_itself.read(wanted))
            assert (ahead.position, ahead.exhausted) == (by_itself.position, by_itself.exhausted)
    assert made > 400


def test_people_who_talk_are_halved_with_all_others() -> None:
    voices = [Voice(rate=16000, prefetch=0) for _ in range(3)]
    said = [noise(number, 320 * 10) for number in range(3)]
    heard: list[list[NDArray[np.int16]]] = [[], [], []]
    for start in range(0, 320 * 10, 320):
        for voice, samples in zip(voices, said, strict=True):
            voice.write(samples[start : start + 320])
        speakers: list[Speaker] = [voices[0], voices[1]]
        make_ahead(speakers)
        for voice, frames in zip(voices, heard, strict=True):
            frame = voice.read()
            assert frame is not None
            frames.append(frame)
    for samples, frames in zip(said, heard, strict=True):
        assert near(np.concatenate(frames), Downsampler()(samples))


def test_a_frame_that_was_made_is_not_said_when_it_is_thrown_away() -> None:
    voice = Voice(rate=16000, prefetch=0, max_frames=1)
    voice.write(np.full(320, 1000, np.int16))
    make_ahead([voice])
    voice.write(np.full(320, -1000, np.int16))
    frame = voice.read()
    assert frame is not None
    assert voice.discarded == 1
    assert frame[100] == -1000
    voice.write(np.full(320, 1000, np.int16))
    make_ahead([voice])
    voice.muted = True
    voice.muted = False
    voice.write(np.zeros(320, np.int16))
    silent = voice.read()
    assert silent is not None
    assert not silent.any()
    speech = Speech(rate=16000, prefetch_ms=0)
    speech.write_nowait(np.full(3200, 1000, np.int16))
    make_ahead([speech])
    speech.clear()
    speech.write_nowait(np.zeros(3200, np.int16))
    assert not speech.read(FRAME).any()
    assert np.array_equal(speech.before, np.zeros_like(speech.before))
