"""SipStartCall, SipEndCall, SipMute and incoming calls (CONTRACT §§3-4)."""

from __future__ import annotations

import asyncio
import uuid

import grpc
import pytest

from service.errors import rpc_error
from service.line import LineOptions
from service.ongoing import CALL_ID_HEADER, EndReason
from service.status import AmdResult, StatusType
from sipcore.errors import (
    AtCapacity,
    AuthenticationFailed,
    CallError,
    CallRejected,
    CallTimeout,
    InvalidRequest,
    MediaNotAcceptable,
    ServerUnreachable,
    SipError,
)
from sipcore.events import CallEnded, EndCause, Party
from tests.kit.fake_agent import FakeCall
from tests.service.bench import ALICE, BOB, Bench, settle
from tests.service.virtual import in_virtual_time

# -- outgoing


@in_virtual_time
async def test_an_answered_call_and_a_soft_hang_up() -> None:
    bench = Bench()
    headers = {"X-Campaign": "7"}
    call = await bench.connected(headers)
    assert call.headers == headers
    finished = await bench.hang_up()
    assert finished.type is StatusType.OUTGOING_CALL_FINISHED
    assert bench.types()[-4:] == [
        "OUTGOING_CALL_INITIATED",
        "OUTGOING_CALL_CONNECTED",
        "SOFT_HANGUP_INITIATED",
        "OUTGOING_CALL_FINISHED",
    ]
    of_call = bench.statuses()[-4:]
    assert {status.call_id for status in of_call} == {finished.call_id}
    assert str(uuid.UUID(finished.call_id)) == finished.call_id
    assert all(status.callee == BOB and status.headers == headers for status in of_call)
    assert finished.exception == ""


@in_virtual_time
async def test_every_call_has_an_id_of_its_own_unless_the_client_chose_it() -> None:
    bench = Bench()
    await bench.connected()
    first = await bench.hang_up()
    await bench.connected({CALL_ID_HEADER.upper(): "chosen-1"})
    second = await bench.hang_up()
    assert first.call_id != second.call_id == "chosen-1"


@in_virtual_time
@pytest.mark.parametrize(
    "error",
    [
        CallRejected("486 Busy Here from sip:bob@example.com", code=486),
        CallTimeout("Nobody answered", code=408),
        ServerUnreachable("Connection refused"),
        MediaNotAcceptable("488 Not Acceptable Here", code=488),
        AuthenticationFailed("407", code=407),
    ],
)
async def test_a_call_that_fails(error: SipError) -> None:
    bench = Bench()
    await bench.session()
    dialling = asyncio.create_task(bench.dial())
    await settle()
    bench.call.refuse_by_far_end(error, str(error))
    status = await dialling
    assert status.type is StatusType.OUTGOING_CALL_FAILED
    assert (status.exception, status.sip_code) == (type(error).__name__, error.code)
    assert status.description == str(error)
    assert status.call_id
    assert bench.current == status
    # The line is free again.
    await bench.connected()


@in_virtual_time
async def test_a_call_that_cannot_even_be_placed_is_initiated_and_failed() -> None:
    bench = Bench()
    await bench.session()
    bench.registration.place_error = CallError("No RTP port is free")
    status = await bench.dial()
    assert (status.type, status.exception) == (StatusType.OUTGOING_CALL_FAILED, "CallError")
    assert bench.types()[-2:] == ["OUTGOING_CALL_INITIATED", "OUTGOING_CALL_FAILED"]
    bench.registration.place_error = None
    await bench.connected()


@in_virtual_time
async def test_a_server_that_is_full_says_so_with_503() -> None:
    """CONTRACT §4 names no other refusal that fits."""
    bench = Bench()
    await bench.session()
    bench.registration.place_error = AtCapacity("No room for another call: 1 are up (max_calls)", code=503)
    status = await bench.dial()
    assert (status.type, status.exception, status.sip_code) == (
        StatusType.OUTGOING_CALL_FAILED,
        "CallRejected",
        503,
    )
    assert status.description == "No room for another call: 1 are up (max_calls)"
    assert rpc_error(AtCapacity("full", code=503)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "full")


