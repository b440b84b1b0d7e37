"""SRTP: known answers, keys that change, hostile packets, and the engine over the loopback with far ends that are
libsrtp and nothing else. Ticks are called by hand."""

from __future__ import annotations

import hashlib
import hmac
import random
import struct
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rtp.engine import MediaEngine
from rtp.g711 import Law, decode, encode
from rtp.rtcp import parse
from rtp.sinks import CallbackSink
from rtp.sources import ArraySource
from rtp.srtp import GRACE, MOST_SOURCES, PROFILES, Cipher, MasterKey, Refusal
from tests.rtp.by_hand import configure, tick
from tests.rtp.kit import FarEnd, packet, tone

pylibsrtp = pytest.importorskip("pylibsrtp")

HOST = "127.0.0.1"
FRAME = 160
OCTETS = {"AES_CM_128_HMAC_SHA1_80": 30, "AES_CM_128_HMAC_SHA1_32": 30, "AEAD_AES_128_GCM": 28}
SUITES = list(OCTETS)
OVERHEAD = {"AES_CM_128_HMAC_SHA1_80": 10, "AES_CM_128_HMAC_SHA1_32": 4, "AEAD_AES_128_GCM": 16}


def key(number: int, suite: str = SUITES[0], mki: bytes = b"") -> MasterKey:
    return MasterKey(suite, random.Random(number).randbytes(OCTETS[suite]), mki)


def reader_of(master: MasterKey) -> Any:
    """libsrtp that opens what the engine sends with this key."""
    return session(master, pylibsrtp.Policy.SSRC_ANY_INBOUND)


def writer_of(master: MasterKey) -> Any:
    """libsrtp that encrypts as the far end."""
    return session(master, pylibsrtp.Policy.SSRC_ANY_OUTBOUND)


def session(master: MasterKey, direction: int) -> Any:
    profile = getattr(pylibsrtp.Policy, PROFILES[master.suite])
    return pylibsrtp.Session(pylibsrtp.Policy(key=master.material, ssrc_type=direction, srtp_profile=profile))


# ---- known answers ---------------------------------------------------------------------------------------------------

RFC_3711_MASTER = bytes.fromhex("e1f97a0d3e018be0d64fa32c06de4139 0ec675ad498afeebb6960b3aabe6")
RFC_3711_AUTHENTICATION = bytes.fromhex("cebe321f6ff7716b6fd4ab49af256a156d38baa4")
GCM_MASTER = bytes(range(16)) + bytes(range(0xA0, 0xAC))
RTP = bytes.fromhex("800f1234decafbadcafebabe") + b"\xab" * 16
RTCP = bytes.fromhex("81c8000bcafebabe") + b"\xab" * 16
ANSWERS = [
    (
        "AES_CM_128_HMAC_SHA1_80",
        RFC_3711_MASTER,
        "4e55dc4ce79978d88ca4d215949d2402b78d6acc99ea179b8dbb",
        "7128035be487b9bdbef89041f977a5a880000001993e08cd54d6c1230798",
    ),
    (
        "AES_CM_128_HMAC_SHA1_32",
        RFC_3711_MASTER,
        "4e55dc4ce79978d88ca4d215949d2402b78d6acc",
        "7128035be487b9bdbef89041f977a5a880000001993e08cd54d6c1230798",
    ),
    (
        "AEAD_AES_128_GCM",
        GCM_MASTER,
        "c5002ede04cfdd2eb91159e0880aa06ed2976826f796b201df3131a127e8a392",
        "c98b8b5df0392a55852b6c21ac8e7025c52c6fbea2b3b446ea31123ba88ce61e80000001",
    ),
]


@pytest.mark.parametrize(("suite", "master", "rtp", "rtcp"), ANSWERS)
def test_known_answers(suite: str, master: bytes, rtp: str, rtcp: str) -> None:
    """The master key of RFC 3711 §B.3, and that of libsrtp's GCM test; _32 has SRTCP tags of 80 bits (RFC 4568 §6.2.2)
    and GCM's SRTCP index stands at the end, its E bit set (RFC 7714 §9.2)."""
    cipher = Cipher(MasterKey(suite, master), MasterKey(suite, master))
    assert cipher.protect(RTP) == RTP[:12] + bytes.fromhex(rtp)
    assert cipher.protect_report(RTCP) == RTCP[:8] + bytes.fromhex(rtcp)
    far = Cipher(MasterKey(suite, master), MasterKey(suite, master))
    assert far.open(RTP[:12] + bytes.fromhex(rtp)) == RTP
    assert far.open(RTCP[:8] + bytes.fromhex(rtcp), report=True) == RTCP


