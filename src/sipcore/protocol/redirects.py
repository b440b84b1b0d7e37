"""Where a call goes on that was redirected (RFC 3261 §8.1.3.4, §21.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sipcore.protocol.values import NameAddr, Uri
    from sipcore.protocol.wire import Response

__all__ = ["FOLLOWED", "Redirects"]

FOLLOWED = (300, 301, 302, 380)
"""305 names a proxy to go through, which would let any far end choose who hears the call."""
MAX_CONTACTS = 32
"""Contact values read from one response."""


class Redirects:
    """The addresses that 3xx responses to one call have named: each is tried once, the best first.

    Args:
        first: what was called.
        most: how many others may be tried in all.
    """

    def __init__(self, first: Uri, most: int) -> None:
        self._secure = first.scheme == "sips"
        self._left = most
        self._known = {_key(first)}
        self._waiting: list[Uri] = []

    def add(self, response: Response) -> None:
        """Takes the contacts of a 3xx, to be tried before those of an earlier one.

        Left out: addresses tried before (a loop), other schemes than sip, sips and tel, and what is not sips where
        the call was (§26.2.2).
        """
        if response.status not in FOLLOWED:
            return
        # sorted() keeps the order of those that are equally good.
        best_first = sorted(response.contacts[:MAX_CONTACTS], key=_q, reverse=True)
        schemes = ("sips",) if self._secure else ("sip", "sips", "tel")
        found = [contact.uri.without_headers() for contact in best_first if contact.uri.scheme in schemes]
        self._waiting = [*found, *self._waiting]

    def next(self) -> Uri | None:
        """The next address to try; None where there is none, or enough were tried."""
        while self._waiting and self._left > 0:
            uri = self._waiting.pop(0)
            if _key(uri) not in self._known:
                self._known.add(_key(uri))
                self._left -= 1
                return uri
        return None


def _key(uri: Uri) -> tuple[str, str, str, int | None, str]:
    """Equal for addresses that lead to the same place (§19.1.4, without what has no influence on that)."""
    transport = (uri.parameters.get("transport") or "").lower()
    return (uri.scheme, uri.user or "", uri.host.lower(), uri.port, transport)


def _q(contact: NameAddr) -> float:
    """The preference of a contact (§20.10); 1 where none is written, as most redirect servers mean it."""
    value = contact.params.get("q")
    if value is None:
        return 1.0
    try:
        return min(max(float(value), 0.0), 1.0)
    except ValueError:
        return 0.0
