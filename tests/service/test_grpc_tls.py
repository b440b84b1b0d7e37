"""TLS of the gRPC port: what clients see and have to show, and what is said of files that cannot be used."""

from __future__ import annotations

import asyncio
import os
import shutil
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty

from service import watched_files
from service.config import Endpoint, ServerSettings, load_settings
from service.generated.ondewo.sip import sip_pb2 as pb
from service.generated.ondewo.sip.sip_pb2_grpc import SipStub
from service.server import Server, StartError
from tests.kit.certificates import Credentials, authority
from tests.service.program import run_server

NAMES = ("IP:127.0.0.1", "DNS:localhost")


@pytest.fixture
def files(tmp_path: Path) -> Credentials:
    """A certificate of the port and its key, to be replaced."""
    issued = authority().issue(*NAMES)
    shutil.copy(issued.certificate, tmp_path / "port.crt")
    shutil.copy(issued.key, tmp_path / "port.key")
    return Credentials(str(tmp_path / "port.crt"), str(tmp_path / "port.key"))


def replace(old: str, new: str) -> None:
    """As certificate managers do: never half a file."""
    shutil.copy(new, f"{old}.new")
    os.replace(f"{old}.new", old)


def trusting(ca: str, shown: Credentials | None = None) -> grpc.ChannelCredentials:
    """Credentials of a client."""
    roots = Path(ca).read_bytes()
    if shown is None:
        return grpc.ssl_channel_credentials(roots)
    return grpc.ssl_channel_credentials(roots, Path(shown.key).read_bytes(), Path(shown.certificate).read_bytes())


async def outcome(address: str, credentials: grpc.ChannelCredentials | None, *metadata: tuple[str, str]) -> str:
    """How a request ends over a connection of its own: ``answered``, or the name of its code."""
    opened = (
        grpc.aio.insecure_channel(address) if credentials is None else grpc.aio.secure_channel(address, credentials)
    )
    async with opened as channel:
        try:
            status = await SipStub(channel).SipGetSipStatus(Empty(), timeout=30, metadata=metadata or None)
        except grpc.aio.AioRpcError as error:
            return error.code().name
    assert status.status_type == pb.SipStatus.NO_SESSION
    return "answered"


def settings(**given: Any) -> ServerSettings:
    """Of a server on free ports."""
    return ServerSettings.model_construct(grpc=Endpoint("127.0.0.1", 0), sip=Endpoint("127.0.0.1", 0), **given)


async def test_a_server_process_speaks_tls_with_those_who_show_a_certificate_and_takes_new_ones(
    files: Credentials, tmp_path: Path
) -> None:
    """All of it, from the options on: server and client are two processes."""
    clients = authority("clients")
    token = tmp_path / "tokens"
    token.write_text("a-token-of-the-port\n")
    options = ["--grpc-tls-certificate", files.certificate, "--grpc-tls-key", files.key]
    options += ["--grpc-tls-client-ca", clients.ca_file, "--grpc-token-file", str(token), "--log-level", "debug"]
    bearer = ("authorization", "Bearer a-token-of-the-port")
    async with run_server(*options) as server:
        address = server.bound["grpc"]
        bot = clients.issue("DNS:bot")
        known = trusting(authority().ca_file, bot)
        assert await outcome(address, known, bearer) == "answered"
        documented = grpc.access_token_call_credentials("a-token-of-the-port")
        assert await outcome(address, grpc.composite_channel_credentials(known, documented)) == "answered"
        assert await outcome(address, known) == "UNAUTHENTICATED"
        assert await outcome(address, None, bearer) == "UNAVAILABLE"
        assert await outcome(address, trusting(authority().ca_file), bearer) == "UNAVAILABLE"
        stranger = authority("strangers").issue("DNS:bot")
        assert await outcome(address, trusting(authority().ca_file, stranger), bearer) == "UNAVAILABLE"
        other = authority("new-ca")
        assert await outcome(address, trusting(other.ca_file, bot), bearer) == "UNAVAILABLE"
        renewed = other.issue(*NAMES)
        replace(files.certificate, renewed.certificate)
        replace(files.key, renewed.key)
        async with asyncio.timeout(60):
            while await outcome(address, trusting(other.ca_file, bot), bearer) != "answered":  # noqa: ASYNC110
                await asyncio.sleep(0.1)
    assert "a-token-of-the-port" not in server.errors


