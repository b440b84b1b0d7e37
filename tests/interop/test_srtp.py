"""SRTP with baresip, which has libsrtp's algorithms from a code base of its own (libre), and new keys from SIPp."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import pytest

from sipcore.call import Call
from sipcore.config import Account, CallPolicy, UserAgentConfig
from sipcore.errors import MediaNotAcceptable
from sipcore.registration import Registration
from sipcore.useragent import UserAgent
from tests.interop.kit.align import is_heard
from tests.interop.kit.line import open_line
from tests.interop.kit.peers import Peers
from tests.interop.kit.ports import HOST, free_ports
from tests.interop.kit.process import eventually
from tests.interop.kit.scenario import Scenario, is_left, receive, receive_invite, reply, request, respond
from tests.interop.kit.sound import RATE, Pcm, read_wav, speech_like, wav_bytes, write_wav
from tests.interop.kit.voicebot import kind
from tests.rtp.kit import FarEnd, packet, tone

pylibsrtp = pytest.importorskip("pylibsrtp")
pytestmark = pytest.mark.interop

Use = Literal["forbidden", "optional", "required"]


@asynccontextmanager
async def bot(use: Use) -> AsyncIterator[tuple[Registration, str]]:
    """A user agent of the library with one account, and its address."""
    first = free_ports(20)
    async with UserAgent(UserAgentConfig(sip_host=HOST, rtp_ports=(first, first + 19))) as agent:
        line = agent.open_line(Account(f"sip:bot@{HOST}", calls=CallPolicy(srtp=use)))
        yield line, f"sip:bot@{HOST}:{agent.sip_address[1]}"


async def converse(call: Call, folder: Path, said: Pcm) -> Path:
    """Plays what is said, and records the far end meanwhile, which reports once."""
    recording = call.record(folder / "heard.wav")
    await call.play(said)
    assert call.srtp
    statistics = call.statistics()
    assert statistics.srtp == call.srtp
    # To open its NAT, baresip sends an RTCP packet in the clear.
    assert statistics.unauthenticated <= 2
    assert statistics.replayed == statistics.malformed == 0
    assert statistics.packets_received > 20
    await call.hangup()
    await recording.wait_closed()
    return folder / "heard.wav"


@pytest.mark.parametrize(
    ("use", "theirs"), [("required", "srtp-mand"), ("optional", "srtp"), ("optional", "srtp-mand")]
)
async def test_both_sides_hear_each_other_when_we_call(
    peers: Peers, tmp_path: Path, use: Use, theirs: Literal["srtp", "srtp-mand"]
) -> None:
    """RFC 4568, and RFC 8643 where neither side insists. If baresip does, it refuses that, and is asked once more."""
    said, heard = speech_like(1.0, seed=71), speech_like(20.0, seed=72)
    source = write_wav(tmp_path / "voice.wav", heard)
    telephone = await peers.baresip("bob", HOST, srtp=theirs, source=source)
    async with bot(use) as (line, _):
        recorded = await converse(await line.call(telephone.uri), tmp_path, said)
    await telephone.event("CALL_CLOSED")
    assert is_heard(read_wav(await telephone.recording()), said)
    assert is_heard(heard, read_wav(recorded)[RATE // 4 :])


@pytest.mark.parametrize(("use", "theirs"), [("required", "srtp-mand"), ("optional", "srtp")])
async def test_both_sides_hear_each_other_when_we_are_called(
    peers: Peers, tmp_path: Path, use: Use, theirs: Literal["srtp", "srtp-mand"]
) -> None:
    said, heard = speech_like(1.0, seed=73), speech_like(20.0, seed=74)
    source = write_wav(tmp_path / "voice.wav", heard)
    telephone = await peers.baresip("bob", HOST, srtp=theirs, source=source)
    async with bot(use) as (line, address):
        calls = line.incoming()
        await telephone.dial(address)
        call = await anext(calls)
        await call.answer()
        recorded = await converse(call, tmp_path, said)
    await telephone.event("CALL_CLOSED")
    assert is_heard(read_wav(await telephone.recording()), said)
    assert is_heard(heard, read_wav(recorded)[RATE // 4 :])


async def test_reports_are_encrypted_too(peers: Peers) -> None:
    """SRTCP (RFC 3711 §3.4): its report answers one of ours."""
    telephone = await peers.baresip("bob", HOST, srtp="srtp-mand")
    async with bot("required") as (line, _), await line.call(telephone.uri) as call:
        await eventually(lambda: call.statistics().round_trip_ms is not None, timeout=20, what="a round trip")
        assert call.statistics().malformed == 0


async def test_a_hold_and_a_resume_change_no_key(peers: Peers) -> None:
    telephone = await peers.baresip("bob", HOST, srtp="srtp-mand")
    async with bot("required") as (line, _), await line.call(telephone.uri) as call:
        await eventually(lambda: call.statistics().packets_received > 5, timeout=5, what="audio")
        await call.hold()
        await call.resume()
        before = call.statistics().packets_received
        await eventually(lambda: call.statistics().packets_received > before + 5, timeout=5, what="audio again")
        assert call.statistics().unauthenticated <= 2
        assert call.statistics().replayed == 0


SUITE = "AES_CM_128_HMAC_SHA1_80"
FIRST, SECOND = bytes(range(30)), bytes(range(100, 130))
"""Keys of SIPp's: the one that it answers with, and the one that it changes to."""