def test_the_tag_is_by_the_authentication_key_of_rfc_3711() -> None:
    """§B.3 derives the key, §4.2 says what it signs: the packet and the rollover counter."""
    cipher = Cipher(MasterKey(SUITES[0], RFC_3711_MASTER), MasterKey(SUITES[0], RFC_3711_MASTER))
    sent = cipher.protect(RTP)
    tag = hmac.new(RFC_3711_AUTHENTICATION, sent[:-10] + bytes(4), hashlib.sha1).digest()
    assert sent[-10:] == tag[:10]


# ---- keys ------------------------------------------------------------------------------------------------------------


def test_a_key_goes_on_when_it_is_agreed_on_again_even_after_another() -> None:
    """RFC 3711 §9.1: never the same key stream twice; 70,000 packets have wrapped the sequence number once."""
    ours, other, theirs = key(1), key(2), key(3)
    cipher = Cipher(ours, theirs)
    for number in range(0, 70_000, 2000):
        assert cipher.protect(packet(number))
    reader = reader_of(ours)
    for number in range(0, 70_000, 2000):
        reader.unprotect(cipher_text(ours, number))
    cipher.agree(other, theirs)
    cipher.protect(packet(70_001))
    cipher.agree(ours, theirs)
    assert reader.unprotect(cipher.protect(packet(70_002))) == packet(70_002)
    assert cipher.protect(packet(70_002)) == b""


def cipher_text(master: MasterKey, number: int) -> bytes:
    """Packet ``number`` as a far end with this key has it, from the first on."""
    writer = writer_of(master)
    for before in range(0, number, 2000):
        writer.protect(packet(before))
    return bytes(writer.protect(packet(number)))


def test_a_new_key_of_this_side_begins_with_rollover_counter_0() -> None:
    cipher = Cipher(key(1), key(3))
    for number in (0, 30_000, 60_000, 66_000):
        cipher.protect(packet(number))
    cipher.agree(key(2), key(3))
    assert reader_of(key(2)).unprotect(cipher.protect(packet(66_001))) == packet(66_001)


def test_the_key_before_opens_what_was_under_way_and_not_for_ever() -> None:
    before, after = writer_of(key(3)), writer_of(key(4))
    late, later = (before.protect(packet(number)) for number in (1, 2))
    cipher = Cipher(key(1), key(3))
    cipher.agree(key(1), key(4))
    assert cipher.open(after.protect(packet(10))) == packet(10)
    assert cipher.open(late) == packet(1)
    for number in range(11, 11 + GRACE):
        assert cipher.open(after.protect(packet(number))) == packet(number)
    assert cipher.open(later) is Refusal.UNAUTHENTICATED


def test_the_far_end_goes_back_to_its_first_key() -> None:
    writer = writer_of(key(3))
    cipher = Cipher(key(1), key(3))
    assert cipher.open(writer.protect(packet(1))) == packet(1)
    cipher.agree(key(1), key(4))
    cipher.agree(key(1), key(3))
    assert cipher.open(writer.protect(packet(2))) == packet(2)


def test_a_key_that_cannot_be_used_changes_nothing() -> None:
    cipher = Cipher(key(1), key(3))
    for wrong in (MasterKey("NULL", bytes(30)), MasterKey(SUITES[0], bytes(29))):
        with pytest.raises(ValueError, match=r"NULL|30"):
            cipher.agree(key(1), wrong)
        with pytest.raises(ValueError, match=r"NULL|30"):
            cipher.agree(wrong, key(3))
    assert reader_of(key(1)).unprotect(cipher.protect(packet(1))) == packet(1)
    assert key(1).material.hex() not in repr(key(1))
    assert repr(key(1).material) not in repr(key(1))


