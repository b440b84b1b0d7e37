"""baresip as a telephone: microphone and ear are wav files in a folder of its own, ctrl_tcp its keypad."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tests.interop.kit.ports import HOST, free_ports, is_bound
from tests.interop.kit.process import Program, ProgramError, eventually
from tests.interop.kit.programs import require
from tests.interop.kit.sound import speech_like, write_wav

__all__ = ["RTP_PORTS", "Baresip", "BaresipOptions"]

RTP_PORTS = (33000, 48000)

_MODULES = (
    "/usr/lib/baresip/modules",
    "/usr/lib/x86_64-linux-gnu/baresip/modules",
    "/usr/lib/aarch64-linux-gnu/baresip/modules",
    "/usr/local/lib/baresip/modules",
)

# What is heard goes through the sndfile filter, which writes a wav and needs no sound card. The port after
# sip_listen is taken for TLS.
_CONFIG = """\
poll_method epoll
sip_listen {host}:{port}
net_interface {host}
call_local_timeout 120
call_max_calls 4
audio_source aufile,{source}
audio_player none
audio_alert none
ausrc_format s16
auplay_format s16
auenc_format s16
audec_format s16
rtp_ports {rtp}
jitter_buffer_delay 0-1
module_path {modules}
module g711.so
module g722.so
module aufile.so
module sndfile.so
module srtp.so
module_tmp account.so
module_app menu.so
module_app ctrl_tcp.so
ctrl_tcp_listen {host}:{control}
snd_path {folder}
menu_bell no
statmode_default off
ringback_disabled yes
"""


@dataclass(frozen=True, slots=True)
class BaresipOptions:
    """How one baresip is set up."""

    user: str
    domain: str
    """``host:port`` of its account's domain."""
    password: str = ""
    """Empty: it does not register and can only be called at its own address."""
    transport: Literal["udp", "tcp"] = "udp"
    answer: Literal["auto", "manual"] = "auto"
    codecs: str = "PCMU/8000/1,PCMA/8000/1"
    srtp: Literal["", "srtp", "srtp-mand"] = ""
    """Its ``mediaenc``: none, keys in RTP/AVP, or nothing but RTP/SAVP."""
    ptime: int = 20
    """Milliseconds that its packets hold, and that it asks for."""
    source: Path | None = None
    """wav file (mono, 16 bit, at the rate of its codec) that it speaks; when it ends, so does the call. ``None``: a
    minute of noise at 8,000 Hz."""
    rtp_ports: tuple[int, int] = RTP_PORTS


