"""What the server's file says about accounts: the ``[[accounts]]`` tables.

A client of the API names an account and its password; what else its provider demands stands here, by the account's
address, and is added when SipRegisterAccount names it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from sipcore.config import Account, CallPolicy
from sipcore.errors import InvalidRequest, SipError
from sipcore.presets import account_fields
from sipcore.protocol.addresses import parse_account

__all__ = ["Profile", "parse_profiles"]


@dataclass(frozen=True, slots=True)
class Profile:
    """One table."""

    key: str
    """Of the account's address."""
    fields: Mapping[str, Any] = field(repr=False)
    """What it says, as arguments of an :class:`~sipcore.config.Account`; the password may be among them."""
    policy: Mapping[str, Any] = field(default_factory=dict)
    """What it says of calls, as arguments of a :class:`~sipcore.config.CallPolicy`."""

    def applied_to(self, account: Account) -> Account:
        """The account as a request describes it, with what the table adds; what the request says wins."""
        said = {
            name: value
            for name in ("password", "auth_username", "outbound_proxy")
            if (value := getattr(account, name)) or name not in self.fields
        }
        return replace(account, **{**self.fields, **said, "calls": replace(account.calls, **self.policy)})


def parse_profiles(value: object) -> tuple[Profile, ...]:
    """The tables of a file.

    Raises:
        ValueError: one of them is wrong; the message says which, and shows no secret.
    """
    if isinstance(value, tuple):
        return value
    if not isinstance(value, list) or not all(isinstance(table, dict) for table in value):
        raise ValueError("must be [[accounts]] tables in the file")
    found: dict[str, Profile] = {}
    for number, table in enumerate(value, start=1):
        name = table.get("name")
        if not isinstance(name, str):
            raise ValueError(f"table {number} needs a name, such as alice@example.com")
        try:
            profile = _profile(name, table)
        except SipError as error:
            raise ValueError(f"{name}: {error}") from None
        if profile.key in found:
            raise ValueError(f"{name}: there is more than one table of it")
        found[profile.key] = profile
    return tuple(found.values())


def _profile(name: str, table: Mapping[str, Any]) -> Profile:
    settings = {key: value for key, value in table.items() if key not in ("name", "password_file", "password_env")}
    fields = account_fields(settings)
    if "password_file" in table:
        fields["password"] = _from_file(str(table["password_file"]))
    if "password_env" in table:
        fields["password"] = os.environ.get(str(table["password_env"]), "")
        if not fields["password"]:
            raise InvalidRequest(f"password_env: the variable {table['password_env']} is not set", field="password_env")
    Account(name, **fields)
    calls = fields.pop("calls", CallPolicy())
    # What the table does not speak of stays as the server's own settings have it.
    usual = asdict(CallPolicy())
    policy = {key: value for key, value in asdict(calls).items() if key in table or value != usual[key]}
    return Profile(parse_account(name).key, fields, policy)


def _from_file(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InvalidRequest(f"password_file: {path}: {why}", field="password_file") from None
