"""TLS between two managers on the loopback interface, and whose certificate is taken (RFC 5922)."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sipcore.config import TlsConfig, UserAgentConfig
from sipcore.errors import ServerUnreachable
from sipcore.net.tls import mismatch
from sipcore.protocol.flows import Target
from tests.kit.certificates import authority
from tests.kit.loops import both_loops
from tests.net.test_manager import OPTIONS, Agent

HOSTS = "127.0.0.1 sip.example.com other.example.com deep.sip.example.com\n"


def serving(*names: str, ca: str = "test-ca", expired: bool = False, verify_clients: bool = False) -> TlsConfig:
    shown = authority(ca).issue(*names, expired=expired)
    return TlsConfig(
        certificate=shown.certificate,
        key=shown.key,
        ca_file=authority().ca_file,
        verify_clients=verify_clients,
        port=0,
    )


def trusting(*, verify: bool = True, wildcards: bool = False) -> TlsConfig:
    return TlsConfig(ca_file=authority().ca_file, verify=verify, wildcards=wildcards)


@contextlib.asynccontextmanager
async def agent(tls: TlsConfig, hosts: Path | None = None, host: str = "127.0.0.1") -> AsyncIterator[Agent]:
    opened = Agent(UserAgentConfig(sip_host=host, tls=tls), hosts=hosts)
    await opened.manager.start()
    try:
        yield opened
    finally:
        await opened.manager.close()


def tls_port(agent: Agent) -> int:
    assert agent.manager.tls_address is not None
    return agent.manager.tls_address[1]


@pytest.fixture
def hosts(tmp_path: Path) -> Path:
    path = tmp_path / "hosts"
    path.write_text(HOSTS)
    return path


@pytest.mark.parametrize(
    ("names", "host"),
    [
        (["DNS:sip.example.com"], "sip.example.com"),
        (["DNS:www.example.org", "DNS:sip.example.com"], "SIP.example.com"),
        (["URI:sip:sip.example.com"], "sip.example.com"),
        (["IP:127.0.0.1"], "127.0.0.1"),
    ],
)
@both_loops
async def test_messages_pass_both_ways_over_tls(names: list[str], host: str, tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text(HOSTS)
    async with agent(serving(*names)) as far, agent(trusting(), tmp_path / "hosts") as near:
        target = Target(host, tls_port(far), "tls", secure=True)
        flow = await near.manager.flow_to(target)
        assert flow.transport == "tls"
        assert flow.reliable
        near.manager.send(flow, OPTIONS)
        data, back = await far.messages.get()
        assert data == OPTIONS
        assert back.transport == "tls"
        assert back.advertised == ("127.0.0.1", tls_port(far))
        far.manager.send(back, OPTIONS)
        assert await near.messages.get() == (OPTIONS, flow)
        assert await near.manager.flow_to(target) == flow


@both_loops
async def test_without_a_listener_the_connection_is_our_address() -> None:
    """A registrar finds the Contact's address among its connections: calls come down the registered one."""
    async with agent(serving("IP:127.0.0.1")) as far, agent(trusting()) as near:
        assert near.manager.tls_address is None
        flow = await near.manager.flow_to(Target("127.0.0.1", tls_port(far), "tls"))
        assert flow.advertised == flow.local


@both_loops
async def test_the_port_after_sip_is_the_default() -> None:
    """RFC 3261 §19.1.2: 5061 after 5060."""
    shown = authority().issue("IP:127.0.0.1")
    async with agent(TlsConfig(certificate=shown.certificate, key=shown.key)) as near:
        assert tls_port(near) == near.port + 1


