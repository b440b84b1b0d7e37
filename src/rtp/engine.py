"""The media engine: the asyncio edge that runs every stream of a process on one clock.

Each tick, in this order: send one frame of every stream, first, so that its time depends on nothing a peer does; read
the sockets until they are empty; play one frame out of every jitter ring into the sinks; call DTMF handlers last. When
the loop was held up, a tick makes up for the ones before it; `rtp.outgoing` and `rtp.incoming` say how far, `rtp.load`
what is told of it. While some streams send packets of 10, 30 or 50 ms, there is a half tick between two ticks, for them
alone.
"""

from __future__ import annotations

import logging
import math
import random
import time
from typing import TYPE_CHECKING, get_args

from rtp.ahead import Ahead, Shelf
from rtp.bank import Bank
from rtp.clock import TickClock
from rtp.comfort_noise import ComfortNoise
from rtp.concealment import Concealment
from rtp.control import Control, Reports
from rtp.delay import Delay
from rtp.ears import Audience
from rtp.endpoint import family_of
from rtp.inband import InbandKeys, finish_key
from rtp.incoming import Incoming
from rtp.jitter import FRAME, MISSING, JitterRing
from rtp.load import Load, MissedTicks
from rtp.outgoing import CATCH_UP_FRAMES, Outgoing
from rtp.packet import HEADER_LENGTH
from rtp.packetizer import PACKET_BYTES, Sending, begin, set_codec
from rtp.packing import Packing, set_ptime
from rtp.ports import QUARANTINE, NoPortAvailable, PortPool, kernel_may_take
from rtp.quality import mean_opinion, rating
from rtp.rates import WIDE
from rtp.receive import Kind, Routes, SymmetricRtp, kinds_by_payload_type
from rtp.refusals import Refusals
from rtp.sequence import Reception, lost
from rtp.statistics import Counters, EngineStatistics, Series, StreamStatistics
from rtp.stream import RATE, RtpStream
from rtp.wideband import Wideband

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rtp.endpoint import Endpoint
    from rtp.g711 import Law

__all__ = ["EngineStatistics", "MediaEngine", "NoPortAvailable"]

logger = logging.getLogger(__name__)

TICK_MS = FRAME * 1000 // RATE
"""The clock's period, whatever packets hold."""


