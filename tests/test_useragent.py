"""The embedder's API: two user agents on a network in memory, in virtual time."""

from __future__ import annotations

import asyncio
import gc
import weakref

import numpy as np
import pytest

from sipcore.broadcast import Lost
from sipcore.call import Call, CallState
from sipcore.config import Account
from sipcore.errors import (
    CallCancelled,
    CallError,
    CallRejected,
    CallTimeout,
    InvalidAddress,
    InvalidHeader,
    NoOngoingCall,
    RegistrationTimeout,
    ServerUnreachable,
    TalkInProgress,
    TransferRejected,
)
from sipcore.events import (
    CallAnswered,
    CallEnded,
    CallHeld,
    CallResumed,
    CallRinging,
    EndCause,
    Party,
    Reason,
)
from sipcore.transfer import ReferRequest
from tests.kit.pair import pair
from tests.kit.virtual_time import virtual_time


@virtual_time
async def test_a_call_its_events_and_its_end() -> None:
    async with pair() as scene:
        here, there = await scene.connect()
        assert (here.direction, there.direction) == ("outgoing", "incoming")
        assert (here.remote, there.remote) == ("sip:bob@192.0.2.2", "sip:alice@192.0.2.1")
        assert scene.alice_media.streams[0].settings[-1]["remote"] == ("192.0.2.2", 40000)
        ended = await there.hangup()
        assert (ended.cause, ended.by) == (EndCause.HANGUP, Party.LOCAL)
        assert (await here.wait_ended()).by is Party.REMOTE
        events = [event async for event in here.events()]
        assert [type(event) for event in events] == [CallRinging, CallAnswered, CallEnded]
        assert scene.here.calls == ()


@virtual_time
async def test_a_call_that_is_over_does_not_wait_for_the_collector() -> None:
    """Calls last minutes, and live in its oldest generation by then, which it looks at rarely."""
    async with pair() as scene:
        call, _ = await scene.connect()
        await call.hangup()
        scene.alice_media.streams.clear()
        gc.collect()
        gc.disable()
        try:
            gone = weakref.ref(call)
            del call
            assert gone() is None
        finally:
            gc.enable()


@virtual_time
async def test_leaving_the_block_hangs_up() -> None:
    async with pair() as scene:
        answering = asyncio.create_task(scene.answer())
        async with await scene.here.call("sip:bob@192.0.2.2") as call:
            assert call.is_connected
        assert call.state is CallState.ENDED
        assert (await (await answering).wait_ended()).by is Party.REMOTE


@virtual_time
async def test_closing_the_agent_ends_its_calls() -> None:
    async with pair() as scene:
        here, there = await scene.connect()
        before = asyncio.get_running_loop().time()
        await scene.alice.close()
        assert asyncio.get_running_loop().time() - before < 2
        assert here.ended is not None
        assert here.ended.cause is EndCause.SHUTDOWN
        assert (await there.wait_ended()).by is Party.REMOTE


@virtual_time
async def test_closing_does_not_wait_for_a_far_end_that_is_gone() -> None:
    async with pair() as scene:
        await scene.connect()
        scene.network.conditions = type(scene.network.conditions)(loss=1.0)
        before = asyncio.get_running_loop().time()
        await scene.alice.close()
        assert asyncio.get_running_loop().time() - before <= 2


@virtual_time
async def test_a_refusal_carries_its_code() -> None:
    async with pair() as scene:
        scene.there.screen = lambda call: 486
        with pytest.raises(CallRejected, match=r"486 Busy Here from sip:bob@192\.0\.2\.2") as caught:
            await scene.here.call("sip:bob@192.0.2.2")
        assert caught.value.code == 486


@virtual_time
async def test_a_screen_that_fails_refuses_the_call() -> None:
    async with pair() as scene:

        def broken(call: Call) -> int | None:
            raise RuntimeError("a bug of the embedder")

        scene.there.screen = broken
        with pytest.raises(CallRejected) as caught:
            await scene.here.call("sip:bob@192.0.2.2")
        assert caught.value.code == 500


@virtual_time
async def test_ringing_times_out() -> None:
    async with pair() as scene:
        with pytest.raises(CallTimeout, match=r"No answer from sip:bob@192\.0\.2\.2 within 3 s"):
            await scene.here.call("sip:bob@192.0.2.2", timeout=3)


