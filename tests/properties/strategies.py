"""Parts of messages and of session descriptions, by their grammar."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.kit.torture import TORTURE

__all__ = ["bodies", "broken_messages", "header_lines", "messages", "offers", "uris"]

_TOKEN = st.text(st.sampled_from("abcXYZ019-.!%*_+`'~"), min_size=1, max_size=12)
_HOSTS = st.sampled_from(["example.com", "a", "192.0.2.1", "[2001:db8::1]", "x-1.example.net"])
_USERS = st.lists(st.sampled_from([*"abcZ09-_.!~*'()&=+$,;?/", "%41", "%00"]), min_size=1, max_size=12).map("".join)
_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"), max_size=30).map(str.strip)
_NAMES = st.sampled_from(["Subject", "s", "X-Anything", "User-Agent", "Organization", "k", "Supported", "Priority"])
_METHODS = st.sampled_from(["INVITE", "BYE", "OPTIONS", "ACK", "CANCEL", "REGISTER", "REFER", "NEW.method!"])


@st.composite
def parameters(draw: st.DrawFn) -> str:
    """``;name=value`` pairs, some with white space around."""
    pairs = draw(st.lists(st.tuples(_TOKEN, st.none() | _TOKEN | _TEXT.map(_quoted)), max_size=3))
    space = draw(st.sampled_from(["", " ", "\t", "\r\n "]))
    return "".join(
        f"{space};{space}{name}" + (f"{space}={value}" if value is not None else "") for name, value in pairs
    )


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@st.composite
def uris(draw: st.DrawFn) -> str:
    """SIP URIs."""
    user = draw(st.none() | _USERS)
    port = draw(st.none() | st.integers(1, 65535))
    names = st.sampled_from(["lr", "x", "transport", "%6Cr"])
    pairs = draw(st.lists(st.tuples(names, st.none() | st.just("udp")), max_size=2))
    scheme = draw(st.sampled_from(["sip", "sips"]))
    hostport = draw(_HOSTS) + (f":{port}" if port else "")
    tail = "".join(f";{name}" + (f"={value}" if value else "") for name, value in pairs)
    return f"{scheme}:" + (f"{user}@" if user else "") + hostport + tail


@st.composite
def addresses(draw: st.DrawFn) -> str:
    """Values of From and To."""
    name = draw(st.none() | _TOKEN | _TEXT.map(_quoted))
    return f"{name or ''} <{draw(uris())}>{draw(parameters())}"


@st.composite
def header_lines(draw: st.DrawFn) -> list[str]:
    """Everything a message needs, in any order, with other headers between."""
    method = draw(_METHODS)
    via = f"SIP/2.0/UDP {draw(_HOSTS)};branch=z9hG4bK{draw(_TOKEN)}{draw(parameters())}"
    lines = [
        f"{draw(st.sampled_from(['Via', 'v', 'VIA', 'v ']))}: {via}",
        f"{draw(st.sampled_from(['From', 'f']))}: {draw(addresses())}",
        f"{draw(st.sampled_from(['To', 't']))}: {draw(addresses())}",
        f"{draw(st.sampled_from(['Call-ID', 'i']))}: {draw(_TOKEN)}",
        f"CSeq: {draw(st.integers(0, 2**31 - 1))} {method}",
        *[f"{name}: {value}" for name, value in draw(st.lists(st.tuples(_NAMES, _TEXT), max_size=5))],
    ]
    return [method, *draw(st.permutations(lines))]


bodies = st.binary(max_size=60)


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """Well-formed requests and responses, with Content-Length."""
    method, *lines = draw(header_lines())
    code = draw(st.none() | st.integers(100, 699))
    first = f"{method} {draw(uris())} SIP/2.0" if code is None else f"SIP/2.0 {code} {draw(_TEXT)}"
    body = draw(bodies)
    length = draw(st.sampled_from(["Content-Length: ", "l:", "CONTENT-LENGTH :\t", "l:\r\n "]))
    return "\r\n".join([first, *lines, f"{length}{len(body)}", "", ""]).encode() + body


@st.composite
def broken_messages(draw: st.DrawFn) -> bytes:
    """Messages with bytes changed, cut out, put in or doubled."""
    known = st.sampled_from([torture.data for torture in TORTURE])
    data = bytearray(draw(known | messages()))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 12)))
        put = st.binary(max_size=6) | st.sampled_from([b"\r\n", b"\r\n ", b"\0", b";", b",", b'"', b"<", b"%", b"\xff"])
        data[start:end] = draw(put | st.just(bytes(data[start:end]) * 2))
    return bytes(data)


@st.composite
def offers(draw: st.DrawFn) -> bytes:
    """Session descriptions of one to four sections of all kinds, most of them sensible."""
    lines = ["v=0", "o=- 1 1 IN IP4 198.51.100.1", "s=-"]
    if draw(st.booleans()):
        lines.append(draw(st.sampled_from(["c=IN IP4 198.51.100.1", "c=IN IP4 0.0.0.0", "c=IN IP6 2001:db8::1"])))
    lines.append("t=0 0")
    if draw(st.booleans()):
        lines.append(f"a={draw(_DIRECTIONS)}")
    for _ in range(draw(st.integers(1, 4))):
        lines += draw(_sections())
    return "\r\n".join([*lines, ""]).encode()


_DIRECTIONS = st.sampled_from(["sendrecv", "sendonly", "recvonly", "inactive"])


@st.composite
def _sections(draw: st.DrawFn) -> list[str]:
    kind = draw(st.sampled_from(["audio", "audio", "audio", "video", "image", "application"]))
    profile = draw(st.sampled_from(["RTP/AVP", "RTP/AVP", "RTP/AVP", "RTP/SAVP", "udptl", "TCP/MSRP"]))
    numbers = draw(st.lists(st.sampled_from([0, 8, 9, 3, 96, 97, 101, 110, 127]), min_size=1, max_size=6, unique=True))
    port = draw(st.sampled_from([0, 9, 4000, 65534]))
    lines = [f"m={kind} {port} {profile} {' '.join(map(str, numbers))}"]
    if draw(st.booleans()):
        lines.append(draw(st.sampled_from(["c=IN IP4 198.51.100.2", "c=IN IP4 0.0.0.0", "c=IN IP4 host.example.com"])))
    named = ["PCMU/8000", "PCMA/8000", "opus/48000/2", "telephone-event/8000", "telephone-event/48000", "G722/8000"]
    lines += [f"a=rtpmap:{number} {draw(st.sampled_from(named))}" for number in numbers if number >= 96]
    if draw(st.booleans()):
        lines.append(f"a={draw(_DIRECTIONS)}")
    lines += draw(
        st.lists(st.sampled_from(["a=ptime:20", "a=ptime:30", "a=maxptime:60", "a=rtcp:4001", "a=mid:1"]), max_size=2)
    )
    return lines
