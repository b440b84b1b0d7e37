"""SRTP and SRTCP (RFC 3711, RFC 7714) by libsrtp: what one stream encrypts and opens.

A key has one context for as long as the stream knows it, since a rollover counter that began anew under the same key
would repeat a keystream (RFC 3711 §9.1). What comes is opened with the far end's present key and, for a moment after it
has changed, with the one before. libsrtp follows each SSRC by itself; of a far end that keeps changing it, the latest
are remembered.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from rtp.datagrams import Datagrams
    from rtp.receive import Routes
    from rtp.statistics import Counters

__all__ = ["Cipher", "MasterKey", "Refusal", "open_report", "open_round"]

PROFILES = {
    "AES_CM_128_HMAC_SHA1_80": "SRTP_PROFILE_AES128_CM_SHA1_80",
    "AES_CM_128_HMAC_SHA1_32": "SRTP_PROFILE_AES128_CM_SHA1_32",
    "AEAD_AES_128_GCM": "SRTP_PROFILE_AEAD_AES_128_GCM",
}
TAGS = {"AES_CM_128_HMAC_SHA1_80": (10, 10), "AES_CM_128_HMAC_SHA1_32": (4, 10), "AEAD_AES_128_GCM": (0, 0)}
"""Octets behind an MKI, in SRTP and in SRTCP; of GCM, the tag stands before it (RFC 7714 §8.2, §9.2)."""
WINDOW = 1024
"""Packets that may come before an earlier one without that being taken for a replay: 20 s."""
GRACE = 100
"""Packets under a new key of the far end, before the one before is forgotten."""
MOST_KEYS = 4
MOST_SOURCES = 16
FIRST_CONTROL, LAST_CONTROL = 192, 223
"""Second bytes that tell RTCP from RTP on one port (RFC 5761 §4)."""


@cache
def _library() -> Any:
    """pylibsrtp, loaded when the first call needs it.

    Raises:
        ValueError: it is not installed.
    """
    try:
        return importlib.import_module("pylibsrtp")
    except ImportError:
        raise ValueError("SRTP needs pylibsrtp") from None


@dataclass(frozen=True, slots=True)
class MasterKey:
    """What one side encrypts with."""

    suite: str
    """As RFC 4568 and RFC 7714 name it."""
    material: bytes = field(repr=False)
    """Master key, then master salt."""
    mki: bytes = b""
    """Stands in each packet of its side; empty: none does."""


class Refusal(Enum):
    """Why a packet cannot be opened."""

    UNAUTHENTICATED = "unauthenticated"
    REPLAYED = "replayed"


def _session(key: MasterKey, direction: str) -> Any:
    """A context of libsrtp.

    Raises:
        ValueError: the suite is unknown, or the key is not one of it.
    """
    library = _library()
    if key.suite not in PROFILES:
        raise ValueError(f"{key.suite} is no SRTP suite that the engine knows")
    try:
        policy = library.Policy(
            key=key.material,
            ssrc_type=getattr(library.Policy, direction),
            srtp_profile=getattr(library.Policy, PROFILES[key.suite]),
        )
        policy.window_size = WINDOW
        return library.Session(policy)
    except library.Error as error:
        raise ValueError(f"no SRTP by {key.suite}: {error}") from None


class _Opener:
    """Opens what the far end encrypts with one key."""

    def __init__(self, key: MasterKey) -> None:
        self.key = key
        self._session = _session(key, "SSRC_ANY_INBOUND")
        self._refused: tuple[type[Exception], ...] = (_library().Error, ValueError)
        self._sources: dict[int, None] = {}

    def open(self, packet: bytes, *, report: bool) -> bytes | Refusal:
        """The packet in the clear."""
        bare = self._without_mki(packet, report=report) if self.key.mki else packet
        try:
            opened: bytes = self._session.unprotect_rtcp(bare) if report else self._session.unprotect(bare)
        except self._refused as error:
            return Refusal.REPLAYED if "replay" in str(error) else Refusal.UNAUTHENTICATED
        ssrc = int.from_bytes(packet[4:8] if report else packet[8:12])
        if ssrc not in self._sources:
            self._remember(ssrc)
        return opened

    def _without_mki(self, packet: bytes, *, report: bool) -> bytes:
        """RFC 3711 §3.1, §3.4: it stands before the tag, and is not authenticated. Empty where it is another."""
        mki, behind = self.key.mki, TAGS[self.key.suite][report]
        end = len(packet) - behind
        return packet[: end - len(mki)] + packet[end:] if packet[end - len(mki) : end] == mki else b""

    def _remember(self, ssrc: int) -> None:
        self._sources[ssrc] = None
        if len(self._sources) > MOST_SOURCES:
            oldest = next(iter(self._sources))
            del self._sources[oldest]
            self._session.remove_stream(oldest)


class Cipher:
    """The keys of one stream, in both directions."""

    def __init__(self, local: MasterKey, remote: MasterKey) -> None:
        """Raises:
        ValueError: see `agree`.
        """
        self._outgoing: dict[MasterKey, Any] = {}
        self._incoming: _Opener | None = None
        self._before: _Opener | None = None
        self._grace = 0
        self._refused: tuple[type[Exception], ...] = (_library().Error, ValueError)
        self.agree(local, remote)

    @property
    def suite(self) -> str:
        """What is sent with."""
        return self._local.suite

    def agree(self, local: MasterKey, remote: MasterKey) -> None:
        """What holds from now on; a key that has not changed goes on where it is.

        Raises:
            ValueError: an unknown suite, a key of another length, or there is no libsrtp. What held before holds.
        """
        session = self._outgoing.get(local) or _session(local, "SSRC_ANY_OUTBOUND")
        if self._incoming is None or self._incoming.key != remote:
            known = self._before if self._before is not None and self._before.key == remote else _Opener(remote)
            self._incoming, self._before, self._grace = known, self._incoming, GRACE
        self._outgoing.pop(local, None)
        self._outgoing[local] = session
        if len(self._outgoing) > MOST_KEYS:
            del self._outgoing[next(iter(self._outgoing))]
        self._local, self._session = local, session

    def protect(self, packet: bytes) -> bytes:
        """The packet as it goes out; empty where libsrtp refuses, as when a key is used up (RFC 3711 §9.2)."""
        try:
            protected: bytes = self._session.protect(packet)
        except self._refused:
            return b""
        return protected

    def protect_report(self, packet: bytes) -> bytes:
        """The same for RTCP."""
        try:
            protected: bytes = self._session.protect_rtcp(packet)
        except self._refused:
            return b""
        return protected

    def open(self, packet: bytes, *, report: bool = False) -> bytes | Refusal:
        """A packet, or RTCP, of the far end in the clear. Never raises."""
        assert self._incoming is not None
        opened = self._incoming.open(packet, report=report)
        if self._before is None:
            return opened
        if opened is Refusal.UNAUTHENTICATED:
            return self._before.open(packet, report=report)
        self._grace -= 1
        if self._grace <= 0:
            self._before = None
        return opened


def open_round(
    datagrams: Datagrams,
    ciphers: Mapping[int, Cipher],
    routes: Routes,
    counters: Counters,
    muxed: NDArray[np.bool_] | None,
) -> None:
    """Puts what encrypted rows got in the clear, in place; what cannot be opened is counted and gone.

    What comes from another host than the far end's is left for `rtp.receive.classify`, who knows it for a stranger's
    without any work, and keeps it from using up the replay window.
    """
    rows, lengths, data = datagrams.rows, datagrams.lengths, datagrams.data
    near = ~((datagrams.sources ^ routes.source[rows]) & routes.host_mask[rows]).any(axis=1)
    for slot in np.flatnonzero(near & (lengths > 0)).tolist():
        row = int(rows[slot])
        cipher = ciphers.get(row)
        if cipher is None:
            continue
        report = muxed is not None and bool(muxed[row]) and FIRST_CONTROL <= data[slot, 1] <= LAST_CONTROL
        opened = _opened(cipher, row, data[slot, : lengths[slot]].tobytes(), counters, report=report)
        if opened is None:
            lengths[slot] = -1
        else:
            data[slot, : len(opened)] = np.frombuffer(opened, np.uint8)
            lengths[slot] = len(opened)


def open_report(cipher: Cipher, row: int, data: bytes, counters: Counters) -> bytes | None:
    """RTCP that came on a port of its own, in the clear; None for what cannot be opened, which is counted."""
    return _opened(cipher, row, data, counters, report=True)


def _opened(cipher: Cipher, row: int, data: bytes, counters: Counters, *, report: bool) -> bytes | None:
    opened = cipher.open(data, report=report)
    if isinstance(opened, bytes):
        return opened
    (counters.replayed if opened is Refusal.REPLAYED else counters.unauthenticated)[row] += 1
    return None