@virtual_time
async def test_cancelling_the_wait_cancels_the_call() -> None:
    async with pair() as scene:
        calling = asyncio.create_task(scene.here.call("sip:bob@192.0.2.2"))
        call = await anext(scene.there.incoming())
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        assert (await call.wait_ended()).cause is EndCause.CANCELLED
        with pytest.raises(CallCancelled):
            await call.connected()
        with pytest.raises(NoOngoingCall):
            await call.answer()


@virtual_time
async def test_nobody_listens() -> None:
    async with pair() as scene:
        with pytest.raises(ServerUnreachable):
            await scene.here.call("sip:bob@192.0.2.99")
        with pytest.raises(ServerUnreachable, match="no such name"):
            await scene.here.call("sip:bob@nowhere.example")


@virtual_time
async def test_bad_arguments_send_nothing() -> None:
    async with pair() as scene:
        with pytest.raises(InvalidAddress, match="callee_id: is empty"):
            scene.here.place(" ")
        with pytest.raises(InvalidHeader, match="Via is written by the SIP stack"):
            scene.here.place("sip:bob@192.0.2.2", headers={"Via": "x"})
        with pytest.raises(InvalidHeader, match="holds CR, LF or NUL"):
            scene.here.place("sip:bob@192.0.2.2", headers={"X-A": "b\r\nEvil: c"})
        assert scene.network.packets == []
        assert scene.alice_media.streams == []


@virtual_time
async def test_headers_travel_both_ways() -> None:
    async with pair() as scene:
        answering = asyncio.create_task(scene.answer())
        await scene.here.call("sip:bob@192.0.2.2", headers={"X-Ticket": "4711"})
        assert (await answering).headers == {"X-Ticket": "4711"}


@virtual_time
async def test_no_port_is_free() -> None:
    async with pair() as scene:
        scene.alice_media._ports = 0
        with pytest.raises(CallError, match="no port is free"):
            await scene.here.call("sip:bob@192.0.2.2")
        scene.alice_media._ports = 9
        scene.bob_media._ports = 0
        with pytest.raises(CallRejected) as caught:
            await scene.here.call("sip:bob@192.0.2.2")
        assert caught.value.code == 503


@virtual_time
async def test_playing_queues_and_ends_with_the_call() -> None:
    async with pair() as scene:
        here, _ = await scene.connect()
        one_second = np.zeros(8000, np.int16)
        result = await here.play(one_second, one_second)
        assert (result.completed, result.played_seconds) == (True, 2.0)
        playback = here.play(np.zeros(80_000, np.int16))
        await here.hangup()
        assert (await playback).completed is False
        with pytest.raises(NoOngoingCall):
            here.play(one_second)


@virtual_time
async def test_mute_is_idempotent() -> None:
    async with pair() as scene:
        here, _ = await scene.connect()
        for _ in range(2):
            here.mute()
            assert here.muted
        for _ in range(2):
            here.unmute()
            assert not here.muted
            for paused in (True, True, False):
                (here.pause_listening if paused else here.resume_listening)()
                assert here.listening_paused is paused


@virtual_time
async def test_people_listen_and_one_talks_until_the_call_ends() -> None:
    async with pair() as scene:
        here, _ = await scene.connect()
        listeners = [here.listen(), here.listen(rate=16000)]
        talker = here.talk(rate=16000)
        assert [one.rate for one in (*listeners, talker)] == [8000, 16000, 16000]
        with pytest.raises(TalkInProgress):
            here.talk()
        with pytest.raises(ValueError, match="44100"):
            here.listen(rate=44100)
        talker.close()
        second = here.talk()
        await here.hangup()
        for one in (*listeners, second):
            assert [frame async for frame in one] == []
        for method in (here.listen, here.talk):
            with pytest.raises(NoOngoingCall):
                method()


@virtual_time
async def test_hold_and_resume_reach_the_far_end() -> None:
    async with pair() as scene:
        here, there = await scene.connect()
        await here.hold()
        await asyncio.sleep(0.1)
        assert scene.bob_media.streams[0].settings[-1]["send"] is False
        await here.resume()
        await asyncio.sleep(0.1)
        await here.hangup()
        kinds = [type(event) async for event in there.events() if not isinstance(event, Lost)]
        assert kinds[-3:] == [CallHeld, CallResumed, CallEnded]


