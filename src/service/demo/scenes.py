"""The play: one account's life over gRPC, from registration to the end of its session, each step checked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import numpy as np
import soundfile

from rtp.wav import load_wav
from service.config import Endpoint, ServerSettings
from service.demo.caller import Caller, kind
from service.demo.farend import FarEnd
from service.demo.measure import compare, level
from service.demo.plot import Picture, PlottingMissing, Span, draw
from service.demo.sounds import RATE, chime, wav_bytes
from service.generated.ondewo.sip import sip_pb2 as pb
from service.server import Server
from sipcore.config import UserAgentConfig

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.demo.farend import Ear
    from service.demo.stage import Stage

__all__ = ["Plan", "perform"]

USER, PASSWORD = "alice", "correct horse"
LOOPBACK = "127.0.0.1"
DIGITS = "42#"
SIMILAR = 0.95
"""Least correlation of a recording with what was played."""
SILENT = -60.0
"""dB of full scale: the highest level of silence. µ-law's smallest step is -72 dB."""
HEARING_DELAY_MS = 60
SETTLE = 0.25
"""Seconds for what was sent last to be heard: the jitter buffer's delay, and some."""
LOOK = 0.1
"""Seconds between two looks at how far the playing has come."""
PATIENCE = 10.0
"""Seconds for what must happen at the far end."""

Type = pb.SipStatus.StatusType


@dataclass(frozen=True, slots=True)
class Plan:
    """What the command line asks for."""

    speech: bytes
    """A wav file."""
    speech_name: str
    folder: Path
    """Exists; the recording goes there."""
    trace_sip: Path | None


class _Stopped(Exception):
    """A step failed without which the next ones make no sense."""


async def perform(plan: Plan, stage: Stage) -> None:
    """The whole demo; what went wrong is in ``stage.problems``.

    Raises:
        service.server.StartError, OSError: a port could not be opened.
    """
    # A fixed delay: what is recorded is measured, and a buffer that follows the network shifts what it plays.
    config = UserAgentConfig(
        sip_host=LOOPBACK,
        user_agent="sipcore demo far end",
        jitter_min_ms=HEARING_DELAY_MS,
        jitter_max_ms=HEARING_DELAY_MS,
    )
    async with FarEnd(config, {USER: PASSWORD}, stage.far_end) as far_end:
        # Neither variables nor files: a demo must not depend on the settings of a real server.
        settings = ServerSettings.model_construct(
            grpc=Endpoint(LOOPBACK, 0), sip=Endpoint(LOOPBACK, 0), trace_sip=plan.trace_sip
        )
        async with Server(settings) as server:
            stage.scene("The cast")
            stage.note(f"server    {server.ready_line.removeprefix('ready ')}")
            stage.note(f"far end   sip={far_end.address}: a registrar, and the telephones echo, busy and desk")
            stage.note(f"client    a gRPC channel to {server.grpc_address}; every line with a dot is a transition")
            stage.note("          that it found in the history of its account")
            async with Caller(str(server.grpc_address), stage.transition) as caller:
                play = _Play(plan, stage, far_end, server, caller)
                try:
                    await play.perform()
                except _Stopped:
                    stage.note("the rest of the demo needs this step, so it ends here")
                except grpc.aio.AioRpcError as error:
                    stage.problem(f"gRPC error {error.code().name}: {error.details()}")
                if far_end.error is not None:
                    stage.problem(f"the far end failed: {far_end.error!r}")
                play.review()


