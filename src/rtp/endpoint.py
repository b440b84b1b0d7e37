"""Where packets come from and go to: socket addresses as words that whole batches are compared with.

A source is four 64-bit words laid out like the kernel's ``sockaddr_in`` or ``sockaddr_in6``: family, port, host. A mask
says which bits a comparison looks at (neither an IPv6 flow label nor a scope).
"""

from __future__ import annotations

import functools
import ipaddress
import socket
import struct
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "SOURCE_WORDS",
    "Endpoint",
    "endpoint_of",
    "endpoint_of_words",
    "family_of",
    "host_mask",
    "reached_from",
    "source_mask",
]

SOURCE_WORDS = 4
SOURCE_BYTES = SOURCE_WORDS * 8
_IPV4 = struct.pack("=H", socket.AF_INET)
_IPV6 = struct.pack("=H", socket.AF_INET6)
_packed = functools.lru_cache(4096)(socket.inet_pton)
"""Far ends have many ports and few hosts."""


class Endpoint(NamedTuple):
    """One socket address in both forms."""

    family: int
    address: tuple[str, int] | tuple[str, int, int, int]
    """As the `socket` module takes it."""
    raw: bytes
    """As the kernel takes it: 16 bytes (IPv4) or 28 (IPv6)."""

    @property
    def words(self) -> NDArray[np.uint64]:
        """(4,) uint64."""
        return np.frombuffer(self.raw.ljust(SOURCE_BYTES, b"\0"), np.uint64)


@functools.lru_cache(4096)
def family_of(host: str) -> socket.AddressFamily:
    """The address family of a numeric host.

    Raises:
        ValueError: not a numeric IPv4 or IPv6 address.
    """
    return socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET


def reached_from(local_host: str, remote: tuple[str, int]) -> tuple[str, int]:
    """How a socket bound to ``local_host`` writes ``remote``: one at ``::`` takes IPv4 too, as mapped addresses
    (RFC 4291 §2.5.5.2)."""
    host, port = remote
    return (f"::ffff:{host}", port) if local_host == "::" and family_of(host) == socket.AF_INET else remote


def endpoint_of(address: tuple[str, int] | tuple[str, int, int, int]) -> Endpoint:
    """The endpoint of a numeric ``(host, port)``, or of what an IPv6 socket reports.

    Raises:
        ValueError: the host is not numeric, or the port is not 1..65535.
    """
    host, port = address[:2]
    if not 0 < port < 65536:
        raise ValueError(f"port {port} is not in 1..65535")
    family = family_of(host)
    if family == socket.AF_INET:
        raw = _IPV4 + port.to_bytes(2) + _packed(family, host) + bytes(8)
        return Endpoint(family, (host, port), raw)
    bare, _, zone = host.partition("%")
    scope = address[3] if len(address) == 4 else _scope(zone)
    raw = b"".join(
        (
            _IPV6,
            struct.pack("!HI", port, 0),
            _packed(family, bare),
            struct.pack("=I", scope),
        )
    )
    return Endpoint(family, (bare, port, 0, scope), raw)


def _scope(zone: str) -> int:
    if not zone:
        return 0
    if zone.isdigit():
        return int(zone)
    try:
        return socket.if_nametoindex(zone)
    except OSError as error:
        raise ValueError(f"no network interface {zone!r}") from error


def source_mask(family: int) -> NDArray[np.uint64]:
    """(4,) uint64: the bits of family, port and host."""
    return _mask(family, port=True)


def host_mask(family: int) -> NDArray[np.uint64]:
    """(4,) uint64: the bits of family and host."""
    return _mask(family, port=False)


@functools.cache
def _mask(family: int, *, port: bool) -> NDArray[np.uint64]:
    ports = b"\xff\xff" if port else b"\0\0"
    if family == socket.AF_INET:
        raw = b"\xff\xff" + ports + b"\xff" * 4
    else:
        raw = b"\xff\xff" + ports + b"\0" * 4 + b"\xff" * 16
    return np.frombuffer(raw.ljust(SOURCE_BYTES, b"\0"), np.uint64)


def endpoint_of_words(words: NDArray[np.uint64]) -> Endpoint:
    """The endpoint a received packet's source words name."""
    raw = words.tobytes()
    family = struct.unpack_from("=H", raw)[0]
    (port,) = struct.unpack_from("!H", raw, 2)
    if family == socket.AF_INET:
        return endpoint_of((socket.inet_ntop(socket.AF_INET, raw[4:8]), port))
    (scope,) = struct.unpack_from("=I", raw, 24)
    return endpoint_of((socket.inet_ntop(socket.AF_INET6, raw[8:24]), port, 0, scope))
