"""Parameters of URIs and header fields, lists, and quoted strings (RFC 3261 §7.3.1, §19.1.1, §25.1)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from urllib.parse import unquote

__all__ = ["NO_PARAMS", "Params", "legible", "quoted", "split_list", "unquoted"]

_PARAM_VALUE = re.compile(r"[A-Za-z0-9\-.!%*_+`'~\[\]/:&$]+\Z")
_QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)


def split_list(text: str, separator: str = ",") -> list[str]:
    """Splits at a separator outside of ``"…"`` and, where it is a comma, ``<…>`` (no parameter holds an address); parts
    are stripped, empty ones left out."""
    if separator not in text:
        stripped = text.strip()
        return [stripped] if stripped else []
    if '"' not in text and "<" not in text:
        return [part for raw in text.split(separator) if (part := raw.strip())]
    parts: list[str] = []
    start = 0
    quoted = angled = escaped = False
    for position, char in enumerate(text):
        if escaped:
            escaped = False
        elif quoted:
            if char == "\\":
                escaped = True
            elif char == '"':
                quoted = False
        elif char == '"':
            quoted = True
        elif char == "<":
            angled = separator == ","
        elif char == ">":
            angled = False
        elif char == separator and not angled:
            parts.append(text[start:position])
            start = position + 1
    parts.append(text[start:])
    return [part for raw in parts if (part := raw.strip())]


def unquoted(text: str) -> str:
    if len(text) >= 2 and text[0] == text[-1] == '"':
        return _QUOTED_PAIR.sub(r"\1", text[1:-1])
    return text


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


class Params(Mapping[str, "str | None"]):
    """``;name=value`` pairs: names in lower case, in order, quoted values unquoted; immutable, hashable."""

    __slots__ = ("_escaped", "_items", "_text")

    def __init__(self, items: Mapping[str, str | None] = MappingProxyType({}), *, text: str | None = None) -> None:
        self._items = {name.lower(): value for name, value in items.items()}
        self._text = text
        self._escaped = False

    @classmethod
    def parse(cls, text: str, *, escaped: bool = False) -> Params:
        """Parses ``;a=b;c``; white space around separators is fine, empty parameters are passed over.

        Args:
            escaped: ``%XX`` stands for a character, as in URIs: ``;%6C%72`` is ``;lr`` (RFC 4475 §3.1.1.3). In header
                parameters it does not.
        """
        if not text:
            return NO_PARAMS
        escaped = escaped and "%" in text
        items: dict[str, str | None] = {}
        for part in split_list(text, ";"):
            name, equals, value = part.partition("=")
            key = _param_key(name, escaped=True) if escaped else name.strip().lower()
            if key and key not in items:
                value = value.lstrip()
                if escaped:
                    value = unquote(value)
                items[key] = (unquoted(value) if value[:1] == '"' else value) if equals else None
        params = cls.__new__(cls)
        params._items, params._text, params._escaped = items, text, escaped  # noqa: SLF001 - same class
        return params

    def __getitem__(self, name: str) -> str | None:
        return self._items[name.lower()]

    def get(self, name: str, default: str | None = None) -> str | None:  # type: ignore[override]
        """As of any mapping, without the exception that the inherited one makes and catches."""
        return self._items.get(name.lower(), default)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._items

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __eq__(self, other: object) -> bool:
        return self._items == other._items if isinstance(other, Params) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self._items.items()))

    def __repr__(self) -> str:
        return f"Params({self._items})"

    def with_(self, **changes: str | None) -> Params:
        """A copy with parameters set; underscores in names become hyphens. The rest keeps its spelling."""
        renamed = {name.replace("_", "-"): value for name, value in changes.items()}
        kept = self if self._items.keys().isdisjoint(renamed) else self.without(*renamed)
        text = str(kept) + "".join([_spelled(name, value) for name, value in renamed.items()])
        return self._of({**kept._items, **renamed}, text)  # noqa: SLF001 - same class

    def without(self, *names: str) -> Params:
        """A copy that lacks parameters. The rest keeps its spelling."""
        items = {name: value for name, value in self._items.items() if name not in names}
        if self._text is None:
            return Params(items)
        parts = split_list(self._text, ";")
        kept = (part for part in parts if _param_key(part.partition("=")[0], escaped=self._escaped) not in names)
        return self._of(items, "".join(f";{part}" for part in kept))

    def _of(self, items: Mapping[str, str | None], text: str) -> Params:
        params = Params(items, text=text)
        params._escaped = self._escaped
        return params

    def __str__(self) -> str:
        if self._text is not None:
            return self._text
        return "".join(_spelled(name, value) for name, value in self._items.items())


def _param_key(name: str, *, escaped: bool) -> str:
    return (unquote(name) if escaped else name).strip().lower()


def _spelled(name: str, value: str | None) -> str:
    if value is None:
        return f";{name}"
    return f";{name}={value if _PARAM_VALUE.match(value) else quoted(value)}"


NO_PARAMS = Params(text="")


def legible(text: str) -> str:
    """What a peer wrote, for people and for what takes Unicode alone (protobuf, SQLite).

    Bytes that are not UTF-8, which :mod:`sipcore.protocol.wire` keeps as lone surrogates, become U+FFFD.
    """
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
