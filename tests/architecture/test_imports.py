"""The map of docs/architecture.md as a test: arrows point one way.

    service --> sipcore (shell) --> sipcore.net --> sipcore.protocol --> sipmessage (through headers.py only)
                     +-> sipcore/media.py, sounds.py --> rtp --> numpy, aiortp.packet (through packet.py only)

Every import counts: at the top, inside a function, and for type checking only.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src"

VALUES = {"sipcore.config", "sipcore.errors", "sipcore.events"}
"""Plain values that every room of sipcore may name."""

ARROWS: dict[str, set[str]] = {
    "service": {"service", "shell", "media", "values", "net", "protocol", "rtp"},
    "shell": {"shell", "media", "values", "net", "protocol"},
    "media": {"shell", "media", "values", "protocol", "rtp"},
    "net": {"net", "values", "protocol"},
    "protocol": {"protocol", "values"},
    "values": {"values"},
    "rtp": {"rtp"},
}
"""Room to the rooms it may import."""

EXCEPTIONS: set[tuple[str, str]] = {
    ("sipcore.config", "sipcore.protocol.addresses"),  # an Account is checked when it is made
    ("sipcore.config", "sipcore.protocol.sources"),
    ("sipcore.config", "sipcore.protocol.identity"),
    ("sipcore.config", "sipcore.presets"),  # Account.from_preset
    ("sipcore.useragent", "rtp.engine"),  # starts and stops the media clock
    ("sipcore.useragent", "rtp.ports"),
    ("sipcore.call_audio", "rtp.recording"),  # passes a Recording on,
    ("sipcore.call_audio", "rtp.recording_stream"),  # to a file or to a program
    ("sipcore.call_audio", "rtp.audio_stream"),  # passes programs that hear and speak live,
    ("sipcore.call_audio", "rtp.listener"),  # passes those who listen
    ("sipcore.call_audio", "rtp.talker"),  # and talk live on
    ("sipcore.call_audio", "rtp.statistics"),  # passes StreamStatistics on
}
"""Single arrows that the table does not allow, each with its reason."""

THIRD_PARTY: dict[str, set[str]] = {
    "sipmessage": {"sipcore.protocol.headers"},
    "aiortp": {"rtp.packet"},
    "dns": {"sipcore.net"},
    "numpy": {"rtp", "sipcore.media", "sipcore.sounds", "sipcore.call_audio", "service"},
    "soundfile": {"rtp", "service.demo"},
    "soxr": {"rtp"},
    "matplotlib": {"service.demo"},
    "grpc": {"service"},
    "grpc_health": {"service.health"},
    "grpc_reflection": {"service.health"},
    "grpc_status": {"service.v1.refusals"},
    "google": {"service"},
    "pydantic": {"service"},
    "pydantic_core": {"service"},
    "pydantic_settings": {"service"},
    "rich": {"service"},
    "typer": {"service"},
    "uvloop": {"service"},
}
"""Package to the modules, or packages of modules, that may import it. What is not listed may not be imported
at all."""

IMPURE = {
    "asyncio",
    "concurrent",
    "datetime",
    "multiprocessing",
    "os",
    "pathlib",
    "secrets",
    "select",
    "selectors",
    "signal",
    "socket",
    "ssl",
    "subprocess",
    "sys",
    "tempfile",
    "threading",
    "time",
    "uuid",
}
"""Standard modules with a clock, a socket, a thread, a file or chance in them: not for protocol code."""


@dataclass(frozen=True)
class Import:
    """One imported module."""

    importer: str
    imported: str
    line: int

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.imported}"


def modules() -> dict[str, Path]:
    """Dotted name to file, for all of src but generated code."""
    found: dict[str, Path] = {}
    for path in sorted(SRC.rglob("*.py")):
        parts = path.relative_to(SRC).with_suffix("").parts
        if "generated" in parts:
            continue
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports_in(module: str, code: ast.Module) -> Iterator[Import]:
    """What a module imports; ``from a import b`` counts as ``a.b`` where that is a module of ours."""
    known = modules()
    for node in ast.walk(code):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(module, alias.name, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: relative import"
            assert node.module is not None
            for alias in node.names:
                below = f"{node.module}.{alias.name}"
                yield Import(module, below if below in known else node.module, node.lineno)


def all_imports() -> list[Import]:
    return [found for module, path in modules().items() for found in imports_in(module, tree(path))]


def room_of(module: str) -> str:
    """The room a module of ours is in."""
    match module.split("."):
        case ["service", *_]:
            return "service"
        case ["rtp", *_]:
            return "rtp"
        case ["sipcore", "net", *_]:
            return "net"
        case ["sipcore", "protocol", *_]:
            return "protocol"
        case ["sipcore", "media" | "sounds"]:
            return "media"
        case ["sipcore", *_]:
            return "values" if module in VALUES else "shell"
        case _:
            raise AssertionError(f"{module} is in no room")


def is_ours(module: str) -> bool:
    return module.partition(".")[0] in ("service", "sipcore", "rtp")


def is_within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def forbidden_arrows(imports: list[Import]) -> list[Import]:
    """Imports between our rooms that the map does not have."""
    return [
        found
        for found in imports
        if is_ours(found.imported)
        and not is_within(found.imported, "service.generated")
        and room_of(found.imported) not in ARROWS[room_of(found.importer)]
        and (found.importer, found.imported) not in EXCEPTIONS
    ]


def forbidden_packages(imports: list[Import]) -> list[Import]:
    """Imports of packages of others, from where they are not let in."""
    forbidden = []
    for found in imports:
        package = found.imported.partition(".")[0]
        if is_ours(found.imported) or package in sys.stdlib_module_names:
            continue
        if not any(is_within(found.importer, door) for door in THIRD_PARTY.get(package, ())):
            forbidden.append(found)
    return forbidden


def impurities(module: str, code: ast.Module) -> list[str]:
    """Where pure code names a clock, a socket or chance."""
    found = [
        str(each)
        for each in imports_in(module, code)
        if each.imported.partition(".")[0] in IMPURE or each.imported.partition(".")[0] in ("numpy", "dns", "uvloop")
    ]
    for node in ast.walk(code):
        match node:
            case ast.Attribute(value=ast.Name(id="random"), attr=attr) if attr != "Random":
                found.append(f"{module}:{node.lineno} uses random.{attr}: pass a random.Random")
            case ast.ImportFrom(module="random", names=names) if any(name.name != "Random" for name in names):
                found.append(f"{module}:{node.lineno} imports from random more than Random")
            case _:
                pass
    return found


def listed(found: list[Import] | list[str]) -> str:
    return "\n".join(str(each) for each in found)


def test_arrows_point_right() -> None:
    found = forbidden_arrows(all_imports())
    assert not found, listed(found)


def test_packages_of_others_come_in_through_their_door() -> None:
    found = forbidden_packages(all_imports())
    assert not found, listed(found)


def test_aiortp_is_used_for_packets_only() -> None:
    """Its companding is not G.711's."""
    found = [each for each in all_imports() if is_within(each.imported, "aiortp")]
    assert all(is_within(each.imported, "aiortp.packet") for each in found), listed(found)


