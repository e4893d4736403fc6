"""How results show themselves: small tables as plain text, with rich, and as HTML.

A device has the base install only, so that rich is imported where it draws.
"""

from __future__ import annotations

import html
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edgecompress.words import printable

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

COLOURS = {
    "+": "green",
    "−": "red",
    "~": "yellow",
    "apart": "bold",
    "right to wrong": "red",
    "wrong to right": "green",
    "✓": "green",
    "✗": "red",
    "!": "yellow",
}
"""Of cells that say what changed, and of notes by their first sign."""


@dataclass(frozen=True, slots=True)
class Section:
    """A title, a table (its `heads` may be empty), and what stands under it.

    `right` is the index of the first column of figures, which are set flush right; `warnings` are
    notes that ask to be looked at.
    """

    title: str
    heads: tuple[str, ...] = ()
    lines: tuple[tuple[str, ...], ...] = ()
    notes: tuple[str, ...] = ()
    right: int | None = None
    warnings: tuple[str, ...] = ()


class Shown(ABC):
    """A result that prints as tables, at a prompt too, and shows them in a notebook."""

    __slots__ = ()

    @abstractmethod
    def sections(self) -> Iterable[Section]:
        """Lay out what was found."""

    def __str__(self) -> str:
        return "\n".join(plain(self.sections()))

    __repr__ = __str__

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from drawn(self.sections())

    def _repr_html_(self) -> str:
        return as_html(self.sections())


def _harmless(parts: Iterable[Section]) -> Iterator[Section]:
    """Take from a stranger's words what would steer a terminal."""
    for part in parts:
        lines = tuple(tuple(map(printable, line)) for line in part.lines)
        notes, warnings = tuple(map(printable, part.notes)), tuple(map(printable, part.warnings))
        yield replace(part, lines=lines, notes=notes, warnings=warnings)


def plain(parts: Iterable[Section]) -> Iterator[str]:
    """Lay sections out in columns of plain text."""
    first = True
    for part in _harmless(parts):
        if not first:
            yield ""
        first = False
        indent = "  " if part.title else ""
        if part.title:
            yield part.title
        table = ([part.heads] if part.heads else []) + list(part.lines)
        widths = [max(map(len, column)) for column in zip(*table, strict=True)] if table else []
        for line in table:
            cells = [
                cell.rjust(width) if part.right is not None and index >= part.right else
                cell.ljust(width)
                for index, (cell, width) in enumerate(zip(line, widths, strict=True))
            ]  # fmt: skip
            yield (indent + "  ".join(cells)).rstrip()
        yield from (indent + note for note in (*part.notes, *part.warnings))


def drawn(parts: Iterable[Section]) -> Iterator[RenderableType]:
    """Draw sections with rich."""
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    for index, part in enumerate(_harmless(parts)):
        indent = 2 if part.title else 0
        if index:
            yield Text()
        if part.title:
            yield Text(part.title, style="bold")
        columns = max((len(line) for line in (part.heads, *part.lines)), default=0)
        table = Table(box=None, show_header=bool(part.heads), header_style="dim", pad_edge=False)
        for column in range(columns):
            head = part.heads[column] if part.heads else ""
            flush = "right" if _flush_right(part, column) else "left"
            table.add_column(Text(head), justify=flush)  # type: ignore[arg-type]
        for line in part.lines:
            table.add_row(*(Text(cell, style=COLOURS.get(cell, "")) for cell in line))
        if part.lines:
            yield Padding(table, (0, 0, 0, indent), expand=False)
        for note in (*part.notes, *part.warnings):
            plain_style = "yellow" if note in part.warnings else "dim" if part.lines else ""
            left = indent + len(note) - len(note.lstrip())
            text = Text(note.lstrip(), style=COLOURS.get(note[:1], plain_style))
            yield Padding(text, (0, 0, 0, left), expand=False)


def as_html(parts: Iterable[Section]) -> str:
    """Write sections as a piece of HTML; whatever text they hold is escaped."""
    return "".join(_html(part) for part in _harmless(parts))


def _html(part: Section) -> str:
    found = [f"<h4>{html.escape(part.title)}</h4>"] if part.title else []
    if part.lines:
        head = "".join(_cells(part, part.heads, "th"))
        body = "".join(f"<tr>{''.join(_cells(part, line, 'td'))}</tr>" for line in part.lines)
        found.append(f"<table>{f'<thead><tr>{head}</tr></thead>' if head else ''}")
        found.append(f"<tbody>{body}</tbody></table>")
    found += [f"<p>{html.escape(note)}</p>" for note in part.notes]
    found += [f"<p><b>{html.escape(warning)}</b></p>" for warning in part.warnings]
    return "".join(found)


def _cells(part: Section, line: Sequence[str], tag: str) -> Iterator[str]:
    for index, cell in enumerate(line):
        side = "right" if _flush_right(part, index) else "left"
        yield f'<{tag} style="text-align:{side}">{html.escape(cell)}</{tag}>'


def _flush_right(part: Section, index: int) -> bool:
    return part.right is not None and index >= part.right
