"""The end of ``edgecompress run`` on a terminal: rich renderables, nothing printed here.

Names and reasons come as `rich.text.Text`, never as console markup.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Table as RichTable
from rich.text import Text

from edgecompress.report import words
from edgecompress.report.across import NOT_MEASURED, VERSUS_HOST, Across, across, differing
from edgecompress.report.facts import gather, short_names
from edgecompress.report.panels import budget_lines, failed, figures, losers, subject
from edgecompress.report.places import Place, gap_words, gaps, places
from edgecompress.report.sentence import headline
from edgecompress.report.standing import standing
from edgecompress.report.table import Cell, Column, Table, build
from edgecompress.values import Row, RunResult

COLOURS = {"pass": "green", "fail": "red", "undecided": "yellow", "error": "red"}
MARKS = {"pass": "✓", "fail": "✗", "undecided": "?"}
NARROW = 150
TIGHT = 104
"""Widths of a terminal under which only the essential columns, and no intervals, are shown."""
NAME = 16
"""Least width of a model's name."""


@dataclass(frozen=True, slots=True)
class _Fitted:
    """The table, drawn as wide as the console that prints it allows."""

    table: Table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield _table(self.table, width=options.max_width)


@dataclass(frozen=True, slots=True)
class _FittedAcross:
    """The table of models and targets, as wide as the console that prints it allows."""

    wide: Across

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width
        yield from _across(self.wide, narrow=width < NARROW, tight=width < TIGHT)


@dataclass(frozen=True, slots=True)
class _FittedRemarks:
    """What is said under that table, but of columns that it leaves out."""

    wide: Across

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        narrow = options.max_width < NARROW
        for text in self.wide.remarks:
            if not (narrow and text.startswith(f"«{VERSUS_HOST}»")):
                yield Text(text, "dim")


def render_terminal(result: RunResult) -> tuple[RenderableType, ...]:
    """Draw the table, why each other candidate lost and, last, the verdict.

    The table fits the console that prints it: a narrow one gets the essential columns only.
    """
    facts = gather(result)
    names, _ = short_names(facts.rows)
    parts: list[RenderableType] = []
    table = build(result)
    if facts.several:
        parts.append(Text(f"On {words.plain(facts.target)}", style="bold"))
    parts.append(_Fitted(table))
    if table.common:
        parts.append(Text(f"Every candidate also has {', '.join(table.common)}.", "dim"))
    parts += _footnotes(table.footnotes)
    parts += [*(Text(said, "dim") for said in standing(result)), Text()]
    there = places(result, facts)
    # The rest of the models would fill screens; the page and the Markdown have them.
    shown = subject(facts)
    if wide := across(facts, there, [facts.reference, shown] if shown else ()):
        parts += [Text("On every target", style="bold"), _FittedAcross(wide)]
        parts += [*_footnotes(wide.footnotes), _FittedRemarks(wide)]
        parts += [Text(), _places(there), Text()]
    if missing := gaps(facts):
        grid = _grid()
        for whose, why in map(gap_words, missing):
            grid.add_row(Text(whose), Text(why))
        parts += [Rule("What a target did not give", align="left", style="dim"), grid, Text()]
    parts += _reasons("Why the others were not chosen", losers(facts), names)
    parts += _reasons("Failed", failed(facts), names)
    parts.append(_verdict(result))
    return tuple(parts)


def _verdict(result: RunResult) -> Panel:
    facts = gather(result)
    head = headline(result, facts)
    colour = "red" if head.grave else COLOURS.get(head.state, "white")
    lines = [Text(head.sentence, style="bold red" if head.grave else "bold")]
    if head.subject or head.detail:
        joined = ": ".join(part for part in (head.subject, head.detail) if part)
        lines.append(Text(joined))
    said = (*figures(facts, subject(facts)), *differing(facts, subject(facts)))
    lines += [Text(figure, style="dim") for figure in said]
    lines += [
        Text.assemble(
            (f"{MARKS.get(state, '?')} ", COLOURS.get(state, "white")),
            limit,
            (f" — {reason}" if reason else "", "dim"),
        )
        for limit, state, reason in budget_lines(result, subject(facts))
    ]
    title = Text(f" {head.badge} ", style=f"bold {colour}")
    return Panel(Group(*lines), title=title, title_align="left", border_style=colour)


def _spaced(name: str) -> str:
    """Let a long name break between its stages."""
    return name.replace("+", " +") if len(name) > 24 else name


def _wrapped(name: str, width: int) -> str:
    """Break a name that is too long for its column after its stages, not inside one."""
    lines = [""]
    for part in re.findall(r"[^+]*\+?", name):
        if lines[-1] and cell_len(lines[-1] + part) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def _reasons(
    heading: str, rows: Sequence[tuple[Row, str]], names: Mapping[str, str]
) -> list[RenderableType]:
    if not rows:
        return []
    grid = _grid()
    for row, why in rows:
        grid.add_row(Text(_spaced(names[row.name])), Text(words.plain(why)))
    return [Rule(heading, align="left", style="dim"), grid, Text()]


