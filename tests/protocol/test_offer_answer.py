"""Offers and answers (RFC 3264, RFC 6337), in the order of RFC 4317's examples where it has one."""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipcore.errors import MediaNotAcceptable
from sipcore.protocol.ids import Ids
from sipcore.protocol.offer_answer import OfferAnswer
from sipcore.protocol.sdp import Direction, MediaDescription, parse_sdp

HERE = "192.0.2.1"
THERE = "192.0.2.9"
FULL = ("m=audio 5000 RTP/AVP 0 8 101", "a=rtpmap:101 telephone-event/8000", "a=fmtp:101 0-16")


def side(codecs: Sequence[str] = ("PCMU", "PCMA"), host: str = HERE) -> OfferAnswer:
    """Our side of a dialog."""
    return OfferAnswer(codecs=codecs, host=host, port=4000, ids=Ids(random.Random(1)))


def body(*lines: str, connection: str = f"IN IP4 {THERE}") -> bytes:
    """The peer's description."""
    return "\r\n".join(("v=0", f"o=- 7 7 {connection}", "s=-", f"c={connection}", "t=0 0", *lines, "")).encode()


def ours(description: bytes) -> MediaDescription:
    """The audio section of what this side wrote."""
    return next(each for each in parse_sdp(description).media if each.kind == "audio" and each.port)


def version(description: bytes) -> int:
    """The version in the ``o=`` line."""
    return int(parse_sdp(description).origin.split()[2])


def connected(answer: tuple[str, ...] = FULL) -> OfferAnswer:
    """A side whose first offer was answered."""
    dialog = side()
    dialog.create_offer()
    dialog.accept_answer(body(*answer))
    return dialog


# -- our offer -----------------------------------------------------------------------------------------------------


def test_the_first_offer_names_all_codecs_and_telephone_event() -> None:
    """RFC 3264 §5, RFC 4733 §2.4: preferred codec first, static numbers, the sixteen keys."""
    offer = side().create_offer()
    text = re.sub(r"(?m)^o=.*\r\n", "", offer.decode())
    assert text == (
        "v=0\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0 8 101\r\n"
        "a=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\n"
        "a=ptime:20\r\na=sendrecv\r\n"
    )
    assert re.search(rb"\r\no=- \d+ \d+ IN IP4 192\.0\.2\.1\r\n", offer)
    assert ours(side(["PCMA", "OPUS"]).create_offer()).formats == ["8", "101"]


def test_g722_is_said_to_have_a_clock_of_8_khz() -> None:
    """RFC 3551 §4.5.2: 9, G722/8000, with or without an rtpmap."""
    dialog = side(["G722", "PCMA"])
    offer = dialog.create_offer()
    assert ours(offer).formats == ["9", "8", "101"]
    assert b"a=rtpmap:9 G722/8000\r\n" in offer
    media = dialog.accept_answer(body("m=audio 5000 RTP/AVP 9 8"))
    assert (media.codec, media.payload_type, dict(media.receive_payload_types)) == ("G722", 9, {9: "G722", 8: "PCMA"})


def test_a_wideband_codec_comes_only_where_the_answer_names_it() -> None:
    """RFC 3264 §6.1. A codec that remembers costs more than a table: it is not made ready for nothing."""
    dialog = side(["G722", "PCMA", "PCMU"])
    dialog.create_offer()
    media = dialog.accept_answer(body("m=audio 5000 RTP/AVP 8"))
    assert (media.codec, dict(media.receive_payload_types)) == ("PCMA", {8: "PCMA", 0: "PCMU"})


def test_the_order_of_the_offer_chooses_and_nothing_else_is_answered() -> None:
    """RFC 3264 §6.1: G.722 is answered where it comes first, never where it was not offered."""
    dialog = side(["PCMU", "G722"])
    answer, media = dialog.answer(body("m=audio 5000 RTP/AVP 9 0"))
    assert (media.codec, ours(answer).formats) == ("G722", ["9"])
    answer, media = side(["PCMU", "G722"]).answer(body("m=audio 5000 RTP/AVP 0 18"))
    assert (media.codec, ours(answer).formats) == ("PCMU", ["0"])
    with pytest.raises(MediaNotAcceptable, match="G722"):
        side(["G722"]).answer(body("m=audio 5000 RTP/AVP 0 8"))
    wrong_clock = ("m=audio 5000 RTP/AVP 97", "a=rtpmap:97 G722/16000")
    with pytest.raises(MediaNotAcceptable):
        side(["G722"]).answer(body(*wrong_clock))


