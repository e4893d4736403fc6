"""A run's progress on a terminal: a line per finished piece, bars with the time left below them.

A finished line holds the clock since the start, what was worked on, and what came of it. It is
printed in one call: between two calls the bars would be drawn into the line.
"""

from __future__ import annotations

import atexit
import contextlib
import html
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import FrameType, TracebackType

from rich.cells import cell_len, chop_cells
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task
from rich.table import Column, Table
from rich.text import Text

from edgecompress.report.words import plain

QUIET_S = 20.0
"""Without a terminal, seconds between two lines about a long piece of work."""
CLOCK_CELLS = 8
MARGIN = CLOCK_CELLS + 2
LONGEST = "about 0:00:00 left"


class TerminalReporter:
    """Draws progress with rich on standard error; without a terminal it prints finished lines.

    The bars are drawn by a thread of rich's, at any moment. What it draws must always be as high:
    a line printed at the same moment would else be written over, or a bar left behind.
    """

    per_second = 10

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)
        self.drawn = self.console.is_terminal and not self.console.is_dumb_terminal
        self.started = time.monotonic()
        self.title = ""
        self.heading = ""
        self.sections = 0
        self.done = 0
        self.section_started = self.started
        self.spent: list[float] = []
        self.spoken = self.started
        self.bar = _Bars(
            SpinnerColumn(),
            _Said(lambda task: task.description, _cut(ratio=3)),
            BarColumn(bar_width=None, table_column=Column(ratio=1, min_width=8)),
            _Said(lambda task: str(task.fields["what"]), _cut(ratio=4), "dim"),
            _Said(self._left, Column(justify="right", min_width=len(LONGEST), no_wrap=True), "dim"),
            console=self.console,
            transient=True,
            expand=True,
            refresh_per_second=self.per_second,
        )
        self.note = _NotebookBar() if self.console.is_jupyter else None
        self.whole = self.bar.add_task("the whole run", total=None, what="", visible=False)
        self.piece = self.bar.add_task("starting", total=None, what="")

    def __enter__(self) -> TerminalReporter:
        if self.drawn:
            # No `__exit__` meets a Ctrl-C in these very lines; the cursor is shown again anyway.
            atexit.register(self.bar.stop)
            self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is KeyboardInterrupt and self.title:
                self.end("interrupted")
        finally:
            if self.note:
                self.note.show("", 0, 0)
            if self.drawn:  # else it was not started, and stopping prints an empty line
                self.bar.stop()
                atexit.unregister(self.bar.stop)

    def plan(self, sections: Sequence[str]) -> None:
        """Show a bar for the whole work, moved on by sections."""
        self.sections = len(sections)
        if self.drawn:
            self.bar.stop()
        self.bar.update(self.whole, total=len(sections), visible=True)
        if self.drawn:
            self.bar.start()

    def section(self, title: str) -> None:
        """Print the heading of the next pieces."""
        now = time.monotonic()
        if self.done:
            self.spent.append(now - self.section_started)
        self.section_started = now
        self.done += 1
        self.heading = plain(title)
        count = f"{self.done} of {self.sections}" if self.sections else ""
        self.bar.update(self.whole, completed=self.done - 1, what=f"part {count}" if count else "")
        place = f" ({count})" if count else ""
        heading = self.heading
        if self.drawn:
            heading = middle(heading, self.console.width - cell_len(place))
        self._print(Text.assemble((heading, "bold"), (place, "dim")))

    def begin(self, title: str) -> None:
        """Show the piece of work under way."""
        self.title = plain(title)
        self.spoken = time.monotonic()
        self.bar.reset(self.piece, description=self.title, total=None, what="")

    def advance(self, done: float, total: float, what: str = "") -> None:
        """Move the bar; without a terminal, say now and then how far it is."""
        what = plain(what)
        self.bar.update(self.piece, completed=done, total=total, what=what)
        now = time.monotonic()
        if self.note and now - self.spoken >= 1 / self.per_second:
            self.spoken = now
            self.note.show(f"{self.title}  {what}", done, total)
        if self.drawn or self.note or now - self.spoken < QUIET_S:
            return
        self.spoken = now
        seconds = self.bar.tasks[self.piece].time_remaining
        left = f"{clock(seconds)} left" if seconds else ""
        share = f"{done / total:.0%}" if total else ""
        said = ", ".join(part for part in (what, share, left) if part)
        self._line(self.title, said)

    def end(self, note: str) -> None:
        """Print the finished piece with its note."""
        title, self.title = self.title or self.heading, ""
        self.bar.reset(self.piece, description=self.heading or "…", total=None, what="")
        self._line(title, plain(note) or "done")

    def _line(self, title: str, note: str) -> None:
        said = clock(time.monotonic() - self.started).rjust(CLOCK_CELLS)
        if not self.drawn:  # whole and on one line, for a file or another program
            self._print(Text(f"{said}  {title}  {note}"))
            return
        room = self.console.width - MARGIN
        column = max(16, int(room * 0.45))
        if cell_len(title) > column:  # a long name takes what a short note leaves
            column = max(column, room - 2 - cell_len(note))
        row = Table.grid(padding=(0, 2, 0, 0), expand=True)
        row.add_column(width=CLOCK_CELLS, no_wrap=True, style="dim")
        row.add_column(width=column, no_wrap=True)
        row.add_column(ratio=1, overflow="fold", style="dim")
        row.add_row(said, Text(middle(title, column)), Text(note))
        self.console.print(row)

    def _print(self, text: Text) -> None:
        self.console.print(text, soft_wrap=not self.drawn)

    def _left(self, task: Task) -> str:
        """Say the time left; of the whole run by what its finished sections took on average."""
        if task.id != self.whole:
            left = task.time_remaining
            return f"{clock(left)} left" if left else f"{clock(task.elapsed or 0.0)} so far"
        now = time.monotonic()
        if not self.spent:  # nothing to reckon with yet
            return f"{clock(now - self.started)} so far"
        each = sum(self.spent) / len(self.spent)
        current = max(0.0, each - (now - self.section_started))
        return f"about {clock(current + each * (self.sections - self.done))} left"


