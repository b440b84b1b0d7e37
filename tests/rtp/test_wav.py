"""Audio files: every kind libsndfile reads becomes 8 kHz mono."""

from __future__ import annotations

import io
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rtp.wav import AudioError, NoSamples, NotAudio, TooLong, decodes_quickly, load_wav, load_wav_in_thread
from tests.rtp.kit import tone


def wav(samples: NDArray[np.generic], rate: int = 8000, subtype: str = "PCM_16", container: str = "WAV") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=container, subtype=subtype)
    return file.getvalue()


def similarity(one: NDArray[np.int16], other: NDArray[np.int16]) -> float:
    length = min(len(one), len(other))
    return float(np.corrcoef(one[:length].astype(float), other[:length].astype(float))[0, 1])


def test_what_fits_already_comes_back_bit_for_bit() -> None:
    samples = np.arange(-32768, 32768, dtype=np.int16)
    assert np.array_equal(load_wav(wav(samples)), samples)


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000, 96000, 192000])
def test_every_rate_keeps_length_and_shape(rate: int) -> None:
    seconds = 0.5
    at_rate = (8000 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * rate)) / rate)).astype(np.int16)
    samples = load_wav(wav(at_rate, rate))
    assert abs(len(samples) - 4000) <= 1
    assert similarity(samples[100:-100], tone(4000)[100:-100]) > 0.999


@pytest.mark.parametrize("channels", range(1, 9))
def test_channels_are_averaged(channels: int) -> None:
    each = np.stack([tone(800, amplitude=1000 * (number + 1)) for number in range(channels)], axis=1)
    expected = each.astype(float).mean(axis=1)
    assert np.abs(load_wav(wav(each)) - expected).max() <= 1


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"])
def test_every_sample_format(subtype: str) -> None:
    samples = load_wav(wav(tone(800) / 32768, subtype=subtype))
    assert len(samples) == 800
    assert similarity(samples, tone(800)) > 0.999
    assert 7500 < np.max(samples) < 8500


@pytest.mark.parametrize(("container", "subtype"), [("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("AIFF", "PCM_24")])
def test_other_containers(container: str, subtype: str) -> None:
    assert similarity(load_wav(wav(tone(8000), subtype=subtype, container=container)), tone(8000)) > 0.99


def test_files_louder_than_full_scale_are_clipped_and_do_not_wrap() -> None:
    samples = load_wav(wav(np.array([2.0, -2.0, np.nan, np.inf, 0.0], np.float32), subtype="FLOAT"))
    assert samples.tolist() == [32767, -32768, 0, 32767, 0]


def test_a_path_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "hello.wav"
    path.write_bytes(wav(tone(160)))
    assert np.array_equal(load_wav(path), tone(160))
    assert np.array_equal(load_wav(str(path)), tone(160))


def test_samples_cannot_be_changed_behind_the_players_back() -> None:
    with pytest.raises(ValueError, match="read-only"):
        load_wav(wav(tone(160)))[0] = 1


@pytest.mark.parametrize("content", [b"", b"RIFF", b"This is a text file, and no audio.\n" * 100, bytes(1000)])
def test_what_is_no_audio_is_refused(content: bytes) -> None:
    with pytest.raises(NotAudio, match="the data is not a readable audio file"):
        load_wav(content)


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(NotAudio, match=r"nothing\.wav"):
        load_wav(tmp_path / "nothing.wav")


@pytest.mark.parametrize("rate", [8000, 44100])
def test_a_wav_without_samples_is_refused(rate: int) -> None:
    with pytest.raises(NoSamples, match="has no samples"):
        load_wav(wav(np.zeros(0, np.int16), rate))


def test_audio_that_is_too_long_to_hold_is_refused() -> None:
    with pytest.raises(TooLong, match=r"longer than 0\.01 seconds"):
        load_wav(wav(tone(160)), max_seconds=0.01)
    four_hours_and_a_second = wav(np.zeros(10 * (4 * 3600 + 1), np.int16), 10)
    with pytest.raises(TooLong, match="longer than 4 hours"):
        load_wav(four_hours_and_a_second)


@pytest.mark.parametrize("rate", [8000, 44100, 65])
@pytest.mark.parametrize("channels", [1, 2])
def test_what_is_decoded_in_blocks_is_the_same(rate: int, channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = 3 if rate > 100 else 60
    noise = np.random.default_rng(1).integers(-9000, 9000, (seconds * rate, channels), np.int16)
    data = wav(noise, rate)
    whole = load_wav(data)
    monkeypatch.setattr("rtp.wav.BLOCK_SAMPLES", 1000)
    blocks = load_wav(data)
    assert len(blocks) == len(whole)
    assert np.abs(blocks.astype(int) - whole).max() <= (0 if rate == 8000 else 1)


def test_a_small_file_of_many_channels_costs_little_memory() -> None:
    data = wav(np.zeros((4 * 192_000, 8), np.int16), 192_000, container="FLAC")
    assert len(data) < 65_536
    tracemalloc.start()
    try:
        assert len(load_wav(data)) == 4 * 8000
        assert tracemalloc.get_traced_memory()[1] < 12_000_000
    finally:
        tracemalloc.stop()


def test_decoding_that_nobody_waits_for_ends() -> None:
    minutes = wav(np.zeros(8000 * 600, np.int16), container="FLAC")
    asked = iter([False, False, True])
    with pytest.raises(AudioError, match="abandoned"):
        load_wav(minutes, abandoned=lambda: next(asked))


def test_what_is_packed_very_small_is_not_decoded_on_the_event_loop() -> None:
    minutes = wav(np.zeros(8000 * 600, np.int16), container="FLAC")
    assert len(minutes) < 65_536
    assert not decodes_quickly(minutes)
    assert not decodes_quickly(wav(np.zeros(100, np.int16), 1))
    assert decodes_quickly(wav(tone(8000)))
    assert decodes_quickly(b"no audio")


@given(st.binary(max_size=200), st.integers(0, 100))
def test_damaged_files_raise_audio_errors_only(garbage: bytes, keep: int) -> None:
    good = wav(tone(160))
    try:
        load_wav(good[:keep] + garbage)
    except AudioError:
        return


async def test_small_files_are_decoded_at_once_and_others_in_a_thread(tmp_path: Path) -> None:
    small, large = wav(tone(800)), wav(tone(80_000))
    assert np.array_equal(await load_wav_in_thread(small), tone(800))
    assert np.array_equal(await load_wav_in_thread(large), tone(80_000))
    path = tmp_path / "x.wav"
    path.write_bytes(small)
    assert np.array_equal(await load_wav_in_thread(path), tone(800))
    with pytest.raises(NotAudio):
        await load_wav_in_thread(bytes(100_000))
