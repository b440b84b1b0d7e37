"""RTCP over rows (RFC 3550 §6): who is to be reported to, when, and what the far ends report.

Each stream is a session of two, so §6.3's interval is always the least one: 5 s, half of it ahead of the first report,
times 0.5 to 1.5 and the compensation of §6.3.1. A tick costs one comparison over all rows and one look at the poller;
only a stream whose report is due, or came, costs more.

Reports are taken from the host that RTP comes from or is signalled at, and from one port of it until that falls silent.
With rtcp-mux (RFC 5761) they share the RTP socket, and the rules for its packets.
"""

from __future__ import annotations

import base64
import logging
import math
import socket
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from rtp import kernel
from rtp.bank import Column, Columns
from rtp.datagrams import make_reader
from rtp.endpoint import Endpoint, endpoint_of_words, host_mask
from rtp.jitter import FRAME
from rtp.rtcp import ReportBlock, SenderInfo, compound, middle_of, ntp_time, parse
from rtp.srtp import open_report

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from rtp.packetizer import Sending
    from rtp.receive import Routes
    from rtp.sequence import Reception
    from rtp.statistics import Counters
    from rtp.stream import RtpStream

__all__ = ["LEAST_INTERVAL", "Control", "ControlPeer", "Reports", "interval"]

logger = logging.getLogger(__name__)

LEAST_INTERVAL = 5.0
COMPENSATION = math.e - 1.5
TAKEOVER_SILENCE = 3 * LEAST_INTERVAL
"""Seconds after which another port of the far end's host may report instead."""

SLOTS = 64
ROUNDS = 4
"""Looks of one tick, with at most one datagram of each socket; a flood overflows in its own small buffer."""

LONGEST_ROUND_TRIP = 10.0
RATE = 8000
EVENT_OCTETS = 4
CYCLE = 1 << 16


class Control(Columns):
    """What a row's reports need; times in seconds on the monotonic clock unless noted."""

    due: NDArray[np.float64]
    """When the next report goes out; never, while nobody is to be reported to."""
    reported: NDArray[np.bool_]
    """One went out."""
    muxed: NDArray[np.bool_]
    sent: NDArray[np.int64]
    """(rows, 2): packets sent up to the report before last, and up to the last one."""
    expected: NDArray[np.int64]
    """Up to the last report, as (§A.3)"""
    distinct: NDArray[np.int64]
    """these packets had come of them."""
    own_report: NDArray[np.int64]
    """(rows, 2): middle NTP time of our last two sender reports; -1 for none."""
    last_report: NDArray[np.int64]
    """Middle NTP time of the far end's last sender report; 0 for none."""
    last_report_at: NDArray[np.float64]
    """When it came, seconds since the epoch."""
    round_trip: NDArray[np.float64]
    """Seconds; -1 while unknown."""
    remote_lost: NDArray[np.int64]
    remote_fraction: NDArray[np.float64]
    remote_jitter: NDArray[np.float64]
    """Seconds."""
    reports_sent: NDArray[np.int64]
    reports_received: NDArray[np.int64]

    LAYOUT: ClassVar[Mapping[str, Column]] = {
        "due": Column(np.float64, (), math.inf),
        "reported": Column(np.bool_),
        "muxed": Column(np.bool_),
        "sent": Column(np.int64, (2,)),
        "expected": Column(np.int64),
        "distinct": Column(np.int64),
        "own_report": Column(np.int64, (2,), -1),
        "last_report": Column(np.int64),
        "last_report_at": Column(np.float64),
        "round_trip": Column(np.float64, (), -1),
        "remote_lost": Column(np.int64),
        "remote_fraction": Column(np.float64),
        "remote_jitter": Column(np.float64),
        "reports_sent": Column(np.int64),
        "reports_received": Column(np.int64),
    }


@dataclass(slots=True)
class ControlPeer:
    """Who a stream's reports go to, and come from."""

    endpoint: Endpoint
    """As signalled, or where reports came from."""
    signalled: Endpoint
    cname: bytes
    muxed: bool = False
    heard: float = field(default=-math.inf)
    """When a report came from ``endpoint``, monotonic."""


