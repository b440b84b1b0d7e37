"""Recordings: what is in the file, also after a stall, a full disk and a kill."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from rtp import recording as recordings
from rtp.engine import MediaEngine
from rtp.g711 import Law, decode, encode
from rtp.recording import BLOCK_FRAMES, MAX_WAITING_BLOCKS, Recording
from rtp.sources import ArraySource
from rtp.stream import RtpStream
from tests.kit.lone_ears import LoneEars
from tests.rtp.kit import FarEnd, packet, tone

FRAME = 160
PREFETCH = 3


def frame(value: int) -> NDArray[np.int16]:
    return np.full(FRAME, value, np.int16)


def recorded(path: Path) -> NDArray[np.int16]:
    """Samples of a file that libsndfile takes for a whole one, int16 (n, channels)."""
    samples, rate = soundfile.read(path, dtype="int16", always_2d=True)
    assert rate == 8000
    assert path.stat().st_size == 44 + samples.nbytes
    found: NDArray[np.int16] = samples
    return found


async def test_mono_holds_every_sample_of_the_far_end(tmp_path: Path) -> None:
    path = tmp_path / "heard.wav"
    samples = tone(63 * FRAME)
    recording = Recording(path)
    for piece in samples.reshape(-1, FRAME):
        recording.take(0, piece, frame(5))
    assert recording.seconds == 63 * 0.02
    await recording.wait_closed()
    recording.take(0, samples[:FRAME], None)
    recording.close()
    assert np.array_equal(recorded(path)[:, 0], samples)
    assert soundfile.info(path).subtype == "PCM_16"


async def test_stereo_has_the_far_end_left_and_this_side_right(tmp_path: Path) -> None:
    path = tmp_path / "both.wav"
    recording = Recording(path, stereo=True)
    recording.take(0, frame(1), frame(-1))
    recording.take(0, frame(2), None)
    await recording.wait_closed()
    assert recorded(path)[::FRAME].tolist() == [[1, -1], [2, 0]]


@pytest.mark.parametrize("stereo", [False, True])
async def test_ticks_that_a_stall_left_out_are_silence_of_that_length(tmp_path: Path, stereo: bool) -> None:
    path = tmp_path / "x.wav"
    ears, recording = LoneEars(), Recording(path, stereo=stereo)
    ears.add_taker(recording)
    for tick in (100, 101, 175, 176):
        ears.sent(tick, frame(7))
        ears.hear(tick, frame(tick))
    assert recording.seconds == 77 * 0.02
    await recording.wait_closed()
    left = recorded(path)[::FRAME, 0].tolist()
    assert left == [100, 101] + [0] * 73 + [175, 176]
    if stereo:
        assert recorded(path)[::FRAME, 1].tolist() == [7, 7] + [0] * 73 + [7, 7]


async def test_a_pause_is_silence_and_the_file_stays_in_step(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    recording = Recording(path, stereo=True)
    for number in range(6):
        if number == 2:
            recording.pause()
        if number == 4:
            recording.resume()
        recording.take(0, frame(number + 1), frame(9))
    await recording.wait_closed()
    assert recorded(path)[::FRAME].tolist() == [[1, 9], [2, 9], [0, 0], [0, 0], [5, 9], [6, 9]]


def test_an_empty_recording_is_a_wav_too(tmp_path: Path) -> None:
    recording = Recording(tmp_path / "empty.wav")
    recording.join()
    assert recorded(tmp_path / "empty.wav").shape == (0, 1)


def test_a_file_that_cannot_be_created_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Recording(tmp_path / "no such folder" / "x.wav")
    with pytest.raises(IsADirectoryError):
        Recording(tmp_path)


class FullDisk(io.FileIO):
    """Has room for so many bytes."""

    room = 20_000

    def write(self, content: Any) -> int:
        if self.tell() + len(content) > self.room:
            raise OSError(28, "No space left on device")
        return super().write(content)


async def test_a_full_disk_ends_the_recording_with_an_event_and_a_whole_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "x.wav"
    ears, recording = LoneEars(), Recording(path, stereo=True)
    failed: asyncio.Future[OSError] = asyncio.get_running_loop().create_future()
    recording.on_failed = failed.set_result
    recording.on_close = lambda: ears.remove(recording)
    recording._file.close()
    recording._file = FullDisk(path, "r+")
    recording._file.seek(44)
    ears.add_taker(recording)
    with caplog.at_level(logging.ERROR):
        for tick in range(3 * BLOCK_FRAMES):
            ears.hear(tick, frame(1))
        assert (await failed).errno == 28
    assert recording.closed
    assert not ears.open
    await recording.wait_closed()
    assert caplog.text.count("No space left") == 1
    assert len(recorded(path)) in range(1, BLOCK_FRAMES * FRAME * 2)


def test_a_disk_that_lags_a_minute_behind_stops_the_recording(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = Recording(tmp_path / "x.wav")
    go_on = threading.Event()
    monkeypatch.setattr(recording, "_write", lambda samples: go_on.wait(30))
    for _ in range((MAX_WAITING_BLOCKS + 5) * BLOCK_FRAMES):
        recording.take(0, frame(1), None)
    assert "too slow" in str(recording.error)
    assert recording.seconds <= 62
    assert len(recording._block) == 0
    go_on.set()
    recording.join()
    assert caplog.text.count("too slow") == 1


def test_a_file_that_its_header_cannot_describe_ends_the_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recordings, "MAX_BYTES", 30 * FRAME * 2)
    recording = Recording(tmp_path / "x.wav")
    for _ in range(4 * BLOCK_FRAMES):
        recording.take(0, frame(1), None)
    recording.join()
    assert "longer" in str(recording.error)
    assert 0 < len(recorded(tmp_path / "x.wav")) <= 30 * FRAME


def test_recordings_that_begin_together_write_at_different_ticks(tmp_path: Path) -> None:
    several = [Recording(tmp_path / f"{number}.wav") for number in range(BLOCK_FRAMES)]
    busiest = 0
    for _ in range(2 * BLOCK_FRAMES):
        before = [one._handed_over for one in several]
        for one in several:
            one.take(0, frame(1), None)
        busiest = max(busiest, sum(one._handed_over != old for one, old in zip(several, before, strict=True)))
    for one in several:
        one.join()
    assert busiest == 1


PROGRAM = """
import sys, time
import numpy as np
from rtp.recording import Recording, _writer
recording = Recording(sys.argv[1], stereo=True)
for _ in range(310):
    recording.take(0, np.ones(160, np.int16), None)
