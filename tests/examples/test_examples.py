"""The examples do what their texts say: run as programs, against each other or against the demo's far end."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import re
import socket
import sys
import urllib.error
import urllib.request
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from rtp.wav import load_wav
from service.config import Endpoint, ServerSettings
from service.demo.farend import FarEnd
from service.demo.measure import find
from service.demo.sounds import chime, wav_bytes
from service.server import Server
from sipcore.config import Account, UserAgentConfig
from sipcore.events import Party
from sipcore.registration import Registration
from sipcore.transfer import ReferRequest
from sipcore.useragent import UserAgent

pytestmark = pytest.mark.long

EXAMPLES = Path(__file__).parents[2] / "examples"
LOOPBACK = "127.0.0.1"


async def start(folder: Path, name: str, *arguments: str, password: str = "") -> Process:
    """One example as a process of its own in ``folder``."""
    environment = {
        **os.environ,
        "PYTHONUNBUFFERED": "1",
        "PYTHONFAULTHANDLER": "1",
        "SIPCORE_PASSWORD": password,
    }
    return await asyncio.create_subprocess_exec(
        sys.executable, EXAMPLES / name, *arguments, cwd=folder, env=environment, stdout=PIPE, stderr=STDOUT
    )


async def output(process: Process) -> str:
    """All that it prints until it ends, with exit code 0."""
    async with asyncio.timeout(60):
        text = (await process.communicate())[0].decode()
    assert process.returncode == 0, text
    return text


def free_port(kind: socket.SocketKind = socket.SOCK_DGRAM) -> int:
    """A port that nobody has at the moment."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


async def test_the_caller_hears_the_echo_bot_repeat_what_it_plays(tmp_path: Path) -> None:
    (tmp_path / "chime.wav").write_bytes(wav_bytes(chime()))
    port = free_port()
    bot = await start(tmp_path, "echo_bot.py", f"bot@{LOOPBACK}", "--sip-port", str(port))
    try:
        assert bot.stdout is not None
        assert b"waiting for calls" in await asyncio.wait_for(bot.stdout.readline(), 30)
        caller = await start(tmp_path, "call_and_play.py", f"me@{LOOPBACK}", f"sip:bot@{LOOPBACK}:{port}", "chime.wav")
        assert "played 0.9 s" in await output(caller)
    finally:
        bot.terminate()
        await bot.communicate()
    # The hang-up follows the last sample sent, so the end of the echo is not heard.
    assert find(load_wav(tmp_path / "heard.wav"), chime()[:4800]).similarity > 0.95


async def test_the_singing_bot_is_interrupted_and_knows_what_was_heard(tmp_path: Path) -> None:
    silence = np.zeros(16000, np.int16)
    (tmp_path / "late.wav").write_bytes(wav_bytes(np.concatenate((silence, chime()))))
    port = free_port()
    bot = await start(tmp_path, "live_numpy.py", f"bot@{LOOPBACK}", "--sip-port", str(port))
    try:
        assert bot.stdout is not None
        assert b"waiting for calls" in await asyncio.wait_for(bot.stdout.readline(), 30)
        caller = await start(tmp_path, "call_and_play.py", f"me@{LOOPBACK}", f"sip:bot@{LOOPBACK}:{port}", "late.wav")
        await output(caller)
        lines: list[str] = []
        while not lines or not lines[-1].startswith("over"):
            lines.append((await asyncio.wait_for(bot.stdout.readline(), 30)).decode().strip())
    finally:
        bot.terminate()
        await bot.communicate()
    text = "\n".join(lines)
    assert re.search(r"interrupted: [0-3]\.\d\d s not said", text)
    assert "do: heard at 0.50 s" in text
    assert "si: cut" in text
    heard = load_wav(tmp_path / "heard.wav")
    time = np.arange(4000) / 8000
    sung = (6000 * np.sin(2 * np.pi * 262 * time)).astype(np.int16)
    assert find(heard[:8000], sung[200:3800]).similarity > 0.95


