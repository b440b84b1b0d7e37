"""Where audio goes."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from rtp.sinks import CallbackSink, Gate, QueueSink, WavSink
from tests.rtp.kit import tone

FRAME = 160


def frame(value: int) -> NDArray[np.int16]:
    return np.full(FRAME, value, np.int16)


def test_a_callback_gets_each_frame() -> None:
    got: list[int] = []
    sink = CallbackSink(lambda pcm: got.append(int(pcm[0])))
    for value in (1, 2):
        sink.write(frame(value))
    sink.close()
    assert got == [1, 2]


async def test_a_queue_is_read_to_its_end() -> None:
    sink = QueueSink()
    for value in (1, 2, 3):
        sink.write(frame(value))
    sink.close()
    sink.write(frame(4))
    assert [int(pcm[0]) async for pcm in sink] == [1, 2, 3]


async def test_a_reader_waits_for_the_next_frame_and_for_the_end() -> None:
    sink = QueueSink()
    got: list[int] = []

    async def read() -> None:
        async for pcm in sink:
            got.append(int(pcm[0]))  # noqa: PERF401 - seen while it goes on

    reader = asyncio.ensure_future(read())
    for value in (1, 2):
        await asyncio.sleep(0)
        sink.write(frame(value))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert got == [1, 2]
    sink.close()
    await reader


async def test_a_slow_reader_loses_the_oldest_frames_counted() -> None:
    sink = QueueSink(max_frames=2)
    for value in range(5):
        sink.write(frame(value))
    sink.close()
    assert [int(pcm[0]) async for pcm in sink] == [3, 4]
    assert sink.dropped == 3


async def test_a_queue_keeps_copies() -> None:
    sink = QueueSink()
    pcm = frame(1)
    sink.write(pcm)
    pcm[:] = 9
    assert (await anext(sink)).tolist() == [1] * FRAME


async def test_a_recording_holds_every_sample(tmp_path: Path) -> None:
    path = tmp_path / "heard.wav"
    samples = tone(63 * FRAME)
    sink = WavSink(path)
    for piece in samples.reshape(-1, FRAME):
        sink.write(piece)
    assert sink.seconds == 63 * 0.02
    await sink.wait_closed()
    sink.write(samples[:FRAME])
    sink.close()
    recorded, rate = soundfile.read(path, dtype="int16")
    assert rate == 8000
    assert np.array_equal(recorded, samples)
    assert soundfile.info(path).subtype == "PCM_16"


def test_an_empty_recording_is_a_wav_too(tmp_path: Path) -> None:
    sink = WavSink(tmp_path / "empty.wav")
    sink.join()
    assert soundfile.info(tmp_path / "empty.wav").frames == 0


def test_a_file_that_cannot_be_created_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="cannot record"):
        WavSink(tmp_path / "no such folder" / "x.wav")


def test_a_disk_that_fails_stops_the_recording_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = WavSink(tmp_path / "x.wav")

    def fail(samples: object) -> None:
        raise OSError("No space left on device")

    with caplog.at_level(logging.ERROR), monkeypatch.context() as patch:
        patch.setattr(sink, "_file", type("Full", (), {"write": staticmethod(fail), "close": lambda self: None})())
        for _ in range(60):
            sink.write(frame(1))
        sink.join()
    assert isinstance(sink.error, OSError)
    assert caplog.text.count("No space left") == 1


def test_a_disk_that_lags_a_minute_behind_stops_the_recording(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = WavSink(tmp_path / "x.wav")
    go_on = threading.Event()
    with monkeypatch.context() as patch:
        patch.setattr(
            sink, "_file", type("Slow", (), {"write": lambda self, _: go_on.wait(30), "close": lambda self: None})()
        )
        for _ in range((WavSink.MAX_WAITING_BLOCKS + 5) * WavSink.BLOCK_FRAMES):
            sink.write(frame(1))
        assert "too slow" in str(sink.error)
        assert sink.seconds <= 62
        go_on.set()
        sink.join()
    assert caplog.text.count("too slow") == 1


def test_a_program_that_ends_right_after_the_call_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    program = f"""
import numpy as np
from rtp.sinks import WavSink
sink = WavSink({str(path)!r})
for _ in range(301):
    sink.write(np.ones(160, np.int16))
sink.close()
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    assert soundfile.info(path).frames == 301 * FRAME


async def test_behind_a_shut_gate_there_is_silence() -> None:
    gate = Gate()
    sink, open_sink = QueueSink(gate=gate), QueueSink()
    for shut in (False, True, False):
        gate.shut = shut
        for one in (sink, open_sink):
            one.write(np.full(160, 7, np.int16))
    for one in (sink, open_sink):
        one.close()
    assert [int(frame.max()) for frame in [frame async for frame in sink]] == [7, 0, 7]
    assert [int(frame.max()) for frame in [frame async for frame in open_sink]] == [7, 7, 7]
