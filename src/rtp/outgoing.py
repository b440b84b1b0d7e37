"""The sending half of a tick: sources → mute → encode → headers → ``sendto``.

The catch-up policy. When the loop was held up over n deadlines, the tick that runs then sends

- up to `CATCH_UP_FRAMES` frames of every stream at once, each with the timestamp of its own deadline: a receiver whose
  jitter buffer holds 100 ms hears nothing of it;
- never more: of a longer stall the beginning is left out, as a pause in the timestamps with a marker behind it. Sources
  do not advance for what is left out, so nothing that plays is lost; it plays later. Timestamps stay the clock's.

Nothing is made up for later on: the next tick sends one frame again. Streams whose packets hold more than a frame, or
less, make their frames in the same way; `rtp.packing` makes packets of them.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING

import numpy as np

from rtp.ahead import take as take_ahead
from rtp.ahead import turn
from rtp.halving import make_ahead
from rtp.jitter import FRAME
from rtp.packet import HEADER_LENGTH
from rtp.packetizer import PACKET_BYTES, encode_frames, event_packet, silence, write_headers
from rtp.packing import PLAIN, collect, full, take
from rtp.transmit import make_transmitter
from rtp.wideband import WIDE_FRAME

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from rtp.ahead import Ahead
    from rtp.ears import Audience
    from rtp.endpoint import Endpoint
    from rtp.halving import Speaker
    from rtp.packetizer import Sending
    from rtp.packing import Packing
    from rtp.playback import PlaybackQueue
    from rtp.srtp import Cipher
    from rtp.statistics import Counters
    from rtp.stream import RtpStream

__all__ = ["CATCH_UP_FRAMES", "Outgoing"]

CATCH_UP_FRAMES = 5
"""Most frames of one stream that one tick sends: 100 ms, what a receiver's jitter buffer can take in."""


