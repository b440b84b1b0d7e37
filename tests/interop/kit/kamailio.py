"""Kamailio as registrar and proxy: location in memory, digest with a fixed list of subscribers."""

from __future__ import annotations

import asyncio
import http.client
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tests.interop.kit.ports import HOST, free_ports, is_bound
from tests.interop.kit.process import Program, ProgramError, eventually
from tests.interop.kit.programs import require
from tests.kit.certificates import Credentials

__all__ = ["BOT_SECRET", "DOMAIN", "SUBSCRIBERS", "Kamailio", "KamailioOptions"]

DOMAIN = "sip.interop.test"
"""A domain that Kamailio serves and no name server knows: accounts there need an outbound proxy."""

SUBSCRIBERS = {
    "alice": "alice-secret",
    "bob": "bob-secret",
    "carol": "carol-secret",
    "dave": "dave-secret",
    "+4366012345": "number-secret",
}
"""User → password; the same list as in kamailio.cfg."""

BOT_SECRET = "bot-secret"
"""Password of ``bot0``, ``bot1``, … of which any number may register."""

_CONFIG = Path(__file__).with_name("kamailio.cfg")
_EDGE_CONFIG = Path(__file__).with_name("edge.cfg")


@dataclass(frozen=True, slots=True)
class KamailioOptions:
    """Which of the variants of kamailio.cfg runs."""

    host: str = HOST
    """The address that it uses."""
    record_route: bool = True
    challenge_requests: bool = True
    """407 to dialog-forming requests of subscribers; REGISTER is always challenged (401)."""
    challenge_in_dialog: bool = False
    """407 to re-INVITE, BYE and REFER as well."""
    algorithm: Literal["", "MD5", "SHA-256"] = "MD5"
    nonce_seconds: int = 300
    max_expires: int = 3600
    tls: Credentials | None = None
    """Speak TLS on the port after the others, with this certificate."""
    tls_ca: str = ""
    """PEM file with the CA of the clients; with one, their certificates are asked for."""
    edge_of: str = ""
    """``host:port`` of a registrar: this one is an edge proxy in front of it, and nothing of the above holds."""

    @property
    def config(self) -> Path:
        """Its configuration."""
        return _EDGE_CONFIG if self.edge_of else _CONFIG

    def defines(self) -> list[str]:
        """The ``-A`` arguments for the command line."""
        if self.edge_of:
            return ["-A", f'REGISTRAR="sip:{self.edge_of}"']
        names = [
            f'ALGORITHM="{self.algorithm}"',
            f"NONCE_SECONDS={self.nonce_seconds}",
            f"MAX_EXPIRES={self.max_expires}",
        ]
        if self.record_route:
            names.append("RECORD_ROUTE")
        if self.challenge_requests:
            names.append("CHALLENGE_REQUESTS")
        if self.challenge_in_dialog:
            names.append("CHALLENGE_IN_DIALOG")
        if self.tls is not None:
            names += [f'TLS_CERTIFICATE="{self.tls.certificate}"', f'TLS_KEY="{self.tls.key}"']
            names.append(f'TLS_CA="{self.tls_ca or self.tls.certificate}"')
            if self.tls_ca:
                names.append("TLS_REQUIRE")
        return [argument for name in names for argument in ("-A", name)]


class Kamailio:
    """A running server, on one port for UDP and TCP, and the next one for TLS."""

    def __init__(self, program: Program, port: int, host: str = HOST) -> None:
        self.program = program
        self.port = port
        self.host = host

    @classmethod
    async def start(cls, folder: Path, options: KamailioOptions | None = None) -> Kamailio:
        """Start one in ``folder`` and wait until both transports listen."""
        executable = require("kamailio")
        options = options or KamailioOptions()
        port = free_ports(2)
        folder.mkdir(parents=True)
        argv = [executable, "-f", str(options.config), "-DD", "-E", "-w", str(folder), "-Y", str(folder)]
        argv += ["-m", "32", "-M", "4", "-l", f"udp:{options.host}:{port}", "-l", f"tcp:{options.host}:{port}"]
        if options.tls is not None:
            argv += ["-l", f"tls:{options.host}:{port + 1}"]
        argv += options.defines()
        kamailio = cls(Program("kamailio", argv, folder), port, options.host)
        await kamailio.program.ready(lambda: is_bound(port, "udp") and is_bound(port, "tcp"))
        if options.tls is not None:
            await kamailio.program.ready(lambda: is_bound(port + 1, "tcp"))
        # The sockets are bound before the workers read them: an answer is the proof.
        await kamailio.rpc("core.version")
        return kamailio

    @property
    def address(self) -> str:
        """``host:port``, also the domain of its subscribers."""
        return f"{self.host}:{self.port}"

    @property
    def tls_address(self) -> str:
        """``host:port`` of TLS."""
        return f"{self.host}:{self.port + 1}"

    def aor(self, user: str, *, transport: str = "") -> str:
        """``user@host:port``, with ``;transport=`` where one is asked for."""
        return f"{user}@{self.address}" + (f";transport={transport}" if transport else "")

    async def rpc(self, method: str, *params: object) -> Any:
        """Call a JSON-RPC method of the server.

        Raises:
            ProgramError: it answered with an error.
        """
        body = json.dumps({"jsonrpc": "2.0", "method": method, "params": list(params), "id": 1}).encode()

        def post() -> Any:
            connection = http.client.HTTPConnection(self.host, self.port, timeout=5)
            try:
                connection.request("POST", "/RPC", body)
                return json.loads(connection.getresponse().read())
            finally:
                connection.close()

        answer = await asyncio.to_thread(post)
        if "error" in answer and not _is_empty_lookup(answer["error"]):
            raise ProgramError(f"{method}{params}: {answer['error']}")
        return answer.get("result")

    async def contacts(self, user: str) -> list[dict[str, Any]]:
        """What the location table holds for ``user``, newest first."""
        found = await self.rpc("ul.lookup", "location", user)
        return [] if found is None else [entry["Contact"] for entry in found["Contacts"]]

    async def bind(self, user: str, contact: str) -> None:
        """Put a contact into the location table, for a peer that does not register by itself."""
        await self.rpc("ul.add", "location", user, contact, 3600, 1.0, ".", 0, 0, 4095)

    async def logged(self, text: str, *, timeout: float = 5.0, count: int = 1) -> None:
        """Wait until ``text`` stands in the log ``count`` times."""
        await eventually(
            lambda: self.program.log().count(text) >= count,
            timeout=timeout,
            what=f"{text!r} in Kamailio's log",
        )

    async def stop(self) -> None:
        await self.program.stop()


def _is_empty_lookup(error: dict[str, Any]) -> bool:
    """Nobody of that name, or one whose contacts have all expired and are about to be swept."""
    message = str(error.get("message", "")).lower()
    return error.get("code") in (404, 500) and ("not found" in message or "no contacts" in message)
