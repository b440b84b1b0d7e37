"""Which account, session or call a request is about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.v1.errors import AccountNotFound, AmbiguousCall, CallNotFound, SessionNotFound
from sipcore.errors import InvalidRequest
from sipcore.protocol.addresses import parse_account

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.accounts import Accounts
    from service.line import Line
    from service.ongoing import OngoingCall

__all__ = ["Found", "find_account", "find_call", "find_session", "keys_of"]


@dataclass(frozen=True, slots=True)
class Found:
    """A call and whose it is."""

    line: Line
    call: OngoingCall

    @property
    def is_consultation(self) -> bool:
        """Whether only this service knows it."""
        return bool(self.call.consultation_for)


def find_account(accounts: Accounts, name: str) -> Line:
    """The account called ``name``.

    Raises:
        InvalidAddress: that is no name of an account.
        AccountNotFound: there is none such.
    """
    line = accounts.find(name, field="account")
    if line is None:
        raise AccountNotFound(f"{name} was never registered at this server, or was removed")
    return line


def find_session(accounts: Accounts, name: str) -> Line:
    """The account called ``name``, with an open session.

    Raises:
        InvalidAddress: that is no name of an account.
        AccountNotFound, SessionNotFound: there is none such.
    """
    line = find_account(accounts, name)
    if not line.session_open:
        raise SessionNotFound(f"No session is open for {name}")
    return line


def find_call(accounts: Accounts, call_id: str, account: str | None) -> Found:
    """The call that is not over.

    Args:
        accounts: all of the server's.
        call_id: its id.
        account: whose it is; None: anybody's.

    Raises:
        InvalidRequest: no ``call_id``, or ``account`` is no name of an account.
        CallNotFound: there is none such.
        AmbiguousCall: several accounts have one.
    """
    if not call_id:
        raise InvalidRequest("call_id: it is empty", field="call_id")
    lines: Sequence[Line] = accounts.lines
    if account is not None:
        line = accounts.find(account, field="x-sip-account")
        lines = [line] if line is not None else []
    found = [Found(line, call) for line in lines for call in line.calls if call.identity.call_id == call_id]
    if not found:
        raise CallNotFound(f"There is no call {call_id}, or it is over")
    if len(found) > 1:
        raise AmbiguousCall(f"{len(found)} calls have the id {call_id}: say whose in the metadata x-sip-account")
    return found[0]


def keys_of(names: Sequence[str]) -> frozenset[str]:
    """The keys of accounts that need not be registered yet.

    Raises:
        InvalidAddress: one is no name of an account.
    """
    return frozenset(parse_account(name, field=f"accounts[{index}]").key for index, name in enumerate(names))