def _grid() -> RichTable:
    grid = RichTable.grid(padding=(0, 2))
    grid.add_column(overflow="fold", max_width=44)
    grid.add_column(overflow="fold", style="dim")
    return grid


def _footnotes(texts: Sequence[str]) -> list[Text]:
    return [
        Text(f"{words.superscript((number,))} {text}", style="dim")
        for number, text in enumerate(texts, start=1)
    ]


def _places(there: Sequence[Place]) -> RichTable:
    """Say what each target is, a line each."""
    grid = _grid()
    for place in there:
        harness = f"harness {place.harness}" if place.harness else ""
        told = place.error or "; ".join(filter(None, [place.title, ", ".join(place.isa), harness]))
        grid.add_row(Text(place.name), Text(told or "not described"))
    return grid


def _across(wide: Across, *, narrow: bool, tight: bool) -> Iterator[RenderableType]:
    """Draw one small table per model, with the same widths in all."""
    shown = [n for n, column in enumerate(wide.columns) if column.essential or not narrow]
    names = [line.target for group in wide.groups for line in group.lines]
    if tight:
        names = [name.rpartition("/")[2] for name in names]
    heads = [_head(wide.columns[n]) for n in shown]
    cells = [
        [_cell(line.cells[n], "", tight=tight, short=narrow) for n in shown]
        for group in wide.groups
        for line in group.lines
    ]
    widths = [
        max(cell_len(part) for text in column for part in text.plain.splitlines())
        for column in zip(heads, *cells, strict=True)
    ]
    first = max(map(cell_len, names), default=0) + 2
    heading = _row(first, widths)
    heading.add_row("", *heads, style="bold")
    yield heading
    lines = iter(zip(names, cells, strict=True))
    for group in wide.groups:
        yield Text(group.name, style="bold green" if group.winner else "bold")
        drawn = _row(first, widths)
        for _ in group.lines:
            name, found = next(lines)
            drawn.add_row(Text(f"  {name}"), *found)
        yield drawn


def _row(first: int, widths: Sequence[int]) -> RichTable:
    drawn = RichTable.grid(padding=(0, 1), pad_edge=False)
    drawn.add_column(width=first, overflow="fold")
    for width in widths:
        drawn.add_column(width=width, justify="right", overflow="fold")
    return drawn


def _width(table: Table, index: int) -> int:
    """Give the width of a column without its intervals."""
    texts = [line.cells[index] for line in table.lines]
    values = (cell_len(cell.text + words.superscript(cell.notes)) for cell in texts)
    return max(cell_len(table.columns[index].title), *values)


def _table(table: Table, *, width: int) -> RichTable:
    narrow, tight = width < NARROW, width < TIGHT
    shown = [n for n, column in enumerate(table.columns) if column.essential or not narrow]
    if tight and NAME + sum(_width(table, n) + 2 for n in shown) > width:
        shown = [n for n in shown if table.columns[n].key != "smaller"]  # the size says it too
    room = max(12, width - sum(_width(table, n) + 2 for n in shown))
    drawn = RichTable(box=None, pad_edge=False, padding=(0, 1), header_style="bold")
    drawn.add_column("", overflow="fold", min_width=12 if tight else NAME)
    for index in shown:
        drawn.add_column(_head(table.columns[index]), justify=_side(table.columns[index]))
    before = ""
    for line in table.lines:
        if before == "reference" and line.row.kind != before:
            drawn.add_section()
        before = line.row.kind
        style = "bold green" if line.winner else "dim" if line.state == "error" else ""
        name = Text(_wrapped(f"{'▸' if line.winner else ''}{line.name}", room))
        drawn.add_row(
            name, *(_cell(line.cells[n], line.state, tight=tight) for n in shown), style=style
        )
    return drawn


def _side(column: Column) -> Literal["left", "right"]:
    return "left" if column.key == "verdict" else "right"


def _head(column: Column) -> Text:
    return Text.assemble(column.title, (f"\n{column.unit}" if column.unit else "\n", "dim"))


def _cell(cell: Cell, state: str, *, tight: bool, short: bool = False) -> Text:
    missing = cell.text == NOT_MEASURED
    text = Text(words.MISSING if missing and short else cell.text)
    text.stylize("strike" if cell.invalid else "dim" if missing else "")
    if cell.text in ("misses budget", "undecided", "failed"):
        text.stylize(COLOURS.get(state, ""))
    text.append(words.superscript(cell.notes))
    if cell.detail and not tight:
        text.append(f"\n{cell.detail}", style="dim not bold")
    return text
