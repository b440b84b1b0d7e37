"""Names to addresses: RFC 3263 (NAPTR, SRV, then A and AAAA), the hosts file first."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import dns.asyncresolver
import dns.exception
import dns.nameserver
import dns.rdatatype
import dns.resolver

from sipcore.errors import ServerUnreachable
from sipcore.net.addresses import ip_literal
from sipcore.net.shared import SharedTasks
from sipcore.protocol.flows import Transport

if TYPE_CHECKING:
    import random

    from dns.rdtypes.IN.SRV import SRV

    from sipcore.net.addresses import Address
    from sipcore.protocol.flows import Target

__all__ = ["Endpoint", "HostsFile", "Resolver", "default_port", "default_transport"]

log = logging.getLogger(__name__)

QUERY_LIFETIME = 5.0
"""Seconds for one question, all name servers and retries together."""
NAPTR_LIFETIME = 2.0
"""Seconds for the NAPTR question: many domains have none, and some routers do not answer it at all."""
MAX_SRV_TARGETS = 8
MAX_SERVICES = 8
"""NAPTR records of one domain that are followed."""
LONGEST_NEGATIVE = 300.0
"""Seconds for which it is remembered that something is not there, whatever DNS says (RFC 2308 §5)."""

_NAPTR_SERVICES: dict[str, Transport] = {"SIP+D2U": "udp", "SIP+D2T": "tcp", "SIPS+D2T": "tls"}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a message can be sent to: an address and how."""

    transport: Transport
    address: Address


def default_port(transport: Transport) -> int:
    """RFC 3261 §19.1.2."""
    return 5061 if transport == "tls" else 5060


def default_transport(target: Target) -> Transport:
    """What is used where neither the URI nor DNS names a transport (RFC 3263 §4.1)."""
    return target.transport or ("tls" if target.secure else "udp")