@in_virtual_time
async def test_tracebacks_are_shown_unless_the_server_is_set_not_to() -> None:
    for shown in (True, False):
        bench = Bench(LineOptions(tracebacks=shown))
        await bench.session()
        dialling = asyncio.create_task(bench.dial())
        await settle()
        bench.call.refuse_by_far_end(CallRejected("603 Decline", code=603), "603 Decline")
        assert ("Traceback" in (await dialling).traceback) is shown


@in_virtual_time
async def test_a_deadline_returns_initiated_and_the_call_goes_on() -> None:
    bench = Bench()
    await bench.session()
    loop = asyncio.get_running_loop()
    before = loop.time()
    status = await bench.dial(deadline=5.0)
    assert status.type is StatusType.OUTGOING_CALL_INITIATED
    assert 4.5 < loop.time() - before < 5.0
    bench.call.answer_by_far_end()
    await settle()
    assert bench.current.type is StatusType.OUTGOING_CALL_CONNECTED
    assert bench.current.call_id == status.call_id


@in_virtual_time
async def test_cancelling_the_request_cancels_the_ringing_call() -> None:
    bench = Bench()
    await bench.session()
    dialling = asyncio.create_task(bench.dial())
    await settle()
    dialling.cancel()
    await settle()
    assert bench.call.did == ["hangup_now"]
    assert bench.types()[-2:] == ["OUTGOING_CALL_INITIATED", "OUTGOING_CALL_FAILED"]
    assert (bench.current.exception, bench.current.sip_code) == ("CallCancelled", 487)
    assert "client cancelled" in bench.current.description
    await bench.connected()


@in_virtual_time
async def test_a_request_cancelled_by_its_own_deadline_leaves_the_call_alone() -> None:
    bench = Bench()
    await bench.session()
    dialling = asyncio.create_task(bench.dial(deadline=0.02))
    await asyncio.sleep(0.001)
    dialling.cancel()
    await settle()
    assert bench.call.did == []
    bench.call.answer_by_far_end()
    await settle()
    assert bench.current.type is StatusType.OUTGOING_CALL_CONNECTED


@in_virtual_time
async def test_a_second_call_is_refused_and_not_recorded() -> None:
    bench = Bench()
    await bench.connected()
    before = bench.types()
    status = await bench.dial("sip:carol@example.com")
    assert (status.type, status.exception) == (StatusType.OUTGOING_CALL_FAILED, "CallInProgress")
    assert bench.types() == before
    assert bench.registration.invite("sip:carol@example.com") == 486


@in_virtual_time
async def test_calls_need_a_session() -> None:
    bench = Bench()
    assert (await bench.dial()).type is StatusType.NO_SESSION
    await bench.register()
    for request in (bench.dial(), bench.hang_up(), bench.transfer()):
        status = await request
        assert (status.type, status.exception) == (StatusType.NO_SESSION, "NoSession")
    assert bench.mute().type is StatusType.NO_SESSION
    assert bench.types() == ["REGISTERED"]


@in_virtual_time
async def test_the_far_end_hangs_up() -> None:
    bench = Bench()
    call = await bench.connected()
    call.hang_up_by_far_end()
    await settle()
    assert bench.current.type is StatusType.OUTGOING_CALL_FINISHED
    assert bench.current.description == f"Hung up by {BOB}"


# -- malformed