def test_a_new_offer_may_change_the_codec() -> None:
    """RFC 3264 §8.3.2: numbers keep their meaning, and the next exchange may settle on another codec."""
    dialog = side(["PCMU", "G722"])
    assert dialog.answer(body("m=audio 5000 RTP/AVP 0"))[1].codec == "PCMU"
    assert dialog.answer(body("m=audio 5000 RTP/AVP 9"))[1].codec == "G722"
    assert ours(dialog.create_offer()).formats == ["9", "0", "101"]
    assert dialog.accept_answer(body("m=audio 5000 RTP/AVP 0")).codec == "PCMU"


def test_an_offer_over_ipv6() -> None:
    """RFC 8866 §5.7, RFC 6157."""
    dialog = side(host="2001:db8::1")
    assert b"c=IN IP6 2001:db8::1\r\n" in dialog.create_offer()
    media = dialog.accept_answer(body(*FULL, connection="IN IP6 2001:db8::9"))
    assert (media.remote_host, media.remote_port) == ("2001:db8::9", 5000)


def test_comfort_noise_is_taken_where_it_is_offered_and_not_offered() -> None:
    """RFC 3389 §4: static payload type 13, or a dynamic one with an rtpmap."""
    dialog = side()
    assert "13" not in ours(dialog.create_offer()).formats
    answer, media = side().answer(body("m=audio 5000 RTP/AVP 0 13 101", *FULL[1:]))
    assert ours(answer).formats == ["0", "13", "101"]
    assert ours(answer).attribute("rtpmap") == "0 PCMU/8000"
    assert ("rtpmap", "13 CN/8000") in ours(answer).attributes
    assert dict(media.receive_payload_types) == {0: "PCMU", 13: "CN"}
    assert (media.codec, media.payload_type) == ("PCMU", 0)
    answer, media = side().answer(body("m=audio 5000 RTP/AVP 98 8", "a=rtpmap:98 CN/16000"))
    assert ours(answer).formats == ["8"]
    answer, media = side().answer(body("m=audio 5000 RTP/AVP 13 8"))
    assert (media.codec, media.payload_type) == ("PCMA", 8)
    dialog.accept_answer(body("m=audio 5000 RTP/AVP 0 13"))
    assert dialog.current is not None
    assert 13 not in dialog.current.receive_payload_types


def test_rtcp_on_the_port_of_rtp_is_taken_where_it_is_offered() -> None:
    """RFC 5761 §5.1.1: answered, kept in later offers, and gone when a later answer leaves it out."""
    assert b"rtcp-mux" not in side().create_offer()
    dialog = side()
    answer, media = dialog.answer(body(*FULL, "a=rtcp-mux"))
    assert ours(answer).attribute("rtcp-mux") == ""
    assert media.rtcp_mux
    assert ours(dialog.create_offer()).attribute("rtcp-mux") == ""
    assert dialog.accept_answer(body(*FULL, "a=rtcp-mux")).rtcp_mux
    dialog.create_offer()
    assert not dialog.accept_answer(body(*FULL)).rtcp_mux
    assert ours(dialog.create_offer()).attribute("rtcp-mux") is None
    dialog.rollback()
    answer, media = dialog.answer(body(*FULL))
    assert not media.rtcp_mux
    assert ours(answer).attribute("rtcp-mux") is None
    # What was not offered cannot be agreed on.
    dialog.create_offer()
    assert not dialog.accept_answer(body(*FULL, "a=rtcp-mux")).rtcp_mux


def test_an_ordinary_answer() -> None:
    """RFC 3264 §6.1, §7: its first common codec is sent."""
    dialog = side()
    assert not dialog.pending_offer
    dialog.create_offer()
    assert dialog.pending_offer
    assert dialog.current is None
    media = dialog.accept_answer(body(*FULL))
    assert not dialog.pending_offer
    assert dialog.current is media
    assert (media.remote_host, media.remote_port, media.remote_rtcp) == (THERE, 5000, (THERE, 5001))
    assert (media.codec, media.payload_type, dict(media.receive_payload_types)) == ("PCMU", 0, {0: "PCMU", 8: "PCMA"})
    assert (media.dtmf_payload_type, media.dtmf_receive_payload_type, media.ptime) == (101, 101, 20)
    assert (media.send, media.receive, media.remote_hold) == (True, True, False)


