"""Far ends that refuse, redirect, are silent, are late, hang up first, race, or lose messages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import grpc
import pytest

from service.generated.ondewo.sip import sip_pb2 as pb
from tests.interop import scenarios, scenarios_transfers, session_scenarios
from tests.interop.kit.kamailio import KamailioOptions
from tests.interop.kit.line import Line, open_line
from tests.interop.kit.peers import Peers
from tests.interop.kit.ports import HOST
from tests.interop.kit.process import eventually
from tests.interop.kit.scenario import Scenario
from tests.interop.kit.silent import SilentPeer, refusing_port
from tests.interop.kit.voicebot import kind

pytestmark = pytest.mark.interop


def assert_failed(status: pb.SipStatus, exception_name: str, code: int) -> None:
    """The call failed for that reason, and the status says so in every field.

    Where no response came, RFC 3261 §8.1.3.1 gives the code: 408 for a timeout, 503 for a transport error.
    """
    assert kind(status) == "OUTGOING_CALL_FAILED", status.description
    assert (status.exception_name, status.sip_response_code) == (exception_name, code), status.description
    assert status.description
    assert status.call_id
    assert status.callee_id


# -- refusals --------------------------------------------------------------------------------------------

REFUSALS = [
    ("486 Busy Here", "CallRejected"),
    ("603 Decline", "CallRejected"),
    ("404 Not Found", "CallRejected"),
    ("480 Temporarily Unavailable", "CallRejected"),
    ("500 Server Internal Error", "CallRejected"),
    ("408 Request Timeout", "CallTimeout"),
    ("488 Not Acceptable Here", "MediaNotAcceptable"),
]


@pytest.mark.parametrize("make", [scenarios.refuses, scenarios.rings_then_refuses])
@pytest.mark.parametrize(("status", "exception_name"), REFUSALS)
async def test_refused(peers: Peers, make: Callable[[str], Scenario], status: str, exception_name: str) -> None:
    """Through Kamailio; the refusal gets its ACK (else the script would not end)."""
    line = await open_line(peers)
    far_end = await peers.sipp(make(status))
    await line.kamailio.bind("carol", far_end.uri("carol"))
    failed = await line.bot.call(line.callee("carol"))
    assert_failed(failed, exception_name, int(status[:3]))
    if exception_name == "CallRejected":
        assert status in failed.description
    await far_end.finished()
    assert (await line.bot.kinds())[-2:] == ["OUTGOING_CALL_INITIATED", "OUTGOING_CALL_FAILED"]


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_refused_without_a_proxy(peers: Peers, transport: str) -> None:
    line = await open_line(peers)
    far_end = await peers.sipp(scenarios.refuses("486 Busy Here"), transport="tcp" if transport == "tcp" else "udp")
    assert_failed(await line.bot.call(far_end.uri()), "CallRejected", 486)
    await far_end.finished()


async def test_a_user_that_the_proxy_does_not_know(peers: Peers) -> None:
    line = await open_line(peers)
    failed = await line.bot.call("nobody-of-that-name")
    assert_failed(failed, "CallRejected", 404)
    assert "404 Not Found" in failed.description


async def test_a_user_that_is_not_registered(peers: Peers) -> None:
    line = await open_line(peers)
    assert_failed(await line.bot.call("bob"), "CallRejected", 480)


@pytest.mark.parametrize("through_proxy", [True, False])
async def test_redirected_to_nowhere(peers: Peers, through_proxy: bool) -> None:
    """A 302 that is not followed, or leads nowhere, is a failure with its code."""
    line = await open_line(peers)
    far_end = await peers.sipp(session_scenarios.redirects_to("<mailto:carol@example.com>"))
    await line.kamailio.bind("carol", far_end.uri("carol"))
    failed = await line.bot.call(line.callee("carol") if through_proxy else far_end.uri())
    assert_failed(failed, "CallRejected", 302)
    await far_end.finished()


async def test_wrong_password_is_found_out_by_the_call(peers: Peers) -> None:
    """407 to the INVITE with credentials that were good for the REGISTER only."""
    line = await open_line(peers)
    far_end = await peers.sipp(scenarios.answers())
    await line.kamailio.bind("carol", far_end.uri("carol"))
    await line.kamailio.rpc("htable.sets", "users", "alice", "changed-since")
    failed = await line.bot.call(line.callee("carol"))
    assert_failed(failed, "AuthenticationFailed", 407)
    assert far_end.received("INVITE") == 0


# -- nobody there ----------------------------------------------------------------------------------------


async def test_unknown_host(peers: Peers) -> None:
    line = await open_line(peers)
    failed = await line.bot.call("sip:bob@no-such-host.invalid")
    assert_failed(failed, "ServerUnreachable", 503)
    assert "no-such-host.invalid" in failed.description


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_refused_port(peers: Peers, transport: str) -> None:
    """ICMP port unreachable, or a TCP reset: known at once, long before timer B."""
    line = await open_line(peers)
    failed = await line.bot.call(f"sip:bob@{HOST}:{refusing_port()};transport={transport}", timeout=10)
    assert_failed(failed, "ServerUnreachable", 503)


async def test_a_far_end_that_never_answers(peers: Peers) -> None:
    """No response at all: no CANCEL may be sent (RFC 3261 §9.1); the INVITE is repeated, intervals doubling."""
    line = await open_line(peers, arguments=("--ring-timeout", "3"))
    with SilentPeer() as silent:
        failed = await line.bot.call(f"sip:bob@{silent.address}")
        assert_failed(failed, "CallTimeout", 408)
        methods = [datagram.split(b" ", 1)[0] for datagram in silent.received()]
    assert set(methods) == {b"INVITE"}
    assert 3 <= len(methods) <= 4  # at 0, 0.5 and 1.5 s


async def test_a_far_end_that_rings_for_ever(peers: Peers) -> None:
    """The ring timeout CANCELs the call; the 487 is ACKed."""
    line = await open_line(peers, arguments=("--ring-timeout", "2"))
    far_end = await peers.sipp(scenarios.RINGS_UNTIL_CANCELLED)
    failed = await line.bot.call(far_end.uri())
    assert kind(failed) == "OUTGOING_CALL_FAILED"
    assert failed.exception_name == "CallTimeout"
    await far_end.finished()


# -- CANCEL and its races --------------------------------------------------------------------------------


@pytest.mark.parametrize("through_proxy", [True, False])
async def test_hung_up_while_it_rings(peers: Peers, through_proxy: bool) -> None:
    """SipEndCall before the answer: CANCEL; the waiting SipStartCall returns that it failed."""
    line = await open_line(peers)
    if through_proxy:
        bob = await peers.baresip("bob", line.kamailio, answer="manual")
        calling = asyncio.create_task(line.bot.call(line.callee("bob")))
        await bob.event("CALL_INCOMING")
    else:
        far_end = await peers.sipp(scenarios.RINGS_UNTIL_CANCELLED)
        calling = asyncio.create_task(line.bot.call(far_end.uri()))
        await eventually(lambda: far_end.received("INVITE") == 1, timeout=5, what="the INVITE")
        await asyncio.sleep(0.2)
    ended = await line.bot.end_call()
    assert kind(ended) in {"OUTGOING_CALL_FINISHED", "OUTGOING_CALL_FAILED"}
    failed = await calling
    assert kind(failed) in {"OUTGOING_CALL_FINISHED", "OUTGOING_CALL_FAILED"}
    if through_proxy:
        await bob.event("CALL_CLOSED")
    else:
        await far_end.finished()


async def test_a_cancelled_request_cancels_the_ringing_call(peers: Peers) -> None:
    """The gRPC client goes away: the call is CANCELled and the history says so."""
    line = await open_line(peers)
    far_end = await peers.sipp(scenarios.RINGS_UNTIL_CANCELLED)
    calling = asyncio.create_task(line.bot.call(far_end.uri()))
    await line.bot.reached("OUTGOING_CALL_INITIATED")
    await eventually(lambda: far_end.received("INVITE") == 1, timeout=5, what="the INVITE")
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    failed = await line.bot.reached("OUTGOING_CALL_FAILED")
    assert failed.exception_name == "CallCancelled"
    await far_end.finished()


async def test_a_request_whose_deadline_passes_returns_and_the_call_goes_on(peers: Peers) -> None:
    line = await open_line(peers)
    far_end = await peers.sipp(scenarios.answers_late(2500))
    status = await line.bot.call(far_end.uri(), timeout=1.5)
    assert kind(status) == "OUTGOING_CALL_INITIATED"
    await line.bot.reached("OUTGOING_CALL_CONNECTED")
    assert kind(await line.bot.end_call()) == "OUTGOING_CALL_FINISHED"
    await far_end.finished()


async def test_cancel_waits_for_a_provisional(peers: Peers) -> None:
    """RFC 3261 §9.1."""
    line = await open_line(peers)
    far_end = await peers.sipp(scenarios.SLOW_TO_RING)
    calling = asyncio.create_task(line.bot.call(far_end.uri()))
    await line.bot.reached("OUTGOING_CALL_INITIATED")
    await line.bot.end_call()
    await calling
    await far_end.finished()


async def test_answered_while_the_cancel_was_under_way(peers: Peers) -> None:
    """RFC 3261 §9.1, RFC 6026: the 200 is ACKed and the call ended with BYE."""
    line = await open_line(peers)
    far_end = await peers.sipp(scenarios.ANSWERED_WHILE_CANCELLED)
    calling = asyncio.create_task(line.bot.call(far_end.uri()))
    await eventually(lambda: "180 Ringing" in far_end.messages(), timeout=5, what="the 180")
    await asyncio.sleep(0.2)
    await line.bot.end_call()
    status = await calling
    assert kind(status) in {"OUTGOING_CALL_FINISHED", "OUTGOING_CALL_FAILED"}
    await far_end.finished()


# -- answered, but not as usual --------------------------------------------------------------------------


async def test_a_far_end_that_answers_late(peers: Peers) -> None:
    line = await open_line(peers)
    far_end = await peers.sipp(scenarios.answers_late(2000))
    await line.kamailio.bind("carol", far_end.uri("carol"))
    assert kind(await line.bot.call(line.callee("carol"))) == "OUTGOING_CALL_CONNECTED"
    assert kind(await line.bot.end_call()) == "OUTGOING_CALL_FINISHED"
    await far_end.finished()


@pytest.mark.parametrize("options", [KamailioOptions(), KamailioOptions(record_route=False)], ids=["RR", "no RR"])
async def test_a_far_end_that_hangs_up_first(peers: Peers, options: KamailioOptions) -> None:
    line = await open_line(peers, options=options)
    far_end = await peers.sipp(scenarios.hangs_up_first(500))
    await line.kamailio.bind("carol", far_end.uri("carol"))
    connected = await line.bot.call(line.callee("carol"))
    finished = await line.bot.reached("OUTGOING_CALL_FINISHED")
    assert finished.call_id == connected.call_id
    assert finished.description
    await far_end.finished()
    refused = await line.bot.end_call()
    assert kind(refused) == "NO_ONGOING_CALL"


async def test_hanging_up_first_while_a_wav_plays(peers: Peers) -> None:
    """SipPlayWavFiles is refused in mid-play; the description says how much was played."""
    line = await open_line(peers)
    far_end = await peers.sipp(scenarios.hangs_up_first(1000))
    await line.bot.call(far_end.uri())
    refused = await line.bot.play(_five_seconds())
    assert kind(refused) == "NO_ONGOING_CALL"
    assert refused.description
    await far_end.finished()


def _five_seconds() -> bytes:
    """A wav of silence."""
    samples = bytes(2 * 8000 * 5)
    header = b"RIFF" + (36 + len(samples)).to_bytes(4, "little") + b"WAVEfmt " + (16).to_bytes(4, "little")
    header += (1).to_bytes(2, "little") * 2 + (8000).to_bytes(4, "little") + (16000).to_bytes(4, "little")
    header += (2).to_bytes(2, "little") + (16).to_bytes(2, "little")
    return header + b"data" + len(samples).to_bytes(4, "little") + samples


@pytest.mark.parametrize(
    "script",
    [
        scenarios.EARLY_MEDIA,
        scenarios.HOLDS_AND_RESUMES,
        scenarios.REOFFER_REQUESTED,
        scenarios.MOVES_BY_UPDATE,
    ],
    ids=str,
)
@pytest.mark.parametrize("through_proxy", [True, False], ids=["proxy", "direct"])
async def test_media_negotiated_otherwise(peers: Peers, script: Scenario, through_proxy: bool) -> None:
    line = await open_line(peers)
    far_end = await peers.sipp(script)
    await line.kamailio.bind("carol", far_end.uri("carol"))
    callee = line.callee("carol") if through_proxy else far_end.uri()
    assert kind(await line.bot.call(callee)) == "OUTGOING_CALL_CONNECTED"
    await line.bot.reached("OUTGOING_CALL_FINISHED")
    await far_end.finished()


async def test_every_copy_of_the_200_is_acknowledged(peers: Peers) -> None:
    """RFC 3261 §13.2.2.4: the far end lost our ACK, twice."""
    line = await open_line(peers)
    far_end = await peers.sipp(scenarios.LOSES_ACKS, retransmit=False)
    assert kind(await line.bot.call(far_end.uri())) == "OUTGOING_CALL_CONNECTED"
    await eventually(lambda: far_end.received("ACK") == 3, timeout=5, what="three ACKs")
    assert kind(await line.bot.end_call()) == "OUTGOING_CALL_FINISHED"
    await far_end.finished()


async def test_the_bye_is_challenged(peers: Peers) -> None:
    line = await open_line(peers)
    far_end = await peers.sipp(scenarios.challenges_bye("alice", "alice-secret"))
    await line.bot.call(far_end.uri())
    assert kind(await line.bot.end_call()) == "OUTGOING_CALL_FINISHED"
    await far_end.finished()


# -- calls that come in ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "script",
    [scenarios.calls(), scenarios.CALL_WITHOUT_OFFER],
    ids=str,
)
@pytest.mark.parametrize("through_proxy", [True, False], ids=["proxy", "direct"])
async def test_called(peers: Peers, script: Scenario, through_proxy: bool) -> None:
    line = await open_line(peers)
    target, user = await _where(line, through_proxy)
    caller = await peers.sipp(script, target=target, user=user)
    await line.bot.reached("INCOMING_CALL_CONNECTED")
    finished = await line.bot.reached("INCOMING_CALL_FINISHED")
    assert finished.description
    await caller.finished()


@pytest.mark.parametrize("through_proxy", [True, False], ids=["proxy", "direct"])
async def test_called_and_given_up(peers: Peers, through_proxy: bool) -> None:
    """The far end's CANCEL while it rings here: 487, INCOMING_CALL_FAILED."""
    line = await open_line(peers, auto_answer=-1)
    target, user = await _where(line, through_proxy)
    caller = await peers.sipp(scenarios.calls_and_gives_up(), target=target, user=user)
    failed = await line.bot.reached("INCOMING_CALL_FAILED")
    assert failed.sip_response_code == 487
    await caller.finished()


