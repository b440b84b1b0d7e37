"""Programs of others as senders of `rtp_jitter.py`: they place calls by SIP, and talk to the same receiver.

A far end of fixed text answers each INVITE with the address of one of the receiver's sockets. What a program uses is
what the kernel counts of its process, all threads, in the window alone: its calls are up by then.

pjsua    the sample program of pjproject, built with room for the calls (`PJSUA_MAX_CALLS`, `PJSUA_MAX_CONF_PORTS`,
         `PJ_IOQUEUE_MAX_HANDLES` in config_site.h) and `-O2 -DNDEBUG`, `--enable-epoll`; no Debian 12 package has it.
         One file plays into all calls; no sound card, no echo canceller, no voice detection, one worker thread.
baresip  as Debian has it. A thread for each call plays a file; what it hears is decoded and thrown away.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import wave
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from common import raise_file_limit
from rtp_senders import PAYLOAD_TYPES, Job, resident_kib

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

__all__ = ["Callee", "call", "find"]

WAV_SECONDS = 600
"""baresip hangs up when its file has ended."""
SET_UP_SECONDS = 60
"""Within which all calls have to be up."""
MODULES = ("/usr/lib/baresip/modules", "/usr/lib/x86_64-linux-gnu/baresip/modules", "/usr/local/lib/baresip/modules")
BARESIP = """\
poll_method epoll
sip_listen {host}:{port}
call_local_timeout 120
call_max_calls 0
call_hold_other_calls no
audio_source aufile,{source}
audio_player aubridge,none
audio_alert aubridge,none
ausrc_format s16
auplay_format s16
auenc_format s16
audec_format s16
rtp_ports 10000-16000
module_path {modules}
module g711.so
module aufile.so
module aubridge.so
module_tmp account.so
module_app menu.so
module_app ctrl_tcp.so
ctrl_tcp_listen {host}:{control}
menu_bell no
statmode_default off
ringback_disabled yes
"""


def find(program: str) -> str:
    """Where a program is.

    Raises:
        SystemExit: it is nowhere.
    """
    path = shutil.which(program)
    if path is None:
        raise SystemExit(f"there is no program {program}: say where it is by --pjsua or --baresip")
    return path


class Callee:
    """The far end: answers INVITE with 200, and the k-th call with the k-th target."""

    def __init__(self, host: str, targets: list[tuple[str, int]], codec: str) -> None:
        self._targets = targets
        self._codec = codec
        self._calls: dict[str, int] = {}
        self._up: set[str] = set()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._socket.bind((host, 0))
        self.address: tuple[str, int] = self._socket.getsockname()
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def up(self) -> int:
        """Calls whose answer was acknowledged."""
        return len(self._up)

    def close(self) -> None:
        """Answers no more."""
        self._socket.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                data, source = self._socket.recvfrom(65535)
                answer = self.hear(data.decode("utf-8", "replace"))
                if answer:
                    self._socket.sendto(answer.encode(), source)

    def hear(self, text: str) -> str:
        """A message came; what is answered."""
        first, *lines = text.partition("\r\n\r\n")[0].split("\r\n")
        method = first.partition(" ")[0]
        fields = {line.partition(":")[0].strip().lower(): line.partition(":")[2].strip() for line in reversed(lines)}
        call_id = fields.get("call-id", fields.get("i", ""))
        if method == "ACK":
            self._up.add(call_id)
        if method in ("ACK", "SIP/2.0") or not call_id:
            return ""
        names = ("via", "v", "from", "f", "call-id", "i", "cseq", "record-route")
        head = [line for line in lines if line.partition(":")[0].strip().lower() in names]
        to = fields.get("to", fields.get("t", ""))
        head.append(f"To: {to}" if ";tag=" in to else f"To: {to};tag=far")
        head.append("Contact: <sip:far@{}:{}>".format(*self.address))
        body = ""
        if method == "INVITE":
            number = self._calls.setdefault(call_id, len(self._calls))
            if number >= len(self._targets):
                return "\r\n".join(("SIP/2.0 486 Busy Here", *head, "Content-Length: 0", "", ""))
            host, port = self._targets[number]
            kind = PAYLOAD_TYPES[self._codec]
            body = (
                f"v=0\r\no=far 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\n"
                f"m=audio {port} RTP/AVP {kind}\r\na=rtpmap:{kind} {self._codec}/8000\r\na=ptime:20\r\na=sendrecv\r\n"
            )
            head.append("Content-Type: application/sdp")
        return "\r\n".join(("SIP/2.0 200 OK", *head, f"Content-Length: {len(body)}", "", body))


def call(job: Job, pipe: Connection) -> None:
    """The process of a rival's window, see `rtp_senders.send`."""
    raise_file_limit(4 * len(job.targets) + 500)
    callee = Callee(job.local_host, job.targets, job.codec)
    start = {"pjsua": start_pjsua, "baresip": start_baresip}[job.sender]
    with tempfile.TemporaryDirectory() as folder:
        process = start(job, callee.address, Path(folder))
        try:
            deadline = time.monotonic() + SET_UP_SECONDS
            while callee.up < len(job.targets) and time.monotonic() < deadline and process.poll() is None:
                time.sleep(0.05)
            if callee.up < len(job.targets):
                pipe.send(f"{callee.up} of {len(job.targets)} calls came about within {SET_UP_SECONDS} s")
                return
            pipe.send("ready")
            pipe.recv()
            cpu, wall = cpu_seconds(process.pid), time.monotonic()
            pipe.recv()
            used = {"cpu": cpu_seconds(process.pid) - cpu, "wall": time.monotonic() - wall}
            memory = resident_kib(process.pid) / len(job.targets)
            pipe.send({**used, "ticks": 0, "missed_ticks": 0, "kib_per_call": memory})
        finally:
            process.kill()
            process.wait()
            callee.close()


