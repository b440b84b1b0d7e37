"""Certificates made on the fly with the ``openssl`` program, once per test run and set of names."""

from __future__ import annotations

import atexit
import functools
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

__all__ = ["Authority", "Credentials", "authority"]


@dataclass(frozen=True, slots=True)
class Credentials:
    """A certificate and its key, as file names."""

    certificate: str
    key: str


@functools.cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="sipcore-certificates-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _openssl(*arguments: str) -> None:
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("openssl is not installed: apt-get install openssl")
    subprocess.run([program, *arguments], cwd=_folder(), check=True, capture_output=True)


class Authority:
    """A CA that signs whatever a test needs."""

    def __init__(self, name: str) -> None:
        self._name = name
        (_folder() / f"{name}.cnf").write_text(
            "[ca]\ndefault_ca=d\n[d]\nnew_certs_dir=.\ndatabase=" + f"{name}.db\nserial={name}.serial\n"
            "default_md=sha256\npolicy=p\nunique_subject=no\ncopy_extensions=copy\n[p]\ncommonName=supplied\n"
        )
        (_folder() / f"{name}.db").write_text("")
        (_folder() / f"{name}.serial").write_text("1000\n")
        _openssl(*self._request(name), "-x509", "-days", "30", "-addext", "basicConstraints=critical,CA:TRUE")
        self.ca_file = str(_folder() / f"{name}.pem")

    @staticmethod
    def _request(name: str) -> list[str]:
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        return ["req", *curve, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem"]

    @functools.cache  # noqa: B019 - authorities live as long as the run
    def issue(self, *names: str, expired: bool = False) -> Credentials:
        """A certificate for names as openssl writes them: ``DNS:example.com``, ``URI:sip:example.com``,
        ``IP:127.0.0.1``."""
        stem = f"{self._name}-{len(list(_folder().glob('*.crt')))}"
        _openssl(*self._request(stem), "-addext", f"subjectAltName={','.join(names)}")
        dates = ("20200101000000Z", "20200201000000Z") if expired else ("20200101000000Z", "20490101000000Z")
        _openssl(
            *("ca", "-batch", "-notext", "-config", f"{self._name}.cnf", "-cert", f"{self._name}.pem"),
            *("-keyfile", f"{self._name}.key", "-in", f"{stem}.pem", "-out", f"{stem}.crt"),
            *("-startdate", dates[0], "-enddate", dates[1]),
        )
        return Credentials(str(_folder() / f"{stem}.crt"), str(_folder() / f"{stem}.key"))


_authorities: dict[str, Authority] = {}


def authority(name: str = "test-ca") -> Authority:
    """The CA of that name."""
    if name not in _authorities:
        _authorities[name] = Authority(name)
    return _authorities[name]
