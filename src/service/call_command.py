"""``sipcore call``: one call from the shell, without a server."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from rtp.stream import PlaybackResult
from rtp.wav import AudioError, load_wav
from service.config import SettingsError, load_settings
from service.logs import configure_logging
from service.loops import loop_factory
from sipcore.config import Account, UserAgentConfig
from sipcore.errors import CallError, InvalidRequest, SipError
from sipcore.events import CallAnswered, CallEnded, CallHeld, CallResumed, CallRinging, DtmfReceived
from sipcore.media import checked_digits
from sipcore.net.trace import Trace
from sipcore.protocol.addresses import parse_account, parse_callee
from sipcore.protocol.builder import check_extension_headers
from sipcore.useragent import UserAgent

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sipcore.call import Call
    from sipcore.registration import Registration

__all__ = ["call"]

PASSWORD_VARIABLE = "SIPCORE_PASSWORD"  # noqa: S105 - the name of the variable
DONE, FAILED, USAGE, NOT_REGISTERED, INTERRUPTED = 0, 1, 2, 3, 130


def call(
    callee: Annotated[
        str,
        typer.Argument(
            metavar="URI",
            help="Whom to call: a sip:, sips: or tel: URI, user@host, or a bare user or number.",
        ),
    ],
    account: Annotated[
        str, typer.Option("--account", metavar="USER@HOST", help="Account to call from, as user@host[:port].")
    ],
    wav: Annotated[
        list[Path] | None,
        typer.Option("--wav", metavar="FILE", help="Audio file to play once answered; may be repeated."),
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option("--record", metavar="FILE", help="Write the far end's audio to this wav file."),
    ] = None,
    header: Annotated[
        list[str] | None,
        typer.Option("--header", metavar="'NAME: VALUE'", help="Extra header of the call; may be repeated."),
    ] = None,
    dtmf: Annotated[
        str, typer.Option("--dtmf", metavar="DIGITS", help="Digits to send after the files, such as 123#.")
    ] = "",
    duration: Annotated[
        float | None,
        typer.Option(
            "--duration", metavar="SECONDS", min=0.0, help="Stay this long after the answer, whatever is played."
        ),
    ] = None,
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", min=0.1, help="How long it may ring.")
    ] = 60.0,
    auth_username: Annotated[
        str, typer.Option("--auth-username", metavar="NAME", help="User for authentication, if another.")
    ] = "",
    outbound_proxy: Annotated[
        str,
        typer.Option("--outbound-proxy", metavar="HOST[:PORT]", help="Proxy that everything goes through."),
    ] = "",
    register: Annotated[
        bool, typer.Option("--register/--no-register", help="Register the account before the call.")
    ] = True,
    sip: Annotated[
        str, typer.Option("--sip", metavar="HOST:PORT", help="Address for SIP; port 0 is any free one.")
    ] = "0.0.0.0:0",
    advertise: Annotated[
        str, typer.Option("--advertise", metavar="HOST", help="Address to write into Contact and SDP.")
    ] = "",
    trace_sip: Annotated[
        Path | None, typer.Option("--trace-sip", metavar="FILE", help="Write every SIP message to this file.")
    ] = None,
    log_level: Annotated[
        str, typer.Option("--log-level", metavar="debug|info|warning|error", help="Least severity to log.")
    ] = "warning",
) -> None:
    """Place one call: ring, play files, record, hang up. Ctrl-C and SIGTERM hang up.

    The password of the account comes from the variable SIPCORE_PASSWORD, else from a prompt.

    \b
    Examples:
      sipcore call bob --account alice@example.com --wav hello.wav
      sipcore call sip:bob@example.com --account alice@example.com --record bob.wav --duration 20
      SIPCORE_PASSWORD=... sipcore call +4312345 --account alice@example.com --dtmf 123#

    \b
    Exit code: 0 answered, and all was played     2 an option is wrong
               1 not answered, or cut short       3 the account could not be registered
               130 ended by Ctrl-C or SIGTERM
    """
    try:
        settings = load_settings(
            {"sip": sip, "advertise": advertise, "ring_timeout": timeout, "log_level": log_level}, environ={}
        )
        headers = _headers(header or [])
        check_extension_headers(headers)
        address = parse_account(account, field="--account")
        parse_callee(callee, address, field="URI")
        sounds = [(path.name, _load(path)) for path in wav or []]
        factory = loop_factory(settings.event_loop)
        plan = _Plan(
            account=Account(
                account,
                password=_password(account, prompt=register),
                auth_username=auth_username,
                outbound_proxy=outbound_proxy,
            ),
            callee=callee,
            headers=headers,
            sounds=sounds,
            record=_writable(record),
            dtmf=_digits(dtmf),
            duration=duration,
            timeout=timeout,
            register=register,
        )
        trace = _open_trace(trace_sip)
    except (SettingsError, InvalidRequest) as error:
        field = f"{error.field}: " if isinstance(error, InvalidRequest) and error.field else ""
        typer.echo(f"sipcore call: {field}{str(error).removeprefix(field)}", err=True)
        raise typer.Exit(USAGE) from None
    configure_logging(settings.log_level, settings.log_format)
    try:
        with asyncio.Runner(loop_factory=factory) as runner:
            code = runner.run(_run(plan, settings.user_agent_config(), trace))
    except (KeyboardInterrupt, asyncio.CancelledError):
        code = INTERRUPTED
    raise typer.Exit(code)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What the command line asks for, checked."""

    account: Account
    callee: str
    headers: dict[str, str]
    sounds: Sequence[tuple[str, NDArray[np.int16]]]
    record: Path | None
    dtmf: str
    duration: float | None
    timeout: float
    register: bool


