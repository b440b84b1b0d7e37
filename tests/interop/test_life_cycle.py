"""A real call, end to end: a gRPC client, the server, Kamailio and baresip, each a process of its own."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from service.generated.ondewo.sip import sip_pb2 as pb
from tests.interop.kit.align import align, faults
from tests.interop.kit.kamailio import SUBSCRIBERS, KamailioOptions
from tests.interop.kit.line import open_line
from tests.interop.kit.peers import Peers
from tests.interop.kit.sound import RATE, Pcm, read_wav, speech_like, wav_bytes
from tests.interop.kit.voicebot import kind

pytestmark = pytest.mark.interop


def assert_heard(recording: Pcm, played: Pcm) -> None:
    """The recording has the played signal once, whole, in one piece."""
    found = align(recording, played)
    assert found.correlation > 0.95
    assert faults(recording, played, found.offset) == []


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_register_call_play_hang_up_and_end_the_session(
    peers: Peers, tmp_path: Path, transport: Literal["udp", "tcp"]
) -> None:
    """Digest at REGISTER (401) and INVITE (407); the wav files reach the far end's ear without a gap."""
    first, second = speech_like(1.5, seed=1), speech_like(1.0, seed=2)
    line = await open_line(peers, transport=transport)
    (contact,) = await line.kamailio.contacts("alice")
    assert ("transport=tcp" in contact["Address"].lower()) == (transport == "tcp")
    bob = await peers.baresip("bob", line.kamailio)

    connected = await line.bot.call(line.callee("bob"))
    assert kind(connected) == "OUTGOING_CALL_CONNECTED", connected.description
    assert connected.account_name == line.account
    assert connected.callee_id
    assert connected.call_id
    await bob.event("CALL_ESTABLISHED")

    played = await line.bot.play(wav_bytes(first, tmp_path), wav_bytes(second, tmp_path))
    assert kind(played) == "MICROPHONE_WAV_FILES_PLAYED"
    assert played.call_id == connected.call_id

    finished = await line.bot.end_call()
    assert kind(finished) == "OUTGOING_CALL_FINISHED"
    await bob.event("CALL_CLOSED")
    assert_heard(read_wav(await bob.recording()), np.concatenate((first, second)))

    assert kind(await line.bot.end_session()) == "SESSION_ENDED"
    assert await line.kamailio.contacts("alice") == []
    assert await line.bot.kinds() == [
        "REGISTERED",
        "SESSION_STARTED",
        "READY",
        "OUTGOING_CALL_INITIATED",
        "OUTGOING_CALL_CONNECTED",
        "MICROPHONE_WAV_FILES_PLAYED",
        "SOFT_HANGUP_INITIATED",
        "OUTGOING_CALL_FINISHED",
        "SESSION_ENDED",
    ]
    stamps = [status.timestamp.ToNanoseconds() for status in await line.bot.history()]
    assert stamps == sorted(set(stamps))


async def test_mute_and_unmute(peers: Peers, tmp_path: Path) -> None:
    """While muted the far end hears silence, RTP goes on, and what plays meanwhile is not heard later."""
    speech = speech_like(3.0, seed=3)
    line = await open_line(peers)
    bob = await peers.baresip("bob", line.kamailio)
    await line.bot.call(line.callee("bob"))
    playing = asyncio.create_task(line.bot.play(wav_bytes(speech, tmp_path)))
    await asyncio.sleep(1.0)
    assert kind(await line.bot.mute()) == "MICROPHONE_MUTED"
    await asyncio.sleep(0.6)
    assert kind(await line.bot.unmute()) == "MICROPHONE_UNMUTED"
    assert kind(await playing) == "MICROPHONE_WAV_FILES_PLAYED"
    await line.bot.end_call()
    await bob.event("CALL_CLOSED")

    recording = read_wav(await bob.recording())
    found = align(recording, speech)
    (silence,) = faults(recording, speech, found.offset)
    assert silence.duration == pytest.approx(0.6, abs=0.15)
    start = found.offset + round(silence.start * RATE)
    middle = recording[start + 160 : start + round(silence.duration * RATE) - 160]
    assert np.abs(middle).max() <= 8  # G.711 has no exact zero in A-law