def test_the_answerer_prefers_another_codec() -> None:
    """RFC 3264 §6.1: its order wins."""
    dialog = side()
    dialog.create_offer()
    media = dialog.accept_answer(body("m=audio 5000 RTP/AVP 8 0"))
    assert (media.codec, media.payload_type) == ("PCMA", 8)
    assert (media.dtmf_payload_type, media.dtmf_receive_payload_type) == (None, None)


def test_numbers_may_differ_in_the_two_directions() -> None:
    """RFC 3264 §5.1: we send with the peer's numbers, and receive with ours as well as the peer's."""
    dialog = side()
    dialog.create_offer()
    media = dialog.accept_answer(
        body("m=audio 5000 RTP/AVP 96 97", "a=rtpmap:96 pcma/8000", "a=rtpmap:97 TELEPHONE-EVENT/8000")
    )
    assert (media.codec, media.payload_type) == ("PCMA", 96)
    assert dict(media.receive_payload_types) == {0: "PCMU", 8: "PCMA", 96: "PCMA"}
    assert (media.dtmf_payload_type, media.dtmf_receive_payload_type) == (97, 101)


def test_a_number_without_rtpmap_means_what_the_offer_said() -> None:
    """Against RFC 3264 §6.1, and seen: ``101`` comes back bare."""
    dialog = side()
    dialog.create_offer()
    assert dialog.accept_answer(body("m=audio 5000 RTP/AVP 0 101")).dtmf_payload_type == 101


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "no SDP"),
        (b"\xff\x00garbage", "no SDP"),
        (body(), "fewer media sections"),
        (body("m=audio 0 RTP/AVP 0"), "refuses the audio"),
        (body("m=video 5000 RTP/AVP 0"), "refuses the audio"),
        (body("m=audio 5000 RTP/SAVP 0"), "the answer is for RTP/SAVP"),
        (body("m=audio 5000 RTP/AVP 18"), "none of the offered codecs"),
        (body("m=audio 5000 RTP/AVP 101", "a=rtpmap:101 telephone-event/8000"), "none of the offered codecs"),
        (body("m=audio 5000 RTP/AVP 96", "a=rtpmap:96 PCMU/16000"), "none of the offered codecs"),
        (body("m=audio 5000 RTP/AVP 96", "a=rtpmap:96 PCMU/8000/2"), "none of the offered codecs"),
        (body("m=audio 5000 RTP/AVP 0", connection="IN IP4 pbx.example.com"), "no IP address"),
        (b"v=0\r\nm=audio 5000 RTP/AVP 0\r\n", "no IP address"),
        (body("m=audio 5000 RTP/AVP 0", connection="IN IP4 239.1.1.1"), "no single host"),
        (body("m=audio 5000 RTP/AVP 0", connection="IN IP4 255.255.255.255"), "no single host"),
        (body("m=audio 5000 RTP/AVP 0", connection="IN IP6 2001:db8::1"), "IPv6"),
    ],
)
def test_unusable_answers_are_refused_with_488(answer: bytes, why: str) -> None:
    """RFC 3264 §6: the offer is over, and nothing is settled."""
    dialog = side()
    dialog.create_offer()
    with pytest.raises(MediaNotAcceptable, match=why) as caught:
        dialog.accept_answer(answer)
    assert caught.value.code == 488
    assert not dialog.pending_offer
    assert dialog.current is None


def test_an_answer_without_an_offer_is_refused() -> None:
    """RFC 3264 §4: there is nothing to answer."""
    with pytest.raises(MediaNotAcceptable, match="without an offer"):
        side().accept_answer(body(*FULL))


def test_an_early_answer_can_be_tried_on_a_copy() -> None:
    """RFC 6337 §3.1.1: an answer in an unreliable 18x is a preview of the one in the 2xx."""
    dialog = side()
    dialog.create_offer()
    assert copy.copy(dialog).accept_answer(body("m=audio 6000 RTP/AVP 8")).remote_port == 6000
    assert dialog.pending_offer
    assert dialog.current is None
    assert dialog.accept_answer(body(*FULL)).remote_port == 5000


