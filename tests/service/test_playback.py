"""SipPlayWavFiles (CONTRACT §§4-5)."""

from __future__ import annotations

import asyncio

import pytest

from service.ongoing import CALL_ID_HEADER
from service.status import StatusType
from sipcore.errors import InvalidAudio
from tests.service.bench import Bench, settle, wav
from tests.service.virtual import in_virtual_time


@in_virtual_time
async def test_files_are_played_in_order_to_the_end() -> None:
    bench = Bench()
    call = await bench.connected()
    loop = asyncio.get_running_loop()
    before = loop.time()
    status = await bench.play(wav(0.5), wav(1.0, rate=16000, channels=2))
    assert status.type is StatusType.MICROPHONE_WAV_FILES_PLAYED
    assert loop.time() - before == pytest.approx(1.5, abs=0.01)
    assert call.playbacks[0].total_seconds == pytest.approx(1.5, abs=0.01)
    assert bench.current == status
    assert status.call_id


@in_virtual_time
async def test_a_second_request_queues_behind_the_first_in_the_order_they_came() -> None:
    bench = Bench()
    call = await bench.connected()
    first = asyncio.create_task(bench.play(wav(0.5)))
    second = asyncio.create_task(bench.play(wav(0.25)))
    await settle()
    assert [round(playback.total_seconds, 2) for playback in call.playbacks] == [0.5, 0.25]
    await first
    assert not second.done()
    call.playbacks[1].start()
    await second
    assert bench.types()[-2:] == ["MICROPHONE_WAV_FILES_PLAYED"] * 2


@in_virtual_time
async def test_cancelling_the_request_stops_at_the_next_frame() -> None:
    bench = Bench()
    call = await bench.connected()
    playing = asyncio.create_task(bench.play(wav(1.0)))
    await asyncio.sleep(0.4)
    playing.cancel()
    await settle()
    assert call.playbacks[0].cancelled
    assert (bench.current.type, bench.current.exception) == (
        StatusType.MICROPHONE_WAV_FILES_PLAYED,
        "PlaybackCancelled",
    )
    assert "0.40 s of 1.00 s" in bench.current.description
    assert call.is_connected


@in_virtual_time
async def test_a_deadline_returns_and_playing_goes_on() -> None:
    bench = Bench()
    await bench.connected()
    for _ in range(2):  # the second is not answered with what became of the first
        status = await bench.play(wav(1.0), deadline=0.5)
        assert status.type is StatusType.OUTGOING_CALL_CONNECTED
        assert (status.call_id, status.callee) == (bench.current.call_id, bench.current.callee)
        await asyncio.sleep(1)
        assert bench.current.type is StatusType.MICROPHONE_WAV_FILES_PLAYED


@in_virtual_time
async def test_the_call_ends_while_playing() -> None:
    bench = Bench()
    call = await bench.connected()
    playing = asyncio.create_task(bench.play(wav(1.0)))
    await asyncio.sleep(0.3)
    call.hang_up_by_far_end()
    status = await playing
    assert (status.type, status.exception) == (StatusType.NO_ONGOING_CALL, "NoOngoingCall")
    assert "0.30 s of 1.00 s" in status.description
    assert bench.types()[-2:] == ["OUTGOING_CALL_FINISHED", "NO_ONGOING_CALL"]


@in_virtual_time
async def test_playing_needs_a_connected_call() -> None:
    bench = Bench()
    assert (await bench.play(wav(0.1))).type is StatusType.NO_SESSION
    await bench.register()
    assert (await bench.play(wav(0.1))).type is StatusType.NO_SESSION
    await bench.start()
    status = await bench.play(wav(0.1))
    assert (status.type, status.exception) == (StatusType.NO_ONGOING_CALL, "NoOngoingCall")
    assert bench.current == status


@in_virtual_time
async def test_scope_of_another_call() -> None:
    bench = Bench()
    call = await bench.connected({CALL_ID_HEADER: "this"})
    assert (await bench.play(wav(0.1), call_id="other")).exception == "CallScopeMismatch"
    assert call.playbacks == []
    assert (await bench.play(wav(0.1), call_id="this")).type is StatusType.MICROPHONE_WAV_FILES_PLAYED


MALFORMED = {
    "text": (b"this is no wav file, but a text that is long enough to be one\n", "wav_files[1]"),
    "empty": (b"", "wav_files[1]"),
    "header only": (wav(0), "wav_files[1]"),
    "too large": (wav(70), "wav_files"),
}


@in_virtual_time
@pytest.mark.parametrize("state", ["nothing", "registered", "session", "connected"])
@pytest.mark.parametrize("case", MALFORMED)
async def test_what_is_no_audio_is_malformed_whatever_the_state(case: str, state: str) -> None:
    data, field = MALFORMED[case]
    bench = Bench(wav_limit=1_000_000)
    if state == "registered":
        await bench.register()
    elif state == "session":
        await bench.session()
    elif state == "connected":
        await bench.connected()
    before = bench.types()
    with pytest.raises(InvalidAudio) as raised:
        await bench.play(wav(0.1), data)
    assert raised.value.field == field
    assert str(raised.value)
    assert bench.types() == before
    assert state != "connected" or bench.call.playbacks == []


@in_virtual_time
async def test_an_empty_list_is_malformed() -> None:
    with pytest.raises(InvalidAudio) as raised:
        await Bench().play()
    assert raised.value.field == "wav_files"


@in_virtual_time
async def test_the_hours_of_all_files_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.playback.MAX_SECONDS", 2)
    bench = Bench()
    await bench.connected()
    with pytest.raises(InvalidAudio, match="all files together are longer than") as raised:
        await bench.play(wav(1.5), wav(1.0))
    assert raised.value.field == "wav_files[1]"
    assert (await bench.play(wav(1.0), wav(1.0))).type is StatusType.MICROPHONE_WAV_FILES_PLAYED
