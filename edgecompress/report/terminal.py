"""A page on a terminal: rich renderables, nothing printed here.

Names and reasons come as `rich.text.Text`, never as console markup. What a person looks for stands
last, where the terminal stops: the head.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.panel import Panel
from rich.table import Table as Grid
from rich.text import Text

from edgecompress.report import blocks, words
from edgecompress.report.blocks import Block, Page
from edgecompress.report.table import Cell, Table

COLOURS = {"pass": "green", "fail": "red", "undecided": "yellow", "error": "red"}
MARKS = {"pass": "✓", "fail": "✗", "undecided": "?"}
NAME = 16
"""Least width of a column of names."""
LONGEST = 44
"""Most of it, where there is more beside it."""


def render_terminal(page: Page) -> tuple[RenderableType, ...]:
    """Draw every section that a terminal shows and, last, the head with its opening."""
    parts: list[RenderableType] = []
    found = blocks.sections(page, "terminal")
    for section in found:
        inner = [*_blocks(section.blocks)]
        if len(found) > 1:
            title = Text(words.plain(section.title), "bold")
            inner = [title, *inner, *[Text()] * (section is not found[-1])]
        parts += inner
    opening, head = [*_blocks(page.opening)], page.head
    lead = [_text(head.lead)] if head.lead else []
    if not head.badge:
        return (*parts, *opening, *lead)
    colour = COLOURS.get(head.state, "white")
    sentence = _text(head.sentence, f"bold {colour}" if head.state == "error" else "bold")
    title = _text(f" {head.badge} ", f"bold {colour}")
    body = Group(sentence, *lead, *opening)
    return (*parts, Text(), Panel(body, title=title, title_align="left", border_style=colour))


def print_page(page: Page, console: Console | None = None) -> None:
    """Print a page, on standard output unless a console is given."""
    console = console or Console(highlight=False)
    for part in render_terminal(page):
        console.print(part)


def _blocks(some: tuple[Block, ...]) -> Iterator[RenderableType]:
    for block in blocks.shown(some, "terminal"):
        match block:
            case blocks.Paragraph(text):
                yield _text(text)
            case blocks.Remark(text):
                yield _text(text, "dim")
            case blocks.Heading(text):
                yield Text.assemble("\n", _text(text, "bold"))
            case blocks.Items(items):
                yield from (_text(one, "dim") for one in items)
            case blocks.Checks(lines):
                for text, state, why in lines:
                    mark = (f"{MARKS.get(state, '?')} ", COLOURS.get(state, "white"))
                    yield Text.assemble(mark, _text(text), _text(f" — {why}" * bool(why), "dim"))
            case blocks.Tiles(tiles):
                for tile in tiles:
                    value = _text(f"{tile.value} {tile.unit}", "strike" if tile.invalid else "")
                    more = ", ".join(filter(None, (tile.gain, tile.detail)))
                    yield Text.assemble(
                        _text(f"{tile.name} "), value, _text(f", {more}" * bool(more), "dim")
                    )
            case blocks.Pairs(pairs):
                yield _pairs(pairs)
            case Table():
                yield _Fitted(block)
            case blocks.Footnotes(texts):
                yield from _footnotes(texts)
            case blocks.Columns(columns):
                for column in columns:
                    yield from _blocks(column)
            case _:  # a drawing, or what is shown on demand
                pass


def _text(text: str, style: str = "") -> Text:
    return Text("".join(piece for piece, _ in blocks.spans(text)), style)


def _pairs(pairs: Sequence[tuple[str, str]]) -> Grid:
    grid = Grid.grid(padding=(0, 2))
    grid.add_column(overflow="fold", max_width=LONGEST)
    grid.add_column(overflow="fold", style="dim")
    for name, said in pairs:
        told = _text(name).plain
        # A long name breaks between its stages.
        spaced = told.replace("+", " +") if len(told) > 24 else told
        grid.add_row(Text(spaced), Text(words.plain(said)))
    return grid


def _footnotes(texts: Sequence[str]) -> Iterator[Text]:
    for number, text in enumerate(texts, 1):
        yield Text(f"{words.superscript((number,))} {words.plain(text)}", "dim")


@dataclass(frozen=True, slots=True)
class _Fitted:
    """A table, drawn as wide as the console that prints it allows."""

    table: Table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = self.table
        # Where there is little room, columns that can be spared go, and what stands under values.
        for spare, detailed in ((2, True), (1, True), (1, False), (0, False)):
            columns = [
                (index, column)
                for index, column in enumerate(table.columns)
                if column.spare <= spare and column.kind != "bar"
            ]
            draw = partial(_cell, detailed=detailed, narrow=spare < 2)
            used = sum(_width(table, index, draw) + 2 for index, _ in columns)
            if used + min(NAME, max((cell_len(line.name) for line in table.lines), default=0)) <= (
                options.max_width
            ):
                break
        plain = partial(_cell, detailed=False, narrow=spare < 2)
        room = max(12, options.max_width - sum(_width(table, n, plain) + 2 for n, _ in columns))
        grid = Grid(box=None, pad_edge=False, padding=(0, 1), header_style="bold")
        grid.add_column(_text(table.heading), overflow="fold", min_width=min(room, NAME))
        units = any(column.unit for column in table.columns)
        for _, column in columns:
            head = _text(column.title).append(f"\n{words.plain(column.unit)}" * units, "dim")
            side: Literal["left", "right"] = "left" if column.left else "right"
            grid.add_column(head, justify=side, overflow="fold")
        for part in table.parts:
            if part.owned:
                title = Text(_wrapped(part.title, room), "bold green" if part.winner else "bold")
                grid.add_row(title)
            for line in part.lines:
                style = "bold green" if line.winner else "dim" if line.state == "error" else ""
                name = line.name.rpartition("/")[2] if part.owned and not detailed else line.name
                name = f"{'▸' * line.winner}{'  ' * part.owned}{name}"
                cells = (draw(line.cells[index]) for index, _ in columns)
                grid.add_row(Text(_wrapped(name, room)), *cells, style=style)
        yield grid
        yield from _footnotes(table.footnotes)
        shown = {"", *(column.key for _, column in columns)}
        yield from (_text(text, "dim") for key, text in table.remarks if key in shown)


def _width(table: Table, index: int, draw: Callable[[Cell], Text]) -> int:
    """Give the width of a column; what stands under a state is wrapped."""
    column = table.columns[index]
    texts = [draw(line.cells[index]).plain for line in table.lines]
    if column.kind == "state":
        texts = [text.partition("\n")[0] for text in texts]
    every = (column.title, column.unit, *texts)
    return max(cell_len(line) for text in every for line in text.split("\n"))


def _wrapped(name: str, width: int) -> str:
    """Break a name that is too long for its column after its stages, not inside one."""
    lines = [""]
    for part in re.findall(r"[^+]*\+|[^+]+", words.harmless(name)):
        if lines[-1] and cell_len(lines[-1] + part) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def _cell(cell: Cell, *, detailed: bool, narrow: bool) -> Text:
    text = Text(words.plain((narrow and cell.short) or cell.text))
    text.stylize("strike" if cell.invalid else "dim" if cell.tone == "quiet" else "")
    text.stylize(COLOURS.get(cell.tone, "") if cell.tone != "pass" else "")
    text.append(words.superscript(cell.notes))
    if cell.detail and detailed:
        text.append(f"\n{words.plain(cell.detail)}", "dim not bold")
    return text