def _headers(lines: Sequence[str]) -> dict[str, str]:
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise InvalidRequest(f"must be 'NAME: VALUE', not {line!r}", field="--header")
        headers[name.strip()] = value.strip()
    return headers


def _load(path: Path) -> NDArray[np.int16]:
    try:
        return load_wav(path)
    except (AudioError, OSError) as error:
        raise InvalidRequest(f"--wav: {error}", field="--wav") from error


def _digits(text: str) -> str:
    try:
        return checked_digits(text) if text else ""
    except InvalidRequest as error:
        raise InvalidRequest(str(error).removeprefix("digits: "), field="--dtmf") from None


def _writable(path: Path | None) -> Path | None:
    """Where the recording goes, tried before anybody's telephone rings; what stands there stays for the while."""
    if path is not None:
        there = path.exists()
        try:
            path.open("ab").close()
            if not there:
                path.unlink()
        except OSError as error:
            raise InvalidRequest(f"{path}: {error.strerror}", field="--record") from None
    return path


def _open_trace(path: Path | None) -> Trace | None:
    try:
        return Trace(path) if path is not None else None
    except OSError as error:
        raise InvalidRequest(f"{path}: {error.strerror}", field="--trace-sip") from None


def _password(account: str, *, prompt: bool) -> str:
    password = os.environ.get(PASSWORD_VARIABLE)
    if password is not None:
        return password
    if prompt and sys.stdin.isatty():
        answer: str = typer.prompt(f"Password of {account}", hide_input=True, default="", show_default=False)
        return answer
    return ""


