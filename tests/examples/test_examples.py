"""The examples do what their texts say: run as programs, against each other or against the demo's far end."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from pathlib import Path

import numpy as np

from rtp.wav import load_wav
from service.config import Endpoint, ServerSettings
from service.demo.farend import FarEnd
from service.demo.measure import find
from service.demo.sounds import chime, wav_bytes
from service.server import Server
from sipcore.config import UserAgentConfig

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


def free_port() -> int:
    """A UDP port that nobody has at the moment."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
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
            "chime.wav",
            "--server",
            str(server.grpc_address),
            "--barge-in",
            "0.3",
            password="secret",
        )
        text = await output(client)
    assert "playing was cut short" in text
    assert re.search(r"PlaybackCancelled .* 0\.\d+ s of 0\.90 s were played", text)
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
