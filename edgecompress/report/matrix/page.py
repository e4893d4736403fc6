"""The page of a matrix: the means, then every group, then its cells; pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from edgecompress.report import blocks, words
from edgecompress.report.blocks import EVERYWHERE, FILES, MARKDOWN, PAGE, Block, Only, name
from edgecompress.report.main_table import HEADINGS
from edgecompress.report.matrix import plots
from edgecompress.report.matrix.summary import (
    LOST,
    SCORE,
    Group,
    Model,
    Spread,
    groups,
    mean_axis,
    means,
)
from edgecompress.report.matrix.values import MatrixResult
from edgecompress.report.table import Cell, Column, Line, Notes, Part, Table, filled

STATES = {"finished": "pass", "failed": "fail", "waiting": "quiet"}


def matrix_page(matrix: MatrixResult) -> blocks.Page:
    """Lay out `matrix`; a terminal shows the means alone, where there are some."""
    found = groups(matrix)
    middle = means(matrix, found)
    order = plots.schemes((*middle, *found))
    sections = [
        blocks.Section(
            _heading(group),
            _group(group, order, first=index == 0),
            f"group-{index}",
            FILES if middle and group in found else EVERYWHERE,
        )
        for index, group in enumerate((*middle, *found))
    ]
    axes = "; ".join(f"{axis}: {', '.join(map(str, one))}" for axis, one in matrix.axes.items())
    said = (
        f"{axes}. Answers are judged on the test split of each cell, read once at the end; "
        f"ratios are against {name('onnx-fp32')}, the teacher’s fp32 export of the same cell."
    )
    if any(group.of > 1 for group in (*middle, *found)):
        said += f" Figures are medians over the seeds (of a mean, over the {mean_axis(matrix)}s); "
        said += "small figures are their range."
    elif found:
        said += " Small figures are the interval of a loss, of 95 %, over the test’s examples."
    keys = plots.legend((*middle, *found), order)
    legend = (blocks.Legend(keys, sticky=True),) if any(map(_drawn, sections)) else ()
    return blocks.Page(
        matrix.name,
        blocks.Head(matrix.name, f"{state_words(matrix)}."),
        (Only(PAGE, (blocks.Remark(said), *legend)),),
        (
            *sections,
            blocks.Section("Cells", (Only(PAGE, (_cells(matrix),)),), "cells", PAGE),
            blocks.Section("Cells that failed", tuple(_failures(matrix)), "failed"),
            blocks.Section("To go on, or to make it again", tuple(_again(matrix)), "again", FILES),
        ),
        contents=len(sections) if len(sections) > 1 else 0,
    )


def build(group: Group) -> Table:
    """Lay out a group; columns that nothing was measured of are left out."""
    notes = Notes()
    split = group.split or ""
    columns = (
        Column("scheme", "Scheme", kind="name"),
        Column(SCORE, words.title(group.primary or "score"), split),
        Column(LOST, "vs teacher", split),
        Column("size", "Size", "MB"),
        Column("download_size", "Download", "MB"),
        Column("compression", "Smaller", "×"),
        Column("speedup", "Faster", "×"),
    )
    # What was done to the weights stands together, in the order of the recipe.
    places: dict[str, list[Model]] = {}
    for line in group.lines:
        places.setdefault(line.model, []).append(line)
    places = {model: _once(lines) for model, lines in places.items()}
    parts = []
    for kind, title in HEADINGS.items():
        models = [[one for one in same if one.kind == kind] for same in places.values()]
        lines = [
            _line(one, columns, group, notes, again=index > 0)
            for same in models
            for index, one in enumerate(same)
        ]
        parts.append(Part(tuple(lines), title, kind))
    table = filled(Table(_heading(group), "Model", columns, tuple(parts)), least=1)
    return replace(table, footnotes=tuple(notes.texts), style="sticky cards", sortable=True)


def _once(same: list[Model]) -> list[Model]:
    """Give one line for what cannot be made, however it would be stored."""
    if len(same) > 1 and not any(one.tried for one in same) and len({o.failures for o in same}) < 2:
        return [replace(same[0], scheme="", name=same[0].model)]
    return same


def _heading(group: Group) -> str:
    """Name a group and what its figures are."""
    if group.mean:
        return f"{group.name[:1].upper()}{group.name[1:]}"
    return f"{group.name}, median of {group.of} seeds" if group.of > 1 else group.name


def _group(group: Group, order: tuple[str, ...], *, first: bool) -> tuple[Block, ...]:
    drawn, table = plots.draw(group, order), build(group)
    title = f"All {len(table.lines)} models"
    shown = (
        *((blocks.Plots(drawn),) if drawn else ()),
        blocks.Folded(title, (table,), open=first or not drawn),
    )
    return Only(PAGE, shown), Only(("markdown", "terminal"), (table,))


def _drawn(section: blocks.Section) -> bool:
    return any(isinstance(one, blocks.Plots) for one in blocks.shown(section.blocks, "page"))


def _cells(matrix: MatrixResult) -> Table:
    lines = []
    for one in matrix.cells:
        report = Cell()
        if one.result:
            report = Cell(one.result.winner or "no winner", link=f"{one.name}/report.html")
        took = words.duration(one.seconds) if one.seconds else words.MISSING
        state = "not yet" if one.state == "waiting" else one.state
        cells = (Cell(state, tone=STATES[one.state]), Cell(took, order=one.seconds), report)
        lines.append(Line(one.name, cells))
    columns = (
        Column("state", "State", kind="state"),
        Column("time", "Time"),
        Column("report", "Report", kind="words"),
    )
    parts = (Part(tuple(lines)),)
    return Table("Cells", "Cell", columns, parts, style="sticky fit", sortable=True)


def _failures(matrix: MatrixResult) -> Iterator[Block]:
    if broken := tuple((name(one.name), one.reason or "") for one in matrix.of("failed")):
        yield blocks.Pairs(broken)


def _again(matrix: MatrixResult) -> Iterator[Block]:
    if matrix.command:
        yield Only(PAGE, (blocks.Code(matrix.command),))
        yield Only(MARKDOWN, (blocks.Paragraph(f"Made by {name(matrix.command)}"),))


def _line(
    line: Model, columns: tuple[Column, ...], group: Group, notes: Notes, *, again: bool
) -> Line:
    figures = [_cell(line, column.key, group, notes) for column in columns[1:]]
    if line.failures:
        first = figures[0]
        marks = tuple(
            notes.number(f"not made: {text}" if line.tried else text) for text in line.failures
        )
        text = first.text
        if first.missing:
            text = "failed" if line.tried else "left out"
        figures[0] = replace(first, text=text, notes=(*first.notes, *marks))
    cells = (Cell(line.scheme), *figures)
    return Line(line.model, cells, again=again, hover=line.name)


def _cell(line: Model, metric: str, group: Group, notes: Notes) -> Cell:
    found = line.readings.get(metric)
    if found is None:
        return Cell()
    shown = found
    if metric == LOST and not words.rises(group.primary or ""):
        shown = _turned(found)
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
