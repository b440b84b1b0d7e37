"""TLS of the gRPC port: the certificate that clients see, theirs where they have to show one, and both anew when their
files are replaced. (TLS of SIP is another thing: :mod:`sipcore.net.tls`.)

All is checked with OpenSSL before gRPC gets it, which would only say that it failed.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc

from service.watched_files import FileProblem, WatchedFiles, read_file

__all__ = ["GrpcTls", "TlsFiles"]


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files of the gRPC port."""

    certificate: Path
    """With its chain."""
    key: Path
    """May be the certificate's file."""
    client_ca: Path | None = None
    """Who signs the certificates of clients; None: they need none."""

    @property
    def all(self) -> tuple[Path, ...]:
        """Each of them once."""
        named = (self.certificate, self.key, self.client_ca)
        return tuple(dict.fromkeys(path for path in named if path is not None))


class GrpcTls:
    """The credentials of one server.

    Raises:
        FileProblem: a file is missing, is not what it should be, or the key is not the certificate's.
    """

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._newest: grpc.ServerCertificateConfiguration | None = None
        """What the next connection is to be served with; None: the same as the last."""
        self.watch = WatchedFiles(files.all, lambda: _loaded(files), self._take)
        """Sees to it that new files are used for new connections; those that are up go on."""

    def _take(self, configuration: grpc.ServerCertificateConfiguration) -> None:
        self._newest = configuration

    def credentials(self) -> grpc.ServerCredentials:
        """For the port."""
        first = self._fetch()
        assert first is not None
        return grpc.dynamic_ssl_server_credentials(
            first,
            self._fetch,  # type: ignore[arg-type]  # None is allowed: "no change"
            require_client_authentication=self._files.client_ca is not None,
        )

    def _fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """Asked by gRPC before each handshake, on a thread of its own: nothing is read here."""
        newest, self._newest = self._newest, None
        return newest


def _loaded(files: TlsFiles) -> grpc.ServerCertificateConfiguration:
    read = {path: read_file(path) for path in files.all}
    _check(files, read)
    if any(read_file(path) != content for path, content in read.items()):
        raise FileProblem(f"{files.certificate} and its key changed while they were read")
    roots = read[files.client_ca] if files.client_ca is not None else None
    return grpc.ssl_server_certificate_configuration([(read[files.key], read[files.certificate])], roots)


def _check(files: TlsFiles, read: dict[Path, bytes]) -> None:
    if b"-----BEGIN CERTIFICATE-----" not in read[files.certificate]:
        raise FileProblem(f"{files.certificate} holds no certificate in PEM")
    if b"PRIVATE KEY-----" not in read[files.key]:
        raise FileProblem(f"{files.key} holds no private key in PEM")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(files.certificate, files.key, password=_refuse_password)
    except _Encrypted:
        raise FileProblem(f"the key in {files.key} is encrypted: decrypt it for this program") from None
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise FileProblem(f"the key in {files.key} is not that of the certificate in {files.certificate}") from None
        raise FileProblem(f"cannot use {files.certificate} with {files.key}: {_reason(error)}") from None
    if files.client_ca is None:
        return
    try:
        context.load_verify_locations(files.client_ca)
    except ssl.SSLError:
        raise FileProblem(f"{files.client_ca} holds no certificate of a CA in PEM") from None


class _Encrypted(Exception):
    """OpenSSL wants to know a password."""


def _refuse_password() -> str:
    """OpenSSL would ask the terminal, which stops a server for ever."""
    raise _Encrypted


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).lower().replace("_", " ")
