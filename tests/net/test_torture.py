"""RFC 4475 and RFC 5118 against a running agent, over UDP and over TCP: afterwards it takes a call as before.

The peer lives at a loopback address of its own, with a socket on each port that the messages' Vias name: there the
answers go (RFC 3261 §18.2.2).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import re
import socket
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import cast

import pytest

from sipcore.config import Account, Timers, UserAgentConfig
from sipcore.net.manager import FlowManager
from sipcore.net.resolver import Resolver
from sipcore.net.stream import StreamLimits
from sipcore.registration import Registration
from sipcore.useragent import UserAgent
from tests.kit.silent_engine import SilentEngine
from tests.kit.torture import TORTURE, Stream, Torture

PEER = "127.0.0.79"
PORTS = (5060, 5050, 5070, 6050, 19823)
QUICK = Timers(t1=0.02, t2=0.1, t4=0.1, d=0.7)
PATIENCE = 10.0
linux_only = pytest.mark.skipif(
    not Path("/proc/self/fd").exists(), reason="only Linux has all of 127.0.0.0/8 on its loopback interface"
)


@contextlib.asynccontextmanager
async def answering_agent(no_names: Path) -> AsyncIterator[UserAgent]:
    """Takes every call for user and UserB at once; no name leads anywhere."""
    resolver = Resolver(ipv4=True, ipv6=False, rng=random.Random(1), hosts=no_names, configuration=no_names)
    config = UserAgentConfig(sip_host="127.0.0.1", timers=QUICK)
    flows = partial(FlowManager, config, resolver=resolver, limits=StreamLimits(message_timeout=1.0))
    agent = UserAgent(config, flows=flows, media=SilentEngine().as_engine())
    async with agent:
        lines = [agent.open_line(Account(f"sip:{user}@127.0.0.1")) for user in ("user", "UserB")]
        answering = [asyncio.create_task(_answer_all(line)) for line in lines]
        yield agent
        for task in answering:
            task.cancel()
        await asyncio.gather(*answering, return_exceptions=True)


def _address(agent: UserAgent) -> tuple[str, int]:
    return agent._driver.address


async def _answer_all(line: Registration) -> None:
    async for call in line.incoming():
        with contextlib.suppress(Exception):
            await call.answer()


async def _still_works(agent: UserAgent) -> None:
    """A call, answered and ended."""
    host, port = _address(agent)
    async with UserAgent(UserAgentConfig(sip_host="127.0.0.1"), media=SilentEngine().as_engine()) as other:
        line = other.open_line(Account("sip:other@127.0.0.1"))
        async with await line.call(f"sip:user@{host}:{port}", timeout=PATIENCE) as call:
            assert call.is_connected


async def _settles(agent: UserAgent) -> None:
    """Within the (quick) timers nothing is left of anything."""
    flows = cast(FlowManager, agent._driver.flows)
    for _ in range(round(PATIENCE / 0.02)):
        if agent.stack.idle and not agent.calls and not flows.open_flow_count:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"left behind: {agent.stack!r} {agent.calls} {flows.open_flow_count} connections")


def _final_of(answer: bytes, sent: bytes) -> int:
    """The code of a final response to ``sent``, 0 for anything else."""
    if not answer.startswith(b"SIP/2.0 ") or answer.startswith(b"SIP/2.0 1"):
        return 0
    name = rb"(?mi)^(?:call-id|i)\s*:\s*(\S+)\s*$"
    asked, answered = re.search(name, sent.partition(b"\r\n\r\n")[0]), re.search(name, answer)
    mine = (asked is None and answered is None) or (asked and answered and asked.group(1) == answered.group(1))
    return int(answer[8:11]) if mine else 0


class Datagrams:
    """The peer's UDP sockets."""

    def __init__(self, agent: UserAgent) -> None:
        self._to = _address(agent)
        self._loop = asyncio.get_running_loop()
        self._heard: asyncio.Queue[bytes] = asyncio.Queue()
        self._sockets = []
        for port in PORTS:
            opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            opened.bind((PEER, port))
            opened.setblocking(False)
            self._loop.add_reader(opened, self._hear, opened)
            self._sockets.append(opened)

    def _hear(self, opened: socket.socket) -> None:
        self._heard.put_nowait(opened.recv(65535))

    def close(self) -> None:
        for opened in self._sockets:
            self._loop.remove_reader(opened)
            opened.close()

    async def ask(self, torture: Torture, sent: bytes) -> int:
        """The code of the final response; 0 where there shall be none, and a later question was answered."""
        self._sockets[0].sendto(sent, self._to)
        probe = _probe(torture.name)
        if not torture.answers:
            self._sockets[0].sendto(probe, self._to)
        async with asyncio.timeout(PATIENCE):
            while True:
                answer = await self._heard.get()
                code = _final_of(answer, sent)
                if code or _final_of(answer, probe):
                    return code


