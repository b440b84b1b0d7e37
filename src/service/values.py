"""How settings are written: what turns the text of an option, a variable or the file into a value, or refuses it."""

from __future__ import annotations

import re
from typing import NamedTuple

from sipcore.config import missing_extra
from sipcore.errors import InvalidRequest
from sipcore.protocol.addresses import parse_name_server
from sipcore.protocol.sources import parse_sources

__all__ = ["Endpoint", "PortRange", "codecs", "endpoint", "host", "name_servers", "port_range", "sources"]


class Endpoint(NamedTuple):
    """``HOST:PORT`` to listen on; IPv6 in brackets; port 0: any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class PortRange(NamedTuple):
    """``LO-HI``, both included."""

    low: int
    high: int

    def __str__(self) -> str:
        return f"{self.low}-{self.high}"


def endpoint(value: object) -> Endpoint:
    """``HOST:PORT``.

    Raises:
        ValueError: what it must be instead.
    """
    if isinstance(value, Endpoint):
        return value
    found = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([^\[\]:\s]+)):(\d{1,5})", str(value).strip())
    if found is None or int(found[3]) > 65535:
        raise ValueError("must be HOST:PORT with a port of 0 to 65535, such as 127.0.0.1:50051 or [::1]:50051")
    return Endpoint(found[1] or found[2], int(found[3]))


def port_range(value: object) -> PortRange:
    """``LO-HI``.

    Raises:
        ValueError: what it must be instead.
    """
    if isinstance(value, PortRange):
        return value
    found = re.fullmatch(r"(\d{1,5})\s*-\s*(\d{1,5})", str(value).strip())
    if found is None or not 1 <= int(found[1]) < int(found[2]) <= 65535:
        raise ValueError("must be LO-HI with 1 <= LO < HI <= 65535, such as 16384-32767")
    return PortRange(int(found[1]), int(found[2]))


def codecs(value: object) -> tuple[str, ...]:
    """Names of codecs in the order of preference.

    Raises:
        ValueError: what it must be instead.
    """
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise ValueError("must be names of codecs, separated by commas")
    codecs = tuple(name.strip().upper() for name in names)
    if not codecs or not set(codecs) <= {"PCMU", "PCMA", "G722"} or len(set(codecs)) < len(codecs):
        raise ValueError("must name one or more of PCMU, PCMA and G722, separated by commas, the preferred one first")
    for missing in filter(None, map(missing_extra, codecs)):
        raise ValueError(f"needs an extra that is not installed: pip install '{missing}'")
    return codecs


def sources(value: object) -> tuple[str, ...]:
    """Addresses and networks.

    Raises:
        ValueError: what it must be instead.
    """
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise ValueError("must be addresses or networks, separated by commas")
    sources = tuple(name.strip() for name in names if name.strip())
    try:
        parse_sources(sources, field="allow_from")
    except InvalidRequest as error:
        raise ValueError(str(error).partition(": ")[2]) from None
    return sources


def name_servers(value: object) -> tuple[str, ...]:
    """Addresses of DNS servers, with a port or without.

    Raises:
        ValueError: what it must be instead.
    """
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, (list, tuple)):
        raise ValueError("must be addresses, separated by commas")
    servers = tuple(str(name).strip() for name in names if str(name).strip())
    for server in servers:
        try:
            parse_name_server(server)
        except InvalidRequest as error:
            raise ValueError(str(error).partition(": ")[2]) from None
    return servers


def host(value: object) -> str:
    """A name or an address, with brackets or without.

    Raises:
        ValueError: what it must be instead.
    """
    host = str(value).strip()
    if not re.fullmatch(r"[A-Za-z0-9._-]*|\[?[0-9a-fA-F:.]+\]?", host):
        raise ValueError("must be a host name or an IP address")
    return host.strip("[]")