class Resolver:
    """Finds the endpoints of a target, best first. Answers live in dnspython's cache as long as DNS says.

    Args:
        ipv4, ipv6: the families that can be sent to.
        rng: spreads load over SRV records of equal priority (RFC 2782).
        hosts: the hosts file.
        configuration: ``resolv.conf``; read again whenever it changes.
        nameservers: asked instead of those in it.
    """

    def __init__(
        self,
        *,
        ipv4: bool,
        ipv6: bool,
        rng: random.Random,
        hosts: Path = Path("/etc/hosts"),
        configuration: Path = Path("/etc/resolv.conf"),
        nameservers: tuple[Address, ...] = (),
    ) -> None:
        self._types = [dns.rdatatype.A] * ipv4 + [dns.rdatatype.AAAA] * ipv6
        self._rng = rng
        self._hosts = HostsFile(hosts)
        self._configuration = configuration
        self._servers = nameservers
        self._configured_at: int | None = None
        self._dns: dns.asyncresolver.Resolver | None = None
        self._asking: SharedTasks[tuple[str, dns.rdatatype.RdataType], dns.resolver.Answer] = SharedTasks()

    async def resolve(self, target: Target) -> list[Endpoint]:
        """At least one endpoint, in the order to try them.

        Raises:
            ServerUnreachable: the name has no address, or DNS does not answer; the sentence names the host.
        """
        # Questions are shared and not their outcome: each caller draws its own order of servers.
        return await self._resolve(target)

    async def close(self) -> None:
        """Gives up on every question."""
        await self._asking.close()

    async def _resolve(self, target: Target) -> list[Endpoint]:
        host = target.host.rstrip(".")
        if ip_literal(host) is None and target.port is None and "." in host and not self._local(host):
            endpoints = await self._from_services(host, target)
            if endpoints:
                return endpoints
        transport = default_transport(target)
        port = default_port(transport) if target.port is None else target.port
        return [Endpoint(transport, (address, port)) for address in await self._addresses(host)]

    async def _from_services(self, host: str, target: Target) -> list[Endpoint]:
        """The servers behind the first service of the domain that has any (RFC 3263 §4.1, §4.2)."""
        named = target.transport
        if named is not None and not target.secure:
            services = [(named, _service(named, host))]
        else:
            services = await self._naptr(host, secure=target.secure)
            if not services:
                usual: tuple[Transport, ...] = ("tls",) if target.secure else ("udp", "tcp", "tls")
                services = [(transport, _service(transport, host)) for transport in usual]
        found = await asyncio.gather(*(self._srv(name) for _, name in services))
        for (transport, _), records in zip(services, found, strict=True):
            endpoints = await self._endpoints(host, transport, records)
            if endpoints:
                return endpoints
        return []

    async def _naptr(self, host: str, *, secure: bool) -> list[tuple[Transport, str]]:
        """Transports of the domain and the names of their SRV records, in its own order of preference."""
        try:
            answer = await self._query(host, dns.rdatatype.NAPTR, lifetime=min(NAPTR_LIFETIME, QUERY_LIFETIME))
        except (dns.exception.DNSException, OSError) as error:
            log.debug("no NAPTR records of %s: %s", host, error)
            return []
        services: list[tuple[Transport, str]] = []
        for record in sorted(answer, key=lambda record: (record.order, record.preference)):
            transport = _NAPTR_SERVICES.get(record.service.decode("ascii", "replace").upper())
            # Only the "s" flag, which leads to SRV, is one of SIP's; a sips: URI takes TLS alone.
            if transport is None or record.flags.lower() != b"s" or (secure and transport != "tls"):
                continue
            services.append((transport, str(record.replacement).rstrip(".")))
        return services[:MAX_SERVICES]

    async def _endpoints(self, host: str, transport: Transport, records: Sequence[SRV]) -> list[Endpoint]:
        found = await asyncio.gather(
            *(self._addresses(str(record.target).rstrip(".")) for record in records),
            return_exceptions=True,
        )
        endpoints: list[Endpoint] = []
        for record, addresses in zip(records, found, strict=True):
            if isinstance(addresses, ServerUnreachable):
                log.info("SRV target of %s skipped: %s", host, addresses)
            elif isinstance(addresses, BaseException):
                raise addresses
            else:
                endpoints += [Endpoint(transport, (address, record.port)) for address in addresses]
        return endpoints

    async def _srv(self, name: str) -> list[SRV]:
        """SRV records in the order of RFC 2782; none where DNS gives none, for whatever reason."""
        try:
            answer = await self._query(name, dns.rdatatype.SRV)
        except (dns.exception.DNSException, OSError) as error:
            log.debug("no SRV records of %s: %s", name, error)
            return []
        records = [record for record in answer if str(record.target) != "."]
        return _in_weighted_order(records, self._rng)[:MAX_SRV_TARGETS]

    async def _addresses(self, host: str) -> list[str]:
        literal = ip_literal(host)
        if literal is not None:
            return [literal]
        known = self._local(host)
        if known:
            return known
        found = await asyncio.gather(*(self._ask(host, kind) for kind in self._types), return_exceptions=True)
        addresses: list[str] = []
        failure: BaseException | None = None
        for answer in found:
            if isinstance(answer, BaseException):
                failure = answer
            else:
                addresses += answer
        if addresses:
            return addresses
        match failure:
            case None | dns.resolver.NXDOMAIN():
                why = "there is no such name" if failure is not None else "the name has no address"
            case dns.resolver.NoResolverConfiguration():
                why = "no name server is configured"
            case dns.exception.Timeout():
                why = "no name server answered"
            case dns.resolver.NoNameservers():
                why = "the name servers failed"
            case dns.exception.DNSException() | OSError() | ValueError():
                why = str(failure) or type(failure).__name__
            case _:
                raise failure
        raise ServerUnreachable(f"The host {host!r} cannot be found: {why}") from failure

    async def _ask(self, host: str, kind: dns.rdatatype.RdataType) -> list[str]:
        """Addresses of one type; none where the name exists without any."""
        answer = await self._query(host, kind, raise_on_no_answer=False, search="." not in host)
        if answer.rrset is None:
            return []
        return [str(record.address) for record in answer.rrset]

    async def _query(
        self,
        name: str,
        kind: dns.rdatatype.RdataType,
        *,
        lifetime: float | None = None,
        raise_on_no_answer: bool = True,
        search: bool | None = None,
    ) -> dns.resolver.Answer:
        """One question, asked once for all who want to know the same at the same time."""
        return await self._asking.get(
            (name.lower(), kind),
            lambda: self._nameservers().resolve(
                name,
                kind,
                lifetime=QUERY_LIFETIME if lifetime is None else lifetime,
                raise_on_no_answer=raise_on_no_answer,
                search=search,
            ),
        )

    def _local(self, host: str) -> list[str]:
        """What the hosts file says; ``localhost`` is known without it (RFC 6761 §6.3)."""
        addresses = self._hosts.addresses(host)
        if not addresses and host.lower() == "localhost":
            addresses = ["127.0.0.1", "::1"]
        wanted = {":" if kind == dns.rdatatype.AAAA else "." for kind in self._types}
        return [address for address in addresses if (":" if ":" in address else ".") in wanted]

    def _nameservers(self) -> dns.asyncresolver.Resolver:
        """A resolver for the configuration as it is now.

        Raises:
            NoResolverConfiguration: it names no server.
        """
        if self._servers:
            if self._dns is None:
                self._dns = dns.asyncresolver.Resolver(configure=False)
                self._dns.nameservers = [dns.nameserver.Do53Nameserver(*server) for server in self._servers]
                self._dns.cache = _Cache(1024)
            return self._dns
        changed_at = _modified(self._configuration)
        if self._dns is None or changed_at != self._configured_at:
            self._dns = dns.asyncresolver.Resolver(filename=str(self._configuration))
            self._dns.cache = _Cache(1024)
            self._configured_at = changed_at
        return self._dns