class _Play:
    """The scenes, in order."""

    def __init__(self, plan: Plan, stage: Stage, far_end: FarEnd, server: Server, caller: Caller) -> None:
        self._plan = plan
        self._stage = stage
        self._far_end = far_end
        self._server = server
        self._caller = caller
        self._account = f"{USER}@{far_end.address}"
        self._ear: Ear | None = None
        """Of the first call."""
        self._tracks: list[tuple[int, NDArray[np.int16]]] = []
        """Where in the recording of the first call each sound should begin, and the sound."""
        self._spans: list[Span] = []
        self._intervals: tuple[int, ...] = ()
        """Times between packets up to the keys: while one is pressed, no audio is sent (RFC 4733)."""
        self._speech = load_wav(plan.speech)

    async def perform(self) -> None:
        """Everything but the review."""
        await self._registration()
        await self._first_call()
        await self._refusal()
        await self._transfer()
        await self._inbound()
        await self._end()

    # -- scenes ----------------------------------------------------------------------------------------------

    async def _registration(self) -> None:
        self._stage.scene("1  Register and open the session")
        self._stage.request(f"SipRegisterAccount  {self._account}  (digest authentication)")
        await self._expect(self._caller.register(self._account, PASSWORD), Type.REGISTERED)
        self._stage.request(f"SipStartSession  {self._account}")
        await self._expect(self._caller.start_session(self._account), Type.READY)

    async def _first_call(self) -> None:
        self._stage.scene("2  Call, speak, mute, press keys, hang up")
        self._ear = ear = await self._dial("echo")
        await self._play_speech(ear)
        await self._mute(ear)
        await self._press_keys(ear)
        self._stage.request("SipEndCall")
        await self._expect(self._caller.end_call(), Type.OUTGOING_CALL_FINISHED)

    async def _refusal(self) -> None:
        self._stage.scene("3  A call that is refused")
        self._stage.request("SipStartCall  busy")
        status = await self._caller.call("busy")
        refused = status.status_type == Type.OUTGOING_CALL_FAILED and status.sip_response_code == 486
        found = f"{kind(status)} {status.sip_response_code}"
        self._stage.check(refused, "the refusal and its reason came back as a status", otherwise=found)

    async def _transfer(self) -> None:
        self._stage.scene("4  Transfer")
        await self._dial("echo")
        self._stage.request("SipTransferCall  desk  outcome_timeout_ms=3000")
        await self._expect(self._caller.transfer("desk", 3000), Type.TRANSFER_CALL_INITIATED)
        await self._reach(Type.OUTGOING_CALL_FINISHED)
        try:
            await asyncio.wait_for(self._far_end.transferred.wait(), PATIENCE)
        except TimeoutError:
            self._stage.problem("desk was never called")
        else:
            self._stage.check(True, "echo now talks to desk, and this side is out of the call")

    async def _inbound(self) -> None:
        self._stage.scene("5  A call comes in")
        try:
            ear = await asyncio.wait_for(self._far_end.ring(USER), PATIENCE)
        except Exception as error:
            self._stage.problem(f"the far end's call was not answered: {error!r}")
            return
        await self._reach(Type.INCOMING_CALL_CONNECTED)
        self._stage.request("SipPlayWavFiles  a chime")
        sound = chime()
        await self._expect(self._caller.play(wav_bytes(sound), seconds=1.0), Type.MICROPHONE_WAV_FILES_PLAYED)
        await asyncio.sleep(SETTLE)
        heard = compare(ear.recording, sound, rate=RATE).match
        self._stage.check(
            heard.similarity > SIMILAR, "the caller heard the chime", otherwise=f"similarity {heard.similarity:.3f}"
        )
        self._stage.far_end("echo hangs up")
        await ear.call.hangup()
        await self._reach(Type.INCOMING_CALL_FINISHED)

    async def _end(self) -> None:
        self._stage.scene("6  End the session")
        self._stage.request("SipEndSession")
        await self._expect(self._caller.end_session(), Type.SESSION_ENDED)
        gone = not self._far_end.bindings(USER)
        self._stage.check(gone, "the registrar has no binding left", otherwise="a binding is left")

    # -- parts of scenes -------------------------------------------------------------------------------------

    async def _dial(self, callee: str) -> Ear:
        self._stage.request(f"SipStartCall  {callee}")
        await self._expect(self._caller.call(callee), Type.OUTGOING_CALL_CONNECTED)
        return self._far_end.ears[-1]

    async def _play_speech(self, ear: Ear) -> None:
        total = len(self._speech) / RATE
        self._stage.request(f"SipPlayWavFiles  {self._plan.speech_name}  ({total:.1f} s)")
        start = ear.seconds
        playing = asyncio.create_task(self._caller.play(self._plan.speech, seconds=total))
        try:
            with self._stage.playing(total) as show:
                while not playing.done():
                    await asyncio.wait({playing}, timeout=LOOK)
                    counted = ear.statistics
                    text = f"{counted.packets_received} packets, {counted.lost} lost"
                    show(ear.seconds - start, ear.levels, text)
        finally:
            playing.cancel()
        await self._expect(playing, Type.MICROPHONE_WAV_FILES_PLAYED)
        await asyncio.sleep(SETTLE)

    async def _mute(self, ear: Ear) -> None:
        sound = chime()
        self._stage.request("SipMute, then SipPlayWavFiles  a chime that nobody shall hear")
        await self._expect(self._caller.mute(), Type.MICROPHONE_MUTED)
        await asyncio.sleep(SETTLE)
        begin = ear.samples
        packets = ear.statistics.packets_received
        await self._expect(self._caller.play(wav_bytes(sound), seconds=1.0), Type.MICROPHONE_WAV_FILES_PLAYED)
        loudness = level(ear.recording[begin:])
        packets = ear.statistics.packets_received - packets
        self._stage.check(
            loudness < SILENT and packets > 20,
            f"{packets} packets arrived meanwhile, with silence in them",
            otherwise=f"{packets} packets at {loudness:.0f} dB",
        )
        await asyncio.sleep(SETTLE)
        self._tracks.append((begin, sound))
        self._spans.append(Span(begin / RATE, ear.seconds, "muted"))
        self._stage.request("SipUnMute, then the chime again")
        await self._expect(self._caller.unmute(), Type.MICROPHONE_UNMUTED)
        begin = ear.samples
        await self._expect(self._caller.play(wav_bytes(sound), seconds=1.0), Type.MICROPHONE_WAV_FILES_PLAYED)
        await asyncio.sleep(SETTLE)
        match = compare(ear.recording[begin:], sound, rate=RATE).match
        self._tracks.append((begin + match.offset, sound))
        self._stage.check(
            match.similarity > SIMILAR, "and now it is heard", otherwise=f"similarity {match.similarity:.3f}"
        )

    async def _press_keys(self, ear: Ear) -> None:
        """The gRPC API has no method for keys; the library has, and this process holds the server's agent."""
        self._stage.request(f"keys {DIGITS}  (Call.send_dtmf of the library; the gRPC API has no method for keys)")
        begin, self._intervals = ear.seconds, ear.statistics.interarrival_ms
        await self._server.agent.calls[0].send_dtmf(DIGITS)
        await asyncio.sleep(SETTLE)
        self._spans.append(Span(begin, ear.seconds, f"keys {DIGITS}"))
        self._stage.check(ear.digits == DIGITS, f"the far end heard {DIGITS}", otherwise=f"heard {ear.digits!r}")

    async def _expect(self, request: Awaitable[pb.SipStatus], wanted: Type.ValueType) -> pb.SipStatus:
        """Awaits a request whose answer everything after it needs."""
        status = await request
        if status.status_type != wanted:
            about = f"{kind(status)} {status.exception_name} {status.description}"
            self._stage.problem(f"{Type.Name(wanted)} was to come, but it was {about.rstrip()}")
            raise _Stopped
        return status

    async def _reach(self, wanted: Type.ValueType) -> None:
        """Waits for a transition that no request asked for."""
        try:
            await self._caller.until(wanted, PATIENCE)
        except TimeoutError:
            self._stage.problem(f"{Type.Name(wanted)} did not come within {PATIENCE:.0f} s")
            raise _Stopped from None

    # -- review ----------------------------------------------------------------------------------------------

    def review(self) -> None:
        """What was heard in the first call, if there was one; also where a later step went wrong."""
        ear = self._ear
        if ear is None:
            return
        self._stage.scene("What the far end heard in the first call")
        recording, counted = ear.recording, ear.statistics
        heard = compare(recording, self._speech, rate=RATE)
        similarity = heard.match.similarity
        latest = max((index for index, count in enumerate(self._intervals) if count), default=0)
        self._stage.table(
            [
                ("duration", f"{ear.seconds:.2f} s", f"{counted.packets_received} packets of 20 ms"),
                ("lost", str(counted.lost), f"packets; {counted.late} late, {counted.duplicates} double"),
                ("jitter", f"{counted.jitter_ms:.2f} ms", f"RFC 3550; at most {latest + 1} ms between two packets"),
                ("similarity", f"{similarity:.4f}", f"of recording and {self._plan.speech_name}; 1 is the same wave"),
                ("damaged", f"{heard.damaged:.2f} s", f"of {len(self._speech) / RATE:.2f} s played"),
            ]
        )
        self._stage.check(similarity > SIMILAR, "what was played was heard", otherwise=f"similarity {similarity:.3f}")
        path = self._plan.folder / "heard.wav"
        soundfile.write(path, recording, RATE, subtype="PCM_16")
        self._stage.note(f"recording  {path}")
        summary = (
            f"{ear.seconds:.1f} s   ·   {counted.packets_received} packets   ·   {counted.lost} lost,"
            f" {counted.late} late   ·   jitter {counted.jitter_ms:.2f} ms   ·   similarity {similarity:.4f}"
        )
        tracks = [(heard.match.offset, self._speech), *self._tracks]
        picture = Picture(_laid_out(tracks, len(recording)), recording, RATE, self._intervals, self._spans, summary)
        try:
            draw(picture, self._plan.folder / "heard.png")
        except PlottingMissing:
            self._stage.note("picture    none: matplotlib is not installed (pip install matplotlib)")
        else:
            self._stage.note(f"picture    {self._plan.folder / 'heard.png'}")


def _laid_out(tracks: list[tuple[int, NDArray[np.int16]]], length: int) -> NDArray[np.int16]:
    """Sounds at their places in one track of ``length`` samples."""
    track = np.zeros(length, np.int16)
    for begin, sound in tracks:
        place = slice(max(0, begin), max(0, min(length, begin + len(sound))))
        track[place] = sound[place.start - begin : place.stop - begin]
    return track
