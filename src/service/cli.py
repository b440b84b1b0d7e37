"""The ``sipcore`` command. Each subcommand is a module of its own, imported only when it is asked for."""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
from collections.abc import Callable
from typing import Annotated

import typer

__all__ = ["main"]

COMMANDS = {
    "serve": "service.serve_command",
    "call": "service.call_command",
    "demo": "service.demo.command",
}
"""Subcommand → the module with a function of that name."""


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sipcore {importlib.metadata.version('sipcore')}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """A telephone for programs: SIP and RTP in Python, driven over gRPC or from the shell.

    \b
      sipcore demo                       see and hear it work, in one process
      sipcore serve                      the gRPC server that voice bots talk to
      sipcore call sip:bob@example.com   one call from the shell
    """


def application(names: list[str]) -> typer.Typer:
    """The command with the subcommands ``names``."""
    app = typer.Typer(
        callback=_root,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for name in names:
        command: Callable[..., None] = getattr(importlib.import_module(COMMANDS[name]), name)
        app.command(name)(command)
    return app


def main() -> None:
    """Entry point of the console script."""
    asked = next((word for word in sys.argv[1:] if not word.startswith("-")), None)
    try:
        application([asked] if asked in COMMANDS else list(COMMANDS))(prog_name="sipcore")
    except KeyboardInterrupt:  # while the modules were being imported, which takes a second
        sys.exit(130)