@pytest.mark.parametrize(
    ("shown", "host", "why"),
    [
        (serving, "other.example.com", "it is for sip.example.com, not for other.example.com"),
        ("unknown", "sip.example.com", "certificate verify failed: .*(unable to get local issuer|self-signed)"),
        ("expired", "sip.example.com", "certificate verify failed: certificate has expired"),
        (serving, "127.0.0.1", "it is for sip.example.com, not for 127.0.0.1"),
    ],
)
@both_loops
async def test_a_certificate_that_proves_nothing_is_refused(shown: object, host: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text(HOSTS)
    name = "DNS:sip.example.com"
    tls = {"unknown": lambda: serving(name, ca="stranger"), "expired": lambda: serving(name, expired=True)}.get(
        str(shown), lambda: serving(name)
    )()
    async with agent(tls) as far, agent(trusting(), tmp_path / "hosts") as near:
        target = Target(host, tls_port(far), "tls")
        with pytest.raises(ServerUnreachable, match=rf"over TLS failed: .*{why}"):
            await near.manager.flow_to(target)
        assert near.manager.open_flow_count == 0
        assert far.messages.empty()


@both_loops
async def test_whoever_switches_verification_off_gets_any_server() -> None:
    tls = serving("DNS:elsewhere.example.com", ca="stranger")
    async with agent(tls) as far, agent(trusting(verify=False)) as near:
        flow = await near.manager.flow_to(Target("127.0.0.1", tls_port(far), "tls"))
        near.manager.send(flow, OPTIONS)
        assert (await far.messages.get())[0] == OPTIONS


@both_loops
async def test_one_connection_is_not_shared_by_domains_that_its_certificate_does_not_name(tmp_path: Path) -> None:
    """RFC 5923 §8.2: the same address is not the same server."""
    (tmp_path / "hosts").write_text(HOSTS)
    async with agent(serving("DNS:sip.example.com")) as far, agent(trusting(), tmp_path / "hosts") as near:
        flow = await near.manager.flow_to(Target("sip.example.com", tls_port(far), "tls"))
        with pytest.raises(ServerUnreachable, match=r"not for other\.example\.com"):
            await near.manager.flow_to(Target("other.example.com", tls_port(far), "tls"))
        assert near.manager.is_open(flow)


@both_loops
async def test_a_client_shows_its_certificate() -> None:
    ours = authority().issue("DNS:client.example.com")
    known = TlsConfig(certificate=ours.certificate, key=ours.key, ca_file=authority().ca_file, port=0)
    async with agent(serving("IP:127.0.0.1", verify_clients=True)) as far, agent(known) as near:
        flow = await near.manager.flow_to(Target("127.0.0.1", tls_port(far), "tls"))
        near.manager.send(flow, OPTIONS)
        assert (await far.messages.get())[0] == OPTIONS


@both_loops
async def test_a_client_without_a_certificate_is_told_why() -> None:
    """TLS 1.3 refuses after the handshake: the connection is up, then closes with a reason."""
    async with agent(serving("IP:127.0.0.1", verify_clients=True)) as far, agent(trusting()) as near:
        try:
            flow = await near.manager.flow_to(Target("127.0.0.1", tls_port(far), "tls"))
        except ServerUnreachable as error:
            assert "certificate" in str(error)  # noqa: PT017 - both orders are right
            assert far.messages.empty()
            return
        closed, why = await near.closed.get()
        assert closed == flow
        assert "client certificate" in why
        assert far.messages.empty()


@both_loops
async def test_a_peer_that_speaks_no_tls() -> None:
    async with agent(TlsConfig()) as far, agent(trusting()) as near:
        with pytest.raises(ServerUnreachable, match=r"over TLS failed: the peer (does not speak TLS|closed)"):
            await near.manager.flow_to(Target("127.0.0.1", far.port, "tls"))


@both_loops
async def test_old_versions_are_refused() -> None:
    """RFC 8996."""
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname = False
    old.verify_mode = ssl.CERT_NONE
    async with agent(serving("IP:127.0.0.1")) as far:
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        _, writer = await asyncio.open_connection("127.0.0.1", tls_port(far), ssl=old)
        assert writer.get_extra_info("ssl_object").version() == "TLSv1.2"
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        # The library itself warns of it.
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", tls_port(far), ssl=old)


@pytest.mark.parametrize(
    ("tls", "why"),
    [
        (TlsConfig(certificate="/no/such.pem"), "no certificate with its key in /no/such.pem: no such file"),
        (TlsConfig(key="key.pem"), "a key, a port or the check of clients needs a certificate"),
        (TlsConfig(ca_file="/no/such.pem"), "/no/such.pem holds no CA certificates: no such file"),
        (TlsConfig(ca_file="/etc/hostname"), "/etc/hostname holds no CA certificates"),
    ],
)
@both_loops
async def test_files_that_cannot_be_used_are_known_at_the_start(tls: TlsConfig, why: str) -> None:
    with pytest.raises(OSError, match=why):
        await Agent(UserAgentConfig(sip_host="127.0.0.1", tls=tls)).manager.start()


@pytest.mark.parametrize(
    ("names", "host", "fits"),
    [
        ([("DNS", "example.com")], "example.com", True),
        ([("DNS", "EXAMPLE.com.")], "example.COM.", True),
        ([("DNS", "sip.example.com")], "example.com", False),
        ([("URI", "sip:example.com")], "example.com", True),
        ([("URI", "SIP:example.com;transport=tls")], "example.com", True),
        ([("URI", "sip:alice@example.com")], "example.com", False),
        ([("URI", "sips:example.com")], "example.com", False),
        ([("URI", "http://example.com")], "example.com", False),
        ([("DNS", "*.example.com")], "sip.example.com", False),
        ([("DNS", "*.com")], "example.com", False),
        ([("IP Address", "192.0.2.1")], "192.0.2.1", True),
        ([("IP Address", "2001:DB8:0:0:0:0:0:1")], "2001:db8::1", True),
        ([("DNS", "192.0.2.1")], "192.0.2.1", False),
        ([("URI", "sip:192.0.2.1")], "192.0.2.1", True),
        ([("IP Address", "192.0.2.1")], "192.0.2.2", False),
        ([], "example.com", False),
    ],
)
def test_whose_certificate_it_is(names: list[tuple[str, str]], host: str, fits: bool) -> None:
    """RFC 5922 §7.1 and §7.2."""
    certificate = {"subject": ((("commonName", host),),), "subjectAltName": tuple(names)}
    assert (mismatch(certificate, host) is None) == fits


def test_wildcards_are_a_setting() -> None:
    certificate = {"subjectAltName": (("DNS", "*.example.com"),)}
    assert mismatch(certificate, "sip.example.com", wildcards=True) is None
    assert mismatch(certificate, "deep.sip.example.com", wildcards=True) is not None
    assert mismatch(certificate, "example.com", wildcards=True) is not None
    assert "wildcards count only where the settings allow them" in str(mismatch(certificate, "sip.example.com"))