@in_virtual_time
@pytest.mark.parametrize("open_session", [False, True])
@pytest.mark.parametrize("callee", ["", " ", "sip:", "sip:@", "bob\r\nX: y", "bob\0", "http://example.com"])
async def test_a_callee_that_is_none_is_malformed_whatever_the_state(callee: str, open_session: bool) -> None:
    bench = Bench()
    if open_session:
        await bench.session()
    before = bench.types()
    with pytest.raises(InvalidRequest) as raised:
        await bench.dial(callee)
    assert raised.value.field == "callee_id"
    with pytest.raises(InvalidRequest) as raised:
        await bench.transfer(callee)
    assert raised.value.field == "transfer_id"
    assert bench.types() == before
    assert not open_session or bench.registration.calls == []


@in_virtual_time
@pytest.mark.parametrize(
    "headers",
    [
        {"X Name": "v"},
        {"": "v"},
        {"X-A": "a\r\nB: c"},
        {"X-A": "a\0"},
        {"Via": "v"},
        {"call-id": "v"},
        {"CSEQ": "1 INVITE"},
        {"Authorization": "Digest"},
        {f"X-{number}": "v" for number in range(65)},
        {"X-Long": "v" * 8192},
    ],
)
async def test_headers_that_may_not_be_sent_are_malformed(headers: dict[str, str]) -> None:
    bench = Bench()
    await bench.session()
    with pytest.raises(InvalidRequest) as raised:
        await bench.dial(headers=headers)
    assert "headers" in raised.value.field
    with pytest.raises(InvalidRequest):
        await bench.transfer(headers=headers)
    assert bench.types()[-1] == "READY"


@in_virtual_time
async def test_refer_to_is_owned_on_refer_only() -> None:
    bench = Bench()
    await bench.connected({"Refer-To": "sip:x@example.com"})
    with pytest.raises(InvalidRequest):
        await bench.transfer(headers={"Refer-To": "sip:x@example.com"})


# -- ending


@in_virtual_time
async def test_nothing_to_hang_up_is_a_recorded_refusal() -> None:
    bench = Bench()
    await bench.session()
    status = await bench.hang_up()
    assert (status.type, status.exception) == (StatusType.NO_ONGOING_CALL, "NoOngoingCall")
    assert bench.current == status


@in_virtual_time
async def test_a_hard_hang_up_is_over_at_once() -> None:
    bench = Bench()
    call = await bench.connected()
    call.bye_delay = 32
    before = asyncio.get_running_loop().time()
    assert (await bench.hang_up(hard=True)).type is StatusType.OUTGOING_CALL_FINISHED
    assert asyncio.get_running_loop().time() == before
    assert call.did == ["hangup_now"]
    assert bench.types()[-2:] == ["HARD_HANGUP_INITIATED", "OUTGOING_CALL_FINISHED"]


@in_virtual_time
async def test_a_soft_hang_up_near_its_deadline_and_a_hard_one_behind_it() -> None:
    bench = Bench()
    call = await bench.connected()
    call.bye_delay = 32
    assert (await bench.hang_up(deadline=1)).type is StatusType.SOFT_HANGUP_INITIATED
    assert (await bench.hang_up(deadline=1)).type is StatusType.SOFT_HANGUP_INITIATED
    assert (await bench.hang_up(hard=True)).type is StatusType.OUTGOING_CALL_FINISHED
    assert bench.types()[-3:] == ["SOFT_HANGUP_INITIATED", "HARD_HANGUP_INITIATED", "OUTGOING_CALL_FINISHED"]


@in_virtual_time
async def test_a_cancelled_hang_up_is_not_taken_back() -> None:
    bench = Bench()
    await bench.connected()
    task = asyncio.create_task(bench.hang_up())
    await settle()
    task.cancel()
    await asyncio.sleep(1)
    assert bench.current.type is StatusType.OUTGOING_CALL_FINISHED


@in_virtual_time
async def test_hanging_up_a_ringing_outgoing_call() -> None:
    bench = Bench()
    await bench.session()
    dialling = asyncio.create_task(bench.dial())
    await settle()
    finished = await bench.hang_up()
    assert finished.type is StatusType.OUTGOING_CALL_FINISHED
    told = await dialling
    assert (told.type, told.exception) == (StatusType.OUTGOING_CALL_FAILED, "CallCancelled")
    assert bench.types()[-3:] == [
        "OUTGOING_CALL_INITIATED",
        "SOFT_HANGUP_INITIATED",
        "OUTGOING_CALL_FINISHED",
    ]


