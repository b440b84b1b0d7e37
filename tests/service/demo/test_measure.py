"""The demo's judge of recordings: it must find what is there and see what is damaged."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from rtp.wav import AudioError, load_wav
from service.demo.measure import compare, damage, find, level
from service.demo.sounds import RATE, chime, shipped_speech, shortened, wav_bytes

SPEECH = load_wav(shipped_speech())
SILENCE = np.zeros(4000, np.int16)


def test_the_shipped_speech_is_six_to_nine_seconds_and_small() -> None:
    assert 6 * RATE < len(SPEECH) < 9 * RATE
    assert len(shipped_speech()) < 300 * 1024


def test_speech_is_found_where_it_stands() -> None:
    heard = compare(np.concatenate((SILENCE, SPEECH, SILENCE)), SPEECH, rate=RATE)
    assert heard.match.offset == len(SILENCE)
    assert heard.match.similarity == pytest.approx(1.0)
    assert heard.damaged == 0.0


def test_loudness_does_not_count_as_a_difference() -> None:
    assert find(SPEECH // 4, SPEECH).similarity > 0.999


def test_coarse_quantisation_is_no_damage() -> None:
    coarse = np.asarray(np.round(SPEECH / 32) * 32, np.int16)
    heard = compare(coarse, SPEECH, rate=RATE)
    assert heard.match.similarity > 0.999
    assert heard.damaged == 0.0


def test_a_missing_beginning_gives_a_negative_offset() -> None:
    assert find(SPEECH[1600:], SPEECH).offset == -1600


@pytest.mark.parametrize("recording", [np.zeros(0, np.int16), SILENCE], ids=["nothing", "silence"])
def test_nothing_and_silence_are_not_similar(recording: NDArray[np.int16]) -> None:
    assert find(recording, SPEECH).similarity == 0.0


def test_silence_is_found_nowhere() -> None:
    assert find(SPEECH, SILENCE).similarity == 0.0


def test_another_sound_is_not_similar() -> None:
    assert find(SPEECH, chime()).similarity < 0.6


def test_three_lost_packets_are_60_ms_of_damage() -> None:
    loudest = int(np.argmax(np.abs(SPEECH))) // 160 * 160
    damaged = SPEECH.copy()
    damaged[loudest : loudest + 480] = 0
    assert damage(damaged, SPEECH, 0, rate=RATE) == pytest.approx(0.06)


def test_a_lost_stretch_damages_what_follows_it() -> None:
    shifted = np.concatenate((SPEECH[:16000], SPEECH[16160:]))
    assert damage(shifted, SPEECH, 0, rate=RATE) > 1.0


def test_levels() -> None:
    assert level(SILENCE) == -96.0
    assert level(np.zeros(0, np.int16)) == -96.0
    assert level(np.full(160, 16384, np.int16)) == pytest.approx(-6.02, abs=0.01)


def test_shortening_keeps_rate_and_channels() -> None:
    stereo = np.stack((chime(rate=16000), chime(rate=16000)), axis=1)
    cut = load_wav(shortened(wav_bytes(stereo, rate=16000), 0.5), rate=16000)
    assert len(cut) == 8000


def test_what_is_short_enough_is_not_touched() -> None:
    file = wav_bytes(chime())
    assert shortened(file, None) is file
    assert shortened(file, 5.0) is file


def test_a_text_is_no_audio_file() -> None:
    with pytest.raises(AudioError):
        shortened(b"Dear Sir or Madam", 1.0)