class _Report:
    """Lines with the time since the start, and a progress bar where there is a terminal."""

    def __init__(self) -> None:
        self.console = Console(highlight=False, soft_wrap=True)
        self._start = time.monotonic()

    def say(self, text: str) -> None:
        """One line."""
        self.console.print(f"{time.monotonic() - self._start:7.2f} s  {text}", markup=False)

    def progress(self) -> Progress:
        """A bar; shown on terminals only."""
        return Progress(
            TextColumn("           {task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )


async def _run(plan: _Plan, config: UserAgentConfig, trace: Trace | None) -> int:
    """The whole command; returns the exit code."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)  # as Ctrl-C does
    report = _Report()
    try:
        async with UserAgent(config, trace=trace) as agent:
            try:
                registration = await _account(agent, plan, report)
            except SipError as error:
                report.say(f"not registered: {error}")
                return NOT_REGISTERED
            return await _call(registration, plan, report)
    except OSError as error:
        report.say(error.strerror or str(error))
        return FAILED
    finally:
        if trace is not None:
            trace.close()


async def _account(agent: UserAgent, plan: _Plan, report: _Report) -> Registration:
    if not plan.register:
        return agent.open_line(replace(plan.account, accept_from=()))
    report.say(f"registering {plan.account.address}")
    return await agent.register(plan.account)


async def _call(registration: Registration, plan: _Plan, report: _Report) -> int:
    report.say(f"calling {plan.callee}")
    try:
        placed = registration.place(plan.callee, headers=plan.headers, timeout=plan.timeout)
    except CallError as error:
        report.say(f"failed: {error}")
        return FAILED
    watcher = asyncio.create_task(_watch(placed, report))
    try:
        async with placed:
            await placed.connected()
            if plan.record is not None:
                placed.record(plan.record)
            complete = await _converse(placed, plan, report)
            _tell_media(placed, report)
    except asyncio.CancelledError:
        report.say("interrupted: hanging up")
        raise
    except SipError:
        return FAILED  # the watcher has said why
    finally:
        await asyncio.wait({watcher}, timeout=1.0)
        watcher.cancel()
    return DONE if complete else FAILED


async def _watch(placed: Call, report: _Report) -> None:
    """Says what happens to the call."""
    async for event in placed.events():
        match event:
            case CallRinging(code, reason):
                report.say(f"{code} {reason}")
            case CallAnswered(codec):
                report.say(f"answered, {codec}")
            case DtmfReceived(digit):
                report.say(f"heard digit {digit}")
            case CallHeld():
                report.say("put on hold")
            case CallResumed():
                report.say("taken off hold")
            case CallEnded(description=description):
                report.say(f"over: {description}")
            case _:
                pass


async def _converse(placed: Call, plan: _Plan, report: _Report) -> bool:
    """Plays, sends digits, stays; returns whether all of it could be done before the far end hung up."""
    answered = time.monotonic()
    over = asyncio.create_task(placed.wait_ended())
    try:
        complete = await _play(placed, plan.sounds, report)
        if complete and plan.dtmf:
            await placed.send_dtmf(plan.dtmf)
            report.say(f"sent digits {plan.dtmf}")
        if plan.duration is not None:
            left = plan.duration - (time.monotonic() - answered)
            await asyncio.wait({over}, timeout=max(0.0, left))
        elif not plan.sounds and not plan.dtmf:
            await over  # nothing to do but to listen
        return complete
    finally:
        over.cancel()


async def _play(placed: Call, sounds: Sequence[tuple[str, NDArray[np.int16]]], report: _Report) -> bool:
    if not sounds:
        return True
    playback = placed.play(*(samples for _, samples in sounds))
    total = sum(len(samples) for _, samples in sounds) / 8000
    report.say(f"playing {', '.join(name for name, _ in sounds)} ({total:.1f} s)")
    with report.progress() as progress:
        bar = progress.add_task("playing", total=total)
        waiting = asyncio.ensure_future(playback)
        while not waiting.done():
            await asyncio.wait({waiting}, timeout=0.2)
            progress.update(bar, completed=playback.played_seconds)
    result: PlaybackResult = waiting.result()
    if not result.completed:
        report.say(f"cut short after {result.played_seconds:.1f} s of {total:.1f} s")
    return result.completed


def _tell_media(placed: Call, report: _Report) -> None:
    heard = placed.statistics()
    report.say(
        f"sent {heard.packets_sent} packets; received {heard.packets_received}, lost {heard.lost},"
        f" late {heard.late}, jitter {heard.jitter_ms:.1f} ms"
    )
