"""The command line: help that teaches, wrong settings in one line, the life of the server process."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty
from typer.testing import CliRunner

from service.cli import COMMANDS, application
from service.config import ServerSettings, load_settings
from service.generated.ondewo.sip import sip_pb2 as pb
from service.generated.ondewo.sip.sip_pb2_grpc import SipStub
from service.server import Server, StartError
from tests.service.bench import wav

PROGRAM = [sys.executable, "-c", "from service.cli import main; main()"]


def help_of(command: str) -> str:
    result = CliRunner().invoke(application(["serve", "call"]), [command, "--help"], env={"COLUMNS": "300"})
    assert result.exit_code == 0
    return result.output


def test_the_help_of_serve_names_every_option_variable_and_default() -> None:
    text = help_of("serve")
    for name in set(ServerSettings.model_fields) - {"accounts"}:  # in the file only
        assert f"--{name.replace('_', '-')}" in text
        assert f"SIPCORE_{name.upper()}" in text
    assert "--config" in text
    for default in ("127.0.0.1:50051", "0.0.0.0:0", "16384-32767", "[default: 60.0]"):
        assert default in text
    assert "sipcore serve --grpc" in text


def test_the_help_of_call_shows_examples_and_exit_codes() -> None:
    text = help_of("call")
    assert "sipcore call bob --account alice@example.com --wav hello.wav" in text
    assert "SIPCORE_PASSWORD" in text
    assert "--password" not in text


def test_the_root_names_its_commands() -> None:
    result = CliRunner().invoke(application(["serve", "call"]), ["--help"])
    assert result.exit_code == 0
    for command in COMMANDS:
        assert f"sipcore {command}" in result.output
    assert re.match(r"sipcore \d", CliRunner().invoke(application(["serve"]), ["--version"]).output)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["serve", "--grpc", "nonsense"], "sipcore serve: --grpc: must be HOST:PORT"),
        (["serve", "--rtp-ports", "5"], "sipcore serve: --rtp-ports: must be LO-HI"),
        (["serve", "--config", "/no/such.toml"], "sipcore serve: --config: there is no file /no/such.toml"),
        (["call", "bob", "--account", "nobody"], "sipcore call: --account: 'nobody' has no user part"),
        (["call", "", "--account", "alice@example.com"], "sipcore call: URI: "),
        (
            ["call", "bob", "--account", "alice@example.com", "--wav", "/no/such.wav"],
            "sipcore call: --wav: /no/such.wav is not a readable audio file: no such file or directory",
        ),
        (["call", "bob", "--account", "alice@example.com", "--dtmf", "x"], "sipcore call: --dtmf: 'x' may hold"),
        (
            ["call", "bob", "--account", "alice@example.com", "--record", "/no/such.wav"],
            "sipcore call: --record: /no/such.wav: No such file or directory",
        ),
        (
            ["call", "bob", "--account", "alice@example.com", "--trace-sip", "/no/such.txt"],
            "sipcore call: --trace-sip: /no/such.txt: No such file or directory",
        ),
        (["call", "bob", "--account", "alice@example.com", "--header", "X"], "sipcore call: --header: "),
        (["call", "bob", "--account", "alice@example.com", "--header", "Via: x"], "sipcore call: headers"),
        (["call", "bob", "--account", "alice@example.com", "--sip", "x"], "sipcore call: --sip: "),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(application(["serve", "call"]), arguments)
    assert result.exit_code == 2
    assert result.output.startswith(said)
    assert result.output.count("\n") == 1


def start_server(*options: str, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*PROGRAM, "serve", "--grpc", "127.0.0.1:0", "--sip", "127.0.0.1:0", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **variables},
    )


def ready(process: subprocess.Popen[str]) -> dict[str, str]:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("ready "), process.communicate()
    return dict(item.split("=", 1) for item in line.split()[1:])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_gets_ready_answers_and_stops(number: signal.Signals) -> None:
    process = start_server("--rtp-ports", "40000-40100")
    try:
        bound = ready(process)
        assert set(bound) == {"grpc", "sip-udp", "sip-tcp", "rtp"}
        assert bound["rtp"] == "40000-40100"
        assert not bound["grpc"].endswith(":0")
        assert not bound["sip-udp"].endswith(":0")
        with grpc.insecure_channel(bound["grpc"]) as channel:
            status = SipStub(channel).SipGetSipStatus(Empty(), timeout=5)
        assert status.status_type == pb.SipStatus.NO_SESSION
        before = time.monotonic()
        process.send_signal(number)
        assert process.wait(5) == 0
        assert time.monotonic() - before < 5
    finally:
        process.kill()
        process.communicate()


def test_a_port_that_is_taken_is_one_line_and_exit_code_1() -> None:
    for option, kind in (("--grpc", socket.SOCK_STREAM), ("--sip", socket.SOCK_DGRAM)):
        with socket.socket(socket.AF_INET, kind) as taken:
            taken.bind(("127.0.0.1", 0))
            if kind is socket.SOCK_STREAM:
                taken.listen()
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            process = start_server(option, address)
            _, errors = process.communicate(timeout=20)
        assert process.returncode == 1, errors
        name = "SIP" if kind is socket.SOCK_DGRAM else "gRPC"
        assert errors == f"sipcore serve: cannot listen for {name} on {address}: address already in use\n"


def test_a_trace_that_cannot_be_written_keeps_the_server_from_starting() -> None:
    with pytest.raises(StartError, match=r"cannot write the SIP trace /no/such.txt: no such file or directory"):
        Server(load_settings({"trace_sip": "/no/such.txt"}))


def test_logs_as_json_and_no_secret_in_them() -> None:
    process = start_server("--log-format", "json", "--log-level", "debug", SIPCORE_CALL_CONTROL_TOKEN="hush-token")
    try:
        bound = ready(process)
        with grpc.insecure_channel(bound["grpc"]) as channel:
            request = pb.SipRegisterAccountRequest(account_name="alice@127.0.0.1:9", password="hush-password")
            status = SipStub(channel).SipRegisterAccount(request, timeout=20)
        assert status.status_type == pb.SipStatus.SESSION_REGISTRATION_FAILED
        assert status.exception_name == "ServerUnreachable"
    finally:
        process.terminate()
        output, errors = process.communicate(timeout=10)
    assert process.returncode == 0
    assert "hush" not in output + errors + str(status)
    entries = [json.loads(line) for line in errors.splitlines()]
    assert any("SESSION_REGISTRATION_FAILED" in entry["message"] for entry in entries)


async def test_a_call_from_the_shell_that_nobody_takes(tmp_path: Path) -> None:
    sound = tmp_path / "hello.wav"
    sound.write_bytes(wav(0.1))
    arguments = ["call", "bob", "--account", "alice@127.0.0.1:9", "--sip", "127.0.0.1:0", "--wav", str(sound)]
    environment = {**os.environ, "SIPCORE_PASSWORD": "hush"}
    for extra, code, said in (([], 3, "not registered"), (["--no-register"], 1, "over: ")):
        process = await asyncio.create_subprocess_exec(
            *PROGRAM, *arguments, *extra, stdout=-1, stderr=-1, env=environment
        )
        output, errors = await asyncio.wait_for(process.communicate(), 40)
        assert process.returncode == code, (output, errors)
        assert said in output.decode()
        assert b"hush" not in output + errors
