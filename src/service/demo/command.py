"""``sipcore demo``: see and hear the server work, with nothing else installed."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from rtp.wav import AudioError
from service.demo.scenes import Plan, perform
from service.demo.sounds import shipped_speech, shortened
from service.demo.stage import Stage
from service.logs import configure_logging
from service.loops import loop_factory
from service.server import StartError
from sipcore.net.trace import Trace
from sipcore.tuning import tune_interpreter

__all__ = ["demo"]

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


def demo(
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder for the recording and its picture; made if missing.")
    ] = Path("demo-out"),
    wav: Annotated[
        Path | None,
        typer.Option("--wav", metavar="FILE", help="Audio file to play instead of the shipped speech."),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option("--seconds", metavar="SECONDS", min=0.5, help="Play no more than this much of it."),
    ] = None,
    trace_sip: Annotated[
        Path | None,
        typer.Option("--trace-sip", metavar="FILE", help="Write every SIP message of the server to this file."),
    ] = None,
    color: Annotated[bool, typer.Option("--color/--no-color", help="Colours; NO_COLOR turns them off too.")] = True,
    log_level: Annotated[
        str, typer.Option("--log-level", metavar="debug|info|warning|error", help="Least severity to log.")
    ] = "warning",
) -> None:
    """See and hear it work: calls over real SIP, RTP and gRPC, all inside this program, in about 15 seconds.

    Starts the server of "sipcore serve", and as its far end a registrar with digest authentication and three
    telephones, on free ports of 127.0.0.1. Then drives the server over gRPC as a voice bot does: register, open a
    session, call, play a wav file, mute, press keys, hang up, be refused, transfer, take a call, end the session.
    Shows every transition as it happens and checks each one; in the end it compares what was heard with what was
    played. Leaves the recording as heard.wav and, where matplotlib is installed, a picture of it as heard.png.

    \b
    Examples:
      sipcore demo
      sipcore demo --trace-sip sip.txt               then read the SIP messages of all the calls
      sipcore demo --wav song.flac --seconds 10      your own sound
      sipcore demo --no-color | tee demo.txt         plain lines

    \b
    Exit code: 0 everything worked     2 an option is wrong
               1 something did not     130 ended by Ctrl-C
    """
    if log_level not in ("debug", "info", "warning", "error"):
        _refuse(f"--log-level: must be debug, info, warning or error, not {log_level!r}")
    try:
        speech = wav.read_bytes() if wav is not None else shipped_speech()
        speech = shortened(speech, seconds)
    except (AudioError, OSError) as error:
        _refuse(f"--wav: {wav}: {getattr(error, 'strerror', None) or error}")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _refuse(f"--out: {out}: {error.strerror}")
    if trace_sip is not None:
        try:
            Trace(trace_sip).close()
        except OSError as error:
            _refuse(f"--trace-sip: {trace_sip}: {error.strerror}")
    plan = Plan(speech, wav.name if wav is not None else "welcome.wav", out, trace_sip)
    configure_logging(log_level, "text")
    tune_interpreter()
    stage = Stage(Console(highlight=False, no_color=not color or None, emoji=False, markup=False))
    stage.title("sipcore demo: a server, its voice bot, and the people they call, in one program")
    try:
        with asyncio.Runner(loop_factory=loop_factory("auto")) as runner:
            runner.run(_run(plan, stage))
    except (StartError, OSError) as error:
        stage.problem(str(error))
    except (KeyboardInterrupt, asyncio.CancelledError):
        stage.note("stopped; all calls were hung up")
        raise typer.Exit(INTERRUPTED) from None
    stage.verdict()
    raise typer.Exit(FAILED if stage.problems else DONE)


def _refuse(message: str) -> None:
    typer.echo(f"sipcore demo: {message}", err=True)
    raise typer.Exit(USAGE)


async def _run(plan: Plan, stage: Stage) -> None:
    """Ends by itself, or when Ctrl-C or SIGTERM cancels it."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    await perform(plan, stage)
