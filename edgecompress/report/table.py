"""A table as a value, and how a measurement becomes a cell of it; pure.

HTML, Markdown, the terminal and CSV draw the same table. A value that must not be trusted is
marked, and its reason is a footnote.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

from edgecompress.report import words
from edgecompress.results import Row
from edgecompress.values import Measurement, find

NOT_MEASURED = "not measured"
ColumnKind = Literal["figure", "words", "name", "state", "count", "bar"]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    `unit` stands under the title. `spare` says how early it goes where there is little room: 0
    never, 2 first. What a column holds is its `kind`: figures (flush right), words, a name, a
    state (a badge), a count (of little weight), a bar. A `strong` one stands out.
    """

    key: str
    title: str
    unit: str = ""
    spare: int = 0
    kind: ColumnKind = "figure"
    strong: bool = False

    @property
    def left(self) -> bool:
        """Whether it is set flush left."""
        return self.kind in ("words", "name", "state")

    @property
    def heading(self) -> str:
        """Title and unit on one line."""
        return f"{self.title}, {self.unit}" if self.unit else self.title


@dataclass(frozen=True, slots=True)
class Cell:
    """One value, and in small under it a `detail`: an interval, a share, a reason.

    An `invalid` one must not be trusted; `notes` are the numbers of footnotes that say why. `tone`
    is a state (``pass``, ``fail``, ``undecided``, ``error``, ``chosen``), ``quiet``, ``up`` or
    ``down`` (a change for the better or the worse), ``hit`` or ``slip`` (of a matrix); `share` the
    length of a bar, −1 to 1, or the strength of a hit's colour. `hover` is what a pointer sees,
    `link` an address beside the page, `order` what the column is sorted by where that is not the
    text, and `short` stands for the text where there is little room.
    """

    text: str = words.MISSING
    detail: str = ""
    invalid: bool = False
    notes: tuple[int, ...] = ()
    tone: str = ""
    share: float = 0.0
    hover: str = ""
    link: str = ""
    order: float | None = None
    short: str = ""

    @property
    def missing(self) -> bool:
        """Whether there is nothing to show."""
        return self.text == words.MISSING

    @property
    def told(self) -> bool:
        """Whether it says more than that nothing was measured."""
        return not self.missing and (self.text != NOT_MEASURED or bool(self.notes))


@dataclass(frozen=True, slots=True)
class Line:
    """A row of a table: its name, its key in plots, its full name where the name is shortened."""

    name: str
    cells: tuple[Cell, ...]
    key: str = ""
    full_name: str = ""
    state: str = ""
    winner: bool = False
    again: bool = False
    hover: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """Rows that belong together; where they are `owned`, the title says whose they are."""

    lines: tuple[Line, ...]
    title: str = ""
    key: str = ""
    owned: bool = False
    winner: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table: every line has a cell for every column.

    `caption` says what it shows, `heading` stands above the names. Footnotes have numbers from 1;
    a remark comes with the key of the column that it is about (empty: all). `style` is ``cards``
    (a card per row where the table is too wide), ``fit`` (no wider than it must be), ``plain`` or
    ``confusion`` (a square of counts). `download` names the file that its CSV is offered as.
    """

    caption: str
    heading: str
    columns: tuple[Column, ...]
    parts: tuple[Part, ...]
    footnotes: tuple[str, ...] = ()
    remarks: tuple[tuple[str, str], ...] = ()
    style: str = "fit"
    sortable: bool = False
    download: str = ""

    @property
    def lines(self) -> tuple[Line, ...]:
        """The rows of all parts."""
        return tuple(line for part in self.parts for line in part.lines)


@dataclass(slots=True)
class Notes:
    """Footnotes in the order of their first mention; equal reasons share a number."""

    texts: list[str] = field(default_factory=list)

    def number(self, text: str) -> int:
        """Give the number of the footnote with this text, made where there is none."""
        clean = words.plain(text)
        if clean not in self.texts:
            self.texts.append(clean)
        return self.texts.index(clean) + 1


def cell_of(found: Measurement | None, notes: Notes, extra: str = "") -> Cell:
    """Write a measurement; one that is invalid is marked and its reason noted."""
    if found is None:
        return Cell()
    reasons = [found.invalid] if found.invalid else []
    if not math.isfinite(found.value) and not found.invalid:
        reasons = ["the value is not a finite number"]
    marks = tuple(notes.number(text) for text in [*reasons, *([extra] if extra else [])])
    detail = words.span(found.interval, found.unit)
    text = "n/a" if not math.isfinite(found.value) else words.number(found.value, found.unit)
    return Cell(text, detail, bool(reasons), marks)


def faster_column(rows: Iterable[Row]) -> Column:
    """Head ratios of times; what stands in brackets, where that was measured, is named."""
    measured = any(find(row.measurements, "end_to_end_speedup") for row in rows)
    return Column("faster", "Faster", "× (whole way)" if measured else "×")


def faster_cell(found: Measurement | None, whole: Measurement | None, notes: Notes) -> Cell:
    """Write a ratio of times, and in brackets the same from input to answer (`faster_column`)."""
    cell = cell_of(found, notes)
    if whole is None or whole.invalid:
        return cell
    return replace(cell, detail=f"{cell.detail} ({words.times(whole.value)})".lstrip())


def sampled(found: Measurement | None) -> str:
    """Say that only a sample was asked; empty when it was all."""
    asked, of = (found.conditions.get(key) if found else None for key in ("sample", "of"))
    return f"asked {asked:,} of {of:,} examples, a stratified sample" if asked and of else ""


def loss_cell(found: Measurement | None, notes: Notes) -> Cell:
    """Write a measured loss as a change: its sign and its interval are turned."""
    cell = cell_of(found, notes)
    if found is None or cell.text == "n/a":
        return cell
    text, detail = words.turned(found)
    return replace(cell, text=text, detail=detail)


def table_of(
    caption: str,
    heading: str,
    columns: Iterable[Column],
    lines: Iterable[Line | tuple[str, Iterable[Cell]]],
    footnotes: Iterable[str] = (),
    *,
    style: str = "fit",
    sortable: bool = False,
) -> Table:
    """Make a table of one part; a line may be its name and its cells."""
    rows = (one if isinstance(one, Line) else Line(one[0], tuple(one[1])) for one in lines)
    part, notes = Part(tuple(rows)), tuple(footnotes)
    return Table(caption, heading, tuple(columns), (part,), notes, style=style, sortable=sortable)


def filled(table: Table, *, least: int = 0) -> Table:
    """Leave out the columns, from the one numbered `least` on, of which nothing is known."""
    kept = [
        index
        for index in range(len(table.columns))
        if index < least or any(line.cells[index].told for line in table.lines)
    ]

    def narrowed(line: Line) -> Line:
        return replace(line, cells=tuple(line.cells[index] for index in kept))

    parts = (replace(part, lines=tuple(map(narrowed, part.lines))) for part in table.parts)
    columns = tuple(table.columns[index] for index in kept)
    return replace(table, columns=columns, parts=tuple(parts))
