"""Sinks, sources and handlers that fail or close things in the middle of a tick, and far ends that send rubbish."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rtp.engine import MediaEngine
from rtp.sinks import CallbackSink
from rtp.sources import ArraySource
from tests.rtp.by_hand import HOST, Ear, configured, tick
from tests.rtp.kit import FarEnd, tone


async def test_a_sink_that_fails_is_removed_and_the_others_go_on(
    engine: MediaEngine, far: FarEnd, caplog: pytest.LogCaptureFixture
) -> None:
    class Bad(Ear):
        def write(self, pcm: NDArray[np.int16]) -> None:
            raise RuntimeError("bug")

        def close(self) -> None:
            raise RuntimeError("another bug")

    stream = configured(engine, far.address)
    bad, good = Bad(), Ear()
    stream.add_sink(bad)
    stream.add_sink(good)
    with caplog.at_level(logging.ERROR):
        tick(engine, 3)
    assert caplog.text.count("audio sink failed and was removed") == 1
    assert len(good.frames) == 3
    assert far.waiting() == 3


async def test_a_sink_cannot_change_what_another_hears(engine: MediaEngine, far: FarEnd) -> None:
    def scribble(pcm: NDArray[np.int16]) -> None:
        pcm[:] = 1

    stream = configured(engine, far.address)
    ear = Ear()
    stream.add_sink(CallbackSink(scribble))
    stream.add_sink(ear)
    tick(engine, 2)
    assert not ear.heard.any()


@pytest.mark.parametrize("again", [False, True], ids=["close", "close and open"])
async def test_callbacks_may_close_and_open_streams(engine: MediaEngine, far: FarEnd, again: bool) -> None:
    streams = [configured(engine, far.address) for _ in range(3)]
    ear = Ear()

    def close_all(pcm: NDArray[np.int16]) -> None:
        for stream in streams[:2]:
            stream.close()
        if again:
            for _ in range(40):  # the bank grows in the middle of the tick
                engine.open_stream(HOST)

    streams[0].add_sink(CallbackSink(close_all))
    streams[2].add_sink(ear)
    tick(engine, 3)
    assert len(ear.frames) == 3
    assert far.waiting() == 3 + 2


async def test_a_source_may_close_its_stream(engine: MediaEngine, far: FarEnd) -> None:
    stream, other = configured(engine, far.address), configured(engine, far.address)

    class Closing(ArraySource):
        def read(self, samples: int) -> NDArray[np.int16]:
            stream.close()
            return super().read(samples)

    playback = stream.play(Closing(tone(8000)))
    tick(engine, 2)
    assert not (await playback).completed
    assert far.waiting() == 2
    assert other.statistics().packets_sent == 2


async def test_a_bug_in_a_tick_is_logged_and_the_next_one_runs(
    engine: MediaEngine, far: FarEnd, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    configured(engine, far.address)
    with caplog.at_level(logging.ERROR), monkeypatch.context() as patch:
        patch.setattr("rtp.incoming.conceal", lambda *arguments: 1 / 0)
        tick(engine)
    assert "tick of the media clock failed" in caplog.text
    tick(engine)
    assert far.waiting() == 2


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=80) | st.binary(max_size=60).map(lambda tail: b"\x80\x65" + tail), max_size=12))
async def test_nothing_a_peer_sends_raises_out_of_a_tick(
    engine: MediaEngine, caplog: pytest.LogCaptureFixture, datagrams: list[bytes]
) -> None:
    with FarEnd() as far, caplog.at_level(logging.ERROR):
        stream = configured(engine, far.address)
        for datagram in datagrams:
            far.send(datagram, stream.local_port)
        tick(engine, 2)
        statistics = stream.statistics()
        assert statistics.packets_received + statistics.malformed + statistics.discarded == len(datagrams)
        stream.close()
    assert not caplog.records