# -- the peer's offer ----------------------------------------------------------------------------------------------


def test_an_ordinary_offer() -> None:
    """RFC 3264 §6.1: one codec, the offerer's first of ours, and its number for telephone-event."""
    answer, media = side().answer(
        body("m=audio 5000 RTP/AVP 18 8 0 96", "a=rtpmap:96 telephone-event/8000", "a=fmtp:96 0-16,66,70", "a=ptime:30")
    )
    section = ours(answer)
    assert section.formats == ["8", "96"]
    assert section.attribute("rtpmap") == "8 PCMA/8000"
    assert section.attribute("fmtp") == "96 0-15"
    assert section.direction == "sendrecv"
    assert (media.codec, media.payload_type, dict(media.receive_payload_types)) == ("PCMA", 8, {8: "PCMA"})
    assert (media.dtmf_payload_type, media.dtmf_receive_payload_type, media.ptime) == (96, 96, 30)


def test_only_what_was_offered_is_answered() -> None:
    """RFC 3264 §6.1: no telephone-event where none was offered, nor at another clock rate."""
    for lines in (
        ("m=audio 5000 RTP/AVP 0",),
        ("m=audio 5000 RTP/AVP 0 96", "a=rtpmap:96 telephone-event/48000"),
    ):
        answer, media = side().answer(body(*lines))
        assert ours(answer).formats == ["0"]
        assert media.dtmf_payload_type is None
    answer, media = side(["PCMA"]).answer(body(*FULL))
    assert (ours(answer).formats, media.codec) == (["8", "101"], "PCMA")


def test_a_dynamic_number_for_a_static_codec() -> None:
    """RFC 3551 §6: allowed, and answered with the same number."""
    answer, media = side().answer(body("m=audio 5000 RTP/AVP 112", "a=rtpmap:112 PCMU/8000"))
    assert ours(answer).formats == ["112"]
    assert (media.payload_type, dict(media.receive_payload_types)) == (112, {112: "PCMU"})


def test_the_first_audio_we_can_take_is_taken_and_all_else_refused_in_its_place() -> None:
    """RFC 3264 §6, RFC 4317 §2.2: as many sections in the answer, in order, refused ones as written with port 0."""
    answer, media = side().answer(
        body(
            "m=video 5006 RTP/AVP 31 34",
            "m=audio 5008 RTP/SAVP 0",
            "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:secret",
            "m=audio 5010 RTP/AVP 18",
            "m=audio 0 RTP/AVP 0",
            "m=audio 5000 RTP/AVP 0",
            "c=IN IP4 192.0.2.8",
            "m=audio 5002 RTP/AVP 0",
            "m=image 5004 udptl t38",
        )
    )
    sections = [(each.kind, each.port, each.protocol, each.formats) for each in parse_sdp(answer).media]
    assert sections == [
        ("video", 0, "RTP/AVP", ["31", "34"]),
        ("audio", 0, "RTP/SAVP", ["0"]),
        ("audio", 0, "RTP/AVP", ["18"]),
        ("audio", 0, "RTP/AVP", ["0"]),
        ("audio", 4000, "RTP/AVP", ["0"]),
        ("audio", 0, "RTP/AVP", ["0"]),
        ("image", 0, "udptl", ["t38"]),
    ]
    assert (media.remote_host, media.remote_port) == ("192.0.2.8", 5000)
    assert b"secret" not in answer


@pytest.mark.parametrize(
    "offer",
    [
        b"",
        b"not sdp",
        body(),
        body("m=audio 5000 RTP/AVP 18 9"),
        body("m=audio 5000 RTP/SAVP 0"),
        body("m=audio 5000 RTP/AVPF 0"),
        body("m=audio 0 RTP/AVP 0"),
        body("m=video 5000 RTP/AVP 0"),
        body("m=audio 5000 RTP/AVP 0", connection="IN IP4 example.com"),
        body("m=audio 5000 RTP/AVP 0", connection="IN IP6 ::1"),
        body("m=audio " + "9" * 5000 + " RTP/AVP 0"),
    ],
)
def test_unusable_offers_are_refused_with_488(offer: bytes) -> None:
    """RFC 3261 §14.2, §21.4.26: and what was settled before holds."""
    for dialog in (side(), connected()):
        before = dialog.current
        with pytest.raises(MediaNotAcceptable) as caught:
            dialog.answer(offer)
        assert caught.value.code == 488
        assert dialog.current is before


