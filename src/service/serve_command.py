"""``sipcore serve``: its options are made from the fields of :class:`service.config.ServerSettings`."""

from __future__ import annotations

import asyncio
import inspect
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from service.config import CONFIG_VARIABLE, ENV_PREFIX, ServerSettings, SettingsError, load_settings
from service.logs import configure_logging
from service.loops import loop_factory
from service.server import StartError
from service.server import serve as run_server

__all__ = ["serve"]


def serve(**options: Any) -> None:
    """Serve ondewo.sip.Sip: accounts, calls and audio for voice bots, over gRPC.

    Prints one line that starts with "ready" once it takes requests. Ctrl-C or SIGTERM hangs up all calls,
    removes every registration and ends with exit code 0. Exit code 2: a setting is wrong. 1: a port is taken.

    \b
    Examples:
      sipcore serve
      sipcore serve --grpc 0.0.0.0:50051 --sip 0.0.0.0:5060 --rtp-ports 20000-20999
      sipcore serve --advertise 203.0.113.7 --trace-sip sip.txt --log-level debug
      SIPCORE_GRPC=0.0.0.0:50051 SIPCORE_CALL_CONTROL_TOKEN=... sipcore serve
      sipcore serve --config server.toml

    \b
    server.toml, with the names of the options in it:
      grpc = "127.0.0.1:50051"
      rtp_ports = "20000-20999"
      ring_timeout = 45
      [[accounts]]
      name = "2345678e0@sipgate.de"
      preset = "sipgate"
      preferred_identity = "+4930123456"

    An option counts more than its variable, a variable more than the file.
    """
    config: Path | None = options.pop("config")
    try:
        settings = load_settings({name: value for name, value in options.items() if value is not None}, config=config)
        factory = loop_factory(settings.event_loop)
    except SettingsError as error:
        typer.echo(f"sipcore serve: {error}", err=True)
        raise typer.Exit(2) from None
    configure_logging(settings.log_level, settings.log_format)
    try:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(run_server(settings))
    except StartError as error:
        typer.echo(f"sipcore serve: {error}", err=True)
        raise typer.Exit(1) from None


def _option(name: str, field: FieldInfo) -> inspect.Parameter:
    """The option of one setting; None where it was not given, so that variable and file count."""
    dashed = name.replace("_", "-")
    default = field.get_default()
    extra = field.json_schema_extra
    metavar = str(extra["metavar"]) if isinstance(extra, dict) and "metavar" in extra else None
    help_ = f"{field.description} [{ENV_PREFIX}{name.upper()}]"
    if default not in (None, "", ()) and "Secret" not in str(field.annotation):
        shown = ",".join(default) if type(default) is tuple else default
        words = {True: "on", False: "off"}
        help_ += f" [default: {words[shown] if isinstance(shown, bool) else shown}]"
    declaration = f"--{dashed}"
    kind: Any = str
    if field.annotation is bool:
        kind, declaration = bool, f"--{dashed}/--no-{dashed}"
    elif metavar is None:
        metavar = "|".join(get_args(field.annotation))
    annotation = Annotated[kind | None, typer.Option(declaration, metavar=metavar, help=help_)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _in_file_only(field: FieldInfo) -> bool:
    return isinstance(field.json_schema_extra, dict) and "file_only" in field.json_schema_extra


def _signature(settings: type[BaseSettings]) -> inspect.Signature:
    help_ = f"TOML file with any of these settings. [{CONFIG_VARIABLE}]"
    config = inspect.Parameter(
        "config",
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[Path | None, typer.Option("--config", metavar="FILE", help=help_)],
    )
    options = [_option(name, field) for name, field in settings.model_fields.items() if not _in_file_only(field)]
    return inspect.Signature([config, *options])


_made = _signature(ServerSettings)
serve.__signature__ = _made  # type: ignore[attr-defined]  # typer reads the options from here
serve.__annotations__ = {name: parameter.annotation for name, parameter in _made.parameters.items()}