@virtual_time
async def test_a_hold_does_not_outlive_its_call() -> None:
    async with pair() as scene:
        here, _ = await scene.connect()
        hold = asyncio.create_task(here.hold())
        await asyncio.sleep(0)
        here.hangup_now()
        with pytest.raises(NoOngoingCall):
            await hold


@virtual_time
async def test_a_transfer_is_accepted_and_the_call_hung_up() -> None:
    async with pair() as scene:
        here, there = await scene.connect()
        asked: list[ReferRequest] = []

        def accept(request: ReferRequest) -> None:
            asked.append(request)
            request.accept()

        there.on_refer = accept
        await here.transfer("sip:carol@192.0.2.3", headers={"X-Why": "because"})
        assert asked[0].target == "sip:carol@192.0.2.3"
        assert asked[0].headers["X-Why"] == "because"
        assert here.ended is not None
        assert here.ended.cause is EndCause.TRANSFERRED


@virtual_time
async def test_a_transfer_is_refused_unless_somebody_takes_it() -> None:
    """CONTRACT: REFER in gets 603 unless the embedder handles it."""
    async with pair() as scene:
        here, _ = await scene.connect()
        with pytest.raises(TransferRejected) as caught:
            await here.transfer("sip:carol@192.0.2.3")
        assert caught.value.code == 603
        assert here.is_connected


@virtual_time
async def test_hanging_up_at_once_ends_the_call_before_the_answer_to_the_bye() -> None:
    async with pair() as scene:
        here, there = await scene.connect()
        here.hangup_now()
        assert here.ended is not None
        assert scene.alice_media.open_streams == 0
        assert (await there.wait_ended()).by is Party.REMOTE


@virtual_time
async def test_a_failed_first_registration_leaves_nothing_behind() -> None:
    async with pair() as scene:
        scene.network.names["registrar.example"] = "192.0.2.50"
        with pytest.raises(ServerUnreachable):
            await scene.alice.register(Account("sip:alice@registrar.example", password="secret"))
        scene.network.conditions = type(scene.network.conditions)(loss=1.0)
        with pytest.raises(RegistrationTimeout):
            await scene.alice.register(Account("sip:alice@registrar.example", password="secret"))
        assert scene.alice.registrations == (scene.here,)
        scene.network.conditions = type(scene.network.conditions)()
        await asyncio.sleep(100)
        assert scene.alice.stack.idle


@virtual_time
async def test_how_a_call_ended_is_told_in_full() -> None:
    """FIELD 21: code, Reason with the Q.850 cause, who hung up, and whether there was early media."""
    async with pair() as scene:
        here, there = await scene.connect()
        await here.hangup(reason=Reason("Q.850", 31, "Normal, unspecified"))
        ended = await there.wait_ended()
        assert (ended.by, ended.reason) == (Party.REMOTE, (Reason("Q.850", 31, "Normal, unspecified"),))
        assert ended.description == "Hung up by sip:alice@192.0.2.1 (Q.850 31 Normal, unspecified)"
        assert not ended.early_media
        assert here.ended is not None
        assert (here.ended.by, here.ended.reason) == (Party.LOCAL, ended.reason)


@virtual_time
async def test_a_call_that_another_telephone_took_is_not_a_missed_one() -> None:
    """RFC 3326 §3.1."""
    async with pair() as scene:
        call = scene.here.place("sip:bob@192.0.2.2")
        ringing = await anext(scene.there.incoming())
        await call.hangup(reason=Reason("SIP", 200, "Call completed elsewhere"))
        assert (await ringing.wait_ended()).answered_elsewhere
        assert call.ended is not None
        assert not call.ended.answered_elsewhere


@virtual_time
async def test_a_call_ended_for_silence_tells_the_far_end() -> None:
    """RFC 3326: what the cause says, unless the caller says better."""
    async with pair() as scene:
        here, there = await scene.connect()
        await here.hangup(cause=EndCause.SILENCE)
        assert (await there.wait_ended()).reason == (Reason("SIP", 408, "Media timeout"),)