async def test_two_requests_to_play_are_heard_back_to_back(peers: Peers, tmp_path: Path) -> None:
    """A second SipPlayWavFiles queues behind the first, without a gap."""
    first, second = speech_like(1.0, seed=4), speech_like(0.7, seed=5)
    line = await open_line(peers)
    bob = await peers.baresip("bob", line.kamailio)
    await line.bot.call(line.callee("bob"))
    one = asyncio.create_task(line.bot.play(wav_bytes(first, tmp_path)))
    await asyncio.sleep(0.3)
    two = asyncio.create_task(line.bot.play(wav_bytes(second, tmp_path)))
    assert kind(await one) == "MICROPHONE_WAV_FILES_PLAYED"
    assert kind(await two) == "MICROPHONE_WAV_FILES_PLAYED"
    await line.bot.end_call()
    await bob.event("CALL_CLOSED")
    assert_heard(read_wav(await bob.recording()), np.concatenate((first, second)))


async def test_a_cancelled_request_to_play_stops_within_a_frame_or_two(peers: Peers, tmp_path: Path) -> None:
    """Barge-in: the wav stops, and the next one is heard from its beginning."""
    long, reply = speech_like(5.0, seed=6), speech_like(0.8, seed=7)
    line = await open_line(peers)
    bob = await peers.baresip("bob", line.kamailio)
    await line.bot.call(line.callee("bob"))
    playing = asyncio.create_task(line.bot.play(wav_bytes(long, tmp_path)))
    await asyncio.sleep(0.8)
    playing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await playing
    assert kind(await line.bot.play(wav_bytes(reply, tmp_path))) == "MICROPHONE_WAV_FILES_PLAYED"
    await line.bot.end_call()
    await bob.event("CALL_CLOSED")
    recording = read_wav(await bob.recording())
    assert_heard(recording, reply)
    begin = align(recording, long[: RATE // 2]).offset
    heard_until = faults(recording, long, begin)[0].start
    assert 0.5 < heard_until < 1.2


@pytest.mark.parametrize("codecs", ["PCMU/8000/1", "PCMA/8000/1"])
async def test_each_codec(peers: Peers, tmp_path: Path, codecs: str) -> None:
    """A far end that has only one of them."""
    speech = speech_like(1.0, seed=8)
    line = await open_line(peers)
    bob = await peers.baresip("bob", line.kamailio, codecs=codecs)
    assert kind(await line.bot.call("bob")) == "OUTGOING_CALL_CONNECTED"
    assert kind(await line.bot.play(wav_bytes(speech, tmp_path))) == "MICROPHONE_WAV_FILES_PLAYED"
    await line.bot.end_call()
    await bob.event("CALL_CLOSED")
    assert codecs.partition("/")[0] in bob.program.log()
    assert_heard(read_wav(await bob.recording()), speech)


@pytest.mark.parametrize("outcome_timeout_ms", [0, 3000])
async def test_transfer_to_another_telephone(peers: Peers, outcome_timeout_ms: int) -> None:
    """REFER: bob calls carol, this leg ends."""
    line = await open_line(peers)
    bob = await peers.baresip("bob", line.kamailio)
    carol = await peers.baresip("carol", line.kamailio)
    await line.bot.call(line.callee("bob"))
    await bob.event("CALL_ESTABLISHED")

    status = await line.bot.transfer(line.callee("carol"), outcome_timeout_ms=outcome_timeout_ms)
    assert kind(status) == "TRANSFER_CALL_INITIATED", status.description
    if outcome_timeout_ms:
        assert status.sip_response_code == 202
    finished = await line.bot.reached("OUTGOING_CALL_FINISHED")
    assert "Call transferred" in finished.description
    established = await carol.event("CALL_ESTABLISHED")
    assert "bob@" in established["peeruri"]


async def test_a_call_comes_in_and_the_far_end_hangs_up(peers: Peers, tmp_path: Path) -> None:
    speech = speech_like(1.0, seed=9)
    line = await open_line(peers)
    bob = await peers.baresip("bob", line.kamailio)
    await bob.dial(line.callee("alice"))
    connected = await line.bot.reached("INCOMING_CALL_CONNECTED")
    assert "bob@" in connected.callee_id
    assert kind(await line.bot.play(wav_bytes(speech, tmp_path))) == "MICROPHONE_WAV_FILES_PLAYED"
    await bob.hangup()
    finished = await line.bot.reached("INCOMING_CALL_FINISHED")
    assert finished.call_id == connected.call_id
    assert finished.description
    await bob.event("CALL_CLOSED")
    assert_heard(read_wav(await bob.recording()), speech)
    assert (await line.bot.kinds())[3:] == [
        "INCOMING_CALL_INITIATED",
        "INCOMING_CALL_CONNECTED",
        "MICROPHONE_WAV_FILES_PLAYED",
        "INCOMING_CALL_FINISHED",
    ]


@pytest.mark.parametrize("hard", [False, True])
async def test_a_call_comes_in_and_this_side_hangs_up(peers: Peers, hard: bool) -> None:
    line = await open_line(peers)
    bob = await peers.baresip("bob", line.kamailio, transport="tcp")
    await bob.dial(f"sip:{line.kamailio.aor('alice')}")
    await line.bot.reached("INCOMING_CALL_CONNECTED")
    assert kind(await line.bot.end_call(hard=hard)) == "INCOMING_CALL_FINISHED"
    await bob.event("CALL_CLOSED")
    assert ("HARD" if hard else "SOFT") + "_HANGUP_INITIATED" in await line.bot.kinds()


async def test_a_ringing_call_is_answered_after_the_interval(peers: Peers) -> None:
    line = await open_line(peers, auto_answer=1)
    bob = await peers.baresip("bob", line.kamailio)
    await bob.dial(line.callee("alice"))
    initiated = await line.bot.reached("INCOMING_CALL_INITIATED")
    connected = await line.bot.reached("INCOMING_CALL_CONNECTED")
    waited = connected.timestamp.ToMilliseconds() - initiated.timestamp.ToMilliseconds()
    assert 900 <= waited <= 1600
    await bob.event("CALL_RINGING")
    await bob.event("CALL_ESTABLISHED")


async def test_a_ringing_call_is_declined(peers: Peers) -> None:
    """auto_answer_interval < 0 never answers; SipEndCall declines with 603."""
    line = await open_line(peers, auto_answer=-1)
    bob = await peers.baresip("bob", line.kamailio)
    await bob.dial(line.callee("alice"))
    await line.bot.reached("INCOMING_CALL_INITIATED")
    await bob.event("CALL_RINGING")
    await line.bot.end_call()
    closed = await bob.event("CALL_CLOSED")
    assert "603" in closed["param"]


async def test_no_session_and_a_second_call(peers: Peers) -> None:
    """480 before SipStartSession; 486 while a call is on."""
    line = await open_line(peers)
    second = line.bot.about(line.kamailio.aor("dave"))
    peers.own(second)
    await second.register(line.kamailio.aor("dave"), SUBSCRIBERS["dave"])
    bob = await peers.baresip("bob", line.kamailio)
    await bob.dial(line.callee("dave"))
    assert "480" in (await bob.event("CALL_CLOSED"))["param"]

    carol = await peers.baresip("carol", line.kamailio)
    line_of_alice = line.bot.about(line.account)
    peers.own(line_of_alice)
    await carol.dial(line.callee("alice"))
    await line_of_alice.reached("INCOMING_CALL_CONNECTED")
    await bob.dial(line.callee("alice"))
    assert "486" in (await bob.event("CALL_CLOSED", count=2))["param"]
    assert kind(await line_of_alice.end_call()) == "INCOMING_CALL_FINISHED"


async def test_two_accounts_call_each_other_in_one_server(peers: Peers) -> None:
    """Selection by metadata; both legs go through Kamailio."""
    line = await open_line(peers)
    dave_account = line.kamailio.aor("dave")
    alice, dave = line.bot.about(line.account), line.bot.about(dave_account)
    peers.own(alice)
    peers.own(dave)
    await dave.register(dave_account, SUBSCRIBERS["dave"])
    await dave.start_session(dave_account)
    assert kind(await alice.call(line.callee("dave"))) == "OUTGOING_CALL_CONNECTED"
    await dave.reached("INCOMING_CALL_CONNECTED")
    assert kind(await dave.end_call()) == "INCOMING_CALL_FINISHED"
    finished = await alice.reached("OUTGOING_CALL_FINISHED")
    assert "dave" in finished.description


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(KamailioOptions(record_route=False), id="no Record-Route"),
        pytest.param(KamailioOptions(challenge_in_dialog=True), id="407 inside the dialog"),
        pytest.param(KamailioOptions(algorithm="SHA-256"), id="SHA-256"),
        pytest.param(KamailioOptions(nonce_seconds=1, challenge_in_dialog=True), id="stale nonces"),
    ],
)
async def test_kamailio_set_up_otherwise(peers: Peers, options: KamailioOptions) -> None:
    """The same call with other proxies' habits: out, hung up by this side, un-registered."""
    line = await open_line(peers, options=options)
    # baresip's digest knows MD5 only; where another algorithm is asked for it does not register.
    on_its_own = options.algorithm != "MD5"
    bob = await peers.baresip("bob", line.kamailio.address if on_its_own else line.kamailio)
    if on_its_own:
        await line.kamailio.bind("bob", bob.uri)
    if options.nonce_seconds == 1:
        await asyncio.sleep(1.5)
    connected = await line.bot.call(line.callee("bob"))
    assert kind(connected) == "OUTGOING_CALL_CONNECTED", connected.description
    await bob.event("CALL_ESTABLISHED")
    if options.nonce_seconds == 1:
        await asyncio.sleep(1.5)
    assert kind(await line.bot.end_call()) == "OUTGOING_CALL_FINISHED"
    await bob.event("CALL_CLOSED")
    assert kind(await line.bot.end_session()) == "SESSION_ENDED"
    assert await line.kamailio.contacts("alice") == []


