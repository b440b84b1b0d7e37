"""SipStreamCallAudio in virtual time: how a stream begins, what it carries, why it ends (CONTRACT §4)."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from rtp.listener import PATIENCE_FRAMES
from rtp.talker import Talker
from service.audio_streams import (
    DEFAULT_SECONDS,
    LAST_WORDS_SECONDS,
    AgentMuted,
    AudioConfig,
    AudioFrame,
    AudioMode,
    AudioRequest,
    Ended,
    EndOfStream,
    Started,
    Stats,
    checked,
)
from service.errors import AudioStreamLimit, CallControlUnauthenticated, CallScopeMismatch, ClientGone
from service.levels import MediaRequest, Setting
from service.stream_places import AudioLimits
from sipcore.errors import InvalidRequest, NoOngoingCall, TalkInProgress
from tests.service.bench import Bench, Stream, settle
from tests.service.virtual import in_virtual_time

LISTEN = AudioConfig(AudioMode.LISTEN, 8000, stream_id="ears")
TALK = AudioConfig(AudioMode.TALK, 8000, take_over=True, stream_id="mouth")


def pcm(value: int, samples: int = 160) -> bytes:
    return np.full(samples, value, "<i2").tobytes()


def values(stream: Stream) -> list[int]:
    return [int(np.frombuffer(frame.pcm, "<i2")[0]) for frame in stream.of(AudioFrame)]


async def ended(stream: Stream) -> Ended:
    await asyncio.wait_for(stream.task, 60)
    (last,) = stream.of(Ended)
    assert stream.responses[-1] is last
    return last


# ---- the beginning


@in_virtual_time
async def test_started_says_what_was_agreed_on() -> None:
    bench = Bench()
    call = await bench.connected()
    before = bench.types()
    stream = bench.stream(AudioConfig())
    await settle()
    (started,) = stream.of(Started)
    agreed = started.config
    assert (agreed.mode, agreed.rate, agreed.frame_ms) == (AudioMode.LISTEN, 16000, 20)
    assert len(agreed.stream_id) == 36
    assert agreed.max_duration_s == DEFAULT_SECONDS
    assert bench.current.audio_streams == 1
    assert (bench.current.bot_muted, bench.current.listening_paused) == (False, False)
    stream.ask(None)
    assert (await ended(stream)).reason is EndOfStream.CLIENT_CLOSED
    assert bench.current.audio_streams == 0
    assert bench.types() == before
    assert call.listeners[0].closed


@in_virtual_time
async def test_the_config_has_to_come_first_and_soon() -> None:
    bench = Bench()
    await bench.connected()
    loop = asyncio.get_running_loop()
    for requests in ((), (AudioFrame(pcm(1), 0),), (AgentMuted(True),)):
        before = loop.time()
        stream = bench.stream(*requests)
        with pytest.raises(InvalidRequest) as raised:
            await stream.task
        assert raised.value.field == "config"
        assert loop.time() - before == pytest.approx(0 if requests else 2.0, abs=0.1)
    stream = bench.stream()
    stream.ask(None)
    with pytest.raises(InvalidRequest):
        await stream.task
    assert stream.responses == []


@pytest.mark.parametrize(
    ("config", "field"),
    [
        (AudioConfig(mode=9), "config.mode"),
        (AudioConfig(mode=AudioMode.TALK), "config.take_over"),
        (AudioConfig(rate=44100), "config.sample_rate_hz"),
        (AudioConfig(rate=-1), "config.sample_rate_hz"),
        (AudioConfig(frame_ms=10), "config.frame_ms"),
        (AudioConfig(max_duration_s=-1), "config.max_duration_s"),
        (AudioConfig(stream_id="x" * 129), "config.stream_id"),
        (AudioConfig(stream_id="a\nb"), "config.stream_id"),
    ],
)
def test_a_config_that_is_wrong_names_its_field(config: AudioConfig, field: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        checked(config)
    assert raised.value.field == field


@in_virtual_time
async def test_who_may_not_listen() -> None:
    bench = Bench(control_token="open sesame")
    with pytest.raises(NoOngoingCall):
        await bench.stream(LISTEN, call_id="x", token="open sesame").task
    ringing = asyncio.create_task(bench.dial()) if await _session(bench) else None
    await settle()
    with pytest.raises(NoOngoingCall):
        await bench.stream(LISTEN, token="open sesame").task
    bench.call.answer_by_far_end()
    assert ringing is not None
    await ringing
    for token in (None, "", "wrong"):
        with pytest.raises(CallControlUnauthenticated) as refusal:
            await bench.stream(LISTEN, token=token).task
        assert "sesame" not in str(refusal.value)
    for call_id in (None, "another"):
        with pytest.raises(CallScopeMismatch):
            await bench.stream(LISTEN, call_id=call_id, token="open sesame").task
    stream = bench.stream(LISTEN, token="open sesame")
    await settle()
    assert stream.of(Started)
    assert bench.types()[-1] == "OUTGOING_CALL_CONNECTED"
    stream.ask(None)
    await ended(stream)


async def _session(bench: Bench) -> bool:
    await bench.session()
    return True


@in_virtual_time
async def test_streams_are_bounded_per_call_and_in_all() -> None:
    bench = Bench(audio_limits=AudioLimits(in_all=3, per_call=2))
    await bench.connected()
    first, second = bench.stream(LISTEN), bench.stream(TALK)
    await settle()
    with pytest.raises(AudioStreamLimit, match="a call has 2"):
        await bench.stream(LISTEN).task
    assert bench.current.audio_streams == 2
    await bench.register("dave@example.com")
    await bench.start("dave@example.com")
    await bench.connected()
    third = bench.stream(LISTEN)
    await settle()
    with pytest.raises(AudioStreamLimit, match="the server carries 3"):
        await bench.stream(LISTEN).task
    first.ask(None)
    await ended(first)
    fourth = bench.stream(LISTEN)
    await settle()
    assert fourth.of(Started)
    for stream in (second, third, fourth):
        stream.ask(None)
        await ended(stream)


# ---- what it carries


@in_virtual_time
async def test_frames_are_numbered_and_counters_come_once_a_second() -> None:
    bench = Bench()
    call = await bench.connected()
    stream = bench.stream(LISTEN)
    await settle()
    for number in range(120):
        call.tick(number)
        await asyncio.sleep(0.02)
    assert values(stream) == list(range(120))
    assert [frame.sequence for frame in stream.of(AudioFrame)] == list(range(120))
    assert [stats.sent for stats in stream.of(Stats)] == [50, 100]
    call.hang_up_by_far_end()
    await ended(stream)
    assert stream.of(Stats)[-1] == Stats(sent=120, dropped=0, received=0, underruns=0, discarded=0)


@in_virtual_time
async def test_ten_listeners_hear_the_same() -> None:
    bench = Bench()
    call = await bench.connected()
    streams = [bench.stream(LISTEN) for _ in range(10)]
    await settle()
    assert bench.current.audio_streams == 10
    for number in range(5):
        call.tick(number)
        await settle()
    assert [values(stream) for stream in streams] == [[0, 1, 2, 3, 4]] * 10
    await bench.hang_up()
    assert {(await ended(stream)).reason for stream in streams} == {EndOfStream.CALL_ENDED}


@in_virtual_time
async def test_who_talks_takes_over_from_the_bot() -> None:
    bench = Bench()
    call = await bench.connected()
    stream = bench.stream(TALK)
    await settle()
    status = bench.current
    assert (status.bot_muted, status.listening_paused, status.audio_streams) == (True, True, 1)
    assert (call.muted, call.listening_paused) == (False, True)  # the talker is heard instead, by the stream itself
    talker = call.listeners[0]
    assert isinstance(talker, Talker)
    for number in range(3):
        stream.ask(AudioFrame(pcm(1000 + number), number))
    await settle()
    said = talker.voice.read()
    assert said is not None
    assert said[0] == 1000
    stream.ask(AgentMuted(True))
    await settle()
    assert talker.voice.read() is None
    with pytest.raises(TalkInProgress):
        await bench.stream(TALK).task
    assert (bench.current.bot_muted, bench.current.audio_streams) == (True, 1)
    # An owner's mute stays when the talker leaves.
    bench.control(MediaRequest(voice=Setting.OFF))
    stream.ask(None)
    assert (await ended(stream)).reason is EndOfStream.CLIENT_CLOSED
    assert (bench.current.bot_muted, bench.current.listening_paused, call.muted) == (True, False, True)
    assert not call.listening_paused
    assert stream.of(Stats)[-1].received == 3
    again = bench.stream(TALK)
    await settle()
    assert again.of(Started)
    again.ask(None)
    await ended(again)


@in_virtual_time
async def test_a_frame_of_a_wrong_size_and_a_second_config_end_the_stream() -> None:
    bench = Bench()
    await bench.connected()
    wrong: list[tuple[AudioConfig, AudioRequest, str]] = [
        (TALK, AudioFrame(pcm(1)[:-1], 0), "audio.pcm_s16le"),
        (TALK, AudioFrame(pcm(1, 320), 0), "audio.pcm_s16le"),
        (TALK, AudioFrame(b"", 0), "audio.pcm_s16le"),
        (AudioConfig(AudioMode.TALK, 16000, take_over=True), AudioFrame(pcm(1), 0), "audio.pcm_s16le"),
        (LISTEN, LISTEN, "config"),
    ]
    for config, request, field in wrong:
        stream = bench.stream(config, request)
        with pytest.raises(InvalidRequest) as raised:
            await stream.task
        assert raised.value.field == field
        assert (bench.current.audio_streams, bench.current.bot_muted) == (0, False)


@in_virtual_time
async def test_audio_of_a_client_that_only_listens_is_counted_and_not_used() -> None:
    bench = Bench()
    await bench.connected()
    stream = bench.stream(LISTEN, AudioFrame(pcm(1), 0), AgentMuted(True))
    await settle()
    stream.ask(None)
    await ended(stream)
    assert stream.of(Stats)[-1] == Stats(sent=0, dropped=0, received=1, underruns=0, discarded=1)


# ---- the end


@in_virtual_time
async def test_the_call_is_transferred() -> None:
    bench = Bench()
    await bench.connected()
    stream = bench.stream(LISTEN)
    await settle()
    await bench.transfer()
    assert (await ended(stream)).reason is EndOfStream.CALL_TRANSFERRED


@in_virtual_time
async def test_the_time_is_up() -> None:
    bench = Bench()
    await bench.connected()
    loop = asyncio.get_running_loop()
    before = loop.time()
    stream = bench.stream(AudioConfig(max_duration_s=7))
    assert (await ended(stream)).reason is EndOfStream.MAX_DURATION
    assert loop.time() - before == pytest.approx(7, abs=0.1)


@in_virtual_time
async def test_a_client_that_stops_reading_loses_frames_and_then_the_stream() -> None:
    bench = Bench()
    call = await bench.connected()
    stream, other = bench.stream(TALK), bench.stream(LISTEN)
    await settle()
    stream.reads.clear()
    for number in range(60 + PATIENCE_FRAMES):
        call.tick(number)
        await asyncio.sleep(0.02)
    assert (bench.current.audio_streams, bench.current.bot_muted) == (1, False)
    stream.reads.set()
    assert (await ended(stream)).reason is EndOfStream.STALLED
    assert stream.of(Stats)[-1].dropped > PATIENCE_FRAMES
    assert values(other) == list(range(60 + PATIENCE_FRAMES))
    await bench.hang_up()
    await ended(other)


@in_virtual_time
async def test_a_client_that_never_reads_again_is_given_up() -> None:
    bench = Bench()
    call = await bench.connected()
    stream = bench.stream(LISTEN)
    await settle()
    stream.reads.clear()
    call.tick()
    await settle()
    await bench.hang_up()
    loop = asyncio.get_running_loop()
    before = loop.time()
    with pytest.raises(ClientGone):
        await stream.task
    assert loop.time() - before == pytest.approx(LAST_WORDS_SECONDS, abs=0.1)


@in_virtual_time
async def test_a_client_that_is_gone_gives_the_call_its_bot_back() -> None:
    bench = Bench()
    call = await bench.connected()
    stream = bench.stream(TALK)
    await settle()
    stream.task.cancel()
    await settle()
    assert stream.task.cancelled()
    assert (bench.current.audio_streams, bench.current.bot_muted, call.listening_paused) == (0, False, False)
    assert call.listeners[0].closed


@in_virtual_time
async def test_a_bug_ends_the_stream_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    call = await bench.connected()
    stream = bench.stream(TALK, AudioFrame(None, 0))  # type: ignore[arg-type]
    last = await ended(stream)
    assert last.reason is EndOfStream.INTERNAL
    assert "TypeError" in caplog.text
    assert "TypeError" not in last.detail
    assert call.is_connected
    assert not bench.current.bot_muted
