"""What the engine sends, tick by tick: numbers, what plays, mute and hold; and what goes out after a stall."""

from __future__ import annotations

import numpy as np
import pytest

from rtp.engine import MediaEngine
from rtp.g711 import SILENCE, Law, decode, encode
from rtp.incoming import PLAY_OUT_FRAMES
from rtp.outgoing import CATCH_UP_FRAMES
from rtp.sources import ArraySource
from tests.rtp.by_hand import FRAME, HOST, PREFETCH, Ear, Packet, configure, configured, tick
from tests.rtp.kit import FarEnd, packet, tone

# ---- sending ---------------------------------------------------------------------------------------------------------


async def test_silence_goes_out_from_the_first_tick_on(engine: MediaEngine, far: FarEnd) -> None:
    configured(engine, far.address)
    tick(engine, 3)
    packets = [far.receive() for _ in range(3)]
    assert [marker for marker, *_ in packets] == [1, 0, 0]
    assert {payload for *_, payload in packets} == {bytes([SILENCE[Law.PCMU]]) * FRAME}


async def test_numbers_go_on_across_wav_silence_and_mute(engine: MediaEngine, far: FarEnd) -> None:
    """RFC 3550 §5.1: the sequence number grows by one for each packet; here the timestamp by one frame."""
    stream = configured(engine, far.address)
    tick(engine, 2)
    stream.play(ArraySource(tone(3 * FRAME)))
    tick(engine, 5)
    stream.mute()
    stream.play(ArraySource(tone(2 * FRAME)))
    tick(engine, 4)
    stream.unmute()
    tick(engine, 2)
    packets = [far.receive() for _ in range(13)]
    first = packets[0]
    for number, (marker, _, sequence, timestamp, ssrc, _) in enumerate(packets):
        assert marker == (1 if number == 0 else 0)
        assert sequence == (first[2] + number) & 0xFFFF
        assert timestamp == (first[3] + number * FRAME) & 0xFFFFFFFF
        assert ssrc == first[4]


async def test_what_plays_is_what_arrives(engine: MediaEngine, far: FarEnd) -> None:
    stream = configured(engine, far.address)
    samples = tone(10 * FRAME)
    playback = stream.play(ArraySource(samples[:777]))
    stream.play(ArraySource(samples[777:]))
    tick(engine, 10)
    sent = b"".join(far.receive()[5] for _ in range(10))
    assert sent == encode(samples, Law.PCMU).tobytes()
    assert (await playback).completed


async def test_a_muted_wav_goes_on_silently(engine: MediaEngine, far: FarEnd) -> None:
    stream = configured(engine, far.address)
    samples = tone(4 * FRAME)
    playback = stream.play(ArraySource(samples))
    tick(engine)
    stream.mute()
    assert stream.muted
    tick(engine, 2)
    stream.unmute()
    tick(engine)
    sent = [far.receive()[5] for _ in range(4)]
    said = encode(samples, Law.PCMU).reshape(4, FRAME)
    assert sent == [said[0].tobytes(), b"\xff" * FRAME, b"\xff" * FRAME, said[3].tobytes()]
    assert (await playback).completed


async def test_clearing_is_silence_from_the_next_frame_on(engine: MediaEngine, far: FarEnd) -> None:
    stream = configured(engine, far.address)
    playbacks = [stream.play(ArraySource(tone(8000))) for _ in range(2)]
    tick(engine)
    stream.clear()
    tick(engine)
    far.receive()
    assert far.receive()[5] == b"\xff" * FRAME
    assert [(await playback).played_seconds for playback in playbacks] == [0.02, 0.0]


async def test_on_hold_nothing_goes_out_and_the_wav_waits(engine: MediaEngine, far: FarEnd) -> None:
    """RFC 3264 §8.4. Timestamps follow the clock across the pause, the marker says that it is over (RFC 3551 §4.1)."""
    stream = configured(engine, far.address)
    samples = tone(2 * FRAME)
    stream.play(ArraySource(samples))
    tick(engine)
    before = far.receive()
    configure(stream, far.address, send=False)
    tick(engine, 5)
    assert far.waiting() == 0
    configure(stream, far.address)
    tick(engine)
    after = far.receive()
    assert after[0] == 1
    assert after[2] == (before[2] + 1) & 0xFFFF
    assert after[3] == (before[3] + 6 * FRAME) & 0xFFFFFFFF
    assert after[5] == encode(samples[FRAME:], Law.PCMU).tobytes()


