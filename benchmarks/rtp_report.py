"""What `rtp_jitter.py` says of its windows: a table, medians and ratios, a verdict in words, a plot, a comparison."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
from common import median_of, print_table
from rtp_receiver import HISTOGRAM_EDGES_MS
from rtp_senders import SENDERS

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["HEAD", "cells", "compare", "draw", "holds", "print_summary", "summarize", "verdict"]

HEAD = (
    "sender",
    "calls",
    "streams",
    "p50",
    "p90",
    "p99",
    "max ms",
    "jitter",
    "worst",
    "late",
    "gaps",
    "missed",
    "CPU",
    "KiB",
    "steal",
)
COLORS = {
    "rows": "tab:blue",
    "live": "tab:purple",
    "recorded": "tab:cyan",
    "task": "tab:orange",
    "pjsua": "tab:red",
    "baresip": "tab:green",
    "bare": "tab:gray",
}

FIGURES = {
    "deviation_ms_p99": "deviation p99, ms",
    "jitter_ms": "jitter, ms",
    "lateness_ms_p99": "late p99, ms",
    "cpu_ms_per_call_second": "CPU ms per call-second",
    "kib_per_call": "KiB per call",
    "sequence_gaps": "gaps",
    "missed_ticks": "missed ticks",
}
"""Of a sender's summary, all the better the smaller."""

STEAL_THAT_SPOILS = 0.05
"""Cores; beyond it a window tells of the machine's host rather than of the sender."""


def cells(result: dict[str, Any]) -> tuple[str, ...]:
    """One row of the table."""
    deviation, jitter = result["deviation_ms"], result["jitter_ms"]
    return (
        result["sender"],
        str(result["calls"]),
        str(result["streams"]),
        *(f"{deviation[name]:.2f}" for name in ("p50", "p90", "p99", "max")),
        f"{jitter['median']:.2f}",
        f"{jitter['max']:.2f}",
        f"{result['lateness_ms_p99']:.2f}",
        str(result["sequence_gaps"]),
        f"{result['missed_ticks']}/{result['ticks']}" if result["ticks"] else "-",
        f"{result['cpu_ms_per_call_second']:.3f}",
        f"{result['kib_per_call']:.0f}" if "kib_per_call" in result else "",
        f"{result['steal_cores']:.2f}",
    )


def holds(result: dict[str, Any]) -> bool:
    """Every stream was there, no tick missed its successor's deadline, and no packet is missing."""
    return result["streams"] == result["calls"] and not result["missed_ticks"] and not result["sequence_gaps"]