async def test_the_grpc_client_lives_through_a_call_and_barges_in(tmp_path: Path) -> None:
    (tmp_path / "chime.wav").write_bytes(wav_bytes(chime()))
    far_end = FarEnd(UserAgentConfig(sip_host=LOOPBACK), {"alice": "secret"}, lambda _: None)
    settings = ServerSettings.model_construct(grpc=Endpoint(LOOPBACK, 0), sip=Endpoint(LOOPBACK, 0))
    async with far_end, Server(settings) as server:
        client = await start(
            tmp_path,
            "grpc_client.py",
            f"alice@{far_end.address}",
            "echo",
            *["chime.wav"] * 5,  # long enough for a barge-in that comes late on a busy machine
            "--server",
            str(server.grpc_address),
            "--barge-in",
            "1",  # late enough for the server to have begun
            password="secret",
        )
        text = await output(client)
    assert "playing was cut short" in text
    assert re.search(r"PlaybackCancelled .* \d\.\d+ s of 4\.50 s were played", text)
    assert text.count("SESSION_ENDED") == 2, "as an answer, and in the history"


async def test_the_watch_tells_of_calls_and_notices_another_server(tmp_path: Path) -> None:
    (tmp_path / "chime.wav").write_bytes(wav_bytes(chime()))
    far_end = FarEnd(UserAgentConfig(sip_host=LOOPBACK), {"alice": "secret"}, lambda _: None)
    told: list[str] = []
    watch: Process | None = None
    address = Endpoint(LOOPBACK, 0)
    try:
        async with far_end:
            account = f"alice@{far_end.address}"
            for _ in range(2):  # the second server is another one, at the same address
                settings = ServerSettings.model_construct(grpc=address, sip=Endpoint(LOOPBACK, 0))
                async with Server(settings) as server:
                    address = server.grpc_address
                    at = ("--server", str(address))
                    if watch is None:
                        watch = await start(tmp_path, "watch.py", account, "--from-start", *at)
                    client = await start(
                        tmp_path, "grpc_client.py", account, "echo", "chime.wav", *at, password="secret"
                    )
                    await output(client)
                    told += await lines_until(watch, "SESSION_ENDED")
    finally:
        if watch is not None:
            watch.terminate()
            await watch.communicate()
    assert "SERVER_STOPPING: the server is shutting down" in told
    restarted = told.index("lost some: RESTARTED")
    for part in (told[:restarted], told[restarted:]):
        kinds = [line.split()[3] for line in part if line.split()[0].isdigit()]
        assert kinds[0] == "account_added"
        assert {"registration_changed", "call_started", "call_answered", "call_ended"} <= set(kinds)


async def lines_until(process: Process, last: str) -> list[str]:
    """What it prints, to the first line with ``last`` in it."""
    assert process.stdout is not None
    lines: list[str] = []
    async with asyncio.timeout(60):
        while not lines or last not in lines[-1]:
            line = await process.stdout.readline()
            assert line, lines
            lines.append(line.decode().strip())
    return lines


@asynccontextmanager
async def telephones(*users: str) -> AsyncIterator[tuple[str, list[Registration]]]:
    """Lines of the test's own, without a registrar, and the host and port of their addresses."""
    async with UserAgent(UserAgentConfig(sip_host=LOOPBACK)) as agent:
        lines = [agent.open_line(Account(f"{user}@{LOOPBACK}")) for user in users]
        yield f"{LOOPBACK}:{agent.sip_address[1]}", lines


@asynccontextmanager
async def running(process: Process, words: bytes) -> AsyncIterator[Process]:
    """A program that has said ``words``; ended behind the block."""
    try:
        await says(process, words)
        yield process
    finally:
        process.terminate()
        await process.communicate()


async def says(process: Process, words: bytes) -> None:
    """Returns once it has printed them."""
    assert process.stdout is not None
    text = b""
    async with asyncio.timeout(60):
        while words not in text:
            line = await process.stdout.readline()
            assert line, text
            text += line


async def test_callers_of_the_ivr_choose_by_keys(tmp_path: Path) -> None:
    (tmp_path / "menu.wav").write_bytes(wav_bytes(chime().repeat(8)))
    (tmp_path / "hours.wav").write_bytes(wav_bytes(chime()))
    port = free_port()
    arguments = (f"bot@{LOOPBACK}", "menu.wav", "--say", "1=hours.wav", "--to", "0=desk", "--sip-port", str(port))
    program = await start(tmp_path, "ivr.py", *arguments)
    asked_for: list[str] = []

    def transferred(refer: ReferRequest) -> None:
        asked_for.append(refer.target)
        refer.refuse(603)

    async with running(program, b"waiting for calls"), telephones("caller") as (_, (line,)):
        call = await line.call(f"sip:bot@{LOOPBACK}:{port}")
        call.on_refer = transferred
        call.record(tmp_path / "heard.wav")
        for key in "190":  # 1 interrupts the menu; 9 is not in it; 0 leads to the desk, which this caller refuses
            await call.send_dtmf(key)
            await says(program, f"pressed {key}".encode())
        await says(program, b"transfer refused")
        await call.send_dtmf("#")
        ended = await asyncio.wait_for(call.wait_ended(), 60)
        assert ended.by is Party.REMOTE
        await says(program, b"over: ")
    assert asked_for == [f"sip:desk@{LOOPBACK}"]
    assert find(load_wav(tmp_path / "heard.wav"), chime()).similarity > 0.8


