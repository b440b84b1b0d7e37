"""The receiving half of a tick: rounds of datagrams into the jitter rings, one frame out of each into the sinks."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from rtp.concealment import conceal
from rtp.datagrams import make_reader
from rtp.endpoint import endpoint_of_words
from rtp.inband import hear_keys
from rtp.jitter import FRAME, insert, position_of
from rtp.receive import Kind, classify
from rtp.sequence import follow, is_audio, measure_arrivals
from rtp.srtp import open_round

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from rtp.comfort_noise import ComfortNoise
    from rtp.concealment import Concealment
    from rtp.control import Control, Reports
    from rtp.datagrams import Datagrams
    from rtp.delay import Delay
    from rtp.ears import Audience
    from rtp.inband import InbandKeys
    from rtp.jitter import JitterRing
    from rtp.receive import Packets, Routes
    from rtp.sequence import Reception
    from rtp.srtp import Cipher
    from rtp.statistics import Counters
    from rtp.stream import RtpStream
    from rtp.wideband import Wideband

__all__ = ["PLAY_OUT_FRAMES", "Incoming"]

logger = logging.getLogger(__name__)

PLAY_OUT_FRAMES = 50
"""Most frames that one tick plays out: 1 s. What a process stood still for beyond that is missing in its sinks."""

ROUNDS_PER_TICK = 16
"""Most datagrams read of one stream for each deadline; a flood waits in its own socket, and overflows there."""

RATE = 8000


Listened: TypeAlias = "list[tuple[int, RtpStream]]"


class Incoming:
    """Reads, sorts and plays out what comes."""

    def __init__(
        self,
        routes: Routes,
        reception: Reception,
        ring: JitterRing,
        delay: Delay,
        concealment: Concealment,
        noise: ComfortNoise,
        counters: Counters,
        control: Control,
        reports: Reports,
        inband: InbandKeys,
        audience: Audience,
        wide_audience: Audience,
        *,
        capacity: int,
    ) -> None:
        self._routes = routes
        self._reception = reception
        self._ring = ring
        self._delay = delay
        self._concealment = concealment
        self._noise = noise
        self._counters = counters
        self._control = control
        self._reports = reports
        self._inband = inband
        self._keyed: NDArray[np.int64] | None = None
        """Which of the rows are listened to for keys; None: none."""
        self._keys: list[tuple[RtpStream, str, int]] = []
        self._reader = make_reader(capacity)
        self._rows = np.zeros(0, np.int64)
        self._streams: Mapping[int, RtpStream] = {}
        self._ciphers: Mapping[int, Cipher] = {}
        self._heard: list[tuple[RtpStream, int, bytes]] = []
        self._in_event: set[RtpStream] = set()
        self._heard_streams: set[RtpStream] = set()
        self._audience = audience
        """Who hears plain streams,"""
        self._wide_audience = wide_audience
        """and wide ones."""
        self._listened: tuple[Listened, Listened] | None = ([], [])
        """Whose frames go into sinks, and where among the rows: plain ones, and wide ones."""
        self.wideband: Wideband | None = None
        """The rows that are wide; None: there has been none yet."""
        self.latched = False
        """A stream's packets go elsewhere since `arrange`."""

    def resize(self, capacity: int) -> None:
        """The bank has grown."""
        self._reader.resize(capacity)

    def register(self, sock: socket.socket, row: int) -> None:
        """Reads this socket from now on."""
        self._reader.register(sock, row)

    def unregister(self, sock: socket.socket) -> None:
        """Forgets this socket."""
        self._reader.unregister(sock)

    def refused(self) -> list[int]:
        """Rows whose packets were refused (ICMP), since the last call."""
        return self._reader.refused()

    def close(self) -> None:
        """Stops reading."""
        self._reader.close()

    def arrange(self, streams: Mapping[int, RtpStream]) -> None:
        """Some stream came or went; these are all of them, by row."""
        self._streams = dict(streams)
        self._ciphers = {row: stream.cipher for row, stream in streams.items() if stream.cipher is not None}
        self._rows = np.array(sorted(streams), np.int64)
        if self.wideband is not None:
            self._rows = self._rows[~self.wideband.coded[self._rows]]
        self._listened = None
        keyed = np.flatnonzero(self._inband.enabled[self._rows])
        self._keyed = keyed if len(keyed) else None
        self.latched = False

    def hearers_changed(self, stream: RtpStream) -> None:
        """Others hear the stream than before, or nobody."""
        if stream.sinks or stream.ears.open:
            self._heard_streams.add(stream)
        else:
            self._heard_streams.discard(stream)
        self._listened = None

    def _arrange_listened(self) -> tuple[Listened, Listened]:
        self._heard_streams = {one for one in self._heard_streams if self._streams.get(one.row) is one}
        coded = {stream for stream in self._heard_streams if stream.coders is not None}
        plain = self._places(self._heard_streams - coded, self._rows)
        wide = self._places(coded, self.wideband.rows) if self.wideband is not None else []
        self._wide_audience.leave()
        for audience, listened in ((self._audience, plain), (self._wide_audience, wide)):
            audience.arrange((place, stream.row, stream.ears) for place, stream in listened if stream.ears.open)
        return [one for one in plain if one[1].sinks], [one for one in wide if one[1].sinks]

    def _places(self, heard: set[RtpStream], rows: NDArray[np.int64]) -> Listened:
        ordered = sorted(stream.row for stream in heard)
        places = np.searchsorted(rows, ordered).tolist()
        return [(place, self._streams[row]) for place, row in zip(places, ordered, strict=True)]

    def receive(self, count: int, now: float) -> None:
        """Reads what waits in the sockets; ``count`` deadlines have passed since the last time, it is ``now``."""
        expected = self._reader.read_expected()
        if expected is not None:
            self._take_round(expected, count, now)
        for _ in range(ROUNDS_PER_TICK * count - (expected is not None)):
            datagrams = self._reader.read()
            if datagrams is None:
                break
            self._take_round(datagrams, count, now)

    def _take_round(self, datagrams: Datagrams, count: int, now: float) -> None:
        reports: list[int] = []
        muxed = self._control.muxed if self._reports.muxing else None
        if self._ciphers:
            open_round(datagrams, self._ciphers, self._routes, self._counters, muxed)
        packets, latched = classify(datagrams, self._routes, self._counters, now, muxed, reports)
        for slot in reports:
            content = datagrams.data[slot, : datagrams.lengths[slot]].tobytes()
            self._reports.read(int(datagrams.rows[slot]), content, float(datagrams.arrivals[slot]), now)
        for row, slot in latched:
            self._latch(row, datagrams.sources[slot])
        if not len(packets):
            return
        packets, forward = follow(self._reception, self._ring, self._counters, packets)
        audio = is_audio(packets)
        if np.count_nonzero(audio) < len(audio):
            self._take_others(packets, np.flatnonzero(~audio))
            packets, forward = packets.where(audio), forward[audio]
        if len(packets):
            measure_arrivals(self._reception, packets, RATE)
            if self.wideband is not None:
                self.wideband.take(packets)
            waiting = waited(packets.arrivals, count)
            insert(self._ring, self._delay, self._counters, packets, forward, waiting, self.wideband)
            if self._noise.active:
                self._noise.interrupt(packets, self._ring.position[packets.rows])

    def _latch(self, row: int, words: NDArray[np.uint64]) -> None:
        stream = self._streams.get(row)
        if stream is not None:
            stream.endpoint = endpoint_of_words(words)
            self.latched = True
            logger.info("port %d: the far end sends from %s", stream.local_port, stream.endpoint.address[:2])

    def _take_others(self, packets: Packets, indices: NDArray[np.int64]) -> None:
        for index in indices.tolist():
            row, timestamp = int(packets.rows[index]), int(packets.timestamp[index])
            stream = self._streams.get(row)
            if packets.kind[index] == Kind.NOISE:
                wide = stream is not None and stream.coders is not None
                position = position_of(self._ring, row, timestamp)
                self._noise.describe(row, position, packets.payload(index), wide=wide)
            elif stream is not None:
                self._heard.append((stream, timestamp, packets.payload(index)))

    def report_events(self, count: int) -> None:
        """Hands telephone events to their streams; handlers run here, at the end of a tick of ``count`` deadlines."""
        for stream in list(self._in_event):
            for _ in range(count):
                stream.event_receiver.tick()
            if stream.closed or not stream.event_receiver.active:
                self._in_event.discard(stream)
        if self._keys:
            keys, self._keys = self._keys, []
            for stream, key, length in keys:
                if not stream.closed:
                    stream.heard_key(key, length)
        heard, self._heard = self._heard, []
        for stream, timestamp, payload in heard:
            if not stream.closed:
                lasted = stream.event_receiver.receive(timestamp, payload)
                until = position_of(self._ring, stream.row, timestamp) + lasted
                self._ring.quiet_until[stream.row] = max(int(self._ring.quiet_until[stream.row]), until)
                if stream.event_receiver.active:
                    self._in_event.add(stream)

    def play_out(self, count: int, tick: int) -> None:
        """Plays ``count`` frames of every stream, the last of them that of ``tick``, to those who hear it."""
        rows = self._rows  # a sink may close or open streams, which arranges anew
        listened, wide = self._listened = self._arrange_listened() if self._listened is None else self._listened
        wideband, wide_rows = self.wideband, self.wideband.rows if self.wideband is not None else rows[:0]
        keyed = self._keyed
        for now in range(tick - min(count, PLAY_OUT_FRAMES) + 1, tick + 1):
            frames = self._delay.play(self._ring, self._counters, rows)
            conceal(self._concealment, self._ring, self._noise, self._counters, rows, frames)
            frames.flags.writeable = False
            if keyed is not None:
                self._note_keys(hear_keys(self._inband, rows[keyed], frames[keyed]))
            self._audience.hear(now, frames)
            for index, stream in listened:
                _write_to_sinks(stream, frames[index])
            if wideband is not None and len(wide_rows):
                self._play_wide(wideband, wide_rows, wide, now)

    def _play_wide(self, wideband: Wideband, rows: NDArray[np.int64], listened: Listened, tick: int) -> None:
        frames = wideband.play(self._delay, self._ring, self._noise, self._counters, rows)
        frames.flags.writeable = False
        self._note_keys(wideband.hear_keys(self._inband, rows, frames))
        self._wide_audience.hear(tick, frames)
        for index, stream in listened:
            _write_to_sinks(stream, frames[index])

    def _note_keys(self, keys: Iterable[tuple[int, str, int]]) -> None:
        for row, key, lasted in keys:
            stream = self._streams.get(row)
            if stream is not None:
                self._keys.append((stream, key, lasted))


def _write_to_sinks(stream: RtpStream, frame: NDArray[np.int16]) -> None:
    for sink in tuple(stream.sinks):
        try:
            sink.write(frame)
        except Exception:
            logger.exception("an audio sink failed and was removed")
            stream.drop_sink(sink)


def waited(arrivals: NDArray[np.float64], count: int) -> NDArray[np.int64] | int:
    """Samples, in whole frames, for which packets lay in their sockets because ``count`` deadlines passed at once."""
    if count < 2:
        return 0
    frames = np.floor((time.time() - arrivals) * RATE / FRAME)
    return np.clip(frames, 0, count - 1).astype(np.int64) * FRAME