async def test_our_200_is_repeated_until_the_ack(peers: Peers) -> None:
    """RFC 3261 §13.3.1.4, over UDP."""
    line = await open_line(peers)
    target, user = await _where(line, False)
    caller = await peers.sipp(scenarios.LOSES_THE_200, target=target, user=user, retransmit=False)
    await caller.finished()
    assert kind(await line.bot.reached("INCOMING_CALL_FINISHED")) == "INCOMING_CALL_FINISHED"


async def test_called_by_someone_who_wants_an_unknown_extension(peers: Peers) -> None:
    """RFC 3261 §8.2.2.3: 420."""
    line = await open_line(peers)
    target, user = await _where(line, False)
    script = scenarios.is_refused(420, headers=("Require: teleportation",))
    caller = await peers.sipp(script, target=target, user=user)
    await caller.finished()
    assert "INCOMING_CALL_CONNECTED" not in await line.bot.kinds()


async def test_options(peers: Peers) -> None:
    """RFC 3261 §11.2."""
    line = await open_line(peers)
    target, user = await _where(line, False)
    await (await peers.sipp(scenarios.OPTIONS, target=target, user=user)).finished()


async def _where(line: Line, through_proxy: bool) -> tuple[str, str]:
    """Target and user for a scripted caller: Kamailio and alice, or the contact that was registered."""
    if through_proxy:
        return line.kamailio.address, "alice"
    (contact,) = await line.kamailio.contacts("alice")
    user, _, rest = contact["Address"].removeprefix("sip:").partition("@")
    return rest.partition(";")[0], user