def test_ssrcs_come_and_go_and_only_the_latest_are_remembered() -> None:
    """A far end that restarts has another SSRC, and its counter begins anew (RFC 3711 §3.2.3)."""
    writer, cipher = writer_of(key(3)), Cipher(key(1), key(3))
    for source in range(3 * MOST_SOURCES):
        for number in (60_000, 1):
            sent = packet(number, ssrc=source)
            assert cipher.open(writer.protect(sent)) == sent
    replay = writer_of(key(3)).protect(packet(60_000, ssrc=3 * MOST_SOURCES - 1))
    assert cipher.open(replay) is Refusal.REPLAYED


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("report", [False, True])
def test_an_mki_is_taken_off(suite: str, report: bool) -> None:
    """RFC 3711 §3.1 and §3.4 have it before the tag, RFC 7714 §8.2 and §9.2 at the end."""
    writer = writer_of(key(3, suite))
    plain = RTCP if report else packet(5)
    sent = writer.protect_rtcp(plain) if report else writer.protect(plain)
    tag = 0 if suite.startswith("AEAD") else 10 if report or suite.endswith("80") else 4
    end = len(sent) - tag
    cipher = Cipher(key(1, suite), key(3, suite, mki=b"\x00\x01"))
    for wrong in (sent, sent[:end] + b"\x00\x02" + sent[end:], b"", sent[:3]):
        assert cipher.open(wrong, report=report) is Refusal.UNAUTHENTICATED
    assert cipher.open(sent[:end] + b"\x00\x01" + sent[end:], report=report) == plain


@given(st.binary(max_size=1700), st.booleans(), st.sampled_from(SUITES), st.binary(max_size=3))
def test_nothing_that_comes_raises(data: bytes, report: bool, suite: str, mki: bytes) -> None:
    assert isinstance(Cipher(key(1, suite), key(3, suite, mki)).open(data, report=report), Refusal)


# ---- the engine ------------------------------------------------------------------------------------------------------


@pytest.fixture
async def engine(either_way: None) -> AsyncIterator[MediaEngine]:
    engine = MediaEngine(ports=(20000, 59999), rng=random.Random(), jitter_min_ms=60, jitter_max_ms=60)
    yield engine
    await engine.close()


def opened(far: FarEnd, reader: Any) -> tuple[int, int, bytes]:
    """Payload type, sequence number and payload of the next packet."""
    data = reader.unprotect(far.socket.recv(2048))
    second, sequence = struct.unpack_from("!BH", data, 1)
    return second & 0x7F, sequence, data[12:]


@pytest.mark.parametrize("suite", SUITES)
async def test_audio_and_keys_both_ways(engine: MediaEngine, suite: str) -> None:
    """A plain stream beside it goes on as it was."""
    ours, theirs = key(1, suite), key(2, suite)
    reader, writer = reader_of(ours), writer_of(theirs)
    with FarEnd() as far, FarEnd() as plain:
        stream, other = engine.open_stream(HOST), engine.open_stream(HOST)
        configure(stream, far.address, srtp=(ours, theirs))
        configure(other, plain.address)
        digits: list[str] = []
        heard: list[Any] = []
        stream.on_dtmf = lambda digit, _: digits.append(digit)
        stream.add_sink(CallbackSink(lambda frame: heard.append(frame.copy())))
        samples = tone(10 * FRAME)
        stream.play(ArraySource(samples))
        other.play(ArraySource(samples))
        for number in range(10):
            payload = encode(samples[number * FRAME : (number + 1) * FRAME], Law.PCMU)
            far.send(writer.protect(packet(number, number * FRAME, payload.tobytes())), stream.local_port)
            tick(engine)
        wanted = [encode(samples[each * FRAME : (each + 1) * FRAME], Law.PCMU).tobytes() for each in range(10)]
        raw = far.socket.recv(2048)
        assert len(raw) == 172 + OVERHEAD[suite]
        first = reader.unprotect(raw)
        assert int.from_bytes(first[2:4]) < 0x8001  # RFC 3711 §3.3.1
        assert [first[12:], *(opened(far, reader)[2] for _ in range(9))] == wanted
        assert [plain.receive()[5] for _ in range(10)] == wanted

        stream.send_dtmf("5", duration_ms=40)
        event = struct.pack("!BBH", 7, 0x80 | 10, 800)
        for number in range(10, 13):
            far.send(writer.protect(packet(number, 10 * FRAME, event, payload_type=101)), stream.local_port)
        tick(engine, 8)
        kinds = [opened(far, reader)[0] for _ in range(8)]
        assert 101 in kinds
        assert digits == ["7"]
        expected = decode(np.frombuffer(b"".join(wanted), np.uint8), Law.PCMU)
        assert expected.tobytes() in np.concatenate(heard).tobytes()
        statistics = stream.statistics()
        assert (statistics.srtp, other.statistics().srtp) == (suite, "")
        assert statistics.packets_sent == 18
        assert statistics.packets_received == 13
        assert statistics.lost == statistics.unauthenticated == statistics.replayed == statistics.malformed == 0
        stream.close()
        assert stream.statistics().srtp == suite


