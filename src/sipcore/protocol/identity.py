"""Who a call says it is from, as a provider demands it (RFC 3261 §8.1.1.3, RFC 3323, RFC 3325, RFC 5806).

Providers look for the caller in different places: one wants its customer number as From user and the telephone number
in P-Preferred-Identity, the next the other way round. An account says once how it is done; a call may say otherwise.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from sipcore.errors import InvalidAddress, InvalidHeader, InvalidRequest
from sipcore.protocol.addresses import escaped_user, parse_account, parse_callee
from sipcore.protocol.builder import check_extension_headers
from sipcore.protocol.offer_answer import CODECS
from sipcore.protocol.values import MalformedValue, NameAddr, Uri
from sipcore.protocol.wire import Headers

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sipcore.config import Account
    from sipcore.protocol.addresses import AccountAddress

__all__ = ["ACCOUNT_ITSELF", "Caller", "check_account", "from_value", "identity_headers", "is_anonymous"]

PRIVACY = ("none", "id", "header", "session", "user", "critical", "history")
"""RFC 3323 §4.2, RFC 3325 §9.3, RFC 7044 §10.1."""
ANONYMOUS = '"Anonymous" <sip:anonymous@anonymous.invalid>'
"""RFC 3323 §4.1.1.3."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_HEADERS = ("invite_headers", "register_headers")


def _check_text(name: str, value: str) -> None:
    if _CONTROL.search(value):
        raise InvalidRequest(f"{name}: holds a line break or another control character", field=name)


def _check_privacy(tokens: Iterable[str]) -> None:
    if isinstance(tokens, str):
        raise InvalidRequest("privacy: must be a list of tokens, not one string", field="privacy")
    for token in tokens:
        if token not in PRIVACY:
            raise InvalidRequest(f"privacy: {token[:40]!r} is not one of {', '.join(PRIVACY)}", field="privacy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """What one call says otherwise than its account. None: as the account has it.

    Raises:
        InvalidRequest: a value is wrong; ``field`` names it.
    """

    from_user: str | None = None
    display_name: str | None = None
    privacy: tuple[str, ...] | None = None
    anonymous: bool | None = None

    def __post_init__(self) -> None:
        for name in ("from_user", "display_name"):
            _check_text(name, getattr(self, name) or "")
        _check_privacy(self.privacy or ())


ACCOUNT_ITSELF = Caller()


def check_account(account: Account) -> None:
    """Whether all that an account says of itself can be sent.

    Raises:
        InvalidRequest: it cannot; ``field`` names what is wrong.
    """
    for each in fields(account):
        value = getattr(account, each.name)
        if isinstance(value, str) and each.name != "password":
            _check_text(each.name, value)
    address = parse_account(account.address)
    if account.from_domain:
        parse_account(f"x@{account.from_domain}", field="from_domain")
    for name in ("preferred_identity", "asserted_identity", "diversion"):
        if getattr(account, name):
            _name_addr(getattr(account, name), address, name)
    _check_privacy(account.privacy)
    for name in _HEADERS:
        try:
            check_extension_headers(dict(getattr(account, name)), field=name)
        except (TypeError, ValueError) as error:
            if isinstance(error, InvalidHeader):
                raise
            raise InvalidRequest(f"{name}: must be pairs of a name and a value", field=name) from None
    unknown = [codec for codec in account.codecs if codec not in CODECS]
    if unknown or len(set(account.codecs)) < len(account.codecs):
        raise InvalidRequest(f"codecs: must name each of {', '.join(CODECS)} once at most", field="codecs")
    if account.transport not in ("", "udp", "tcp", "tls"):
        raise InvalidRequest(f"transport: {account.transport!r} is not one of udp, tcp, tls", field="transport")
    for name in ("country_code", "national_prefix", "international_prefix"):
        value = getattr(account, name)
        if value and not (value.isascii() and value.isdigit() and len(value) <= 8):
            raise InvalidRequest(f"{name}: must be digits, not {value[:20]!r}", field=name)


def from_value(account: Account, address: AccountAddress, caller: Caller = ACCOUNT_ITSELF) -> str:
    """From without its tag (RFC 3261 §8.1.1.3), anonymous where that is asked for (RFC 3323 §4.1.1.3)."""
    if is_anonymous(account, caller):
        return ANONYMOUS
    user = account.from_user if caller.from_user is None else caller.from_user
    name = account.display_name if caller.display_name is None else caller.display_name
    aor = address.aor
    if account.from_domain:
        there = parse_account(f"x@{account.from_domain}", field="from_domain")
        aor = Uri(aor.scheme, aor.user, there.host, there.port)
    uri = Uri(aor.scheme, escaped_user(user) if user else aor.user, aor.host, aor.port)
    return str(NameAddr(uri, name))


def identity_headers(
    account: Account,
    address: AccountAddress,
    given: Sequence[tuple[str, str]],
    caller: Caller = ACCOUNT_ITSELF,
) -> tuple[tuple[str, str], ...]:
    """Header fields of an INVITE beside From: those ``given`` for the call win over the account's of the same name."""
    own: list[tuple[str, str]] = []
    for header, name in (
        ("P-Preferred-Identity", "preferred_identity"),
        ("P-Asserted-Identity", "asserted_identity"),
        ("Diversion", "diversion"),
    ):
        text = getattr(account, name)
        if text:
            own.append((header, _name_addr(text, address, name)))
    privacy = account.privacy if caller.privacy is None else caller.privacy
    if not privacy and is_anonymous(account, caller):
        privacy = ("id",)
    if privacy:
        # RFC 3323 §4.2: the tokens are separated by semicolons.
        own.append(("Privacy", ";".join(privacy)))
    own += account.invite_headers
    named = {Headers.key(name) for name, _ in given}
    return (*given, *(pair for pair in own if Headers.key(pair[0]) not in named))


def is_anonymous(account: Account, caller: Caller = ACCOUNT_ITSELF) -> bool:
    """Whether a call hides who it is from."""
    return account.anonymous if caller.anonymous is None else caller.anonymous


def _name_addr(text: str, address: AccountAddress, field: str) -> str:
    """An identity as people write it, for its header field: ``"Name" <uri>;parameters`` as it is, else as a callee."""
    if "<" not in text:
        uri = parse_callee(text, address, field=field)
        return f"<{uri}>" + (";reason=unconditional" if field == "diversion" else "")
    try:
        parsed = NameAddr.parse(text)
    except MalformedValue as error:
        raise InvalidAddress(f"{field}: {text[:80]!a} is not an address: {error}", field=field) from None
    if parsed.uri.scheme not in ("sip", "sips", "tel"):
        raise InvalidAddress(f"{field}: {text[:80]!a} is no sip:, sips: or tel: address", field=field)
    return text.strip()