async def test_a_list_is_dialled_with_no_more_calls_at_once_than_asked_for(tmp_path: Path) -> None:
    (tmp_path / "message.wav").write_bytes(wav_bytes(chime()[:800]))
    up = most = 0

    async def answer(line: Registration) -> None:
        nonlocal up, most
        async for call in line.incoming():
            up += 1
            most = max(most, up)
            await call.answer()
            await call.send_dtmf("1")
            await call.wait_ended()
            up -= 1

    async with telephones("ann", "ben", "cleo", "busy") as (where, lines):
        lines[3].screen = lambda _: 486
        answering = [asyncio.create_task(answer(line)) for line in lines[:3]]
        numbers = [f"sip:{user}@{where}" for user in ("ann", "busy", "ben", "nobody", "cleo")]
        (tmp_path / "numbers.csv").write_text("\n".join([*numbers, "", "no number"]) + "\n")
        arguments = (f"me@{LOOPBACK}", "numbers.csv", "message.wav", "results.csv", "--at-once", "2")
        await output(await start(tmp_path, "dial_list.py", *arguments))
        for task in answering:
            task.cancel()
        await asyncio.gather(*answering, return_exceptions=True)
    assert most == 2
    with (tmp_path / "results.csv").open(newline="") as file:
        rows = {row["number"]: row for row in csv.DictReader(file)}
    outcomes = {number: (row["outcome"], row["code"], row["keys"]) for number, row in rows.items()}
    assert outcomes == {
        numbers[0]: ("answered", "200", "1"),
        numbers[1]: ("busy", "486", ""),
        numbers[2]: ("answered", "200", "1"),
        numbers[3]: ("refused", "404", ""),
        numbers[4]: ("answered", "200", "1"),
        "no number": ("unreachable", "0", ""),
    }


async def test_a_web_server_places_calls_and_tells_what_happens_in_them(tmp_path: Path) -> None:
    (tmp_path / "chime.wav").write_bytes(wav_bytes(chime()))
    port = free_port(socket.SOCK_STREAM)
    base = f"http://{LOOPBACK}:{port}/calls"

    async def ask(method: str, url: str, wanted: object = None) -> str:
        data = None if wanted is None else json.dumps(wanted).encode()
        request = urllib.request.Request(url, data, method=method)
        with await asyncio.to_thread(urllib.request.urlopen, request, timeout=60) as answer:
            return str((await asyncio.to_thread(answer.read)).decode())

    program = await start(tmp_path, "web_app.py", f"me@{LOOPBACK}", "--port", str(port))
    async with running(program, b"Running on"), telephones("bob") as (where, (line,)):
        for wrong in ({"to": "sip:bob@here", "play": "../etc/passwd"}, {"to": "no number"}, {}, [1]):
            with pytest.raises(urllib.error.HTTPError) as refused:
                await ask("POST", base, wrong)
            assert refused.value.code == 400
            refused.value.close()
        placed = [json.loads(await ask("POST", base, {"to": f"sip:bob@{where}", "play": "chime.wav"}))["id"]]
        placed.append(json.loads(await ask("POST", base, {"to": f"sip:bob@{where}"}))["id"])
        incoming = line.incoming()
        for _ in placed:
            call = await asyncio.wait_for(anext(incoming), 60)
            await call.answer()
        await call.send_dtmf("5")
        heard = asyncio.create_task(ask("GET", f"{base}/{placed[1]}/events"))
        first = [json.loads(line) for line in (await ask("GET", f"{base}/{placed[0]}/events")).splitlines()]
        assert first[-1]["event"] == "CallEnded", "the chime has been played"
        assert json.loads(await ask("GET", base))[placed[0]] == {"remote": f"sip:bob@{where}", "state": "ended"}
        assert "Hung up by this side" in await ask("DELETE", f"{base}/{placed[1]}")
        second = [json.loads(line) for line in (await heard).splitlines()]
        assert [event["event"] for event in second][-3:] == ["CallAnswered", "DtmfReceived", "CallEnded"]
        assert second[-2]["digit"] == "5"