def test_protocol_code_is_pure() -> None:
    found = [
        each
        for module, path in modules().items()
        if room_of(module) == "protocol"
        for each in impurities(module, tree(path))
    ]
    assert not found, listed(found)


def test_exceptions_are_still_needed() -> None:
    existing = {(each.importer, each.imported) for each in all_imports()}
    assert existing >= EXCEPTIONS, f"not imported any more: {EXCEPTIONS - existing}"


def test_the_library_needs_no_grpc() -> None:
    """All of sipcore and rtp can be imported where none of the server's packages is installed."""
    names = [name for name in modules() if room_of(name) not in ("service",)]
    doors = [
        package
        for package, importers in THIRD_PARTY.items()
        if all(is_within(importer, "service") for importer in importers)
    ]
    script = (
        "import importlib, sys\n"
        f"sys.modules.update(dict.fromkeys({doors!r}))\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("importer", "code"),
    [
        ("sipcore.protocol.wire", "import sipcore.net.udp"),
        ("sipcore.protocol.wire", "def f():\n    from sipcore.net import udp"),
        ("sipcore.net.udp", "from sipcore.broadcast import Broadcast"),
        ("sipcore.call", "from rtp.engine import MediaEngine"),
        ("sipcore.useragent", "import service.server"),
        ("rtp.engine", "from sipcore.errors import SipError"),
        ("sipcore.errors", "from sipcore import call"),
    ],
)
def test_an_arrow_to_the_left_is_found(importer: str, code: str) -> None:
    assert forbidden_arrows(list(imports_in(importer, ast.parse(code))))


@pytest.mark.parametrize(
    ("importer", "code"),
    [
        ("sipcore.protocol.sdp", "import sipmessage"),
        ("sipcore.useragent", "import grpc"),
        ("rtp.engine", "from aiortp.packet import RTPPacket"),
        ("sipcore.net.driver", "import numpy as np"),
        ("service.cli", "import requests"),
    ],
)
def test_a_package_at_the_wrong_door_is_found(importer: str, code: str) -> None:
    assert forbidden_packages(list(imports_in(importer, ast.parse(code))))


@pytest.mark.parametrize(
    "code",
    [
        "import time",
        "from asyncio import sleep",
        "import os.path",
        "import random\nx = random.random()",
        "from random import choice",
    ],
)
def test_an_impurity_is_found(code: str) -> None:
    assert impurities("sipcore.protocol.wire", ast.parse(code))


@pytest.mark.parametrize("code", ["import random\nx = random.Random(1)", "import re", "import logging"])
def test_pure_code_passes(code: str) -> None:
    assert not impurities("sipcore.protocol.wire", ast.parse(code))
