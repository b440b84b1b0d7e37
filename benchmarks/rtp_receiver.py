"""The far end of `rtp_jitter.py`: takes RTP with the kernel's receive times, sends each packet back, and measures.

It runs in a process of its own, on this machine or another. The kernel stamps a packet when it arrives (on the loopback
inside the sender's own ``send``), so what is measured does not depend on when this process gets to read it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
from common import Window, raise_file_limit
from rtp_channel import Channel

from rtp import kernel
from rtp.datagrams import make_reader
from rtp.endpoint import endpoint_of_words

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["HISTOGRAM_EDGES_MS", "listen"]

RATE = 8000
LOOK_SECONDS = 0.002
"""How often the sockets are looked at."""
MOST_CALLS = 20_000

HISTOGRAM_EDGES_MS = np.linspace(0, 180, 721)
"""Three times the longest packet; what is beyond is in no bin."""
TIME_LINE_SECONDS = 0.1
MOST_GAPS = 20
"""Seconds of a window with packets missing that are told one by one."""

Record = list[tuple["NDArray[np.int64]", "NDArray[np.float64]", "NDArray[np.int64]", "NDArray[np.int64]"]]


def listen(
    address: tuple[str, int], ready: Callable[[int], None], affinity: int | None = None, *, once: bool = False
) -> None:
    """Serves one window after the other, one at a time.

    Args:
        address: of the control connection; port 0: any.
        ready: gets the port.
        affinity: the core that this process is bound to.
        once: only one window.
    """
    if affinity is not None:
        os.sched_setaffinity(0, {affinity})
    with socket.create_server(address) as server:
        ready(server.getsockname()[1])
        while True:
            connection, (host, *_) = server.accept()
            channel = Channel(connection)
            try:
                _serve(channel)
            except ConnectionError as error:
                print(f"{host}: {error}", flush=True)
            finally:
                channel.close()
            if once:
                return


def _serve(channel: Channel) -> None:
    wish = channel.receive()
    calls, ptime = wish.get("calls"), wish.get("ptime", 20)
    if not isinstance(calls, int) or not 0 < calls <= MOST_CALLS:
        raise ConnectionError(f"wants no 1 to {MOST_CALLS} calls")
    if not isinstance(ptime, int) or not 0 < ptime <= 1000:
        raise ConnectionError("wants no packets of 1 to 1000 ms")
    raise_file_limit(calls + 100)
    reader = make_reader(max(16, calls))
    with contextlib.ExitStack() as stack:
        stack.callback(reader.close)
        sockets = []
        for row in range(calls):
            sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            sock.bind((channel.local_host, 0))
            sock.setblocking(False)
            if kernel.AVAILABLE:
                sock.setsockopt(socket.SOL_SOCKET, kernel.SO_TIMESTAMPNS, 1)
            reader.register(sock, row)
            sockets.append(sock)
        channel.send({"ports": [sock.getsockname()[1] for sock in sockets]})
        channel.send(_record(channel, reader, sockets, ptime))


def _record(channel: Channel, reader: Any, sockets: list[socket.socket], ptime: int) -> dict[str, Any]:
    """Echoes until the window ends; what arrived in it."""
    back: dict[int, tuple[Any, ...]] = {}
    record: Record = []
    begin = end = 0.0
    window = Window()
    while not end:
        match channel.poll():
            case {"do": "begin"}:
                begin = time.time()
                window.begin()
            case {"do": "end"}:
                end = time.time()
                window.end()
        while (datagrams := reader.read()) is not None:
            headers = np.ascontiguousarray(datagrams.data[:, :12])
            if begin:
                record.append(
                    (
                        datagrams.rows,
                        datagrams.arrivals,
                        headers.view(">u2")[:, 1].astype(np.int64),
                        headers.view(">u4")[:, 1].astype(np.int64),
                    )
                )
            for slot, (row, length) in enumerate(zip(datagrams.rows.tolist(), datagrams.lengths.tolist(), strict=True)):
                if length <= 0:
                    continue
                if row not in back:
                    back[row] = endpoint_of_words(datagrams.sources[slot]).address
                with contextlib.suppress(OSError):  # a sender that has gone
                    sockets[row].sendto(datagrams.data[slot, :length].data, back[row])
        time.sleep(LOOK_SECONDS)
    if not record:
        return {"streams": 0, "packets": 0}
    rows, arrivals, sequences, timestamps = (np.concatenate(parts) for parts in zip(*record, strict=True))
    inside = (arrivals >= begin) & (arrivals < end)
    result = measure(rows[inside], arrivals[inside], sequences[inside], timestamps[inside], len(sockets), ptime)
    result["receiver_cpu_cores"] = window.cpu / window.wall
    return result


def measure(
    rows: NDArray[np.int64],
    arrivals: NDArray[np.float64],
    sequences: NDArray[np.int64],
    timestamps: NDArray[np.int64],
    calls: int,
    ptime: int = 20,
) -> dict[str, Any]:
    """What the packets of one window, each of ``ptime`` milliseconds, say about their sender."""
    deviations, lateness, jitters, intervals, times = [], [], [], [], []
    gaps: Counter[int] = Counter()
    begin = float(arrivals.min()) if len(arrivals) else 0.0
    order = np.argsort(rows, kind="stable")
    for mine in np.split(order, np.searchsorted(rows[order], np.arange(1, calls))):
        if len(mine) < 2:
            continue
        arrival, sequence, timestamp = arrivals[mine], sequences[mine], timestamps[mine]
        step = (np.diff(sequence) + 0x8000 & 0xFFFF) - 0x8000
        for index in np.flatnonzero(step > 1).tolist():
            gaps[int(arrival[index + 1] - begin)] += int(step[index]) - 1
        interval = np.diff(arrival)
        deviations.append(np.abs(interval - ptime / 1000))
        intervals.append(interval)
        times.append(arrival[1:] - arrivals[0])
        media = np.concatenate([[0], np.cumsum((np.diff(timestamp) + 2**31 & 0xFFFFFFFF) - 2**31)]) / RATE
        offset = arrival - media
        lateness.append(offset - offset.min())
        jitter = 0.0
        for difference in np.abs(np.diff(offset)).tolist():
            jitter += (difference - jitter) / 16
        jitters.append(jitter * 1000)
    if not deviations:
        return {"streams": 0, "packets": 0}
    deviation = np.concatenate(deviations) * 1000
    late = np.concatenate(lateness) * 1000
    when, slots = np.concatenate(times), int((arrivals.max() - arrivals.min()) / TIME_LINE_SECONDS) + 1
    worst = np.zeros(slots)
    np.maximum.at(worst, np.minimum((when / TIME_LINE_SECONDS).astype(int), slots - 1), deviation)
    histogram, _ = np.histogram(np.concatenate(intervals) * 1000, HISTOGRAM_EDGES_MS)
    return {
        "streams": len(deviations),
        "packets": len(rows),
        "sequence_gaps": gaps.total(),
        "gaps_by_second": dict(sorted(gaps.items())[:MOST_GAPS]),
        "deviation_ms": dict(
            zip(("p50", "p90", "p99", "max"), np.percentile(deviation, (50, 90, 99, 100)).tolist(), strict=True)
        ),
        "lateness_ms_p99": float(np.percentile(late, 99)),
        "jitter_ms": {"median": float(np.median(jitters)), "max": max(jitters)},
        "interval_histogram": histogram.tolist(),
        "worst_deviation_ms_by_100_ms": worst.round(3).tolist(),
    }