_numbers = itertools.count()


def _probe(name: str) -> bytes:
    """A question with an answer of its own, which comes after those to what was asked before."""
    number = next(_numbers)
    return (
        f"OPTIONS sip:user@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP {PEER}:5060;branch=z9hG4bKprobe{number}\r\n"
        f"From: <sip:probe@{PEER}>;tag=1\r\nTo: <sip:user@127.0.0.1>\r\nCall-ID: probe-{name}-{number}\r\n"
        "CSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
    ).encode()


@pytest.fixture
def no_names(tmp_path: Path) -> Path:
    """Neither a hosts file nor a name server."""
    path = tmp_path / "nothing"
    path.write_text("")
    return path


@linux_only
async def test_over_udp(no_names: Path) -> None:
    """Every message twice: its answer, and then that of its retransmission."""
    async with answering_agent(no_names) as agent:
        peer = Datagrams(agent)
        try:
            wrong = []
            for torture in TORTURE:
                sent = torture.distinct(torture.name)
                codes = {await peer.ask(torture, sent), await peer.ask(torture, sent)}
                if not codes <= set(torture.answers or (0,)):
                    wrong.append((str(torture), codes))
            assert not wrong
            await _still_works(agent)
            await _settles(agent)
        finally:
            peer.close()


async def _read_final(reader: asyncio.StreamReader, sent: bytes) -> int:
    """The code of the final response; 0 where the connection ends before one."""
    while True:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return 0
        length = re.search(rb"\r\nContent-Length: (\d+)\r\n", head)
        body = int(length.group(1)) if length else 0
        if body:
            await reader.readexactly(body)
        code = _final_of(head, sent)
        if code:
            return code


async def test_over_tcp(no_names: Path) -> None:
    """Each on a connection of its own. Where it can be told where a message ends, the next one is answered on it too;
    where it cannot, the connection is closed (RFC 4475 §3.1.2.2-3, §3.3.9)."""
    async with answering_agent(no_names) as agent:
        wrong = []
        for torture in TORTURE:
            reader, writer = await asyncio.open_connection(*_address(agent))
            sent = torture.distinct(torture.name)
            probe = _probe(torture.name)
            writer.write(sent)
            async with asyncio.timeout(PATIENCE):
                match torture.stream:
                    case Stream.SAME:
                        code = await _read_final(reader, sent) if torture.answers else 0
                        writer.write(probe)
                        usable = await _read_final(reader, probe) == 200
                    case Stream.CLOSED:
                        code = await _read_final(reader, sent)
                        usable = await _read_final(reader, probe) == 0 and reader.at_eof()
                    case _:
                        code = await _read_final(reader, sent)
                        usable = code == 0 and reader.at_eof()
                        code = torture.answers[0]
            if not usable or (code not in torture.answers if torture.answers else code):
                wrong.append((str(torture), code, usable))
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        assert not wrong
        await _still_works(agent)
        await _settles(agent)
