"""The handle of one stream: a row of the engine's arrays, a pair of ports, what it plays and who listens."""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING

from rtp.codecs import CODECS
from rtp.dtmf import EventReceiver, EventSender, EventToSend, duration_samples
from rtp.ears import Ears
from rtp.endpoint import Endpoint, endpoint_of, family_of, reached_from
from rtp.g711 import Law
from rtp.jitter import FRAME
from rtp.packing import PTIMES
from rtp.playback import Playback, PlaybackQueue, PlaybackResult
from rtp.rates import WIDE
from rtp.receive import Kind
from rtp.srtp import Cipher
from rtp.statistics import StreamStatistics
from rtp.wideband import Coders, is_coded

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from rtp.ahead import Shelf
    from rtp.audio_stream import AudioStream
    from rtp.control import ControlPeer
    from rtp.engine import MediaEngine
    from rtp.halving import Speaker
    from rtp.listener import Listener
    from rtp.ports import PortPair
    from rtp.recording import Recording
    from rtp.recording_stream import RecordingStream
    from rtp.sinks import AudioSink
    from rtp.sources import AudioSource
    from rtp.srtp import MasterKey
    from rtp.talker import Talker

__all__ = ["AlreadyTalking", "Playback", "PlaybackResult", "RtpStream", "StreamStatistics"]

logger = logging.getLogger(__name__)

RATE = 8000
KINDS = {**{name: codec.kind for name, codec in CODECS.items()}, "CN": Kind.NOISE}
NOISE_PAYLOAD_TYPE = 13
"""Comfort noise (RFC 3389 §4). Gateways send it without having said so, and it can mean nothing else."""


class AlreadyTalking(Exception):
    """One at a time talks into a stream."""