@pytest.mark.parametrize("lines", [(), ("a=ptime:60",), ("a=maxptime:20",)])
def test_each_side_asks_for_what_it_wants_and_sends_what_it_is_asked_for(lines: tuple[str, ...]) -> None:
    """RFC 3264 §6.1: the two directions need not be alike. Whoever asks for nothing gets what this side wants."""
    dialog = OfferAnswer(codecs=("PCMU",), host=HERE, port=4000, ids=Ids(random.Random(1)), ptime=30)
    answer, media = dialog.answer(body("m=audio 5000 RTP/AVP 0", *lines))
    assert ours(answer).attribute("ptime") == "30"
    assert media.ptime == {(): 30, ("a=ptime:60",): 60, ("a=maxptime:20",): 20}[lines]


@pytest.mark.parametrize(
    ("lines", "ptime"),
    [(("a=ptime:5",), 10), (("a=ptime:25",), 20), (("a=ptime:200",), 60), (("a=maxptime:10",), 10), ((), 20)],
)
def test_packet_times_are_rounded_to_what_we_send(lines: tuple[str, ...], ptime: int) -> None:
    """RFC 8866 §6.4: ptime is a wish, maxptime a limit."""
    _, media = side().answer(body("m=audio 5000 RTP/AVP 0", *lines))
    assert media.ptime == ptime


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a=rtcp:53020", (THERE, 53020)),
        ("a=rtcp:53020 IN IP4 192.0.2.77", ("192.0.2.77", 53020)),
        ("a=rtcp:53020 IN IP4 nowhere", (THERE, 53020)),
        ("a=rtcp:0", (THERE, 5001)),
        ("a=rtcp:" + "9" * 5000, (THERE, 5001)),
        ("a=rtcp", (THERE, 5001)),
    ],
)
def test_rtcp_may_be_elsewhere(line: str, expected: tuple[str, int]) -> None:
    """RFC 3605 §2.1, else RFC 3550 §11: the next port."""
    _, media = side().answer(body("m=audio 5000 RTP/AVP 0", line))
    assert media.remote_rtcp == expected


def test_port_65535_has_no_next() -> None:
    """There is no RTCP port then."""
    _, media = side().answer(body("m=audio 65535 RTP/AVP 0"))
    assert media.remote_rtcp is None


# -- directions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offered", "answered", "send", "receive", "held"),
    [
        ("sendrecv", "sendrecv", True, True, False),
        ("sendonly", "recvonly", False, True, True),
        ("recvonly", "sendonly", True, False, False),
        ("inactive", "inactive", False, False, True),
    ],
)
@pytest.mark.parametrize("level", ["media", "session"])
def test_an_offered_direction_is_mirrored(
    offered: str, answered: str, send: bool, receive: bool, held: bool, level: str
) -> None:
    """RFC 3264 §6.1, §8.4: also where the session level says it."""
    lines = (f"a={offered}", *FULL) if level == "session" else (*FULL, f"a={offered}")
    answer, media = connected().answer(body(*lines))
    assert ours(answer).direction == answered
    assert (media.send, media.receive, media.remote_hold) == (send, receive, held)


@pytest.mark.parametrize(("host", "nowhere"), [(HERE, "IN IP4 0.0.0.0"), ("2001:db8::1", "IN IP6 ::")])
def test_the_hold_of_rfc_2543(host: str, nowhere: str) -> None:
    """RFC 3264 §8.4: 0.0.0.0 says not to send; the address before is kept for when it ends."""
    there = "IN IP4 192.0.2.9" if host == HERE else "IN IP6 2001:db8::9"
    dialog = side(host=host)
    _, before = dialog.answer(body(*FULL, connection=there))
    _, held = dialog.answer(body(*FULL, connection=nowhere))
    assert (held.send, held.remote_hold) == (False, True)
    assert (held.remote_host, held.remote_port) == (before.remote_host, before.remote_port)
    _, resumed = dialog.answer(body(*FULL, connection=there))
    assert (resumed.send, resumed.receive, resumed.remote_hold) == (True, True, False)
    _, first = side(host=host).answer(body(*FULL, connection=nowhere))
    assert not first.send