async def test_forged_replayed_and_plain_packets_are_counted_and_heard_by_nobody(engine: MediaEngine) -> None:
    """Nor do they keep the call alive, or take it over from another port (RFC 3711 §3.3: authenticated first)."""
    ours, theirs = key(1), key(2)
    writer = writer_of(theirs)
    with FarEnd() as far, FarEnd() as thief, FarEnd("127.0.0.2") as stranger:
        stream = engine.open_stream(HOST)
        configure(stream, far.address, srtp=(ours, theirs))
        tick(engine)
        before = stream.seconds_since_life()
        good = [writer.protect(packet(number, number * FRAME)) for number in range(4)]
        for bad in (good[0][:-1] + bytes([good[0][-1] ^ 1]), packet(7), b"", b"\x80", good[0][:12], bytes(1700)):
            thief.send(bad, stream.local_port)
            far.send(bad, stream.local_port)
        tick(engine)
        assert stream.seconds_since_life() >= before
        assert stream.endpoint is not None
        assert stream.endpoint.address[1] == far.address[1]
        assert stream.statistics().packets_received == 0
        # An empty datagram and one too long for any packet are no SRTP at all.
        assert stream.statistics().unauthenticated == 8
        for each in good:
            stranger.socket.sendto(each, (HOST, stream.local_port))
        tick(engine)
        assert stream.statistics().strangers == 4
        for each in (*good, good[2], good[3]):
            far.send(each, stream.local_port)
        tick(engine)
        statistics = stream.statistics()
        assert (statistics.packets_received, statistics.replayed, statistics.duplicates) == (4, 2, 0)


async def test_who_can_encrypt_may_take_a_stream_over_from_another_port(engine: MediaEngine) -> None:
    """Symmetric RTP (RFC 4961): a NAT has given the far end another port."""
    with FarEnd() as far, FarEnd() as nat:
        stream = engine.open_stream(HOST)
        configure(stream, far.address, srtp=(key(1), key(2)))
        nat.send(writer_of(key(2)).protect(packet(1)), stream.local_port)
        tick(engine, 2)
        assert opened(nat, reader_of(key(1)))[0] == 0


async def test_a_re_offer_with_the_same_keys_changes_nothing(engine: MediaEngine) -> None:
    """Hold and resume: replay protection and numbers go on."""
    with FarEnd() as far:
        stream = engine.open_stream(HOST)
        keys = (key(1), key(2))
        reader, writer = reader_of(key(1)), writer_of(key(2))
        configure(stream, far.address, srtp=keys)
        sent = writer.protect(packet(1))
        far.send(sent, stream.local_port)
        tick(engine)
        configure(stream, far.address, srtp=keys, send=False)
        tick(engine)
        configure(stream, far.address, srtp=keys)
        far.send(sent, stream.local_port)
        tick(engine)
        first, second = opened(far, reader)[1], opened(far, reader)[1]
        assert second == first + 1
        assert stream.statistics().replayed == 1