def interval(rng: random.Random, *, first: bool) -> float:
    """Seconds up to the next report (§6.3.1)."""
    least = LEAST_INTERVAL / 2 if first else LEAST_INTERVAL
    return least * rng.uniform(0.5, 1.5) / COMPENSATION


class Reports:
    """Sends and takes the reports of all streams."""

    def __init__(
        self,
        control: Control,
        sending: Sending,
        routes: Routes,
        reception: Reception,
        counters: Counters,
        rng: random.Random,
    ) -> None:
        self._control = control
        self._sending = sending
        self._routes = routes
        self._reception = reception
        self._counters = counters
        self._rng = rng
        self._reader = make_reader(SLOTS)
        self.muxing = False
        """Some stream's RTCP comes on its RTP port."""

    def register(self, sock: socket.socket, row: int) -> None:
        """Reads this socket from now on."""
        if kernel.AVAILABLE:
            sock.setsockopt(socket.SOL_SOCKET, kernel.SO_TIMESTAMPNS, 1)
        self._reader.register(sock, row)

    def unregister(self, sock: socket.socket) -> None:
        """Forgets this socket."""
        self._reader.unregister(sock)

    def close(self) -> None:
        """Stops reading."""
        self._reader.close()

    def agree(self, stream: RtpStream, endpoint: Endpoint | None, now: float, *, muxed: bool) -> None:
        """Where the far end takes reports from now on; None: nowhere."""
        row, control = stream.row, self._control
        control.muxed[row] = muxed and endpoint is not None
        self.muxing |= muxed
        if endpoint is None:
            stream.control = None
            control.due[row] = math.inf
            return
        peer = stream.control
        if peer is None:
            cname = base64.b64encode(self._rng.getrandbits(96).to_bytes(12))  # RFC 7022 §4.2, of this stream alone
            stream.control = ControlPeer(endpoint, endpoint, cname, muxed)
        elif peer.signalled != endpoint or peer.muxed != muxed:
            stream.control = ControlPeer(endpoint, endpoint, peer.cname, muxed)
        if control.due[row] == math.inf:
            control.due[row] = now + interval(self._rng, first=True)

    def tick(self, streams: Mapping[int, RtpStream], tick: int, now: float) -> None:
        """Takes what came, and sends what is due at this tick of the clock."""
        for _ in range(ROUNDS):
            datagrams = self._reader.read()
            if datagrams is None:
                break
            for slot, row in enumerate(datagrams.rows.tolist()):
                stream, length = streams.get(row), int(datagrams.lengths[slot])
                if stream is not None and length >= 0:
                    data = datagrams.data[slot, :length].tobytes()
                    self._take(stream, data, datagrams.sources[slot], float(datagrams.arrivals[slot]), now)
        for row in np.flatnonzero(self._control.due <= now).tolist():
            self._control.due[row] = now + interval(self._rng, first=False)
            if row in streams:
                self._send(streams[row], tick)

    def goodbye(self, stream: RtpStream, tick: int) -> None:
        """The stream ends (§6.3.7): said at once, if anything was ever said."""
        row = stream.row
        if self._control.reported[row] or self._counters.packets_sent[row]:
            self._send(stream, tick, goodbye=True)

    # ---- out ---------------------------------------------------------------------------------------------------------

    def _send(self, stream: RtpStream, tick: int, *, goodbye: bool = False) -> None:
        peer, row, control = stream.control, stream.row, self._control
        if peer is None:
            return
        now = time.time()
        sent = int(self._counters.packets_sent[row])
        sender = None
        if sent > control.sent[row, 0]:  # §6.4: since the report before last
            ntp = ntp_time(now)
            events = int(self._counters.events_sent[row])
            sender = SenderInfo(
                ntp,
                int(self._sending.timestamp[row]) + tick * FRAME,
                sent,
                (sent - events) * FRAME + int(self._counters.octets_beyond[row]) + events * EVENT_OCTETS,
            )
            control.own_report[row] = (control.own_report[row, 1], middle_of(ntp))
        control.sent[row] = (control.sent[row, 1], sent)
        ssrc = int(self._sending.ssrc[row])
        content = compound(ssrc, sender, self._blocks(row, now), peer.cname, goodbye=goodbye)
        if stream.cipher is not None:
            content = stream.cipher.protect_report(content)
        if not content:
            return
        try:
            if peer.muxed:
                stream.ports.rtp.sendto(content, (stream.endpoint or peer.endpoint).address)
            else:
                stream.ports.rtcp.sendto(content, peer.endpoint.address)
        except OSError as error:
            logger.debug("port %d: no report sent: %s", stream.local_port, error)
            return
        control.reported[row] = True
        control.reports_sent[row] += 1

    def _blocks(self, row: int, now: float) -> tuple[ReportBlock, ...]:
        reception, control = self._reception, self._control
        if reception.ssrc[row] < 0:
            return ()
        received = int(reception.distinct[row])
        expected = int(reception.expected_before[row] + reception.sequence[row] - reception.base[row] + 1)
        new_expected = expected - int(control.expected[row])
        new_received = received - int(control.distinct[row])
        control.expected[row], control.distinct[row] = expected, received
        if not new_received:  # §6.4: of sources heard since the last report
            return ()
        missing = max(0, new_expected - new_received)
        last = int(control.last_report[row])
        since = int((now - float(control.last_report_at[row])) * 65536) if last else 0
        return (
            ReportBlock(
                ssrc=int(reception.ssrc[row]),
                fraction_lost=missing * 256 // new_expected if new_expected > 0 else 0,
                lost=expected - received,
                highest_sequence=int(reception.sequence[row]) - CYCLE,
                jitter=int(reception.jitter[row] * RATE),
                last_report=last,
                since_last_report=max(0, since),
            ),
        )

    # ---- in ----------------------------------------------------------------------------------------------------------

    def _take(self, stream: RtpStream, data: bytes, words: NDArray[np.uint64], arrival: float, now: float) -> None:
        """A datagram of the RTCP port."""
        peer, row = stream.control, stream.row
        if peer is None or peer.muxed:
            self._counters.discarded[row] += 1
            return
        known = np.array_equal(words, peer.endpoint.words)
        if not known:
            mask = host_mask(peer.signalled.family)
            hosts = [peer.signalled] if stream.endpoint is None else [peer.signalled, stream.endpoint]
            near = any(not ((words ^ host.words) & mask).any() for host in hosts)
            if not near or self._routes.rule == "strict" or now - peer.heard < TAKEOVER_SILENCE:
                self._counters.strangers[row] += 1
                return
        if stream.cipher is not None:
            opened = open_report(stream.cipher, row, data, self._counters)
            if opened is None:
                return
            data = opened
        if self.read(row, data, arrival, now, strict=not known):
            peer.heard = now
            if not known:
                peer.endpoint = endpoint_of_words(words)

    def read(self, row: int, data: bytes, arrival: float, now: float, *, strict: bool = False) -> bool:
        """A compound packet that came for the row, at ``arrival`` since the epoch. Returns whether it is one.

        ``strict``: it must be of the source that RTP comes from.
        """
        report, control = parse(data), self._control
        source = int(self._reception.ssrc[row])
        if report is None or (strict and source >= 0 and report.ssrc != source):
            self._counters.malformed[row] += 1
            return False
        control.reports_received[row] += 1
        self._routes.last_alive[row] = now
        if report.sender is not None and report.ssrc == source:
            control.last_report[row] = middle_of(report.sender.ntp)
            control.last_report_at[row] = arrival
        for block in report.blocks:
            if block.ssrc == self._sending.ssrc[row]:
                self._learn(row, block, arrival)
        return True

    def _learn(self, row: int, block: ReportBlock, arrival: float) -> None:
        control = self._control
        control.remote_lost[row] = max(0, block.lost)
        control.remote_fraction[row] = block.fraction_lost / 256
        control.remote_jitter[row] = block.jitter / RATE
        if block.last_report in control.own_report[row].tolist():  # §6.4.1; what we never sent tells nothing
            passed = (middle_of(ntp_time(arrival)) - block.last_report - block.since_last_report) & 0xFFFFFFFF
            trip = (passed - (1 << 32) if passed >= 1 << 31 else passed) / 65536
            if trip < LONGEST_ROUND_TRIP:
                control.round_trip[row] = max(0.0, trip)