class RtpStream:
    """One two-way audio stream. Made by `MediaEngine.open_stream`; every method is for the loop's thread."""

    def __init__(self, engine: MediaEngine, row: int, ports: PortPair, host: str, shelf: Shelf) -> None:
        self._engine = engine
        self.row = row
        """Its row in the engine's arrays; for the engine."""
        self.ports = ports
        """Its sockets; for the engine."""
        self.local_host = host
        self.local_port = ports.port
        self.closed = False
        self.sending = False
        """Packets go out, as often as ``ptime_ms`` says."""
        self.ptime_ms = 20
        self.endpoint: Endpoint | None = None
        """Where packets go: the SDP address, or the one latched on to."""
        self.codec = ""
        """What is sent; empty before it is configured."""
        self.rate = RATE
        """Samples a second of what it plays and hears: 16,000 once it has a wideband codec."""
        self.coders: Coders | None = None
        """Its own encoder and decoders, where a codec needs them; for the engine."""
        self.queue = PlaybackQueue(RATE, shelf)
        self.sinks: list[AudioSink] = []
        self.events: deque[tuple[Playback, EventSender]] = deque()
        """DTMF being sent; for the engine."""
        self.event_payload_type: int | None = None
        self.on_dtmf: Callable[[str, int], None] | None = None
        """Called with each digit the far end sent, and its length in ms, when it is over."""
        self.on_inband_dtmf: Callable[[str, int], None] | None = None
        """The same for keys that came as tones in the audio; see `detect_keys`."""
        self._hears_events = True
        self.event_receiver = EventReceiver(self._received_digit)
        self.in_event = False
        """An event took the place of audio at the last tick; for the engine."""
        self.control: ControlPeer | None = None
        """Whom reports go to and come from (RTCP); for the engine."""
        self.cipher: Cipher | None = None
        """What encrypts its packets and opens the far end's; None: nothing does. For the engine."""
        self._signalled: tuple[str, int] | None = None
        self.ears = Ears()
        """Those who hear it live, and record it; for the engine."""
        self._speakers: list[AudioStream] = []
        self._recordings: list[Recording | RecordingStream] = []
        self._listeners: list[Listener] = []
        self.talker: Talker | None = None
        """Who talks in place of what plays; for the engine."""
        self._muted = False
        self._final_statistics = StreamStatistics()

    def configure(
        self,
        remote: tuple[str, int],
        *,
        codec: str,
        payload_type: int,
        receive_payload_types: Mapping[int, str],
        dtmf_payload_type: int | None = None,
        dtmf_receive_payload_type: int | None = None,
        rtcp: tuple[str, int] | None = None,
        rtcp_mux: bool = False,
        ptime_ms: int = 20,
        srtp: tuple[MasterKey, MasterKey] | None = None,
        send: bool = True,
        receive: bool = True,
    ) -> None:
        """What offer and answer agreed on; may be called again at any time.

        Sequence numbers, timestamps and SSRC go on, and so does what is playing. While ``send`` is false nothing goes
        out and what is queued waits. A latch on to another port (see `rtp.receive`) holds as long as ``remote`` stays
        the same.

        Args:
            remote: numeric host, and port 1..65535, of the far end's SDP.
            codec: "PCMU", "PCMA" or "G722", what is sent.
            payload_type: 0..127, what is sent.
            receive_payload_types: codec by each payload type that may come; also "CN", comfort noise.
            dtmf_payload_type: for telephone events sent; None: the far end takes none.
            dtmf_receive_payload_type: for telephone events received.
            rtcp: where the far end takes RTCP; None: nowhere.
            rtcp_mux: on the ports of RTP (RFC 5761); what ``rtcp`` says beyond None does not matter then.
            ptime_ms: what a packet sent holds, one of 10, 20 … 60; packets received may hold anything.
            srtp: the keys of this side and of the far end; None: in the clear. Keys that stay the same go on.

        Raises:
            ValueError: an address that is not numeric or not of the local address's family; an unknown codec; another
                length of packets; keys that cannot be used.
            ImportError: the package of a codec is not installed.
        """
        if self.closed:
            return
        endpoint = endpoint_of(reached_from(self.local_host, remote))
        if endpoint.family != family_of(self.local_host):
            raise ValueError(f"{remote[0]} cannot be reached from {self.local_host}: other address family")
        codec = _known(codec, CODECS)
        kinds = {NOISE_PAYLOAD_TYPE: Kind.NOISE}
        kinds |= {number: KINDS[_known(name, KINDS)] for number, name in receive_payload_types.items()}
        if dtmf_receive_payload_type is not None:
            kinds[dtmf_receive_payload_type] = Kind.EVENT
        if ptime_ms not in PTIMES:
            raise ValueError(f"packets of {ptime_ms} ms: not one of {', '.join(map(str, PTIMES))}")
        self._encrypt(srtp)
        self._agree(codec, receive_payload_types.values())
        if remote != self._signalled:
            self._signalled = remote
            self.endpoint = endpoint
            self._engine.expect(self, endpoint)
        control = None if rtcp is None else endpoint if rtcp_mux else endpoint_of(reached_from(self.local_host, rtcp))
        if control is not None and control.family != endpoint.family:
            control = None
        self._engine.report_to(self, control, muxed=rtcp_mux)
        self.event_payload_type = dtmf_payload_type
        self.sending = send
        self.ptime_ms = ptime_ms
        law = Law.PCMA if codec == "PCMA" else Law.PCMU  # of no matter where the stream has coders
        self._engine.apply(self, law, payload_type, kinds, receive=receive)

    def _agree(self, codec: str, receive: Collection[str]) -> None:
        """The codecs from now on; what plays and who listens follow the rate."""
        self.codec = codec
        was_wide = self.coders is not None
        if is_coded(codec, receive):
            coders = self.coders or Coders()
            coders.agree(codec, receive)
            self.coders = coders
        else:
            self.coders = None
        if was_wide == (self.coders is not None):
            return
        self.rate = RATE if self.coders is None else WIDE
        self._engine.widened(self)
        self.queue.rerate(self.rate)
        self.ears.rerate(self.rate)
        for audio in self._speakers:
            audio.speech.follow(self.rate)
        if self.talker is not None:
            self.talker.voice.follow(self.rate)

    def _encrypt(self, keys: tuple[MasterKey, MasterKey] | None) -> None:
        if keys is None:
            self.cipher = None
        elif self.cipher is None:
            self.cipher = Cipher(*keys)
            self._engine.encrypted(self)
        else:
            self.cipher.agree(*keys)

    def play(self, source: AudioSource) -> Playback:
        """Queues audio behind what is queued, without a gap. While muted it advances silently."""
        playback = self.queue.add(source)
        if self.closed:
            playback.cancel()
        return playback

    def clear(self) -> None:
        """Cancels everything that plays or waits to; silence from the next frame on."""
        for audio in self._speakers:
            audio.speech.clear(fade=False)
        self.queue.clear()

    def mute(self) -> None:
        """Silence goes out instead of audio, from the next frame on; DTMF still goes out."""
        self._muted = True
        self._arrange_mute()

    def unmute(self) -> None:
        """Audio goes out again."""
        self._muted = False
        self._arrange_mute()

    @property
    def muted(self) -> bool:
        """Between `mute` and `unmute`."""
        return self._muted

    def add_sink(self, sink: AudioSink) -> None:
        """The sink gets one frame for each tick from now on, silence where nothing was received."""
        if self.closed:
            sink.close()
        else:
            self.sinks.append(sink)
            self._engine.hearers_changed(self)

    def remove_sink(self, sink: AudioSink) -> None:
        """Ends and closes the sink. One that was never added, or failed, is only closed."""
        self._forget(sink)
        sink.close()

    def drop_sink(self, sink: AudioSink) -> None:
        """For the engine: a sink that failed must not be able to fail again."""
        self._forget(sink)
        try:
            sink.close()
        except Exception:
            logger.exception("an audio sink failed to close")

    # ---- live --------------------------------------------------------------------------------------------------------

    def listen(self, listener: Listener) -> None:
        """The listener gets one frame for each tick from now on."""
        if self.closed:
            listener.close()
            return
        listener.on_close = lambda: self._let_go(listener)
        self._listeners.append(listener)
        self.ears.add(listener)
        self._engine.hearers_changed(self)

    def converse(self, audio: AudioStream) -> None:
        """It hears from now on, and what it says queues behind what plays."""
        playback: Playback | None = None

        def play() -> None:
            nonlocal playback
            if playback is None or playback.done:
                playback = self.play(audio.speech)

        self.listen(audio)
        if not self.closed:
            self._speakers.append(audio)
            audio.speech.on_written = play

    def talk(self, talker: Talker) -> None:
        """What is said goes out from the next frame on, instead of what plays, which goes on silently.

        Raises:
            AlreadyTalking: somebody else does.
        """
        if self.talker is not None:
            raise AlreadyTalking
        self.listen(talker)
        if not self.closed:
            self.talker = talker
            self._arrange_mute()

    def record(self, recording: Recording | RecordingStream) -> None:
        """Records from the next tick on, until the recording or the stream is closed."""
        if self.closed:
            recording.close()
            return
        recording.on_close = lambda: self._stop_recording(recording)
        self._recordings.append(recording)
        self.ears.add_taker(recording)
        self._engine.hearers_changed(self)

    @property
    def speakers(self) -> list[Speaker]:
        """For the engine: who says something live, or may."""
        speaking: list[Speaker] = [audio.speech for audio in self._speakers]
        return speaking if self.talker is None else [*speaking, self.talker.voice]

    def spoken(self, samples: int) -> NDArray[np.int16] | None:
        """For the engine: the next frame of who talks; what plays goes on silently."""
        self.queue.read(samples)
        return None if self.talker is None else self.talker.voice.read()

    def _let_go(self, listener: Listener) -> None:
        self.ears.remove(listener)
        self._engine.hearers_changed(self)
        self._listeners = [other for other in self._listeners if other is not listener]
        self._speakers = [other for other in self._speakers if other is not listener]
        if listener is self.talker:
            self.talker = None
            self._arrange_mute()

    def _stop_recording(self, recording: Recording | RecordingStream) -> None:
        self.ears.remove(recording)
        self._engine.hearers_changed(self)
        self._recordings = [other for other in self._recordings if other is not recording]

    def _arrange_mute(self) -> None:
        self._engine.mute(self, muted=self._muted and self.talker is None)

    def _forget(self, sink: AudioSink) -> None:
        if sink in self.sinks:
            self.sinks.remove(sink)
            self._engine.hearers_changed(self)

    # ---- keys and numbers --------------------------------------------------------------------------------------------

    def send_dtmf(self, digits: str, *, duration_ms: int = 160, gap_ms: int = 80) -> Playback:
        """Sends digits as telephone events, in step with the clock; audio that plays waits meanwhile.

        Raises:
            ValueError: a character is no digit, there is none, or the far end takes no telephone events.
        """
        if self.event_payload_type is None:
            raise ValueError("the far end did not agree to telephone events")
        if not digits:
            raise ValueError("no digit to send")
        frames, odd = divmod(self.ptime_ms, 20)
        sender = EventSender(
            digits, duration_samples(duration_ms), duration_samples(gap_ms), frames=1 if odd else frames
        )
        playback = Playback(sender.total_samples, RATE)
        if self.closed:
            playback.cancel()
        else:
            self.events.append((playback, sender))
            self._engine.changed()
        return playback

    def detect_keys(self, *, events: bool = True, inband: bool = False) -> None:
        """Which keys of the far end are told: telephone events, and those that come as tones in the audio."""
        self._hears_events = events
        if not self.closed:
            self._engine.listen_for_keys(self, wanted=inband)

    def statistics(self) -> StreamStatistics:
        """A snapshot; after `close` the last one."""
        return self._final_statistics if self.closed else self._engine.stream_statistics(self)

    def seconds_since_received(self) -> float:
        """Seconds since the far end's last packet, or since the stream was opened when none came."""
        return self._engine.seconds_since_received(self)

    def seconds_since_life(self) -> float:
        """The same, with all that shows that the far end lives: packets of any payload type, and RTCP."""
        return self._engine.seconds_since_life(self)

    def seconds_refused(self) -> float:
        """For how long ICMP has said that nobody listens at the far end's port, with no sign of life since."""
        return self._engine.seconds_refused(self)

    def close(self) -> None:
        """Ends everything at once: playbacks are cancelled, sinks closed, ports given back. May be called again."""
        if self.closed:
            return
        self._final_statistics = self.statistics()
        self.closed = True
        self.sending = False
        self.event_receiver.finish()  # a key whose end packets were lost, pressed right before the end
        self._engine.listen_for_keys(self, wanted=False)
        self._engine.close_stream(self)
        self.queue.clear()
        for playback, _ in self.events:
            playback.cancel()
        self.events.clear()
        for sink in list(self.sinks):
            self.drop_sink(sink)
        for listener in self._listeners:
            listener.close()
        for recording in self._recordings:
            recording.close()
        self.on_dtmf = self.on_inband_dtmf = None

    def next_event(self, tick: int, *, between: bool) -> tuple[EventToSend | None, bool]:
        """For the engine: the event packet of this tick, if any, and whether an event takes the place of audio.

        Args:
            between: an audio packet ended at the last tick; none is waiting to be filled.
        """
        while self.events:
            playback, sender = self.events[0]
            if playback.cancelled:
                sender.stop(tick)
            if sender.finished:
                self.events.popleft()
                playback.finish(completed=True)
                continue
            event = sender.next(tick, between=between)
            if not playback.done and not sender.waiting:
                playback.advance(FRAME)
            return event, sender.sounding
        return None, False

    def _received_digit(self, digit: str, duration_ms: int) -> None:
        if self._hears_events:
            self._tell_digit(self.on_dtmf, digit, duration_ms)

    def heard_key(self, digit: str, duration_ms: int) -> None:
        """For the engine: a key came as tones in the audio."""
        self._tell_digit(self.on_inband_dtmf, digit, duration_ms)

    @staticmethod
    def _tell_digit(handler: Callable[[str, int], None] | None, digit: str, duration_ms: int) -> None:
        if handler is not None:
            try:
                handler(digit, duration_ms)
            except Exception:
                logger.exception("a DTMF handler failed")


def _known(codec: str, names: Container[str]) -> str:
    name = codec.upper()
    if name not in names:
        raise ValueError(f"codec {codec!r} is not one that the engine knows")
    return name