async def test_new_keys_in_the_middle_of_a_call(engine: MediaEngine) -> None:
    """Re-key: both directions and both suites, from one tick to the next; and a call that goes on in the clear."""
    with FarEnd() as far:
        stream = engine.open_stream(HOST)
        configure(stream, far.address, srtp=(key(1), key(2)))
        old, new = writer_of(key(2)), writer_of(key(4, "AEAD_AES_128_GCM"))
        far.send(old.protect(packet(1)), stream.local_port)
        under_way = old.protect(packet(2))
        tick(engine)
        configure(stream, far.address, srtp=(key(3, "AEAD_AES_128_GCM"), key(4, "AEAD_AES_128_GCM")))
        far.send(new.protect(packet(3)), stream.local_port)
        far.send(under_way, stream.local_port)
        tick(engine)
        assert stream.statistics().packets_received == 3
        assert stream.statistics().unauthenticated == 0
        first = opened(far, reader_of(key(1)))[1]
        assert opened(far, reader_of(key(3, "AEAD_AES_128_GCM")))[1] == (first + 1) & 0xFFFF
        configure(stream, far.address)
        far.send(packet(4), stream.local_port)
        tick(engine)
        assert far.receive()[2] == (first + 2) & 0xFFFF
        assert stream.statistics().packets_received == 4
        assert stream.statistics().srtp == ""


async def test_keys_that_cannot_be_used_leave_a_stream_silent(engine: MediaEngine) -> None:
    """Rather nothing than audio in the clear."""
    with FarEnd() as far:
        stream = engine.open_stream(HOST)
        with pytest.raises(ValueError, match="NULL"):
            configure(stream, far.address, srtp=(MasterKey("NULL", b""), MasterKey("NULL", b"")))
        tick(engine, 3)
        assert far.waiting() == 0


class Time:
    """The clock that the engine reads."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("mux", [False, True])
async def test_reports_are_encrypted_too(monkeypatch: pytest.MonkeyPatch, suite: str, mux: bool) -> None:
    """SRTCP (RFC 3711 §3.4), on a port of its own and on that of RTP (RFC 5761); what is not encrypted is no report."""
    engine, clock = MediaEngine(ports=(20000, 59999), rng=random.Random()), Time()
    monkeypatch.setattr("rtp.engine.time.monotonic", clock.monotonic)
    one, two = engine.open_stream(HOST), engine.open_stream(HOST)
    ours, theirs = key(1, suite), key(2, suite)
    for stream, other, keys in ((one, two, (ours, theirs)), (two, one, (theirs, ours))):
        remote = (HOST, other.local_port)
        configure(stream, remote, rtcp=(HOST, other.local_port + 1), rtcp_mux=mux, srtp=keys)
    for _ in range(100):
        clock.now += 0.2
        tick(engine)
    tick(engine)  # takes what the last one sent
    for stream in (one, two):
        statistics = stream.statistics()
        assert statistics.reports_received >= 2
        assert statistics.round_trip_ms is not None
        assert statistics.malformed == statistics.unauthenticated == statistics.replayed == 0
    received = one.statistics().reports_received
    plain = struct.pack("!BBHI", 0x80, 201, 1, 7)
    port = two.ports.rtp if mux else two.ports.rtcp
    port.sendto(plain, (HOST, one.local_port + (0 if mux else 1)))
    tick(engine)
    assert one.statistics().reports_received == received
    assert one.statistics().unauthenticated == 1
    await engine.close()


async def test_the_goodbye_is_encrypted(engine: MediaEngine) -> None:
    with FarEnd() as far, FarEnd() as ear:
        stream = engine.open_stream(HOST)
        configure(stream, far.address, rtcp=ear.address, srtp=(key(1), key(2)))
        tick(engine)
        stream.close()
        sent = ear.socket.recv(2048)
        report = parse(reader_of(key(1)).unprotect_rtcp(sent))
        assert report is not None
        assert report.goodbye


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
@given(st.lists(st.binary(max_size=300), max_size=8))
async def test_no_datagram_disturbs_a_tick(data: list[bytes]) -> None:
    engine = MediaEngine(ports=(20000, 59999), rng=random.Random())
    with FarEnd() as far:
        stream = engine.open_stream(HOST)
        configure(stream, far.address, rtcp=far.address, rtcp_mux=True, srtp=(key(1), key(2)))
        for each in data:
            far.send(each, stream.local_port)
        tick(engine)
        assert far.waiting() >= 1
        assert stream.statistics().packets_received == 0
    await engine.close()
