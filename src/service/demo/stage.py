"""What the demo shows: lines with a clock, a live bar where there is a terminal, and a table at the end."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from service.demo.caller import kind
from service.generated.ondewo.sip import sip_pb2 as pb

__all__ = ["Stage"]

SPARKS = " ▁▂▃▄▅▆▇█"
QUIETEST, LOUDEST = -50.0, -12.0
"""dB of full scale at the ends of the level meter."""
METER = 20
"""Frames that the meter shows."""
PLAIN_EVERY = 2.0
"""Seconds between two progress lines where there is no terminal."""

GOOD = {"REGISTERED", "READY", "SESSION_STARTED", "OUTGOING_CALL_CONNECTED", "INCOMING_CALL_CONNECTED"}


class Stage:
    """Prints, and remembers what went wrong."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started = time.monotonic()
        self._wall = time.time()
        fancy = console.encoding.lower().startswith("utf")
        self._arrow, self._dot, self._ear = ("→", "●", "♪") if fancy else (">", "*", "~")
        self._good, self._bad, self._rule = ("✓", "✗", "─") if fancy else ("ok:", "FAILED:", "-")
        self._sparks = SPARKS if fancy else " .:-=+*#@"
        self.problems: list[str] = []
        """Sentences."""

    def _line(self, at: float, mark: str, style: str, text: Text) -> None:
        line = Text.assemble((f"{at:6.2f} s  ", "dim"), (f"{mark} ", style), text)
        self._console.print(line, soft_wrap=True)

    @property
    def _now(self) -> float:
        return time.monotonic() - self._started

    def title(self, text: str) -> None:
        """The first line."""
        self._console.print(Text(text, "bold"), soft_wrap=True)

    def note(self, text: str) -> None:
        """A remark."""
        self._console.print(Text(f"          {text}", "dim"), soft_wrap=True)

    def scene(self, text: str) -> None:
        """A heading."""
        self._console.print()
        width = max(0, 76 - len(text))
        self._console.print(Text.assemble((f"{text} ", "bold cyan"), (self._rule * width, "dim")), soft_wrap=True)

    def request(self, text: str) -> None:
        """The client asks for something."""
        self._line(self._now, self._arrow, "cyan", Text(text, "cyan"))

    def far_end(self, text: str) -> None:
        """Something happened at the far end."""
        self._line(self._now, self._ear, "magenta", Text(text, "magenta"))

    def transition(self, status: pb.SipStatus) -> None:
        """A new status of the account; its time is the server's."""
        name = kind(status)
        style = "bold green" if name in GOOD else "bold red" if name.endswith("FAILED") else "bold yellow"
        stamp = status.timestamp.ToDatetime(UTC).timestamp() - self._wall
        details = [status.description] if status.description else []
        if status.sip_response_code and str(status.sip_response_code) not in status.description:
            details.append(f"SIP {status.sip_response_code}")
        if not details and name.endswith(("_INITIATED", "_CONNECTED")) and status.callee_id:
            details.append(status.callee_id)
        self._line(stamp, self._dot, style, Text.assemble((name, style), "  ".join(["", *details])))

    def check(self, passed: bool, text: str, *, otherwise: str = "") -> bool:
        """A claim that was tested; ``otherwise`` says what was found instead."""
        if passed:
            self._line(self._now, self._good, "bold green", Text(text, "green"))
        else:
            problem = f"not so: {text}" + (f" ({otherwise})" if otherwise else "")
            self.problem(problem)
        return passed

    def problem(self, text: str) -> None:
        """Something went wrong."""
        self.problems.append(text)
        self._line(self._now, self._bad, "bold red", Text(text, "bold red"))

    @contextlib.contextmanager
    def playing(self, total: float) -> Iterator[Callable[[float, Sequence[float], str], None]]:
        """Shows progress while ``total`` seconds play.

        Yields:
            A function to be called with the seconds heard so far, the loudness of the newest frames in dB, and a text.
        """
        if self._console.is_terminal:
            with self._bar(total) as show:
                yield show
            return
        next_at = PLAIN_EVERY

        def line(heard: float, levels: Sequence[float], text: str) -> None:
            nonlocal next_at
            if heard >= next_at:
                next_at = heard - heard % PLAIN_EVERY + PLAIN_EVERY
                self.note(f"heard {heard:4.1f} of {total:.1f} s, {text}")

        yield line

    @contextlib.contextmanager
    def _bar(self, total: float) -> Iterator[Callable[[float, Sequence[float], str], None]]:
        progress = Progress(
            TextColumn("          {task.fields[meter]}", style="magenta"),
            BarColumn(bar_width=14),
            TextColumn("{task.completed:4.1f} of {task.total:.1f} s", style="cyan"),
            TextColumn("{task.description}", style="dim"),
            console=self._console,
            transient=True,
            refresh_per_second=20,
        )
        with progress:
            task = progress.add_task("", total=total, meter=" " * METER)

            def show(heard: float, levels: Sequence[float], text: str) -> None:
                progress.update(task, completed=min(heard, total), description=text, meter=self._meter(levels))

            yield show

    def _meter(self, levels: Sequence[float]) -> str:
        top = len(self._sparks) - 1
        shares = ((value - QUIETEST) / (LOUDEST - QUIETEST) for value in levels[-METER:])
        return "".join(self._sparks[round(top * min(1.0, max(0.0, share)))] for share in shares).rjust(METER)

    def table(self, rows: Sequence[tuple[str, str, str]]) -> None:
        """What was measured: name, value, explanation."""
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim", justify="right", min_width=20)
        table.add_column(style="bold")
        table.add_column(style="dim")
        for row in rows:
            table.add_row(*row)
        self._console.print(table)

    def verdict(self) -> None:
        """The last line."""
        self._console.print()
        if self.problems:
            count = "one thing" if len(self.problems) == 1 else f"{len(self.problems)} things"
            text = Text(f"{self._bad} {count} went wrong, in {self._now:.1f} s:", "bold red")
            self._console.print(text, soft_wrap=True)
            for problem in self.problems:
                self._console.print(Text(f"  {problem}", "red"), soft_wrap=True)
        else:
            self._console.print(Text(f"{self._good} Everything worked, in {self._now:.1f} s.", "bold green"))