"""


def test_a_program_that_ends_right_after_the_call_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    subprocess.run([sys.executable, "-c", PROGRAM + "recording.close()", str(path)], check=True, timeout=60)
    assert len(recorded(path)) == 310 * FRAME


def test_a_program_that_is_killed_leaves_a_whole_file_short_of_half_a_second(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    wait = """
_writer.submit(int).result()
print("written", flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", PROGRAM + wait, str(path)], stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"written\n"
        os.kill(program.pid, signal.SIGKILL)
    assert len(recorded(path)) == 301 * FRAME


# ---- on a stream -----------------------------------------------------------------------------------------------------


@pytest.fixture
async def engine() -> AsyncIterator[MediaEngine]:
    engine = MediaEngine(ports=(20000, 59999), rng=random.Random())
    yield engine
    await engine.close()


@pytest.fixture
def far() -> Iterator[FarEnd]:
    with FarEnd() as end:
        yield end


@pytest.fixture
def stream(engine: MediaEngine, far: FarEnd) -> RtpStream:
    stream = engine.open_stream("127.0.0.1")
    stream.configure(far.address, codec="PCMU", payload_type=0, receive_payload_types={0: "PCMU"})
    return stream


async def test_both_sides_of_a_stream_are_recorded_in_step(
    engine: MediaEngine, far: FarEnd, stream: RtpStream, tmp_path: Path
) -> None:
    path = tmp_path / "x.wav"
    recording = Recording(path, stereo=True)
    stream.record(recording)
    voice = decode(encode(tone(4 * FRAME, hertz=700), Law.PCMU), Law.PCMU)
    for number in (0, 1, 3):  # one is lost
        payload = encode(voice[number * FRAME :][:FRAME], Law.PCMU).tobytes()
        far.send(packet(number, number * FRAME, payload), stream.local_port)
    played = tone(5 * FRAME)
    engine.tick(1, 0.0)
    stream.play(ArraySource(played))
    engine.tick(4, 0.0)  # the loop was held up
    stream.mute()
    engine.tick(1, 0.0)
    stream.unmute()
    engine.tick(1, 0.0)
    stream.close()
    await recording.wait_closed()
    both = recorded(path)
    assert len(both) == 7 * FRAME
    assert np.array_equal(both[PREFETCH * FRAME : 5 * FRAME, 0], voice[: 2 * FRAME])
    assert np.array_equal(both[6 * FRAME : 7 * FRAME, 0][-80:], voice[3 * FRAME : 4 * FRAME][-80:])
    right = both[:, 1].reshape(7, FRAME)
    assert not np.any(right[[0, 5, 6]])
    assert np.array_equal(right[1:5].reshape(-1), played[: 4 * FRAME])


async def test_a_loop_that_stood_still_for_three_seconds_leaves_no_hole(
    engine: MediaEngine, stream: RtpStream, tmp_path: Path
) -> None:
    path = tmp_path / "x.wav"
    recording = Recording(path, stereo=True)
    stream.record(recording)
    stream.play(ArraySource(np.full(80 * FRAME, 1000, np.int16)))
    for count in (1, 150, 1):
        engine.tick(count, 0.0)
    await recording.wait_closed()
    right = recorded(path)[::FRAME, 1]
    assert len(right) == 152
    assert right.tolist() == [1000] + [0] * 145 + [1000] * 6  # what five packets could make up for, and went on


async def test_a_recording_of_a_stream_that_is_over_is_empty(stream: RtpStream, tmp_path: Path) -> None:
    stream.close()
    recording = Recording(tmp_path / "x.wav")
    stream.record(recording)
    assert recording.closed
    await recording.wait_closed()
    assert len(recorded(tmp_path / "x.wav")) == 0
