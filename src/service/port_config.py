"""Settings of the gRPC port: part of :class:`service.config.ServerSettings`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field
from pydantic_settings import BaseSettings

from service import values
from service.grpc_tls import TlsFiles
from service.values import Endpoint

__all__ = ["PortSettings"]


class PortSettings(BaseSettings):
    """Where gRPC listens, and for whom."""

    grpc: Annotated[Endpoint, BeforeValidator(values.endpoint)] = Field(
        default=Endpoint("127.0.0.1", 50051),
        description="Address for gRPC clients. Beyond a network that you trust it wants TLS and a token.",
        json_schema_extra={"metavar": "HOST:PORT"},
    )
    reflection: bool = Field(
        default=True, description="Tell gRPC clients such as grpcurl which services and messages there are."
    )
    grpc_tls_certificate: Path | None = Field(
        default=None,
        description="PEM file with the certificate and chain of the gRPC port. With one, it speaks TLS only.",
        json_schema_extra={"metavar": "FILE"},
    )
    grpc_tls_key: Path | None = Field(
        default=None,
        description="PEM file with its private key; by default it is in the certificate's file.",
        json_schema_extra={"metavar": "FILE"},
    )
    grpc_tls_client_ca: Path | None = Field(
        default=None,
        description="PEM file with the CAs of gRPC clients: those without a certificate of one are refused.",
        json_schema_extra={"metavar": "FILE"},
    )
    grpc_token_file: Path | None = Field(
        default=None,
        description="File with tokens, one a line: gRPC requests without one of them are refused (authorization:"
        " Bearer TOKEN), but for the health service.",
        json_schema_extra={"metavar": "FILE"},
    )

    def grpc_tls_files(self) -> TlsFiles | None:
        """Those of TLS; None: none is spoken.

        Raises:
            ValueError: some are named, but no certificate.
        """
        if self.grpc_tls_certificate is None:
            if self.grpc_tls_key is not None or self.grpc_tls_client_ca is not None:
                raise ValueError("a key, or a CA of clients, needs --grpc-tls-certificate")
            return None
        key = self.grpc_tls_key or self.grpc_tls_certificate
        return TlsFiles(self.grpc_tls_certificate, key, self.grpc_tls_client_ca)
