"""The picture of a demo: what was played and what was heard, and how evenly the packets came."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["Picture", "PlottingMissing", "Span", "draw"]

INK = "#1f2937"
FAINT = "#9ca3af"
GRID = "#e5e7eb"
PLAYED = "#f59e0b"
HEARD = "#2563eb"
SPAN = "#94a3b8"
COLUMNS = 1600
"""Points across a waveform: about one a pixel."""
PTIME = 20.0
"""Milliseconds between packets, as they are meant to come."""


class PlottingMissing(Exception):
    """matplotlib is not installed."""


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of the recording worth a label; seconds."""

    start: float
    end: float
    label: str


@dataclass(frozen=True, slots=True)
class Picture:
    """What is drawn."""

    played: NDArray[np.int16]
    """(n,), each file where the recording should hold it."""
    recording: NDArray[np.int16]
    """(m,)"""
    rate: int
    """Hz, of both."""
    intervals: Sequence[int]
    """Counts of the times between successive packets: in [0, 1), [1, 2) … milliseconds, the last one open."""
    spans: Sequence[Span]
    summary: str
    """One line under the title."""


def draw(picture: Picture, path: Path) -> None:
    """Writes a PNG of 1600 x 1000 pixels.

    Raises:
        PlottingMissing: matplotlib is not installed.
        OSError: the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise PlottingMissing from None
    # A bare Figure draws without pyplot: no window system, no global state.
    figure = Figure(figsize=(10, 6.25), dpi=160, facecolor="white")
    grid = figure.add_gridspec(
        3, 1, height_ratios=(1, 1, 1.15), left=0.075, right=0.975, top=0.875, bottom=0.085, hspace=0.42
    )
    above = figure.add_subplot(grid[0])
    middle = figure.add_subplot(grid[1], sharex=above)
    below = figure.add_subplot(grid[2])
    figure.text(0.075, 0.955, "A telephone call, as the far end heard it", size=15, weight="bold", color=INK)
    figure.text(0.075, 0.917, picture.summary, size=9.5, color="#4b5563")
    _waveform(above, picture.played, picture.rate, PLAYED, "played (wav files)")
    _waveform(middle, picture.recording, picture.rate, HEARD, "heard (recording)")
    above.tick_params(labelbottom=False)
    middle.set_xlim(0, max(len(picture.recording), len(picture.played)) / picture.rate)
    middle.set_xlabel("seconds since the answer", size=9, color=INK, labelpad=1)
    for span in picture.spans:
        _span(middle, span)
    _histogram(below, picture.intervals)
    figure.savefig(path, format="png")


def _style(axes: Any) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)
    axes.tick_params(colors=INK, labelsize=8.5, length=3, color=FAINT)
    axes.set_axisbelow(True)
    axes.grid(axis="both", color=GRID, linewidth=0.6)


def _waveform(axes: Any, samples: NDArray[np.int16], rate: int, color: str, label: str) -> None:
    """The range of the samples in each column, filled."""
    _style(axes)
    step = max(1, len(samples) // COLUMNS)
    count = len(samples) // step
    columns = samples[: count * step].reshape(count, step) / 32768.0
    time = (np.arange(count) + 0.5) * step / rate
    if count:
        axes.fill_between(time, columns.min(axis=1), columns.max(axis=1), color=color, linewidth=0.4)
    limit = max(0.1, 1.15 * float(np.abs(columns).max())) if count else 1.0
    axes.set_ylim(-limit, limit)
    axes.set_ylabel("amplitude", size=9, color=INK)
    axes.set_title(label, loc="left", size=9.5, color=color, weight="bold", pad=4)


def _span(axes: Any, span: Span) -> None:
    axes.axvspan(span.start, span.end, color=SPAN, alpha=0.18, linewidth=0)
    axes.text(
        (span.start + span.end) / 2,
        axes.get_ylim()[1] * 0.94,
        span.label,
        size=8,
        color=INK,
        ha="center",
        va="top",
    )


def _histogram(axes: Any, intervals: Sequence[int]) -> None:
    _style(axes)
    axes.set_title("time between audio packets on arrival", loc="left", size=9.5, color=INK, weight="bold", pad=4)
    axes.set_xlabel("milliseconds", size=9, color=INK, labelpad=1)
    axes.set_ylabel("packets", size=9, color=INK)
    counts = np.asarray(intervals, dtype=np.int64)
    total = int(counts.sum())
    if not total:
        axes.text(0.5, 0.5, "no packets", transform=axes.transAxes, ha="center", color=FAINT)
        return
    seen = np.flatnonzero(counts)
    low, high = min(int(seen[0]) - 2, 10), max(int(seen[-1]) + 3, 30)
    axes.bar(np.arange(len(counts)) + 0.5, counts, width=0.9, color=HEARD, linewidth=0)
    axes.set_yscale("symlog", linthresh=1, linscale=0.4)
    axes.set_ylim(0, max(10, 2.5 * int(np.max(counts))))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.axvline(PTIME, color=PLAYED, linewidth=1.4, linestyle=(0, (4, 2)))
    axes.set_xlim(max(0, low), high)
    axes.xaxis.get_major_locator().set_params(integer=True)
    near = int(counts[int(PTIME) - 1 : int(PTIME) + 1].sum())
    axes.text(
        0.985,
        0.93,
        f"{total + 1:,} packets\n{100 * near / total:.1f} % after 20 ± 1 ms",
        transform=axes.transAxes,
        size=8.5,
        color=INK,
        ha="right",
        va="top",
        linespacing=1.45,
    )