def summarize(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians of each sender over its rounds; missed ticks and gaps of all rounds together."""
    summary: dict[str, Any] = {}
    for sender in SENDERS:
        mine = [result for result in results if result["sender"] == sender]
        if not mine:
            continue
        summary[sender] = {
            "deviation_ms_p99": median_of([result["deviation_ms"]["p99"] for result in mine]),
            "jitter_ms": median_of([result["jitter_ms"]["median"] for result in mine]),
            "lateness_ms_p99": median_of([result["lateness_ms_p99"] for result in mine]),
            "cpu_ms_per_call_second": median_of([result["cpu_ms_per_call_second"] for result in mine]),
            "sequence_gaps": sum(result["sequence_gaps"] for result in mine),
            "missed_ticks": sum(result["missed_ticks"] for result in mine),
            "windows": len(mine),
            "windows_that_hold": sum(map(holds, mine)),
            "windows_with_steal": sum(result["steal_cores"] > STEAL_THAT_SPOILS for result in mine),
        }
        seconds: Counter[int] = Counter()
        for result in mine:
            seconds.update({int(second): missing for second, missing in result["gaps_by_second"].items()})
        summary[sender]["gaps_by_second"] = dict(sorted(seconds.items()))
        for name in ("grown_kib", "live_dropped", "live_underruns", "recordings_failed"):
            if found := [result[name] for result in mine if name in result]:
                summary[sender][name] = max(found)
        if memory := [result["kib_per_call"] for result in mine if "kib_per_call" in result]:
            summary[sender]["kib_per_call"] = median_of(memory)
    return summary


def print_summary(summary: dict[str, Any]) -> None:
    """Medians, and each sender beside the bare loop."""
    for sender, mine in summary.items():
        print(
            f"median of {sender}: deviation p99 {mine['deviation_ms_p99']:.2f} ms, jitter {mine['jitter_ms']:.2f} ms, "
            f"CPU {mine['cpu_ms_per_call_second']:.3f} ms per call-second; "
            f"{mine['missed_ticks']} ticks missed in all"
        )
    bare = summary.get("bare")
    first = next(iter(summary))
    rivals = [(sender, other) for sender, other in summary.items() if sender in RIVALS]
    pairs = [(sender, mine, "bare", bare) for sender, mine in summary.items() if bare is not None and mine is not bare]
    pairs += [(first, summary[first], rival, other) for rival, other in rivals if rival != first]
    for sender, mine, beside, other in pairs:
        if other is not None:
            ratios = (f"{FIGURES[name]} x {mine[name] / other[name]:.2f}" for name in RATIOS if other[name])
            print(f"{sender} / {beside}: " + ", ".join(ratios))


RIVALS = ("pjsua", "baresip")
RATIOS = ("deviation_ms_p99", "jitter_ms", "cpu_ms_per_call_second")


def verdict(summary: dict[str, Any], sender: str, calls: int) -> str:
    """What the figures mean for somebody with telephone calls on this machine."""
    mine = summary[sender]
    parts = []
    if mine["windows_that_hold"] == mine["windows"]:
        parts.append(f"{sender} holds {calls} calls here: no tick missed, no packet missing.")
    else:
        bad = mine["windows"] - mine["windows_that_hold"]
        parts.append(
            f"{sender} does not hold {calls} calls here: {bad} of {mine['windows']} windows had missed ticks "
            f"({mine['missed_ticks']}) or missing packets ({mine['sequence_gaps']})."
        )
    if mine["gaps_by_second"]:
        seconds = ", ".join(f"{second} ({missing})" for second, missing in mine["gaps_by_second"].items())
        parts.append(f"Packets are missing in these seconds of its windows: {seconds}.")
    parts += [
        f"{title}: {mine[name]}."
        for name, title in (
            ("live_dropped", "Frames that a program on a call did not get"),
            ("live_underruns", "Times that it had not spoken in time"),
            ("recordings_failed", "Recordings that failed"),
        )
        if name in mine
    ]
    if "grown_kib" in mine:
        parts.append(f"Its memory grew by {mine['grown_kib'] / 1024:.1f} MiB in a window.")
    late = mine["lateness_ms_p99"]
    parts.append(
        f"A far end needs {late:.0f} ms of jitter buffer for 99 % of the packets"
        + (", less than what telephones have (40 to 60)." if late < 40 else ": more than telephones have; audible.")
    )
    parts.append(f"It takes {mine['cpu_ms_per_call_second'] * calls / 10:.0f} % of a core.")
    if (bare := summary.get("bare")) is not None and bare is not mine and bare["deviation_ms_p99"]:
        ratio = mine["deviation_ms_p99"] / bare["deviation_ms_p99"]
        parts.append(
            "What there is of deviation is the machine's: the bare loop has as much."
            if ratio <= 1.25
            else f"Its p99 deviation is {ratio:.1f} times the bare loop's."
        )
    if mine["windows_with_steal"]:
        parts.append(
            f"The host of this virtual machine took CPU time away in {mine['windows_with_steal']} of "
            f"{mine['windows']} windows: measure again before you believe any of it."
        )
    return " ".join(parts)


def compare(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Prints what the second report has of each figure beside the first."""
    for name, usual in (("calls", None), ("seconds", None), ("codec", None), ("ptime", 20)):
        old, new = before.get(name, usual), after.get(name, usual)
        if old != new:
            print(f"careful: {name} was {old} and is {new}")
    rows = []
    for sender in SENDERS:
        if sender not in before["summary"] or sender not in after["summary"]:
            continue
        for name, title in FIGURES.items():
            old, new = before["summary"][sender].get(name), after["summary"][sender].get(name)
            if old is not None and new is not None:
                rows.append((sender, title, f"{old:.3f}", f"{new:.3f}", f"x {new / old:.2f}" if old else "-"))
    if not rows:
        raise SystemExit("the two reports have no sender in common")
    print_table(("sender", "figure", "first", "second", "ratio"), rows)


def draw(results: list[dict[str, Any]], path: Path) -> None:
    """Histogram of the intervals, and the worst deviation over time; of the largest number of calls measured."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    most = max(result["calls"] for result in results)
    ptime = results[0]["ptime"]
    for sender, color in COLORS.items():
        mine = [result for result in results if result["sender"] == sender and result["calls"] == most]
        if not mine:
            continue
        counts = np.sum([result["interval_histogram"] for result in mine], axis=0)
        left.stairs(
            counts / counts.sum(), HISTOGRAM_EDGES_MS, label=sender, color=color, fill=sender == "bare", alpha=0.7
        )
        line = mine[-1]["worst_deviation_ms_by_100_ms"]
        right.plot(np.arange(len(line)) / 10, line, label=sender, color=color, linewidth=0.9)
    left.set_xlim(0, 3 * ptime)
    left.set(
        yscale="log",
        xlabel="ms between two packets of a stream",
        ylabel="share",
        title=f"{most} calls, {ptime} ms packets",
    )
    right.set(xlabel="s", ylabel="largest deviation in 100 ms, ms", title="last round")
    left.legend()
    right.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)
