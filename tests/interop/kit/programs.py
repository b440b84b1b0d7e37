"""Finds the programs that the interop tests need, or says which Debian package has them."""

from __future__ import annotations

import os
import shutil

import pytest

__all__ = ["REQUIRE_VARIABLE", "missing", "require"]

REQUIRE_VARIABLE = "SIPCORE_REQUIRE_INTEROP"
"""Environment variable: when it is ``1``, a missing program is a failure and not a skip."""

PACKAGES = {
    "kamailio": "kamailio",
    "sipp": "sip-tester",
    "baresip": "baresip",
    "nsd": "nsd",
    "ip": "iproute2",
    "nft": "nftables",
}
"""Program → the Debian package that has it."""


def missing(reason: str) -> None:
    """Skip the running test because something from outside is missing, or fail where that is no excuse.

    Raises:
        pytest.skip.Exception: by default.
        pytest.fail.Exception: ``SIPCORE_REQUIRE_INTEROP=1``.
    """
    if os.environ.get(REQUIRE_VARIABLE) == "1":
        pytest.fail(f"{reason} ({REQUIRE_VARIABLE}=1)")
    pytest.skip(reason)


def require(program: str) -> str:
    """Path of ``program``; skips or fails the test, naming the Debian package, when it is not installed."""
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    if path is None:
        missing(f"{program} is not installed: apt-get install {PACKAGES[program]}")
    assert path is not None
    return path