def _secured(key: bytes, tag: int, ears: tuple[str, int] = (HOST, 40000)) -> str:
    """A description of encrypted audio at ``ears``."""
    lines = ("v=0", "o=sipp 5365 %d IN IP4 {0}", "s=-", "c=IN IP4 {0}", "t=0 0", "m=audio {1} RTP/SAVP 0")
    text = "\n".join(lines).format(*ears) % tag
    return f"{text}\na=rtpmap:0 PCMU/8000\na=crypto:{tag} {SUITE} inline:{base64.b64encode(key).decode()}"


def _changes_its_key(ears: tuple[str, int]) -> Scenario:
    """When it is told something, by INFO. Its audio is at ``ears``."""
    return Scenario(
        "changes-its-key",
        (
            receive_invite(check=("m=audio [0-9]+ RTP/SAVP",)),
            respond("200 OK", body=_secured(FIRST, 1, ears), attributes=' retrans="500"'),
            receive("ACK"),
            receive("INFO"),
            reply(),
            request("INVITE", 101, body=_secured(SECOND, 7, ears)),
            receive("100", optional=True),
            receive("200", check=("m=audio [0-9]+ RTP/SAVP", f"a=crypto:7 {SUITE} inline:")),
            request("ACK", 101, reliable=False),
            *is_left(),
        ),
    )


async def test_the_far_end_changes_its_key_in_mid_call(peers: Peers) -> None:
    """RFC 4568 §7.1.4, by SIPp's re-INVITE. Its audio is libsrtp's, here in the test: SIPp's is not worth its name."""
    with FarEnd() as ears:
        far_end = await peers.sipp(_changes_its_key(ears.address))
        async with bot("required") as (line, _), await line.call(far_end.uri()) as call:
            offer = re.compile(rf"m=audio (\d+) .*?a=crypto:1 {SUITE} inline:(\S+)", re.DOTALL)
            await eventually(lambda: bool(offer.search(far_end.messages())), timeout=5, what="SIPp's log")
            port, key = offer.findall(far_end.messages())[0]
            policy = pylibsrtp.Policy(key=base64.b64decode(key), ssrc_type=pylibsrtp.Policy.SSRC_ANY_INBOUND)
            reader = pylibsrtp.Session(policy)

            async def hear() -> None:
                """Raises where a packet of ours does not open."""
                for _ in range(10):
                    reader.unprotect(await asyncio.to_thread(ears.socket.recv, 2048))

            async def speak(key: bytes, sequences: range, what: str) -> None:
                policy = pylibsrtp.Policy(key=key, ssrc_type=pylibsrtp.Policy.SSRC_ANY_OUTBOUND)
                session = pylibsrtp.Session(policy)
                for number in sequences:
                    ears.send(session.protect(packet(number, 160 * number)), int(port))
                if what:
                    await eventually(lambda: call.statistics().packets_received == sequences.stop, timeout=5, what=what)

            playing = call.play(tone(10 * RATE))
            await speak(FIRST, range(10), "its first key")
            await hear()
            assert await call.send_info("now", "text/plain") == 200
            await eventually(lambda: far_end.received("SIP/2.0 200") == 1, timeout=5, what="the new key to be taken")
            for begin in range(10, 160, 50):
                await speak(SECOND, range(begin, begin + 50), "its second key")
            await hear()
            assert call.statistics().unauthenticated == 0
            await speak(FIRST, range(160, 170), "")
            await eventually(lambda: call.statistics().unauthenticated == 10, timeout=5, what="the first to be refused")
            playing.cancel()
        await far_end.finished()


