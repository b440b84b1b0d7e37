"""Keys for SRTP in offers and answers: SDES (RFC 4568), AES-GCM (RFC 7714 §14.2), opportunistic SRTP (RFC 8643).

Each side names the key that it sends with. Where encryption is required, offers are for RTP/SAVP; where it is optional,
they are for RTP/AVP with keys (RFC 8643 §3.1), which a far end without SRTP takes as a plain offer: two media sections
for one stream (RFC 3264 §5.1 has them be two streams) confuse more far ends than they serve. A far end that insists on
RTP/SAVP refuses that with 488, and is offered RTP/SAVP then, once. Answers keep the offer's
profile, tag and suite. A key stays as long as a session does, unless another suite is agreed on: a hold, a resume or a
refresh changes nothing.

Left out: several keys in one attribute (such an attribute is passed over), keys of ours with an MKI or a lifetime, and
session parameters that weaken the protection (UNENCRYPTED_SRTP, UNENCRYPTED_SRTCP, UNAUTHENTICATED_SRTP) or that this
side has not (KDR, FEC_ORDER, FEC_KEY).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from sipcore.errors import MediaNotAcceptable

if TYPE_CHECKING:
    from sipcore.protocol.ids import Ids
    from sipcore.protocol.sdp import MediaDescription

__all__ = ["SUITES", "Crypto", "Protection", "SrtpKey", "SrtpKeys", "SrtpUse", "cryptos_of"]

SrtpUse = Literal["forbidden", "optional", "required"]

SUITES: Mapping[str, int] = MappingProxyType(
    {"AES_CM_128_HMAC_SHA1_80": 30, "AEAD_AES_128_GCM": 28, "AES_CM_128_HMAC_SHA1_32": 30}
)
"""Suites in the order they are offered in, and the octets of master key and salt. The first is the one that everybody
has (RFC 4568 §6.2.1 makes it mandatory); the last has short tags, for far ends that have nothing else."""

PLAIN, SECURE = "RTP/AVP", "RTP/SAVP"
PROFILES = (PLAIN, SECURE)
LONGEST_MKI = 128
_CRYPTO = re.compile(r"([0-9]{1,9})[ \t]+([A-Za-z0-9_]{1,64})[ \t]+inline:([^ \t]{1,512})((?:[ \t]+\S+)*)", re.ASCII)
_KEY = re.compile(r"([A-Za-z0-9+/]+={0,2})(?:\|(?:2\^)?[0-9]{1,15})?(?:\|([0-9]{1,40}):([0-9]{1,3}))?", re.ASCII)
_HINT = re.compile(r"WSH=[0-9]{2,}", re.ASCII)


@dataclass(frozen=True, slots=True)
class SrtpKey:
    """What one side encrypts with."""

    suite: str
    material: bytes = field(repr=False)
    """Master key, then master salt."""
    mki: bytes = b""
    """Stands in each of its packets (RFC 3711 §3.1); empty: none does."""


@dataclass(frozen=True, slots=True)
class SrtpKeys:
    """What both sides of a stream encrypt with, in one suite."""

    local: SrtpKey
    remote: SrtpKey

    @property
    def suite(self) -> str:
        """The name of the suite."""
        return self.local.suite


@dataclass(frozen=True, slots=True)
class Crypto:
    """One ``a=crypto``."""

    tag: int
    key: SrtpKey

    def line(self) -> tuple[str, str]:
        """The attribute; it holds the key."""
        inline = base64.b64encode(self.key.material).decode()
        return "crypto", f"{self.tag} {self.key.suite} inline:{inline}"


def cryptos_of(media: MediaDescription) -> list[Crypto]:
    """The keys of a media section that can be used, in its order; what is malformed or unknown is passed over."""
    values = (value for name, value in media.attributes if name == "crypto")
    return [crypto for crypto in map(_parsed, values) if crypto is not None]


def _parsed(value: str) -> Crypto | None:
    found = _CRYPTO.fullmatch(value)
    octets = SUITES.get(found[2].upper()) if found is not None else None
    key = _KEY.fullmatch(found[3]) if found is not None else None
    if found is None or octets is None or key is None or not all(map(_may_pass, found[4].split())):
        return None
    text = key[1].rstrip("=")
    try:
        material = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        return None
    length = int(key[3] or 0)
    if len(material) != octets or length > LONGEST_MKI or (key[3] and not length):
        return None
    try:
        mki = int(key[2] or 0).to_bytes(length)
    except OverflowError:
        return None
    return Crypto(int(found[1]), SrtpKey(found[2].upper(), material, mki))


def _may_pass(parameter: str) -> bool:
    """Session parameters that need not be understood: a hint, and those marked as such (RFC 4568 §6.3.7, §9.2)."""
    return parameter.startswith("-") or _HINT.fullmatch(parameter.upper()) is not None


@dataclass(frozen=True, slots=True)
class Protection:
    """What one side of a session has said of encryption, and will say again. A value: each step gives a new one."""

    use: SrtpUse
    profile: str = PLAIN
    """Of the media section."""
    own: tuple[Crypto, ...] | None = None
    """This side's keys, as offered or as agreed on; None before either."""

    @classmethod
    def wanted(cls, use: SrtpUse, *, secure: bool = False) -> Protection:
        """At the beginning of a session; ``secure``: offers are for RTP/SAVP also where encryption is optional."""
        return cls(use, SECURE if use == "required" or (secure and use == "optional") else PLAIN)

    def offered(self, ids: Ids) -> Protection:
        """What an offer says: what was said before, else a new key for each suite."""
        if self.own is not None:
            return self
        suites = () if self.use == "forbidden" else tuple(SUITES)
        return replace(self, own=tuple(Crypto(tag, _new(suite, ids)) for tag, suite in enumerate(suites, start=1)))

    def lines(self) -> list[tuple[str, str]]:
        """The attributes of an offer or answer."""
        return [crypto.line() for crypto in self.own or ()]

    def chosen(self, audio: MediaDescription, ids: Ids) -> tuple[Protection, SrtpKeys | None] | None:
        """How an offered section is answered: by its first key of a known suite (RFC 4568 §5.1.2), or in the clear.

        None: not at all, by this side's setting.
        """
        profile = audio.protocol.upper()
        if profile not in PROFILES:
            return None
        theirs = next(iter(cryptos_of(audio)), None) if self.use != "forbidden" else None
        if theirs is not None:
            suite = theirs.key.suite
            ours = next((each.key for each in self.own or () if each.key.suite == suite), None) or _new(suite, ids)
            return Protection(self.use, profile, (Crypto(theirs.tag, ours),)), SrtpKeys(ours, theirs.key)
        if profile == SECURE or self.use == "required":
            return None
        return Protection(self.use, profile, ()), None

    def refusal(self, audio: MediaDescription) -> str:
        """Why :meth:`chosen` was None, for people."""
        profile = audio.protocol.upper()
        if profile not in PROFILES:
            return "the offer has no audio that this side can take (RTP/AVP or RTP/SAVP)"
        if self.use == "forbidden":
            return "the offer wants SRTP, which is switched off here"
        if audio.attribute("crypto") is not None or profile == SECURE:
            return "the offer has no SRTP key of a suite and with parameters that this side takes"
        return "SRTP is required here, and the offer has none"

    def answered(self, audio: MediaDescription) -> tuple[Protection, SrtpKeys | None]:
        """What the answer to our offer agrees on (RFC 4568 §5.1.3).

        Raises:
            MediaNotAcceptable: not what was offered, or not what this side's setting asks for.
        """
        profile = audio.protocol.upper()
        offered = {each.tag: each for each in self.own or ()}
        for theirs in cryptos_of(audio):
            ours = offered.get(theirs.tag)
            # RTP/SAVP in answer to RTP/AVP with keys is wrong, and says clearly enough what is meant.
            if ours is not None and ours.key.suite == theirs.key.suite and profile in (self.profile, SECURE):
                return replace(self, profile=profile), SrtpKeys(ours.key, theirs.key)
        if profile != self.profile:
            raise MediaNotAcceptable(f"the answer is for {profile[:20]}, the offer was for {self.profile}", code=488)
        if profile == SECURE or self.use == "required":
            raise MediaNotAcceptable("the answer has no SRTP key that belongs to one that was offered", code=488)
        if offered and audio.attribute("crypto") is not None:
            raise MediaNotAcceptable("the answer has an SRTP key that belongs to none that was offered", code=488)
        return self, None


def _new(suite: str, ids: Ids) -> SrtpKey:
    return SrtpKey(suite, ids.secret(SUITES[suite]))
