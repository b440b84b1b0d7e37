"""Telephone numbers as they are dialled, and as the world writes them (ITU-T E.164, RFC 3966 §5.1.4)."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["DialPlan"]

_DIGITS = re.compile(r"\+?[0-9]+\Z")
_NUMBER = re.compile(r"[+(]?[0-9][0-9\s.()\-/]*\Z")
_SEPARATORS = re.compile(r"[\s.()\-/]")
SHORTEST = 3
"""Digits behind a prefix that make a number of it."""
NORTH_AMERICAN = 10
"""Digits of a number in country code 1, which is also dialled without any prefix."""


@dataclass(frozen=True, slots=True)
class DialPlan:
    """How numbers are dialled where the account is at home. Without a country code they are left as they are."""

    country_code: str = ""
    national_prefix: str = "0"
    """Dialled before an area code; empty in countries that have none."""
    international_prefix: str = "00"

    def e164(self, number: str) -> str:
        """``+`` and the country code, where the number says or implies it; short codes, and what is not plainly a
        number, come back as they are."""
        digits = _SEPARATORS.sub("", number)
        if not self.country_code or not _NUMBER.match(number.strip()) or not _DIGITS.match(digits):
            return number
        if digits.startswith("+"):
            return digits
        for prefix, instead in ((self.international_prefix, ""), (self.national_prefix, self.country_code)):
            if prefix and digits.startswith(prefix) and len(digits) >= len(prefix) + SHORTEST:
                return f"+{instead}{digits.removeprefix(prefix)}"
        if self.country_code == "1" and len(digits) == NORTH_AMERICAN:
            return f"+1{digits}"
        return number

    def expanded(self, to: str) -> str:
        """A callee as somebody wrote it, a bare number as E.164; whatever names a host or a scheme is left alone."""
        return to if "@" in to or ":" in to else self.e164(to)