async def test_certificates_that_are_replaced_are_shown_to_the_next_client_and_half_a_pair_to_nobody(
    files: Credentials, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(watched_files, "LOOK_SECONDS", 0.01)

    async def shown(address: Endpoint) -> str:
        return await asyncio.to_thread(ssl.get_server_certificate, address)

    made = settings(grpc_tls_certificate=Path(files.certificate), grpc_tls_key=Path(files.key))
    async with Server(made) as server:
        before = Path(files.certificate).read_text()
        async with grpc.aio.secure_channel(str(server.grpc_address), trusting(authority().ca_file)) as channel:
            await SipStub(channel).SipGetSipStatus(Empty(), timeout=30)
            assert await shown(server.grpc_address) == before
            renewed = authority().issue(*NAMES, "DNS:renewed")
            replace(files.certificate, renewed.certificate)
            await logged(caplog, "is not that of the certificate")
            assert await shown(server.grpc_address) == before
            replace(files.key, renewed.key)
            await logged(caplog, "read again")
            assert await shown(server.grpc_address) == Path(renewed.certificate).read_text()
            await SipStub(channel).SipGetSipStatus(Empty(), timeout=30)  # what is connected goes on
    assert caplog.text.count("is not that of the certificate") == 1  # and not once more with each look


async def logged(caplog: pytest.LogCaptureFixture, text: str) -> None:
    caplog.set_level("INFO")
    async with asyncio.timeout(60):
        while text not in caplog.text:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_certificate_and_key_may_be_one_file(files: Credentials, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_text(Path(files.key).read_text() + Path(files.certificate).read_text())
    async with Server(settings(grpc_tls_certificate=both)) as server:
        assert await outcome(str(server.grpc_address), trusting(authority().ca_file)) == "answered"


def encrypted(files: Credentials, folder: Path) -> dict[str, Path]:
    key = folder / "encrypted.key"
    command = ["openssl", "pkey", "-in", files.key, "-aes256", "-passout", "pass:hush", "-out", str(key)]
    subprocess.run(command, check=True, capture_output=True)
    return {"grpc_tls_certificate": Path(files.certificate), "grpc_tls_key": key}


def rubbish(files: Credentials, folder: Path) -> dict[str, Path]:
    broken = folder / "broken.pem"
    broken.write_text("-----BEGIN CERTIFICATE-----\nrubbish\n-----END CERTIFICATE-----\n")
    return {"grpc_tls_certificate": broken, "grpc_tls_key": Path(files.key)}


Wrong = Callable[[Credentials, Path], dict[str, Path]]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda files, folder: {"grpc_tls_certificate": folder / "none.pem"}, "cannot read .*none.pem: no such file"),
        (lambda files, folder: {"grpc_tls_certificate": folder}, "cannot read .*: is a directory"),
        (
            lambda files, folder: {"grpc_tls_certificate": Path(files.key)},
            "port.key holds no certificate in PEM",
        ),
        (lambda files, folder: {"grpc_tls_certificate": Path(files.certificate)}, "port.crt holds no private key"),
        (rubbish, "cannot use .*broken.pem with .*port.key: "),
        (encrypted, "the key in .*encrypted.key is encrypted: decrypt it"),
        (
            lambda files, folder: {
                "grpc_tls_certificate": Path(files.certificate),
                "grpc_tls_key": Path(authority().issue("DNS:another").key),
            },
            "the key in .* is not that of the certificate in .*port.crt",
        ),
        (
            lambda files, folder: {
                "grpc_tls_certificate": Path(files.certificate),
                "grpc_tls_key": Path(files.key),
                "grpc_tls_client_ca": Path(files.key),
            },
            "port.key holds no certificate of a CA",
        ),
        (lambda files, folder: {"grpc_tls_key": Path(files.key)}, "a key, or a CA of clients, needs --grpc-tls-cert"),
        (lambda files, folder: {"grpc_tls_client_ca": Path(files.key)}, "a key, or a CA of clients, needs"),
    ],
)
def test_files_that_cannot_be_used_keep_the_server_from_starting(
    wrong: Wrong, said: str, files: Credentials, tmp_path: Path
) -> None:
    trace = tmp_path / "trace.txt"
    given = load_settings({**wrong(files, tmp_path), "trace_sip": trace})
    with pytest.raises(StartError, match=f"^cannot use TLS for gRPC: .*{said}") as refused:
        Server(given)
    assert "\n" not in str(refused.value)
    assert not trace.exists()  # nothing was begun
