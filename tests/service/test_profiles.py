"""The ``[[accounts]]`` tables of the server's file."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.config import SettingsError, load_settings
from service.profiles import Profile
from sipcore.config import Account, CallPolicy

SIPGATE = """
[[accounts]]
name = "2345678e0@sipgate.de"
preset = "sipgate"
preferred_identity = "+4930123456"
invite_headers = { "X-Token" = "hush" }
"""


def profiles(tmp_path: Path, text: str) -> tuple[Profile, ...]:
    file = tmp_path / "server.toml"
    file.write_text(text)
    return load_settings({}, config=file).profiles


def test_a_table_is_applied_to_the_account_that_a_request_names(tmp_path: Path) -> None:
    (profile,) = profiles(tmp_path, SIPGATE)
    asked = Account("sip:2345678e0@sipgate.de", password="asked", expires=600)
    made = profile.applied_to(asked)
    assert profile.key == "2345678e0@sipgate.de"
    assert (made.address, made.password) == (asked.address, "asked")
    assert (made.expires, made.codecs, made.numbers) == (120, ("PCMA", "PCMU"), ("*",))
    assert made.preferred_identity == "+4930123456"
    assert made.invite_headers == (("X-Token", "hush"),)
    assert "hush" not in repr(profile) + repr(made)


def test_the_password_may_stand_in_a_file_or_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "secret"
    secret.write_text("from-file\n")
    monkeypatch.setenv("BOB", "from-env")
    one, other, third = profiles(
        tmp_path,
        f"""
[[accounts]]
name = "alice@example.com"
password_file = "{secret}"
outbound_proxy = "proxy.example.com"
[[accounts]]
name = "bob@example.com"
password_env = "BOB"
session_expires = 600
[[accounts]]
name = "carol@example.com"
""",
    )
    assert one.applied_to(Account("alice@example.com")).password == "from-file"
    assert one.applied_to(Account("alice@example.com", password="asked")).password == "asked"
    assert one.applied_to(Account("alice@example.com")).outbound_proxy == "proxy.example.com"
    assert one.applied_to(Account("alice@example.com", outbound_proxy="x.example")).outbound_proxy == "x.example"
    bob = other.applied_to(Account("bob@example.com"))
    assert (bob.password, bob.calls) == ("from-env", CallPolicy(session_expires=600))
    servers_own = CallPolicy(session_expires=900, min_se=120)
    assert other.applied_to(Account("bob@example.com", calls=servers_own)).calls == CallPolicy(600, 120)
    assert third.applied_to(Account("carol@example.com", calls=servers_own)).calls == servers_own
    assert third.applied_to(Account("carol@example.com", password="p")).password == "p"
    assert "from-" not in repr((one, other))


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('preset = "sipgate"', "table 1 needs a name"),
        ('name = "alice"', "alice: account_name: "),
        ('name = "a@b.example"\npreset = "acme"', "a@b.example: preset: 'acme' is not one of"),
        ('name = "a@b.example"\nspeed = 9', "a@b.example: speed: there is no such field"),
        ('name = "a@b.example"\nfrom_user = "x\\ny"', "a@b.example: from_user: holds a line break"),
        ('name = "a@b.example"\npassword_file = "/nowhere/at/all"', "a@b.example: password_file: /nowhere/at/all: "),
        ('name = "a@b.example"\npassword_env = "NO_SUCH_VARIABLE"', "a@b.example: password_env: the variable"),
        ('name = "a@b.example"\n[[accounts]]\nname = "sip:a@b.example"', "there is more than one table"),
    ],
)
def test_a_wrong_table_is_one_line_without_secrets(tmp_path: Path, table: str, said: str) -> None:
    with pytest.raises(SettingsError) as raised:
        profiles(tmp_path, f'[[accounts]]\npassword = "hush"\n{table}\n')
    assert said in str(raised.value)
    assert "accounts: " in str(raised.value)
    assert "hush" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_accounts_stand_in_the_file_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIPCORE_ACCOUNTS", "alice@example.com")
    with pytest.raises(SettingsError, match=r"must be \[\[accounts\]\] tables in the file"):
        load_settings({})