@pytest.mark.parametrize(
    ("offered", "answered", "send", "receive", "held"),
    [
        ("sendrecv", "sendrecv", True, True, False),
        ("sendrecv", "recvonly", True, False, False),
        ("sendrecv", "sendonly", False, True, True),
        ("sendrecv", "inactive", False, False, True),
        ("sendonly", "recvonly", True, False, False),
        ("sendonly", "inactive", False, False, True),
        ("sendonly", "sendrecv", True, False, False),
        ("inactive", "inactive", False, False, False),
    ],
)
def test_directions_of_our_offer(offered: Direction, answered: str, send: bool, receive: bool, held: bool) -> None:
    """RFC 3264 §6.1: only what both allow happens; being silent because we asked for it is no hold of the peer's."""
    dialog = connected()
    assert ours(dialog.create_offer(direction=offered)).direction == offered
    media = dialog.accept_answer(body(*FULL, f"a={answered}"))
    assert (media.send, media.receive, media.remote_hold) == (send, receive, held)


def test_our_hold_survives_the_peers_offers_and_a_session_refresh() -> None:
    """RFC 6337 §5.3: who holds answers sendonly, and offers it again when asked for an offer."""
    dialog = connected()
    dialog.create_offer(direction="sendonly")
    dialog.accept_answer(body(*FULL, "a=recvonly"))
    answer, media = dialog.answer(body(*FULL))
    assert ours(answer).direction == "sendonly"
    assert not media.receive
    assert ours(dialog.answer(body(*FULL, "a=sendonly"))[0]).direction == "inactive"
    assert ours(dialog.create_offer()).direction == "sendonly"
    dialog.rollback()
    assert ours(dialog.create_offer(direction="sendrecv")).direction == "sendrecv"
    assert dialog.accept_answer(body(*FULL)).receive


def test_holding_a_peer_that_holds() -> None:
    """RFC 6337 §5.3: that it holds is not forgotten by our inactive offer."""
    dialog = connected()
    dialog.answer(body(*FULL, "a=sendonly"))
    dialog.create_offer(direction="inactive")
    assert dialog.accept_answer(body(*FULL, "a=inactive")).remote_hold
    dialog.create_offer(direction="sendrecv")
    assert not dialog.accept_answer(body(*FULL, "a=sendrecv")).remote_hold


# -- later exchanges -----------------------------------------------------------------------------------------------


def test_the_version_rises_by_one_when_and_only_when_the_description_changes() -> None:
    """RFC 3264 §8."""
    dialog = side()
    first = dialog.create_offer()
    dialog.accept_answer(body(*FULL))
    again = dialog.create_offer()
    assert again == first
    dialog.accept_answer(body(*FULL))
    hold = dialog.create_offer(direction="sendonly")
    assert version(hold) == version(first) + 1
    assert hold.replace(b"sendonly", b"sendrecv").split(b"\r\n")[2:] == first.split(b"\r\n")[2:]
    dialog.rollback()
    assert version(dialog.create_offer(direction="sendonly")) == version(hold)
    dialog.accept_answer(body(*FULL, "a=recvonly"))
    answer, _ = dialog.answer(body("m=audio 5000 RTP/AVP 8"))
    assert version(answer) == version(hold) + 1
    assert dialog.answer(body("m=audio 5000 RTP/AVP 8"))[0] == answer


def test_a_refused_offer_leaves_what_was_settled() -> None:
    """RFC 3261 §14.1: after a 488 or 491 to our re-INVITE the session goes on as it was."""
    dialog = connected()
    before = dialog.current
    dialog.create_offer(direction="inactive")
    assert dialog.pending_offer
    dialog.rollback()
    assert not dialog.pending_offer
    assert dialog.current is before
    assert ours(dialog.answer(body(*FULL))[0]).direction == "sendrecv"


def test_a_delayed_offer() -> None:
    """RFC 3261 §13.2.1: an INVITE without SDP; our offer goes into the 2xx, the answer comes with the ACK."""
    dialog = side()
    assert ours(dialog.create_offer()).formats == ["0", "8", "101"]
    assert dialog.accept_answer(body("m=audio 5000 RTP/AVP 8 101", "a=rtpmap:101 telephone-event/8000")).codec == "PCMA"