class Outgoing:
    """Which rows send, and what they send at a tick."""

    def __init__(
        self,
        sending: Sending,
        packing: Packing,
        ahead: Ahead,
        counters: Counters,
        audience: Audience,
        wide_audience: Audience,
    ) -> None:
        self._sending = sending
        self._packing = packing
        self._ahead = ahead
        self._counters = counters
        self._transmitter = make_transmitter()
        self._others = make_transmitter()
        """For packets that do not go out as they lie in `Sending`: encrypted, or of another length than a frame."""
        self._senders: list[RtpStream] = []
        self._with_events: list[RtpStream] = []
        self._audio: list[RtpStream] = []
        self._ciphers: list[Cipher | None] = []
        """Of those for ``_others``, which stand at the end of ``_audio``."""
        self._encrypts = False
        self._rows = np.zeros(0, np.int64)
        """Of ``_audio``: those sent plainly, those only encrypted, those with packets of another length."""
        self._plain = self._rows
        self._sealed = self._rows
        self._packed = self._rows
        self._places = self._rows
        """(rows,): positions of the rows among those for ``_others``."""
        self.splits = False
        """Some packets are due in the middle between two ticks; see `send_middle`."""
        self._queues: list[PlaybackQueue] = []
        """Of streams that nobody talks on,"""
        self._queue_rows = self._rows
        """and their rows;"""
        self._live: list[RtpStream] = []
        """those that somebody does,"""
        self._live_rows = self._rows
        """and theirs;"""
        self._idle = self._rows
        """rows that have neither."""
        self._speakers: list[Speaker] = []
        """Who says something live in streams of 8,000 Hz."""
        self._audience = audience
        self._wide_audience = wide_audience
        self._overheard = self._rows
        """Rows of which somebody hears what is sent."""
        self._wide: list[RtpStream] = []
        """Those with a coder of their own."""
        self.sources_changed = False
        """Somebody came or went on some stream."""
        self._dirty = False
        self._memory = sending.packet
        """Where the packets lie that are prepared to be sent: the bank may grow, and they lie elsewhere then."""
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
        self._others.close()

    def send(self, count: int) -> None:
        """Sends what ``count`` deadlines ask for."""
        self.send_middle()
        burst = min(count, CATCH_UP_FRAMES)
        if count > burst:
            self.tick += count - burst
            self._sending.marker[[stream.row for stream in self._senders]] = True
        for _ in range(burst):
            self.send_middle()
            self.tick += 1
            self._send_frame()

    def send_middle(self) -> None:
        """Sends what is due in the middle between the newest tick and the next one, once."""
        if self._dirty and self.splits:
            self._prepare()
        if self.splits:
            self._send_packed(middle=True)

    def _send_frame(self) -> None:
        if self._with_events:
            self._send_events()
        if self._dirty:
            self._prepare()
        if not self._audio:
            return
        self._fill_payloads()
        if self._dirty or self._memory is not self._sending.packet:  # a source closed a stream, or opened many
            self._prepare()
        if len(self._plain):
            write_headers(self._sending, self._plain, self.tick)
            self._count(self._plain, self._transmitter.send_all(PACKET_BYTES))
        if len(self._sealed):
            write_headers(self._sending, self._sealed, self.tick)
            self._packing.packet[self._sealed, :PACKET_BYTES] = self._sending.packet[self._sealed, :PACKET_BYTES]
            self._send_others(self._sealed, np.full(len(self._sealed), PACKET_BYTES))
        if len(self._packed):
            collect(self._packing, self._sending, self._packed)
            self._send_packed(middle=False)

    def _prepare(self) -> None:
        self._dirty = False
        self._memory = self._sending.packet
        self.sources_changed = True
        size = self._packing.size
        audio = [stream for stream in self._senders if not stream.in_event]
        packed = [stream for stream in audio if size[stream.row] != PLAIN]
        whole = [stream for stream in audio if size[stream.row] == PLAIN]
        sealed = [stream for stream in whole if stream.cipher is not None]
        plain = [stream for stream in whole if stream.cipher is None]
        self._plain, self._sealed, self._packed = _rows(plain), _rows(sealed), _rows(packed)
        self._audio = [*plain, *sealed, *packed]
        self._rows = np.concatenate((self._plain, self._sealed, self._packed))
        self.splits = bool((size[self._packed] % 2).any())
        self._transmitter.prepare(self._sending.packet, _routes(plain))
        if sealed or packed:
            self._others.prepare(self._packing.packet, _routes([*sealed, *packed]))
            self._places = np.zeros(len(size), np.int64)
            self._places[self._rows[len(plain) :]] = np.arange(len(sealed) + len(packed))
        self._ciphers = [stream.cipher for stream in (*sealed, *packed)]
        self._encrypts = any(cipher is not None for cipher in self._ciphers)
        self._wide = [stream for stream in self._audio if stream.coders is not None]

    def _send_packed(self, *, middle: bool) -> None:
        rows = full(self._packing, self._packed, middle=middle)
        while len(rows):  # once; twice where packets are short and one was left over
            lengths = take(self._packing, self._sending, rows, self.tick)
            self._send_others(rows, lengths)
            rows = full(self._packing, rows, middle=middle)

    def _send_others(self, rows: NDArray[np.int64], lengths: NDArray[np.int64]) -> None:
        """Sends packets that lie in `Packing`, encrypted where the stream has a cipher."""
        places, beyond = self._places[rows], lengths - PACKET_BYTES
        if self._encrypts:
            lengths = self._encrypted(rows, places, lengths)
        kept = np.flatnonzero(lengths)
        failed = kept[self._others.send_some(places[kept], lengths[kept])].tolist()
        failed += np.flatnonzero(lengths == 0).tolist()
        self._counters.octets_beyond[rows] += beyond
        self._counters.octets_beyond[rows[failed]] -= beyond[failed]
        self._count(rows, failed)

    def _encrypted(
        self, rows: NDArray[np.int64], places: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Encrypts in place what is to be. Returns the lengths; 0 where libsrtp refuses."""
        packets, lengths = self._packing.packet, lengths.copy()
        for index, (row, place) in enumerate(zip(rows.tolist(), places.tolist(), strict=True)):
            cipher = self._ciphers[place]
            if cipher is not None:
                sealed = cipher.protect(packets[row, : lengths[index]].tobytes())
                packets[row, : len(sealed)] = np.frombuffer(sealed, np.uint8)
                lengths[index] = len(sealed)
        return lengths

    def _count(self, rows: NDArray[np.int64], failed: list[int]) -> None:
        self._counters.packets_sent[rows] += 1
        if failed:
            self._counters.packets_sent[rows[failed]] -= 1
            self._counters.send_errors[rows[failed]] += 1

    def _fill_payloads(self) -> None:
        if self.sources_changed:
            self._arrange_sources()
        if self._speakers:
            make_ahead(self._speakers)
        rows, quiet = self._load()
        if len(quiet):
            silence(self._sending, quiet)
        frames = take_ahead(self._ahead, rows)
        if self._live:
            rows, frames = self._with_live(rows, frames)
        if len(rows):
            encode_frames(self._sending, rows, frames)
            if len(self._overheard):
                self._tell(rows, frames)
        if self._wide:
            self._fill_wide()

    def _load(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Has the queues lay out what comes next where nothing is left. Returns the rows that have a frame to play, and
        those that nothing plays on."""
        ahead, rows = self._ahead, self._queue_rows
        empty = np.flatnonzero(ahead.taken[rows] == ahead.ready[rows])
        for place, row in zip(empty.tolist(), rows[empty].tolist(), strict=True):
            self._queues[place].lend(turn(row, self.tick))
        has = ahead.taken[rows] < ahead.ready[rows]
        if np.count_nonzero(has) == len(rows):
            return rows, self._idle
        return rows[has], np.concatenate((self._idle, rows[~has]))

    def _with_live(
        self, rows: NDArray[np.int64], frames: NDArray[np.int16]
    ) -> tuple[NDArray[np.int64], NDArray[np.int16]]:
        """These, and those of the streams that somebody talks on; where nobody does, silence."""
        parts = [stream.spoken(FRAME) for stream in self._live]
        speaking = np.array([part is not None for part in parts])
        silence(self._sending, self._live_rows[~speaking])
        return (
            np.concatenate((rows, self._live_rows[speaking])),
            np.concatenate((frames, *(part[None] for part in parts if part is not None))),
        )

    def _tell(self, rows: NDArray[np.int64], frames: NDArray[np.int16]) -> None:
        """Those who hear what is sent."""
        heard = np.isin(rows, self._overheard) & ~self._sending.muted[rows]
        self._audience.sent(self.tick, rows[heard], frames[heard])

    def _fill_wide(self) -> None:
        overheard: list[tuple[int, NDArray[np.int16]]] = []
        for stream in self._wide:
            frame = None
            if not stream.events:
                frame = stream.queue.read(WIDE_FRAME) if stream.talker is None else stream.spoken(WIDE_FRAME)
            if stream.coders is not None and not stream.closed:
                if self._sending.muted[stream.row]:
                    frame = None
                payload = stream.coders.encode(frame)
                self._sending.packet[stream.row, HEADER_LENGTH:PACKET_BYTES] = np.frombuffer(payload, np.uint8)
                if frame is not None and stream.ears.both:
                    overheard.append((stream.row, np.array(frame, np.int16)))
        if overheard:
            overheard.sort(key=itemgetter(0))
            rows = np.array([row for row, _ in overheard], np.int64)
            self._wide_audience.sent(self.tick, rows, np.stack([frame for _, frame in overheard]))

    def _arrange_sources(self) -> None:
        """Streams that send events play nothing meanwhile."""
        self.sources_changed = False
        self._queues, self._live, self._speakers = [], [], []
        rows, idle = [], []
        for stream in self._audio:
            if stream.coders is not None:
                continue
            if stream.events:
                idle.append(stream.row)
                continue
            self._speakers += stream.speakers
            if stream.talker is not None:
                self._live.append(stream)
            else:
                self._queues.append(stream.queue)
                rows.append(stream.row)
        self._queue_rows, self._idle = np.array(rows, np.int64), np.array(idle, np.int64)
        self._live_rows = _rows(self._live)
        self._overheard = _rows([stream for stream in self._audio if stream.ears.both])

    def _send_events(self) -> None:
        """Telephone events take the place of audio packets; in the pauses between them silence goes out."""
        for stream in self._with_events:
            event, in_event = stream.next_event(self.tick, between=not self._packing.filled[stream.row])
            if stream.in_event != in_event:
                stream.in_event = in_event
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


def _rows(streams: list[RtpStream]) -> NDArray[np.int64]:
    return np.array([stream.row for stream in streams], np.int64)


def _routes(streams: list[RtpStream]) -> list[tuple[int, socket.socket, Endpoint]]:
    return [(stream.row, stream.ports.rtp, stream.endpoint) for stream in streams if stream.endpoint is not None]


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
