"""The senders that `rtp_jitter.py` compares, each in a process of its own.

rows   the engine of this project: one clock, streams as rows of arrays; playing audio, with jitter buffers, RTCP and
       statistics at work.
live   the same with a program on each call that hears every frame, at 16 kHz, and says it again.
recorded
       rows, with every call recorded to a stereo file on the disk.
task   what people write first: an asyncio task for each call that encodes a frame, sends it and sleeps to its next
       deadline, and a datagram protocol for each that decodes what comes. Sleeping relative to the last packet, as many
       do, would run slow besides; this one does not.
bare   a loop over sockets that sends prepared packets and reads what comes back: what Python can do at best.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import select
import socket
import struct
import tempfile
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from common import Window, raise_file_limit

from rtp.audio_stream import AudioStream
from rtp.engine import MediaEngine
from rtp.g711 import Law, decode, encode
from rtp.recording import Recording
from rtp.sources import LoopedSource
from sipcore.tuning import tune_interpreter

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator
    from multiprocessing.connection import Connection

    from numpy.typing import NDArray

    from rtp.stream import RtpStream

__all__ = ["PTIMES", "SENDERS", "Job", "answer", "endless_tone", "resident_kib", "send"]

RATE = 8000
SAMPLES_PER_MS = RATE // 1000
PTIMES = range(10, 61, 10)
SENDERS = ("rows", "live", "recorded", "task", "pjsua", "baresip", "bare")
PAYLOAD_TYPES = {"PCMU": 0, "PCMA": 8}


@dataclass(frozen=True, slots=True)
class Job:
    """What a sender's process is to do."""

    sender: str
    targets: list[tuple[str, int]]
    """Where each stream goes."""
    local_host: str
    codec: Literal["PCMU", "PCMA"]
    ptime: int
    """Milliseconds of audio in a packet."""
    uvloop: bool
    affinity: int | None
    """The core that the process is bound to."""
    tuned: bool
    """Thread switches and garbage collection as the server sets them."""
    program: str = ""
    """Of a rival (`rtp_rivals`): where it is."""


@cache
def _two_seconds(hertz: float) -> NDArray[np.int16]:
    return (8000 * np.sin(2 * np.pi * hertz * np.arange(2 * RATE) / RATE)).astype(np.int16)


def endless_tone(hertz: float) -> LoopedSource:
    """What a call plays: two seconds over and over, the samples shared with others."""
    return LoopedSource(_two_seconds(hertz))


def send(job: Job, pipe: Connection) -> None:
    """The process: "ready" when it sends, "begin" and "end" of the window come in, then the result goes out."""
    if job.affinity is not None:
        os.sched_setaffinity(0, {job.affinity})
    raise_file_limit(2 * len(job.targets) + 100)
    if job.tuned:
        tune_interpreter()
    match job.sender:
        case "rows" | "live" | "recorded":
            _run(job, _send_rows(job, pipe))
        case "task":
            _run(job, _send_tasks(job, pipe))
        case "bare":
            _send_bare(job, pipe)
        case rival:
            raise ValueError(f"{rival} is none of these")


def _run(job: Job, work: Coroutine[Any, Any, None]) -> None:
    factory = None
    if job.uvloop:
        with contextlib.suppress(ImportError):
            from uvloop import new_event_loop as factory
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(work)


