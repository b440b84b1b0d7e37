"""Files of hours, decoded a little ahead of the clock."""

from __future__ import annotations

import asyncio
import io
import random
import tracemalloc
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from rtp.engine import MediaEngine
from rtp.files import AHEAD_SECONDS, STREAM_FROM_SECONDS, FileSource, open_source
from rtp.g711 import Law, encode
from rtp.playback import PlaybackQueue
from rtp.sources import ArraySource, LoopedSource
from rtp.wav import AudioError, NoSamples, NotAudio, load_wav
from tests.rtp.kit import FarEnd, tone

FRAME = 160
RATE = 8000


class ByHand(Executor):
    """Work that is done when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], object]] = []

    def submit(self, work: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        self.waiting.append(lambda: work(*arguments, **named))
        return Future()

    def run(self) -> None:
        while self.waiting:
            self.waiting.pop(0)()


def noise(samples: int, seed: int = 1) -> NDArray[np.int16]:
    return np.random.default_rng(seed).integers(-8000, 8000, samples).astype(np.int16)


def written(path: Path, samples: NDArray[np.int16], rate: int = RATE) -> Path:
    soundfile.write(path, samples, rate, subtype="PCM_16")
    return path


def all_of(source: FileSource, decoders: ByHand, frame: int = FRAME) -> NDArray[np.int16]:
    heard = []
    while not source.exhausted:
        heard.append(source.read(frame))
        decoders.run()
    return np.concatenate(heard)


def test_what_is_read_is_what_the_file_holds_and_four_seconds_of_it_are_in_memory(tmp_path: Path) -> None:
    samples = noise(20 * RATE + 777)
    decoders = ByHand()
    source = FileSource([written(tmp_path / "a.wav", samples)], decoders=decoders)
    assert source.total_samples == len(samples)
    heard, most = [], 0
    while not source.exhausted:
        most = max(most, source.buffered_samples)
        heard.append(source.read(FRAME))
        decoders.run()
    assert np.array_equal(np.concatenate(heard), samples)
    assert most <= (AHEAD_SECONDS + 1) * RATE
    assert source.underruns == 0


def test_an_hour_costs_no_more_memory_than_a_minute(tmp_path: Path) -> None:
    path = tmp_path / "hour.wav"
    with soundfile.SoundFile(path, "w", RATE, 1, "ULAW") as file:
        for _ in range(60):
            file.write(np.zeros(60 * RATE, np.int16))
    decoders = ByHand()
    tracemalloc.start()
    try:
        source = open_source([path])
        assert isinstance(source, FileSource)
        source = FileSource([path], decoders=decoders)
        for _ in range(500):
            assert len(source.read(FRAME)) == FRAME
            decoders.run()
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert source.total_samples == 3600 * RATE


def test_files_and_arrays_follow_each_other_to_the_sample(tmp_path: Path) -> None:
    parts = [noise(2 * RATE + 3, 1), noise(100, 2), noise(RATE, 3)]
    decoders = ByHand()
    paths = [written(tmp_path / f"{number}.wav", part) for number, part in enumerate(parts)]
    source = FileSource([paths[0], parts[1], paths[2].read_bytes()], decoders=decoders)
    assert np.array_equal(all_of(source, decoders), np.concatenate(parts))


def test_a_looped_file_begins_again_at_the_sample(tmp_path: Path) -> None:
    samples = noise(2 * RATE + 11)
    decoders = ByHand()
    source = FileSource([written(tmp_path / "a.wav", samples)], loop=True, decoders=decoders)
    assert source.total_samples is None
    heard = []
    for _ in range(400):
        heard.append(source.read(FRAME))
        decoders.run()
    assert np.array_equal(np.concatenate(heard), np.resize(samples, 400 * FRAME))
    assert not source.exhausted


@pytest.mark.parametrize(("rate", "channels"), [(44_100, 2), (16_000, 1), (8_000, 2)])
def test_other_rates_sound_as_if_they_had_been_converted_whole(tmp_path: Path, rate: int, channels: int) -> None:
    wave = np.sin(2 * np.pi * 440 * np.arange(12 * rate) / rate) * 0.3
    path = tmp_path / "a.flac"
    soundfile.write(path, np.repeat(wave[:, None], channels, axis=1), rate)
    decoders = ByHand()
    source = FileSource([path], decoders=decoders)
    heard, whole = all_of(source, decoders), load_wav(path)
    assert abs(len(heard) - len(whole)) <= 2
    length = min(len(heard), len(whole))
    assert np.abs(heard[:length].astype(int) - whole[:length]).max() <= 2


def test_a_converted_file_that_is_looped_has_no_click_at_its_seam(tmp_path: Path) -> None:
    """440 whole periods: where the end meets the beginning, the wave goes on."""
    path = tmp_path / "a.wav"
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000), 16_000)
    decoders = ByHand()
    source = FileSource([path], loop=True, decoders=decoders)
    heard = []
    for _ in range(200):
        heard.append(source.read(FRAME))
        decoders.run()
    samples = np.concatenate(heard).astype(int)
    steps = np.abs(np.diff(samples))
    assert steps[100:].max() <= 0.3 * 32768 * 2 * np.pi * 440 / RATE * 1.01
    assert np.abs(np.diff(steps, 2)[100:]).max() < 3000


def test_a_disk_that_stands_still_costs_silence_and_no_sample(tmp_path: Path) -> None:
    samples = noise(12 * RATE)
    decoders = ByHand()
    source = FileSource([written(tmp_path / "a.wav", samples)], decoders=decoders)
    heard = [source.read(FRAME) for _ in range(60)]
    assert source.underruns == 10
    assert [len(frame) for frame in heard] == [FRAME] * 50 + [0] * 10
    decoders.run()
    heard.append(all_of(source, decoders))
    assert np.array_equal(np.concatenate(heard), samples)


async def test_the_file_is_closed_when_its_playback_ends(tmp_path: Path) -> None:
    path = written(tmp_path / "a.wav", noise(20 * RATE))
    decoders = ByHand()
    queue = PlaybackQueue(RATE)
    source = FileSource([path], decoders=decoders)
    playback = queue.add(source)
    frame = np.zeros(FRAME, np.int16)
    queue.fill(frame)
    playback.cancel()
    playback.cancel()
    decoders.run()
    assert source.buffered_samples < 2 * RATE
    assert len(source.read(FRAME)) == 0
    source.close()
    assert not decoders.waiting


async def test_a_file_that_is_damaged_in_the_middle_plays_to_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = written(tmp_path / "a.wav", noise(20 * RATE))
    decoders = ByHand()
    source = FileSource([path, written(tmp_path / "b.wav", noise(20 * RATE))], decoders=decoders)
    (tmp_path / "b.wav").write_bytes(b"not a wav any more")
    queue = PlaybackQueue(RATE)
    playback = queue.add(source)
    frame = np.zeros(FRAME, np.int16)
    while not playback.done:
        queue.fill(frame)
        decoders.run()
    assert playback.played_samples == 20 * RATE
    assert not (await playback).completed
    assert "audio source failed" in caplog.text


@pytest.mark.parametrize("loop", [False, True])
def test_what_is_no_audio_is_refused_at_once(tmp_path: Path, loop: bool) -> None:
    empty = io.BytesIO()
    soundfile.write(empty, np.zeros(0, np.int16), RATE, format="WAV")
    with pytest.raises(NotAudio):
        open_source([b"not audio"], loop=loop)
    with pytest.raises(NotAudio):
        FileSource([tmp_path / "missing.wav"], loop=loop)
    for parts in ([empty.getvalue()], [np.zeros(0, np.int16)]):
        with pytest.raises(NoSamples):
            FileSource(parts, loop=loop)
    assert issubclass(NoSamples, AudioError)


def test_short_files_are_decoded_at_once(tmp_path: Path) -> None:
    path = written(tmp_path / "a.wav", noise(STREAM_FROM_SECONDS * RATE))
    assert isinstance(open_source([path]), ArraySource)
    assert isinstance(open_source([path], loop=True), LoopedSource)
    assert isinstance(open_source([path, path]), FileSource)
    with pytest.raises(NoSamples):
        open_source([np.zeros(0, np.int16)], loop=True)


async def test_a_long_file_goes_out_without_a_gap(tmp_path: Path) -> None:
    """Real decoders and a real socket; the clock is turned by hand."""
    samples = tone((STREAM_FROM_SECONDS + 2) * RATE, hertz=333.0)
    source = open_source([written(tmp_path / "a.wav", samples)])
    assert isinstance(source, FileSource)
    engine = MediaEngine(ports=(20000, 59999), rng=random.Random(1))
    with FarEnd() as far:
        stream = engine.open_stream("127.0.0.1")
        stream.configure(far.address, codec="PCMU", payload_type=0, receive_payload_types={0: "PCMU"})
        playback = stream.play(source)
        received = []
        for _ in range(len(samples) // FRAME):
            while source.buffered_samples < FRAME and not source.exhausted:  # noqa: ASYNC110 - a thread decodes
                await asyncio.sleep(0.001)
            engine.tick(1, 0.0)
            received.append(far.receive()[5])
    assert b"".join(received) == encode(samples, Law.PCMU).tobytes()
    assert (await playback).completed
    assert source.underruns == 0
    await engine.close()
