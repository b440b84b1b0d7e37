"""Lists of addresses that requests may come from, as people write them."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING

from sipcore.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Sources", "parse_sources", "peer_of"]

ANY = "any"


@dataclass(frozen=True, slots=True)
class Sources:
    """Networks, or everywhere."""

    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    anyone: bool = False

    def __bool__(self) -> bool:
        return self.anyone or bool(self.networks)

    def names(self, host: str) -> bool:
        """Whether one of the networks holds the IP literal ``host``; ``any`` names nobody."""
        if not self.networks:
            return False
        try:
            address = ip_address(host.partition("%")[0])
        except ValueError:
            return False
        return any(address in network for network in self.networks)


def parse_sources(texts: Iterable[str], *, field: str) -> Sources:
    """``192.0.2.7``, ``192.0.2.0/24``, ``2001:db8::/32``, or ``any``.

    Raises:
        InvalidRequest: one of them is none of these; the message starts with ``field``.
    """
    if isinstance(texts, str):
        raise InvalidRequest(f"{field}: must be a list of addresses, not one string", field=field)
    networks = []
    anyone = False
    for text in texts:
        if text.strip().lower() == ANY:
            anyone = True
            continue
        try:
            networks.append(ip_network(text.strip(), strict=False))
        except ValueError:
            wanted = "an IP address, a network such as 192.0.2.0/24, or any"
            raise InvalidRequest(f"{field}: {text[:80]!r} is not {wanted}", field=field) from None
    return Sources(tuple(networks), anyone)


def peer_of(host: str) -> str:
    """Whom a source counts as: its IPv4 address, or the /64 of its IPv6 address, which one machine may own whole."""
    if ":" not in host:
        return host
    try:
        return str(ip_network((host.partition("%")[0], 64), strict=False))
    except ValueError:
        return host
