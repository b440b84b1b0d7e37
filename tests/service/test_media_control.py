"""SipSetCallMediaControl: levels per owner, beside SipMute, transfers and the secret (CONTRACT §4)."""

from __future__ import annotations

import asyncio
import logging

import pytest

from service.levels import MediaRequest, Owner, Setting
from service.status import StatusType
from tests.service.bench import Bench, settle, wav
from tests.service.virtual import in_virtual_time

ON, OFF = Setting.ON, Setting.OFF
OPERATOR, PARTICIPANT = Owner.OPERATOR, Owner.PARTICIPANT
MUTE, UNMUTE = MediaRequest(voice=OFF), MediaRequest(voice=ON)


@in_virtual_time
async def test_levels_are_set_returned_and_not_recorded() -> None:
    bench = Bench()
    call = await bench.connected()
    before = bench.types()
    for _ in range(2):  # a level, not a toggle
        status = bench.control(MediaRequest(voice=OFF, listening=OFF))
        assert (status.type, status.exception) == (StatusType.OUTGOING_CALL_CONNECTED, "")
        assert (status.bot_muted, status.listening_paused, status.audio_streams) == (True, True, 0)
        assert status.call_id == bench.statuses()[-1].call_id != ""
        assert (call.muted, call.listening_paused) == (True, True)
    assert bench.current.bot_muted  # SipGetSipStatus shows the levels as they are now
    assert not bench.statuses()[-1].bot_muted  # the history as they were then
    status = bench.control(MediaRequest(voice=ON))
    assert (status.bot_muted, status.listening_paused) == (False, True)
    assert (call.muted, call.listening_paused) == (False, True)
    status = bench.control(MediaRequest(listening=ON))
    assert not status.listening_paused
    assert not call.listening_paused
    assert bench.types() == before


@in_virtual_time
async def test_the_bot_is_muted_while_any_owner_holds_a_mute() -> None:
    bench = Bench()
    call = await bench.connected()
    bench.control(MediaRequest(OPERATOR, voice=OFF, listening=OFF))
    bench.control(MediaRequest(PARTICIPANT, voice=OFF))
    assert bench.control(MediaRequest(OPERATOR, voice=ON, listening=ON)).bot_muted
    assert (call.muted, call.listening_paused) == (True, False)
    assert not bench.control(MediaRequest(PARTICIPANT, voice=ON)).bot_muted
    assert not call.muted


@in_virtual_time
async def test_sip_mute_and_an_owners_mute_do_not_undo_each_other() -> None:
    bench = Bench()
    call = await bench.connected()
    bench.control(MUTE)
    assert bench.mute().bot_muted
    unmuted = bench.mute(False)
    assert (unmuted.type, unmuted.bot_muted, call.muted) == (StatusType.MICROPHONE_UNMUTED, True, True)
    bench.mute()
    status = bench.control(UNMUTE)
    assert (status.bot_muted, call.muted) == (False, True)  # SipMute is the bot's own
    bench.mute(False)
    assert not call.muted


@in_virtual_time
async def test_the_levels_go_with_the_call() -> None:
    bench = Bench()
    await bench.connected()
    bench.control(MediaRequest(PARTICIPANT, OFF, OFF, participants_present=True))
    bench.mute()
    soft = asyncio.create_task(bench.hang_up())
    await settle()
    assert bench.current.bot_muted
    finished = await soft
    assert (finished.bot_muted, finished.listening_paused, finished.audio_streams) == (False, False, 0)
    assert not bench.current.bot_muted
    call = await bench.connected()
    assert (call.muted, call.listening_paused, bench.current.bot_muted) == (False, False, False)
    assert (await bench.transfer()).type is StatusType.TRANSFER_CALL_INITIATED


@in_virtual_time
async def test_a_call_that_people_have_joined_is_not_transferred() -> None:
    bench = Bench()
    call = await bench.connected()
    bench.control(MediaRequest(OPERATOR, participants_present=True))  # means nothing of an operator
    present = MediaRequest(PARTICIPANT, participants_present=True)
    bench.control(present)
    before = bench.types()
    for outcome_ms in (0, 3000):
        status = await bench.transfer(outcome_ms=outcome_ms)
        assert (status.type, status.exception) == (StatusType.TRANSFER_CALL_FAILED, "ParticipantsPresent")
        assert (status.description, status.transfer_target) == ("reason=participants-present", "carol")
    assert (call.did, bench.types()) == ([], before)
    bench.control(MediaRequest(OPERATOR, voice=OFF))  # says nothing about participants
    assert (await bench.transfer()).exception == "ParticipantsPresent"
    bench.control(MediaRequest(PARTICIPANT))
    assert (await bench.transfer()).type is StatusType.TRANSFER_CALL_INITIATED


