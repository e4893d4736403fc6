"""A run's progress on a terminal: a line per finished piece, a bar with time left for the rest."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

QUIET_S = 20.0
"""Without a terminal, seconds between two lines about a long piece of work."""


class TerminalReporter:
    """Draws progress with rich on standard error; without a terminal it prints finished lines."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)
        self.started = time.monotonic()
        self.title = ""
        self.sections = 0
        self.done = 0
        self.spoken = self.started
        self.bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[what]}", style="dim"),
            TimeRemainingColumn(compact=True),
            TextColumn("left", style="dim"),
            console=self.console,
            transient=True,
        )
        self.whole = self.bar.add_task("the whole run", total=None, what="", visible=False)
        self.piece = self.bar.add_task("starting", total=None, what="")

    def __enter__(self) -> TerminalReporter:
        if self.console.is_terminal:
            self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.console.is_terminal:  # else it was not started, and stopping prints an empty line
            self.bar.stop()

    def plan(self, sections: Sequence[str]) -> None:
        """Show a bar for the whole work, moved on by sections."""
        self.sections = len(sections)
        self.bar.update(self.whole, total=len(sections), visible=True)

    def section(self, title: str) -> None:
        """Print the heading of the next pieces."""
        self.done += 1
        count = f"{self.done} of {self.sections}" if self.sections else ""
        self.bar.update(self.whole, completed=self.done - 1, what=count)
        place = f" [dim]({count})[/dim]" if count else ""
        self.console.print(f"[bold]{_short(title)}[/bold]{place}")

    def begin(self, title: str) -> None:
        """Show the piece of work under way."""
        self.title = title
        self.spoken = time.monotonic()
        self.bar.reset(self.piece, description=_short(title), total=None, what="")

    def advance(self, done: float, total: float, what: str) -> None:
        """Move the bar; without a terminal, say now and then how far it is."""
        self.bar.update(self.piece, completed=done, total=total, what=what)
        now = time.monotonic()
        if self.console.is_terminal or now - self.spoken < QUIET_S:
            return
        self.spoken = now
        seconds = self.bar.tasks[self.piece].time_remaining
        left = f", {time.strftime('%M:%S', time.gmtime(seconds))} left" if seconds else ""
        share = f"{done / total:.0%}" if total else ""
        self.console.print(f"        {_short(self.title)} {what} {share}{left}", style="dim")

    def end(self, note: str) -> None:
        """Print the finished piece with its note."""
        clock = time.strftime("%M:%S", time.gmtime(time.monotonic() - self.started))
        self.console.print(f"[dim]{clock}[/dim]   {_short(self.title)} ", end="")
        self.console.print(note, style="dim", markup=False)


def _short(title: str) -> str:
    from rich.markup import escape

    return escape(title if len(title) <= 72 else title[:69] + "…")
