"""Where a request goes: the pure half of RFC 3261 §8.1.2 and §12.2.1.1 (the other half, RFC 3263, is in ``net``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sipcore.protocol.flows import Target

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sipcore.protocol.flows import Transport
    from sipcore.protocol.values import NameAddr, Uri

__all__ = ["request_line_and_routes", "target_of"]


def target_of(uri: Uri, *, transport: Transport | None = None) -> Target:
    """The host, port and transport that RFC 3263 §4 starts from.

    Args:
        uri: a ``sip:`` or ``sips:`` URI (the top Route, else the request URI).
        transport: used where the URI names none.
    """
    maddr = uri.parameters.get("maddr")
    secure = uri.scheme == "sips"
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