@in_virtual_time
async def test_people_cannot_join_while_a_transfer_is_in_flight() -> None:
    bench = Bench()
    call = await bench.connected()
    transferring = asyncio.create_task(bench.transfer(outcome_ms=3000))
    await settle()
    status = bench.control(MediaRequest(PARTICIPANT, OFF, OFF, participants_present=True))
    assert (status.exception, status.bot_muted, status.listening_paused) == ("TransferInProgress", False, False)
    assert not call.muted
    assert bench.control(MediaRequest(PARTICIPANT, OFF)).bot_muted  # says that nobody is present
    call.transfers[0].refuse(603)
    assert (await transferring).exception == "TransferRejected"
    assert bench.control(MediaRequest(PARTICIPANT, participants_present=True)).exception == ""


@in_virtual_time
async def test_what_another_request_failed_with_is_no_refusal_of_this_one() -> None:
    bench = Bench()
    await bench.connected()
    playing = asyncio.create_task(bench.play(wav(5)))
    await asyncio.sleep(0.5)
    playing.cancel()
    await settle()
    assert bench.current.exception == "PlaybackCancelled"
    call_id = bench.current.call_id
    status = bench.control(MUTE, call_id)
    assert (status.exception, status.description, status.call_id) == ("", "", call_id)


@in_virtual_time
async def test_refusals_change_and_record_nothing() -> None:
    bench = Bench(control_token="open sesame")
    assert bench.control(MUTE, "x", "open sesame").exception == "NoOngoingCall"
    assert bench.control(MUTE, "x", "wrong").exception == "CallControlUnauthenticated"
    await bench.session()
    assert bench.control(MUTE, "x", "open sesame").exception == "NoOngoingCall"
    ringing = await bench.dial(deadline=1.0)
    assert bench.control(MUTE, ringing.call_id, "open sesame").exception == "NoOngoingCall"
    bench.call.answer_by_far_end()
    await settle()
    call_id, before = ringing.call_id, bench.types()
    for expected, token, refusal in (
        (call_id, None, "CallControlUnauthenticated"),
        (call_id, "", "CallControlUnauthenticated"),
        (call_id, "open sesam", "CallControlUnauthenticated"),
        ("another", "wrong", "CallControlUnauthenticated"),
        ("another", "open sesame", "CallScopeMismatch"),
        (None, "open sesame", "CallScopeMismatch"),
    ):
        status = bench.control(MUTE, expected, token)
        assert (status.exception, status.bot_muted) == (refusal, False)
        assert status.description
    assert not bench.call.muted
    assert bench.control(MUTE, call_id, "open sesame").bot_muted
    assert bench.types() == before


@in_virtual_time
async def test_the_token_is_nowhere_to_be_read(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(control_token="open sesame")
    await bench.connected()
    with caplog.at_level(logging.DEBUG):
        statuses = [bench.control(MUTE, token=token) for token in ("open sesame", "wrong guess", None)]
    for secret in ("sesame", "guess"):
        assert secret not in caplog.text
        assert secret not in repr(statuses)
        assert secret not in repr(vars(bench.accounts))


@in_virtual_time
async def test_a_call_that_is_ending_is_refused() -> None:
    bench = Bench()
    call = await bench.connected()
    call_id = bench.current.call_id
    call.hang_up_by_far_end()  # and nobody has recorded it yet
    status = bench.control(MUTE, call_id)
    assert (status.type, status.exception, status.bot_muted) == (StatusType.NO_ONGOING_CALL, "NoOngoingCall", False)


@in_virtual_time
async def test_an_incoming_call_and_another_account() -> None:
    bench = Bench()
    await bench.session()
    call = bench.registration.invite("sip:bob@example.com")
    await settle()
    call_id = bench.current.call_id
    await bench.register("dave@example.com")
    assert bench.control(MUTE, call_id, account="dave@example.com").exception == "NoOngoingCall"
    status = bench.control(MUTE, call_id, account="alice@example.com")
    assert (status.type, status.bot_muted) == (StatusType.INCOMING_CALL_CONNECTED, True)
    assert getattr(call, "muted", False)
