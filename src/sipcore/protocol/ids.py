"""Random names (RFC 3261 §8.1.1.4, §8.1.1.7, §19.3), from one generator so that a seed repeats a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random

__all__ = ["MAGIC_COOKIE", "Ids", "has_cookie"]

MAGIC_COOKIE = "z9hG4bK"
"""Marks branches that are unique across transactions (§8.1.1.7)."""
_COOKIES = (MAGIC_COOKIE, MAGIC_COOKIE.lower(), MAGIC_COOKIE.upper())
"""RFC 4475 §3.1.1.1: tokens ignore case, so it may come in another one."""


def has_cookie(branch: str) -> bool:
    """Whether a branch is unique; a bare cookie (RFC 4475 §3.2.1) is not."""
    return len(branch) > len(MAGIC_COOKIE) and branch.startswith(_COOKIES)


class Ids:
    """Draws tags, branches and the like. They are hard to guess when ``rng`` is a ``random.SystemRandom``."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def _hex(self, bits: int) -> str:
        return f"{self._rng.getrandbits(bits):0{bits // 4}x}"

    def branch(self) -> str:
        """A Via branch."""
        return MAGIC_COOKIE + self._hex(80)

    def tag(self) -> str:
        """A From or To tag, 64 bits (§19.3 asks for 32)."""
        return self._hex(64)

    def call_id(self, host: str = "") -> str:
        """A Call-ID."""
        return self._hex(128) + (f"@{host}" if host else "")

    def cseq(self) -> int:
        """A first CSeq number, well below 2**31 so that it may rise (§8.1.1.5)."""
        return 1 + self._rng.getrandbits(16)

    def session_id(self) -> int:
        """The o= line's session id and first version (RFC 8866 §5.2)."""
        return 1 + self._rng.getrandbits(52)

    def secret(self, octets: int) -> bytes:
        """Octets that nobody shall be able to guess: a master key and salt (RFC 4568 §6.1)."""
        return self._rng.getrandbits(8 * octets).to_bytes(octets)

    def cnonce(self) -> str:
        """A client nonce (RFC 7616 §3.4)."""
        return self._hex(64)