def cpu_seconds(process: int) -> float:
    """CPU time of a process so far, all its threads."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def start_pjsua(job: Job, target: tuple[str, int], folder: Path) -> subprocess.Popen[bytes]:
    """pjsua, told by its menu to place all calls."""
    codec = {"PCMU": "pcmu", "PCMA": "pcma"}[job.codec]
    options = [
        f"--local-port={free_port(socket.SOCK_DGRAM, job.local_host)}",
        f"--bound-addr={job.local_host}",
        f"--max-calls={len(job.targets)}",
        f"--play-file={write_speech(folder)}",
        f"--add-codec={codec}",
        *[
            "--auto-play",
            "--null-audio",
            "--clock-rate=8000",
            "--snd-clock-rate=8000",
            "--ec-tail=0",
            "--no-vad",
            "--thread-cnt=1",
        ],
        *["--no-tcp", "--rtp-port=10000", "--log-level=1", "--app-log-level=1"],
    ]
    process = start(job, [job.program, *options], subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write("M\n{}\nsip:far@{}:{}\n".format(len(job.targets), *target).encode())
    process.stdin.flush()
    return process


def start_baresip(job: Job, target: tuple[str, int], folder: Path) -> subprocess.Popen[bytes]:
    """baresip, told by its control port to dial, call by call."""
    control = free_port(socket.SOCK_STREAM, job.local_host)
    values = {
        "host": job.local_host,
        "port": free_port(socket.SOCK_DGRAM, job.local_host),
        "source": write_speech(folder),
        "modules": next((path for path in MODULES if Path(path, "ctrl_tcp.so").exists()), MODULES[0]),
        "control": control,
    }
    (folder / "config").write_text(BARESIP.format(**values))
    account = f"<sip:near@{job.local_host}>;regint=0;audio_codecs={job.codec}/8000/1\n"
    (folder / "accounts").write_text(account)
    (folder / "contacts").write_text("\n")
    process = start(job, [job.program, "-f", str(folder)], subprocess.DEVNULL)
    dial = json.dumps({"command": "dial", "params": "sip:far@{}:{}".format(*target)}).encode()
    sock = connected(job.local_host, control, process.poll)
    for _ in job.targets:
        sock.sendall(b"%d:%s," % (len(dial), dial))
        time.sleep(0.02)
    threading.Thread(target=drain, args=(sock,), daemon=True).start()
    return process


def start(job: Job, command: list[str], stdin: int) -> subprocess.Popen[bytes]:
    """Starts a program that says nothing to anybody."""
    process = subprocess.Popen(command, stdin=stdin, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if job.affinity is not None:
        os.sched_setaffinity(process.pid, {job.affinity})
    return process


def connected(host: str, port: int, ended: Callable[[], int | None]) -> socket.socket:
    """A connection to a program that is about to listen.

    Raises:
        ConnectionError: it never did.
    """
    for _ in range(200):
        with contextlib.suppress(OSError):
            return socket.create_connection((host, port))
        if ended() is not None:
            break
        time.sleep(0.05)
    raise ConnectionError(f"nobody listens on {host} port {port}")


def drain(sock: socket.socket) -> None:
    """Reads what it tells, until it ends."""
    with contextlib.suppress(OSError):
        while sock.recv(1 << 16):
            pass


def free_port(kind: int, host: str) -> int:
    """A port that nobody has bound."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def write_speech(folder: Path) -> Path:
    """Something to say: noise, 8,000 Hz, mono."""
    second = np.random.default_rng(1).normal(0, 2000, 8000).astype("<i2").tobytes()
    path = folder / "speech.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(second * WAV_SECONDS)
    return path