_SERVER = ("msrp-tls;mediasec", "sdes-srtp;mediasec", "dtls-srtp;mediasec")
_VERIFY = tuple(f"Security-Verify: {each}" for each in _SERVER)
_REQUIRE = ("Require: .*mediasec", "Proxy-Require: .*mediasec")

MEDIASEC_REGISTRAR = Scenario(
    "mediasec-registrar",
    (
        receive("REGISTER", check=("Security-Client: sdes-srtp;mediasec", *_REQUIRE)),
        respond(
            "401 Unauthorized",
            headers=(
                'WWW-Authenticate: Digest realm="ims", nonce="1", algorithm=MD5, qop="auth"',
                *(f"Security-Server: {each}" for each in _SERVER),
            ),
        ),
        receive("REGISTER", check=("Security-Client: sdes-srtp;mediasec", *_VERIFY, *_REQUIRE, "Authorization: ")),
        respond("200 OK", headers=("[last_Contact:]", "Expires: 600")),
        receive("REGISTER", check=("Expires: *0", *_VERIFY)),
        respond("200 OK"),
    ),
)
MEDIASEC_CALL = Scenario(
    "mediasec-call",
    (
        receive_invite(check=(*_VERIFY, *_REQUIRE, "m=audio [0-9]+ RTP/SAVP", "a=3ge2ae:requested")),
        respond("200 OK", body=_secured(FIRST, 1), attributes=' retrans="500"'),
        receive("ACK"),
        receive("BYE", check=(*_VERIFY, *_REQUIRE)),
        reply(),
    ),
)


async def test_media_security_is_agreed_on_with_the_first_proxy(peers: Peers) -> None:
    """RFC 3329 with ``mediasec``, as Deutsche Telekom's access from other networks wants it."""
    registrar, far_end = await peers.sipp(MEDIASEC_REGISTRAR), await peers.sipp(MEDIASEC_CALL)
    async with UserAgent(UserAgentConfig(sip_host=HOST)) as agent:
        account = Account(f"bot@{HOST}:{registrar.port}", "secret", mediasec=True, calls=CallPolicy(srtp="required"))
        line = await agent.register(account)
        call = await line.call(far_end.uri())
        assert call.srtp == SUITE
        await call.hangup()
        await far_end.finished()
    await registrar.finished()


async def test_who_only_may_encrypt_talks_in_the_clear_with_who_cannot(peers: Peers) -> None:
    """RFC 8643 §3.1: an ordinary offer for who knows nothing of SRTP."""
    telephone = await peers.baresip("bob", HOST)
    async with bot("optional") as (line, _), await line.call(telephone.uri) as call:
        assert call.srtp == ""
        await eventually(lambda: call.statistics().packets_received > 5, timeout=5, what="audio")
        assert call.statistics().malformed == call.statistics().unauthenticated == 0


@pytest.mark.parametrize(("use", "theirs"), [("forbidden", "srtp-mand"), ("required", "")])
async def test_who_insists_and_who_refuses_do_not_meet(
    peers: Peers, use: Use, theirs: Literal["", "srtp-mand"]
) -> None:
    telephone = await peers.baresip("bob", HOST, srtp=theirs)
    async with bot(use) as (line, _):
        with pytest.raises(MediaNotAcceptable) as refused:
            await line.call(telephone.uri)
        assert refused.value.code == 488


async def test_a_call_without_srtp_is_refused_where_it_is_required(peers: Peers) -> None:
    telephone = await peers.baresip("bob", HOST)
    async with bot("required") as (_, address):
        await telephone.dial(address)
        closed = await telephone.event("CALL_CLOSED")
        assert "488" in str(closed["param"])


async def test_the_server_encrypts_where_its_settings_say_so(peers: Peers, tmp_path: Path) -> None:
    """``--srtp``: an account that a client registers, through a proxy, with wav files played."""
    said = speech_like(1.0, seed=75)
    line = await open_line(peers, arguments=("--srtp", "required"))
    plain = await peers.baresip("carol", line.kamailio)
    refused = await line.bot.call(line.callee("carol"))
    assert (kind(refused), refused.sip_response_code) == ("OUTGOING_CALL_FAILED", 488)
    assert not plain.of_type("CALL_ESTABLISHED")
    telephone = await peers.baresip("bob", line.kamailio, srtp="srtp-mand")
    connected = await line.bot.call(line.callee("bob"))
    assert kind(connected) == "OUTGOING_CALL_CONNECTED", connected.description
    await line.bot.play(wav_bytes(said, tmp_path))
    await line.bot.end_call()
    await telephone.event("CALL_CLOSED")
    assert is_heard(read_wav(await telephone.recording()), said)