class _Cache(dns.resolver.LRUCache):
    """dnspython's, as long as the TTLs say; what is not there is forgotten after some minutes, and at once where the
    answer does not say for how long that holds (RFC 2308 §5)."""

    def put(self, key: dns.resolver.CacheKey, value: dns.resolver.Answer) -> None:
        """See :class:`dns.resolver.LRUCache`."""
        if value.rrset is None:
            if not any(entry.rdtype == dns.rdatatype.SOA for entry in value.response.authority):
                return
            value.expiration = min(value.expiration, time.time() + LONGEST_NEGATIVE)
        super().put(key, value)


class HostsFile:
    """``/etc/hosts``, read again whenever it changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_at: int | None = None
        self._names: dict[str, list[str]] = {}

    def addresses(self, host: str) -> list[str]:
        """IP literals of a name, in the file's order; none where it is not in it."""
        changed_at = _modified(self._path)
        if changed_at != self._read_at:
            self._names = self._read()
            self._read_at = changed_at
        return list(self._names.get(host.lower(), ()))

    def _read(self) -> dict[str, list[str]]:
        names: dict[str, list[str]] = {}
        try:
            lines = self._path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return names
        for line in lines:
            words = line.partition("#")[0].split()
            literal = ip_literal(words[0]) if words else None
            if literal is None:
                continue
            for name in words[1:]:
                known = names.setdefault(name.lower(), [])
                if literal not in known:
                    known.append(literal)
        return names


def _service(transport: Transport, host: str) -> str:
    return f"_sips._tcp.{host}" if transport == "tls" else f"_sip._{transport}.{host}"


def _modified(path: Path) -> int | None:
    """When a file was changed last, in nanoseconds; None where there is none."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


def _in_weighted_order(records: Sequence[SRV], rng: random.Random) -> list[SRV]:
    """RFC 2782: lowest priority first; within one, drawn by weight. Weight 0 stays possible, and unlikely."""
    waiting = sorted(records, key=lambda record: (record.priority, record.weight))
    ordered: list[SRV] = []
    while waiting:
        peers = [record for record in waiting if record.priority == waiting[0].priority]
        drawn = rng.choices(peers, weights=[record.weight or 0.01 for record in peers])[0]
        waiting.remove(drawn)
        ordered.append(drawn)
    return ordered