# -- transfers that do not go well -----------------------------------------------------------------------


async def test_transfer_accepted(peers: Peers) -> None:
    line = await open_line(peers)
    far_end = await peers.sipp(scenarios_transfers.refer_accepted())
    await line.bot.call(far_end.uri())
    status = await line.bot.transfer(line.callee("bob"), outcome_timeout_ms=3000)
    assert (kind(status), status.sip_response_code) == ("TRANSFER_CALL_INITIATED", 202)
    assert "Call transferred" in (await line.bot.reached("OUTGOING_CALL_FINISHED")).description
    await far_end.finished()


@pytest.mark.parametrize("status_line", ["603 Decline", "403 Forbidden"])
async def test_transfer_refused(peers: Peers, status_line: str) -> None:
    """The call is kept and the shared status untouched."""
    line = await open_line(peers)
    far_end = await peers.sipp(scenarios_transfers.refer_refused(status_line))
    await line.bot.call(far_end.uri())
    status = await line.bot.transfer(line.callee("bob"), outcome_timeout_ms=3000)
    assert (kind(status), status.sip_response_code) == ("TRANSFER_CALL_FAILED", int(status_line[:3]))
    assert "reason=refer-rejected" in status.description
    assert kind(await line.bot.status()) == "OUTGOING_CALL_CONNECTED"
    assert kind(await line.bot.end_call()) == "OUTGOING_CALL_FINISHED"
    await far_end.finished()


