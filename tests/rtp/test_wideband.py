"""G.722 and 16,000 Hz through the engine, over real sockets and with the clock driven by hand."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from rtp.audio_stream import AudioStream
from rtp.codecs import CODECS
from rtp.engine import MediaEngine
from rtp.g711 import Law, encode
from rtp.listener import Listener
from rtp.recording import Recording
from rtp.sinks import CallbackSink
from rtp.sources import ArraySource
from rtp.stream import RtpStream
from rtp.talker import Talker
from rtp.tones import key_tones
from rtp.wideband import KEPT, Coders
from tests.rtp.kit import FarEnd, packet

pytest.importorskip("G722")

HOST = "127.0.0.1"
FRAME = 160
WIDE = 320
FADING = 4
"""Frames that are filled in behind the last packet, before there is silence."""


@pytest.fixture
async def engine() -> AsyncIterator[MediaEngine]:
    engine = MediaEngine(ports=(20000, 59999), rng=random.Random(3))
    yield engine
    await engine.close()


@pytest.fixture
def far() -> Iterator[FarEnd]:
    with FarEnd() as end:
        yield end


def wide_tone(samples: int, hertz: float = 5500.0, amplitude: int = 8000) -> NDArray[np.int16]:
    """A sine at 16,000 Hz; by default one that no narrowband call can carry."""
    return (amplitude * np.sin(2 * np.pi * hertz * np.arange(samples) / 16000)).astype(np.int16)


def sweep(samples: int, rate: int = 16000) -> NDArray[np.int16]:
    """From 300 to 3,000 Hz, so that no two places of it are alike."""
    time = np.arange(samples) / rate
    return (8000 * np.sin(2 * np.pi * (300 * time + 1350 * time**2 * rate / samples))).astype(np.int16)


def level(samples: NDArray[np.int16], hertz: float, rate: int = 16000) -> float:
    """The amplitude of one frequency."""
    turn = np.exp(-2j * np.pi * hertz * np.arange(len(samples)) / rate)
    return float(2 * np.abs(np.dot(samples, turn)) / len(samples))


def similarity(heard: NDArray[np.int16], said: NDArray[np.int16]) -> float:
    """The greatest correlation of ``said`` with any place of ``heard``."""
    size = len(heard) + len(said)
    spectrum = np.fft.rfft(heard, size) * np.conj(np.fft.rfft(said, size))
    dots = np.fft.irfft(spectrum, size)[: len(heard) - len(said) + 1]
    total = np.concatenate([[0.0], np.cumsum(np.square(heard, dtype=np.float64))])
    power = total[len(said) :] - total[: -len(said)]
    return float(np.max(dots / np.sqrt(power * np.square(said, dtype=np.float64).sum() + 1)))


def opened(engine: MediaEngine, far: FarEnd, codec: str = "G722", *also: str) -> RtpStream:
    stream = engine.open_stream(HOST)
    agree(stream, far, codec, *also)
    return stream


def agree(stream: RtpStream, far: FarEnd, codec: str, *also: str) -> None:
    numbers = {"PCMU": 0, "PCMA": 8, "G722": 9}
    receive = {numbers[name]: name for name in (codec, *also)}
    stream.configure(
        far.address,
        codec=codec,
        payload_type=numbers[codec],
        receive_payload_types=receive,
        dtmf_receive_payload_type=101,
        dtmf_payload_type=101,
    )


def heard_by(stream: RtpStream) -> list[NDArray[np.int16]]:
    frames: list[NDArray[np.int16]] = []
    stream.add_sink(CallbackSink(lambda pcm: frames.append(pcm.copy())))
    return frames


def encoded(samples: NDArray[np.int16]) -> bytes:
    coder = CODECS["G722"].encoder()
    return b"".join(coder.encode(samples[start : start + WIDE]) for start in range(0, len(samples), WIDE))


def talk(
    engine: MediaEngine, far: FarEnd, stream: RtpStream, codes: bytes, *, lose: tuple[int, ...] = (), ptime: int = 20
) -> None:
    """The far end says that, and a little silence of the network behind it."""
    size = ptime * 8
    number = 0
    for tick in range(1, len(codes) // FRAME + 12):
        while (number + 1) * ptime <= tick * 20 and (number + 1) * size <= len(codes):
            content = codes[number * size : (number + 1) * size]
            if number not in lose:
                far.send(packet(number, number * size, content, payload_type=9), stream.local_port)
            number += 1
        engine.tick(1, 0.0)


# ---- both ways -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ptime", [10, 20, 30, 40, 60])
async def test_what_a_far_end_says_is_heard_at_16_khz(engine: MediaEngine, far: FarEnd, ptime: int) -> None:
    """RFC 3551 §4.5.2: a tick of the clock of 8,000 Hz for each byte, which is two samples."""
    stream = opened(engine, far)
    frames = heard_by(stream)
    said = sweep(60 * WIDE) // 2 + wide_tone(60 * WIDE) // 2
    talk(engine, far, stream, encoded(said), ptime=ptime)
    assert {frame.shape for frame in frames} == {(WIDE,)}
    assert similarity(np.concatenate(frames), said[WIDE:-WIDE]) > 0.99
    statistics = stream.statistics()
    assert (statistics.codec, statistics.packets_received) == ("G722", 60 * 20 // ptime)
    assert (statistics.lost, statistics.late, statistics.discarded, statistics.skipped) == (0, 0, 0, 0)


async def test_what_is_played_goes_out_at_16_khz(engine: MediaEngine, far: FarEnd) -> None:
    stream = opened(engine, far)
    said = wide_tone(20 * WIDE)
    playback = stream.play(ArraySource(said, 16000))
    decoder = CODECS["G722"].decoder()
    heard, stamps = [], []
    for _ in range(22):
        engine.tick(1, 0.0)
        header = far.receive()
        stamps.append(header[3])
        assert (header[1] & 0x7F, len(header[5])) == (9, FRAME)
        heard.append(decoder.decode(header[5]))
    assert set(np.diff(stamps)) == {FRAME}
    assert similarity(np.concatenate(heard), said[WIDE:-WIDE]) > 0.99
    result = await playback
    assert (result.completed, result.played_seconds) == (True, 0.4)


async def test_packets_of_other_lengths_are_sent(engine: MediaEngine, far: FarEnd) -> None:
    """A frame is 160 bytes in 160 ticks, as one of G.711: packets are filled with them in the same way."""
    stream = engine.open_stream(HOST)
    stream.configure(far.address, codec="G722", payload_type=9, receive_payload_types={9: "G722"}, ptime_ms=60)
    said = wide_tone(30 * WIDE)
    stream.play(ArraySource(said, 16000))
    decoder = CODECS["G722"].decoder()
    heard, stamps = [], []
    for tick in range(1, 34):
        engine.tick(1, 0.0)
        if tick % 3 == 0:
            header = far.receive()
            stamps.append(header[3])
            heard.append(decoder.decode(header[5]))
    assert set(np.diff(stamps)) == {3 * FRAME}
    assert similarity(np.concatenate(heard), said[WIDE:-WIDE]) > 0.99


async def test_narrow_sources_and_muting_on_a_wide_stream(engine: MediaEngine, far: FarEnd) -> None:
    stream = opened(engine, far)
    said = sweep(50 * FRAME, 8000)
    playback = stream.play(ArraySource(said))
    decoder = CODECS["G722"].decoder()
    heard = []
    for tick in range(60):
        if tick == 55:
            stream.play(ArraySource(said))
            stream.mute()
        engine.tick(1, 0.0)
        heard.append(decoder.decode(far.receive()[5]))
    assert (await playback).played_seconds == 1.0
    both = np.concatenate(heard)
    assert similarity(both[::2], said[FRAME:-FRAME]) > 0.98
    assert np.abs(both[57 * WIDE :]).max() < 50


async def test_two_streams_of_one_engine_are_kept_apart(engine: MediaEngine, far: FarEnd) -> None:
    with FarEnd() as other:
        streams = [opened(engine, far), opened(engine, other, "PCMU"), opened(engine, other)]
        frames = [heard_by(stream) for stream in streams]
        tones = [wide_tone(40 * WIDE, hertz) for hertz in (1000.0, 2500.0)]
        first, second = encoded(tones[0]), encoded(tones[1])
        for tick in range(50):
            at = tick * FRAME
            if tick < 40:
                far.send(packet(tick, at, first[at : at + FRAME], payload_type=9), streams[0].local_port)
                other.send(packet(tick, at, second[at : at + FRAME], payload_type=9, ssrc=7), streams[2].local_port)
            if tick == 25:
                streams[1].close()  # rows shift, and none may hear another's
            engine.tick(1, 0.0)
    heard = [np.concatenate(each)[20 * (WIDE if number != 1 else FRAME) :] for number, each in enumerate(frames)]
    assert level(heard[0][: 15 * WIDE], 1000.0) > 7000 > 100 > level(heard[0][: 15 * WIDE], 2500.0)
    assert level(heard[2][: 15 * WIDE], 2500.0) > 7000 > 100 > level(heard[2][: 15 * WIDE], 1000.0)


# ---- what networks and far ends do -----------------------------------------------------------------------------------


async def test_losses_are_filled_in_and_end(engine: MediaEngine, far: FarEnd) -> None:
    stream = opened(engine, far)
    frames = heard_by(stream)
    said = wide_tone(60 * WIDE, 400.0)
    talk(engine, far, stream, encoded(said), lose=(20, 33, 34))
    heard = np.concatenate(frames)
    begin = int(np.flatnonzero(np.abs(heard) > 2000)[0]) // WIDE
    middle = heard[(begin + 2) * WIDE : (begin + 58) * WIDE].reshape(-1, WIDE)
    assert np.abs(middle).max(axis=1).min() > 4000  # nowhere a hole
    assert stream.statistics().lost == 3
    assert stream.statistics().concealed == 3 + FADING
    assert similarity(heard, said[40 * WIDE : 58 * WIDE]) > 0.99  # the decoder has recovered


async def test_reordered_packets_are_decoded_in_their_order(engine: MediaEngine, far: FarEnd) -> None:
    stream = opened(engine, far)
    frames = heard_by(stream)
    said = sweep(40 * WIDE)
    codes = encoded(said)
    order = [number ^ 1 for number in range(40)]
    for number in order:
        at = number * FRAME
        far.send(packet(number, at, codes[at : at + FRAME], payload_type=9), stream.local_port)
        engine.tick(1, 0.0)
    for _ in range(8):
        engine.tick(1, 0.0)
    assert similarity(np.concatenate(frames), said[2 * WIDE : -2 * WIDE]) > 0.99
    assert stream.statistics().concealed == FADING


async def test_a_far_end_may_answer_with_g711(engine: MediaEngine, far: FarEnd) -> None:
    """RFC 3264 §6.1: what both sides named may come, whatever this side sends."""
    stream = opened(engine, far, "G722", "PCMA")
    frames = heard_by(stream)
    said = sweep(40 * FRAME, 8000)
    codes = encode(said, Law.PCMA).tobytes()
    for tick in range(50):
        at = tick * FRAME
        if at < len(codes):
            far.send(packet(tick, at, codes[at : at + FRAME], payload_type=8), stream.local_port)
        engine.tick(1, 0.0)
        assert far.receive()[1] & 0x7F == 9
    heard = np.concatenate(frames)
    assert heard.shape == (50 * WIDE,)
    assert similarity(heard[::2], said[FRAME:-FRAME]) > 0.98


async def test_g711_is_sent_where_g722_may_come(engine: MediaEngine, far: FarEnd) -> None:
    stream = opened(engine, far, "PCMU", "G722")
    frames = heard_by(stream)
    stream.play(ArraySource(wide_tone(60 * WIDE, 1000.0), 16000))
    said = sweep(30 * WIDE)
    talk(engine, far, stream, encoded(said))
    assert far.receive()[1] & 0x7F == 0
    assert similarity(np.concatenate(frames), said[WIDE:-WIDE]) > 0.99


async def test_any_bytes_may_come_and_nothing_grows(engine: MediaEngine, far: FarEnd) -> None:
    stream = opened(engine, far)
    frames = heard_by(stream)
    rng = random.Random(9)
    stamp = 0
    for number in range(400):
        length = rng.choice((0, 1, 3, 50, 160, 480, 1300))
        far.send(packet(number, stamp, rng.randbytes(length), payload_type=9), stream.local_port)
        stamp += rng.choice((length, 1, 160, 2000))
        engine.tick(1, 0.0)
    assert len(frames) == 400
    assert stream.coders is not None


def test_payloads_are_kept_within_a_bound() -> None:
    coders = Coders()
    coders.agree("G722", ["G722"])
    kind = CODECS["G722"].kind
    numbers = {coders.keep(position, kind, b"\xfa" * 160) for position in range(0, 160 * 2 * KEPT, 160)}
    assert len(numbers) == KEPT
    frame = np.full(WIDE, -32768, np.int16)
    coders.samples(0, 0, FRAME, frame)  # its number was given to another since
    assert (frame == -32768).all()
    coders.samples(0, 160 * KEPT, FRAME, frame)
    assert (frame != -32768).all()


# ---- a codec that changes --------------------------------------------------------------------------------------------


async def test_a_stream_becomes_wide_and_narrow_again(engine: MediaEngine, far: FarEnd, tmp_path: Path) -> None:
    """A re-INVITE that changes the codec: what plays, who listens and what records go on."""
    stream = opened(engine, far, "PCMU")
    sink = heard_by(stream)
    wide, narrow = Listener(rate=16000, max_frames=500), Listener(rate=8000, max_frames=500)
    stream.listen(wide)
    stream.listen(narrow)
    recording = Recording(tmp_path / "call.wav", stereo=True)
    stream.record(recording)
    said = sweep(120 * FRAME, 8000)
    playback = stream.play(ArraySource(said))
    decoder = CODECS["G722"].decoder()
    sequence: list[int] = []
    for tick in range(120):
        if tick in (40, 80):
            agree(stream, far, {40: "G722", 80: "PCMU"}[tick])
        number, at = stream.statistics().packets_received, tick * FRAME
        content = (
            encoded(wide_tone(WIDE, 1000.0)) if 40 <= tick < 80 else encode(sweep(FRAME, 8000), Law.PCMU).tobytes()
        )
        kind = 9 if 40 <= tick < 80 else 0
        far.send(packet(number, at, content, payload_type=kind), stream.local_port)
        engine.tick(1, 0.0)
        header = far.receive()
        sequence.append(header[2])
        assert header[1] & 0x7F == kind
        if kind == 9:
            assert len(decoder.decode(header[5])) == WIDE
    assert {(b - a) & 0xFFFF for a, b in pairwise(sequence)} == {1}
    assert [len(frame) for frame in sink] == [FRAME] * 40 + [WIDE] * 40 + [FRAME] * 40
    result = await playback
    assert result.completed
    assert result.played_seconds == pytest.approx(2.4, abs=0.01)
    stream.close()
    recording.join()
    assert [len(frame) async for frame in wide] == [WIDE] * 120
    assert [len(frame) async for frame in narrow] == [FRAME] * 120
    samples, rate = soundfile.read(tmp_path / "call.wav", dtype="int16")
    assert (samples.shape, rate) == ((120 * FRAME, 2), 8000)
    assert similarity(samples[40 * FRAME : 80 * FRAME, 1], said[45 * FRAME : 75 * FRAME]) > 0.98


# ---- who listens and talks -------------------------------------------------------------------------------------------


async def test_a_program_hears_and_speaks_at_16_khz_without_a_detour(engine: MediaEngine, far: FarEnd) -> None:
    stream = opened(engine, far)
    audio = AudioStream(rate=16000, line=stream.rate, prefetch_ms=0)
    stream.converse(audio)
    audio.write_nowait(wide_tone(20 * WIDE))
    mark = audio.mark("end")
    decoder = CODECS["G722"].decoder()
    codes = encoded(wide_tone(30 * WIDE, 6500.0))
    sent = []
    for tick in range(40):
        at = tick * FRAME
        if at < len(codes):
            far.send(packet(tick, at, codes[at : at + FRAME], payload_type=9), stream.local_port)
        engine.tick(1, 0.0)
        sent.append(decoder.decode(far.receive()[5]))
    assert level(np.concatenate(sent[2:19]), 5500.0) > 7000
    assert await mark
    assert (mark.position, mark.seconds) == (20 * WIDE, 0.4)
    stream.close()
    heard = np.concatenate([frame async for frame in audio])
    assert level(heard[10 * WIDE : 25 * WIDE], 6500.0) > 7000


async def test_a_person_talks_at_either_rate(engine: MediaEngine, far: FarEnd) -> None:
    stream = opened(engine, far)
    decoder = CODECS["G722"].decoder()
    for rate in (16000, 8000):
        talker = Talker(rate=rate, line=stream.rate, prefetch=0)
        stream.talk(talker)
        sent = []
        for tick in range(12):
            said = wide_tone(12 * WIDE, 1000.0)[:: 16000 // rate]
            talker.say(said[tick * rate // 50 : (tick + 1) * rate // 50])
            engine.tick(1, 0.0)
            sent.append(decoder.decode(far.receive()[5]))
        talker.close()
        assert level(np.concatenate(sent[2:]), 1000.0) == pytest.approx(8000, rel=0.05)


async def test_a_wide_call_is_recorded_at_16_khz(engine: MediaEngine, far: FarEnd, tmp_path: Path) -> None:
    stream = opened(engine, far)
    recording = Recording(tmp_path / "call.wav", stereo=True, sample_rate=stream.rate)
    stream.record(recording)
    stream.play(ArraySource(wide_tone(30 * WIDE), 16000))
    talk(engine, far, stream, encoded(wide_tone(30 * WIDE, 6500.0)))
    recording.join()
    samples, rate = soundfile.read(tmp_path / "call.wav", dtype="int16")
    assert rate == 16000
    assert level(samples[10 * WIDE : 25 * WIDE, 0], 6500.0) > 7000
    assert level(samples[2 * WIDE : 25 * WIDE, 1], 5500.0) > 7000


async def test_keys_as_tones_are_heard_in_a_wide_call(engine: MediaEngine, far: FarEnd) -> None:
    stream = opened(engine, far)
    keys: list[str] = []
    stream.on_inband_dtmf = lambda key, _: keys.append(key)
    stream.detect_keys(events=False, inband=True)
    tones = np.repeat(key_tones("159#"), 2)  # its images lie above what is looked at
    talk(engine, far, stream, encoded(tones[: len(tones) // WIDE * WIDE]))
    assert keys == list("159#")


async def test_keys_are_sent_as_events_in_the_ticks_of_8_khz(engine: MediaEngine, far: FarEnd) -> None:
    stream = opened(engine, far)
    stream.send_dtmf("5", duration_ms=100)
    stamps = []
    for _ in range(14):
        engine.tick(1, 0.0)
        header = far.receive()
        stamps.append((header[1] & 0x7F, header[3]))
    events = {stamp for kind, stamp in stamps if kind == 101}
    audio = [stamp for kind, stamp in stamps if kind == 9]
    assert len(events) == 1
    assert all((stamp - min(events)) % FRAME == 0 for stamp in audio)
