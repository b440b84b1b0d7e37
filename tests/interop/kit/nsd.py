"""NSD as the name server of one zone, ``example.test``, on a port of the loopback address."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.interop.kit.ports import HOST, free_ports, is_bound
from tests.interop.kit.process import Program
from tests.interop.kit.programs import require

__all__ = ["Nsd"]

_CONFIG = """\
server:
  ip-address: {host}@{port}
  username: ""
  chroot: ""
  zonesdir: "{folder}"
  database: ""
  pidfile: "{folder}/nsd.pid"
  zonelistfile: "{folder}/zone.list"
  xfrdfile: "{folder}/xfrd.state"
  xfrdir: "{folder}"
  server-count: 1
remote-control:
  control-enable: no
zone:
  name: "example.test"
  zonefile: "example.test.zone"
"""
_HEAD = """\
$ORIGIN example.test.
$TTL {ttl}
@ IN SOA ns hostmaster {serial} 60 60 60 1
@ IN NS ns
ns IN A 127.0.0.1
"""


class Nsd:
    """A running server; :meth:`publish` changes what it says."""

    def __init__(self, program: Program, folder: Path, port: int) -> None:
        self.program = program
        self._folder = folder
        self._port = port
        self._serial = 0

    @classmethod
    async def start(cls, folder: Path, records: str, *, ttl: int = 60) -> Nsd:
        """Start one and wait until it listens.

        Args:
            records: lines of a zone file.
        """
        executable = require("nsd")
        folder.mkdir(parents=True)
        port = free_ports()
        (folder / "nsd.conf").write_text(_CONFIG.format(host=HOST, port=port, folder=folder.resolve()))
        program = Program("nsd", [executable, "-d", "-c", str(folder / "nsd.conf")], folder)
        server = cls(program, folder, port)
        server._write(records, ttl)
        await program.ready(lambda: is_bound(port, "udp"))
        return server

    @property
    def address(self) -> str:
        """``host:port``."""
        return f"{HOST}:{self._port}"

    def publish(self, records: str, *, ttl: int = 60) -> None:
        """Other records from now on, as soon as it has read them."""
        self._write(records, ttl)
        self.program.send_signal(signal.SIGHUP)

    def _write(self, records: str, ttl: int) -> None:
        self._serial += 1
        zone = self._folder / "example.test.zone"
        zone.write_text(_HEAD.format(ttl=ttl, serial=self._serial) + records + "\n")

    async def stop(self) -> None:
        await self.program.stop()
