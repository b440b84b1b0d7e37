"""Header fields in order, known by any of their names (RFC 3261 §7.3, §20).

The one door to :mod:`sipmessage`: its table of compact names is used here. Its ``Message.parse`` and typed accessors
are not: they refuse folded headers, ``Contact: *``, white space before a colon, hosts such as ``pbx1`` and status lines
without a reason, and they spell parameters anew, while a user agent must echo what its peer wrote. In the tests it
reads what :func:`~sipcore.protocol.wire.serialize` writes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeVar

from sipmessage.message import COMPACT_FORMS

__all__ = ["Headers", "canonical_name"]

_TOKEN = re.compile(r"[A-Za-z0-9\-.!%*_+`'~]+\Z")
_CANONICAL = {name.lower(): name for name in COMPACT_FORMS.values()} | {
    name.lower(): name
    for name in (
        "Accept",
        "Allow",
        "Authorization",
        "CSeq",
        "Expires",
        "Max-Forwards",
        "Min-Expires",
        "P-Asserted-Identity",
        "Proxy-Authenticate",
        "Proxy-Authorization",
        "Reason",
        "Record-Route",
        "Require",
        "Retry-After",
        "Route",
        "Server",
        "Subscription-State",
        "Unsupported",
        "User-Agent",
        "WWW-Authenticate",
        "Warning",
    )
}
_COMPACT = {short: long.lower() for short, long in COMPACT_FORMS.items()}
_NAMES = {spelling: (name.lower(), name) for name in _CANONICAL.values() for spelling in (name, name.lower())} | {
    short: (long.lower(), long) for short, long in COMPACT_FORMS.items()
}
"""Names in their usual spelling to key and canonical name; others take the long way."""
_SINGLE = frozenset({"from", "to", "call-id", "cseq", "max-forwards", "content-length"})
T = TypeVar("T")


def canonical_name(name: str) -> str:
    """A name as it is usually spelled; unknown ones as they came."""
    key = Headers.key(name)
    return _CANONICAL.get(key, name)


class Headers:
    """Header fields in order: a multi-map that ignores case and knows the compact names."""

    __slots__ = ("_cache", "_first", "_items")

    def __init__(self) -> None:
        self._items: list[tuple[str, str, str]] = []
        """Key in lower case, name as written, value."""
        self._first: dict[str, str] = {}
        """The first value by key: most names are asked for more often than they are there."""
        self._cache: dict[str, object] = {}
        """Typed values by key."""

    @staticmethod
    def key(name: str) -> str:
        """The long name in lower case."""
        known = _NAMES.get(name)
        if known is not None:
            return known[0]
        lower = name.lower()
        return _COMPACT.get(lower, lower)

    def get(self, name: str, default: str | None = None) -> str | None:
        """The first value."""
        usual = _NAMES.get(name)
        return self._first.get(usual[0] if usual is not None else self.key(name), default)

    def get_all(self, name: str) -> list[str]:
        """All values, one per line of the message."""
        key = self.key(name)
        return [value for known, _, value in self._items if known == key] if key in self._first else []

    def fill(self, lines: list[str]) -> str:
        """Appends lines as they came. Returns what is wrong with them; empty if nothing is."""
        items, first = self._items, self._first
        defect = ""
        for line in lines:
            name, colon, value = line.partition(":")
            known = _NAMES.get(name)
            if known is None:
                name = name.rstrip()
                if not colon or not _TOKEN.match(name):
                    defect = defect or "a header line without a name"
                    continue
                key = self.key(name)
                known = (key, _CANONICAL.get(key, name))
            key, name = known
            value = value.strip()
            items.append((key, name, value))
            if first.setdefault(key, value) != value and key in _SINGLE:
                defect = f"{name} more than once"
        return defect

    def add(self, name: str, value: str) -> None:
        """Appends a line."""
        usual = _NAMES.get(name)
        if usual is None:
            key = self.key(name)
            usual = (key, _CANONICAL.get(key, name))
        self._items.append((*usual, value))
        self._first.setdefault(usual[0], value)
        if self._cache:
            self._cache.pop(usual[0], None)

    def prepend(self, name: str, value: str) -> None:
        """Puts a line before all others."""
        key = self.key(name)
        self._items.insert(0, (key, _CANONICAL.get(key, name), value))
        self._first[key] = value
        self._cache.pop(key, None)

    def set(self, name: str, value: str) -> None:
        """Replaces all lines of a name by one, at the place of the first."""
        key = self.key(name)
        for position, (known, _, _) in enumerate(self._items):
            if known == key:
                rest = [item for item in self._items[position + 1 :] if item[0] != key]
                self._items[position:] = [(key, _CANONICAL.get(key, name), value), *rest]
                self._first[key] = value
                self._cache.pop(key, None)
                return
        self.add(name, value)

    def replace_first(self, name: str, value: str) -> None:
        """Replaces the first line of a name, which must be there."""
        key = self.key(name)
        position = next(index for index, item in enumerate(self._items) if item[0] == key)
        self._items[position] = (key, self._items[position][1], value)
        self._first[key] = value
        self._cache.pop(key, None)

    def remove(self, name: str) -> None:
        """Removes all lines of a name."""
        key = self.key(name)
        self._items = [item for item in self._items if item[0] != key]
        self._first.pop(key, None)
        self._cache.pop(key, None)

    @property
    def lines(self) -> Sequence[tuple[str, str, str]]:
        """Key, name and value of each line; not to be changed."""
        return self._items

    def items(self) -> list[tuple[str, str]]:
        """Name and value of each line."""
        return [(name, value) for _, name, value in self._items]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name) is not None

    def __len__(self) -> int:
        return len(self._items)

    def copy(self) -> Headers:
        """An independent copy."""
        clone = Headers()
        clone._items, clone._first, clone._cache = self._items.copy(), self._first.copy(), self._cache.copy()
        return clone

    def cached(self, name: str, value: T) -> T:
        """Remembers the typed value of a header until one of its lines changes."""
        self._cache[name] = value
        return value

    def recall(self, name: str) -> object | None:
        """A typed value remembered by :meth:`cached`."""
        return self._cache.get(name)
