"""Where a request goes: the pure half of RFC 3261 §8.1.2 and §12.2.1.1 (the other half, RFC 3263, is in ``net``)."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from sipcore.protocol.flows import Target

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sipcore.protocol.flows import Flow, Transport
    from sipcore.protocol.values import NameAddr, Uri
    from sipcore.protocol.wire import Request, Response

__all__ = [
    "asks_for_secure_contact",
    "is_address",
    "is_same_address",
    "leads_to",
    "request_line_and_routes",
    "retry_after",
    "target_of",
]

LONGEST_REST = 3600.0
"""Seconds; nobody is locked out for good by one header."""


def target_of(uri: Uri, *, transport: Transport | None = None) -> Target:
    """The host, port and transport that RFC 3263 §4 starts from.

    Args:
        uri: a ``sip:`` or ``sips:`` URI (the top Route, else the request URI).
        transport: used where the URI names none.
    """
    secure = uri.scheme == "sips"
    if not uri.parameters:
        return Target(uri.host, uri.port, "tls" if secure else transport, secure)
    maddr = uri.parameters.get("maddr")
    chosen: Transport | None
    match uri.parameters.get("transport", "") or "":
        case named if named.lower() == "udp":
            chosen = "udp"
        case named if named.lower() == "tcp":
            chosen = "tls" if secure else "tcp"
        case named if named.lower() == "tls":
            chosen = "tls"
        case _:
            chosen = "tls" if secure else transport
    return Target(host=maddr or uri.host, port=uri.port, transport=chosen, secure=secure)


def request_line_and_routes(remote_target: Uri, route_set: Sequence[NameAddr]) -> tuple[Uri, tuple[str, ...]]:
    """Request URI and Route values of a request inside a dialog (RFC 3261 §12.2.1.1).

    A first route without ``lr`` is a strict router: it becomes the request URI, and the remote target the last Route.
    """
    if not route_set:
        return remote_target, ()
    first = route_set[0]
    if "lr" in first.uri.parameters:
        return remote_target, tuple(str(route) for route in route_set)
    rest = tuple(str(route) for route in route_set[1:])
    return first.uri.without_headers(), (*rest, f"<{remote_target}>")


def is_address(host: str) -> bool:
    """Whether ``host`` is an IP address and no name."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def is_same_address(one: str, other: str) -> bool:
    """Whether two hosts are one, however IPv6 is written."""
    if one == other:
        return True
    try:
        return ipaddress.ip_address(one) == ipaddress.ip_address(other)
    except ValueError:
        return False


def retry_after(response: Response) -> float | None:
    """Retry-After in seconds (RFC 3261 §20.33), at most an hour; None where there is none."""
    digits = (response.headers.get("Retry-After") or "").strip().split(" ")[0].split(";")[0].split("(")[0]
    return min(float(digits[:9]), LONGEST_REST) if digits.isascii() and digits.isdigit() else None


def asks_for_secure_contact(request: Request) -> bool:
    """Whether the Contact of a dialog that ``request`` opens here has to be a ``sips:`` URI (RFC 3261 §12.1.1)."""
    if request.uri.scheme == "sips":
        return True
    routes = request.record_routes
    if routes:
        return routes[0].uri.scheme == "sips"
    contact = request.contact
    return contact is not None and contact.uri.scheme == "sips"


def leads_to(flow: Flow, target: Target, made_for: Target | None) -> bool:
    """Whether a flow may carry a request for ``target`` instead of one found for it.

    It may where it was found for the same target (the name stays on one server, RFC 3263 §4.1) or ends at its address.
    A connection that the peer opened ends at a port of its own choice, so for streams the host is enough: behind a NAT
    or a firewall it is the only way back.

    Args:
        made_for: the target that the flow was found for; None where the peer opened it.
    """
    if target == made_for:
        return True
    if (target.secure and flow.transport != "tls") or target.transport not in (None, flow.transport):
        return False
    host, port = flow.remote
    return target.host == host and (flow.reliable or port == (target.port or 5060))
