"""IP literals, and the local address that packets to a remote one leave from."""

from __future__ import annotations

import errno
import functools
import ipaddress
import os
import socket

__all__ = [
    "Address",
    "LocalAddresses",
    "family_of",
    "ip_literal",
    "is_wildcard",
    "join",
    "sentence",
    "socket_address",
]

Address = tuple[str, int]
"""Host as an IP literal without brackets (IPv6 lower-case and compressed, with ``%scope`` where link-local),
and port."""

MAX_ROUTES = 4096
"""Remote hosts remembered; forged sources of UDP must not fill the memory."""


@functools.lru_cache(MAX_ROUTES)
def ip_literal(host: str) -> str | None:
    """The one way to write an IP address, or None where ``host`` is a name.

    Brackets around an IPv6 address are dropped; ``::FFFF:0:1`` and ``::ffff:0.0.0.1`` are not turned into
    IPv4.
    """
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        return None


def family_of(literal: str) -> socket.AddressFamily:
    """``AF_INET6`` or ``AF_INET`` of an IP literal."""
    return socket.AF_INET6 if ":" in literal else socket.AF_INET


def is_wildcard(literal: str) -> bool:
    """Whether it means every interface: ``0.0.0.0`` or ``::``."""
    return literal in ("0.0.0.0", "::")  # noqa: S104 - compared, not bound


def join(address: Address) -> str:
    """``host:port`` for people; IPv6 in brackets."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def socket_address(raw: tuple[str | int, ...]) -> Address:
    """Host and port of what a socket calls an address; a link-local IPv6 host keeps its scope."""
    host, port = str(raw[0]), int(raw[1])
    if len(raw) == 4 and raw[3] and "%" not in host:
        return f"{host}%{raw[3]}", port
    return host, port


def sentence(error: OSError) -> str:
    """What went wrong, in lower case and without numbers: ``connection refused``."""
    if isinstance(error, TimeoutError):
        return "timed out"
    text = str(error) if error.errno is None else os.strerror(error.errno)
    return text[:1].lower() + text[1:]


class LocalAddresses:
    """Which of this machine's addresses packets to a remote host leave from.

    A socket bound to every interface does not say; a throwaway UDP socket, connected (nothing is sent), does.
    Answers are remembered until :meth:`forget`, since routes change.
    """

    def __init__(self, bound: tuple[str, ...]) -> None:
        """``bound``: the IP literals listened on, at most one per family."""
        self._bound = {family_of(host): host for host in bound}
        self._routes: dict[str, str] = {}

    def serves(self, literal: str) -> bool:
        """Whether a socket of the literal's family is open."""
        return family_of(literal) in self._bound

    def towards(self, remote: str) -> str:
        """The local address for an IP literal.

        Raises:
            OSError: no socket of that family is open, or no route leads there.
        """
        bound = self._bound.get(family_of(remote))
        if bound is None:
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        if not is_wildcard(bound):
            return bound
        known = self._routes.get(remote)
        if known is None:
            if len(self._routes) >= MAX_ROUTES:
                self._routes.clear()
            known = self._routes[remote] = self._ask(remote)
        return known

    def forget(self) -> None:
        """Routes may have changed."""
        self._routes.clear()

    @staticmethod
    def _ask(remote: str) -> str:
        with socket.socket(family_of(remote), socket.SOCK_DGRAM) as probe:
            probe.connect((remote, 9))
            return socket_address(probe.getsockname())[0]
