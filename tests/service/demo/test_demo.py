"""The demo itself, as a program of its own over real sockets of the loopback."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from rtp.wav import load_wav
from service.demo.caller import Caller
from service.demo.scenes import Plan, perform
from service.demo.sounds import shipped_speech
from service.demo.stage import Stage
from service.generated.ondewo.sip import sip_pb2 as pb

pytestmark = pytest.mark.long

COMMAND = [sys.executable, "-c", "from service.cli import main; main()", "demo"]
ENVIRONMENT = {**os.environ, "PYTHONUNBUFFERED": "1", "SIPCORE_ADVERTISE": "192.0.2.1"}
"""With a setting of a server that must not count here."""


def test_every_step_works_and_the_recording_is_left(tmp_path: Path) -> None:
    run = subprocess.run(
        [*COMMAND, "--seconds", "1", "--out", "kept", "--trace-sip", "sip.txt"],
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=90,
        check=False,
    )
    assert run.returncode == 0, run.stdout
    assert "Everything worked" in run.stdout
    transitions = [line.split()[3] for line in run.stdout.splitlines() if " ● " in line]
    assert transitions == [
        "REGISTERED",
        "SESSION_STARTED",
        "READY",
        "OUTGOING_CALL_INITIATED",
        "OUTGOING_CALL_CONNECTED",
        "MICROPHONE_WAV_FILES_PLAYED",
        "MICROPHONE_MUTED",
        "MICROPHONE_WAV_FILES_PLAYED",
        "MICROPHONE_UNMUTED",
        "MICROPHONE_WAV_FILES_PLAYED",
        "SOFT_HANGUP_INITIATED",
        "OUTGOING_CALL_FINISHED",
        "OUTGOING_CALL_INITIATED",
        "OUTGOING_CALL_FAILED",
        "OUTGOING_CALL_INITIATED",
        "OUTGOING_CALL_CONNECTED",
        "TRANSFER_CALL_INITIATED",
        "OUTGOING_CALL_FINISHED",
        "INCOMING_CALL_INITIATED",
        "INCOMING_CALL_CONNECTED",
        "MICROPHONE_WAV_FILES_PLAYED",
        "INCOMING_CALL_FINISHED",
        "SESSION_ENDED",
    ]
    assert len(load_wav(tmp_path / "kept" / "heard.wav")) > 4 * 8000
    trace = (tmp_path / "sip.txt").read_text(encoding="utf-8")
    assert "REFER sip:" in trace
    assert "response=" not in trace, "credentials are struck out"


async def test_a_step_that_fails_is_a_problem_and_ends_the_play(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def mistyped(self: Caller, account: str, password: str) -> pb.SipStatus:
        return await register(self, account, password.upper())

    register = Caller.register
    monkeypatch.setattr(Caller, "register", mistyped)
    screen = io.StringIO()
    stage = Stage(Console(file=screen, width=80))
    await perform(Plan(shipped_speech(), "welcome.wav", tmp_path, None), stage)
    (problem,) = stage.problems
    assert problem.startswith("REGISTERED was to come, but it was SESSION_REGISTRATION_FAILED AuthenticationFailed")
    assert "the rest of the demo needs this step" in screen.getvalue()
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_hangs_up_and_ends_with_130(tmp_path: Path) -> None:
    with subprocess.Popen(
        COMMAND, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "OUTGOING_CALL_CONNECTED" in line:
                break
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        assert process.wait(timeout=30) == 130, rest
    assert "call over" in rest
    assert "Traceback" not in rest


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--wav", "missing.wav"], "--wav: missing.wav: No such file or directory"),
        (["--wav", "letter.txt"], "--wav: letter.txt: the data is not a readable audio file"),
        (["--out", "letter.txt"], "--out: letter.txt: File exists"),
        (["--log-level", "loud"], "--log-level: must be debug, info, warning or error, not 'loud'"),
        (["--trace-sip", "no/such/folder.txt"], "--trace-sip: no/such/folder.txt: No such file or directory"),
    ],
)
def test_a_wrong_option_is_named_in_one_line(tmp_path: Path, options: list[str], message: str) -> None:
    (tmp_path / "letter.txt").write_text("Dear Sir or Madam")
    run = subprocess.run([*COMMAND, *options], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 2
    assert message in run.stderr
    assert len(run.stderr.splitlines()) == 1
