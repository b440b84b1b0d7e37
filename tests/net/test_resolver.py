"""RFC 3263 §4.2 against a name server of the test's own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import dns.asyncresolver
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import pytest
from dns.rdtypes.IN.SRV import SRV

from sipcore.errors import ServerUnreachable
from sipcore.net import resolver as resolver_module
from sipcore.net.resolver import Endpoint, HostsFile, Resolver, default_port
from sipcore.protocol.flows import Target
from tests.kit.loops import both_loops
from tests.net.name_server import NameServer

RECORDS = {
    ("plain.example.com", "A"): ["192.0.2.1"],
    ("both.example.com", "A"): ["192.0.2.2"],
    ("both.example.com", "AAAA"): ["2001:db8::2"],
    ("text.example.com", "TXT"): ["hello"],
    ("pbx1.example.com", "A"): ["192.0.2.9"],
    ("_sip._udp.srv.example.com", "SRV"): [
        "20 0 5070 plain.example.com.",
        "10 0 5080 both.example.com.",
    ],
    ("_sip._tcp.srv.example.com", "SRV"): ["0 0 5090 plain.example.com."],
    ("_sip._tcp.onlytcp.example.com", "SRV"): ["0 0 5091 plain.example.com."],
    ("_sips._tcp.srv.example.com", "SRV"): ["0 0 5061 plain.example.com."],
    ("_sip._udp.none.example.com", "SRV"): ["0 0 0 ."],
    ("none.example.com", "A"): ["192.0.2.3"],
    ("_sip._udp.broken.example.com", "SRV"): ["0 0 5070 gone.example.com.", "1 0 5071 plain.example.com."],
}


@contextlib.asynccontextmanager
async def resolving(
    folder: Path, *, ipv4: bool = True, ipv6: bool = False, hosts: str = ""
) -> AsyncIterator[tuple[Resolver, NameServer]]:
    """A resolver that asks a name server of its own."""
    hosts_file = folder / "hosts"
    hosts_file.write_text(hosts)
    async with NameServer(dict(RECORDS)) as server:
        resolver = Resolver(
            ipv4=ipv4,
            ipv6=ipv6,
            rng=random.Random(1),
            hosts=hosts_file,
            configuration=server.configuration(folder),
        )
        resolver._nameservers().port = server.port
        try:
            yield resolver, server
        finally:
            await resolver.close()


def udp(host: str, port: int) -> Endpoint:
    return Endpoint("udp", (host, port))


@both_loops
async def test_a_literal_needs_no_question(tmp_path: Path) -> None:
    async with resolving(tmp_path) as (resolver, server):
        assert await resolver.resolve(Target("192.0.2.7")) == [udp("192.0.2.7", 5060)]
        assert await resolver.resolve(Target("::1", 5070, "tcp")) == [Endpoint("tcp", ("::1", 5070))]
        assert server.asked == []


@both_loops
async def test_with_a_port_only_addresses_are_asked_for(tmp_path: Path) -> None:
    """§4.2: if the port is given, an A or AAAA lookup."""
    async with resolving(tmp_path) as (resolver, server):
        found = await resolver.resolve(Target("plain.example.com", 5999, "tcp"))
        assert found == [Endpoint("tcp", ("192.0.2.1", 5999))]
        assert server.asked == [("plain.example.com", "A")]


@both_loops
async def test_without_a_port_srv_is_asked_first(tmp_path: Path) -> None:
    """§4.2; the lowest priority comes first (RFC 2782)."""
    async with resolving(tmp_path) as (resolver, _):
        assert await resolver.resolve(Target("srv.example.com", transport="udp")) == [
            udp("192.0.2.2", 5080),
            udp("192.0.2.1", 5070),
        ]
        assert await resolver.resolve(Target("srv.example.com", transport="tcp")) == [
            Endpoint("tcp", ("192.0.2.1", 5090))
        ]
        assert await resolver.resolve(Target("srv.example.com", transport="tls")) == [
            Endpoint("tls", ("192.0.2.1", 5061))
        ]


@both_loops
async def test_an_open_transport_is_what_srv_says(tmp_path: Path) -> None:
    """§4.1: without NAPTR, SRV is asked for each transport."""
    async with resolving(tmp_path) as (resolver, _):
        found = await resolver.resolve(Target("onlytcp.example.com"))
        assert found == [Endpoint("tcp", ("192.0.2.1", 5091))]


@both_loops
async def test_without_srv_the_name_itself_at_the_default_port(tmp_path: Path) -> None:
    async with resolving(tmp_path) as (resolver, _):
        assert await resolver.resolve(Target("plain.example.com")) == [udp("192.0.2.1", 5060)]
        assert await resolver.resolve(Target("PLAIN.example.com.")) == [udp("192.0.2.1", 5060)]


@both_loops
async def test_srv_targets_that_lead_nowhere_are_skipped(tmp_path: Path) -> None:
    async with resolving(tmp_path) as (resolver, _):
        assert await resolver.resolve(Target("broken.example.com", transport="udp")) == [udp("192.0.2.1", 5071)]
        assert await resolver.resolve(Target("none.example.com", transport="udp")) == [udp("192.0.2.3", 5060)]


@both_loops
async def test_both_families_are_found_where_both_are_open(tmp_path: Path) -> None:
    async with resolving(tmp_path, ipv6=True) as (resolver, _):
        found = await resolver.resolve(Target("both.example.com", 5060))
        assert found == [udp("192.0.2.2", 5060), udp("2001:db8::2", 5060)]
        assert await resolver.resolve(Target("plain.example.com", 5060)) == [udp("192.0.2.1", 5060)]


@both_loops
async def test_a_single_label_takes_the_search_list(tmp_path: Path) -> None:
    async with resolving(tmp_path) as (resolver, server):
        assert await resolver.resolve(Target("pbx1")) == [udp("192.0.2.9", 5060)]
        assert ("_sip._udp.pbx1", "SRV") not in server.asked


@both_loops
async def test_the_hosts_file_comes_first(tmp_path: Path) -> None:
    hosts = "192.0.2.50 plain.example.com PBX # comment\n::5 pbx\n\nnonsense\n"
    async with resolving(tmp_path, hosts=hosts) as (resolver, server):
        assert await resolver.resolve(Target("plain.example.com")) == [udp("192.0.2.50", 5060)]
        assert await resolver.resolve(Target("pbx")) == [udp("192.0.2.50", 5060)]
        assert server.asked == []


@both_loops
async def test_localhost_is_known_without_anybody(tmp_path: Path) -> None:
    """RFC 6761 §6.3."""
    async with resolving(tmp_path, ipv6=True) as (resolver, server):
        assert await resolver.resolve(Target("localhost", 5070)) == [udp("127.0.0.1", 5070), udp("::1", 5070)]
        assert server.asked == []


@pytest.mark.parametrize(
    ("host", "why"),
    [
        ("gone.example.com", "there is no such name"),
        ("text.example.com", "the name has no address"),
        ("a..b.example.com", "label"),
        ("x" * 64 + ".example.com", "label"),
    ],
)
@both_loops
async def test_failures_name_the_host_and_the_reason(tmp_path: Path, host: str, why: str) -> None:
    async with resolving(tmp_path) as (resolver, _):
        with pytest.raises(ServerUnreachable, match=why) as failed:
            await resolver.resolve(Target(host, 5060))
        assert host in str(failed.value)


@both_loops
async def test_a_failing_name_server_is_named_as_the_reason(tmp_path: Path) -> None:
    async with resolving(tmp_path) as (resolver, server):
        server.broken = True
        with pytest.raises(ServerUnreachable, match="failed"):
            await resolver.resolve(Target("plain.example.com", 5060))


@both_loops
async def test_a_silent_name_server_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver_module, "QUERY_LIFETIME", 0.05)
    async with resolving(tmp_path) as (resolver, server):
        server.silent = True
        with pytest.raises(ServerUnreachable, match="no name server answered"):
            await resolver.resolve(Target("plain.example.com"))


@both_loops
async def test_no_name_server_at_all(tmp_path: Path) -> None:
    (tmp_path / "resolv.conf").write_text("# empty\n")
    resolver = Resolver(
        ipv4=True,
        ipv6=False,
        rng=random.Random(1),
        hosts=tmp_path / "missing",
        configuration=tmp_path / "resolv.conf",
    )
    with pytest.raises(ServerUnreachable, match="no name server is configured"):
        await resolver.resolve(Target("plain.example.com"))


@both_loops
async def test_many_callers_ask_once_and_answers_are_remembered(tmp_path: Path) -> None:
    async with resolving(tmp_path) as (resolver, server):
        target = Target("plain.example.com", 5060)
        await asyncio.gather(*(resolver.resolve(target) for _ in range(50)))
        await resolver.resolve(target)
        assert server.asked == [("plain.example.com", "A")]


@both_loops
async def test_closing_ends_a_question(tmp_path: Path) -> None:
    async with resolving(tmp_path) as (resolver, server):
        server.silent = True
        asking = asyncio.create_task(resolver.resolve(Target("plain.example.com", 5060)))
        await asyncio.sleep(0.02)
        await resolver.close()
        with pytest.raises(ServerUnreachable, match="closed"):
            await asking


def test_the_configuration_is_read_again_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 192.0.2.53\n")
    resolver = Resolver(ipv4=True, ipv6=False, rng=random.Random(1), configuration=path)
    first = resolver._nameservers()
    assert resolver._nameservers() is first
    path.write_text("nameserver 192.0.2.54\n")
    os.utime(path, ns=(1, 1))
    assert [str(server) for server in resolver._nameservers().nameservers] == ["192.0.2.54"]


class TestHostsFile:
    def test_names_have_their_addresses_in_order(self, tmp_path: Path) -> None:
        path = tmp_path / "hosts"
        path.write_text("127.0.0.1 a b\n::1 a\n127.0.0.1 a\nbad a\n# 10.0.0.1 a\n")
        hosts = HostsFile(path)
        assert hosts.addresses("A") == ["127.0.0.1", "::1"]
        assert hosts.addresses("b") == ["127.0.0.1"]
        assert hosts.addresses("c") == []

    def test_it_is_read_again_when_it_changes(self, tmp_path: Path) -> None:
        path = tmp_path / "hosts"
        hosts = HostsFile(path)
        assert hosts.addresses("a") == []
        path.write_text("127.0.0.1 a\n")
        assert hosts.addresses("a") == ["127.0.0.1"]
        path.unlink()
        assert hosts.addresses("a") == []


def srv(priority: int, weight: int, target: str) -> SRV:
    record = dns.rdata.from_text(
        dns.rdataclass.IN, dns.rdatatype.SRV, f"{priority} {weight} 5060 {target}.example.com."
    )
    assert isinstance(record, SRV)
    return record


def test_srv_weights_share_the_load() -> None:
    """RFC 2782: within a priority, drawn in proportion to the weights; weight 0 hardly ever before others."""
    rng = random.Random(1)
    records = [srv(1, 75, "a"), srv(1, 25, "b"), srv(1, 0, "c"), srv(2, 100, "d")]
    first: Counter[str] = Counter()
    for _ in range(1000):
        ordered = [str(record.target)[0] for record in resolver_module._in_weighted_order(records, rng)]
        assert sorted(ordered) == ["a", "b", "c", "d"]
        assert ordered[-1] == "d"
        first[ordered[0]] += 1
    assert 700 < first["a"] < 800
    assert first["c"] < 10


def test_default_ports() -> None:
    """RFC 3261 §19.1.2."""
    assert (default_port("udp"), default_port("tcp"), default_port("tls")) == (5060, 5060, 5061)
