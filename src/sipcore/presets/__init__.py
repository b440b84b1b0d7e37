"""Accounts of known providers and telephone systems, as data: one TOML file each, beside this one.

A file says what the peer demands, what of that an :class:`~sipcore.config.Account` has to be told, and what this
version cannot do. ``[account]`` holds the fields of an account, and the same tables configure the server.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from importlib import resources
from typing import Any

from sipcore.config import Account, CallPolicy
from sipcore.errors import InvalidRequest

__all__ = ["Preset", "account_fields", "preset", "preset_names"]


@dataclass(frozen=True, slots=True)
class Preset:
    """One of the files."""

    name: str
    title: str
    registers: bool
    """Whether accounts register there; where they do not, open a line."""
    unmet: tuple[str, ...]
    """Demands that this version cannot meet; not empty: expect calls to fail where they are insisted on."""
    account: Mapping[str, Any]
    """Fields of an account."""


def preset_names() -> tuple[str, ...]:
    """All there are."""
    files = resources.files(__name__).iterdir()
    return tuple(sorted(each.name.removesuffix(".toml") for each in files if each.name.endswith(".toml")))


@cache
def preset(name: str) -> Preset:
    """A preset by its name.

    Raises:
        InvalidRequest: there is none of that name.
    """
    if name not in preset_names():
        raise InvalidRequest(f"preset: {name[:40]!r} is not one of {', '.join(preset_names())}", field="preset")
    table = tomllib.loads((resources.files(__name__) / f"{name}.toml").read_text("utf-8"))
    return Preset(
        name, table["title"], table["registers"], tuple(table.get("unmet", ())), account_fields(table["account"])
    )


def account_fields(table: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of an :class:`~sipcore.config.Account` from a TOML table.

    Lists become tuples, tables of headers pairs; the fields of :class:`~sipcore.config.CallPolicy` stand among the
    others. ``preset`` names where the rest comes from.

    Raises:
        InvalidRequest: a key that is none, or a value of another type.
    """
    found: dict[str, Any] = dict(preset(str(table["preset"])).account) if "preset" in table else {}
    policy: dict[str, Any] = {}
    for key, value in table.items():
        if key in _POLICY:
            policy[key] = _checked(key, value, _POLICY[key])
        elif key in _DEFAULTS:
            found[key] = _checked(key, value, _DEFAULTS[key])
        elif key != "preset":
            raise InvalidRequest(f"{key}: there is no such field of an account", field=key)
    if policy:
        found["calls"] = replace(found.get("calls", CallPolicy()), **policy)
    return found


def _checked(key: str, value: Any, default: Any) -> Any:
    if key.endswith("_headers"):
        if not isinstance(value, Mapping) or not all(isinstance(each, str) for each in value.values()):
            raise InvalidRequest(f"{key}: must be a table of names and strings", field=key)
        return tuple(value.items())
    if isinstance(default, tuple):
        if not isinstance(value, (list, tuple)) or not all(isinstance(each, str) for each in value):
            raise InvalidRequest(f"{key}: must be a list of strings", field=key)
        return tuple(value)
    if type(value) is not type(default):
        raise InvalidRequest(f"{key}: must be of type {type(default).__name__}", field=key)
    return value


_SAMPLE = Account("nobody@account.invalid", accept_from=())
_DEFAULTS = {
    each.name: getattr(_SAMPLE, each.name) for each in fields(Account) if each.name not in ("address", "calls")
}
_POLICY = {each.name: getattr(_SAMPLE.calls, each.name) for each in fields(CallPolicy)}
