"""An agent under fire, over real sockets: a call that is up goes on and ends as it should (FIELD must-pass 12)."""

from __future__ import annotations

import asyncio
import random
import socket

import pytest

from sipcore.config import Account, Limits, UserAgentConfig
from sipcore.events import DtmfReceived, EndCause
from sipcore.registration import Registration
from sipcore.useragent import UserAgent

HOST = "127.0.0.1"
FLOODER = "127.0.0.66"
LIMITS = Limits(transactions=400, transactions_per_peer=100, unanswered=20, unanswered_per_peer=10, calls_per_peer=50)
SDP = (
    f"v=0\r\no=- 1 1 IN IP4 {FLOODER}\r\ns=-\r\nc=IN IP4 {FLOODER}\r\nt=0 0\r\n"
    "m=audio 50000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"
)


def request(method: str, number: int, port: int, target: tuple[str, int]) -> bytes:
    """One of many."""
    body = SDP if method == "INVITE" else ""
    head = (
        f"{method} sip:bot@{target[0]}:{target[1]} SIP/2.0",
        f"Via: SIP/2.0/UDP {FLOODER}:{port};branch=z9hG4bK{method}{number};rport",
        f"From: <sip:flood@{FLOODER}>;tag={number}",
        f"To: <sip:bot@{target[0]}>",
        f"Call-ID: {method}{number}@{FLOODER}",
        f"CSeq: 1 {method}",
        f"Contact: <sip:flood@{FLOODER}:{port}>",
        "Max-Forwards: 70",
        *(["Content-Type: application/sdp"] if body else []),
        f"Content-Length: {len(body)}",
        "\r\n",
    )
    return "\r\n".join(head).encode() + body.encode()


async def flood(target: tuple[str, int]) -> list[bytes]:
    """Garbage, INVITEs, OPTIONS and CANCELs over UDP from one address; the first line of each answer."""
    chance = random.Random(7)
    loop = asyncio.get_running_loop()
    heard: list[bytes] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind((FLOODER, 0))
        udp.setblocking(False)
        port = udp.getsockname()[1]
        for number in range(600):
            invite = request("INVITE", number, port, target)
            for data in (
                invite,
                chance.randbytes(chance.randint(1, 1400)),
                bytes(byte if chance.random() > 0.02 else chance.randrange(256) for byte in invite),
                request("OPTIONS", number, port, target),
                request("CANCEL", -number - 1, port, target),
            ):
                await loop.sock_sendto(udp, data, target)
            await asyncio.sleep(0)
            while True:
                try:
                    heard.append(udp.recv(65535).partition(b"\r\n")[0])
                except BlockingIOError:
                    break
    return heard


async def half_open(target: tuple[str, int]) -> list[asyncio.StreamWriter]:
    """Connections that begin a message and say no more."""
    writers = []
    for number in range(200):
        _, writer = await asyncio.open_connection(*target, local_addr=(FLOODER, 0))
        writer.write(request("INVITE", number, 5060, target)[:200])
        writers.append(writer)
    return writers


async def answering(line: Registration) -> None:
    """Answers the first call."""
    async for call in line.incoming():
        await call.answer()
        return


@pytest.mark.long
async def test_a_call_outlives_a_flood() -> None:
    config = UserAgentConfig(sip_host=HOST, limits=LIMITS)
    async with UserAgent(config) as victim, UserAgent(UserAgentConfig(sip_host=HOST)) as friend:
        bot = victim.open_line(Account(f"bot@{HOST}"))
        caller = friend.open_line(Account(f"friend@{HOST}"))
        answer = asyncio.create_task(answering(bot))
        call = await caller.call(f"sip:bot@{HOST}:{victim.sip_address[1]}")
        await answer
        (there,) = victim.calls
        heard_before = there.statistics().packets_received
        writers = await half_open(victim.sip_address)
        answers, *_ = await asyncio.gather(flood(victim.sip_address), call.send_dtmf("147"))

        statistics = victim.statistics()
        assert statistics.unanswered <= LIMITS.unanswered_per_peer
        assert statistics.transactions <= LIMITS.transactions
        assert statistics.overload_refused > 0
        assert statistics.malformed > 0
        assert any(answer.startswith(b"SIP/2.0 503") for answer in answers)

        digits: list[str] = []

        async def listen() -> None:
            digits.extend([event.digit async for event in there.events() if isinstance(event, DtmfReceived)])

        listening = asyncio.create_task(listen())
        await call.send_dtmf("#")
        # Another peer is served as if nothing were.
        again = await caller.place(f"sip:nobody@{HOST}:{victim.sip_address[1]}").wait_ended()
        assert again.code == 404
        ended = await call.hangup()
        assert ended.cause is EndCause.HANGUP
        assert (await there.wait_ended()).cause is EndCause.HANGUP
        await listening
        assert digits == ["1", "4", "7", "#"]
        assert there.statistics().packets_received > heard_before
        for writer in writers:
            writer.close()
