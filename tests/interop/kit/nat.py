"""A home router made of network namespaces: behind it a network of its own, masqueraded by nftables.

That takes root, and a kernel with veth and nftables; containers often have neither.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.interop.kit.programs import require

__all__ = ["INSIDE_HOST", "Nat", "nat"]

REFUSALS = (
    "not permitted",
    "Permission denied",
    "must be root",
    "not supported",
    "Read-only file system",
    "Unknown device type",
)
"""What the programs say where privileges or parts of the kernel are missing."""

INSIDE_HOST = "10.77.0.2"
"""Where an agent behind the router has its address."""


class Nat:
    """One router, between this machine and the namespace ``inside``."""

    def __init__(self, number: int) -> None:
        self.outside_host = f"198.18.{number % 256}.1"
        """This machine, as the router sees it."""
        self.public_host = f"198.18.{number % 256}.2"
        """The router, as this machine sees it."""
        self._link = f"sipnat{number}"
        self._router = f"sipnat-router-{number}"
        self._inside = f"sipnat-inside-{number}"

    @property
    def enter(self) -> list[str]:
        """What to put in front of a command that shall run behind the router."""
        return [require("ip"), "netns", "exec", self._inside]

    def open(self, ports: range) -> None:
        """Builds it; whoever sends UDP from behind gets a port of ``ports``."""
        _run("ip netns add", self._router)
        _run("ip netns add", self._inside)
        _run(f"ip link add {self._link} type veth peer name out netns {self._router}")
        _run(f"ip addr add {self.outside_host}/24 dev {self._link}")
        _run(f"ip link set {self._link} up")
        _run(f"ip -n {self._router} addr add {self.public_host}/24 dev out")
        _run(f"ip -n {self._router} link set out up")
        _run(f"ip -n {self._router} link add in type veth peer name eth netns {self._inside}")
        _run(f"ip -n {self._router} addr add 10.77.0.1/24 dev in")
        _run(f"ip -n {self._router} link set in up")
        _run(f"ip -n {self._inside} addr add {INSIDE_HOST}/24 dev eth")
        _run(f"ip -n {self._inside} link set eth up")
        _run(f"ip -n {self._inside} link set lo up")
        _run(f"ip -n {self._inside} route add default via 10.77.0.1")
        _run(f"ip netns exec {self._router} sh -c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        self._nft("add table ip nat")
        self._nft("add chain ip nat post { type nat hook postrouting priority 100 ; }")
        self._masquerade(ports)

    def reconnect(self, ports: range) -> None:
        """The line was down for a moment: all mappings are forgotten, and new ones are of ``ports``."""
        _run(f"ip -n {self._router} link set out down")
        self._nft("flush chain ip nat post")
        self._masquerade(ports)
        _run(f"ip -n {self._router} link set out up")

    def close(self) -> None:
        """Takes it down, also where it is not complete."""
        for namespace in (self._inside, self._router):  # and the links with them
            subprocess.run([require("ip"), "netns", "del", namespace], check=False, capture_output=True)

    def _masquerade(self, ports: range) -> None:
        where = f"{ports[0]}-{ports[-1]}"
        self._nft(f"add rule ip nat post oifname out meta l4proto udp masquerade to :{where} random")

    def _nft(self, command: str) -> None:
        _run(f"ip netns exec {self._router}", require("nft"), command)


@contextmanager
def nat(ports: range) -> Iterator[Nat]:
    """Builds a router, and takes it down again; skips the test where this machine does not allow it."""
    for program in ("ip", "nft"):
        require(program)
    router = Nat(os.getpid())
    try:
        router.open(ports)
    except PermissionError as error:
        router.close()
        pytest.skip(f"no router of network namespaces here, which takes root, veth and nftables: {error}")
    except BaseException:
        router.close()
        raise
    try:
        yield router
    finally:
        router.close()


def _run(command: str, *more: str) -> None:
    words = [*command.split(), *more]
    done = subprocess.run([require(words[0]), *words[1:]], check=False, capture_output=True, text=True)
    if done.returncode == 0:
        return
    if any(refusal in done.stderr for refusal in REFUSALS):
        raise PermissionError(f"{' '.join(words)}: {done.stderr.strip()}")
    raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")