async def test_headers_of_a_call_reach_the_far_end_and_mint_the_call_id(peers: Peers) -> None:
    line = await open_line(peers)
    bob = await peers.baresip("bob", line.kamailio)
    headers = {"X-ondewo-vtsi-caller-call-id": "call-4711", "X-Campaign": "märz, 2"}
    connected = await line.bot.call(line.callee("bob"), headers=headers)
    assert connected.call_id == "call-4711"
    assert dict(connected.headers) == headers
    log = bob.program.log()
    assert "X-Campaign: märz, 2" in log
    finished = await line.bot.end_call(reason=pb.SipEndCallRequest.ANSWERING_MACHINE)
    assert finished.description == "Answering machine detected with hang up"
    assert finished.call_id == "call-4711"


async def test_an_account_at_a_domain_behind_an_outbound_proxy(peers: Peers) -> None:
    """No name server knows the domain; every request goes to the proxy first."""
    kamailio = await peers.kamailio()
    bot = await peers.voicebot()
    account = "alice@sip.interop.test"
    registered = await bot.register(account, SUBSCRIBERS["alice"], outbound_proxy=kamailio.address)
    assert kind(registered) == "REGISTERED", registered.description
    await bot.start_session(account)
    bob = await peers.baresip("bob", kamailio)
    assert kind(await bot.call("bob")) == "OUTGOING_CALL_CONNECTED"
    await bob.event("CALL_ESTABLISHED")
    assert kind(await bot.end_call()) == "OUTGOING_CALL_FINISHED"
    assert kind(await bot.end_session()) == "SESSION_ENDED"
    assert await kamailio.contacts("alice") == []


async def test_sigterm_hangs_up_and_unregisters(peers: Peers) -> None:
    """Exit code 0 within 5 s; the far end sees a BYE, the registrar an un-REGISTER."""
    kamailio = await peers.kamailio()
    server = await peers.server()
    bot = await peers.client(server)
    account = kamailio.aor("alice")
    await bot.register(account, SUBSCRIBERS["alice"])
    await bot.start_session(account)
    bob = await peers.baresip("bob", kamailio)
    assert kind(await bot.call("bob")) == "OUTGOING_CALL_CONNECTED"
    await bob.event("CALL_ESTABLISHED")
    server.program.send_signal(signal.SIGTERM)
    assert await server.program.exited(timeout=5.0) == 0
    await bob.event("CALL_CLOSED", timeout=1.0)
    assert await kamailio.contacts("alice") == []