def test_a_re_offer_moves_and_changes_the_codec() -> None:
    """RFC 3264 §8.3: address, port, codec and numbers are the newest exchange's."""
    dialog = connected()
    answer, media = dialog.answer(
        body("m=audio 6000 RTP/AVP 8 97", "a=rtpmap:97 telephone-event/8000", connection="IN IP4 198.51.100.7")
    )
    assert (media.remote_host, media.remote_port, media.codec) == ("198.51.100.7", 6000, "PCMA")
    assert (media.dtmf_payload_type, ours(answer).formats) == (97, ["8", "97"])
    assert dialog.current is media


def test_later_offers_name_all_codecs_and_keep_numbers() -> None:
    """RFC 3264 §8.3.2, RFC 6337 §5.2.5: what is in use first, with its number; no number gets a second meaning."""
    dialog = side()
    dialog.answer(body("m=audio 5000 RTP/AVP 112 97", "a=rtpmap:112 PCMA/8000", "a=rtpmap:97 telephone-event/8000"))
    assert ours(dialog.create_offer()).formats == ["112", "0", "97"]
    dialog = side()
    dialog.answer(body("m=audio 5000 RTP/AVP 0 101", "a=rtpmap:101 opus/48000/2"))
    section = ours(dialog.create_offer())
    assert section.formats == ["0", "8", "96"]
    assert "96 telephone-event/8000" in [value for name, value in section.attributes if name == "rtpmap"]
    assert dialog.accept_answer(body("m=audio 5000 RTP/AVP 0 96")).dtmf_receive_payload_type == 96


def test_later_offers_keep_the_place_of_every_section() -> None:
    """RFC 3264 §8: as many sections as before, refused ones with port 0; the answer's audio is found in its place."""
    dialog = side()
    dialog.answer(body("m=video 5002 RTP/AVP 31", *FULL))
    offer = parse_sdp(dialog.create_offer())
    assert [(each.kind, each.port) for each in offer.media] == [("video", 0), ("audio", 4000)]
    assert dialog.accept_answer(body("m=video 0 RTP/AVP 31", "m=audio 5004 RTP/AVP 0")).remote_port == 5004


def test_an_advertised_name_says_nothing_of_the_family() -> None:
    """``--advertise`` may be a host name; the peer resolves it."""
    dialog = side(host="voice.example.com")
    assert b"c=IN IP4 voice.example.com\r\n" in dialog.create_offer()
    assert dialog.accept_answer(body(*FULL, connection="IN IP6 2001:db8::9")).remote_host == "2001:db8::9"


SDP_LINES = st.sampled_from(
    [
        *FULL,
        "m=audio 5000 RTP/AVP 8 97 97 0",
        "m=audio 5000 RTP/AVP x",
        "m=video 0 RTP/AVP 31",
        "a=rtpmap:97 PCMA/8000",
        "a=rtpmap:0 telephone-event/8000",
        "a=ptime:1000",
        "a=rtcp:1",
        "a=inactive",
        "a=sendonly",
        "c=IN IP4 0.0.0.0",
        "c=IN IP6 ::1",
        "c=IN",
    ]
)


@given(st.lists(st.lists(SDP_LINES, max_size=8), min_size=1, max_size=4), st.binary(max_size=60))
def test_any_exchange_is_settled_or_refused(bodies: list[list[str]], tail: bytes) -> None:
    """Nothing but MediaNotAcceptable escapes; each of our descriptions parses and has one audio section in use."""
    dialog = side()
    for number, lines in enumerate(bodies):
        theirs = body(*lines) + tail
        try:
            if number % 2:
                mine = dialog.create_offer()
                media = dialog.accept_answer(theirs)
            else:
                mine, media = dialog.answer(theirs)
        except MediaNotAcceptable:
            continue
        assert media is dialog.current
        assert media.codec in ("PCMU", "PCMA")
        in_use = [each for each in parse_sdp(mine).media if each.port]
        assert [each.port for each in in_use] == [4000]
        assert len({*in_use[0].formats}) == len(in_use[0].formats)