async def test_transfer_to_somebody_who_is_not_found(peers: Peers) -> None:
    """202, and then a NOTIFY with 404: refused after all, the call is kept."""
    line = await open_line(peers)
    far_end = await peers.sipp(scenarios_transfers.refer_accepted("404 Not Found"))
    await line.bot.call(far_end.uri())
    status = await line.bot.transfer(line.callee("bob"), outcome_timeout_ms=3000)
    assert (kind(status), status.sip_response_code) == ("TRANSFER_CALL_FAILED", 404)
    assert "reason=refer-rejected" in status.description
    assert kind(await line.bot.end_call()) == "OUTGOING_CALL_FINISHED"
    await far_end.finished()


async def test_transfer_that_is_reported_to_have_worked(peers: Peers) -> None:
    """202, NOTIFY 100, NOTIFY 200."""
    line = await open_line(peers)
    far_end = await peers.sipp(scenarios_transfers.refer_accepted("200 OK"))
    await line.bot.call(far_end.uri())
    status = await line.bot.transfer(line.callee("bob"), outcome_timeout_ms=3000)
    assert kind(status) == "TRANSFER_CALL_INITIATED", status.description
    await far_end.finished()


async def test_transfer_never_answered(peers: Peers) -> None:
    line = await open_line(peers)
    far_end = await peers.sipp(scenarios_transfers.REFER_NEVER_ANSWERED)
    await line.bot.call(far_end.uri())
    status = await line.bot.transfer(line.callee("bob"), outcome_timeout_ms=1200)
    assert (kind(status), status.sip_response_code) == ("TRANSFER_CALL_FAILED", 0)
    assert "reason=refer-timeout" in status.description
    assert kind(await line.bot.end_call()) == "OUTGOING_CALL_FINISHED"
    await far_end.finished()


async def test_transfer_accepted_after_the_time_allowed(peers: Peers) -> None:
    """Reported as timed out; the late 202 still ends this leg."""
    line = await open_line(peers)
    far_end = await peers.sipp(scenarios_transfers.REFER_ANSWERED_TOO_LATE)
    await line.bot.call(far_end.uri())
    status = await line.bot.transfer(line.callee("bob"), outcome_timeout_ms=700)
    assert kind(status) == "TRANSFER_CALL_FAILED"
    await line.bot.reached("OUTGOING_CALL_FINISHED")
    await far_end.finished()


async def test_transfer_challenged(peers: Peers) -> None:
    line = await open_line(peers)
    far_end = await peers.sipp(scenarios_transfers.refer_challenged("alice", "alice-secret"))
    await line.bot.call(far_end.uri())
    status = await line.bot.transfer(line.callee("bob"), outcome_timeout_ms=3000)
    assert (kind(status), status.sip_response_code) == ("TRANSFER_CALL_INITIATED", 202)
    await far_end.finished()


async def test_a_transfer_without_a_call(peers: Peers) -> None:
    line = await open_line(peers)
    assert kind(await line.bot.transfer("bob")) == "NO_ONGOING_CALL"
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await line.bot.transfer("")
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
