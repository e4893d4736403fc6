"""The table of a group: what Markdown, the page and the terminal show of it; pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from edgecompress.report import words
from edgecompress.report.matrix.summary import LOST, SCORE, Group, Line, Spread
from edgecompress.report.matrix.values import MatrixResult
from edgecompress.report.table import Cell, Column, Notes


@dataclass(frozen=True, slots=True)
class TableLine:
    """A row: what was done to the weights, how they are quantized, and its cells."""

    model: str
    scheme: str
    name: str
    kind: str
    first: bool
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class GroupTable:
    """A group's table with its footnotes."""

    columns: tuple[Column, ...]
    lines: tuple[TableLine, ...]
    footnotes: tuple[str, ...]


def build(group: Group) -> GroupTable:
    """Lay out a group; columns that nothing was measured of are left out."""
    notes = Notes()
    columns = [
        (SCORE, Column(SCORE, words.title(group.primary or "score"), group.split or "")),
        (LOST, Column(LOST, "vs teacher", group.split or "")),
        ("size", Column("size", "Size", "MB")),
        ("download_size", Column("download_size", "Download", "MB")),
        ("compression", Column("compression", "Smaller", "×")),
        ("speedup", Column("speedup", "Faster", "×")),
    ]
    columns = [one for one in columns if any(one[0] in line.readings for line in group.lines)]
    # What was done to the weights stands together, in the order of the recipe.
    places = {(line.kind, line.model): place for place, line in reversed([*enumerate(group.lines)])}
    ordered = sorted(
        group.lines,
        key=lambda line: (line.kind != "reference", places[line.kind, line.model]),
    )
    lines = []
    before: tuple[str, str] | None = None
    for line in ordered:
        cells = tuple(_cell(line, key, group, notes) for key, _ in columns)
        if line.failures:
            cells = (_failed(line, cells[0], notes), *cells[1:]) if cells else cells
        lines.append(
            TableLine(
                line.model,
                line.scheme,
                line.name,
                line.kind,
                (line.kind, line.model) != before,
                cells,
            )
        )
        before = (line.kind, line.model)
    return GroupTable(tuple(column for _, column in columns), tuple(lines), tuple(notes.texts))


def _cell(line: Line, metric: str, group: Group, notes: Notes) -> Cell:
    found = line.readings.get(metric)
    if found is None:
        return Cell()
    shown = _turned(found) if metric == LOST else found
    text = (
        words.signed(shown.value, shown.unit)
        if metric == LOST
        else words.number(shown.value, shown.unit)
    )
    spread = ""
    if shown.low < shown.high and metric in (SCORE, LOST, "speedup"):
        spread = words.span((shown.low, shown.high), shown.unit, sign=metric == LOST)
    marks: tuple[int, ...] = ()
    if found.invalid:
        marks = (notes.number(found.invalid),)
    elif found.count < group.of and not line.failures:
        what = "groups" if group.mean else "seeds"
        marks = (
            notes.number(f"of {found.count} of {group.of} {what}; the others gave none to trust"),
        )
    return Cell(text, spread, bool(found.invalid), marks)


def _turned(found: Spread) -> Spread:
    """Write a loss as a change: a loss is negative."""
    return replace(found, value=-found.value, low=-found.high, high=-found.low)


def _failed(line: Line, cell: Cell, notes: Notes) -> Cell:
    marks = tuple(notes.number(f"not made: {text}") for text in line.failures)
    return replace(cell, text="failed" if cell.missing else cell.text, notes=(*cell.notes, *marks))


def state_words(matrix: MatrixResult) -> str:
    """Say how far the matrix is and what the rest takes."""
    done, failed, waiting = (len(matrix.of(s)) for s in ("finished", "failed", "waiting"))
    parts = [f"{done} of {len(matrix.cells)} cells finished"]
    if failed:
        parts.append(f"{failed} failed")
    if waiting:
        parts.append(f"{waiting} not yet")
    spent = sum(cell.seconds for cell in matrix.cells)
    text = f"{', '.join(parts)}, in {words.duration(spent)}" if spent else ", ".join(parts)
    left = matrix.remaining_seconds
    if waiting and left is not None:
        text += f"; about {words.duration(left)} left for the rest"
    return text