class _NotebookBar:
    """A bar in a notebook's cell, drawn anew in its place; finished lines stand beside it."""

    def __init__(self) -> None:
        from IPython.display import HTML, display

        self.html = HTML
        self.place = display(HTML(""), display_id=True)

    def show(self, text: str, done: float, total: float) -> None:
        """Draw it; an empty text takes it away."""
        bar = f'<progress value="{done / total if total else 0:.3f}"></progress> '
        self.place.update(self.html(f"{bar}{html.escape(text)}" if text else ""))


class _Bars(Progress):
    """Bars that leave a few columns free: a terminal writes ^C there, and no line breaks."""

    def start(self) -> None:
        """Draw the bars; a Ctrl-C comes after that, or before."""
        with _ctrl_c_later():
            super().start()

    def stop(self) -> None:
        """Take the bars away; a Ctrl-C comes after that, or before."""
        with _ctrl_c_later():
            super().stop()

    def get_renderables(self) -> Iterable[RenderableType]:
        """Give the table of the bars."""
        yield _Narrower(self.make_tasks_table(self.tasks))


@contextlib.contextmanager
def _ctrl_c_later() -> Iterator[None]:
    """Let a Ctrl-C wait for the end of the block.

    In the middle of rich's own start or stop it would leave the cursor hidden: rich believes then
    that nothing is left to take back.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals do not come here
        return
    came: list[tuple[int, FrameType | None]] = []
    before = signal.signal(signal.SIGINT, lambda *call: came.append(call))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came and callable(before):
            before(*came[0])


@dataclass(frozen=True, slots=True)
class _Narrower:
    """Something drawn a few columns narrower than there is room."""

    inner: Table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from console.render(self.inner, options.update(width=max(1, options.max_width - 4)))


class _Said(ProgressColumn):
    """Words about a task, on one line."""

    def __init__(self, say: Callable[[Task], str], column: Column, style: str = "") -> None:
        super().__init__(table_column=column)
        self.say, self.style = say, style

    def render(self, task: Task) -> Text:
        """Write them."""
        return Text(self.say(task), style=self.style)


def _cut(ratio: int) -> Column:
    """Make a column of the bars that takes its share of the width and cuts what is longer."""
    return Column(ratio=ratio, no_wrap=True, overflow="ellipsis")


def clock(seconds: float) -> str:
    """Write a time as hours, minutes and seconds; hours do not wrap.

    >>> clock(59.9), clock(3_661), clock(90_000)
    ('0:00:59', '1:01:01', '25:00:00')
    """
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def middle(text: str, cells: int) -> str:
    """Cut a long name in its middle: names of models differ at their ends.

    >>> middle("prune.layers(keep=2)+quantize.dynamic", 21)
    'prune.laye…ze.dynamic'
    """
    if cell_len(text) <= cells:
        return text
    if cells < 3:
        return chop_cells(text, max(1, cells))[0]
    after = (cells - 1) // 2
    head = chop_cells(text, cells - 1 - after)[0]
    tail = chop_cells(text[::-1], after)[0][::-1]
    return f"{head}…{tail}"
