"""A streamed recording whose client takes nothing any more, in virtual time."""

from __future__ import annotations

import asyncio

import pytest

from service.errors import ClientGone
from service.recording_streams import LAST_WORDS_SECONDS, Chunk, RecordingConfig, RecordingResponse, RecordingStreams
from service.recordings import Recordings
from tests.service.bench import Bench, settle
from tests.service.virtual import in_virtual_time


@in_virtual_time
async def test_nobody_waits_for_ever_for_a_client_that_takes_nothing() -> None:
    bench = Bench()
    call = await bench.connected()
    places, recordings = bench.accounts.places, Recordings(None)
    line = bench.accounts.active
    assert line is not None
    assert line.ongoing is not None
    loop = asyncio.get_running_loop()
    taken: list[RecordingResponse] = []

    async def send(response: RecordingResponse) -> None:
        taken.append(response)
        if isinstance(response, Chunk):
            await loop.create_future()  # never

    config = RecordingConfig("", chunk_ms=20, max_behind_ms=1000)
    running = asyncio.create_task(RecordingStreams(places, recordings).run(line.ongoing, config, send))
    await settle()
    for _ in range(5):
        call.tick(1)
    await settle()
    assert len(taken) == 2
    for _ in range(60):
        call.tick(1)
    stalled = loop.time()
    with pytest.raises(ClientGone):
        await running
    assert loop.time() - stalled == pytest.approx(LAST_WORDS_SECONDS)
    assert line.live().audio_streams == 0
    assert call.is_connected
