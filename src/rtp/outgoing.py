"""The sending half of a tick: sources → mute → encode → headers → ``sendto``.

The catch-up policy. When the loop was held up over n deadlines, the tick that runs then sends

- up to `CATCH_UP_FRAMES` frames of every stream at once, each with the timestamp of its own deadline: a receiver whose
  jitter buffer holds 100 ms hears nothing of it;
- never more: of a longer stall the beginning is left out, as a pause in the timestamps with a marker behind it. Sources
  do not advance for what is left out, so nothing that plays is lost; it plays later. Timestamps stay the clock's.

Nothing is made up for later on: the next tick sends one frame again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rtp.jitter import FRAME
from rtp.packetizer import PACKET_BYTES, encode_frames, event_packet, silence, write_headers
from rtp.transmit import make_transmitter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from rtp.packetizer import Sending
    from rtp.statistics import Counters
    from rtp.stream import RtpStream

__all__ = ["CATCH_UP_FRAMES", "Outgoing"]

CATCH_UP_FRAMES = 5
"""Most frames of one stream that one tick sends: 100 ms, what a receiver's jitter buffer can take in."""


class Outgoing:
    """Which rows send, and what they send at a tick."""

    def __init__(self, sending: Sending, counters: Counters) -> None:
        self._sending = sending
        self._counters = counters
        self._transmitter = make_transmitter()
        self._senders: list[RtpStream] = []
        self._with_events: list[RtpStream] = []
        self._audio: list[RtpStream] = []
        self._encrypted: list[RtpStream] = []
        """Those of them with a cipher, which stand at the end."""
        self._rows = np.zeros(0, np.int64)
        self._reads: list[Callable[[int], NDArray[np.int16] | None]] = []
        """Of the queues of streams that nobody is on live,"""
        self._live: list[RtpStream] = []
        """and those that somebody is on;"""
        self._source_rows = np.zeros(0, np.int64)
        """their rows, in that order."""
        self.sources_changed = False
        """Somebody came or went on some stream."""
        self._dirty = False
        self.tick = 0
        """Deadlines of the clock so far; what RTP timestamps follow."""

    def arrange(self, streams: Iterable[RtpStream]) -> None:
        """Some stream came, went, or sends elsewhere or something else; these are all of them."""
        self._senders = []
        for stream in streams:
            if stream.sending and stream.endpoint is not None:
                self._senders.append(stream)
            else:
                self._sending.marker[stream.row] = True
        self._with_events = [stream for stream in self._senders if stream.events]
        self._dirty = True

    def close(self) -> None:
        """Sends no more."""
        self._transmitter.close()

    def send(self, count: int) -> None:
        """Sends what ``count`` deadlines ask for."""
        burst = min(count, CATCH_UP_FRAMES)
        if count > burst:
            self.tick += count - burst
            self._sending.marker[[stream.row for stream in self._senders]] = True
        for _ in range(burst):
            self.tick += 1
            self._send_frame()

    def _send_frame(self) -> None:
        if self._with_events:
            self._send_events()
        if self._dirty:
            self._prepare()
        if not self._audio:
            return
        self._fill_payloads()
        if self._dirty:  # a source closed a stream
            self._prepare()
        write_headers(self._sending, self._rows, self.tick)
        failed = self._transmitter.send_all(PACKET_BYTES)
        if self._encrypted:
            failed += self._send_encrypted()
        self._counters.packets_sent[self._rows] += 1
        if failed:
            rows = self._rows[failed]
            self._counters.packets_sent[rows] -= 1
            self._counters.send_errors[rows] += 1

    def _prepare(self) -> None:
        self._dirty = False
        self.sources_changed = True
        audio = [stream for stream in self._senders if not stream.in_event]
        plain = [stream for stream in audio if stream.cipher is None]
        self._encrypted = [stream for stream in audio if stream.cipher is not None]
        self._audio = plain + self._encrypted
        self._rows = np.array([stream.row for stream in self._audio], np.int64)
        self._transmitter.prepare(
            self._sending,
            [(stream.row, stream.ports.rtp, stream.endpoint) for stream in plain if stream.endpoint is not None],
        )

    def _send_encrypted(self) -> list[int]:
        """Sends the packets of rows with a cipher. Returns which failed, by their position among all."""
        first = len(self._audio) - len(self._encrypted)
        packets = [self._sending.packet[stream.row, :PACKET_BYTES].tobytes() for stream in self._encrypted]
        return [
            index
            for index, (stream, packet) in enumerate(zip(self._encrypted, packets, strict=True), start=first)
            if not _sent(stream, packet)
        ]

    def _fill_payloads(self) -> None:
        if self.sources_changed:
            self._arrange_sources()
        parts: list[NDArray[np.int16] | None] = [read(FRAME) for read in self._reads]
        parts += [_live_frame(stream, self.tick) for stream in self._live]
        playing = [part for part in parts if part is not None]
        rows = self._source_rows
        if len(playing) < len(rows):
            rows = rows[[part is not None for part in parts]]
        if len(rows) < len(self._rows):
            silence(self._sending, np.setdiff1d(self._rows, rows, assume_unique=True))
        if playing:
            frames = np.empty((len(playing), FRAME), np.int16)
            np.concatenate(playing, out=frames.reshape(-1), casting="unsafe")
            encode_frames(self._sending, rows, frames)

    def _arrange_sources(self) -> None:
        """Streams that send events play nothing meanwhile."""
        self.sources_changed = False
        self._reads, self._live, rows = [], [], []
        for stream in self._audio:
            if stream.talker is not None or stream.ears.both:
                if not stream.events:
                    self._live.append(stream)
            elif not stream.events:
                self._reads.append(stream.queue.read)
                rows.append(stream.row)
        rows += [stream.row for stream in self._live]
        self._source_rows = np.array(rows, np.int64)

    def _send_events(self) -> None:
        """Telephone events take the place of audio packets; in the pauses between them silence goes out."""
        for stream in self._with_events:
            event = stream.next_event(self.tick)
            if stream.in_event != (event is not None):
                stream.in_event = event is not None
                self._dirty = True
            if event is not None and stream.event_payload_type is not None and stream.endpoint is not None:
                packet = event_packet(
                    self._sending,
                    stream.row,
                    event.tick,
                    stream.event_payload_type,
                    event.payload,
                    marker=event.marker,
                )
                if _sent(stream, packet):
                    self._counters.packets_sent[stream.row] += 1
                    self._counters.events_sent[stream.row] += 1
                else:
                    self._counters.send_errors[stream.row] += 1
        ended = [stream for stream in self._with_events if not stream.events]
        if ended:
            self._with_events = [stream for stream in self._with_events if stream.events]
            self.sources_changed = True


def _live_frame(stream: RtpStream, tick: int) -> NDArray[np.int16] | None:
    if stream.talker is None and not stream.queue:
        return None
    frame = np.empty(FRAME, np.int16)
    stream.fill_live(frame, tick)
    return frame


def _sent(stream: RtpStream, packet: bytes) -> bool:
    """Sends one packet by itself, encrypted where the stream has a cipher."""
    if stream.endpoint is None:
        return False
    if stream.cipher is not None:
        packet = stream.cipher.protect(packet)
    try:
        return bool(packet) and stream.ports.rtp.sendto(packet, stream.endpoint.address) == len(packet)
    except OSError:
        return False
