"""Session descriptions: tolerant in, strict out (RFC 8866)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipcore.protocol.sdp import (
    MAX_MEDIA,
    MAX_SDP,
    MalformedSdp,
    MediaDescription,
    PayloadFormat,
    SessionDescription,
    parse_sdp,
)

RFC_4317 = b"""v=0\r
o=alice 2890844526 2890844526 IN IP4 host.atlanta.example.com\r
s=-\r
c=IN IP4 192.0.2.10\r
t=0 0\r
m=audio 49170 RTP/AVP 0 8 97\r
a=rtpmap:0 PCMU/8000\r
a=rtpmap:8 PCMA/8000\r
a=rtpmap:97 iLBC/8000\r
m=video 51372 RTP/AVP 31 32\r
c=IN IP4 192.0.2.11\r
a=rtpmap:31 H261/90000\r
a=rtpmap:32 MPV/90000\r
"""


def audio(*lines: str, formats: str = "0", head: str = "c=IN IP4 192.0.2.1") -> MediaDescription:
    """The one section of a description whose attributes are ``lines``."""
    text = "\r\n".join(
        ("v=0", "o=- 1 1 IN IP4 192.0.2.1", "s=-", head, "t=0 0", f"m=audio 4000 RTP/AVP {formats}", *lines)
    )
    (section,) = parse_sdp(text.encode()).media
    return section


def test_rfc_4317_section_2_1() -> None:
    """RFC 4317 §2.1, an ordinary offer."""
    session = parse_sdp(RFC_4317)
    first, second = session.media
    assert (first.kind, first.port, first.protocol, first.formats) == ("audio", 49170, "RTP/AVP", ["0", "8", "97"])
    assert (first.connection, second.connection) == ("192.0.2.10", "192.0.2.11")
    assert [(each.payload_type, each.name) for each in first.payload_formats()] == [
        (0, "PCMU"),
        (8, "PCMA"),
        (97, "ILBC"),
    ]
    assert first.is_audio
    assert not second.is_audio
    assert session.origin == "alice 2890844526 2890844526 IN IP4 host.atlanta.example.com"


def test_session_level_lines_apply_where_a_section_says_nothing() -> None:
    """RFC 8866 §5.7, §5.13, §6.7: ``c=`` and the direction."""
    session = parse_sdp(
        b"v=0\nc=IN IP6 2001:db8::1\na=inactive\nm=audio 4000 RTP/AVP 0\n"
        b"m=audio 4002 RTP/AVP 0\nc=IN IP4 192.0.2.2\na=sendonly\n"
    )
    first, second = session.media
    assert (first.family, first.connection, first.direction) == ("IP6", "2001:db8::1", "inactive")
    assert (second.family, second.connection, second.direction) == ("IP4", "192.0.2.2", "sendonly")
    assert audio().direction == "sendrecv"


@pytest.mark.parametrize(
    "text",
    [
        "v=0\no=-\ns=\nm=audio 4000 RTP/AVP 0\nc=IN IP4 192.0.2.1",  # LF, no final line end
        "v=0\rm=audio 4000 RTP/AVP 0\rc=IN IP4 192.0.2.1\r",  # CR alone
        "\r\nv=0\r\n\r\nb=AS:64\r\nz=nonsense\r\ngarbage\r\nm=audio 4000/2 RTP/AVP 0 \r\nc=IN IP4 192.0.2.1/127/2\r\n",
        "v=0\r\nM=video\r\nm=audio  4000  RTP/AVP  0\r\nc=IN  IP4  192.0.2.1\r\na=\r\na=:x\r\na=rtpmap\r\na=fmtp:\r\n",
        " v = 0\r\nm =audio 4000 RTP/AVP 0\r\n c=IN IP4 192.0.2.1\r\n",
    ],
)
def test_sloppy_descriptions_are_understood(text: str) -> None:
    """Order, line ends, unknown and empty lines do not matter; multicast scopes are cut off."""
    (section,) = parse_sdp(text.encode()).media
    assert (section.port, section.connection) == (4000, "192.0.2.1")
    assert [each.name for each in section.payload_formats()] == ["PCMU"]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "the body is no SDP"),
        (b"<xml/>", "the body is no SDP"),
        (b"m=audio 4000 RTP/AVP 0\r\n", "the body is no SDP"),
        (b"v=0\r\nm=audio\r\n", "fewer than four fields"),
        (b"v=0\r\nm=audio 4000 RTP/AVP\r\n", "fewer than four fields"),
        (b"v=0\r\nm=audio x RTP/AVP 0\r\n", "without a port"),
        (b"v=0\r\nm=audio -1 RTP/AVP 0\r\n", "without a port"),
        (b"v=0\r\nm=audio 65536 RTP/AVP 0\r\n", "without a port"),
        (b"v=0\r\nm=audio " + b"9" * 5000 + b" RTP/AVP 0\r\n", "without a port"),
        (b"v=0\r\n" + b"m=audio 4000 RTP/AVP 0\r\n" * (MAX_MEDIA + 1), "media sections"),
        (b"v=0\r\n" + b"x" * MAX_SDP, "bytes of SDP"),
    ],
)
def test_what_is_no_description_is_refused(body: bytes, why: str) -> None:
    """A sentence says why."""
    with pytest.raises(MalformedSdp, match=why):
        parse_sdp(body)


def test_static_payload_types_need_no_rtpmap() -> None:
    """RFC 3551 §6, table 4; dynamic ones mean nothing without, unless it is implied."""
    section = audio("a=fmtp:101 0-15", formats="8 0 101 96 x 999 -1 " + "9" * 5000)
    assert [each.name for each in section.payload_formats()] == ["PCMA", "PCMU"]
    event = PayloadFormat(101, "TELEPHONE-EVENT", 8000)
    assert section.payload_formats(implied=[event])[2] == PayloadFormat(101, "TELEPHONE-EVENT", 8000, 1, "0-15")


def test_rtpmap_wins_and_carries_rate_and_channels() -> None:
    """RFC 8866 §6.6: also over a static meaning; a malformed one says nothing."""
    section = audio(
        "a=rtpmap:0 telephone-event/8000",
        "a=rtpmap:96 opus/48000/2",
        "a=RTPMAP: 97  PCMU/8000/1",
        "a=rtpmap:98 PCMU",
        "a=rtpmap:99 PCMU/8000/" + "9" * 5000,
        "a=fmtp:96 useinbandfec=1;  stereo=0",
        formats="96 0 97 98 99",
    )
    assert section.payload_formats() == [
        PayloadFormat(96, "OPUS", 48000, 2, "useinbandfec=1;  stereo=0"),
        PayloadFormat(0, "TELEPHONE-EVENT", 8000),
        PayloadFormat(97, "PCMU", 8000),
    ]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ((), 20),
        (("a=ptime:30",), 30),
        (("a=ptime:30.0",), 30),
        (("a=ptime:40", "a=maxptime:30"), 30),
        (("a=maxptime:10",), 10),
        (("a=maxptime:60",), 20),
        (("a=ptime:0",), 20),
        (("a=ptime:nan",), 20),
        (("a=ptime:" + "9" * 5000,), 20),
        (("a=ptime:soon", "a=maxptime:later"), 20),
    ],
)
def test_packet_time(lines: tuple[str, ...], expected: int) -> None:
    """RFC 8866 §6.4: ptime, limited by maxptime; nonsense says nothing."""
    assert audio(*lines).packet_time(20) == expected


def test_a_description_is_printed_strictly() -> None:
    """RFC 8866 §5: lines in order, each ending in CRLF; a section's ``c=`` only where it differs from the session's."""
    session = SessionDescription("- 1 2 IN IP4 192.0.2.1", "192.0.2.1", "IP4", [("tool", "x"), ("sendrecv", "")])
    session.media = [
        MediaDescription("audio", 4000, "RTP/AVP", ["0"], "192.0.2.1", attributes=[("ptime", "20")]),
        MediaDescription("video", 0, "RTP/AVP", ["31"]),
        MediaDescription("audio", 4002, "RTP/AVP", ["8"], "2001:db8::1", "IP6"),
    ]
    assert bytes(session) == (
        b"v=0\r\no=- 1 2 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\na=tool:x\r\na=sendrecv\r\n"
        b"m=audio 4000 RTP/AVP 0\r\na=ptime:20\r\n"
        b"m=video 0 RTP/AVP 31\r\n"
        b"m=audio 4002 RTP/AVP 8\r\nc=IN IP6 2001:db8::1\r\n"
    )
    again = parse_sdp(bytes(session))
    assert [each.connection for each in again.media] == ["192.0.2.1", "192.0.2.1", "2001:db8::1"]
    assert parse_sdp(bytes(again)) == again


@given(
    st.binary(max_size=200)
    | st.lists(
        st.from_regex(rb"[vocamtsb]=(IN IP4 |audio 1 RTP/AVP |rtpmap:|fmtp:|ptime:)?[^\n]{0,40}\n", fullmatch=True)
    ).map(lambda lines: b"v=0\n" + b"".join(lines))
)
def test_any_bytes_are_a_description_or_refused(body: bytes) -> None:
    """Nothing but MalformedSdp escapes, now or when the sections are read; what is printed parses again."""
    try:
        session = parse_sdp(body)
    except MalformedSdp:
        return
    for section in session.media:
        section.payload_formats()
        assert 1 <= section.packet_time(20) <= 1000
        assert section.direction in ("sendrecv", "sendonly", "recvonly", "inactive")
    again = parse_sdp(bytes(session))
    assert [each.formats for each in again.media] == [each.formats for each in session.media]