async def test_another_codec_and_address_in_mid_call(engine: MediaEngine, far: FarEnd) -> None:
    stream = configured(engine, far.address)
    stream.play(ArraySource(tone(2 * FRAME)))
    tick(engine)
    before = far.receive()
    with FarEnd() as moved:
        configure(stream, moved.address, codec="pcma", payload_type=8)
        tick(engine)
        after = moved.receive()
    assert far.waiting() == 0
    assert after[1] == 8
    assert after[2] == (before[2] + 1) & 0xFFFF
    assert after[4] == before[4]
    assert after[5] == encode(tone(2 * FRAME)[FRAME:], Law.PCMA).tobytes()


async def test_an_unconfigured_stream_sends_nothing(engine: MediaEngine, far: FarEnd) -> None:
    stream = engine.open_stream(HOST)
    playback = stream.play(ArraySource(tone(FRAME)))
    tick(engine, 3)
    assert stream.statistics().packets_sent == 0
    assert not playback.done


async def test_what_cannot_be_sent_is_counted(engine: MediaEngine) -> None:
    stream = configured(engine, ("255.255.255.255", 5004))
    tick(engine, 2)
    assert stream.statistics().send_errors == 2
    assert stream.statistics().packets_sent == 0


# ---- stalls ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("missed", [1, CATCH_UP_FRAMES - 1])
async def test_a_short_stall_loses_no_frame(engine: MediaEngine, far: FarEnd, missed: int) -> None:
    stream = configured(engine, far.address)
    samples = tone(10 * FRAME)
    stream.play(ArraySource(samples))
    tick(engine)
    engine.tick(1 + missed, 0.0)
    packets = [far.receive() for _ in range(2 + missed)]
    assert far.waiting() == 0
    for number, entry in enumerate(packets):
        assert entry[3] == (packets[0][3] + number * FRAME) & 0xFFFFFFFF
    sent = b"".join(entry[5] for entry in packets)
    assert sent == encode(samples, Law.PCMU).tobytes()[: len(sent)]


async def test_a_long_stall_sends_no_burst_and_loses_nothing_that_plays(engine: MediaEngine, far: FarEnd) -> None:
    """Of 250 ms the last 100 go out at once; the rest is a pause in the timestamps, with a marker behind it."""
    stream = configured(engine, far.address)
    samples = tone(10 * FRAME)
    stream.play(ArraySource(samples))
    tick(engine)
    engine.tick(12, 0.0)
    packets: list[Packet] = [far.receive() for _ in range(1 + CATCH_UP_FRAMES)]
    assert far.waiting() == 0
    assert [entry[0] for entry in packets] == [1, 1] + [0] * (CATCH_UP_FRAMES - 1)
    assert [(entry[2] - packets[0][2]) & 0xFFFF for entry in packets] == list(range(1 + CATCH_UP_FRAMES))
    assert (packets[-1][3] - packets[0][3]) & 0xFFFFFFFF == 12 * FRAME
    sent = b"".join(entry[5] for entry in packets)
    assert sent == encode(samples, Law.PCMU).tobytes()[: len(sent)]


async def test_sinks_get_the_frames_of_a_stall(engine: MediaEngine, far: FarEnd) -> None:
    stream = configured(engine, far.address)
    ear = Ear()
    stream.add_sink(ear)
    samples = tone(30 * FRAME)
    codes = encode(samples, Law.PCMU).reshape(-1, FRAME)
    for number in range(10):
        far.send(packet(number, number * FRAME, codes[number].tobytes()), stream.local_port)
        tick(engine)
    for number in range(10, 22):
        far.send(packet(number, number * FRAME, codes[number].tobytes()), stream.local_port)
    engine.tick(12, 0.0)
    for number in range(22, 30):
        far.send(packet(number, number * FRAME, codes[number].tobytes()), stream.local_port)
        tick(engine)
    assert len(ear.frames) == 30
    assert np.array_equal(ear.heard[PREFETCH * FRAME :], decode(codes.reshape(-1), Law.PCMU)[: 27 * FRAME])
    assert stream.statistics().concealed == 0


async def test_after_a_very_long_stall_at_most_a_second_is_played_out(engine: MediaEngine, far: FarEnd) -> None:
    stream = configured(engine, far.address)
    ear = Ear()
    stream.add_sink(ear)
    engine.tick(100_000, 0.0)
    assert len(ear.frames) == PLAY_OUT_FRAMES