class MediaEngine:
    """All RTP streams of a process. Use from one event loop only."""

    def __init__(
        self,
        *,
        ports: tuple[int, int] = (16384, 32767),
        jitter_min_ms: int = 20,
        jitter_max_ms: int = 200,
        symmetric_rtp: SymmetricRtp = "auto",
        port_quarantine: float = QUARANTINE,
        rng: random.Random | None = None,
        capacity: int = 0,
    ) -> None:
        """Args:
            ports: inclusive range for RTP (even) and RTCP (odd) ports.
            jitter_min_ms, jitter_max_ms: bounds of the jitter buffer's delay, multiples of 20, 0..500; where they are
                equal, it is fixed.
            symmetric_rtp: who may take a stream over, see `rtp.receive`.
            port_quarantine: seconds for which the ports of a closed stream are not used again.
            rng: for sequence numbers, timestamps, SSRCs and ports; by default `random.SystemRandom`, since RFC 3550
                §5.1 wants them unpredictable.
            capacity: streams to make room for at once; more are made room for as they come.

        Raises:
            ValueError: a value outside its range.
        """
        if jitter_min_ms % TICK_MS or jitter_max_ms % TICK_MS or not 0 <= jitter_min_ms <= jitter_max_ms <= 500:
            raise ValueError(f"a delay of {jitter_min_ms} to {jitter_max_ms} ms: not multiples of {TICK_MS} in 0..500")
        self._rng = rng if rng is not None else random.SystemRandom()
        self._range = ports
        self._ports = PortPool(*ports, self._rng, quarantine=port_quarantine)
        capacity = Bank.capacity_for(capacity)
        if symmetric_rtp not in get_args(SymmetricRtp):
            raise ValueError(f"symmetric RTP {symmetric_rtp!r} is not one of {', '.join(get_args(SymmetricRtp))}")
        self._routes = Routes(capacity)
        self._routes.rule = symmetric_rtp
        self._ring = JitterRing(capacity)
        self._reception = Reception(capacity)
        self._sending = Sending(capacity)
        self._packing = Packing(capacity)
        self._ahead = Ahead(capacity)
        self._counters = Counters(capacity)
        self._delay = Delay(capacity, minimum=jitter_min_ms * RATE // 1000, maximum=jitter_max_ms * RATE // 1000)
        self._control = Control(capacity)
        self._refusals = Refusals(capacity)
        concealment, noise = Concealment(capacity), ComfortNoise(capacity)
        self._inband = InbandKeys(capacity)
        self._bank = Bank(
            self._routes,
            self._ring,
            self._delay,
            concealment,
            noise,
            self._reception,
            self._sending,
            self._packing,
            self._ahead,
            self._counters,
            self._control,
            self._inband,
            self._refusals,
            capacity=capacity,
        )
        self._reports = Reports(self._control, self._sending, self._routes, self._reception, self._counters, self._rng)
        audience, wide_audience = Audience(RATE), Audience(WIDE)
        self._outgoing = Outgoing(self._sending, self._packing, self._ahead, self._counters, audience, wide_audience)
        self._incoming = Incoming(
            self._routes,
            self._reception,
            self._ring,
            self._delay,
            concealment,
            noise,
            self._counters,
            self._control,
            self._reports,
            self._inband,
            audience,
            wide_audience,
            capacity=capacity,
        )
        self._clock = TickClock(TICK_MS / 1000, self.tick, self.half_tick)
        self._streams: dict[int, RtpStream] = {}
        self._dirty = False
        """Some stream came, went or changed since the rows were arranged; the next tick begins with it."""
        self._ticking = False
        self._load = Load(TICK_MS / 1000, CATCH_UP_FRAMES)
        self.on_missed: Callable[[MissedTicks], None] | None = None
        """Told of missed ticks: at once, and then every ten seconds at most."""
        self._lateness = Series()
        self._durations = Series()
        self._cpu = 0.0
        self._worked_between = 0.0
        """CPU seconds of half ticks since the last tick."""
        self._started = False
        self._closed = False

    async def start(self) -> None:
        """Starts the clock on the running loop."""
        if not self._started:
            self._started = True
            self._warn_of_shared_ports()
            self._clock.start()

    def _warn_of_shared_ports(self) -> None:
        kernels = kernel_may_take(*self._range)
        if kernels is not None:
            logger.warning(
                "RTP ports %d-%d overlap the kernel's own, %d-%d (net.ipv4.ip_local_port_range): other programs may"
                " hold some of them. Choose another range, or list it in net.ipv4.ip_local_reserved_ports",
                *self._range,
                *kernels,
            )

    async def close(self) -> None:
        """Stops the clock and closes every stream; may be called again."""
        if self._closed:
            return
        self._closed = True
        self._clock.stop()
        for stream in list(self._streams.values()):
            stream.close()
        self._outgoing.close()
        self._incoming.close()
        self._reports.close()

    def open_stream(self, local_host: str) -> RtpStream:
        """A new stream on a free pair of ports of a local numeric address; it is silent until configured.

        Raises:
            NoPortAvailable: every pair of the range is taken, the address is not ours, or the engine is closed.
            ValueError: the address is not numeric.
        """
        family_of(local_host)
        if self._closed:
            raise NoPortAvailable("the media engine is closed")
        pair = self._ports.open(local_host)
        capacity = self._bank.capacity
        row = self._bank.allocate()
        if self._bank.capacity != capacity:
            self._incoming.resize(self._bank.capacity)
            if self._incoming.wideband is not None:
                self._incoming.wideband.grow(self._bank.capacity)
        begin(self._sending, row, self._rng)
        self._routes.last_heard[row] = time.monotonic()
        stream = RtpStream(self, row, pair, local_host, Shelf(self._ahead, row))
        self._streams[row] = stream
        self._incoming.register(pair.rtp, row)
        self._reports.register(pair.rtcp, row)
        self._dirty = True
        return stream

    def statistics(self) -> EngineStatistics:
        """A snapshot of the clock."""
        p50, p90, p99, largest = self._lateness.percentiles(50, 90, 99, 100)
        work50, work99, work_largest = self._durations.percentiles(50, 99, 100)
        return EngineStatistics(
            streams=len(self._streams),
            ticks=self._clock.schedule.ticks,
            missed_ticks=self._clock.schedule.missed,
            lateness_ms_p50=p50,
            lateness_ms_p90=p90,
            lateness_ms_p99=p99,
            lateness_ms_max=largest,
            tick_ms_p50=work50,
            tick_ms_p99=work99,
            tick_ms_max=work_largest,
            cpu_seconds=self._cpu,
            load=self._load.busy,
            missed_lately=self._load.missed,
        )

    def overloaded(self, limit: float) -> bool:
        """Whether the clock was too busy, or missed too many ticks, in three of the latest five seconds.

        Args:
            limit: the share of a core that ticks may take, 0..1; 0: never overloaded.
        """
        return self._load.overloaded(limit)

    def tick(self, count: int, lateness: float) -> None:
        """Does the work of ``count`` deadlines, the newest of which was ``lateness`` seconds ago. Never raises."""
        wall, cpu = time.perf_counter(), time.thread_time()
        self._ticking = True
        try:
            if self._dirty:
                self._arrange()
            self._outgoing.send(count)
            now = time.monotonic()
            self._incoming.receive(count, now)
            self._dirty |= self._incoming.latched
            for row in self._incoming.refused():
                self._refusals.note(row, self._last_sign_of(row), now)
            self._reports.tick(self._streams, self._outgoing.tick, now)
            self._incoming.play_out(count, self._outgoing.tick)
            self._incoming.report_events(count)
            if self._outgoing.splits:
                self._clock.halfway()
        except Exception:
            logger.exception("a tick of the media clock failed")
        self._ticking = False
        worked = time.thread_time() - cpu
        self._cpu += worked
        self._lateness.add(lateness * 1000)
        self._durations.add((time.perf_counter() - wall) * 1000)
        missed = self._load.add(count, worked + self._worked_between)
        self._worked_between = 0.0
        if missed is not None:
            self._tell(missed)

    def half_tick(self) -> None:
        """Sends the packets that are due in the middle between two ticks. Never raises. What it did not come to do in
        time, the next tick does first."""
        cpu = time.thread_time()
        try:
            if self._dirty:
                self._arrange()
            self._outgoing.send_middle()
        except Exception:
            logger.exception("a half tick of the media clock failed")
        worked = time.thread_time() - cpu
        self._cpu += worked
        self._worked_between += worked

    def _tell(self, missed: MissedTicks) -> None:
        heard = missed.skipped_frames and self._streams  # a stall while nothing is sent is nobody's trouble
        logger.log(
            logging.WARNING if heard else logging.INFO,
            "the event loop was held up: %d ticks of the media clock missed in %d stalls, %.0f ms the longest",
            missed.count,
            missed.stalls,
            missed.longest_ms,
        )
        if self.on_missed is not None:
            try:
                self.on_missed(missed)
            except Exception:
                logger.exception("a handler of missed ticks failed")

    def _arrange(self) -> None:
        self._dirty = False
        self._outgoing.arrange(self._streams.values())
        self._incoming.arrange(self._streams)

    # ---- for RtpStream -----------------------------------------------------------------------------------------------

    def expect(self, stream: RtpStream, endpoint: Endpoint) -> None:
        """The far end's SDP address is new: it is listened to, until another port of its host takes over."""
        self._routes.expect(stream.row, endpoint)
        self._refusals.forget(stream.row)

    def apply(
        self, stream: RtpStream, law: Law, payload_type: int, kinds: Mapping[int, Kind], *, receive: bool
    ) -> None:
        """What to send and to understand."""
        row, sending = stream.row, self._sending
        other = bool(sending.law[row] != law or sending.payload_type[row] != payload_type)
        set_codec(sending, row, law, payload_type)
        if stream.coders is not None:
            sending.packet[row, HEADER_LENGTH:PACKET_BYTES] = stream.coders.silence
        set_ptime(self._packing, sending, row, stream.ptime_ms, anew=other)
        self._routes.kinds[row] = kinds_by_payload_type(tuple(kinds.items()))
        self._routes.receiving[row] = receive
        self._dirty = True

    def widened(self, stream: RtpStream) -> None:
        """The stream has coders of its own from now on, or none any more: what waits to be played is of no use."""
        self._ring.ring[stream.row] = MISSING
        if stream.coders is not None:
            if self._incoming.wideband is None:
                self._incoming.wideband = Wideband(self._bank.capacity)
            self._incoming.wideband.add(stream.row, stream.coders)
        elif self._incoming.wideband is not None:
            self._incoming.wideband.remove(stream.row)
        self._incoming.hearers_changed(stream)
        self._dirty = True

    def encrypted(self, stream: RtpStream) -> None:
        """The stream has a cipher."""
        if not self._counters.packets_sent[stream.row]:
            # RFC 3711 §3.3.1: no wrap-around while the far end may not have heard the first packets.
            self._sending.sequence[stream.row] &= 0x7FFF
        self._dirty = True

    def report_to(self, stream: RtpStream, endpoint: Endpoint | None, *, muxed: bool) -> None:
        """Where the far end takes RTCP; None: nowhere."""
        self._reports.agree(stream, endpoint, time.monotonic(), muxed=muxed)

    def changed(self) -> None:
        """Some stream sends elsewhere, or something else, or not."""
        self._dirty = True

    def hearers_changed(self, stream: RtpStream) -> None:
        """Others hear the stream than before, or talk."""
        self._outgoing.sources_changed = True
        self._incoming.hearers_changed(stream)

    def listen_for_keys(self, stream: RtpStream, *, wanted: bool) -> None:
        """Whether keys that come as tones in the audio are told; one that is pressed when it ends is told, too."""
        row = stream.row
        if self._inband.enabled[row] == wanted:
            return
        self._inband.enabled[row] = wanted
        self._dirty = True
        pressed = finish_key(self._inband, row)
        if pressed is not None:
            stream.heard_key(*pressed)

    def mute(self, stream: RtpStream, *, muted: bool) -> None:
        """From the next frame on."""
        if not stream.closed:
            self._sending.muted[stream.row] = muted

    def close_stream(self, stream: RtpStream) -> None:
        """Takes the stream's row and ports back. The stream has stopped sending before."""
        self._reports.goodbye(stream, self._outgoing.tick)
        del self._streams[stream.row]
        self._incoming.unregister(stream.ports.rtp)
        self._reports.unregister(stream.ports.rtcp)
        stream.ports.close()
        if self._incoming.wideband is not None:
            self._incoming.wideband.remove(stream.row)
        self._bank.free(stream.row)
        if self._ticking:  # by a sink or a handler: what is left of this tick must not touch the row
            self._arrange()
        else:
            self._dirty = True

    def stream_statistics(self, stream: RtpStream) -> StreamStatistics:
        """A snapshot of an open stream."""
        row, counters, control = stream.row, self._counters, self._control
        round_trip = control.round_trip.item(row) * 1000
        missing = lost(self._reception, row)
        expected = self._reception.distinct.item(row) + missing
        delay_ms = self._delay.present(row) * 1000 / RATE
        heard = rating((missing + counters.late.item(row)) / max(expected, 1), max(round_trip, 0) / 2 + 20 + delay_ms)
        return StreamStatistics(
            codec=stream.codec,
            packets_sent=counters.packets_sent.item(row),
            send_errors=counters.send_errors.item(row),
            packets_received=counters.packets_received.item(row),
            lost=missing,
            late=counters.late.item(row),
            duplicates=counters.duplicates.item(row),
            reordered=counters.reordered.item(row),
            jitter_ms=self._reception.jitter.item(row) * 1000,
            concealed=counters.concealed.item(row),
            underruns=counters.underruns.item(row),
            skipped=counters.skipped.item(row),
            delay_ms=delay_ms,
            target_delay_ms=self._delay.wanted(row) * 1000 / RATE,
            strangers=counters.strangers.item(row),
            malformed=counters.malformed.item(row),
            discarded=counters.discarded.item(row),
            srtp=stream.cipher.suite if stream.cipher is not None else "",
            unauthenticated=counters.unauthenticated.item(row),
            replayed=counters.replayed.item(row),
            reports_sent=control.reports_sent.item(row),
            reports_received=control.reports_received.item(row),
            round_trip_ms=round_trip if round_trip >= 0 else None,
            remote_lost=control.remote_lost.item(row),
            remote_loss=control.remote_fraction.item(row),
            remote_jitter_ms=control.remote_jitter.item(row) * 1000,
            mos=mean_opinion(heard) if expected else 0.0,
            interarrival_ms=tuple(self._reception.histogram[row].tolist()),
        )

    def seconds_since_life(self, stream: RtpStream) -> float:
        """See `RtpStream.seconds_since_life`."""
        if stream.closed:
            return math.inf
        return time.monotonic() - self._last_sign_of(stream.row)

    def seconds_refused(self, stream: RtpStream) -> float:
        """See `RtpStream.seconds_refused`."""
        if stream.closed:
            return 0.0
        return self._refusals.lasted(stream.row, self._last_sign_of(stream.row), time.monotonic())

    def _last_sign_of(self, row: int) -> float:
        return max(float(self._routes.last_heard[row]), float(self._routes.last_alive[row]))

    def seconds_since_received(self, stream: RtpStream) -> float:
        """See `RtpStream.seconds_since_received`."""
        return math.inf if stream.closed else time.monotonic() - float(self._routes.last_heard[stream.row])
