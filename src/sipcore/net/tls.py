"""TLS: contexts from settings, and whose certificate it is (RFC 3261 §26.3.1, RFC 5922)."""

from __future__ import annotations

import errno
import ssl
from typing import TYPE_CHECKING, Any

from sipcore.net.addresses import ip_literal, sentence

if TYPE_CHECKING:
    from sipcore.config import TlsConfig

__all__ = ["HANDSHAKE_TIMEOUT", "Certificate", "client_context", "handshake_failure", "mismatch", "server_context"]

HANDSHAKE_TIMEOUT = 5.0
"""Seconds; a peer that connects and says nothing shall not hold a socket for long."""

Certificate = dict[str, Any]
"""As :meth:`ssl.SSLSocket.getpeercert` gives it; empty where none was verified."""

_WORDS = {
    "WRONG_VERSION_NUMBER": "the peer does not speak TLS on this port",
    "UNSUPPORTED_PROTOCOL": "the peer speaks no TLS 1.2 or newer",
    "TLSV1_ALERT_PROTOCOL_VERSION": "the peer speaks no TLS 1.2 or newer",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the peer wants a client certificate",
    "TLSV1_ALERT_UNKNOWN_CA": "the peer does not know the CA of our certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the peer refuses our certificate",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the peer refuses our certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the peer says that our certificate has expired",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "the peer refuses the handshake: no common cipher, or a certificate is missing",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the peer showed no client certificate",
}


def client_context(config: TlsConfig) -> ssl.SSLContext:
    """For connections of ours: verifies the server, and shows our certificate where one is configured.

    Names are compared by :func:`mismatch` and not by OpenSSL, which knows no ``sip:`` names.

    Raises:
        OSError: a file cannot be read, or is no certificate or key; the message names it.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    if config.verify:
        _trust(context, config)
    else:
        context.verify_mode = ssl.CERT_NONE
    _show(context, config)
    return context


def server_context(config: TlsConfig) -> ssl.SSLContext:
    """For connections that come in: shows our certificate; asks for the client's if so configured.

    Raises:
        OSError: see :func:`client_context`.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if config.verify_clients:
        context.verify_mode = ssl.CERT_REQUIRED
        _trust(context, config)
    _show(context, config)
    return context


def _trust(context: ssl.SSLContext, config: TlsConfig) -> None:
    if not config.ca_file:
        context.load_default_certs()
        return
    try:
        context.load_verify_locations(config.ca_file)
    except OSError as error:
        raise OSError(error.errno, f"TLS: {config.ca_file} holds no CA certificates: {_cause(error)}") from error


def _show(context: ssl.SSLContext, config: TlsConfig) -> None:
    if not config.certificate:
        if config.key or config.verify_clients or config.port is not None:
            raise OSError(errno.EINVAL, "TLS: a key, a port or the check of clients needs a certificate")
        return
    try:
        context.load_cert_chain(config.certificate, config.key or None, password=_refuse_password)
    except (OSError, ValueError) as error:
        files = f"{config.certificate} and {config.key}" if config.key else config.certificate
        number = error.errno if isinstance(error, OSError) else None
        raise OSError(number, f"TLS: no certificate with its key in {files}: {_cause(error)}") from error


def _refuse_password() -> str:
    """OpenSSL would ask the terminal, which stops a server for ever."""
    raise ValueError("the key is encrypted; decrypt it for this program")


def _cause(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).lower().replace("_", " ")
    return sentence(error) if isinstance(error, OSError) else str(error)


def mismatch(certificate: Certificate, host: str, *, wildcards: bool = False) -> str | None:
    """Why a verified certificate is not that of the SIP domain ``host``; None where it is (RFC 5922 §7.1, §7.2).

    ``host`` is what the URI says, not what DNS made of it: who controls DNS shall not control whom we trust. The
    certificate's names are its subjectAltNames: domain names, ``sip:`` URIs without a user part, addresses.

    Args:
        wildcards: whether ``*.example.com`` is a name of ``sip.example.com``. RFC 5922 §7.2 forbids it.
    """
    wanted = host.rstrip(".").lower()
    literal = ip_literal(wanted)
    names: list[str] = []
    addresses: list[str] = []
    for kind, value in certificate.get("subjectAltName", ()):
        match kind:
            case "DNS":
                names.append(value.rstrip(".").lower())
            case "URI" if value.lower().startswith("sip:") and "@" not in value:
                name = _host_of(value[4:])
                (names if ip_literal(name) is None else addresses).append(name)
            case "IP Address":
                addresses.append(ip_literal(value.strip()) or value)
            case _:
                pass
    if literal is not None:
        return None if literal in addresses else _verdict(names + addresses, host)
    if wanted in names:
        return None
    domain = wanted.partition(".")[2]
    if f"*.{domain}" in names and "." in domain:
        if wildcards:
            return None
        return f"{_verdict(names, host)}; wildcards count only where the settings allow them (RFC 5922 §7.2)"
    return _verdict(names + addresses, host)


def _host_of(rest: str) -> str:
    host = rest.partition(";")[0].partition("?")[0].lower()
    literal = ip_literal(host)
    return literal if literal is not None else host.partition(":")[0].rstrip(".")


def _verdict(names: list[str], host: str) -> str:
    shown = ", ".join(names[:4]) + (", …" if len(names) > 4 else "")
    return f"certificate verify failed: it is for {shown or 'no domain'}, not for {host}"


def handshake_failure(error: OSError) -> str:
    """What went wrong with TLS, or below it, in words one can act on."""
    match error:
        case ssl.SSLCertVerificationError():
            return f"certificate verify failed: {error.verify_message or error.reason}"
        case ssl.SSLError():
            reason = error.reason or ""
            return _WORDS.get(reason) or f"TLS: {(reason or str(error)).lower().replace('_', ' ')}"
        case TimeoutError():
            return "timed out: nobody is there, or it does not speak TLS on this port"
        case ConnectionResetError() | ConnectionAbortedError():
            return "the peer closed the connection during the TLS handshake"
        case _:
            return sentence(error)