@in_virtual_time
@pytest.mark.parametrize(
    ("reason", "description"),
    [
        (EndReason.ANSWERING_MACHINE, "Answering machine detected with hang up"),
        (
            EndReason.ANSWERING_MACHINE_VOICE_MESSAGE_LEFT,
            "Answering machine detected with left voice message and hang up",
        ),
        (EndReason.TRANSFERRED, "Call transferred"),
    ],
)
async def test_the_end_reason_is_the_terminal_description_and_amd_is_carried(
    reason: EndReason, description: str
) -> None:
    bench = Bench()
    await bench.connected()
    amd = AmdResult(verdict=2, cause=3, confidence=0.9, matched_cue_ids=("beep",), call_id="x")
    finished = await bench.hang_up(reason=reason, amd=amd)
    assert finished.description == description
    assert finished.amd == amd


@in_virtual_time
async def test_call_scoping() -> None:
    bench = Bench()
    await bench.connected({CALL_ID_HEADER: "this"})
    before = bench.types()
    refused = [
        await bench.hang_up(call_id="other"),
        await bench.transfer(call_id="other"),
        bench.mute(call_id="other"),
        bench.mute(False, call_id="other"),
    ]
    assert {status.exception for status in refused} == {"CallScopeMismatch"}
    assert bench.types() == before
    assert bench.mute(call_id="this").type is StatusType.MICROPHONE_MUTED
    assert (await bench.hang_up(call_id="this")).type is StatusType.OUTGOING_CALL_FINISHED
    assert (await bench.hang_up(call_id="this")).exception == "CallScopeMismatch"


# -- mute


@in_virtual_time
async def test_mute_and_unmute_are_levels() -> None:
    bench = Bench()
    call = await bench.connected()
    for muted in (True, True, False, False):
        status = bench.mute(muted)
        assert status.type is (StatusType.MICROPHONE_MUTED if muted else StatusType.MICROPHONE_UNMUTED)
        assert call.muted is muted
        assert bench.current == status
    assert status.call_id


@in_virtual_time
async def test_mute_needs_a_connected_call_and_its_refusal_is_recorded() -> None:
    bench = Bench()
    await bench.session()
    for muted in (True, False):
        status = bench.mute(muted)
        assert (status.type, status.exception) == (StatusType.NO_ONGOING_CALL, "NoOngoingCall")
        assert bench.current == status
    dialling = asyncio.create_task(bench.dial())
    await settle()
    assert "not connected" in bench.mute().description
    bench.call.answer_by_far_end()
    assert (await dialling).type is StatusType.OUTGOING_CALL_CONNECTED


# -- incoming


def ringing(result: FakeCall | int) -> FakeCall:
    assert isinstance(result, FakeCall)
    return result


@in_virtual_time
async def test_before_a_session_incoming_calls_get_480() -> None:
    bench = Bench()
    await bench.register()
    assert bench.registration.invite(BOB) == 480
    assert bench.types() == ["REGISTERED"]


@in_virtual_time
async def test_an_incoming_call_is_answered_at_once_and_carries_the_callers_headers() -> None:
    bench = Bench()
    await bench.session(auto_answer=0)
    call = ringing(bench.registration.invite(BOB, {"X-Customer": "9", CALL_ID_HEADER: "theirs"}))
    await settle()
    assert call.did == ["answer"]
    assert bench.types()[-2:] == ["INCOMING_CALL_INITIATED", "INCOMING_CALL_CONNECTED"]
    status = bench.current
    assert status.callee == BOB
    assert status.headers["X-Customer"] == "9"
    assert status.call_id != "theirs"  # only an outgoing call takes its id from the header
    assert (await bench.hang_up()).type is StatusType.INCOMING_CALL_FINISHED


