"""Flows and targets: where messages come from and go to, without a socket."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

__all__ = ["Flow", "Target", "Transport"]

Transport = Literal["udp", "tcp", "tls"]


@dataclass(frozen=True, slots=True)
class Flow:
    """A pair of addresses, and for a stream transport one connection between them (RFC 5626 §3.1)."""

    transport: Transport
    local: tuple[str, int]
    remote: tuple[str, int]
    connection: int = 0
    """Tells connections between the same addresses apart; 0 for UDP."""
    advertised: tuple[str, int] = field(default=("", 0), compare=False)
    """Host and port that Via (sent-by) and Contact name: an address the peer can reach this side at."""

    @property
    def reliable(self) -> bool:
        """Whether the transport retransmits by itself (RFC 3261 §17)."""
        return self.transport != "udp"


class Target(NamedTuple):
    """A destination before RFC 3263 has been applied: what a URI says of where to send."""

    host: str
    """Domain name, IPv4 address, or IPv6 address without brackets."""
    port: int | None = None
    transport: Transport | None = None
    secure: bool = False
    """The URI was ``sips:``."""
