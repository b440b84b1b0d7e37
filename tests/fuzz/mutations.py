"""What is done to messages that were good once: by someone who knows the grammar, and by someone who does not."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

__all__ = ["mutated"]

NUMBERS = (
    b"0", b"-1", b"1", b"00", b"255", b"256", b"65535", b"65536", b"2147483647", b"2147483648", b"4294967295",
    b"4294967296", b"18446744073709551616", b"9" * 120, b"1e9", b"0x10", b"+5", b" ", b"\xd9\xa3",
)  # fmt: skip
"""Extremes, and what some number parsers take for a number."""
METHODS = (
    b"INVITE", b"ACK", b"BYE", b"CANCEL", b"OPTIONS", b"REGISTER", b"UPDATE", b"REFER", b"NOTIFY", b"MESSAGE",
    b"INFO", b"PRACK", b"SUBSCRIBE", b"PUBLISH", b"invite", b"X",
)  # fmt: skip
NAMES = (
    b"Via", b"v", b"From", b"f", b"To", b"t", b"Call-ID", b"i", b"CSeq", b"Contact", b"m", b"Route", b"Record-Route",
    b"Max-Forwards", b"Content-Length", b"l", b"Content-Type", b"c", b"Expires", b"Require", b"Supported",
    b"WWW-Authenticate", b"Proxy-Authenticate", b"Authorization", b"Refer-To", b"r", b"Referred-By", b"Replaces",
    b"Event", b"o", b"Subscription-State", b"Session-Expires", b"x", b"Min-SE", b"RSeq", b"RAck", b"Reason",
    b"Retry-After", b"Min-Expires", b"Accept", b"Content-Encoding", b"Identity", b"P-Asserted-Identity", b"Path",
    b"Service-Route", b"Date", b"Timestamp", b"Warning", b"Refer-Sub",
)  # fmt: skip
VALUES = (
    b"", b"*", b",", b";", b",,;;", b'"', b'"\\', b"<", b"<>", b"<sip:", b"<sip:a@b", b"sip:", b"sip:@", b"sip:a@[::",
    b"<sip:a@b>;tag=", b"sip:%00@b", b"sip:a@b;lr;maddr=;transport=", b"SIP/2.0/UDP", b"SIP/2.0/UDP h;branch=z9hG4bK",
    b"Digest", b'Digest realm="', b"Digest realm=a,nonce=b,algorithm=SHA-256,qop=\"auth\"", b"Basic x",
    b"Digest realm=\"a\", nonce=\"b\", algorithm=MD5-sess, qop=\"auth-int\", stale=TRUE", b"refer", b"active;expires=0",
    b"terminated;reason=", b"100rel", b"timer, replaces, 100rel", b"application/sdp", b"message/sipfrag", b"gzip",
    b"a@b;to-tag=1;from-tag=2", b"1 INVITE", b"4294967295 BYE", b"90;refresher=uas", b"1 1 INVITE",
    b"application/dtmf-relay", b"Q.850;cause=16;text=\"x", b"\xff\xfe", b"\xef\xbb\xbf", b"multipart/mixed;boundary=x",
)  # fmt: skip
BODY_LINES = (
    b"m=audio 0 RTP/AVP 0", b"m=audio 40000 RTP/AVP 8 0 101", b"m=audio 40000 RTP/SAVP 0", b"m=video 1 RTP/AVP 31",
    b"m=audio", b"m=", b"c=IN IP4 0.0.0.0", b"c=IN IP6 ::1", b"c=IN IP4 host.example.com", b"c=", b"a=sendonly",
    b"a=inactive", b"a=rtpmap:101 telephone-event/8000", b"a=rtpmap:0 PCMA/8000", b"a=rtpmap:999 X/0", b"a=ptime:0",
    b"a=ptime:-20", b"a=fmtp:101 0-15", b"a=rtcp:", b"a=rtcp:1 IN IP6", b"a=group:BUNDLE a b", b"v=1", b"o=", b"t=",
    b"SIP/2.0 200 OK", b"SIP/2.0 999", b"Signal=5", b"Duration=99999999999",
)  # fmt: skip
STATUSES = (100, 180, 183, 199, 200, 202, 299, 302, 401, 407, 408, 422, 481, 491, 494, 503, 600, 699, 700, 99)
PARAMETERS = (b";", b";;", b";x", b";tag=1", b";lr", b"=", b'"', b"<", b">", b",", b"%", b"%0d%0a", b"\\", b"?")
MOST = 60_000
"""Bytes of a mutated message."""


def mutated(message: bytes, other: bytes, rng: random.Random) -> bytes:
    """``message`` after a few changes; ``other`` is where foreign parts come from."""
    for _ in range(1 + min(int(rng.expovariate(0.7)), 6)):
        change = rng.choice(_BY_LINE if rng.random() < 0.8 else _BY_BYTE)
        message = change(message, other, rng)[:MOST]
    return message


def _split(message: bytes) -> tuple[list[bytes], bytes]:
    head, _, body = message.partition(b"\r\n\r\n")
    return head.split(b"\r\n"), body


def _join(lines: list[bytes], body: bytes, *, fitting: bool = True) -> bytes:
    """With a Content-Length that fits, so that the change gets past the framing."""
    if fitting:
        fit = b"Content-Length: %d" % len(body)
        lines = [fit if re.match(rb"(?i)(content-length|l)\s*:\s*\d+\s*$", line) else line for line in lines]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def _any(lines: list[bytes], rng: random.Random) -> int:
    """A header line; the start line where there is no other."""
    return rng.randrange(1, len(lines)) if len(lines) > 1 else 0


def _drop(message: bytes, other: bytes, rng: random.Random) -> bytes:
    lines, body = _split(message)
    del lines[_any(lines, rng)]
    return _join(lines, body)


def _double(message: bytes, other: bytes, rng: random.Random) -> bytes:
    lines, body = _split(message)
    line = lines[_any(lines, rng)]
    lines.insert(rng.randint(1, len(lines)), line)
    return _join(lines, body)


def _shuffle(message: bytes, other: bytes, rng: random.Random) -> bytes:
    lines, body = _split(message)
    rest = lines[1:]
    rng.shuffle(rest)
    return _join([lines[0], *rest], body)


def _rename(message: bytes, other: bytes, rng: random.Random) -> bytes:
    lines, body = _split(message)
    at = _any(lines, rng)
    _, colon, value = lines[at].partition(b":")
    lines[at] = rng.choice(NAMES) + colon + value
    return _join(lines, body)


def _new_line(message: bytes, other: bytes, rng: random.Random) -> bytes:
    lines, body = _split(message)
    lines.insert(rng.randint(1, len(lines)), rng.choice(NAMES) + b": " + rng.choice(VALUES))
    return _join(lines, body)


def _new_value(message: bytes, other: bytes, rng: random.Random) -> bytes:
    lines, body = _split(message)
    at = _any(lines, rng)
    name, _, value = lines[at].partition(b":")
    lines[at] = name + b": " + rng.choice((rng.choice(VALUES), value + b"," + value, value * 3))
    return _join(lines, body)


def _foreign_line(message: bytes, other: bytes, rng: random.Random) -> bytes:
    lines, body = _split(message)
    foreign, _ = _split(other)
    lines[rng.randrange(len(lines))] = rng.choice(foreign)
    return _join(lines, body)


def _foreign_body(message: bytes, other: bytes, rng: random.Random) -> bytes:
    return _join(_split(message)[0], _split(other)[1])


def _splice(message: bytes, other: bytes, rng: random.Random) -> bytes:
    (lines, body), (foreign, other_body) = _split(message), _split(other)
    cut = rng.randint(1, len(lines))
    return _join(lines[:cut] + foreign[min(cut, len(foreign)) :], rng.choice((body, other_body)))


def _number(message: bytes, other: bytes, rng: random.Random) -> bytes:
    found = list(re.finditer(rb"\d+", message[:4000]))
    if not found:
        return message
    at = rng.choice(found)
    return message[: at.start()] + rng.choice(NUMBERS) + message[at.end() :]


def _method(message: bytes, other: bytes, rng: random.Random) -> bytes:
    lines, body = _split(message)
    method = rng.choice(METHODS)
    everywhere = rng.random() < 0.7
    if not lines[0].startswith(b"SIP/") and (everywhere or rng.random() < 0.5):
        lines[0] = method + b" " + lines[0].partition(b" ")[2]
    if everywhere or rng.random() < 0.5:
        lines = [re.sub(rb"(?i)^(cseq\s*:\s*\d+\s+)\S+", rb"\g<1>" + method, line) for line in lines]
    return _join(lines, body)


def _status(message: bytes, other: bytes, rng: random.Random) -> bytes:
    return re.sub(rb"^SIP/2.0 \d+", b"SIP/2.0 %d" % rng.choice(STATUSES), message)


def _parameter(message: bytes, other: bytes, rng: random.Random) -> bytes:
    spots = [match.start() for match in re.finditer(rb"[;?&=,<>\"]", message)]
    if not spots:
        return message
    at = rng.choice(spots)
    added = rng.choice(
        (b";", b";;", b";x", b";tag=1", b";lr", b"=", b'"', b"<", b">", b",", b"%", b"%0d%0a", b"\\", b"?")
    )
    return message[:at] + added + message[at + rng.randint(0, 1) :]


def _fold(message: bytes, other: bytes, rng: random.Random) -> bytes:
    spots = [match.start() for match in re.finditer(rb"[ :;,]", message.partition(b"\r\n\r\n")[0])]
    if not spots:
        return message
    at = rng.choice(spots) + 1
    return message[:at] + rng.choice((b"\r\n ", b"\r\n\t", b"\n ", b"\r\n  \r\n ", b"\r ")) + message[at:]


def _line_ends(message: bytes, other: bytes, rng: random.Random) -> bytes:
    return message.replace(b"\r\n", rng.choice((b"\n", b"\r", b"\r\r\n", b"\n\r")), rng.choice((1, 3, -1)))


def _huge(message: bytes, other: bytes, rng: random.Random) -> bytes:
    lines, body = _split(message)
    at = _any(lines, rng)
    filler = rng.choice((b"a", b",", b";", b"<", b'"', b"%41", b"\xc3\xa4", b";a=b", b",<sip:a@b>", b" "))
    lines[at] += filler * rng.choice((300, 3000, 20_000))
    return _join(lines, body)


def _many(message: bytes, other: bytes, rng: random.Random) -> bytes:
    lines, body = _split(message)
    line = lines[_any(lines, rng)]
    return _join(lines + [line] * rng.choice((10, 100, 250, 1000)), body)


def _body_line(message: bytes, other: bytes, rng: random.Random) -> bytes:
    lines, body = _split(message)
    parts = body.split(b"\r\n")
    match rng.randrange(4):
        case 0:
            parts.insert(rng.randint(0, len(parts)), rng.choice(BODY_LINES))
        case 1:
            parts[rng.randrange(len(parts))] = rng.choice(BODY_LINES)
        case 2:
            del parts[rng.randrange(len(parts))]
        case _:
            parts += [rng.choice(parts)] * rng.choice((1, 30, 400))
    return _join(lines, b"\r\n".join(parts))


def _length(message: bytes, other: bytes, rng: random.Random) -> bytes:
    lines, body = _split(message)
    lines = [line for line in lines if not re.match(rb"(?i)(content-length|l)\s*:", line)]
    for _ in range(rng.randrange(3)):
        lines.append(rng.choice((b"Content-Length: ", b"l:")) + rng.choice((*NUMBERS, b"%d" % len(body))))
    return _join(lines, body, fitting=False)


def _flip(message: bytes, other: bytes, rng: random.Random) -> bytes:
    flipped = bytearray(message or b"\0")
    for _ in range(rng.choice((1, 1, 2, 8))):
        flipped[rng.randrange(len(flipped))] = rng.randrange(256)
    return bytes(flipped)


def _truncate(message: bytes, other: bytes, rng: random.Random) -> bytes:
    return message[: rng.randrange(len(message) + 1)]


def _cut_out(message: bytes, other: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(message) + 1)
    return message[:start] + message[start + rng.choice((1, 4, 40)) :]


def _insert(message: bytes, other: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(message) + 1)
    return message[:start] + rng.randbytes(rng.choice((1, 2, 16))) + message[start:]


def _append(message: bytes, other: bytes, rng: random.Random) -> bytes:
    return message + rng.choice((other, b"\r\n", b"\0" * 8, rng.randbytes(20)))


_BY_LINE: tuple[Callable[[bytes, bytes, random.Random], bytes], ...] = (
    _drop, _double, _shuffle, _rename, _new_line, _new_value, _foreign_line, _foreign_body, _splice, _number, _method,
    _status, _parameter, _fold, _line_ends, _huge, _many, _body_line, _body_line, _length,
)  # fmt: skip
_BY_BYTE: tuple[Callable[[bytes, bytes, random.Random], bytes], ...] = (_flip, _truncate, _cut_out, _insert, _append)