@in_virtual_time
async def test_auto_answer_after_seconds_of_ringing() -> None:
    bench = Bench()
    await bench.session(auto_answer=3)
    call = ringing(bench.registration.invite(BOB))
    await asyncio.sleep(2.9)
    assert call.did == []
    await asyncio.sleep(0.2)
    assert call.did == ["answer"]


@in_virtual_time
async def test_a_negative_interval_never_answers_and_the_client_may_decline() -> None:
    bench = Bench()
    await bench.session(auto_answer=-1)
    call = ringing(bench.registration.invite(BOB))
    await asyncio.sleep(1000)
    assert call.did == []
    status = await bench.hang_up()
    assert call.did == ["hangup"]
    assert status.type is StatusType.INCOMING_CALL_FINISHED
    assert bench.types()[-3:] == [
        "INCOMING_CALL_INITIATED",
        "SOFT_HANGUP_INITIATED",
        "INCOMING_CALL_FINISHED",
    ]


@in_virtual_time
async def test_the_caller_gives_up_while_it_rings() -> None:
    bench = Bench()
    await bench.session(auto_answer=5)
    call = ringing(bench.registration.invite(BOB))
    await settle()
    call.hang_up_by_far_end()
    await asyncio.sleep(10)
    assert call.did == []
    assert bench.types()[-2:] == ["INCOMING_CALL_INITIATED", "INCOMING_CALL_FAILED"]
    assert (bench.current.exception, bench.current.sip_code) == ("CallCancelled", 487)


@in_virtual_time
async def test_two_invites_at_the_same_moment_one_rings_the_other_is_busy() -> None:
    bench = Bench()
    await bench.session(auto_answer=5)
    ringing(bench.registration.invite(BOB))
    assert bench.registration.invite("sip:carol@example.com") == 486  # before any task ran
    assert (await bench.dial()).exception == "CallInProgress"
    await settle()
    assert bench.registration.invite("sip:carol@example.com") == 486


@in_virtual_time
async def test_an_invite_that_died_before_it_was_picked_up_does_not_hold_the_line() -> None:
    bench = Bench()
    await bench.session(auto_answer=5)
    dead = FakeCall("incoming", BOB, {})
    assert bench.registration.screen(dead) is None
    dead.hang_up_by_far_end()
    await bench.connected()


@in_virtual_time
async def test_accounts_have_calls_at_once() -> None:
    bench = Bench()
    await bench.connected()
    await bench.register("carol@example.com")
    await bench.start("carol@example.com")
    dialling = asyncio.create_task(bench.dial("sip:dave@example.com", account="carol@example.com"))
    await settle()
    bench.call.answer_by_far_end()
    assert (await dialling).account == "carol@example.com"
    assert bench.types(ALICE)[-1] == bench.types("carol@example.com")[-1] == "OUTGOING_CALL_CONNECTED"


@in_virtual_time
async def test_a_bug_in_following_a_call_does_not_hold_the_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench()
    await bench.session()

    async def explode(_: FakeCall) -> None:
        raise KeyError("bug")

    with monkeypatch.context() as patch:
        patch.setattr(FakeCall, "connected", explode)
        status = await bench.dial()
    assert (status.type, status.exception) == (StatusType.OUTGOING_CALL_FAILED, "KeyError")
    assert "internal error" in caplog.text
    assert bench.call.did == ["hangup_now"]
    await bench.connected()


@in_virtual_time
async def test_a_far_end_that_fell_silent_is_told_with_its_reason() -> None:
    bench = Bench()
    call = await bench.connected()
    call.finish(CallEnded(EndCause.SILENCE, Party.NETWORK, 0, "no RTP from the far end for 60 s"))
    await settle()
    assert bench.current.type is StatusType.OUTGOING_CALL_FINISHED
    assert bench.current.description == "no RTP from the far end for 60 s"