class Baresip:
    """A running telephone with one account."""

    def __init__(self, program: Program, options: BaresipOptions, folder: Path, port: int) -> None:
        self.program = program
        self.options = options
        self.folder = folder
        self.port = port
        self.events: list[dict[str, Any]] = []
        """What it reported, oldest first: ``type`` (``CALL_ESTABLISHED`` …), ``peeruri``, ``param``."""
        self._responses: dict[str, dict[str, Any]] = {}
        self._tokens = 0
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls, folder: Path, options: BaresipOptions) -> Baresip:
        """Start one, connect to its control port and, when it has a password, wait until it is registered."""
        executable = require("baresip")
        folder.mkdir(parents=True)
        port = free_ports(2)
        control = free_ports()
        modules = next((path for path in _MODULES if Path(path, "ctrl_tcp.so").exists()), _MODULES[0])
        # Without a source baresip would not even receive; its sine generator only runs at 48 kHz.
        source = options.source or write_wav(folder / "voice.wav", speech_like(60.0, seed=60))
        (folder / "config").write_text(
            _CONFIG.format(
                host=HOST,
                port=port,
                source=source,
                modules=modules,
                control=control,
                folder=folder.resolve(),
                rtp="{}-{}".format(*options.rtp_ports),
            )
        )
        transport = ";transport=tcp" if options.transport == "tcp" else ""
        (folder / "accounts").write_text(
            f"<sip:{options.user}@{options.domain}{transport}>"
            f";auth_user={options.user};auth_pass={options.password};regint={60 if options.password else 0}"
            f";answermode={options.answer};audio_codecs={options.codecs}"
            f"{f';mediaenc={options.srtp}' if options.srtp else ''};ptime={options.ptime}\n"
        )
        (folder / "contacts").write_text("\n")
        program = Program(f"baresip-{options.user}", [executable, "-f", str(folder), "-v", "-s"], folder)
        telephone = cls(program, options, folder, port)
        try:
            await program.ready(lambda: is_bound(control, "tcp") and is_bound(port, "udp"))
            reader, telephone._writer = await asyncio.open_connection(HOST, control)
            telephone._reading = asyncio.create_task(telephone._read(reader))
            if options.password:
                # The account may have registered before the control connection was there to tell.
                await program.ready(lambda: " 200 OK (" in program.log() or bool(telephone.of_type("REGISTER_OK")))
        except BaseException:
            await telephone.stop()
            raise
        return telephone

    @property
    def uri(self) -> str:
        """Where it can be called without a proxy in between."""
        suffix = ";transport=tcp" if self.options.transport == "tcp" else ""
        return f"sip:{self.options.user}@{HOST}:{self.port}{suffix}"

    async def stop(self) -> None:
        """Close the control connection and end the program."""
        if self._reading is not None:
            self._reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reading
        if self._writer is not None:
            self._writer.close()
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()
        await self.program.stop()

    # -- what a person at the telephone does --------------------------------------------------------------

    async def command(self, name: str, parameters: str = "") -> str:
        """Give one command of baresip's menu (``dial``, ``accept``, ``hangup``, ``hold``, ``resume`` …).

        Returns:
            what it printed.

        Raises:
            ProgramError: it refused, or did not answer within 5 s.
        """
        assert self._writer is not None
        self._tokens += 1
        token = str(self._tokens)
        body = json.dumps({"command": name, "params": parameters, "token": token}).encode()
        self._writer.write(b"%d:%s," % (len(body), body))
        await self._writer.drain()
        await eventually(lambda: token in self._responses, timeout=5, what=f"baresip's answer to {name}")
        response = self._responses.pop(token)
        if not response["ok"]:
            raise ProgramError(f"baresip refused {name} {parameters}: {response.get('data')}")
        return str(response.get("data", ""))

    async def dial(self, uri: str) -> None:
        await self.command("dial", uri)

    async def accept(self) -> None:
        await self.command("accept")

    async def hangup(self) -> None:
        await self.command("hangup")

    # -- what it reports ----------------------------------------------------------------------------------

    def of_type(self, kind: str) -> list[dict[str, Any]]:
        """The events of one type so far."""
        return [event for event in self.events if event.get("type") == kind]

    async def event(
        self,
        kind: str,
        *,
        count: int = 1,
        timeout: float = 10.0,
        where: Callable[[dict[str, Any]], bool] = lambda event: True,
    ) -> dict[str, Any]:
        """Wait for the ``count``-th event of a type, past ones included.

        Returns:
            that event.
        """

        def matching() -> list[dict[str, Any]]:
            return [event for event in self.of_type(kind) if where(event)]

        try:
            await eventually(
                lambda: len(matching()) >= count,
                timeout=timeout,
                what=f"{self.program.name} to report {kind}",
            )
        except ProgramError as error:
            seen = ", ".join(str(event.get("type")) for event in self.events)
            raise ProgramError(f"{error}; reported so far: {seen or 'nothing'}") from None
        return matching()[count - 1]

    async def recording(self, call: int = -1, *, timeout: float = 5.0) -> Path:
        """The wav with what it heard in one of its calls; call this after that call has ended.

        baresip completes the file's header when the call's audio is destroyed.

        Args:
            call: 0 is its first call, -1 its newest. A transfer has it place one more.
        """
        deadline = time.monotonic() + timeout
        while True:
            files = sorted(self.folder.glob("dump-*-dec.wav"))  # named by the second they were begun
            if files and _is_complete(files[call]):
                return files[call]
            if time.monotonic() > deadline:
                raise ProgramError(f"{self.program.name} left no complete recording in {self.folder}")
            await asyncio.sleep(0.02)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        """Take netstrings (``length:json,``) apart until the program closes the connection."""
        try:
            while True:
                length = int((await reader.readuntil(b":"))[:-1])
                message = json.loads(await reader.readexactly(length))
                await reader.readexactly(1)
                if message.get("event"):
                    self.events.append(message)
                else:
                    self._responses[str(message.get("token"))] = message
        except (asyncio.IncompleteReadError, ConnectionError):
            return


def _is_complete(wav: Path) -> bool:
    """Whether the header of a wav states the length that the file has."""
    content = wav.read_bytes()
    return len(content) > 44 and int.from_bytes(content[4:8], "little") == len(content) - 8