def resident_kib(process: int | str = "self") -> float:
    """Memory of this process, or another, that is in use; 0.0 where nobody tells."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024


async def answer(audio: AudioStream) -> None:
    """Says what it hears, 100 ms later."""
    await audio.write(np.full(audio.rate // 10, 1000, np.int16))
    async for frame in audio:
        audio.write_nowait(frame)


class _Company:
    """Who is on the streams besides: nobody, a program on each, or a recorder of each."""

    def __init__(self, kind: str, folder: Path) -> None:
        self._kind = kind
        self._folder = folder
        self._audios: list[AudioStream] = []
        self._answering: list[asyncio.Task[None]] = []
        self._recordings: list[Recording] = []

    def join(self, stream: RtpStream, number: int) -> None:
        """One more stream."""
        if self._kind == "live":
            audio = AudioStream(rate=16000, max_seconds=1)
            stream.converse(audio)
            self._audios.append(audio)
            self._answering.append(asyncio.create_task(answer(audio)))
            return
        stream.play(endless_tone(300 + 10 * (number % 10)))
        if self._kind == "recorded":
            self._recordings.append(Recording(self._folder / f"{number}.wav", stereo=True))
            stream.record(self._recordings[-1])

    async def leave(self) -> dict[str, Any]:
        """The engine has closed. What did not reach them, or was not said in time."""
        await asyncio.gather(*self._answering)
        for recording in self._recordings:
            await recording.wait_closed()
        if self._audios:
            return {
                "live_dropped": sum(audio.dropped for audio in self._audios),
                "live_underruns": sum(audio.underruns for audio in self._audios),
            }
        if self._recordings:
            seconds = [recording.seconds for recording in self._recordings]
            return {
                "recordings_failed": sum(recording.error is not None for recording in self._recordings),
                "recorded_seconds": {"least": min(seconds), "most": max(seconds)},
            }
        return {}


@contextlib.contextmanager
def _folder(kind: str) -> Iterator[Path]:
    """For recordings."""
    with tempfile.TemporaryDirectory() if kind == "recorded" else contextlib.nullcontext("") as folder:
        yield Path(folder)


async def _send_rows(job: Job, pipe: Connection) -> None:
    with _folder(job.sender) as folder:
        engine = MediaEngine(ports=(16384, 32767))
        await engine.start()
        empty = resident_kib()
        company = _Company(job.sender, folder)
        payload_type = PAYLOAD_TYPES[job.codec]
        streams = [engine.open_stream(job.local_host) for _ in job.targets]
        for number, (stream, target) in enumerate(zip(streams, job.targets, strict=True)):
            neighbour = streams[min(number ^ 1, len(streams) - 1)]
            stream.configure(
                target,
                codec=job.codec,
                payload_type=payload_type,
                receive_payload_types={payload_type: job.codec},
                # The receiver knows no RTCP: two streams each tell one another of what comes from there.
                rtcp=(job.local_host, neighbour.local_port + 1),
                ptime_ms=job.ptime,
            )
            company.join(stream, number)
        window = Window()
        before, memory = engine.statistics(), 0.0
        pipe.send("ready")
        while True:
            if pipe.poll():
                if pipe.recv() == "end":
                    break
                before, memory = engine.statistics(), resident_kib()
                window.begin()
            await asyncio.sleep(0.05)
        window.end()
        after, used = engine.statistics(), resident_kib()
        received = [stream.statistics() for stream in streams]
        await engine.close()
        pipe.send(
            {
                "cpu": window.cpu,
                "wall": window.wall,
                "ticks": after.ticks - before.ticks,
                "missed_ticks": after.missed_ticks - before.missed_ticks,
                "tick_ms_p50": after.tick_ms_p50,
                "tick_ms_p99": after.tick_ms_p99,
                "clock_lateness_ms_p99": after.lateness_ms_p99,
                "echo_lost": sum(one.lost for one in received),
                "echo_late": sum(one.late for one in received),
                "echo_concealed": sum(one.concealed for one in received),
                "kib_per_call": (used - empty) / len(streams),
                "grown_kib": used - memory,
                **await company.leave(),
            }
        )


class _Call(asyncio.DatagramProtocol):
    """One call of the baseline that people know."""

    def __init__(self, tone: LoopedSource, law: Law, payload_type: int, ptime: int) -> None:
        self._tone, self._law, self._payload_type = tone, law, payload_type
        self._period, self._samples = ptime / 1000, ptime * SAMPLES_PER_MS
        self._ssrc = random.getrandbits(32)
        self.heard: NDArray[np.int16] | None = None
        self.ticks = self.missed = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.heard = decode(np.frombuffer(data, np.uint8)[12:], self._law)

    async def talk(self) -> None:
        """Until it is cancelled."""
        loop = asyncio.get_running_loop()
        start, sequence, samples = loop.time(), 0, self._samples
        while True:
            sequence += 1
            self.ticks += 1
            delay = start + sequence * self._period - loop.time()
            self.missed += delay < -self._period
            await asyncio.sleep(max(0.0, delay))
            header = struct.pack(
                "!BBHII", 0x80, self._payload_type, sequence & 0xFFFF, sequence * samples & 0xFFFFFFFF, self._ssrc
            )
            self._transport.sendto(header + encode(self._tone.read(samples), self._law).tobytes())


async def _send_tasks(job: Job, pipe: Connection) -> None:
    loop = asyncio.get_running_loop()
    empty = resident_kib()
    calls = []
    tasks = []
    for number, target in enumerate(job.targets):
        _, call = await loop.create_datagram_endpoint(
            lambda number=number: _Call(  # type: ignore[misc]
                endless_tone(300 + number % 10), Law[job.codec], PAYLOAD_TYPES[job.codec], job.ptime
            ),
            remote_addr=target,
        )
        calls.append(call)
        tasks.append(asyncio.create_task(call.talk()))
    window = Window()
    pipe.send("ready")
    while True:
        if pipe.poll():
            if pipe.recv() == "end":
                break
            for call in calls:
                call.ticks = call.missed = 0
            window.begin()
        await asyncio.sleep(0.05)
    window.end()
    pipe.send(
        {
            "cpu": window.cpu,
            "wall": window.wall,
            "ticks": sum(call.ticks for call in calls),
            "missed_ticks": sum(call.missed for call in calls),
            "kib_per_call": (resident_kib() - empty) / len(calls),
        }
    )
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


def _send_bare(job: Job, pipe: Connection) -> None:
    rng = random.Random()
    period, samples = job.ptime / 1000, job.ptime * SAMPLES_PER_MS
    poller = select.epoll()
    calls = []
    readers = {}
    for target in job.targets:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((job.local_host, 0))
        sock.connect(target)
        sock.setblocking(False)
        poller.register(sock, select.EPOLLIN)
        head = struct.pack("!BBHII", 0x80, PAYLOAD_TYPES[job.codec], 0, 0, rng.getrandbits(32))
        calls.append((sock.send, bytearray(head + b"\x55" * samples)))
        readers[sock.fileno()] = sock
    inbox = bytearray(2048)
    window = Window()
    ticks = missed = sequence = 0
    pipe.send("ready")
    start = time.monotonic()
    while True:
        deadline = start + (sequence + 1) * period
        delay = deadline - time.monotonic()
        if delay > 0:
            time.sleep(delay)
        elif delay < -period:
            missed += 1
        sequence += 1
        ticks += 1
        header = struct.pack("!HI", sequence & 0xFFFF, sequence * samples & 0xFFFFFFFF)
        for transmit, packet in calls:
            packet[2:8] = header
            # A full buffer, or a far end that is not there yet: what is lost, the receiver counts.
            with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
                transmit(packet)
        while events := poller.poll(0, len(calls)):
            for descriptor, _ in events:
                with contextlib.suppress(ConnectionRefusedError):
                    readers[descriptor].recv_into(inbox)
        if ticks % 3 == 0 and pipe.poll():
            if pipe.recv() == "end":
                break
            ticks = missed = 0
            window.begin()
    window.end()
    pipe.send({"cpu": window.cpu, "wall": window.wall, "ticks": ticks, "missed_ticks": missed})
