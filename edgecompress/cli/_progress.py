"""A run's progress on a terminal: one line per finished piece, a bar with time left for the rest."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn


class TerminalReporter:
    """Draws progress with rich on standard error; without a terminal it prints finished lines."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)
        self.started = time.monotonic()
        self.stack: list[str] = []
        self.bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[what]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("left", style="dim"),
            console=self.console,
            transient=True,
        )
        self.task = self.bar.add_task("starting", total=None, what="")

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
        self.bar.stop()

    def begin(self, title: str) -> None:
        """Show the piece of work under way."""
        self.stack.append(title)
        self.bar.reset(self.task, description=_short(title), total=None, what="")

    def advance(self, done: float, total: float, what: str) -> None:
        """Move the bar."""
        self.bar.update(self.task, completed=done, total=total, what=what)

    def end(self, note: str) -> None:
        """Print the finished piece with its note."""
        title = self.stack.pop() if self.stack else ""
        if note:
            clock = time.strftime("%M:%S", time.gmtime(time.monotonic() - self.started))
            indent = "  " * max(0, len(self.stack))
            self.console.print(f"[dim]{clock}[/dim] {indent}{_short(title)} ", end="")
            self.console.print(note, style="dim", markup=False)


def _short(title: str) -> str:
    from rich.markup import escape

    return escape(title if len(title) <= 72 else title[:69] + "…")
